"""Coarse scores to the labels of an image's rows, without the scores of every pixel."""

from collections.abc import Callable

import numpy as np

from keras_deeplab.inference.tiles.bilinear import Taps, taps

_PIXELS = 1 << 17  # whose scores are made at once
_ROWS = 1 << 22  # pixels whose corners are compared at once


class Upsampling:
    """Scores (h, w, C) to labels (H, W) as they are after a bilinear resize to the image's size.

    Where the four positions around a pixel have one label, the pixel has it, for a bilinear mean keeps the order of
    what has the same order at all four. The scores of the others are computed.

    Args:
        grid: (h, w).
        size: (H, W).
        align_corners: convention of the resize.
        labels_of: scores (..., C) to labels (...); None for scores in place of labels.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        size: tuple[int, int],
        align_corners: bool,
        labels_of: Callable[[np.ndarray], np.ndarray] | None,
    ) -> None:
        self._rows, self._columns = (taps(*pair, align_corners, 0, pair[1]) for pair in zip(grid, size, strict=True))
        self._labels_of = labels_of

    def rows_of(self, positions: int) -> int:
        """How many rows of the image the first `positions` rows of scores suffice for."""
        return int(np.searchsorted(self._rows.behind, positions))

    def first_position(self, row: int) -> int:
        """The first row of scores that a row of the image needs, and those below it."""
        return int(self._rows.before[min(row, len(self._rows.before) - 1)])

    def labels(self, scores: np.ndarray, first: int, top: int, bottom: int) -> np.ndarray:
        """Rows of scores (n, w, C) from position `first` on to the labels of the rows `top` to `bottom`, excluded."""
        if self._labels_of is None:
            return self._scores(scores, first, top, bottom)
        coarse = self._labels_of(scores)
        step = max(1, _ROWS // len(self._columns.before))
        parts = [self._few(scores, coarse, first, row, min(row + step, bottom)) for row in range(top, bottom, step)]
        return np.concatenate(parts) if parts else np.empty((0, len(self._columns.before)), coarse.dtype)

    def _scores(self, scores: np.ndarray, first: int, top: int, bottom: int) -> np.ndarray:
        found = np.empty((bottom - top, len(self._columns.before), scores.shape[-1]), scores.dtype)
        for row in range(top, bottom):
            rows = (self._rows.before[row] - first, self._rows.behind[row] - first)
            columns = self._columns
            upper, lower = (
                _mix(scores[each, columns.before], scores[each, columns.behind], columns.share) for each in rows
            )
            found[row - top] = _mix(upper, lower, self._rows.share[row : row + 1])
        return found

    def _few(self, scores: np.ndarray, coarse: np.ndarray, first: int, top: int, bottom: int) -> np.ndarray:
        rows, columns = Taps(*(each[top:bottom] for each in self._rows)), self._columns
        rows = Taps(rows.before - first, rows.behind - first, rows.share)
        labels_of = self._labels_of
        assert labels_of is not None
        found = np.ascontiguousarray(coarse[rows.before][:, columns.before])
        corners = [coarse[down][:, across] for down in rows[:2] for across in columns[:2]][1:]
        mixed = np.zeros(found.shape, bool)
        for corner in corners:
            mixed |= corner != found
        places = np.flatnonzero(mixed)
        for start in range(0, len(places), _PIXELS):
            down, across = np.divmod(places[start : start + _PIXELS], found.shape[1])
            found.flat[places[start : start + _PIXELS]] = labels_of(
                _between(scores, Taps(*(each[down] for each in rows)), Taps(*(each[across] for each in columns)))
            )
        return found


def _between(scores: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """The scores (n, C) of n pixels, in the order of TensorFlow's ResizeBilinear."""
    upper, lower = (
        _mix(scores[down, columns.before], scores[down, columns.behind], columns.share) for down in rows[:2]
    )
    return _mix(upper, lower, rows.share)


def _mix(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    other -= one
    other *= share[:, None]
    other += one
    return other
