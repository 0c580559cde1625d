"""Numbers held in an interval."""

import math
from typing import Any

import keras
from keras import ops

from keras_deeplab.layers.backend import Tensor, register
from keras_deeplab.layers.windows import Shape


@register
class Clip(keras.layers.Layer):
    """Maps numbers to the nearest of a closed interval, shape and dtype unchanged.

    Args:
        low: the interval's lower end.
        high: its upper end, at least `low`.

    Raises:
        ValueError: `high` is less than `low`, or one of them isn't a finite number.

    Example:

    >>> [float(value) for value in Clip(-6, 6)(keras.ops.convert_to_tensor([-7.0, 1.5, 9.0]))]
    [-6.0, 1.5, 6.0]
    """

    def __init__(self, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not -math.inf < low <= high < math.inf:
            raise ValueError(
                f"{self.name}: `low` must be at most `high`, both finite. Received: low={low}, high={high}"
            )
        self.low, self.high = float(low), float(high)

    def build(self, input_shape: Shape) -> None:
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return ops.clip(inputs, self.low, self.high)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}
