"""Scores of tiles, in reading order, to scores of the image: what overlaps is mixed, what is done is given out."""

from typing import NamedTuple

import numpy as np

from keras_deeplab.inference.tiles.plan import Span


class Positions(NamedTuple):
    """A `Span` in positions of the scores; `low` and `high` count in the image, `skip` in the tile."""

    skip: int
    low: int
    high: int
    fade_in: int
    fade_out: int

    @classmethod
    def of(cls, span: Span, stride: int, size: int) -> "Positions":
        """A span's positions that count, of `size` that the image has, `stride` pixels apart."""
        low, high = -(-span.low // stride), min(-(-span.high // stride), size)
        return cls(low - span.start // stride, low, high, span.fade_in // stride, span.fade_out // stride)

    @property
    def length(self) -> int:
        return self.high - self.low

    def weights(self) -> np.ndarray:
        """Float32 (length,): rises over `fade_in`, falls over `fade_out`; neighbours' add up to 1."""
        found = np.ones(self.length, np.float32)
        if self.fade_in:
            found[: self.fade_in] = _rising(self.fade_in)
        if self.fade_out:
            found[self.length - self.fade_out :] = 1 - _rising(self.fade_out)
        return found


class Seams:
    """Mixes neighbours' scores where they overlap. What waits for a neighbour is a strip of a tile and a band of rows.

    Args:
        width: positions of the image across.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._strip: np.ndarray | None = None
        self._band: np.ndarray | None = None
        self._next: np.ndarray | None = None

    def add(self, scores: np.ndarray, rows: Positions, columns: Positions) -> np.ndarray:
        """A tile's scores (t, u, C) to those, from (rows.low, columns.low) on, that are done; tiles come in order."""
        part = scores[rows.skip : rows.skip + rows.length, columns.skip : columns.skip + columns.length]
        if rows.fade_in or rows.fade_out or columns.fade_in or columns.fade_out:
            part = part * (rows.weights()[:, None, None] * columns.weights()[None, :, None])
        if columns.fade_in and self._strip is not None:
            part[:, : columns.fade_in] += self._strip
        keep = columns.length - columns.fade_out
        self._strip = part[:, keep:].copy() if columns.fade_out else None
        part = part[:, :keep]
        across = slice(columns.low, columns.low + keep)
        if rows.fade_in and self._band is not None:
            part[: rows.fade_in] += self._band[:, across]
        if rows.fade_out:
            if self._next is None:
                self._next = np.empty((rows.fade_out, self._width, part.shape[-1]), part.dtype)
            self._next[:, across] = part[rows.length - rows.fade_out :]
        return part[: rows.length - rows.fade_out]

    def end_row(self) -> None:
        """The next tile is the first one of the row of tiles below."""
        self._band, self._next, self._strip = self._next, None, None


def _rising(count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) / count).astype(np.float32)
