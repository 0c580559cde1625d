"""What readers of bands share: pixels with where there is data, a raster, and bands that overlap read once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np


class Pixels(NamedTuple):
    """Rows of an image: uint8 or float (n, W, channels) in 0..255, and where there is data, bool (n, W), or None."""

    images: np.ndarray
    valid: np.ndarray | None


Read = Callable[[int, int], Pixels]


class Raster(ABC):
    """An image in a file, read in bands from top to bottom; a context manager.

    Attributes:
        height, width: in pixels.
        origin: where it lies on the earth, as rasterio's profiles have it (`crs`, `transform`); {} where nothing tells.
        streams: whether a band is read without the rest of the file in memory.
    """

    height: int
    width: int
    origin: Mapping[str, Any] = {}
    streams: bool = True

    @abstractmethod
    def read(self, top: int, bottom: int) -> Pixels:
        """The rows from `top` to `bottom`, excluded, uint8, as the model takes them."""

    def close(self) -> None:  # noqa: B027
        """Gives back what is open; nothing here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Rolling:
    """Bands that overlap, of which each row is read once, and what of them has data, until it is asked for.

    Args:
        read: gives any band.
        ask: whether `valid` will be called, for which that is kept.
    """

    def __init__(self, read: Read, ask: bool = True) -> None:
        self._read, self._ask = read, ask
        self._top = self._bottom = 0
        self._pixels: Pixels | None = None
        self._valid: list[tuple[int, np.ndarray]] = []

    def __call__(self, top: int, bottom: int) -> Pixels:
        """The rows from `top` to `bottom`, excluded. A band that starts above the last one starts anew."""
        old = self._pixels
        if old is None or top < self._top or top > self._bottom:
            found = self._read(top, bottom)
            self._valid = []
            self._keep(top, found.valid)
        else:
            found = Pixels(old.images[top - self._top :], None if old.valid is None else old.valid[top - self._top :])
            if bottom > self._bottom:
                more = self._read(self._bottom, bottom)
                images = np.concatenate([found.images, more.images])
                valid = None
                if more.valid is not None and found.valid is not None:
                    self._keep(self._bottom, more.valid)
                    valid = np.concatenate([found.valid, more.valid])
                found = Pixels(images, valid)
        self._top, self._bottom, self._pixels = top, top + len(found.images), found
        return Pixels(found.images[: bottom - top], None if found.valid is None else found.valid[: bottom - top])

    def _keep(self, top: int, valid: np.ndarray | None) -> None:
        if self._ask and valid is not None:
            self._valid.append((top, valid))

    def valid(self, top: int, bottom: int) -> np.ndarray | None:
        """Where rows that were read have data, bool (n, W); None for everywhere. Those above are forgotten."""
        self._valid = [(start, rows) for start, rows in self._valid if start + len(rows) > top]
        if not self._valid:
            return None
        start = self._valid[0][0]
        return np.concatenate([rows for _, rows in self._valid])[top - start : bottom - start]
