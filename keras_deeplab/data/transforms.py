"""Augmentation: pure functions on an image (H, W, channels) with its label (H, W), random by an explicit seed.

A seed is a pair of integers, or an int32 or int64 tensor of two; the same seed gives the same result, on any machine
and however tf.data runs things in parallel. Every label that leaves was in the label that came, or is 255 (padding).
"""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_deeplab.specs import IGNORED

# What tf.random takes: a pair of integers, or a tensor of two; and a tensor, or what TensorFlow makes one of.
Seed = Any
Tensor = Any

PADDING = 127.5  # the middle of 0..255: 0 after the usual scaling to [-1, 1]


def random_scale(seed: Seed, scale_range: tuple[float, float] = (0.5, 2.0), scale_step: float = 0.25) -> Tensor:
    """Map a seed to a scalar float32 scale from `scale_range`, in steps of `scale_step` (0: any number in it).

    >>> float(random_scale((0, 7), (1.5, 1.5)))
    1.5
    """
    low, high = scale_range
    if not 0 < low <= high or scale_step < 0:
        raise ValueError(f"scale_range={scale_range} and scale_step={scale_step} must be 0 < low <= high, step >= 0")
    drawn = tf.random.stateless_uniform([], seed)
    if not scale_step:
        return low + drawn * (high - low)
    # The small addend keeps (2.0 - 0.5) / 0.1 from losing its last step to rounding.
    steps = int((high - low) / scale_step + 1e-6) + 1
    return low + scale_step * tf.minimum(tf.floor(drawn * steps), steps - 1)


def random_flip(image: Tensor, label: Tensor, seed: Seed) -> tuple[Tensor, Tensor]:
    """Mirror image and label left to right, or neither; each as likely."""
    return tf.cond(
        tf.random.stateless_uniform([], seed) < 0.5,
        lambda: (tf.reverse(image, [1]), tf.reverse(label, [1])),
        lambda: (image, label),
    )


def random_vertical_flip(image: Tensor, label: Tensor, seed: Seed) -> tuple[Tensor, Tensor]:
    """Mirror image and label top to bottom, or neither; each as likely: for pictures from above."""
    return tf.cond(
        tf.random.stateless_uniform([], seed) < 0.5,
        lambda: (tf.reverse(image, [0]), tf.reverse(label, [0])),
        lambda: (image, label),
    )


def random_rotation(image: Tensor, label: Tensor, degrees: float, seed: Seed) -> tuple[Tensor, Tensor]:
    """Turn image and label about their middle by an angle from -degrees to degrees, any as likely.

    What comes from outside is padding: 127.5 in the image and 255 in the label, as in mmsegmentation's RandomRotate.

    Returns:
        Image float32 (H, W, channels), bilinear; label (H, W), nearest; both sampled at the same points.
    """
    angle = tf.random.stateless_uniform([], seed, -degrees, degrees) * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    shape = tf.shape(label)
    y, x = (tf.cast(shape[axis] - 1, tf.float32) / 2 for axis in (0, 1))
    # From a place of the result to one of the image, the middle staying where it is.
    turn = tf.stack([cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0.0, 0.0])[None]
    options = {"transforms": turn, "output_shape": shape, "fill_mode": "CONSTANT"}
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None], fill_value=PADDING, interpolation="BILINEAR", **options
    )
    turned_label = tf.raw_ops.ImageProjectiveTransformV3(
        images=label[None, ..., None], fill_value=float(IGNORED), interpolation="NEAREST", **options
    )
    return tf.ensure_shape(turned[0], image.shape), turned_label[0, ..., 0]


