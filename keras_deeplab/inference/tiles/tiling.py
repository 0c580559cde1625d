"""One image by tiles: from its pixels, row of tiles by row of tiles, to its labels from top to bottom."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_deeplab.inference import answers
from keras_deeplab.inference.rasters.base import Pixels, Read
from keras_deeplab.inference.runtimes.base import LABELS, PADDING
from keras_deeplab.inference.tiles.plan import Span, spans
from keras_deeplab.inference.tiles.seams import Positions, Seams
from keras_deeplab.inference.tiles.sources import Source
from keras_deeplab.inference.tiles.upsampling import Upsampling
from keras_deeplab.specs import ModelSpec

TILE = 2048
_KEPT = 256 << 20  # bytes of what the first of two passes leaves for the second


class Tiling:
    """The tiles of an image, and how its labels are made of them.

    Args:
        source: what gives scores on a tile.
        height, width: of the image.
        labels_of: scores (..., C), and what they are, to labels (...); None for scores in place of labels.
        tile: (height, width) of a tile at most.
        halo: pixels that a tile sees beyond the part whose labels are its own; None for as many as the model sees where
            that leaves at least half of the tile, else an eighth of the tile. It is rounded up to the model's grid.

    Attributes:
        rows, columns: the tiles along both axes.
        halo: in pixels, 0 for one tile.
        exact: whether labels are those of the whole image, but for the rounding of numbers.
        reason: why they aren't, or None.

    Raises:
        ValueError: a tile is all halo.
    """

    def __init__(
        self,
        source: Source,
        height: int,
        width: int,
        labels_of: Callable[[np.ndarray, str], np.ndarray] | None,
        tile: tuple[int, int] | None = None,
        halo: int | None = None,
    ) -> None:
        self.source, self.size = source, (height, width)
        self._labels_of = labels_of
        fixed = source.fixed is not None
        tile = source.fixed or tile or (TILE, TILE)
        one = all(size <= most for size, most in zip(self.size, tile, strict=True))
        self.halo, self.reason = (0, None) if one else _halo(source, self.size, tile, halo)
        self.exact = self.reason is None
        fade = 0 if self.exact or source.returns == LABELS else self.halo
        self.rows, self.columns = (
            spans(size, most, self.halo, source.unit, fade, fixed) for size, most in zip(self.size, tile, strict=True)
        )
        self._scorer = source.on(*self.size)
        self._kept: dict[tuple[int, int], list[Any]] = {}
        self._empty: np.ndarray | None = None  # the scores of tiles without data, whose labels nobody looks at

    @property
    def tile(self) -> tuple[int, int]:
        return self.rows[0].stop - self.rows[0].start, self.columns[0].stop - self.columns[0].start

    @property
    def passes(self) -> int:
        """How often the image is read: twice where means over the whole image come first."""
        return 1 + self._scorer.first_pass

    def described(self) -> str:
        """The plan in words."""
        count = f"{len(self.rows)}x{len(self.columns)} tiles" if len(self.rows) * len(self.columns) > 1 else "one tile"
        parts = [f"{count} of {self.tile[0]}x{self.tile[1]} pixels (height x width)"]
        if self.halo:
            parts.append(f"with a halo of {self.halo} pixels")
        if self.passes > 1:
            parts.append("after a pass for the means over the image")
        whole = "labels are the whole image's" if self.exact else f"not exactly the whole image's labels: {self.reason}"
        return f"{', '.join(parts)}; {whole}"

    def means(self, read: Read, tick: Callable[[], object] = lambda: None) -> Sequence[np.ndarray] | None:
        """Finds the means over the image, where the model has them, and returns their sums, for `resume`."""
        if not self._scorer.first_pass:
            return None
        tiles = len(self.rows) * len(self.columns)
        self._scorer.sums = None
        for row, rows in enumerate(self.rows):
            pixels = read(rows.start, min(rows.stop, self.size[0]))
            for column, columns in enumerate(self.columns):
                kept = self._scorer.first(_tile(pixels, columns), rows, columns)
                if tiles * sum(math.prod(each.shape) * 4 for each in kept) <= _KEPT:
                    self._kept[row, column] = kept
                tick()
        self._scorer.close()
        return self._scorer.sums

    def resume(self, sums: Sequence[np.ndarray] | None) -> None:
        """Takes the sums that an earlier `means` returned."""
        if self._scorer.first_pass:
            self._scorer.close(sums)

    def labels(
        self, read: Read, start: int = 0, tick: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yields (tiles' rows that are done, first row, labels (n, W)) for each row of tiles, from row `start` on.

        What a row of tiles needs of the one above it is made again where it starts below the first.
        """
        stride, grid = self.source.stride, self._scorer.grid
        if self.source.fixed is not None:
            grid = (self.rows[-1].stop, self.columns[-1].stop)
        seams, sink = Seams(grid[1]), _Sink(self, grid)
        for row in range(max(0, start - 1), len(self.rows)):
            rows = self.rows[row]
            pixels = read(rows.start, min(rows.stop, self.size[0]))
            places = Positions.of(rows, stride, grid[0])
            for column, columns in enumerate(self.columns):
                across = Positions.of(columns, stride, grid[1])
                part = seams.add(self._scores(pixels, row, column), places, across)
                sink.add(part, places.low, across.low)
                tick()
            seams.end_row()
            top, labels = sink.end_row(quiet=row < start)
            if row >= start:
                yield row + 1, top, labels

    def all(self, read: Read, tick: Callable[[], object] = lambda: None) -> np.ndarray:
        """The labels (H, W) of the whole image."""
        self.means(read, tick)
        found: np.ndarray | None = None
        for _, top, labels in self.labels(read, tick=tick):
            if found is None:
                found = np.empty((*self.size, *labels.shape[2:]), labels.dtype)
            found[top : top + len(labels)] = labels
        assert found is not None
        return found

    def _scores(self, pixels: Pixels, row: int, column: int) -> np.ndarray:
        rows, columns = self.rows[row], self.columns[column]
        if self._empty is not None and not _has_data(pixels, columns):
            return self._empty
        kept = self._kept.pop((row, column), None)
        found = self._scorer.scores(_tile(pixels, columns), rows, columns, kept)
        if pixels.valid is not None and self._empty is None:
            self._empty = np.zeros_like(found)
        return found


