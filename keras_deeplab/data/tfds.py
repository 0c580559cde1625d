"""Any TensorFlow Datasets data set with images and masks to a `Source`."""

import contextlib
import os
from collections.abc import Sequence
from typing import cast

import numpy as np
import tensorflow as tf

from keras_deeplab.data.folder import Colors, colors_by_label, given_colors, given_names, is_foreground, other_way
from keras_deeplab.data.images import decode_image
from keras_deeplab.data.mask_files import decode_mask, refuse_black_and_white
from keras_deeplab.data.masks import Stored, label_reader
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.data.source import Source
from keras_deeplab.options import Range
from keras_deeplab.specs import Classes


def detect(name_or_path: str) -> bool:
    """No: names of TensorFlow Datasets look like any other, so they are marked "tfds:NAME"."""
    return False


def read(
    location: str,
    split: str = "train",
    *,
    data_dir: str | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    classes: Sequence[str] | str | os.PathLike | None = None,
    num_classes: int | None = None,
    mask_encoding: str = "auto",
    colors: Colors | None = None,
    ignore_label: int | Sequence[int] | None = None,
    label_offset: int = 0,
    mask_repair: str | None = None,
    orientation: str | None = None,
    image_range: Sequence[float] | None = None,
    download: bool = True,
    shuffle_buffer: int = 2000,
) -> Source:
    """Map the name of a TensorFlow Datasets data set to the `Source` of one of its splits.

    Args:
        location: the name as `tfds.builder` takes it, NAME, NAME/CONFIG or NAME/CONFIG:VERSION.
        split: as TFDS takes it, also `"train[:80%]"`.
        data_dir: where the prepared data set is or will be; None for TFDS's own place.
        image_key, label_key: names of the features; None where only one of them can be meant. An image is an Image
            of 3 channels, a label a LabeledImage, an Image of 1 channel, or an integer Tensor (H, W) or (H, W, 1).
        classes: list of class names, or a text file with one a line; or
        num_classes: int, where the label's feature does not say how many classes there are.
        mask_encoding, colors, ignore_label, label_offset, mask_repair, orientation, image_range: as in `folder.read`.
            `oxford_iiit_pet`'s labels 1, 2, 3 need `label_offset=-1, num_classes=3`.
        download: whether to download and prepare a data set that is not prepared yet.
        shuffle_buffer: int; a shuffled epoch draws from so many encoded samples at a time.

    Raises:
        ValueError: the data set's features don't say which are the image, the label and the classes; it lists them.
    """
    import tensorflow_datasets as tfds

    name = location
    if name.startswith("keras_deeplab_"):
        from keras_deeplab.data import tfds_builders  # noqa: F401 - registers the builders
    builder = tfds.builder(name, data_dir=data_dir)
    features = builder.info.features
    image_key = _key(name, features, image_key, "image", _is_image)
    label_key = _key(name, features, label_key, "label", _is_label)
    names, count = _classes(name, features[label_key], given_names(classes), num_classes)
    if is_foreground(names, mask_encoding):
        names, count = ("background", *names), 2
    colors = given_colors(colors, count)
    shown = None if colors is None else colors_by_label(colors, count)
    labels_of = label_reader(count, mask_encoding, colors, ignore_label, label_offset, mask_repair)
    reading = ImageOptions(orientation=orientation, image_range=cast("Range | None", image_range))
    if download:
        builder.download_and_prepare()
    encoded = {
        key: tfds.decode.SkipDecoding()
        for key in (image_key, label_key)
        if isinstance(features[key], tfds.features.Image)
    }
    dataset = builder.as_dataset(
        split=split,
        decoders=encoded,
        read_config=tfds.ReadConfig(add_tfds_id=True, try_autocache=False),
    ).map(lambda record: (record[image_key], record[label_key], record["tfds_id"]))
    num_examples = int(dataset.cardinality())

    def examples(shuffle_seed, epoch):
        if shuffle_seed is None:
            return dataset
        keys = tf.stack([tf.cast(shuffle_seed, tf.int64), tf.cast(epoch, tf.int64)])
        return tf.data.Dataset.from_tensors(keys).flat_map(shuffled)

    def shuffled(keys):
        # Dataset.shuffle mixes in tf.random.set_seed's number, which the order must not depend on (and fails on 0 where
        # its own seed is a tensor). Inside this function's graph that number can be set.
        tf.compat.v1.get_default_graph().seed = 1
        seed = tf.random.stateless_uniform([], keys, minval=None, maxval=None, dtype=tf.int64)
        return dataset.shuffle(min(shuffle_buffer, num_examples), seed=seed, reshuffle_each_iteration=False)

    def read_record(image, label, record):
        record = record.decode()
        try:
            pixels = decode_image(image, 3, reading.upright, reading.image_range)
        except ValueError as error:
            raise ValueError(f"{name}, record {record}: {image_key!r} {error}") from error
        try:
            label = labels_of(*_stored(label, reading.upright))
        except ValueError as error:
            raise ValueError(f"{name}, record {record}: {label_key!r} {error}") from error
        if pixels.shape[:2] != label.shape:
            raise ValueError(
                f"{name}, record {record}: {label_key!r} is {label.shape[1]}x{label.shape[0]} pixels, but "
                f"{image_key!r} is {pixels.shape[1]}x{pixels.shape[0]}{other_way(image, reading, label.shape)}"
            )
        return pixels, label, record

    if mask_encoding == "auto" and not colors:
        refuse_black_and_white(_readable(dataset), Classes(names).labels(count), f"tfds:{name}")

    return Source(
        f"tfds:{name} ({split})",
        Classes(names, shown),
        num_examples,
        examples,
        read_record,
        num_classes=count,
        image_range=reading.image_range,
    )


