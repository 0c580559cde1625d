"""Intersection over union from a confusion matrix, in NumPy for evaluation and as a Keras metric for training."""

import keras
import numpy as np
from keras import ops

# Counts are held as high * _WORD + low in two float32 variables. Both stay far under 2**24, where float32 stops
# counting, so the sum is exact to 2**44 pixels on every device and backend (JAX has no int64 by default).
_WORD = 2**20


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

    def __init__(self, num_classes, ignore_label=255, classes=None):
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, received {num_classes}")
        self.num_classes = int(num_classes)
        self.ignore_label = int(ignore_label)
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"received {len(self.classes)} class names for {self.num_classes} classes")
        self.matrix = np.zeros((self.num_classes, self.num_classes), np.int64)
        self.protocol = None

    def update(self, labels, predictions):
        """Counts integer labels and predictions of one shape; which shape doesn't matter.

        Raises:
            ValueError: if the shapes differ, an array is not of integers, a label is neither a class nor
                `ignore_label`, or a prediction is not a class. Nothing is counted then.
        """
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        if labels.shape != predictions.shape:
            raise ValueError(
                f"labels have shape {labels.shape} but predictions have {predictions.shape}: "
                "score the predictions at the size of the label map"
            )
        for what, array in (("labels", labels), ("predictions", predictions)):
            if not np.issubdtype(array.dtype, np.integer):
                raise ValueError(
                    f"{what} must be integers, received dtype {array.dtype}: pass class numbers, not logits"
                )
        valid = labels != self.ignore_label
        self._check("label", labels[valid], f", nor the ignored label {self.ignore_label}")
        self._check("prediction", predictions, "")
        flat = labels[valid].astype(np.int64) * self.num_classes + predictions[valid].astype(np.int64)
        counts = np.bincount(flat, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.num_classes, self.num_classes)

    def _check(self, what, array, also):
        stray = (array < 0) | (array >= self.num_classes)
        if stray.any():
            values = np.unique(array[stray])
            shown = ", ".join(str(value) for value in values[:5]) + (", ..." if values.size > 5 else "")
            raise ValueError(
                f"{what} {shown} (on {int(stray.sum())} pixels) is not one of the classes "
                f"0..{self.num_classes - 1}{also}"
            )

    def __add__(self, other):
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if (self.num_classes, self.ignore_label) != (other.num_classes, other.ignore_label):
            raise ValueError(
                f"can't add confusion matrices of {self.num_classes} classes (ignored: {self.ignore_label}) and "
                f"{other.num_classes} classes (ignored: {other.ignore_label})"
            )
        total = ConfusionMatrix(self.num_classes, self.ignore_label, self.classes)
        total.matrix = self.matrix + other.matrix
        told = dict.fromkeys(each.protocol for each in (self, other) if each.protocol is not None)
        total.protocol = " | ".join(told) or None
        return total

    @property
    def num_pixels(self):
        """How many pixels were scored."""
        return int(self.matrix.sum())

    @property
    def iou(self):
        """Intersection over union of each class, float64 (num_classes,); NaN for a class that never occurs."""
        intersection = np.diagonal(self.matrix)
        union = self.matrix.sum(0) + self.matrix.sum(1) - intersection
        return _ratio(intersection, union)

    @property
    def accuracy(self):
        """Share of each class's pixels that are predicted right, float64 (num_classes,); NaN without pixels."""
        return _ratio(np.diagonal(self.matrix), self.matrix.sum(1))

    @property
    def mean_iou(self):
        """Mean of `iou` over the classes that occur in labels or predictions; NaN when no pixel was scored."""
        return _mean(self.iou)

    @property
    def mean_accuracy(self):
        """Mean of `accuracy` over the classes that have pixels; NaN when no pixel was scored."""
        return _mean(self.accuracy)

    @property
    def pixel_accuracy(self):
        """Share of the scored pixels that are predicted right; NaN when no pixel was scored."""
        return float(_ratio(np.trace(self.matrix), self.matrix.sum()))

    @property
    def frequency_weighted_iou(self):
        """Mean of `iou` weighted with each class's share of the labels; NaN when no pixel was scored."""
        pixels = self.matrix.sum(1)
        occurs = pixels > 0
        if not occurs.any():
            return float("nan")
        return float(np.sum(pixels[occurs] * self.iou[occurs]) / pixels.sum())

    def table(self, classes=None):
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
        share = _ratio(self.matrix.sum(1), self.matrix.sum())
        lines = [f"{'class':<{width}}  {'IoU':>6}  {'accuracy':>8}  {'% of pixels':>11}"]
        for name, iou, accuracy, part in zip(names, self.iou, self.accuracy, share, strict=True):
            lines.append(f"{name:<{width}}  {_shown(iou):>6}  {_shown(accuracy):>8}  {_shown(100 * part, 2):>11}")
        lines.append("-" * len(lines[0]))
        lines += [f"{name:<{width}}  {_shown(value):>6}" for name, value in totals]
        lines.append(f"{self.num_pixels} pixels; '-' marks a class that does not occur and is in no mean")
        if self.protocol is not None:
            lines.append(f"protocol: {self.protocol}")
        return "\n".join(lines)

    def to_dict(self):
        """The scores and the matrix as plain numbers and lists, for JSON; None stands for NaN."""
        return {
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "num_pixels": self.num_pixels,
            "mean_iou": _plain(self.mean_iou),
            "pixel_accuracy": _plain(self.pixel_accuracy),
            "mean_accuracy": _plain(self.mean_accuracy),
            "frequency_weighted_iou": _plain(self.frequency_weighted_iou),
            "iou": [_plain(value) for value in self.iou],
            "accuracy": [_plain(value) for value in self.accuracy],
            "matrix": self.matrix.tolist(),
            "protocol": self.protocol,
        }

    def __repr__(self):
        return (
            f"<ConfusionMatrix of {self.num_classes} classes, {self.num_pixels} pixels, mean IoU {self.mean_iou:.4f}>"
        )


