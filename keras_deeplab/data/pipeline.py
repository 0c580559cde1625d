"""Input pipelines: a `Source` to the batches that training takes, or to the single samples of evaluation."""

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
    seed: int = 0,
    start_step: int = 0,
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
        brightness, contrast, saturation: how far to vary the colours, see `transforms.random_colour`; 0 for not.
        seed: int.
        start_step: int, how many batches to skip.

    Returns:
        `tf.data.Dataset` of (images float32 (B, h, w, channels) in 0..255, labels uint8 (B, h, w)).
    """
    crop_size = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
    if len(crop_size) != 2 or min(crop_size) < 1 or batch_size < 1 or start_step < 0:
        raise ValueError(
            f"crop_size={crop_size}, batch_size={batch_size}, start_step={start_step}; crop_size is an int or "
            "(height, width) of at least 1, batch_size at least 1 and start_step at least 0"
        )
    # Refused here, not when the first batch is drawn.
    transforms.random_scale((0, 0), scale_range, scale_step)
    recolour = bool(brightness or contrast or saturation)
    if recolour and source.channels != 3:
        raise ValueError(
            f"brightness={brightness}, contrast={contrast}, saturation={saturation} change red, green and blue, and "
            f"the images of {source.name} have {source.channels} channels: leave them at 0"
        )
    start = start_step * batch_size

    def augment(position, sample):
        # One seed for each sample ever shown, whichever thread works on it.
        seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), position]), 4)
        image, label = sample["image"], sample["label"]
        if flip:
            image, label = transforms.random_flip(image, label, seeds[0])
        scale = transforms.random_scale(seeds[1], scale_range, scale_step)
        image, label = transforms.random_scaled_crop(image, label, crop_size, scale, seeds[2])
        if recolour:
            image = transforms.random_colour(image, seeds[3], brightness, contrast, saturation)
        return tf.ensure_shape(image, [*crop_size, source.channels]), tf.ensure_shape(label, crop_size)

    return (
        source.stream(shuffle_seed=seed, start=start)
        .enumerate(start)
        .map(augment, tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
    )


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
