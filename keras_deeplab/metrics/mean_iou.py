"""Intersection over union as a Keras metric, for training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deeplab.layers import convention, conventions, resized_argmax
from keras_deeplab.metrics.confusion import ConfusionMatrix

# Counts are held as high * _WORD + low in two float32 variables. Both stay far under 2**24, where float32 stops
# counting, so the sum is exact to 2**44 pixels on every device and backend (JAX has no int64 by default).
_WORD = 2**20


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
        resize: one of `keras_deeplab.specs.RESIZES`, the convention in which logits (B, h, w, C) are resized to labels
            that are finer; None for logits at the labels' size alone.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_label: int = 255,
        name: str = "mean_iou",
        dtype: Any = "float32",
        resize: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if num_classes < 2:
            raise ValueError(f"MeanIoU needs at least 2 classes, received {num_classes}; one logit tells two apart")
        self.num_classes = int(num_classes)
        self.ignore_label = int(ignore_label)
        self.resize = resize if resize is None else convention(**conventions(resize))
        # One cell for each (label, prediction), one more for labels that are no class.
        shape = (self.num_classes**2 + 1,)
        self._low = self.add_variable(shape, "zeros", dtype="float32", name="low")
        self._high = self.add_variable(shape, "zeros", dtype="float32", name="high")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
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
        if y_pred.shape[-1] == 1:
            y_pred = ops.concatenate([ops.zeros_like(y_pred), y_pred], -1)
        if self.resize is None:
            predictions = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        else:
            predictions = resized_argmax(y_pred, ops.shape(labels)[1:3], self.resize)
        cells = self.num_classes**2
        is_class = ops.logical_and(labels >= 0, labels < self.num_classes)
        index = ops.where(is_class, labels * self.num_classes + predictions, cells)
        index = ops.where(ops.equal(labels, self.ignore_label), cells + 1, index)
        index = ops.reshape(index, (-1,))
        counts = ops.segment_sum(ops.ones_like(index), index, num_segments=cells + 2)[: cells + 1]
        low = ops.cast(self._low.value, "int32") + counts
        self._high.assign_add(ops.cast(low // _WORD, "float32"))
        self._low.assign(ops.cast(low % _WORD, "float32"))

    def result(self) -> Any:
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
    def matrix(self) -> np.ndarray:
        """The counts by (label, prediction), int64 (num_classes, num_classes), exact."""
        high = self._high.numpy().astype(np.int64)
        low = self._low.numpy().astype(np.int64)
        return (high * _WORD + low)[:-1].reshape(self.num_classes, self.num_classes)

    @property
    def confusion(self) -> ConfusionMatrix:
        """The counts so far as a `ConfusionMatrix`."""
        found = ConfusionMatrix(self.num_classes, self.ignore_label)
        found.matrix = self.matrix
        return found

    def get_config(self) -> dict[str, Any]:
        return {
            "num_classes": self.num_classes,
            "ignore_label": self.ignore_label,
            "name": self.name,
            "dtype": self.dtype,
            "resize": self.resize,
        }
