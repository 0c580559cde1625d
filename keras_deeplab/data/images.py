"""Image files to uint8 arrays (H, W, channels), three of them red, green and blue."""

import functools
import io
import os
from pathlib import Path

import numpy as np

from keras_deeplab.data import channels as many
from keras_deeplab.data.masks import imdecode, png_chunks

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".npy")
_MAX_PIXELS = 1 << 30  # as OpenCV has it


def decode_image(data: bytes, channels: int = 3, upright: bool = False) -> np.ndarray:
    """Map the bytes of a JPEG, PNG, BMP, TIFF or .npy file to its pixels, (H, W, channels) uint8.

    Three channels are RGB: grey and CMYK become that, a PNG's alpha is dropped, 16 bits become 8. Any other number is
    what the file has, see `channels.decode`.

    Args:
        data: contents of the file.
        channels: how many channels its pixels shall have.
        upright: whether an RGB picture is turned as its EXIF orientation asks. By default pixels come as they are
            stored, because a mask drawn for them has no such mark.

    Raises:
        ValueError: the bytes can't be decoded or end too early, or the file has other channels.
    """
    from keras_deeplab._helpers.opencv import cv2

    # OpenCV returns the upper part of a file that was cut short; so look first.
    if data.startswith(b"\xff\xd8"):
        image = _decode_jpeg(data)
        # Pillow's exif_transpose stumbles over damaged EXIF data, OpenCV doesn't.
        if channels == 3 and not (upright and b"Exif" in data):
            return image
    elif data.startswith(b"\x89PNG"):
        png_chunks(data)
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise ValueError(f"is cut short: the BMP file has {len(data)} of {int.from_bytes(data[2:6], 'little')} bytes")
    if channels != 3 or many.keeps_channels(data):
        return many.decode(data, channels)
    image = imdecode(data, cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_jpeg(data):
    """The pixels of a JPEG file, as stored; Pillow refuses a file that was cut short."""
    try:
        with _opened(data) as image:
            if image.width * image.height <= _MAX_PIXELS:
                return np.array(image.convert("RGB"))
    except Exception as error:  # of damaged files Pillow makes OSError, SyntaxError, struct.error and more
        raise ValueError(
            f"is cut short or damaged: the JPEG file of {len(data)} bytes can't be decoded ({error})"
        ) from error
    raise ValueError(f"can't be decoded: it declares {image.width}x{image.height} pixels, more than {_MAX_PIXELS}")


def image_size(data: bytes) -> tuple[int, int] | None:
    """Map the bytes of a JPEG, PNG or BMP file to (height, width) by its header; None where that can't be read.

    Like `decode_image` it ignores an EXIF orientation.
    """
    try:
        with _opened(data) as image:
            return image.height, image.width
    except Exception:
        return None


def _opened(data):
    """The image of Pillow of which the header is read and nothing else.

    Not by `Image.open`, which warns of large photographs and refuses very large ones.
    """
    return _kinds()[data[:2]](io.BytesIO(data))


@functools.cache
def _kinds():
    """How a file begins -> Pillow's class."""
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

    class Jpeg(JpegImagePlugin.JpegImageFile):
        def _open(self):
            self.info["dpi"] = (72, 72)  # where it is known, EXIF data is not read, which warns of damaged ones
            super()._open()

    return {b"\xff\xd8": Jpeg, b"\x89P": PngImagePlugin.PngImageFile, b"BM": BmpImagePlugin.BmpImageFile}


def read_image(path: str | os.PathLike, channels: int = 3, upright: bool = False) -> np.ndarray:
    """Map the path of an image file to its pixels, (H, W, channels) uint8, three being RGB; see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be decoded; the message begins with the path.
    """
    data = Path(path).read_bytes()
    try:
        return decode_image(data, channels, upright)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
