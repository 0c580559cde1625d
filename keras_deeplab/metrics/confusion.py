"""Pixels by label and prediction, and the scores that follow: intersection over union above all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_deeplab.metrics.label_maps import mean, plain, ratio, scored


class ConfusionMatrix:
    """Counts of pixels by (label, prediction), and the scores that follow from them.

    A pixel whose label is `ignore_label` is not counted. A class that occurs in neither labels nor predictions has
    no intersection over union: it is NaN in `iou` and left out of the means. Matrices of parts of a data set add up
    with `+` to that of the whole, which is how PASCAL VOC scores a set.

    Args:
        num_classes: number of classes; predictions must lie in 0..num_classes-1.
        ignore_label: the label that is not scored.
        classes: names of the classes, for `table`.

    Attributes:
        protocol: how the predictions came about, a line that `table` and `to_dict` tell; None where nobody said.

    >>> matrix = ConfusionMatrix(2)
    >>> matrix.update([[0, 0, 1, 255]], [[0, 1, 1, 0]])
    >>> matrix.iou.tolist(), matrix.mean_iou
    ([0.5, 0.5], 0.5)
    """

    def __init__(self, num_classes: int, ignore_label: int = 255, classes: Sequence[str] | None = None) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, received {num_classes}")
        self.num_classes = int(num_classes)
        self.ignore_label = int(ignore_label)
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"received {len(self.classes)} class names for {self.num_classes} classes")
        self.matrix = np.zeros((self.num_classes, self.num_classes), np.int64)
        self.protocol: str | None = None

    def update(self, labels: Any, predictions: Any) -> None:
        """Counts integer labels and predictions of one shape; which shape doesn't matter.

        Raises:
            ValueError: if the shapes differ, an array is not of integers, a label is neither a class nor
                `ignore_label`, or a prediction is not a class. Nothing is counted then.
        """
        if (counts := self._of_bytes(labels, predictions)) is not None:
            self.matrix += counts
            return
        labels, predictions, valid = scored(labels, predictions, self.num_classes, self.ignore_label)
        flat = labels[valid].astype(np.int64) * self.num_classes + predictions[valid].astype(np.int64)
        counts = np.bincount(flat, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.num_classes, self.num_classes)

    def _of_bytes(self, labels: Any, predictions: Any) -> Any:
        """The counts of uint8 maps, in a half of the time; None where there is something to refuse."""
        kinds = {getattr(each, "dtype", None) for each in (labels, predictions)}
        if kinds != {np.dtype(np.uint8)} or labels.shape != predictions.shape or self.num_classes > 256:
            return None
        pairs = labels.astype(np.uint16)
        pairs <<= 8
        pairs |= predictions
        counts = np.bincount(pairs.reshape(-1), minlength=1 << 16).reshape(256, 256)
        known = self.num_classes
        if counts[:, known:].any():
            return None
        if 0 <= self.ignore_label < 256:
            counts[self.ignore_label] = 0
        return None if counts[known:].any() else counts[:known, :known]

    def __add__(self, other: object) -> "ConfusionMatrix":
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if (self.num_classes, self.ignore_label) != (other.num_classes, other.ignore_label):
            raise ValueError(
                f"can't add confusion matrices of {self.num_classes} classes (ignored: {self.ignore_label}) and "
                f"{other.num_classes} classes (ignored: {other.ignore_label})"
            )
        total = ConfusionMatrix(self.num_classes, self.ignore_label, self.classes)
        total.matrix = self.matrix + other.matrix
        told = [each.protocol for each in (self, other) if each.protocol is not None]
        total.protocol = " | ".join(dict.fromkeys(told)) or None
        return total

    @property
    def num_pixels(self) -> int:
        """How many pixels were scored."""
        return int(self.matrix.sum())

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 (num_classes,); NaN for a class that never occurs."""
        intersection = np.diagonal(self.matrix)
        union = self.matrix.sum(0) + self.matrix.sum(1) - intersection
        return ratio(intersection, union)

    @property
    def accuracy(self) -> np.ndarray:
        """Share of each class's pixels that are predicted right, float64 (num_classes,); NaN without pixels."""
        return ratio(np.diagonal(self.matrix), self.matrix.sum(1))

    @property
    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that occur in labels or predictions; NaN when no pixel was scored."""
        return mean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `accuracy` over the classes that have pixels; NaN when no pixel was scored."""
        return mean(self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the scored pixels that are predicted right; NaN when no pixel was scored."""
        return float(ratio(np.trace(self.matrix), self.matrix.sum()))

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of `iou` weighted with each class's share of the labels; NaN when no pixel was scored."""
        pixels = self.matrix.sum(1)
        occurs = pixels > 0
        if not occurs.any():
            return float("nan")
        return float(np.sum(pixels[occurs] * self.iou[occurs]) / pixels.sum())

    def table(self, classes: Sequence[str] | None = None) -> str:
        """The scores as lines of text: a line for each class, then the totals.

        Args:
            classes: names of the classes; None for the matrix's own, or numbers where it has none.

        Raises:
            ValueError: if there is not one name for each class.
        """
        classes = self.classes if classes is None else classes
        names = [str(index) for index in range(self.num_classes)] if classes is None else list(classes)
        if len(names) != self.num_classes:
            raise ValueError(f"received {len(names)} class names for {self.num_classes} classes")
        totals = [
            ("mean IoU", self.mean_iou),
            ("pixel accuracy", self.pixel_accuracy),
            ("mean accuracy", self.mean_accuracy),
            ("frequency weighted IoU", self.frequency_weighted_iou),
        ]
        width = max(len(text) for text in ["class", *names, *(name for name, _ in totals)])
        share = ratio(self.matrix.sum(1), self.matrix.sum())
        lines = [f"{'class':<{width}}  {'IoU':>6}  {'accuracy':>8}  {'% of pixels':>11}"]
        for name, iou, accuracy, part in zip(names, self.iou, self.accuracy, share, strict=True):
            lines.append(f"{name:<{width}}  {_shown(iou):>6}  {_shown(accuracy):>8}  {_shown(100 * part, 2):>11}")
        lines.append("-" * len(lines[0]))
        lines += [f"{name:<{width}}  {_shown(value):>6}" for name, value in totals]
        lines.append(f"{self.num_pixels} pixels; '-' marks a class that does not occur and is in no mean")
        if self.protocol is not None:
            lines.append(f"protocol: {self.protocol}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The scores and the matrix as plain numbers and lists, for JSON; None stands for NaN."""
        return {
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "num_pixels": self.num_pixels,
            "mean_iou": plain(self.mean_iou),
            "pixel_accuracy": plain(self.pixel_accuracy),
            "mean_accuracy": plain(self.mean_accuracy),
            "frequency_weighted_iou": plain(self.frequency_weighted_iou),
            "iou": [plain(value) for value in self.iou],
            "accuracy": [plain(value) for value in self.accuracy],
            "matrix": self.matrix.tolist(),
            "protocol": self.protocol,
        }

    def __repr__(self):
        return (
            f"<ConfusionMatrix of {self.num_classes} classes, {self.num_pixels} pixels, mean IoU {self.mean_iou:.4f}>"
        )


def _shown(value, digits=4):
    return "-" if np.isnan(value) else f"{value:.{digits}f}"
