"""Cross-layer equalisation: channels of a tensor brought to one range, where the next convolution can take it back.

A tensor has one scale for all channels, so one channel that reaches 67 leaves the others, within 1, four steps of 256.
A channel divided by `s` in the convolutions that make it and multiplied by `s` in those that take it gives the same
network (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721,
section 4.1). There the weights' ranges are evened out; here they have a scale a channel anyway, and the activations'
ranges decide.
"""

from collections.abc import Mapping

import keras
import numpy as np

from keras_deeplab.quantize.folding import is_depthwise
from keras_deeplab.quantize.plan import Plan
from keras_deeplab.quantize.statistics import Statistics

_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# How much further than on the calibration images a channel may reach before a relu6 cuts it.
_MARGIN = 1.2
_SMALLEST = 1e-3  # of the largest channel's range; a channel that is never used must not get an endless scale


def equalise(model: keras.Model, plan: Plan, statistics: Mapping[str, Statistics]) -> dict[str, np.ndarray]:
    """Scales the channels of a folded model in place so that rounding to int8 costs less.

    For each group of channels the scales are `(range / largest range) ** strength`; the strength is the one with the
    least expected error behind the convolutions that take the channels, rounding of activations and of weights
    together.

    Args:
        model: a folded keras.Model, changed in place; it computes what it did.
        plan: its `keras_deeplab.quantize.plan.Plan`.
        statistics: `Statistics` by site.

    Returns:
        A dict from the first site of each group that was scaled to its scales (C,).
    """
    scaled = {}
    for group in plan.channels:
        if group.fixed or not group.producers or not group.consumers or not group.sites:
            continue
        low, high, mean_square = _joint(group, statistics)
        reach = np.maximum(high, -low)
        if not reach.max() > 0:
            continue
        relative = np.maximum(reach / reach.max(), _SMALLEST)
        errors = []
        for strength in _STRENGTHS:
            scales = _allowed(relative**strength, group, reach)
            errors.append(_error(group, scales, low, high, mean_square))
        scales = _allowed(relative ** _STRENGTHS[int(np.argmin(errors))], group, reach)
        if np.ptp(scales):
            _apply(group, scales)
            scaled[group.sites[0][0]] = scales
    return scaled


def _joint(group, statistics):
    """Extremes and mean square of each channel over the tensors that it runs through."""
    rows = [
        [values[first : first + group.size] for values in (found.low, found.high, found.mean_square)]
        for found, first in ((statistics[site], first) for site, first in group.sites)
    ]
    low, high, mean_square = zip(*rows, strict=True)
    return np.min(low, 0), np.max(high, 0), np.max(mean_square, 0)


def _allowed(scales, group, reach):
    """Scales that leave what a relu6 cuts where it is."""
    if not group.clipped:
        return scales
    return np.where(reach * _MARGIN >= 6, 1.0, np.maximum(scales, reach * _MARGIN / 6))


def _kernel(layer, first, size):
    """Squared and absolute weights of a convolution for its input channels, as (size, taps * outputs) ."""
    kernel = np.asarray(layer.kernel, np.float64)
    if is_depthwise(layer):
        return kernel[:, :, first : first + size, 0].transpose(2, 0, 1).reshape(size, -1)
    return kernel[:, :, first : first + size].transpose(2, 0, 1, 3)


def _error(group, scales, low, high, mean_square):
    """Expected squared error behind the consumers, relative to what they put out, of rounding after scaling."""
    step = (max((high / scales).max(), 0) - min((low / scales).min(), 0)) / 255
    total = 0.0
    for layer, first in group.consumers:
        weights = _kernel(layer, first, group.size)
        shape = (-1,) + (1,) * (weights.ndim - 1)
        signal = (weights**2 * mean_square.reshape(shape)).sum()
        rounded = (weights**2 * scales.reshape(shape) ** 2).sum() * step**2 / 12
        scaled = weights * scales.reshape(shape)
        if is_depthwise(layer):
            weight_noise = 0.0  # each channel has its own scale
        else:
            steps = np.abs(scaled).max((0, 1, 2)) / 127
            taps = weights.shape[1] * weights.shape[2]
            weight_noise = (steps**2).sum() / 12 * taps * (mean_square / scales**2).sum()
        total += (rounded + weight_noise) / max(signal, 1e-30)
    return total


def _apply(group, scales):
    for layer, first in group.producers:
        kernel, bias = layer.get_weights()
        channels = slice(first, first + group.size)
        if is_depthwise(layer):
            kernel[:, :, channels] /= scales.reshape(-1, 1)
        else:
            kernel[..., channels] /= scales
        bias[channels] /= scales
        layer.set_weights([kernel, bias])
    for layer, first in group.consumers:
        kernel, bias = layer.get_weights()
        kernel[:, :, first : first + group.size] *= scales.reshape(-1, 1)
        layer.set_weights([kernel, bias])
