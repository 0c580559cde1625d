"""TFRecord files to their records, and a record, a tf.train.Example, to an image file and its mask.

A record that is damaged costs itself alone, as long as its length can be read. TensorFlow's reader, and Beam's, end
with the first; so the frames are taken apart here, each checked by its two checksums.
"""

import functools
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

# Keys that are known, of the image and of its mask: of research/deeplab's build_data.py, and of TensorFlow Datasets
# (cityscapes has the second kind of both).
IMAGE_KEYS = ("image/encoded", "image", "image_left")
LABEL_KEYS = ("image/segmentation/class/encoded", "segmentation_mask", "segmentation_label", "label")
_NAME_KEYS = ("image/filename", "file_name", "name", "image_id")
_HEADER, _CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")


def records(file: BinaryIO) -> Iterator[bytes | ValueError]:
    """The records of an open TFRecord file in turn; in the place of a damaged one the error, which may end all.

    Raises:
        ImportError: there is no google-crc32c.
    """
    checksum = _crc32c()
    place = 0
    while header := file.read(_HEADER.size):
        at = f"at byte {place}"
        if len(header) < _HEADER.size:
            yield ValueError(f"the file is cut short {at}, within the length of a record")
            return
        length, expected = _HEADER.unpack(header)
        if _masked(checksum(header[:8])) != expected:
            yield ValueError(
                f"the checksum of a length {at} is wrong, so that nothing tells where the next record begins: "
                + ("it is no TFRecord file" if place == 0 else "the rest of the file is lost")
            )
            return
        data, trailer = file.read(length), file.read(_CHECKSUM.size)
        if len(data) < length or len(trailer) < _CHECKSUM.size:
            yield ValueError(f"the file is cut short within the record {at}, which has {length} bytes")
            return
        damaged = _masked(checksum(data)) != _CHECKSUM.unpack(trailer)[0]
        yield ValueError(f"the checksum of the record {at} is wrong") if damaged else data
        place += _HEADER.size + length + _CHECKSUM.size


def framed(data: bytes) -> bytes:
    """A record as it stands in a TFRecord file."""
    header = struct.pack("<Q", len(data))
    checksum = _crc32c()
    return header + _CHECKSUM.pack(_masked(checksum(header))) + data + _CHECKSUM.pack(_masked(checksum(data)))


class Encoded(NamedTuple):
    """What a record holds: the bytes of an image file, those of its mask or None, and its name or ""."""

    image: bytes
    mask: bytes | None
    name: str


def encoded(data: bytes, image_key: str | None = None, label_key: str | None = None) -> Encoded:
    """A record's bytes to what it holds.

    Args:
        image_key, label_key: of its features; None for the first of `IMAGE_KEYS` and `LABEL_KEYS` that holds a file.

    Raises:
        ValueError: it is no tf.train.Example, or has no such feature.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError(f"is no tf.train.Example ({error})") from error
    # Numbers are no files: the "label" of a data set for classification, say.
    files = {key: value.bytes_list.value[0] for key, value in features.items() if len(value.bytes_list.value) == 1}
    image = next((files[key] for key in ([image_key] if image_key else IMAGE_KEYS) if key in files), None)
    mask = next((files[key] for key in ([label_key] if label_key else LABEL_KEYS) if key in files), None)
    if image is None or (label_key and mask is None):
        what = "image" if image is None else "label"
        wanted = (image_key or " nor ".join(IMAGE_KEYS)) if image is None else label_key
        raise ValueError(
            f"has no bytes under {wanted}; {what}_key= (--{what}-key) says where its {what} is. It has "
            f"{', '.join(sorted(features)) or 'nothing'}"
        )
    name = next((files[key] for key in _NAME_KEYS if key in files), b"")
    return Encoded(image, mask, name.decode("utf-8", "replace"))


def _masked(checksum: int) -> int:
    """As TFRecord files store it, so that a checksum of data with checksums in it is no trivial number."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _crc32c() -> Callable[[bytes], int]:
    try:
        from google_crc32c import value
    except ImportError as error:
        raise ImportError(
            f"TFRecord files are checked with google-crc32c: pip install 'keras_deeplab[beam]' ({error})"
        ) from error
    return value
