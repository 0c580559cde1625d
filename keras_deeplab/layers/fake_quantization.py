"""Numbers rounded to the steps of an int8 range while they stay numbers."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.layers.backend import TENSORFLOW, Tensor, register, tensor_of, tf
from keras_deeplab.layers.windows import Shape


@register
class FakeQuantization(keras.layers.Layer):
    """Maps numbers to the nearest of the 256 steps of an int8 range, as numbers.

    On TensorFlow it is the operator whose range TFLite's converter takes over exactly. Gradients pass where the input
    is inside the range, and reach its ends where it isn't (Jacob et al., arXiv 1712.05877, section 3).

    Args:
        low: the range's lower end, at most 0.
        high: its upper end, at least 0.

    Example:

    >>> layer = FakeQuantization(low=0.0, high=255.0)
    >>> [float(value) for value in layer(keras.ops.convert_to_tensor([-3.0, 2.4, 300.0]))]
    [0.0, 2.0, 255.0]
    """

    def __init__(self, low: float = 0.0, high: float = 6.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._check(low, high)
        self.low, self.high = float(low), float(high)

    @staticmethod
    def _check(low: float, high: float) -> None:
        if not low <= 0 <= high or low == high:
            raise ValueError(f"a range of int8 must hold 0 and more; received low={low}, high={high}")

    def build(self, input_shape: Shape) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            variable = self.add_weight(shape=(), initializer=keras.initializers.Constant(value), name=name)
            setattr(self, f"{name}_end", variable)

    def set_range(self, low: float, high: float) -> None:
        """Gives the layer another range."""
        self._check(low, high)
        self.low, self.high = float(low), float(high)
        self.low_end.assign(self.low)
        self.high_end.assign(self.high)

    def call(self, inputs: Tensor) -> Tensor:
        low, high = tensor_of(self.low_end), tensor_of(self.high_end)
        if TENSORFLOW:
            return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)
        scale = (high - low) / 255
        zero = ops.clip(ops.round(-low / scale), 0, 255)
        inside = ops.clip(inputs, -zero * scale, (255 - zero) * scale)
        return inside + ops.stop_gradient(ops.round(inside / scale) * scale - inside)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "low": self.low, "high": self.high}
