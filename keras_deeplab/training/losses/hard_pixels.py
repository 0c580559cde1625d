"""The mean of each pixel's own loss: class weights, and the hardest pixels alone."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_deeplab.training.losses.base import Pixels, SegmentationLoss, count
from keras_deeplab.training.losses.steps import step_variable
from keras_deeplab.training.replicas import batch_sum, share


class PixelwiseLoss(SegmentationLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the weighted mean of the valid pixels' losses.

    `sum(weight of the label's class * loss) / number of valid pixels`, both over the whole batch. The weights don't
    enter the denominator, as in tensorflow/models research/deeplab `utils/train_utils.py`.

    Subclasses have `pixel_losses`.

    Args:
        ignore_label: the label that is neither learnt nor counted.
        class_weights: C non-negative factors, one for each class; None for 1 everywhere.
        top_k_fraction: in (0, 1]; below 1, only that share of all pixels (ignored ones included in the count), those
            with the greatest losses, is averaged: hard pixel mining, same source, `top_k_percent_pixels`. Where a
            batch is spread over replicas, each chooses among its own.
        hard_example_steps: over so many steps the share falls from 1 to `top_k_fraction` in a straight line, same
            source, `hard_example_mining_step`; it is `top_k_fraction` at once where this is 0, or where nothing tells
            the step, see `losses.steps`.
        name: name of the loss.

    Raises:
        ValueError: if `class_weights` doesn't have C entries, `top_k_fraction` is outside (0, 1], or steps are given
            for a share that doesn't fall.
    """

    def __init__(
        self,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        top_k_fraction: float = 1.0,
        hard_example_steps: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(ignore_label, name)
        if not 0.0 < top_k_fraction <= 1.0:
            raise ValueError(
                f"top_k_fraction must be greater than 0 and at most 1 (1 averages every valid pixel), "
                f"received {top_k_fraction!r}"
            )
        if hard_example_steps < 0 or (hard_example_steps and top_k_fraction == 1.0):
            raise ValueError(
                "hard_example_steps are those in which the share of pixels falls from 1 to top_k_fraction: at least 0, "
                f"and top_k_fraction below 1; received {hard_example_steps!r} and {top_k_fraction!r}"
            )
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            if not all(math.isfinite(weight) and weight >= 0.0 for weight in class_weights):
                raise ValueError(f"class_weights must be finite and not negative, received {class_weights}")
        self.class_weights = class_weights
        self.top_k_fraction = float(top_k_fraction)
        self.hard_example_steps = int(hard_example_steps)
        self.step = step_variable() if hard_example_steps else None

    def pixel_losses(self, pixels: Pixels) -> Any:
        """The loss of each pixel, float32 (B, H, W) and at least 0; it is left out where the pixel isn't valid."""
        raise NotImplementedError

    def weights_of(self, pixels: Pixels) -> Any:
        """How much each pixel's loss counts, float32 (B, H, W): 0 where it isn't valid."""
        weights = ops.cast(pixels.valid, "float32")
        if self.class_weights is not None:
            if len(self.class_weights) != pixels.num_classes:
                raise ValueError(
                    f"class_weights has {len(self.class_weights)} entries but the logits have {pixels.num_classes} "
                    "classes: give one weight for each class"
                )
            factors = ops.convert_to_tensor(self.class_weights, dtype="float32")
            weights = weights * ops.take(factors, pixels.labels)
        return weights

    def of_pixels(self, pixels: Pixels) -> Any:
        losses = self.weights_of(pixels) * self.pixel_losses(pixels)
        if self.top_k_fraction < 1.0:
            total, kept = hardest(losses, pixels.valid, self._fraction())
        else:
            total, kept = ops.sum(losses), count(pixels.valid)
        return self.mean_of(total, kept)

    @staticmethod
    def mean_of(total: Any, kept: Any) -> Any:
        """A replica's sum of losses and number of pixels to its share of the mean over the whole batch."""
        return share(batch_sum(total) / ops.maximum(batch_sum(kept), 1.0))

    def _fraction(self) -> Any:
        """The share of pixels that counts at this step, a float32 scalar."""
        target = ops.convert_to_tensor(self.top_k_fraction, "float32")
        if self.step is None:
            return target
        step = ops.cast(self.step.value, "float32")
        ratio = ops.where(step < 0, 1.0, ops.minimum(1.0, step / self.hard_example_steps))
        return ratio * target + (1.0 - ratio)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "class_weights": self.class_weights,
            "top_k_fraction": self.top_k_fraction,
            "hard_example_steps": self.hard_example_steps,
        }


def hardest(losses: Any, valid: Any, fraction: Any) -> tuple[Any, Any]:
    """Sum of the greatest `fraction` of the losses, and how many of the pixels kept are valid.

    At least one pixel is kept. Where some are as hard as the last one that has a place, they share the places that are
    left: so the number of them may be a tensor, which XLA doesn't admit in a choice of so many.

    Args:
        losses: float32 of any shape, at least 0.
        valid: bool of the same shape; others rank behind those whose loss is zero.
        fraction: float32 scalar, in (0, 1].
    """
    losses, valid = ops.reshape(losses, (-1,)), ops.reshape(valid, (-1,))
    scores = ops.stop_gradient(ops.where(valid, losses, -1.0))
    size = ops.shape(scores)[0]
    kept = ops.maximum(ops.cast(fraction * ops.cast(size, "float32"), "int32"), 1)
    last = ops.take(ops.sort(scores), size - kept)
    harder, as_hard = scores > last, scores >= 0.0
    as_hard = ops.logical_and(as_hard, ops.equal(scores, last))
    places = ops.cast(kept, "float32") - count(harder)
    part = places / ops.maximum(count(as_hard), 1.0)
    total = ops.sum(losses * (ops.cast(harder, "float32") + part * ops.cast(as_hard, "float32")))
    return total, count(harder) + ops.where(last >= 0.0, places, 0.0)
