"""The steps of post-training quantisation, in order."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_deeplab.layers import FakeQuantization
from keras_deeplab.quantize import argmax, ranges
from keras_deeplab.quantize.copies import copy_channels
from keras_deeplab.quantize.equalise import equalise as equalise_channels
from keras_deeplab.quantize.fake import quantised
from keras_deeplab.quantize.folding import UnfoldableError, fold
from keras_deeplab.quantize.pixels import absorb_normalisation, normaliser
from keras_deeplab.quantize.plan import plan
from keras_deeplab.quantize.rounding import round_kernels
from keras_deeplab.quantize.sensitivity import channel_errors, shares
from keras_deeplab.quantize.statistics import observe

_SENSITIVITY_IMAGES = 8
# A pixel is one step of 256.
_PIXELS = (0.0, 255.0)


def is_quantised(model: keras.Model) -> bool:
    """Whether a model has the ranges of an int8 file in it, as `quantize` returns it."""
    return any(isinstance(layer, FakeQuantization) for layer in model.layers)


def quantize(
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    for_argmax: bool = True,
    equalise: bool = True,
    copies: bool = True,
    range_search: str = "mse",
    rounding: str = "optimal",
    float_tensors: int = 0,
    on_sensitivity: Callable[[dict[str, float]], Any] | None = None,
    with_exact: bool = False,
) -> Any:
    """A model to one that computes in floating point what its int8 file will, with the accuracy kept.

    1. Batch norm goes into the convolutions (`folding`), the normalisation of pixels into the first (`pixels`).
    2. What all classes' logits have in common is taken off (`argmax`).
    3. Channels are brought to like ranges where the next convolution can take it back (`equalise`).
    4. The range of each stored tensor is searched (`ranges`), that of the logits by the labels.
    5. Perhaps the most sensitive tensors stay in floating point, and with them the operators at both ends
       (`sensitivity`).
    6. The most sensitive channels are stored several times, on steps that interlock (`copies`).
    7. Kernels are rounded so that errors make up for each other, and biases mended (`rounding`).

    Args:
        model: functional keras.Model from images (B, H, W, 3) in 0..255 to logits, in float32, of one size.
        images: arrays (1, H, W, 3) of that size, of the training split; 30 to 100.
        for_argmax: whether only the largest logit of each position counts. Without it the logits' values are kept.
        equalise, copies, range_search, rounding: False, False, `"minmax"` and `"nearest"` leave a step out.
        float_tensors: how many tensors stay in floating point: those whose rounding the logits suffer from most.
        on_sensitivity: called with the share of the logits' error that each tensor causes, as a dict from the name of
            the layer that puts it out.
        with_exact: whether to return the model before anything was rounded too.

    Returns:
        A keras.Model with a `FakeQuantization` layer behind each tensor that the file stores, whose kernels are
        exactly what int8 holds. TFLite's converter takes ranges and kernels over as they are. With `with_exact` a
        tuple of it and the model without rounding, whose layers have the same names.

    Raises:
        UnfoldableError: a ValueError, if a layer is a model of a class of its own, or an operation is no layer.
        ValueError: an argument is unknown.
    """
    folded = fold(model)
    loose = [operation.name for operation in folded.operations if not isinstance(operation, keras.layers.Layer)]
    if loose:
        raise UnfoldableError(
            f"{', '.join(loose)} of {model.name!r} are operations on tensors, not layers, and have no place for a range"
        )
    normalisation = absorb_normalisation(folded)
    last = argmax.classifier(folded) if for_argmax else None
    if last is not None:
        argmax.shift_logits(folded, images)
    layout = plan(folded)
    statistics = observe(folded, layout.sites, images)
    if equalise and equalise_channels(folded, layout, statistics):
        statistics = observe(folded, layout.sites, images)
    found = _ranges(folded, layout, statistics, range_search, images if last is not None else None)
    if normalisation is not None:
        name, ends = normalisation
        found[layout.ranges[name]] = ends
    kept: list[str] = []
    if copies or float_tensors or on_sensitivity:
        errors = channel_errors(folded, layout, found, images[:_SENSITIVITY_IMAGES])
        kept = list(shares(errors))[:float_tensors]
        if on_sensitivity:
            on_sensitivity(shares(errors))
        if copies:
            rounded = {site: error for site, error in errors.items() if site not in kept}
            folded, _ = copy_channels(folded, layout, found, rounded, images[0].shape[1:3])
            layout = plan(folded)
    exact = quantised(folded, layout, found, layout.sites) if with_exact else None
    round_kernels(folded, images, rounding)
    result = quantised(folded, layout, found, kept)
    return (result, exact) if with_exact else result


def fit_ranges(model: keras.Model, exact: keras.Model, images: Sequence[np.ndarray], for_argmax: bool = True) -> None:
    """Searches the ranges of a quantised model anew, in place, on images of another size; its kernels stay.

    Args:
        model, exact: what `quantize` returns `with_exact`, able to take this size.
        images: arrays (1, H, W, 3) of the size, of the training split.
        for_argmax: as in `quantize`.
    """
    layout = plan(exact)
    statistics = observe(exact, layout.sites, images)
    found = _ranges(exact, layout, statistics, "mse", images if for_argmax and argmax.classifier(exact) else None)
    pixels = normaliser(exact)
    if pixels is not None:
        # They are bytes at any size, also in the frame that may follow.
        del found[layout.ranges[pixels.name]]
    for layer in model.layers:
        name = layout.ranges.get(layer.name.removesuffix("_range"))
        if isinstance(layer, FakeQuantization) and name in found:
            layer.set_range(*found[name])


def _ranges(model, layout, statistics, method, images=None):
    """(low, high) by name of the range; with images that of the logits is searched by the labels."""
    members = {}
    for site, name in layout.ranges.items():
        members.setdefault(name, []).append(statistics[site])
    found = {name: ranges.search(group, method) for name, group in members.items()}
    found[layout.ranges[layout.sites[0]]] = _PIXELS
    if images is not None:
        found[layout.ranges[argmax.classifier(model).name]] = argmax.search_range(model, images)
    return found
