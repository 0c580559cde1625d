"""Image files to uint8 arrays (H, W, channels), three of them red, green and blue."""

import functools
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data import channels as many
from keras_deeplab.data import tiff
from keras_deeplab.data.masks import imdecode, png_chunks
from keras_deeplab.data.orientation import orientation_of, turned

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy")


class TooManyPixels(ValueError):
    """An image of more pixels than were allowed; `size` is the (height, width) that its header tells."""

    def __init__(self, size: tuple[int, int], most: int, origin: str = "") -> None:
        self.size, self.most = size, most
        height, width = size
        super().__init__(
            f"{origin}has {width}x{height} pixels, {height * width} in all, and the limit is {most}: max_pixels= "
            "(--max-pixels) sets another one"
        )


def decode_image(
    data: bytes,
    channels: int = 3,
    upright: bool = True,
    image_range: Sequence[float] | None = None,
    max_pixels: int | None = None,
) -> np.ndarray:
    """Map the bytes of a JPEG, PNG, BMP, WebP, TIFF or .npy file to its pixels, (H, W, channels) uint8.

    Three channels are RGB: grey and CMYK become that, a PNG's alpha is dropped. Any other number is what the file has,
    see `channels.decode`.

    Args:
        data: contents of the file.
        channels: how many channels its pixels shall have.
        upright: whether the picture is turned as its EXIF orientation asks, as every viewer shows it; else it comes as
            it is stored.
        image_range: the two numbers of a file of more than 8 bits that become 0 and 255; see `channels.scaled`.
        max_pixels: how many pixels its header may tell before anything is decoded; None for what OpenCV decodes.

    Raises:
        TooManyPixels: the header tells more; a ValueError.
        ValueError: the bytes can't be decoded or end too early, the file has other channels, or more than 8 bits and
            nothing says their range.
    """
    from keras_deeplab._helpers.opencv import cv2

    if max_pixels is not None and (size := declared_size(data)) is not None and size[0] * size[1] > max_pixels:
        raise TooManyPixels(size, max_pixels)

    image = None
    # OpenCV returns the upper part of a file that was cut short; so look first.
    if data.startswith(b"\xff\xd8"):
        image = _decode_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        png_chunks(data)
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise ValueError(f"is cut short: the BMP file has {len(data)} of {int.from_bytes(data[2:6], 'little')} bytes")
    if channels != 3 or many.keeps_channels(data):
        image = many.decode(data, channels, image_range)
    elif image is None:
        image = imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
        image = many.scaled(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), image_range)
    if max_pixels is not None and image.shape[0] * image.shape[1] > max_pixels:  # of kinds whose headers aren't read
        raise TooManyPixels(image.shape[:2], max_pixels)
    return turned(image, orientation_of(data)) if upright else image


def _decode_jpeg(data):
    """The pixels of a JPEG file, as stored; Pillow refuses a file that was cut short."""
    try:
        with opened(data) as image:
            if image.width * image.height <= limits.IMAGE_PIXELS:
                return np.array(image.convert("RGB"))
    except Exception as error:  # of damaged files Pillow makes OSError, SyntaxError, struct.error and more
        raise ValueError(
            f"is cut short or damaged: the JPEG file of {len(data)} bytes can't be decoded ({error})"
        ) from error
    raise ValueError(
        f"can't be decoded: it declares {image.width}x{image.height} pixels, more than {limits.IMAGE_PIXELS}"
    )


def image_size(data: bytes) -> tuple[int, int] | None:
    """Map the bytes of an image file to (height, width) by its header; None where that can't be read.

    As the pixels are stored, whatever an EXIF orientation says.
    """
    try:
        with opened(data) as image:
            return image.height, image.width
    except Exception:
        return None


def declared_size(data: bytes) -> tuple[int, int] | None:
    """As `image_size`, also of .npy arrays and of TIFF files of many channels, which Pillow doesn't open."""
    if data.startswith(many.NPY):
        return many.npy_size(data)
    size = image_size(data)
    if size is None and data.startswith(tiff.SIGNATURES):
        size = tiff.size(data)
    return size


def opened(data: Any) -> Any:
    """The image of Pillow for a file's bytes, of which the header is read and nothing else; KeyError for other files.

    Not by `Image.open`, which warns of large photographs and refuses very large ones.
    """
    kind = _kinds()[data[:2]]
    return kind(io.BytesIO(tiff.as_stored(data) if data.startswith(tiff.SIGNATURES) else data))


@functools.cache
def _kinds():
    """How a file begins -> Pillow's class."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    class Jpeg(JpegImagePlugin.JpegImageFile):
        def _open(self):
            self.info["dpi"] = (72, 72)  # where it is known, EXIF data is not read, which warns of damaged ones
            super()._open()

    return {
        b"\xff\xd8": Jpeg,
        b"\x89P": PngImagePlugin.PngImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
        b"GI": GifImagePlugin.GifImageFile,
        b"RI": WebPImagePlugin.WebPImageFile,
        b"II": TiffImagePlugin.TiffImageFile,
        b"MM": TiffImagePlugin.TiffImageFile,
    }


def read_image(
    path: str | os.PathLike,
    channels: int = 3,
    upright: bool = True,
    image_range: Sequence[float] | None = None,
    max_pixels: int | None = None,
) -> np.ndarray:
    """Map the path of an image file to its pixels, (H, W, channels) uint8, three being RGB; see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, such as a pipe, or can't be decoded; the message begins with the path.
    """
    return decoded(path, read_regular(path), channels, upright, image_range, max_pixels)


def decoded(
    path: str | os.PathLike,
    data: bytes,
    channels: int,
    upright: bool,
    image_range: Sequence[float] | None,
    max_pixels: int | None = None,
) -> np.ndarray:
    """As `read_image`, of a file whose bytes are there."""
    try:
        return decode_image(data, channels, upright, image_range, max_pixels)
    except TooManyPixels as error:
        raise TooManyPixels(error.size, error.most, f"{path} ") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
