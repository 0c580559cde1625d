"""Channels that are stored more than once, on steps that lie between each other's.

One tensor often makes much of a file's error, and a few of its channels most of that: in MobileNetV2 it is the stem's
output, and of its 32 channels the five that carry the brightness. Two copies of a channel, one half a step higher,
round to steps that interlock; their mean has steps half as large, that of `n` copies an `n`-th. The convolution that
takes them computes the mean with an `n`-th of its weights on each, so the file needs no further operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np

from keras_deeplab.quantize.folding import is_depthwise
from keras_deeplab.quantize.plan import Plan
from keras_deeplab.quantize.ranges import Ends
from keras_deeplab.quantize.sensitivity import ChannelErrors
from keras_deeplab.summary import multiply_adds

# A copy has to take so many per cent of the error off for each per cent of multiply-adds.
_LEAST_GAIN = 1.0
# A tensor gets some only if they take this share of the error off: its width may suit a processor less afterwards.
_LEAST_SHARE = 0.01
_MOST = 4
# A zero that relu made has no error to begin with; a copy that is shifted gives it one.
_MOST_ZEROS = 0.02


@dataclass(frozen=True)
class _Chain:
    """A convolution, the site of its output, and what takes that: a convolution, perhaps behind a depthwise one."""

    producer: keras.layers.Layer
    site: str
    depthwise: keras.layers.Layer | None
    consumer: keras.layers.Layer


def copy_channels(
    model: keras.Model,
    plan: Plan,
    ranges: Mapping[str, Ends],
    errors: Mapping[str, ChannelErrors],
    size: tuple[int, int],
) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """A folded model to the same with copies of the channels whose rounding costs most.

    Looked at are convolutions whose output one other takes, perhaps behind an activation and a depthwise convolution,
    of which the copies are copied then too.

    Args:
        model: a folded keras.Model.
        plan: its `Plan`.
        ranges: (low, high) by name of the range.
        errors: `keras_deeplab.quantize.sensitivity.ChannelErrors` by site.
        size: (height, width) of the images.

    Returns:
        (model, copies): a keras.Model whose layers have the same names, and how often it has each channel, as a dict
        from the names of the convolutions that make them to int arrays (C,). Without any it is the model itself.
    """
    total = sum(found.error.sum() for found in errors.values())
    try:
        whole = multiply_adds(model, size)
    except ValueError:  # a layer whose cost nobody knows
        return model, {}
    chosen = {}
    for chain in filter(None, (_chain(group, plan) for group in plan.channels)):
        found = errors.get(chain.site)
        if found is None or total <= 0:
            continue
        gain = np.where(found.zeros <= _MOST_ZEROS, found.error, 0) / total
        cost = _multiply_adds_of_a_channel(chain, errors) / whole
        # The n-th copy takes 1 / (n - 1)^2 - 1 / n^2 of a channel's error off.
        counts = 1 + sum(gain * (1 / (n - 1) ** 2 - 1 / n**2) >= _LEAST_GAIN * cost for n in range(2, _MOST + 1))
        if (gain * (1 - 1 / counts**2)).sum() >= _LEAST_SHARE:
            chosen[chain] = counts
    if not chosen:
        return model, {}
    return _copied(model, chosen, plan, ranges), {chain.producer.name: counts for chain, counts in chosen.items()}


def _chain(group, plan):
    """The `_Chain` that a group of channels begins, None where it doesn't."""
    producer, site, consumer = _link(group)
    if producer is None or is_depthwise(producer) or producer.groups > 1:
        return None
    if not is_depthwise(consumer):
        return _Chain(producer, site, None, consumer)
    _, _, last = _link(next(other for other in plan.channels if (consumer, 0) in other.producers))
    return None if last is None or is_depthwise(last) else _Chain(producer, site, consumer, last)


def _link(group):
    """(producer, site, consumer) of channels that one convolution makes, one site stores and one convolution takes as
    its whole input; (None, None, None) of others."""
    if group.fixed or not len(group.producers) == len(group.consumers) == len(group.sites) == 1:
        return None, None, None
    (producer, _), (consumer, first), (site, _) = group.producers[0], group.consumers[0], group.sites[0]
    return (producer, site, consumer) if not first and consumer.kernel.shape[2] == group.size else (None, None, None)


def _multiply_adds_of_a_channel(chain, errors):
    """What one more channel costs in an image."""
    positions = errors[chain.site].positions
    total = positions * chain.producer.kernel[..., 0].numpy().size
    if chain.depthwise is not None:
        positions /= np.prod(chain.depthwise.strides)
        total += positions * np.prod(chain.depthwise.kernel_size)
    last = chain.consumer
    return total + positions / np.prod(last.strides) * np.prod(last.kernel_size) * last.filters


def _copied(model, chosen, plan, ranges):
    widths, values = {}, {}
    for chain, counts in chosen.items():
        low, high = ranges[plan.ranges[chain.site]]
        index = np.repeat(np.arange(len(counts)), counts)
        often = counts[index]
        number = np.arange(len(index)) - (np.cumsum(counts) - counts)[index]
        # Around 0, so that their mean, and a frame of zeros around the map, are what they were.
        shifts = (high - low) / 255 * (number / often - (often - 1) / (2 * often))
        kernel, bias = values.get(chain.producer.name, chain.producer.get_weights())
        values[chain.producer.name] = kernel[..., index], bias[index] + shifts
        widths[chain.producer.name] = len(index)
        if chain.depthwise is not None:
            kernel, bias = chain.depthwise.get_weights()
            kernel = kernel[:, :, index]
            values[chain.depthwise.name] = kernel, bias[index] - shifts * kernel.sum((0, 1, 3))
        kernel, bias = values.get(chain.consumer.name, chain.consumer.get_weights())
        values[chain.consumer.name] = kernel[:, :, index] / often[:, None], bias

    def clone(layer):
        config = layer.get_config()
        if layer.name in widths:
            config["filters"] = widths[layer.name]
        return type(layer).from_config(config)

    copied = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        if layer.weights:
            copied.get_layer(layer.name).set_weights(values.get(layer.name, layer.get_weights()))
    return copied
