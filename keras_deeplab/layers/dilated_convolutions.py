"""Dilated convolutions of stride 1 with the variables of the Keras layers they stand in for."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.layers.backend import TENSORFLOW, Tensor, register, tensor_of, tf
from keras_deeplab.layers.gradients import (
    native_convolution,
    native_depthwise_convolution,
    tensorflow_convolution,
    tensorflow_depthwise_convolution,
)
from keras_deeplab.layers.grouped_convolutions import grouped_convolution
from keras_deeplab.layers.tracing import export_choice, has_gpu, takes_native
from keras_deeplab.layers.windows import (
    Padding,
    Pair,
    Shape,
    check_convolution,
    output_shape,
    padded,
    padding_config,
    reaching,
    simplified,
    standardize_padding,
)


def _convolution(inputs: Tensor, kernel: Tensor, padding: Padding, dilation_rate: Pair) -> Tensor:
    """Maps (B, H, W, C) and a (h, w, C / groups, F) kernel to (B, H', W', F)."""
    if not export_choice():
        kernel, padding = reaching(inputs, kernel, padding, dilation_rate)
    padding, dilation_rate = simplified(padding, kernel.shape[:2], dilation_rate)
    inputs, padding = padded(inputs, padding)
    if inputs.shape[-1] != kernel.shape[2]:
        return grouped_convolution(inputs, kernel, (1, 1), padding, dilation_rate)
    if not TENSORFLOW or dilation_rate == (1, 1):
        return ops.conv(inputs, kernel, 1, padding, "channels_last", dilation_rate)
    if export_choice() or has_gpu():
        return native_convolution(inputs, kernel, padding, dilation_rate)
    return tensorflow_convolution(inputs, kernel, padding, dilation_rate)


def _depthwise_convolution(inputs: Tensor, kernel: Tensor, padding: Padding, dilation_rate: Pair) -> Tensor:
    """Maps (B, H, W, C) and a (h, w, C, M) kernel to (B, H', W', C * M)."""
    if not export_choice():
        kernel, padding = reaching(inputs, kernel, padding, dilation_rate)
    padding, dilation_rate = simplified(padding, kernel.shape[:2], dilation_rate)
    inputs, padding = padded(inputs, padding)
    if tuple(kernel.shape[:2]) == (1, 1) and kernel.shape[3] == 1 and not export_choice():
        return inputs * kernel[:, :, :, 0]
    if not TENSORFLOW or dilation_rate == (1, 1) or not takes_native(kernel.dtype.name):
        return ops.depthwise_conv(inputs, kernel, 1, padding, "channels_last", dilation_rate)
    if export_choice():
        fastest = export_choice() == (None,)
        outputs = native_depthwise_convolution(inputs, kernel, padding, dilation_rate, fastest)
        return tf.raw_ops.PreventGradient(input=outputs, message="This was traced for inference, in export_ops().")
    return tensorflow_depthwise_convolution(inputs, kernel, padding, dilation_rate)


def _finish(layer: Any, outputs: Tensor) -> Tensor:
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


@register
class DilatedConv2D(keras.layers.Conv2D):
    """Maps (B, H, W, C) to (B, H', W', filters) by a dilated convolution of stride 1, with the variables of `Conv2D`.

    Args:
        padding: `"same"`, `"valid"` or explicit rows and columns of zeros, `((top, bottom), (left, right))`. Of an odd
            total `"same"` puts the larger half at the bottom and right, as TensorFlow does.
        strides: 1.
        data_format: `"channels_last"`.

    The other arguments are those of `keras.layers.Conv2D`.

    Raises:
        ValueError: stride, data format or padding is another, or the dilated kernel is larger than the padded map.

    Example:

    >>> layer = DilatedConv2D(4, 3, padding="same", dilation_rate=6)
    >>> tuple(layer(keras.ops.ones((1, 9, 7, 2))).shape), [tuple(v.shape) for v in layer.weights]
    ((1, 9, 7, 4), [(3, 3, 2, 4), (4,)])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: Padding = "valid",
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
        groups: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, 1, "valid", data_format, dilation_rate, groups, **kwargs)
        check_convolution(self, strides)
        self.padding = standardize_padding(padding, self.name)

    def convolution_op(self, inputs: Tensor, kernel: Any) -> Tensor:
        return _convolution(inputs, tensor_of(kernel), self.padding, self.dilation_rate)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return output_shape(self, input_shape, self.kernel_size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": padding_config(self.padding)}


@register
class DilatedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Maps (B, H, W, C) to (B, H', W', C * depth_multiplier) by a dilated depthwise convolution of stride 1.

    The variables are those of `DepthwiseConv2D`.

    Args:
        padding: `"same"`, `"valid"` or explicit rows and columns of zeros, `((top, bottom), (left, right))`. Of an odd
            total `"same"` puts the larger half at the bottom and right, as TensorFlow does.
        strides: 1.
        data_format: `"channels_last"`.

    The other arguments are those of `keras.layers.DepthwiseConv2D`.

    Raises:
        ValueError: stride, data format or padding is another, or the dilated kernel is larger than the padded map.

    Example:

    >>> layer = DilatedDepthwiseConv2D(3, padding=((4, 4), (4, 4)), dilation_rate=4)
    >>> tuple(layer(keras.ops.ones((1, 9, 7, 2))).shape), [tuple(v.shape) for v in layer.weights]
    ((1, 9, 7, 2), [(3, 3, 2, 1), (2,)])
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: Padding = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(kernel_size, 1, "valid", depth_multiplier, data_format, dilation_rate, **kwargs)
        check_convolution(self, strides)
        self.padding = standardize_padding(padding, self.name)

    def call(self, inputs: Tensor) -> Tensor:
        kernel = tensor_of(self.kernel)
        return _finish(self, _depthwise_convolution(inputs, kernel, self.padding, self.dilation_rate))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return output_shape(self, input_shape, self.kernel_size, input_shape[-1] * self.depth_multiplier)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": padding_config(self.padding)}


@register
class DilatedSeparableConv2D(keras.layers.SeparableConv2D):
    """Maps (B, H, W, C) to (B, H', W', filters): a dilated depthwise convolution of stride 1, then a 1x1 convolution.

    The variables are those of `SeparableConv2D`.

    Args:
        padding: `"same"`, `"valid"` or explicit rows and columns of zeros, `((top, bottom), (left, right))`. Of an odd
            total `"same"` puts the larger half at the bottom and right, as TensorFlow does.
        strides: 1.
        data_format: `"channels_last"`.

    The other arguments are those of `keras.layers.SeparableConv2D`.

    Raises:
        ValueError: stride, data format or padding is another, or the dilated kernel is larger than the padded map.

    Example:

    >>> layer = DilatedSeparableConv2D(4, 3, padding="same", dilation_rate=6, use_bias=False)
    >>> tuple(layer(keras.ops.ones((1, 9, 7, 2))).shape), [tuple(v.shape) for v in layer.weights]
    ((1, 9, 7, 4), [(3, 3, 2, 1), (1, 1, 2, 4)])
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Pair,
        strides: int | Pair = (1, 1),
        padding: Padding = "valid",
        data_format: str | None = None,
        dilation_rate: int | Pair = (1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, kernel_size, 1, "valid", data_format, dilation_rate, **kwargs)
        check_convolution(self, strides)
        self.padding = standardize_padding(padding, self.name)

    def call(self, inputs: Tensor) -> Tensor:
        kernel = tensor_of(self.depthwise_kernel)
        outputs = _depthwise_convolution(inputs, kernel, self.padding, self.dilation_rate)
        return _finish(self, ops.conv(outputs, self.pointwise_kernel, 1, "valid", "channels_last"))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return output_shape(self, input_shape, self.kernel_size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": padding_config(self.padding)}
