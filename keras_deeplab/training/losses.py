"""Losses over label maps with ignored pixels."""

import math

import keras
from keras import ops

from keras_deeplab.training.replicas import batch_sum, share


@keras.saving.register_keras_serializable("keras_deeplab")
class SparseCategoricalCrossentropy(keras.losses.Loss):
    """Label maps (B, H, W) and logits (B, H, W, C) to one float32 number: the weighted cross-entropy per valid pixel.

    `sum(class_weight * cross_entropy) / number of valid pixels`, both over the whole batch and in float32 whatever
    the dtype of the logits. A pixel is valid when its label is not `ignore_label`; the others give exactly zero
    gradient. The weights don't enter the denominator, as in tensorflow/models research/deeplab `utils/train_utils.py`.
    A batch without any valid pixel gives 0 with zero gradients.

    One logit z (C = 1) is a binary model's and stands for the two (0, z) of labels 0 and 1, so that this is the binary
    cross-entropy, and there are two `class_weights`.

    A label outside 0..C-1 (0..1 for one logit) that is not `ignore_label` makes the loss NaN, on every device and
    backend, where Keras's own loss raises on the CPU and may return anything on a GPU. `keras_deeplab.train` then names
    the label.

    Args:
        ignore_label: the label that is neither learnt nor counted.
        class_weights: C non-negative factors, one for each class; None for 1 everywhere.
        top_k_fraction: in (0, 1]; below 1, only that share of all pixels (ignored ones included in the count), those
            with the greatest losses, is averaged: hard pixel mining, same source.
        name: name of the loss.

    Raises:
        ValueError: if logits and labels disagree about (H, W) or ranks, `class_weights` doesn't have C entries,
            `top_k_fraction` is outside (0, 1], or a `sample_weight` is passed.

    >>> import numpy as np
    >>> loss = SparseCategoricalCrossentropy()
    >>> labels = np.array([[[0, 255]]])
    >>> logits = np.array([[[[0.0, 0.0], [5.0, -5.0]]]])
    >>> print(f"{float(loss(labels, logits)):.4f}")
    0.6931
    """

    def __init__(
        self,
        ignore_label=255,
        class_weights=None,
        top_k_fraction=1.0,
        name="sparse_categorical_crossentropy",
    ):
        # The value is a mean already: "sum" leaves a scalar as it is.
        super().__init__(name=name, reduction="sum", dtype="float32")
        if not 0.0 < top_k_fraction <= 1.0:
            raise ValueError(
                f"top_k_fraction must be greater than 0 and at most 1 (1 averages every valid pixel), "
                f"received {top_k_fraction!r}"
            )
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            if not all(math.isfinite(weight) and weight >= 0.0 for weight in class_weights):
                raise ValueError(f"class_weights must be finite and not negative, received {class_weights}")
        self.ignore_label = int(ignore_label)
        self.class_weights = class_weights
        self.top_k_fraction = float(top_k_fraction)

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                "sample_weight is not supported, because the loss is a mean over the valid pixels of the whole "
                "batch; use class_weights to weight classes and ignore_label to leave pixels out"
            )
        return super().__call__(y_true, y_pred)

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        logits = y_pred  # float32, for keras.losses.Loss brings what it is given to its own dtype
        labels, logits = _matched(labels, logits)
        num_classes = logits.shape[-1]
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} entries but the logits have {num_classes} classes: "
                f"give one weight for each class"
            )
        valid = ops.not_equal(labels, self.ignore_label)
        in_range = ops.logical_and(labels >= 0, labels < num_classes)
        safe = ops.where(ops.logical_and(valid, in_range), labels, ops.zeros_like(labels))
        weights = ops.cast(valid, "float32")
        if self.class_weights is not None:
            factors = ops.convert_to_tensor(self.class_weights, dtype="float32")
            weights = weights * ops.take(factors, safe)
        pixel_losses = weights * ops.sparse_categorical_crossentropy(safe, logits, from_logits=True)
        if self.top_k_fraction < 1.0:
            total, count = _hardest(pixel_losses, valid, self.top_k_fraction)
        else:
            total, count = ops.sum(pixel_losses), _count(valid)
        loss = share(batch_sum(total) / ops.maximum(batch_sum(count), 1.0))
        stray = ops.any(ops.logical_and(valid, ops.logical_not(in_range)))
        return ops.where(stray, ops.full_like(loss, float("nan")), loss)

    def get_config(self):
        return {
            "ignore_label": self.ignore_label,
            "class_weights": self.class_weights,
            "top_k_fraction": self.top_k_fraction,
            "name": self.name,
        }


def _matched(labels, logits):
    """Labels (B, H, W) or (B, H, W, 1) as (B, H, W), and logits (B, H, W, C), both of the same size; C is 2 or more."""
    if len(logits.shape) != 4:
        raise ValueError(f"logits must have shape (B, H, W, classes), received {tuple(logits.shape)}")
    if len(labels.shape) == 4 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != 3:
        raise ValueError(f"labels must have shape (B, H, W) or (B, H, W, 1), received {tuple(labels.shape)}")
    for ours, theirs in zip(labels.shape[1:], logits.shape[1:3], strict=True):
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"labels are {tuple(labels.shape[1:])} but logits are {tuple(logits.shape[1:3])} in height and "
                "width: the model must return logits at the size of its input, which is the size of the label map"
            )
    if logits.shape[-1] == 1:
        logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
    return labels, logits


def _count(mask):
    # Counted as integers: a float32 sum of ones may lose some beyond 2**24 pixels.
    return ops.cast(ops.sum(ops.cast(mask, "int32")), "float32")


def _hardest(pixel_losses, valid, fraction):
    """Sum of the greatest `fraction` of the losses, and how many of the pixels kept are valid."""
    losses = ops.reshape(pixel_losses, (-1,))
    valid = ops.reshape(valid, (-1,))
    # Ignored pixels rank behind valid ones whose loss is zero.
    scores = ops.where(valid, losses, -1.0)
    size = ops.shape(losses)[0]
    if isinstance(size, int):
        kept = max(1, int(fraction * size))
    else:
        kept = ops.maximum(1, ops.cast(fraction * ops.cast(size, "float32"), "int32"))
    indices = ops.top_k(ops.stop_gradient(scores), kept, sorted=False)[1]
    return ops.sum(ops.take(losses, indices)), _count(ops.take(valid, indices))
