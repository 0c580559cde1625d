"""One factor for each channel."""

import keras
from keras import ops

from keras_deeplab.layers.backend import Tensor, register
from keras_deeplab.layers.windows import Shape


@register
class LayerScale(keras.layers.Layer):
    """Maps (..., C) to the same shape, each channel times a trained factor, `gamma` (Touvron et al. 2021).

    Args:
        initial_value: what the factors begin with.

    Example:

    >>> layer = LayerScale(0.5)
    >>> tuple(layer(keras.ops.ones((1, 2, 2, 3))).shape), [tuple(variable.shape) for variable in layer.weights]
    ((1, 2, 2, 3), [(3,)])
    """

    def __init__(self, initial_value: float = 1e-6, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape: Shape) -> None:
        initializer = keras.initializers.Constant(self.initial_value)
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer=initializer, name="gamma")

    def call(self, inputs: Tensor) -> Tensor:
        return ops.multiply(inputs, ops.cast(self.gamma, self.compute_dtype))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "initial_value": self.initial_value}
