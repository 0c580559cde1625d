"""The Lovász-softmax loss: the intersection over union itself, extended to probabilities."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.training.losses.overlap import RegionLoss


@keras.saving.register_keras_serializable("keras_deeplab")
class LovaszSoftmax(RegionLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the mean over the classes of the Lovász extension of 1 - IoU.

    Berman et al. 2018, "The Lovász-Softmax loss", equation 11 with the gradient of algorithm 1, over the classes that
    the labels have (`classes="present"` in their code). One logit has the softmax of two, not their hinge. Where a
    batch is spread over replicas, it is the mean of their losses, for each ranks its own pixels.

    Args:
        ignore_label, per_image: see `RegionLoss`.
        name: name of the loss.

    >>> import numpy as np
    >>> labels, sure = np.array([[[0, 1, 1]]]), 20 * np.eye(2)[[[[0, 0, 1]]]]
    >>> print(f"{float(LovaszSoftmax()(labels, sure)):.4f}")  # 1 - the mean of two IoUs of 1/2
    0.5000
    """

    def __init__(self, ignore_label: int = 255, per_image: bool = False, name: str = "lovasz_softmax") -> None:
        super().__init__(ignore_label, per_image, name)

    def whole(self, sums: Any) -> Any:
        return sums

    def class_losses(self, probabilities: Any, truth: Any, valid: Any) -> Any:
        errors = ops.abs(truth - probabilities)  # 0 at pixels that aren't valid
        # Those rank last, so that they change no other pixel's slope.
        ranked = ops.where(valid[..., None], ops.stop_gradient(errors), -1.0)
        regions, size, num_classes = (ops.shape(truth)[axis] for axis in range(3))
        each = [ops.reshape(ops.transpose(x, (0, 2, 1)), (regions * num_classes, size)) for x in (ranked, truth)]
        # One class at a time, for each needs several maps of all pixels.
        slopes = ops.map(lambda pair: _slopes(*pair), each)
        slopes = ops.transpose(ops.reshape(slopes, (regions, num_classes, size)), (0, 2, 1))
        return ops.sum(errors * ops.stop_gradient(slopes), 1)


def _slopes(errors: Any, truth: Any) -> Any:
    """The slope of the extension for each pixel (N,), from one class's errors and pixels (N,).

    Going through the pixels from the greatest error on, each adds what it adds to 1 - IoU: 1/U for one of the class,
    which the intersection I loses, and I / (U (U - 1)) for another, which the union U gains. That difference is written
    out because the one of two quotients near each other would lose most of its digits.
    """
    order = ops.argsort(-errors)
    own = ops.cast(ops.take(truth, order), "int32")
    total = ops.sum(own)
    union = ops.cast(total + ops.cumsum(1 - own), "float32")
    left = ops.cast(total - ops.cumsum(own), "float32")
    added = ops.where(own > 0, 1.0 / ops.maximum(union, 1.0), left / ops.maximum(union * (union - 1.0), 1.0))
    return ops.scatter(order[:, None], added, ops.shape(errors))