def random_scaled_crop(
    image: Tensor,
    label: Tensor,
    crop_size: tuple[int, int],
    scale: Any,
    seed: Seed,
    max_class_share: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Map an image and its label to a random crop of them as they look when scaled.

    It cuts the window that fills the crop and scales only that. Where the scaled image is smaller than the crop, all
    of it is taken and padded at the bottom and right, the image with 127.5 and the label with 255.

    Args:
        image: uint8 or float (H, W, channels).
        label: integer (H, W).
        crop_size: (height, width), ints.
        scale: scalar; 2 shows things twice as large.
        seed: pair of integers.
        max_class_share: below 1, up to ten places are tried for one with two classes or more of which none has that
            share of the labelled pixels or more; the tenth is taken as it is: mmsegmentation's `cat_max_ratio` (0.75),
            so that rare classes are seen more often.

    Returns:
        Image float32 (height, width, channels), bilinear; label (height, width), nearest; both sampled at the same
        points.
    """
    image, label = tf.convert_to_tensor(image), tf.convert_to_tensor(label)
    windows, sizes = [], []
    for axis in (0, 1):
        length = tf.shape(label)[axis]
        window = tf.cast(tf.round(crop_size[axis] / scale), tf.int32)
        scaled = tf.cast(tf.round(tf.cast(length, tf.float32) * scale), tf.int32)
        fits = window <= length
        windows.append(tf.where(fits, tf.maximum(window, 1), length))
        sizes.append(tf.where(fits, crop_size[axis], tf.clip_by_value(scaled, 1, crop_size[axis])))
    if max_class_share < 1:
        top, left = _mixed_place(label, windows, seed, max_class_share)
    else:
        top, left = _place(label, windows, tf.random.stateless_uniform([2], seed))
    height, width = windows
    image, label = resize(
        image[top : top + height, left : left + width], label[top : top + height, left : left + width], sizes
    )
    return pad(image, label, crop_size)


def _place(label, windows, drawn):
    """The (top, left) of a window in a label, from two numbers in [0, 1)."""
    corner = []
    for axis in (0, 1):
        room = tf.shape(label)[axis] - windows[axis]
        offset = tf.cast(tf.floor(drawn[axis] * tf.cast(room + 1, tf.float32)), tf.int32)
        corner.append(tf.minimum(offset, room))
    return corner


def _mixed_place(label, windows, seed, max_class_share, attempts=10):
    """The (top, left) of the first window drawn in which no class has as much as a share of the labelled pixels."""
    drawn = tf.random.stateless_uniform([attempts, 2], seed)
    height, width = windows

    def mixed(attempt):
        top, left = _place(label, windows, drawn[attempt])
        window = tf.cast(label[top : top + height, left : left + width], tf.int32)
        counts = tf.math.bincount(tf.reshape(window, [-1]), minlength=IGNORED + 1)[:IGNORED]
        share = tf.reduce_max(counts) / tf.maximum(tf.reduce_sum(counts), 1)
        return (tf.math.count_nonzero(counts) > 1) & (tf.cast(share, tf.float32) < max_class_share)

    attempt = tf.while_loop(
        lambda attempt: (attempt < attempts - 1) & ~mixed(attempt), lambda attempt: [attempt + 1], [tf.constant(0)]
    )[0]
    return _place(label, windows, drawn[attempt])


def resize(image: Tensor, label: Tensor, size: Sequence[Any], antialias: bool = False) -> tuple[Tensor, Tensor]:
    """Resize an image (bilinear, float32) and its label (nearest) to (height, width), sampling at the same points.

    Pixels count as squares with the sample at their middle ("half-pixel centres"), so a label's edge stays in the
    middle of the image's. With `antialias` a smaller image's pixels are means, not samples.
    """
    image = tf.image.resize(image, tf.stack(size), antialias=antialias)
    # In integers, where rounding can't put a label a pixel beside its image as it may in float32.
    for axis in (0, 1):
        indices = (2 * tf.range(size[axis]) + 1) * tf.shape(label)[axis] // (2 * size[axis])
        label = tf.gather(label, indices, axis=axis)
    return image, label


def size_within(shape: Sequence[int], size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) that an image of this shape has when it is scaled down to fit `size`; its own if it fits.

    >>> size_within((375, 500, 3), (257, 257))
    (193, 257)
    """
    scale = min(1, *(side / own for side, own in zip(size, shape, strict=False)))
    height, width = (max(1, min(side, round(own * scale))) for side, own in zip(size, shape, strict=False))
    return height, width


def pad(image: Tensor, label: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pad an image with 127.5 and its label with 255, at the bottom and right, to at least (height, width).

    Returns:
        Image float32, label as it was; a side that is longer already stays.
    """
    image = tf.cast(image, tf.float32)
    bottom = tf.maximum(size[0] - tf.shape(label)[0], 0)
    right = tf.maximum(size[1] - tf.shape(label)[1], 0)
    image = tf.pad(image, [(0, bottom), (0, right), (0, 0)], constant_values=PADDING)
    label = tf.pad(label, [(0, bottom), (0, right)], constant_values=tf.cast(IGNORED, label.dtype))
    return image, label


def random_cutout(image: Tensor, share: float, seed: Seed) -> Tensor:
    """Put a grey rectangle, 127.5, on an image at a random place: DeVries and Taylor 2017, "Cutout".

    Its sides are the given share of the image's, and its middle may be anywhere in the image, so that a part of it may
    be outside. The label stays as it is: the network has to tell it from what is around.

    Args:
        image: float (H, W, channels).
        share: from 0 to 1.
        seed: pair of integers.
    """
    drawn = tf.random.stateless_uniform([2], seed)
    inside = []
    for axis in (0, 1):
        length = tf.cast(tf.shape(image)[axis], tf.float32)
        place = tf.range(length) + 0.5
        inside.append(tf.abs(place - drawn[axis] * length) < share * length / 2)
    return tf.where((inside[0][:, None] & inside[1])[..., None], PADDING, image)


def class_mix(images: Tensor, labels: Tensor, probability: float, seed: Seed) -> tuple[Tensor, Tensor]:
    """Put half of the classes of each image's neighbour in the batch onto it: Olsson et al. 2021, "ClassMix".

    The classes are drawn among those of the neighbour's label, the greater half where their number is odd; what it
    ignores stays away. The last image's neighbour is the first.

    Args:
        images: float (B, H, W, channels).
        labels: uint8 (B, H, W).
        probability: of each image to be mixed.
        seed: pair of integers.

    Returns:
        images and labels of the same shapes.
    """
    count = tf.shape(labels)[0]
    drawn = tf.random.stateless_uniform([count, IGNORED + 2], seed)
    theirs, their_images = (tf.roll(each, -1, 0) for each in (labels, images))
    flat = tf.cast(tf.reshape(theirs, [count, -1]), tf.int32)
    numbers = tf.math.bincount(flat, minlength=IGNORED + 1, maxlength=IGNORED + 1, axis=-1)
    present = (numbers > 0) & (tf.range(IGNORED + 1) != IGNORED)
    order = tf.argsort(tf.argsort(tf.where(present, drawn[:, :-1], 2.0)))
    half = (tf.reduce_sum(tf.cast(present, tf.int32), -1) + 1) // 2
    chosen = (order < half[:, None]) & (drawn[:, -1:] < probability)
    mask = tf.reshape(tf.gather(chosen, flat, batch_dims=1), tf.shape(labels))
    return tf.where(mask[..., None], their_images, images), tf.where(mask, theirs, labels)


def random_colour(
    image: Tensor,
    seed: Seed,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Tensor:
    """Change an RGB image's light and colours at random; labels stay true.

    Args:
        image: float (H, W, 3), 0..255.
        seed: pair of integers.
        brightness: every pixel is multiplied by a number from 1 - brightness to 1 + brightness,
        contrast: then its distance from the mean grey likewise,
        saturation: then its distance from its own grey likewise,
        hue: then its place on the circle of colours moves by up to this share of a turn, either way. These four are
            those of mmsegmentation's PhotoMetricDistortion, which has 0.125 (32 of 255), 0.5, 0.5 and 0.1 (18 of 180).

    Returns:
        float32 (H, W, 3), clipped to 0..255.
    """
    for name, amount in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        if not 0 <= amount <= 1:
            raise ValueError(f"{name}={amount}; it is a part of the whole, 0 (no change) to 1")
    if not 0 <= hue <= 0.5:
        raise ValueError(f"hue={hue}; it is a part of a turn to either side, 0 (no change) to 0.5 (any colour)")
    if image.shape[-1] not in (3, None):
        raise ValueError(f"random_colour changes red, green and blue, and the image has {image.shape[-1]} channels")
    image = tf.cast(image, tf.float32)
    amounts = tf.constant([brightness, contrast, saturation], tf.float32)
    factors = 1 + amounts * tf.random.stateless_uniform([3], seed, -1.0, 1.0)
    image *= factors[0]
    mean = tf.reduce_mean(image)
    image = mean + (image - mean) * factors[1]
    grey = tf.tensordot(image, tf.constant([0.299, 0.587, 0.114]), 1)[..., None]
    image = tf.clip_by_value(grey + (image - grey) * factors[2], 0.0, 255.0)
    if not hue:
        return image
    turn = tf.random.stateless_uniform([], tf.random.fold_in(seed, 1), -hue, hue)
    return tf.clip_by_value(tf.image.adjust_hue(image / 255.0, turn) * 255.0, 0.0, 255.0)