def _stored(label, upright):
    """A label as the data set has it, the bytes of a file or an array (H, W) or (H, W, 1), to what it stores."""
    if isinstance(label, bytes):
        return decode_mask(label, upright)
    return Stored(np.ascontiguousarray(label[..., 0] if label.ndim == 3 and label.shape[-1] == 1 else label))


def _readable(dataset):
    """What each label of the data set stores, of those that can be read."""
    for _, label, _ in dataset.as_numpy_iterator():
        with contextlib.suppress(ValueError):
            yield _stored(label, upright=True)


def _is_image(feature):
    return _is_plain_image(feature) and feature.shape[-1] == 3


def _is_label(feature):
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.LabeledImage):
        return True
    if _is_plain_image(feature):
        return feature.shape[-1] == 1
    shape = feature.shape
    return (
        type(feature) is tfds.features.Tensor
        and np.issubdtype(feature.np_dtype, np.integer)
        and (len(shape) == 2 or (len(shape) == 3 and shape[-1] == 1))
    )


def _is_plain_image(feature):
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image) and not isinstance(feature, tfds.features.LabeledImage)


def _key(name, features, key, role, fits):
    listed = "\n".join(f"  {each}: {feature}" for each, feature in features.items())
    if key is not None:
        if key not in features:
            raise ValueError(f"{name} has no feature {key!r} ({role}_key); it has\n{listed}")
        return key
    found = [each for each, feature in features.items() if fits(feature)]
    if len(found) != 1:
        raise ValueError(
            f"{name} has {len(found)} features that can be the {role}"
            + (f" ({', '.join(found)})" if found else "")
            + f"; {role}_key= says which is. It has\n{listed}"
        )
    return found[0]


def _classes(name, feature, classes, num_classes):
    """The names of the classes, None where nothing tells them, and how many there are."""
    if classes is not None:
        if num_classes not in (None, len(classes)):
            raise ValueError(f"num_classes={num_classes}, but classes= has {len(classes)}")
        return tuple(classes), len(classes)
    known = getattr(feature, "num_classes", None)
    if known and num_classes in (None, known):
        names = tuple(getattr(feature, "names", None) or ())
        # Where a feature knows their number alone, TFDS names them by it.
        return (None if names in ((), tuple(map(str, range(known)))) else names), known
    if num_classes is None:
        raise ValueError(f"{name} does not say how many classes its labels have; num_classes= or classes=[...] does")
    return None, num_classes
