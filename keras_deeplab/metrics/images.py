"""The scores of single images, and from them how far chance in the choice of images could move a mean IoU."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_deeplab.metrics.confusion import ConfusionMatrix
from keras_deeplab.metrics.label_maps import check_like, mean, ratio

_AT_ONCE = 500  # resamples
_FEWEST = 5  # images that a class must occur in for an interval: of one image, the draws are all the same


@dataclass(frozen=True)
class Intervals:
    """What of a score lies between, in all but a few of the resampled sets of images.

    Attributes:
        level: the share that lies within, 0.95.
        mean_iou: (low, high) of the mean IoU, or of the difference of two.
        iou: float64 (num_classes, 2), of each class; NaN for one in fewer than five images, of which draws tell
            nothing.
    """

    level: float
    mean_iou: tuple[float, float]
    iou: np.ndarray


class ImageScores:
    """The intersection and the union of each class in each image.

    `+` puts the images of parts of a data set behind one another.

    Args:
        num_classes: number of classes.

    Attributes:
        intersections, unions: int64 (images, num_classes).
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = int(num_classes)
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, matrix: ConfusionMatrix) -> None:
        """Puts down the counts of one image."""
        check_like(self, matrix, "num_classes")
        right = np.diagonal(matrix.matrix).copy()
        self._rows.append((right, matrix.matrix.sum(0) + matrix.matrix.sum(1) - right))

    def __len__(self) -> int:
        return len(self._rows)

    def __add__(self, other: object) -> "ImageScores":
        if not isinstance(other, ImageScores):
            return NotImplemented
        check_like(self, other, "num_classes")
        total = ImageScores(self.num_classes)
        total._rows = self._rows + other._rows
        return total

    @property
    def intersections(self) -> np.ndarray:
        return np.array([row[0] for row in self._rows], np.int64).reshape(-1, self.num_classes)

    @property
    def unions(self) -> np.ndarray:
        return np.array([row[1] for row in self._rows], np.int64).reshape(-1, self.num_classes)

    @property
    def mean_iou(self) -> np.ndarray:
        """Of each image, over the classes that occur in it or are predicted; float64 (images,), NaN without pixels."""
        return np.array([mean(iou) for iou in ratio(self.intersections, self.unions)])

    def intervals(
        self, less: "ImageScores | None" = None, resamples: int = 2000, level: float = 0.95, seed: int = 0
    ) -> Intervals:
        """The bootstrap's percentile intervals: of the scores of sets of as many images, drawn with replacement.

        They say what another choice of images of the same kind could give, and nothing of another training.

        Args:
            less: the scores of another model of the same images in the same order; then the intervals are those of the
                difference, self less it, both on the same draws.
            resamples: how many sets are drawn.
            level: the share that lies within.
            seed: of the draws.

        Raises:
            ValueError: there are no images, or the other has other numbers of images or classes.
        """
        if not len(self):
            raise ValueError("there are no images to draw from")
        if less is not None and (len(less), less.num_classes) != (len(self), self.num_classes):
            raise ValueError(
                f"a difference needs the same images and classes; received {len(self)} images of {self.num_classes} "
                f"classes and {len(less)} of {less.num_classes}"
            )
        means, ious = [], []
        both = [scores._resampled(resamples, seed) for scores in (self, *filter(None, [less]))]
        for drawn in zip(*both, strict=True):
            one = [(_means(iou), iou) for iou in drawn]
            means.append(one[0][0] - one[1][0] if less is not None else one[0][0])
            ious.append(one[0][1] - one[1][1] if less is not None else one[0][1])
        low, high = _bounds(np.concatenate(means)[:, None], level)[0]
        often = ((self.unions > 0) | (False if less is None else less.unions > 0)).sum(0)
        bounds = np.where(often[:, None] >= _FEWEST, _bounds(np.concatenate(ious), level), np.nan)
        return Intervals(level, (float(low), float(high)), bounds)

    def _resampled(self, resamples: int, seed: int) -> Iterator[np.ndarray]:
        """The IoU of each class in each of the drawn sets, float64 (some, num_classes)."""
        generator, count = np.random.default_rng(seed), len(self)
        counts = [part.astype(np.float64) for part in (self.intersections, self.unions)]
        for first in range(0, resamples, _AT_ONCE):
            size = min(_AT_ONCE, resamples - first)
            often = generator.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
            yield ratio(often @ counts[0], often @ counts[1])


def _means(iou: np.ndarray) -> np.ndarray:
    known = ~np.isnan(iou)
    return ratio(np.where(known, iou, 0.0).sum(1), known.sum(1))


def _bounds(values: np.ndarray, level: float) -> np.ndarray:
    """The percentiles that hold a share of each column (draws, columns), NaN left out: float64 (columns, 2)."""
    found = np.full((values.shape[1], 2), np.nan)
    for place, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if known.size:
            found[place] = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return found
