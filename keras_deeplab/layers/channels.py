"""A part of a map's channels."""

import keras

from keras_deeplab.layers.backend import Tensor, register
from keras_deeplab.layers.windows import Shape


@register
class ChannelSlice(keras.layers.Layer):
    """Maps (..., C) to (..., stop - start): the channels from `start` up to `stop`, which isn't among them.

    Args:
        start, stop: positions from 0 to C.

    Raises:
        ValueError: the input has fewer channels than `stop`, or `start` isn't before it.

    Example:

    >>> layer = ChannelSlice(1, 3)
    >>> [float(value) for value in keras.ops.ravel(layer(keras.ops.reshape(keras.ops.arange(4.0), (1, 1, 1, 4))))]
    [1.0, 2.0]
    """

    def __init__(self, start: int, stop: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if not 0 <= start < stop:
            raise ValueError(f"ChannelSlice needs 0 <= start < stop; received start={start!r}, stop={stop!r}.")
        self.start, self.stop = start, stop

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[..., self.start : self.stop]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if input_shape[-1] is not None and input_shape[-1] < self.stop:
            raise ValueError(f"{self.name!r} takes channels up to {self.stop}; its input has {input_shape[-1]}.")
        return (*input_shape[:-1], self.stop - self.start)

    def build(self, input_shape: Shape) -> None:
        self.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "start": self.start, "stop": self.stop}
