"""Pixels: their normalisation inside the first convolution, so that the bytes go into it, and which are padding."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab.quantize.folding import consumers, is_depthwise

# The grey that images are padded with; predictors that feed floating point pad with 127.5.
PADDING = 128.0


def inside(images: Any, size: Sequence[Any]) -> Any:
    """Where images (B, H, W, 3) aren't padding, at the nearest pixel of each place of a map: bool (B, *size).

    A frame of one grey is no class's, so its labels change by next to nothing and, counted, outweigh the image's.
    """
    real = tf.reduce_any(tf.abs(tf.cast(images, tf.float32) - PADDING) > 0.5, -1)
    for axis, count in enumerate(size, 1):
        real = tf.gather(real, tf.range(count) * tf.shape(real)[axis] // count, axis=axis)
    return real


def normaliser(model: keras.Model) -> keras.layers.Layer | None:
    """The layer of a folded model that scales and shifts its pixels, None where nothing else takes them first."""
    first = _only_taker(consumers(model), model.inputs[0])
    if is_depthwise(first) and first.kernel_size == (1, 1) and first.depth_multiplier == 1:
        return first
    return None


def _only_taker(takers, tensor):
    following = takers.get(id(tensor), [])
    return following[0] if len(following) == 1 else None


def absorb_normalisation(model: keras.Model) -> tuple[str, tuple[float, float]] | None:
    """Moves a folded model's normalisation into its first convolution, in place.

    Normalised pixels don't lie on the steps of any int8 range that holds 0, and the first rounding is the one that
    costs most. What is left of the layer takes an integer off each pixel, the one that is nearest to normalised 0 (to
    the mean of the channels' where they differ, as for ImageNet's: then the frame of zeros around the image becomes a
    frame of a slightly different grey).

    Returns:
        (name of the layer, (low, high) of its output), or None where the model doesn't begin with a normalisation and
        one convolution.
    """
    first = normaliser(model)
    if first is None:
        return None
    takers = consumers(model)
    after = _only_taker(takers, first.output)
    while isinstance(after, keras.layers.ZeroPadding2D):
        after = _only_taker(takers, after.output)
    if not isinstance(after, keras.layers.Conv2D) or after.groups != 1:
        return None
    kernel, offset = first.get_weights()
    scale = kernel.reshape(-1).astype(np.float64)
    if not scale.all():
        return None
    zero = float(np.clip(np.round(np.mean(-offset / scale)), 0, 255))
    weights, bias = after.get_weights()
    per_channel = weights.astype(np.float64).sum((0, 1))
    after.set_weights([weights * scale[:, None], bias + (offset + scale * zero) @ per_channel])
    first.set_weights([np.ones_like(kernel), np.full_like(offset, -zero)])
    return first.name, (-zero, 255.0 - zero)
