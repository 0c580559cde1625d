"""Coarse scores to the labels of an image's rows, without the scores of every pixel."""

from collections.abc import Callable

import numpy as np

from keras_deeplab.inference.tiles.bilinear import taps


class Upsampling:
    """Scores (h, w, C) to labels (H, W) as they are after a bilinear resize to the image's size.

    Where the four positions around a pixel have one label, the pixel has it, for a bilinear mean keeps the order of
    what has the same order at all four. The scores of the others are computed, as TensorFlow's ResizeBilinear does:
    along rows, then between them.

    Args:
        grid: (h, w).
        size: (H, W).
        resize: convention of the resize, of `keras_deeplab.specs.RESIZES`.
        labels_of: scores (..., C) to labels (...); None for scores in place of labels.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        size: tuple[int, int],
        resize: str,
        labels_of: Callable[[np.ndarray], np.ndarray] | None,
    ) -> None:
        self._rows, self._columns = (taps(*pair, resize, 0, pair[1]) for pair in zip(grid, size, strict=True))
        self._labels_of = labels_of
        self._width = size[1]

    def rows_of(self, positions: int) -> int:
        """How many rows of the image the first `positions` rows of scores suffice for."""
        return int(np.searchsorted(self._rows.behind, positions))

    def first_position(self, row: int) -> int:
        """The first row of scores that a row of the image needs, and those below it."""
        return int(self._rows.before[min(row, len(self._rows.before) - 1)])

    def labels(self, scores: np.ndarray, first: int, top: int, bottom: int) -> np.ndarray:
        """Rows of scores (n, w, C) from position `first` on to the labels of the rows `top` to `bottom`, excluded."""
        coarse = None if self._labels_of is None else self._labels_of(scores)
        kind = scores if coarse is None else coarse
        found = np.empty((bottom - top, self._width, *kind.shape[2:]), kind.dtype)
        row = top
        while row < bottom:
            before, behind = self._rows.before[row], self._rows.behind[row]
            same = row + 1
            while same < bottom and self._rows.before[same] == before and self._rows.behind[same] == behind:
                same += 1
            part, pair = found[row - top : same - top], [before - first, behind - first]
            self._between(part, scores[pair], None if coarse is None else coarse[pair], self._rows.share[row:same])
            row = same
        return found

    def _between(self, found: np.ndarray, scores: np.ndarray, coarse: np.ndarray | None, shares: np.ndarray) -> None:
        """Fills rows between two rows of scores (2, w, C), and of their labels (2, w), by the second one's shares."""
        before, behind, share = self._columns
        if coarse is None:
            places = np.arange(self._width)
        else:
            label = coarse[0][before]
            others = (coarse[0][behind], coarse[1][before], coarse[1][behind])
            places = np.flatnonzero(np.logical_or.reduce([other != label for other in others]))
            found[:] = label
        if not len(places):
            return
        upper, lower = (
            _mix(each.take(before[places], 0), each.take(behind[places], 0), share[places, None]) for each in scores
        )
        lower -= upper
        for row, each in zip(found, shares, strict=True):
            values = lower * each
            values += upper
            if coarse is None or self._labels_of is None:
                row[:] = values
            else:
                row[places] = self._labels_of(values)


def _mix(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Between one and the other, which is overwritten."""
    other -= one
    other *= share
    other += one
    return other
