"""Whether a model is as often right as it is sure: reliability and the expected calibration error."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_deeplab.metrics.label_maps import check_like, plain, ratio, scored

BINS = 15
# Confidences are added up in whole numbers of this part, so that sums don't depend on their order. A float32 from 1/2
# to 1 is such a number itself.
_UNIT = 2**24


@dataclass(frozen=True)
class Reliability:
    """For each bin of confidence, low to high: how many pixels it has, how sure of them the model was, how right.

    Attributes:
        pixels: int64 (bins,).
        confidence, accuracy: float64 (bins,), means over the pixels; NaN in a bin without any.
    """

    pixels: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class Calibration:
    """Counts of pixels, of right ones and of confidence, by predicted class and by bin of confidence.

    The confidence of a pixel is the probability of the class that is predicted for it. Bins have equal widths, and a
    value between two belongs to the lower one, as in Guo et al. (2017). The expected calibration error is the mean
    over the pixels of how far their bin's accuracy is from its confidence; that of a class is over the pixels that are
    predicted to be of it. Ignored pixels are not counted. Counts of parts of a data set add up with `+`, exactly.

    Args:
        num_classes: number of classes; predictions must lie in 0..num_classes-1.
        bins: number of bins.
        ignore_label: the label that is not scored.

    Attributes:
        pixels, right: int64 (num_classes, bins), by predicted class.
        confidence: int64 (num_classes, bins), sums of confidences in parts of 2**-24.

    >>> found = Calibration(2, bins=2)
    >>> found.update([0, 0, 1, 1], [0, 0, 0, 1], np.array([1.0, 0.75, 0.75, 0.5]))
    >>> found.error, found.errors.round(3).tolist()
    (0.25, [0.167, 0.5])
    """

    def __init__(self, num_classes: int, bins: int = BINS, ignore_label: int = 255) -> None:
        if bins < 1:
            raise ValueError(f"bins must be at least 1; received {bins}")
        self.num_classes = int(num_classes)
        self.bins = int(bins)
        self.ignore_label = int(ignore_label)
        shape = (self.num_classes, self.bins)
        self.pixels, self.right, self.confidence = (np.zeros(shape, np.int64) for _ in range(3))

    def update(self, labels: Any, predictions: Any, confidence: Any) -> None:
        """Counts integer labels, predictions and the probabilities of the predictions, all of one shape.

        Raises:
            ValueError: as `ConfusionMatrix.update`, or confidences have another shape or are no probabilities. Nothing
                is counted then.
        """
        labels, predictions, valid = scored(labels, predictions, self.num_classes, self.ignore_label)
        confidence = np.asarray(confidence)
        if confidence.shape != labels.shape or not np.issubdtype(confidence.dtype, np.floating):
            raise ValueError(
                f"confidence must be the probability of each of {labels.shape} predictions, received "
                f"{confidence.dtype} of shape {confidence.shape}"
            )
        confidence = confidence[valid]
        if confidence.size and not (confidence.min() >= 0.0 and confidence.max() <= 1.0 + 1e-5):
            raise ValueError(
                f"confidence must lie in 0..1, received {confidence.min()} to {confidence.max()}: pass probabilities, "
                "not logits"
            )
        # A softmax may end a little above 1.
        units = np.rint(np.minimum(confidence, 1.0).astype(np.float64) * _UNIT)
        place = np.maximum(units.astype(np.int64) * self.bins - 1, 0) // _UNIT
        place += predictions[valid].astype(np.int64) * self.bins
        right = labels[valid] == predictions[valid]
        # Sums of whole numbers below 2**53 are exact in float64, and integers add up what is longer.
        for total, weights in ((self.pixels, None), (self.right, right), (self.confidence, units)):
            total += np.bincount(place, weights, self.pixels.size).astype(np.int64).reshape(total.shape)

    def __add__(self, other: object) -> "Calibration":
        if not isinstance(other, Calibration):
            return NotImplemented
        check_like(self, other, "num_classes", "bins", "ignore_label")
        total = Calibration(self.num_classes, self.bins, self.ignore_label)
        for name in ("pixels", "right", "confidence"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def reliability(self, label: int | None = None) -> Reliability:
        """The bins of the pixels that are predicted to be of a class, or of all."""
        parts = (self.pixels, self.right, self.confidence)
        pixels, right, confidence = (part.sum(0) if label is None else part[label] for part in parts)
        return Reliability(pixels, ratio(confidence / _UNIT, pixels), ratio(right, pixels))

    @property
    def num_pixels(self) -> int:
        """How many pixels were scored."""
        return int(self.pixels.sum())

    @property
    def error(self) -> float:
        """Expected calibration error of all pixels, 0 at best and 1 at worst; NaN when no pixel was scored."""
        return float(self._error(*(part.sum(0) for part in (self.pixels, self.right, self.confidence))))

    @property
    def errors(self) -> np.ndarray:
        """Expected calibration error of each predicted class, float64 (num_classes,); NaN for one never predicted."""
        return self._error(self.pixels, self.right, self.confidence)

    @staticmethod
    def _error(pixels: np.ndarray, right: np.ndarray, confidence: np.ndarray) -> Any:
        # A bin's share times its distance: the pixels of the bin fall out.
        return ratio(np.abs(right - confidence / _UNIT).sum(-1), pixels.sum(-1))

    @property
    def overconfidence(self) -> np.ndarray:
        """Mean confidence less accuracy of each predicted class, float64 (num_classes,): above 0 where too sure."""
        return ratio(self.confidence.sum(1) / _UNIT - self.right.sum(1), self.pixels.sum(1))

    @property
    def mean_overconfidence(self) -> float:
        """The same of all pixels; NaN when no pixel was scored."""
        return float(ratio(self.confidence.sum() / _UNIT - self.right.sum(), self.pixels.sum()))

    def to_dict(self) -> dict[str, Any]:
        """The errors and the bins of all pixels as plain numbers and lists, for JSON; None stands for NaN."""
        bins = self.reliability()
        return {
            "bins": self.bins,
            "error": plain(self.error),
            "errors": [plain(value) for value in self.errors],
            "overconfidence": [plain(value) for value in self.overconfidence],
            "pixels": bins.pixels.tolist(),
            "confidence": [plain(value) for value in bins.confidence],
            "accuracy": [plain(value) for value in bins.accuracy],
        }
