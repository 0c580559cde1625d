"""Augmentation: pure functions on an image (H, W, channels) with its label (H, W), random by an explicit seed.

A seed is a pair of integers, or an int32 or int64 tensor of two; the same seed gives the same result, on any machine
and however tf.data runs things in parallel. Every label that leaves was in the label that came, or is 255 (padding).
"""

import tensorflow as tf

from keras_deeplab.specs import IGNORED

PADDING = 127.5  # the middle of 0..255: 0 after the usual scaling to [-1, 1]


def random_scale(seed, scale_range=(0.5, 2.0), scale_step=0.25):
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


def random_flip(image, label, seed):
    """Mirror image and label left to right, or neither; each as likely."""
    return tf.cond(
        tf.random.stateless_uniform([], seed) < 0.5,
        lambda: (tf.reverse(image, [1]), tf.reverse(label, [1])),
        lambda: (image, label),
    )


def random_scaled_crop(image, label, crop_size, scale, seed):
    """Map an image and its label to a random crop of them as they look when scaled.

    It cuts the window that fills the crop and scales only that. Where the scaled image is smaller than the crop, all
    of it is taken and padded at the bottom and right, the image with 127.5 and the label with 255.

    Args:
        image: uint8 or float (H, W, channels).
        label: integer (H, W).
        crop_size: (height, width), ints.
        scale: scalar; 2 shows things twice as large.
        seed: pair of integers.

    Returns:
        Image float32 (height, width, channels), bilinear; label (height, width), nearest; both sampled at the same
        points.
    """
    image, label = tf.convert_to_tensor(image), tf.convert_to_tensor(label)
    drawn = tf.random.stateless_uniform([2], seed)
    offsets, windows, sizes = [], [], []
    for axis in (0, 1):
        length = tf.shape(label)[axis]
        window = tf.cast(tf.round(crop_size[axis] / scale), tf.int32)
        scaled = tf.cast(tf.round(tf.cast(length, tf.float32) * scale), tf.int32)
        fits = window <= length
        windows.append(tf.where(fits, tf.maximum(window, 1), length))
        sizes.append(tf.where(fits, crop_size[axis], tf.clip_by_value(scaled, 1, crop_size[axis])))
        room = length - windows[axis]
        offset = tf.cast(tf.floor(drawn[axis] * tf.cast(room + 1, tf.float32)), tf.int32)
        offsets.append(tf.minimum(offset, room))
    (top, left), (height, width) = offsets, windows
    image, label = resize(
        image[top : top + height, left : left + width], label[top : top + height, left : left + width], sizes
    )
    return pad(image, label, crop_size)


def resize(image, label, size, antialias=False):
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


def size_within(shape, size):
    """The (height, width) that an image of this shape has when it is scaled down to fit `size`; its own if it fits.

    >>> size_within((375, 500, 3), (257, 257))
    (193, 257)
    """
    scale = min(1, *(side / own for side, own in zip(size, shape, strict=False)))
    return tuple(max(1, min(side, round(own * scale))) for side, own in zip(size, shape, strict=False))


def pad(image, label, size):
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


def random_colour(image, seed, brightness=0.0, contrast=0.0, saturation=0.0):
    """Change an RGB image's light and colours at random; labels stay true.

    Args:
        image: float (H, W, 3), 0..255.
        seed: pair of integers.
        brightness: every pixel is multiplied by a number from 1 - brightness to 1 + brightness,
        contrast: then its distance from the mean grey likewise,
        saturation: then its distance from its own grey likewise.

    Returns:
        float32 (H, W, 3), clipped to 0..255.
    """
    for name, amount in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        if not 0 <= amount <= 1:
            raise ValueError(f"{name}={amount}; it is a part of the whole, 0 (no change) to 1")
    if image.shape[-1] not in (3, None):
        raise ValueError(f"random_colour changes red, green and blue, and the image has {image.shape[-1]} channels")
    image = tf.cast(image, tf.float32)
    amounts = tf.constant([brightness, contrast, saturation], tf.float32)
    factors = 1 + amounts * tf.random.stateless_uniform([3], seed, -1.0, 1.0)
    image *= factors[0]
    mean = tf.reduce_mean(image)
    image = mean + (image - mean) * factors[1]
    grey = tf.tensordot(image, tf.constant([0.299, 0.587, 0.114]), 1)[..., None]
    return tf.clip_by_value(grey + (image - grey) * factors[2], 0.0, 255.0)
