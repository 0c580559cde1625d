"""Mask files of any kind to what they store: PNG, BMP, TIFF, GIF, WebP, JPEG, .npy."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data import tiff
from keras_deeplab.data.channels import read_npy
from keras_deeplab.data.images import opened
from keras_deeplab.data.mask_codes import BINARY
from keras_deeplab.data.masks import Stored, stored_in_png
from keras_deeplab.data.orientation import orientation_of, turned

EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".npy", ".gif", ".webp", ".jpg", ".jpeg")
LOSSY = (".jpg", ".jpeg")  # their numbers are not those that were saved


def decode_mask(data: bytes, upright: bool = True) -> Stored:
    """Map the bytes of a mask file to what it stores: numbers as they are, a palette's indices, alpha apart.

    Args:
        data: contents of the file. A .npy file is an array (H, W) or (H, W, 1) of any type of numbers, or (H, W, 3).
        upright: whether an EXIF orientation turns it, which masks have that were saved over a photograph.

    Raises:
        ValueError: the bytes can't be decoded or end too early, or hold several pictures; the message begins with
            "is", "has", "holds" or "can't".
    """
    if data.startswith(b"\x89PNG") or not data:
        stored = stored_in_png(data)
    elif data.startswith(b"\x93NUMPY"):
        return _from_array(read_npy(data))
    else:
        stored = _by_pillow(data)
    orientation = orientation_of(data) if upright else 1
    if orientation == 1:
        return stored
    values, palette, alpha = stored
    return Stored(turned(values, orientation), palette, None if alpha is None else turned(alpha, orientation))


def read_mask(path: str | os.PathLike, upright: bool = True) -> Stored:
    """As `decode_mask`, of a file; messages begin with its path."""
    data = read_regular(path)
    try:
        return decode_mask(data, upright)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def readable(files: Iterable[Path]) -> Iterator[Stored]:
    """What each of the files stores, of those that can be read."""
    for file in files:
        with contextlib.suppress(ValueError, OSError):
            yield read_mask(file)


def refuse_black_and_white(masks: Iterable[Stored], classes: Sequence[str], what: str) -> None:
    """Raise a ValueError where all masks hold nothing but 0 and 255 (or 65535): there is nothing else to tell apart.

    Reading ends with the first mask that holds something else, which as a rule is the first.

    Args:
        masks: what each stores.
        classes: names of the classes.
        what: the data set, for the message.
    """
    counted, found = 0, 0
    for values, _, alpha in masks:
        if values.ndim == 3 or (alpha is not None and alpha.min() != alpha.max()):
            return
        top = values.max().item()
        if top not in (0, 255, 65535) or ((values != 0) & (values != top)).any():
            return
        counted, found = counted + 1, max(found, top)
    if not found:
        return
    dark, light = ("background", *classes)[-2:] if len(classes) <= 2 else classes[:2]
    raise ValueError(
        f"the masks of {what} ({counted} read) hold 0 and {found} alone. {found} seems to be the second class"
        + (', and without more it means "ignored", so that there is nothing to learn: ' if found == 255 else ": ")
        + f"{BINARY} reads 0 as {dark!r} and {found} as {light!r}"
        + (f" (for two classes; here are {len(classes)})" if len(classes) > 2 else "")
        + ('. (mask_encoding="grey" if 255 does mean ignored.)' if found == 255 else "")
    )


def _from_array(array: np.ndarray) -> Stored:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    coloured = array.ndim == 3 and array.shape[-1] == 3
    if (array.ndim != 2 and not coloured) or 0 in array.shape or array.dtype.kind not in "buif":
        raise ValueError(
            f"holds an array of {array.dtype} {array.shape}, and a mask is numbers (height, width), or colours "
            "(height, width, 3)"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("holds numbers that are not finite")
    return Stored(np.ascontiguousarray(array.astype(np.uint8) if array.dtype == bool else array))


def _by_pillow(data: bytes) -> Stored:
    """By Pillow, which keeps a palette's indices."""
    count = tiff.pictures(data) if data.startswith(tiff.SIGNATURES) else 1
    try:
        with opened(data) as image:
            if not data.startswith(tiff.SIGNATURES):
                count = getattr(image, "n_frames", 1)
            values = np.array(image)
            mode, colours = image.mode, image.getpalette()
            transparency = image.info.get("transparency")
    except KeyError as error:
        raise ValueError(f"can't be decoded: it is none of {', '.join(EXTENSIONS)}") from error
    except Exception as error:  # of damaged files Pillow makes OSError, SyntaxError, struct.error and more
        raise ValueError(f"is cut short or damaged, and can't be decoded ({error})") from error
    if count > 1:
        raise ValueError(f"holds {count} pictures, and a mask is one: save each in a file of its own")
    alpha = None
    if mode == "P":
        palette = np.array(colours, np.uint8).reshape(-1, 3)
        if isinstance(transparency, int):
            alpha = np.where(values == transparency, 0, 255).astype(np.uint8)
        if not data.startswith(b"GIF"):
            return Stored(values, palette, alpha)
        if values.max() >= len(palette):
            raise ValueError(f"is damaged: it holds the number {values.max()}, and its palette {len(palette)} colours")
        values = palette[values]  # whoever writes a GIF orders its colours anew, so its indices mean nothing
    elif mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        values, alpha = values[..., :-1], np.ascontiguousarray(values[..., -1])
    elif mode in ("CMYK", "LAB", "HSV", "YCbCr"):
        raise ValueError(f"is in {mode} colours, and a mask is grey, paletted or red, green and blue")
    if values.ndim == 3 and values.shape[-1] > 3:
        values = values[..., :3]
    if data.startswith((b"GIF", b"RIFF")):
        values = _grey_if_equal(values)
    return Stored(_from_array(values).values, None, alpha)


def _grey_if_equal(colours: np.ndarray) -> np.ndarray:
    """(H, W) of colours that are all grey, for files that can't hold grey as such; else the colours (H, W, 3)."""
    equal = (colours == colours[..., :1]).all()
    return np.ascontiguousarray(colours[..., 0] if equal else colours)
