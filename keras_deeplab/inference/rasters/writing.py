"""Labels to a file, band by band: GeoTIFF and PNG, one number a pixel, with the classes' colours."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from keras_deeplab._helpers.files import replacing
from keras_deeplab.inference.rasters.reading import GDAL, import_rasterio

_BLOCK = 256  # side of a GeoTIFF's blocks, and rows of a band


def write_label_raster(
    path: str | os.PathLike,
    rows: Callable[[int, int], np.ndarray],
    height: int,
    width: int,
    *,
    dtype: Any = np.uint8,
    palette: np.ndarray | None = None,
    nodata: int | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Writes labels to a GeoTIFF (.tif, .tiff) or PNG file, all of it or nothing. The same labels give the same bytes.

    A GeoTIFF is tiled and deflated, in BigTIFF's form where it may pass 4 GB, with colours for its classes where it has
    8 bits. A PNG is paletted of 8 bits, or grey of 16; it has no place for `nodata` and `origin`.

    Args:
        rows: gives the labels (n, width) from one row to another, excluded; asked for from top to bottom.
        dtype: uint8 or uint16.
        palette: uint8 (N, 3) colours of labels 0 to N - 1; of 8 bits only.
        nodata: the number of pixels without data.
        origin: where it lies on the earth, a `Raster.origin`.

    Raises:
        ValueError: the path has another ending.
        ImportError: a GeoTIFF takes rasterio, which isn't installed.
    """
    kind = Path(path).suffix.lower()
    if kind not in WRITERS:
        raise ValueError(f"labels are written as {', '.join(WRITERS)}; received the path {os.fspath(path)!r}")
    bands = (rows(top, min(top + _BLOCK, height)) for top in range(0, height, _BLOCK))
    with replacing(path) as temporary:
        WRITERS[kind](temporary, bands, height, width, np.dtype(dtype), palette, nodata, origin or {})


def _geotiff(path, bands, height, width, dtype, palette, nodata, origin) -> None:  # type: ignore[no-untyped-def]
    rasterio = import_rasterio("writing a GeoTIFF file")
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": dtype.name,
        "nodata": nodata,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "bigtiff": "IF_SAFER",
    }
    with rasterio.Env(**GDAL), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **origin) as file:
            if palette is not None and dtype == np.uint8:
                file.write_colormap(1, {label: (*map(int, colour), 255) for label, colour in enumerate(palette[:256])})
            top = 0
            for band in bands:
                file.write(band.astype(dtype, copy=False), 1, window=((top, top + len(band)), (0, width)))
                top += len(band)


def _png(path, bands, height, width, dtype, palette, nodata, origin) -> None:  # type: ignore[no-untyped-def]
    colour_type = 3 if palette is not None and dtype == np.uint8 else 0
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * dtype.itemsize, colour_type, 0, 0, 0))
        if colour_type == 3:
            _chunk(file, b"PLTE", np.asarray(palette[:256], np.uint8).tobytes())
        for data in _deflated(bands, dtype.newbyteorder(">")):
            _chunk(file, b"IDAT", data)
        _chunk(file, b"IEND", b"")


def _deflated(bands: Iterable[np.ndarray], dtype: np.dtype) -> Iterable[bytes]:
    """Rows, each behind the byte for "no filter", as parts of one stream."""
    stream = zlib.compressobj(6)
    for band in bands:
        rows = np.zeros((len(band), 1 + band.shape[1] * dtype.itemsize), np.uint8)
        rows[:, 1:] = np.ascontiguousarray(band.astype(dtype)).view(np.uint8).reshape(len(band), -1)
        if data := stream.compress(rows.tobytes()):
            yield data
    yield stream.flush()


def _chunk(file: BinaryIO, kind: bytes, contents: bytes) -> None:
    file.write(struct.pack(">I4s", len(contents), kind) + contents)
    file.write(struct.pack(">I", zlib.crc32(contents, zlib.crc32(kind))))


# Ending -> function from (path, bands, height, width, dtype, palette, nodata, origin); another format is a row here.
WRITERS: dict[str, Callable[..., None]] = {".tif": _geotiff, ".tiff": _geotiff, ".png": _png}
