"""An image file of any size to a `Raster`, by what fits: rasterio in bands, mapped arrays, or decoded as a whole."""

import os
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.data import tiff
from keras_deeplab.data.channels import scaled
from keras_deeplab.data.images import image_size, read_image
from keras_deeplab.data.orientation import orientation_of
from keras_deeplab.data.settings import AS_VIEWED, ImageOptions
from keras_deeplab.inference.rasters.base import Pixels, Raster

_IN_BANDS = (b"\xff\xd8", b"\x89PNG", *tiff.SIGNATURES)
_HEAD = 1 << 16
_TAIL = 1 << 12  # where the last marker of a PNG or JPEG file is looked for; some cameras write behind it
# GDAL keeps blocks that were read, by default up to a share of the memory, and only warns of broken JPEG data.
GDAL = {"GDAL_CACHEMAX": 64, "GDAL_ERROR_ON_LIBJPEG_WARNING": True, "GDAL_PAM_ENABLED": False}


def open_raster(
    path: str | os.PathLike,
    channels: int = 3,
    reading: ImageOptions = AS_VIEWED,
    bands: Sequence[int] | None = None,
    max_pixels: int = limits.DECODED_PIXELS,
) -> Raster:
    """The path of an image file to its pixels, band by band.

    TIFF files are read in bands by rasterio where that is installed, with their georeference and the pixels without
    data; .npy arrays (H, W, channels) as they lie on the disk. Other files, and TIFF files without rasterio, are
    decoded as a whole up to `max_pixels`; JPEG and PNG files above that in bands by rasterio too.

    Args:
        channels: of the pixels that are wanted. A file of one is repeated for three; a last band that is alpha tells
            where there is data.
        reading: how files become pixels: turned upright, and the range of more than 8 bits.
        bands: which bands of a TIFF file, from 1 on, are the channels; None for all.
        max_pixels: of a file that is decoded as a whole.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read, has other channels, or is too large for what can read it; the message begins with
            the path.
        ImportError: it takes rasterio, which isn't installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file" if path.exists() else f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"\x93NUMPY"):
        return _Array(path, channels, reading)
    is_tiff, turn = head.startswith(tiff.SIGNATURES), 1
    if reading.upright:
        turn = orientation_of(_with_directory(path, head) if is_tiff else head)
    if is_tiff and turn == 1:
        try:
            return Bands(path, channels, reading, bands)
        except ImportError:
            if bands is not None:
                raise
    if bands is not None:
        raise ValueError(f"{path} has no bands to choose from: bands= is for TIFF files that aren't turned")
    size = _declared(path, head)
    if size is None or size[0] * size[1] <= max_pixels:
        return _Decoded(path, channels, reading)
    what = f"{path} has {size[1]}x{size[0]} pixels, more than the {max_pixels} that are decoded as a whole"
    if not head.startswith(_IN_BANDS):
        raise ValueError(f"{what}, and such files aren't read in bands: save it as TIFF, PNG, JPEG or .npy")
    if turn != 1:
        raise ValueError(
            f"{what}, and its orientation asks for it to be turned, which bands can't be: save it upright, or take it "
            "as it is stored (orientation='stored', --orientation stored)"
        )
    _refuse_cut(path, head)
    return Bands(path, channels, reading, None)


def _refuse_cut(path: Path, head: bytes) -> None:
    """Raises ValueError of a PNG or JPEG file without its end, whose missing rows GDAL makes up in silence."""
    end = {b"\x89P": b"IEND", b"\xff\xd8": b"\xff\xd9"}.get(head[:2])
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        if end is not None and end not in file.read():
            raise ValueError(f"{path} is cut short: it has no end")


def _declared(path: Path, head: bytes) -> tuple[int, int] | None:
    """(height, width) by the file's header; a TIFF file's directory may lie anywhere in it."""
    if head.startswith(tiff.SIGNATURES):
        head = path.read_bytes()
    return image_size(head)


def _with_directory(path: Path, head: bytes) -> bytes:
    """A TIFF file's header with its first directory right behind it, wherever that lies; of BigTIFF the header."""
    if head[2:4] not in (b"*\0", b"\0*"):
        return head[:8]
    order = "<" if head[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", head.ljust(8, b"\0"), 4)
    with path.open("rb") as file:
        file.seek(start)
        directory = file.read(_HEAD)
    return head[:4] + struct.pack(f"{order}I", 8) + directory


class _Decoded(Raster):
    """A file that is decoded as a whole."""

    streams = False

    def __init__(self, path: Path, channels: int, reading: ImageOptions) -> None:
        self._image = read_image(path, channels, reading.upright, reading.image_range)
        self.height, self.width = self._image.shape[:2]

    def read(self, top: int, bottom: int) -> Pixels:
        return Pixels(self._image[top:bottom], None)


class _Array(Raster):
    """A .npy file, mapped."""

    def __init__(self, path: Path, channels: int, reading: ImageOptions) -> None:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy's parser of a damaged header raises nearly anything
            raise ValueError(f"{path} can't be read as an array ({error})") from error
        self._array = array[..., None] if array.ndim == 2 else array
        if self._array.ndim != 3 or 0 in self._array.shape or self._array.shape[-1] != channels:
            raise ValueError(f"{path} holds an array of shape {array.shape}; expected (height, width, {channels})")
        self._path, self._range = path, reading.image_range
        self.height, self.width = self._array.shape[:2]

    def read(self, top: int, bottom: int) -> Pixels:
        try:
            return Pixels(scaled(np.array(self._array[top:bottom]), self._range), None)
        except ValueError as error:
            raise ValueError(f"{self._path} {error}") from error


class Bands(Raster):
    """A file that rasterio reads band by band: GeoTIFF, TIFF, PNG, JPEG."""

    def __init__(self, path: Path, channels: int, reading: ImageOptions, bands: Sequence[int] | None) -> None:
        rasterio = import_rasterio(f"reading {path} in bands")
        self._path, self._channels, self._range = path, channels, reading.image_range
        self._env = rasterio.Env(**GDAL)
        try:
            with self._env, warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                self._file = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            raise ValueError(f"{path} can't be read ({error})") from error
        try:
            self._plan(bands)
        except ValueError:
            self._file.close()
            raise
        self.height, self.width = self._file.height, self._file.width
        self.origin = _origin(self._file)

    def _plan(self, bands: Sequence[int] | None) -> None:
        from rasterio.enums import ColorInterp, MaskFlags

        file = self._file
        if len(file.subdatasets) > 1:
            raise ValueError(f"{self._path} is a TIFF file of {len(file.subdatasets)} pictures; save each by itself")
        alpha = [band for band, kind in zip(file.indexes, file.colorinterp, strict=True) if kind == ColorInterp.alpha]
        plain = [band for band in file.indexes if band not in alpha]
        wrong = [band for band in bands or () if band not in file.indexes]
        if wrong:
            raise ValueError(f"{self._path} has bands 1 to {file.count}, and no band {wrong[0]}")
        self._bands = list(bands or (plain if len(plain) in (1, 3) or len(plain) == self._channels else file.indexes))
        self._colours = None
        if file.colorinterp[self._bands[0] - 1] == ColorInterp.palette and bands is None:
            table = np.zeros((1 << 16, 3), np.uint8)
            for number, colour in file.colormap(self._bands[0]).items():
                table[number] = colour[:3]
            self._colours = table
        found = 3 if self._colours is not None else len(self._bands)
        if found != self._channels and (found, self._channels) not in ((1, 3), (3, 1)):
            raise ValueError(
                f"{self._path} has {file.count} band{'s' * (file.count > 1)}, and the model takes {self._channels}: "
                "say which bands they are (bands=, --bands), such as "
                f"{','.join(str(1 + index % file.count) for index in range(self._channels))}"
            )
        flags = {flag for band in self._bands for flag in file.mask_flag_enums[band - 1]}
        self._masked = flags != {MaskFlags.all_valid}

    def read(self, top: int, bottom: int) -> Pixels:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(0, top, self.width, bottom - top)
        try:
            with self._env:
                image = np.moveaxis(self._file.read(self._bands, window=window), 0, -1)
                valid = self._valid(window) if self._masked else None
        except RasterioError as error:
            raise ValueError(f"{self._path} can't be read at rows {top} to {bottom} ({error})") from error
        try:
            return Pixels(self._as_wanted(image, valid), valid)
        except ValueError as error:
            raise ValueError(f"{self._path} {error}") from error

    def _valid(self, window: Any) -> np.ndarray:
        """A pixel has data where any of its bands has."""
        return (self._file.read_masks(self._bands, window=window) > 0).any(0)

    def _as_wanted(self, image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        if valid is not None and image.dtype.kind == "f":
            image = np.where(valid[..., None], image, 0.0 if self._range is None else self._range[0])
        if self._colours is not None:
            image = self._colours[image[..., 0]]
        image = scaled(image, self._range)
        if image.shape[-1] == self._channels:
            return np.ascontiguousarray(image)
        if self._channels == 3:
            return np.repeat(image, 3, -1)
        from keras_deeplab._helpers.opencv import cv2

        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]

    def close(self) -> None:
        self._file.close()


def import_rasterio(purpose: str) -> Any:
    """rasterio; ImportError, which says what for, where it isn't installed."""
    try:
        import rasterio
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs rasterio, which is not installed: pip install 'keras_deeplab[geotiff]' ({error})"
        ) from error
    return rasterio


def _origin(file: Any) -> Mapping[str, Any]:
    """Where a raster lies: its system of coordinates with the way from pixels to it, or with points of control."""
    points, system = file.gcps
    if points:
        return {"gcps": points, "crs": system}
    found = {}
    if file.crs is not None:
        found["crs"] = file.crs
    if not file.transform.is_identity:
        found["transform"] = file.transform
    return found
