"""Sums of losses."""

import math
from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_deeplab")
class WeightedSum(keras.losses.Loss):
    """Label maps and logits to the sum of several losses of them, each by its weight.

    Args:
        losses: functions from labels (B, H, W) and logits (B, H, W, C) to a number, such as the losses of this package.
        weights: as many factors, finite and at least 0.
        name: name of the loss.

    Raises:
        ValueError: there are no losses, or other weights than those.
    """

    def __init__(self, losses: Sequence[Any], weights: Sequence[float], name: str = "weighted_sum") -> None:
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.losses, self.weights = list(losses), [float(weight) for weight in weights]
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"a sum has at least one loss and a weight for each; received {len(losses)} losses and "
                f"{len(weights)} weights"
            )
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in self.weights):
            raise ValueError(f"weights must be finite and not negative, received {self.weights}")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Each loss refuses or takes sample weights, and brings what it is given to its own dtype, by itself.
        more = {} if sample_weight is None else {"sample_weight": sample_weight}
        return sum(
            weight * loss(y_true, y_pred, **more) for loss, weight in zip(self.losses, self.weights, strict=True)
        )

    def get_config(self) -> dict[str, Any]:
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {"losses": losses, "weights": self.weights, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedSum":
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**(config | {"losses": losses}))
