"""TIFF files to their pixels as stored, of any number of channels: by OpenCV where it can, else by tifffile."""

import contextlib
import functools
import io
import os
import struct

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.data.masks import imdecode

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two are BigTIFF's
# Tags of a directory, one without a meaning to a reader of pixels among them; types and values of its entries.
_KIND, _WIDTH, _HEIGHT, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR = 254, 256, 257, 262, 274, 277, 284
_PRINTER, _EXTRA, _GEO_KEYS = 337, 338, 34735
_TEXT, _SHORT, _LONG = 2, 3, 4
_BLACK_IS_ZERO, _RGB = 1, 2


class _Directory(dict):
    """The first number of each entry by its tag, and in `places` where the entry stands in the file."""

    def __init__(self, data: bytes, order: str, start: int) -> None:
        super().__init__()
        self.places = {}
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", data, place)
            if kind in (_SHORT, _LONG):
                self.places[tag] = place
                (value,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", data, place + 8)
                self[tag] = value if number == 1 else None
        (self.following,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)


def _directories(data: bytes) -> list[_Directory]:
    order = "<" if data[:2] == b"II" else ">"
    found: list[_Directory] = []
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        while start and len(found) < limits.TIFF_PAGES:
            found.append(_Directory(data, order, start))
            start = found[-1].following
    except struct.error as error:
        if not found:
            raise ValueError(f"is cut short or damaged: the TIFF file's directory can't be read ({error})") from error
    return found


def pictures(data: bytes) -> int:
    """How many pictures of the first one's size a TIFF file's bytes hold, without overviews and masks; 1 for BigTIFF.

    Raises:
        ValueError: the file is damaged.
    """
    return 1 if data[2:4] in (b"+\0", b"\0+") else _pictures(_directories(data))


def size(data: bytes) -> tuple[int, int] | None:
    """The (height, width) of a TIFF file's first picture by its bytes; None where they don't tell, as of BigTIFF's."""
    with contextlib.suppress(ValueError):
        if data[2:4] not in (b"+\0", b"\0+"):
            first = _directories(data)[0]
            height, width = first.get(_HEIGHT), first.get(_WIDTH)
            return None if height is None or width is None else (height, width)
    return None


def is_georeferenced(data: bytes) -> bool:
    """Whether the bytes of a TIFF file have GeoTIFF's keys, which tell where on the earth it lies."""
    if not data.startswith(SIGNATURES):
        return False
    if data[2:4] in (b"+\0", b"\0+"):  # of BigTIFF, whose directories aren't read here, whoever reads it finds out
        return True
    with contextlib.suppress(ValueError):
        return _GEO_KEYS in _directories(data)[0].places
    return False


def as_stored(data: bytes) -> bytes:
    """A TIFF file's bytes without an orientation, by which Pillow and OpenCV turn it whether asked or not."""
    with contextlib.suppress(ValueError):
        if data[2:4] not in (b"+\0", b"\0+"):
            return _marked(data, {_ORIENTATION: 1}, _directories(data)[0])
    return data


def _pictures(directories: list[_Directory]) -> int:
    first = directories[0]
    return 1 + sum(
        not (each.get(_KIND) or 0) & 5 and all(each.get(tag) == first.get(tag) for tag in (_WIDTH, _HEIGHT, _SAMPLES))
        for each in directories[1:]
    )


def decode(data: bytes) -> np.ndarray:
    """Map the bytes of a TIFF file to its pixels, (H, W) or (H, W, channels), of the file's own dtype, not turned.

    Three channels that are marked as colours are red, green and blue. Several pictures of one channel each are the
    channels of one.

    Raises:
        ValueError: the file is damaged, or holds several pictures of several channels.
        ImportError: it needs tifffile, which is not installed.
    """
    if data[2:4] in (b"+\0", b"\0+"):
        return _by_tifffile(data, "a BigTIFF file")
    directories = _directories(data)
    first, count = directories[0], _pictures(directories)
    samples = first.get(_SAMPLES, 1)
    if count > 1:
        if samples != 1:
            raise ValueError(f"is a TIFF file of {count} pictures, and an image is one: save each in a file of its own")
        return _by_tifffile(data, f"a TIFF file of {count} channels", count)
    if samples == 1 or first.get(_PHOTOMETRIC, _RGB) not in (_BLACK_IS_ZERO, _RGB):
        return _by_opencv(_marked(data, {_ORIENTATION: 1}, first), converted=samples != 1)
    if samples not in (3, 4) or first.get(_PLANAR, 1) != 1:
        return _by_tifffile(data, f"a TIFF file of {samples} channels")
    # Where several are marked as grey OpenCV returns the first, and by a fourth that is marked as plain alpha it
    # multiplies the others. So three or four are marked as RGB, with one of no meaning.
    return _by_opencv(_marked(data, {_ORIENTATION: 1, _PHOTOMETRIC: _RGB}, first, samples), converted=False)


def _marked(data: bytes, values: dict[int, int], directory: _Directory, samples: int = 1) -> bytes:
    """The file with other values in its first directory, where they stand there at all."""
    order, marked = "<" if data[:2] == b"II" else ">", bytearray(data)
    for tag, value in values.items():
        if tag in directory.places:
            struct.pack_into(f"{order}HIHH", marked, directory.places[tag] + 2, _SHORT, 1, value, 0)
    if _EXTRA in directory.places and samples > 1:
        entry = (_EXTRA, _SHORT, 1, 0) if samples == 4 else (_PRINTER, _TEXT, 1, 0)
        struct.pack_into(f"{order}HHII", marked, directory.places[_EXTRA], *entry)
    return bytes(marked)


def _by_opencv(data: bytes, converted: bool) -> np.ndarray:
    """By OpenCV; `converted` for colours that become RGB, such as CMYK."""
    from keras_deeplab._helpers.opencv import cv2

    _quiet()
    return rgb_first(imdecode(data, cv2.IMREAD_COLOR if converted else cv2.IMREAD_UNCHANGED))


@functools.cache
def _quiet() -> None:
    """Has OpenCV pass over libtiff's warnings, a line for each file whose tags would mislead viewers."""
    from keras_deeplab._helpers.opencv import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def rgb_first(image: np.ndarray) -> np.ndarray:
    """An image as OpenCV has it, blue first, to red first; of one or two channels to the same."""
    if image.ndim == 3 and image.shape[-1] >= 3:
        return np.concatenate([image[..., 2::-1], image[..., 3:]], -1)
    return image


def _by_tifffile(data: bytes, what: str, pages: int = 1) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise ImportError(
            f"{what} is read by tifffile, which is not installed: pip install 'keras_deeplab[tiff]' (or save such "
            "images as .npy arrays, (height, width, channels))"
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            arrays = [file.pages[page].asarray() for page in range(pages)]
            channels_first = file.pages[0].axes.startswith("S")
    except KeyError as error:  # of a compression that another package undoes
        raise ImportError(f"{what}: {error}: pip install 'keras_deeplab[tiff]'") from error
    except (ValueError, struct.error, IndexError, OSError) as error:
        raise ValueError(f"is cut short or damaged: {what} can't be decoded ({error})") from error
    image = np.stack(arrays, -1) if pages > 1 else arrays[0]
    return np.moveaxis(image, 0, -1) if channels_first else image
