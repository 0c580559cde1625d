"""Where on the earth an image lies: GeoTIFF files in and out, by rasterio, which comes with an extra."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_deeplab.data import tiff
from keras_deeplab.inference.rasters.reading import import_rasterio


@dataclass(frozen=True)
class Place:
    """The georeference of an image.

    Attributes:
        transform: six numbers (a, b, c, d, e, f): the pixels' column x and row y are on the map at
            (a * x + b * y + c, d * x + e * y + f), whole numbers being the pixels' corners.
        crs: rasterio's record of the map's coordinates; None where the file tells none.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: Any = None

    def mapped(self, corners: np.ndarray) -> np.ndarray:
        """Corners (N, 2) of pixels, x and y, to float64 (N, 2) on the map."""
        a, b, c, d, e, f = self.transform
        x, y = np.asarray(corners, np.float64).T
        return np.stack([a * x + b * y + c, d * x + e * y + f], -1)

    @property
    def mirrors(self) -> bool:
        """Whether what turns left on the map turns right in the numbers of rows and columns; north up it does."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d < 0

    @property
    def square_metres(self) -> float | None:
        """The area of a pixel; None where the map's coordinates are no lengths, such as degrees."""
        if self.crs is None or not self.crs.is_projected:
            return None
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d) * float(self.crs.linear_units_factor[1]) ** 2

    @property
    def crs_name(self) -> str | None:
        """How a GeoJSON file calls the coordinates; None for longitude and latitude (WGS 84), which are its own."""
        if self.crs is None:
            return None
        code = self.crs.to_epsg()
        if code == 4326:
            return None
        return str(self.crs.to_wkt()) if code is None else f"urn:ogc:def:crs:EPSG::{code}"


def place_of(data: bytes) -> Place | None:
    """The bytes of an image file to where it lies; None where they don't tell.

    Raises:
        ImportError: it is a GeoTIFF, and rasterio isn't installed.
        ValueError: it can't be read.
    """
    if not tiff.is_georeferenced(data):
        return None
    rasterio = import_rasterio("reading where a GeoTIFF lies")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.MemoryFile(data) as memory, memory.open() as file:
                if file.crs is None and file.transform.is_identity:
                    return None
                a, b, c, d, e, f = tuple(file.transform)[:6]
                return Place((a, b, c, d, e, f), file.crs)
    except rasterio.errors.RasterioError as error:
        raise ValueError(f"has a georeference that can't be read ({error})") from error


def geotiff(array: np.ndarray, place: Place, names: Sequence[str] = ()) -> bytes:
    """An array (H, W) or (H, W, bands) to the bytes of a GeoTIFF file at that place, with names of its bands."""
    rasterio = import_rasterio("writing a GeoTIFF file")
    bands = array[..., None] if array.ndim == 2 else array
    height, width, count = bands.shape
    settings: dict[str, Any] = {"compress": "deflate", "predictor": 3 if bands.dtype.kind == "f" else 1}
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype=bands.dtype.name,
            crs=place.crs,
            transform=rasterio.Affine(*place.transform),
            BIGTIFF="IF_SAFER",
            **settings,
        ) as file:
            for band in range(count):
                file.write(bands[..., band], band + 1)
            if names:
                file.descriptions = tuple(names)
        return memory.read()