def labels_by(spec: ModelSpec | None, threshold: float) -> Callable[[np.ndarray, str], np.ndarray]:
    """Scores (..., C), and what they are, to a model's labels (...)."""

    def labels_of(scores: np.ndarray, returns: str) -> np.ndarray:
        if returns == LABELS or spec is None:
            return scores[..., 0].astype(np.uint8 if scores.max(initial=0) < 256 else np.int32)
        if spec.exclusive:  # as there, without a way to a tensor and back for every row
            return scores.argmax(-1).astype(spec.label_dtype)
        return keras.ops.convert_to_numpy(answers.labels_of(scores, spec, returns, threshold))

    return labels_of


class _Sink:
    """Scores that are done, region by region, to labels of whole rows."""

    def __init__(self, tiling: Tiling, grid: tuple[int, int]) -> None:
        self._tiling, self._grid = tiling, grid
        self._block: np.ndarray | None = None
        self._low = self._done = 0
        # Rows of coarse scores that rows of labels still need, and where they start.
        self._rows: np.ndarray | None = None
        self._first = 0
        resize = tiling.source.resize
        self._upsampling = None
        if resize is not None:
            make = None if tiling._labels_of is None else self._labels_of
            self._upsampling = Upsampling(grid, tiling.size, resize, make)

    def _labels_of(self, scores: np.ndarray) -> np.ndarray:
        make = self._tiling._labels_of
        return scores if make is None else make(scores, self._tiling.source.returns)

    def add(self, part: np.ndarray, low: int, left: int) -> None:
        found = part if self._upsampling is not None else self._labels_of(part)
        if self._block is None:
            self._block = np.empty((len(found), self._grid[1], *found.shape[2:]), found.dtype)
            self._low = low
        self._block[:, left : left + found.shape[1]] = found

    def end_row(self, quiet: bool) -> tuple[int, np.ndarray]:
        """(first row, labels (n, W)) that are done; with `quiet` the labels aren't made."""
        block, self._block = self._block, None
        assert block is not None
        height, width = self._tiling.size
        if self._upsampling is None:
            top = self._low
            self._done = min(top + len(block), height)
            return top, block[: self._done - top, :width]
        if self._rows is None:
            self._rows, self._first = block, self._low
        else:
            self._rows = np.concatenate([self._rows, block])
        top, self._done = self._done, self._upsampling.rows_of(self._first + len(self._rows))
        labels = block[:0]
        if not quiet:
            labels = self._upsampling.labels(self._rows, self._first, top, self._done)
        needed = min(self._upsampling.first_position(self._done), self._first + len(self._rows)) - self._first
        self._rows, self._first = self._rows[max(0, needed) :].copy(), self._first + max(0, needed)
        return top, labels


def _halo(source: Source, size: tuple[int, int], tile: tuple[int, int], halo: int | None) -> tuple[int, str | None]:
    """The halo, and why labels aren't the whole image's, or None."""
    several = [most for side, most in zip(size, tile, strict=True) if side > most]
    if halo is None:
        if source.reach is not None and source.differs is None and 4 * source.reach <= min(several):
            halo = source.reach
        else:
            halo = min(several) // 8
    halo = -(-halo // source.unit) * source.unit
    if source.differs is not None:
        reason: str | None = source.differs
    elif source.reach is None:
        reason = "nothing tells how far the model sees"
    elif halo < source.reach:
        reason = f"the model sees up to {source.reach} pixels far, and the halo has {halo}"
    else:
        return halo, None
    return -(-halo // (2 * source.unit)) * 2 * source.unit, reason


def _has_data(pixels: Pixels, columns: Span) -> bool:
    return pixels.valid is None or bool(pixels.valid[:, columns.start : columns.stop].any())


def _tile(pixels: Pixels, columns: Span) -> np.ndarray:
    """The pixels of a tile, float32 (1, T, U, channels), with 127.5 where there is no data."""
    images = pixels.images[None, :, columns.start : columns.stop].astype(np.float32)
    if pixels.valid is not None:
        images[0][~pixels.valid[:, columns.start : columns.stop]] = PADDING
    return images
