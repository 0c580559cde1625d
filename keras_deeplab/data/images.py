"""Image files to uint8 arrays (H, W, channels), three of them red, green and blue."""

import os
import re
from pathlib import Path

import numpy as np

from keras_deeplab.data import channels as many
from keras_deeplab.data.masks import imdecode, png_chunks

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".npy")
# A marker of JPEG, with the fill bytes before it: not 0xff as coded data holds it, nor a restart within a scan.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


def decode_image(data: bytes, channels: int = 3) -> np.ndarray:
    """Map the bytes of a JPEG, PNG, BMP, TIFF or .npy file to its pixels, (H, W, channels) uint8.

    Three channels are RGB: grey and CMYK become that, a PNG's alpha is dropped, 16 bits become 8. Any other number is
    what the file has, see `channels.decode`. An EXIF orientation is ignored: pixels come as they are stored, because a
    mask drawn for them has no such mark.

    Raises:
        ValueError: the bytes can't be decoded or end too early, or the file has other channels.
    """
    from keras_deeplab._helpers.opencv import cv2

    # Decoders differ in whether they return the upper part of a file that was cut short; so look first.
    if data.startswith(b"\xff\xd8"):
        if not _jpeg_ends(data):
            raise ValueError(f"is cut short: the JPEG file ends after {len(data)} bytes without an end mark")
    elif data.startswith(b"\x89PNG"):
        png_chunks(data)
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise ValueError(f"is cut short: the BMP file has {len(data)} of {int.from_bytes(data[2:6], 'little')} bytes")
    if channels != 3 or many.keeps_channels(data):
        return many.decode(data, channels)
    image = imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _jpeg_ends(data):
    """Whether the bytes of a JPEG file reach its end mark.

    Phones append videos to it, and segments hold thumbnails with an end mark of their own, so the segments are walked.
    """
    position = 2
    while found := _MARKER.search(data, position):
        kind, position = found[1][0], found.end()
        if kind == 0xD9:
            return True
        if kind != 0x01:  # the one mark left that has no length
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def read_image(path: str | os.PathLike, channels: int = 3) -> np.ndarray:
    """Map the path of an image file to its pixels, (H, W, channels) uint8, three being RGB; see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be decoded; the message begins with the path.
    """
    data = Path(path).read_bytes()
    try:
        return decode_image(data, channels)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