def _ratio(part, whole):
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean(values):
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _shown(value, digits=4):
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _plain(value):
    return None if np.isnan(value) else float(value)


@keras.saving.register_keras_serializable("keras_deeplab")
class MeanIoU(keras.metrics.Metric):
    """Label maps (B, H, W) and logits (B, H, W, C) to the mean intersection over union of all that was seen.

    The mean is over the classes that occur in labels or predictions, as in `ConfusionMatrix.mean_iou`. Counts are
    exact to 2**44 pixels (a float32 counter stops at 2**24, four crops of 2048x2048). It is NaN before the
    first valid pixel, and after a label that is neither a class nor `ignore_label`.

    Args:
        num_classes: number of classes, the last axis of the logits; 2 for a binary model, which has one logit there
            that is greater than 0 where the label is 1.
        ignore_label: the label that is not scored.
        name: name of the metric.
    """

    def __init__(self, num_classes, ignore_label=255, name="mean_iou", dtype="float32"):
        super().__init__(name=name, dtype=dtype)
        if num_classes < 2:
            raise ValueError(f"MeanIoU needs at least 2 classes, received {num_classes}; one logit tells two apart")
        self.num_classes = int(num_classes)
        self.ignore_label = int(ignore_label)
        # One cell for each (label, prediction), one more for labels that are no class.
        shape = (self.num_classes**2 + 1,)
        self._low = self.add_variable(shape, "zeros", dtype="float32", name="low")
        self._high = self.add_variable(shape, "zeros", dtype="float32", name="high")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts labels (B, H, W) or (B, H, W, 1) against the greatest of logits (B, H, W, C).

        Raises:
            ValueError: if the shapes disagree, C is not `num_classes` (nor 1 where that is 2), or a `sample_weight` is
                passed.
        """
        if sample_weight is not None:
            raise ValueError("MeanIoU counts pixels and takes no sample_weight; use ignore_label to leave pixels out")
        labels = ops.cast(y_true, "int32")
        if len(labels.shape) == 4 and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, axis=-1)
        channels = (1, 2) if self.num_classes == 2 else (self.num_classes,)
        if len(labels.shape) != 3 or len(y_pred.shape) != 4 or y_pred.shape[-1] not in channels:
            raise ValueError(
                f"MeanIoU takes labels (B, H, W) and logits (B, H, W, {' or '.join(map(str, channels))}), received "
                f"{tuple(labels.shape)} and {tuple(y_pred.shape)}"
            )
        binary = y_pred.shape[-1] == 1
        predictions = ops.cast(y_pred[..., 0] > 0 if binary else ops.argmax(y_pred, axis=-1), "int32")
        cells = self.num_classes**2
        is_class = ops.logical_and(labels >= 0, labels < self.num_classes)
        index = ops.where(is_class, labels * self.num_classes + predictions, cells)
        index = ops.where(ops.equal(labels, self.ignore_label), cells + 1, index)
        index = ops.reshape(index, (-1,))
        counts = ops.segment_sum(ops.ones_like(index), index, num_segments=cells + 2)[: cells + 1]
        low = ops.cast(self._low.value, "int32") + counts
        self._high.assign_add(ops.cast(low // _WORD, "float32"))
        self._low.assign(ops.cast(low % _WORD, "float32"))

    def result(self):
        """The mean intersection over union of the counts so far, a float32 scalar."""
        counts = ops.cast(self._high.value, "float32") * float(_WORD) + ops.cast(self._low.value, "float32")
        matrix = ops.reshape(counts[:-1], (self.num_classes, self.num_classes))
        intersection = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - intersection
        occurs = ops.cast(union > 0, "float32")
        iou = intersection / ops.maximum(union, 1.0)
        number = ops.sum(occurs)
        mean = ops.sum(iou * occurs) / ops.maximum(number, 1.0)
        known = ops.logical_and(number > 0, ops.equal(counts[-1], 0.0))
        return ops.where(known, mean, ops.full_like(mean, float("nan")))

    @property
    def matrix(self):
        """The counts by (label, prediction), int64 (num_classes, num_classes), exact."""
        high = self._high.numpy().astype(np.int64)
        low = self._low.numpy().astype(np.int64)
        return (high * _WORD + low)[:-1].reshape(self.num_classes, self.num_classes)

    @property
    def confusion(self):
        """The counts so far as a `ConfusionMatrix`."""
        found = ConfusionMatrix(self.num_classes, self.ignore_label)
        found.matrix = self.matrix
        return found

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "name": self.name,
            "dtype": self.dtype,
        }
