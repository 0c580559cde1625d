"""Cross-entropy that counts more near the borders of classes."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_deeplab.training.losses.base import Pixels
from keras_deeplab.training.losses.cross_entropy import SparseCategoricalCrossentropy


@keras.saving.register_keras_serializable("keras_deeplab")
class BoundaryCrossentropy(SparseCategoricalCrossentropy):
    """Label maps (B, H, W) and logits (B, H, W, C) to the cross-entropy per valid pixel, more near class borders.

    A pixel's factor is `1 + weight * (radius + 1 - d) / radius`, where d is its distance to the nearest valid pixel of
    another class (the greater of rows and columns between them: 1 for neighbours), and 1 from `radius` + 1 on. So it
    falls from 1 + weight to 1 in equal steps. Ronneberger et al. 2015 ("U-Net", equation 2) have a Gaussian of the
    distances to the two nearest cells in its place; this one needs the label map alone, within the step. The factors
    don't enter the denominator.

    Args:
        weight: at least 0.
        radius: how many pixels from a border on are weighted, at least 1.
        ignore_label: the label that is neither learnt nor counted.
        class_weights, top_k_fraction, hard_example_steps, label_smoothing: see `SparseCategoricalCrossentropy`.
        name: name of the loss.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        weight: float = 4.0,
        radius: int = 5,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        top_k_fraction: float = 1.0,
        hard_example_steps: int = 0,
        label_smoothing: float = 0.0,
        name: str = "boundary_crossentropy",
    ) -> None:
        super().__init__(ignore_label, class_weights, top_k_fraction, hard_example_steps, label_smoothing, name)
        if not 0.0 <= weight < float("inf") or radius < 1:
            raise ValueError(
                f"weight must be a finite number of at least 0 and radius at least 1, received {weight!r}, {radius!r}"
            )
        self.weight, self.radius = float(weight), int(radius)

    def pixel_losses(self, pixels: Pixels) -> Any:
        near = border_nearness(pixels.labels, pixels.valid, self.radius)
        return (1.0 + self.weight * near) * super().pixel_losses(pixels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"weight": self.weight, "radius": self.radius}


def border_nearness(labels: Any, valid: Any, radius: int) -> Any:
    """Labels (B, H, W) to how near a border each valid pixel is, float32 (B, H, W): 1 beside it, 0 beyond `radius`."""
    # The greatest and the smallest label around; what is ignored is neither, for it counts as less than any.
    labels = ops.cast(labels, "float32")[..., None]
    valid = valid[..., None]
    greatest, smallest = ops.where(valid, labels, -1e9), ops.where(valid, -labels, -1e9)
    near = ops.zeros_like(labels)
    for _ in range(radius):
        greatest, smallest = (
            ops.max_pool(each, 3, 1, "same", data_format="channels_last") for each in (greatest, smallest)
        )
        near += ops.cast(greatest > -smallest, "float32")
    return ops.squeeze(ops.stop_gradient(near), -1) / radius
