"""What losses over label maps share: labels and logits that fit, valid pixels, labels that are no class."""

import functools
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_deeplab.layers import resize_bilinear


class Pixels(NamedTuple):
    """Labels and logits of a batch, as losses take them.

    Attributes:
        labels: int32 (B, H, W), 0 where the label is no class.
        logits: float32 (B, H, W, C), C at least 2.
        valid: bool (B, H, W), whether the label isn't the ignored one.
    """

    labels: Any
    logits: Any
    valid: Any

    @property
    def num_classes(self) -> int:
        return self.logits.shape[-1]


class SegmentationLoss(keras.losses.Loss):
    """Label maps (B, H, W) or (B, H, W, 1) and logits (B, H, W, C) to one float32 number, whatever the logits' dtype.

    A pixel is valid when its label is not `ignore_label`; the others change nothing and have exactly zero gradient. A
    batch without any valid pixel gives 0 with zero gradients.

    One logit z (C = 1) is a binary model's and stands for the two (0, z) of labels 0 and 1.

    A label outside 0..C-1 (0..1 for one logit) that is not `ignore_label` makes the loss NaN, on every device and
    backend, where Keras's own losses raise on the CPU and may return anything on a GPU. `keras_deeplab.train` then
    names the label.

    Subclasses have `of_pixels`.

    Args:
        ignore_label: the label that is neither learnt nor counted.
        name: name of the loss.

    Raises:
        ValueError: if logits and labels disagree about (H, W) or ranks, or a `sample_weight` is passed.
    """

    def __init__(self, ignore_label: int = 255, name: str | None = None) -> None:
        # The value is a mean already: "sum" leaves a scalar as it is.
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.ignore_label = int(ignore_label)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if sample_weight is not None:
            raise ValueError(
                "sample_weight is not supported, because the loss is a mean over the valid pixels of the whole "
                "batch; use class_weights to weight classes and ignore_label to leave pixels out"
            )
        return super().__call__(y_true, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        # The logits are float32, for keras.losses.Loss brings what it is given to its own dtype.
        labels, logits = matched(ops.cast(y_true, "int32"), y_pred)
        return self._of_known(labels, logits, self.of_pixels)

    def resized(self, y_true: Any, y_pred: Any, resize: str) -> Any:
        """The loss of logits (B, h, w, C) that are first resized to the labels' size, by a convention's name."""
        labels = squeezed(ops.cast(y_true, "int32"))
        return self._of_known(
            labels, two_or_more(ops.cast(y_pred, "float32")), functools.partial(self.of_coarse, resize)
        )

    def of_coarse(self, resize: str, pixels: Pixels) -> Any:
        """As `of_pixels`, of logits that are to be resized to the labels' size."""
        return self.of_pixels(pixels._replace(logits=at_size_of(pixels.labels, pixels.logits, resize)))

    def _of_known(self, labels: Any, logits: Any, loss_of: Any) -> Any:
        """What `loss_of` makes of the pixels, or NaN where a label is no class."""
        valid = ops.not_equal(labels, self.ignore_label)
        in_range = ops.logical_and(labels >= 0, labels < logits.shape[-1])
        safe = ops.where(ops.logical_and(valid, in_range), labels, ops.zeros_like(labels))
        loss = loss_of(Pixels(safe, logits, valid))
        stray = ops.any(ops.logical_and(valid, ops.logical_not(in_range)))
        return ops.where(stray, ops.full_like(loss, float("nan")), loss)

    def of_pixels(self, pixels: Pixels) -> Any:
        """The loss, a float32 scalar."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {"ignore_label": self.ignore_label, "name": self.name}


def matched(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Labels (B, H, W) or (B, H, W, 1) as (B, H, W), and logits (B, H, W, C), both of the same size; C is 2 or more."""
    if len(logits.shape) != 4:
        raise ValueError(f"logits must have shape (B, H, W, classes), received {tuple(logits.shape)}")
    labels = squeezed(labels)
    for ours, theirs in zip(labels.shape[1:], logits.shape[1:3], strict=True):
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"labels are {tuple(labels.shape[1:])} but logits are {tuple(logits.shape[1:3])} in height and "
                "width: the model must return logits at the size of its input, which is the size of the label map"
            )
    return labels, two_or_more(logits)


def squeezed(labels: Any) -> Any:
    """Labels (B, H, W) or (B, H, W, 1) as (B, H, W)."""
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != 3:
        raise ValueError(f"labels must have shape (B, H, W) or (B, H, W, 1), received {tuple(labels.shape)}")
    return labels


def at_size_of(labels: Any, logits: Any, resize: str) -> Any:
    """Logits (B, h, w, C) resized to the size of labels (B, H, W), float32, by a convention's name."""
    return resize_bilinear(logits, ops.shape(labels)[1:3], resize, "float32")


def two_or_more(logits: Any) -> Any:
    """Logits (..., C) as they are, but one logit z as the two (0, z) that it stands for."""
    if logits.shape[-1] == 1:
        return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    return logits


def count(mask: Any) -> Any:
    """How many entries of a mask are true, a float32 scalar."""
    # Counted as integers: a float32 sum of ones may lose some beyond 2**24 pixels.
    return ops.cast(ops.sum(ops.cast(mask, "int32")), "float32")
