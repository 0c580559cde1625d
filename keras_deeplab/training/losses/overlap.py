"""Losses of regions: one less the overlap of each class's probabilities with its pixels."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.training.losses.base import Pixels, SegmentationLoss
from keras_deeplab.training.replicas import batch_sum, share


class RegionLoss(SegmentationLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the mean of a loss of each class that the labels have.

    The classes are those of the valid pixels; one that is in none of them is left out, for it has no overlap. One logit
    has the two classes 0 and 1, so that a crop without the second still teaches.

    Subclasses have `class_losses`.

    Args:
        ignore_label: the label that is neither learnt nor counted.
        per_image: whether it is the mean of the losses of single images (those with a valid pixel) instead of the loss
            of the whole batch's pixels.
        name: name of the loss.
    """

    def __init__(self, ignore_label: int = 255, per_image: bool = False, name: str | None = None) -> None:
        super().__init__(ignore_label, name)
        self.per_image = bool(per_image)

    def class_losses(self, probabilities: Any, truth: Any, valid: Any) -> Any:
        """The loss of each class of each region, float32 (R, C); what it is for absent classes is left out.

        Args:
            probabilities: float32 (R, N, C), 0 at pixels that aren't valid.
            truth: float32 (R, N, C), 1 at the label of a valid pixel, else 0.
            valid: bool (R, N).
        """
        raise NotImplementedError

    def of_pixels(self, pixels: Pixels) -> Any:
        regions = ops.shape(pixels.labels)[0] if self.per_image else 1
        valid = ops.reshape(pixels.valid, (regions, -1))
        shape = (regions, -1, pixels.num_classes)
        mask = ops.cast(valid, "float32")[..., None]
        probabilities = mask * ops.reshape(ops.softmax(pixels.logits), shape)
        truth = mask * ops.reshape(ops.one_hot(pixels.labels, pixels.num_classes, dtype="float32"), shape)
        present = ops.cast(self.whole(ops.sum(truth, axis=1)) > 0.0, "float32")
        losses = present * self.class_losses(probabilities, truth, valid)
        losses = ops.sum(losses, -1) / ops.maximum(ops.sum(present, -1), 1.0)
        total, regions = ops.sum(losses), ops.sum(ops.max(present, -1))
        if self.per_image:
            total, regions = batch_sum(total), batch_sum(regions)
        return share(total / ops.maximum(regions, 1.0))

    def whole(self, sums: Any) -> Any:
        """Sums over the pixels of a region that a replica has, to those over all of them."""
        return sums if self.per_image else batch_sum(sums)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"per_image": self.per_image}


@keras.saving.register_keras_serializable("keras_deeplab")
class Dice(RegionLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the mean over the classes of `1 - 2 |p g| / (|p| + |g|)`.

    p are a class's probabilities, g its pixels, and |.| the sum over the valid ones: Sudre et al. 2017, "Generalised
    Dice overlap", section 2.1, where Milletari et al. 2016 (V-Net) have squares in the denominator.

    Args:
        ignore_label, per_image: see `RegionLoss`.
        name: name of the loss.

    >>> import numpy as np
    >>> float(Dice()(np.array([[[0, 1]]]), np.zeros((1, 1, 2, 2))))
    0.5
    """

    def __init__(self, ignore_label: int = 255, per_image: bool = False, name: str = "dice") -> None:
        super().__init__(ignore_label, per_image, name)

    def class_losses(self, probabilities: Any, truth: Any, valid: Any) -> Any:
        both, sizes = (self.whole(sums) for sums in _overlap(probabilities, truth))
        return 1.0 - 2.0 * both / ops.maximum(sizes, 1.0)


@keras.saving.register_keras_serializable("keras_deeplab")
class Jaccard(RegionLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the mean over the classes of `1 - |p g| / (|p| + |g| - |p g|)`.

    One less the intersection over union of probabilities and labels, as sums over the valid pixels: Rahman and Wang
    2016, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation", equation 3.

    Args:
        ignore_label, per_image: see `RegionLoss`.
        name: name of the loss.
    """

    def __init__(self, ignore_label: int = 255, per_image: bool = False, name: str = "jaccard") -> None:
        super().__init__(ignore_label, per_image, name)

    def class_losses(self, probabilities: Any, truth: Any, valid: Any) -> Any:
        both, sizes = (self.whole(sums) for sums in _overlap(probabilities, truth))
        return 1.0 - both / ops.maximum(sizes - both, 1.0)


def _overlap(probabilities: Any, truth: Any) -> tuple[Any, Any]:
    """|p g| and |p| + |g| of each class (R, C). Where a class is present, |g| is at least 1, and so is the union."""
    return ops.sum(probabilities * truth, 1), ops.sum(probabilities, 1) + ops.sum(truth, 1)
