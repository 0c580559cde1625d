"""The focal loss: well classified pixels count less."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_deeplab.training.losses.base import Pixels
from keras_deeplab.training.losses.cross_entropy import cross_entropy
from keras_deeplab.training.losses.hard_pixels import PixelwiseLoss


@keras.saving.register_keras_serializable("keras_deeplab")
class Focal(PixelwiseLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the mean of `-(1 - p)^gamma log p` over the valid pixels.

    p is the probability of the pixel's label, by the softmax; one logit has that of the sigmoid, as in Lin et al. 2017,
    "Focal Loss for Dense Object Detection", equation 4. Their alpha (equation 5) is `class_weights`.

    Args:
        gamma: at least 0, which makes it the cross-entropy.
        ignore_label: the label that is neither learnt nor counted.
        class_weights, top_k_fraction, hard_example_steps: see `losses.hard_pixels.PixelwiseLoss`.
        name: name of the loss.

    Raises:
        ValueError: an argument is out of its range.

    >>> import numpy as np
    >>> print(f"{float(Focal(gamma=2.0)(np.array([[[1]]]), np.array([[[[0.0, 0.0]]]]))):.4f}")  # log(2) / 4
    0.1733
    """

    def __init__(
        self,
        gamma: float = 2.0,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        top_k_fraction: float = 1.0,
        hard_example_steps: int = 0,
        name: str = "focal",
    ) -> None:
        super().__init__(ignore_label, class_weights, top_k_fraction, hard_example_steps, name)
        if not 0.0 <= gamma < float("inf"):
            raise ValueError(f"gamma must be a finite number of at least 0, received {gamma!r}")
        self.gamma = float(gamma)

    def pixel_losses(self, pixels: Pixels) -> Any:
        losses = cross_entropy(pixels)
        if not self.gamma:
            return losses
        # (1 - p)^gamma by its logarithm, which is exact and has a finite slope where p rounds to 1.
        own = ops.one_hot(pixels.labels, pixels.num_classes, dtype="bool")
        others = ops.logsumexp(ops.where(own, -1e30, pixels.logits), axis=-1)
        return ops.exp(self.gamma * (others - ops.logsumexp(pixels.logits, axis=-1))) * losses

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"gamma": self.gamma}
