"""Grouped convolutions (ResNeXt) by TensorFlow's one operator, which Keras leaves for a compiled one."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.layers.backend import TENSORFLOW, Tensor, register, tensor_of, tf
from keras_deeplab.layers.tracing import export_choice, has_gpu, takes_native
from keras_deeplab.layers.windows import Pair


def grouped_convolution(inputs: Tensor, kernel: Tensor, strides: Pair, padding: str, dilation_rate: Pair) -> Tensor:
    """Maps (B, H, W, C) and a (h, w, C / groups, F) kernel to (B, H', W', F).

    TensorFlow's operator runs on GPUs, and on CPUs with oneDNN; its gradient doesn't on a CPU, where Keras compiles
    both with XLA, which no converter takes and which is compiled anew for every size. So the forward pass is the
    operator, and the gradient that of Keras's path.
    """
    if not TENSORFLOW or not (has_gpu() or takes_native(keras.backend.standardize_dtype(kernel.dtype))):
        return ops.conv(inputs, kernel, strides, padding, "channels_last", dilation_rate)
    attributes = {
        "strides": [1, *strides, 1],
        "dilations": [1, *dilation_rate, 1],
        "padding": padding.upper(),
    }
    if export_choice() or has_gpu():
        return tf.raw_ops.Conv2D(input=inputs, filter=kernel, **attributes)

    @tf.custom_gradient
    def convolution(inputs, kernel):
        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch((inputs, kernel))
                outputs = ops.conv(inputs, kernel, strides, padding, "channels_last", dilation_rate)
            return tape.gradient(outputs, (inputs, kernel), upstream)

        return tf.raw_ops.Conv2D(input=inputs, filter=kernel, **attributes), gradient

    return convolution(inputs, kernel)


@register
class GroupedConv2D(keras.layers.Conv2D):
    """Maps (B, H, W, C) to (B, H', W', filters) by a convolution of several groups, with the variables of `Conv2D`.

    Args:
        data_format: `"channels_last"`.

    The other arguments are those of `keras.layers.Conv2D`.

    Raises:
        ValueError: the data format is another.

    Example:

    >>> layer = GroupedConv2D(4, 3, groups=2)
    >>> tuple(layer(keras.ops.ones((1, 9, 7, 6))).shape), [tuple(v.shape) for v in layer.weights]
    ((1, 7, 5, 4), [(3, 3, 3, 4), (4,)])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.data_format != "channels_last":
            raise ValueError(
                f"{self.name}: GroupedConv2D takes (batch, height, width, channels) only. Received: "
                f"data_format={self.data_format!r}."
            )

    def convolution_op(self, inputs: Tensor, kernel: Any) -> Tensor:
        return grouped_convolution(inputs, tensor_of(kernel), self.strides, self.padding, self.dilation_rate)
