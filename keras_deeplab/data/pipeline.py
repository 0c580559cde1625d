"""Input pipelines: a `Source` to the batches that training takes, or to the single samples of evaluation."""

from typing import cast

import tensorflow as tf

from keras_deeplab.data import transforms
from keras_deeplab.data.source import Source


def training(
    source: Source,
    *,
    batch_size: int,
    crop_size: int | tuple[int, int],
    scale_range: tuple[float, float] = (0.5, 2.0),
    scale_step: float = 0.25,
    flip: bool = True,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    vertical_flip: bool = False,
    rotation: float = 0.0,
    cutout: float = 0.0,
    class_mix: float = 0.0,
    max_class_share: float = 1.0,
    seed: int = 0,
    start_step: int = 0,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Map a `Source` to an endless `tf.data.Dataset` of augmented batches.

    Each epoch shows every sample once, in an order of its own; epochs run on without a gap, so no batch is short. The
    same arguments give the same batches, and `start_step=k` gives those that come after k steps, undelayed by them.

    Args:
        source: `Source`.
        batch_size: int.
        crop_size: int, or (height, width).
        scale_range: smallest and largest random scale.
        scale_step: scales between them come in steps of this; 0 for any.
        flip: whether to mirror half of the samples left to right.
        brightness, contrast, saturation, hue: how far to vary the colours, see `transforms.random_colour`; 0 for not.
        vertical_flip: whether to mirror half of the samples top to bottom.
        rotation: greatest angle by which they are turned, in degrees.
        cutout: side of a grey rectangle that is put on each, as a share of the crop's; 0 for none.
        class_mix: probability of each to get half of the classes of its neighbour in the batch.
        max_class_share: below 1, crops are sought in which no class has so much, see `transforms.random_scaled_crop`.
        seed: int.
        start_step: int, how many batches to skip.
        part: which of how many equal parts of every batch, (number from 0, how many), as hosts share them; classes are
            mixed within it.

    Returns:
        `tf.data.Dataset` of (images float32 (B, h, w, channels) in 0..255, labels uint8 (B, h, w)), B being
        `batch_size` divided by the number of parts.
    """
    crop_size = (crop_size, crop_size) if isinstance(crop_size, int) else cast("tuple[int, int]", tuple(crop_size))
    if len(crop_size) != 2 or min(crop_size) < 1 or batch_size < 1 or start_step < 0:
        raise ValueError(
            f"crop_size={crop_size}, batch_size={batch_size}, start_step={start_step}; crop_size is an int or "
            "(height, width) of at least 1, batch_size at least 1 and start_step at least 0"
        )
    # Refused here, not when the first batch is drawn.
    transforms.random_scale((0, 0), scale_range, scale_step)
    colours = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    recolour = any(colours.values())
    if recolour and source.channels != 3:
        raise ValueError(
            f"{', '.join(f'{name}={value}' for name, value in colours.items())} change red, green and blue, and "
            f"the images of {source.name} have {source.channels} channels: leave them at 0"
        )
    number, parts = part
    if not 0 <= number < parts or batch_size % parts:
        raise ValueError(f"part={part} of batch_size={batch_size}: it is (number from 0, how many equal parts)")
    own_size = batch_size // parts
    if class_mix and own_size < 2:
        raise ValueError(
            f"class_mix={class_mix} mixes each image with another of its batch: batch_size={batch_size}"
            + (f" in {parts} parts" if parts > 1 else "")
            + " has none"
        )
    start = start_step * batch_size

    def wanted(position):
        return position % batch_size // own_size == number

    def augment(position, sample):
        # One seed for each sample ever shown, whichever thread works on it.
        own = tf.stack([tf.constant(seed, tf.int64), position])
        seeds, more = tf.random.split(own, 4), tf.random.split(tf.random.fold_in(own, 1), 3)
        image, label = sample["image"], sample["label"]
        if flip:
            image, label = transforms.random_flip(image, label, seeds[0])
        if vertical_flip:
            image, label = transforms.random_vertical_flip(image, label, more[0])
        if rotation:
            image, label = transforms.random_rotation(image, label, rotation, more[1])
        scale = transforms.random_scale(seeds[1], scale_range, scale_step)
        image, label = transforms.random_scaled_crop(image, label, crop_size, scale, seeds[2], max_class_share)
        if recolour:
            image = transforms.random_colour(image, seeds[3], **colours)
        if cutout:
            image = transforms.random_cutout(image, cutout, more[2])
        return tf.ensure_shape(image, [*crop_size, source.channels]), tf.ensure_shape(label, crop_size)

    batches = (
        source.numbered(seed, start, wanted if parts > 1 else None)
        .map(augment, tf.data.AUTOTUNE, deterministic=True)
        .batch(own_size, drop_remainder=True)
    )
    if class_mix:

        def mix(step, batch):
            own = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), step]), 2)
            return transforms.class_mix(*batch, class_mix, own)

        batches = batches.enumerate(start_step).map(mix, tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(2)


def evaluation(source: Source, limit: int | None = None) -> tf.data.Dataset:
    """Map a `Source` to a `tf.data.Dataset` of its samples in their own order, one by one, as they are.

    Args:
        source: `Source`.
        limit: int, stop after that many; None for all.

    Returns:
        `tf.data.Dataset` of {"image": uint8 (H, W, channels), "label": uint8 (H, W), "name": string}.
    """
    dataset = source.dataset()
    if limit is not None:
        if limit < 1:
            raise ValueError(f"limit={limit}; it is a number of samples of at least 1, or None for all")
        dataset = dataset.take(limit)
    return dataset.prefetch(tf.data.AUTOTUNE)
