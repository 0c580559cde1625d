"""Layers that Keras lacks or runs slowly: dilated convolutions and pools at stride 1, bilinear resizes.

The convolutions have the variables of the Keras layers they stand in for. On the TensorFlow backend their forward pass
is one native operator at any size, known or not (Keras's own dilated layers go through space-to-batch there), and their
gradients are this module's, because TensorFlow's CPU has none for some types and a silently wrong one for depthwise
kernels. Other backends take Keras's path. `docs/dilated_convolution.md` has the timings and what lies behind them.

Every class is registered under the package name `keras_deeplab`, so a `.keras` file that holds them reloads without
`custom_objects` once this module has been imported.
"""

import contextlib
import functools
import math
import threading
from fractions import Fraction

import keras
import ml_dtypes
import numpy as np
from keras import ops

_TENSORFLOW = keras.backend.backend() == "tensorflow"
if _TENSORFLOW:
    import tensorflow as tf

_register = keras.saving.register_keras_serializable("keras_deeplab")


# Arguments and shapes ---------------------------------------------------------------------------------------


def _standardize_padding(padding, layer_name):
    """Maps a `padding` argument to "same", "valid" or ((top, bottom), (left, right)) of ints from 0 up."""
    if isinstance(padding, str) and padding.lower() in ("same", "valid"):
        return padding.lower()
    with contextlib.suppress(TypeError, ValueError):
        (top, bottom), (left, right) = padding
        pads = ((int(top), int(bottom)), (int(left), int(right)))
        if pads == ((top, bottom), (left, right)) and min(*pads[0], *pads[1]) >= 0:
            return pads
    raise ValueError(
        f'{layer_name}: `padding` must be "same", "valid" or ((top, bottom), (left, right)) in whole numbers from 0 '
        f"up. Received: padding={padding!r}"
    )


def _standardize_pair(value, argument, layer_name):
    """Maps an int or a pair of ints to a pair, each at least 1."""
    pair = (value, value) if isinstance(value, int) else value
    with contextlib.suppress(TypeError, ValueError):
        first, second = pair
        if (int(first), int(second)) == (first, second) and min(first, second) >= 1:
            return (int(first), int(second))
    raise ValueError(
        f"{layer_name}: `{argument}` must be one or two whole numbers from 1 up. Received: {argument}={value!r}"
    )


def _check_convolution(layer, strides):
    """Raises ValueError unless the layer is asked for stride 1 and channels_last."""
    name = type(layer).__name__
    if strides not in (1, (1, 1), [1, 1]):
        raise ValueError(
            f"{layer.name}: {name} has stride 1 only. Received: strides={strides!r}. Use "
            f"keras.layers.{name.removeprefix('Dilated')} for a strided convolution, or subsample this layer's output "
            "(y[:, ::2, ::2])."
        )
    if layer.data_format != "channels_last":
        raise ValueError(
            f"{layer.name}: {name} takes (batch, height, width, channels) only. Received: "
            f'data_format={layer.data_format!r}. Pass data_format="channels_last" and transpose the input to it.'
        )


def _extents(kernel_size, dilation_rate):
    """How far each axis of the dilated kernel reaches from its first tap to its last."""
    return tuple(rate * (size - 1) for size, rate in zip(kernel_size, dilation_rate, strict=True))


def _pads(padding, kernel_size, dilation_rate):
    """Maps a standardised padding to ((top, bottom), (left, right)); of an odd total "same" puts more at the end."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        return tuple((extent // 2, extent - extent // 2) for extent in _extents(kernel_size, dilation_rate))
    return padding


def _output_shape(layer, input_shape, kernel_size, channels):
    """Maps (B, H, W, C) to (B, H', W', channels); unknown sizes stay None, an empty map is a ValueError."""
    if len(input_shape) != 4:
        raise ValueError(
            f"{layer.name}: the input must have the shape (batch, height, width, channels). "
            f"Received: shape={tuple(input_shape)}"
        )
    extents = _extents(kernel_size, layer.dilation_rate)
    pads = _pads(layer.padding, kernel_size, layer.dilation_rate)
    height, width = (
        None if size is None else size + sum(pair) - extent
        for size, pair, extent in zip(input_shape[1:3], pads, extents, strict=True)
    )
    if any(size is not None and size < 1 for size in (height, width)):
        raise ValueError(
            f"{layer.name}: a window of {extents[0] + 1}x{extents[1] + 1} positions ({kernel_size[0]}x{kernel_size[1]} "
            f"at dilation_rate={layer.dilation_rate}) does not fit a map of {input_shape[1]}x{input_shape[2]} with "
            f'padding={layer.padding!r}. Use padding="same" or a larger map.'
        )
    return (input_shape[0], height, width, channels)


def _padding_config(padding):
    return padding if isinstance(padding, str) else [list(pair) for pair in padding]


# Which operator computes a dilated convolution --------------------------------------------------------------

_tracing = threading.local()


@contextlib.contextmanager
def export_ops(native=True):
    """Has dilated convolutions traced for inference alone, in this thread, on TensorFlow; `native` says to what.

    Left alone, a layer takes the native operator where this machine can run it, pads the map first where oneDNN is
    slow otherwise, and brings its own gradient, which a SavedModel would store as well. In this context nothing is
    stored; asking for a native depthwise operator's gradient is an error.

    TensorFlow runs dilated depthwise operators on CPUs with oneDNN (the default on x86) in float32 and bfloat16. On
    other CPUs and in other types a graph that holds one fails when it runs; GPUs have not been tried.

    Args:
        native: True traces one operator and no pads, whether or not this machine can run it: for converters to another
            runtime. None traces what runs fastest on this machine: for a SavedModel to be served on one like it.
            False traces depthwise convolutions to Keras's operators, which run on every device: for a SavedModel to be
            served anywhere.

    Example:

    >>> with export_ops(native=False):
    ...     y = DilatedDepthwiseConv2D(3, padding="same", dilation_rate=2)(keras.ops.ones((1, 5, 5, 8)))
    >>> tuple(y.shape)
    (1, 5, 5, 8)
    """
    previous = _export()
    _tracing.export = (native,)
    try:
        yield
    finally:
        _tracing.export = previous


def _export():
    """Outside of `export_ops` (), inside (native,)."""
    return getattr(_tracing, "export", ())


@functools.cache
def _has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def _onednn_runs(dtype):
    """Whether oneDNN serves dilated convolutions of `dtype` in this process, found out by running a depthwise one."""
    if _has_gpu():
        return False
    with tf.init_scope():
        try:
            outputs = tf.raw_ops.DepthwiseConv2dNative(
                input=tf.cast(tf.reshape(tf.range(9), (1, 9, 1, 1)), dtype),
                filter=tf.ones((2, 1, 1, 1), dtype),
                strides=[1, 1, 1, 1],
                dilations=[1, 3, 3, 1],
                padding="VALID",
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
            return False
        return [float(value) for value in tf.reshape(outputs, [-1])] == [3.0, 5.0, 7.0, 9.0, 11.0, 13.0]


def _takes_native_depthwise(dtype):
    (native,) = _export() or (None,)
    return _onednn_runs(dtype) if native is None else native


# Convolutions as functions ----------------------------------------------------------------------------------


def _simplified(padding, kernel_size, dilation_rate):
    """The same convolution in the plainest terms: no rate across a single tap, no pads where a word says it."""
    rate = tuple(rate if size > 1 else 1 for size, rate in zip(kernel_size, dilation_rate, strict=True))
    if not isinstance(padding, str):
        for word in ("valid", "same"):
            if padding == _pads(word, kernel_size, rate):
                padding = word
    return padding, rate


def _padded(inputs, padding):
    """The inputs with explicit pads written out, and the word that stands for what is left to pad.

    TensorFlow's operators take explicit pads themselves, but oneDNN's dilated depthwise one ends the process on them
    when it runs in a graph, and the dense one has no gradients with them.
    """
    if isinstance(padding, str):
        return inputs, padding
    return ops.pad(inputs, ((0, 0), *padding, (0, 0))), "valid"


def _convolution(inputs, kernel, padding, dilation_rate):
    """Maps (B, H, W, C) and a (h, w, C / groups, F) kernel to (B, H', W', F)."""
    padding, dilation_rate = _simplified(padding, kernel.shape[:2], dilation_rate)
    inputs, padding = _padded(inputs, padding)
    if not _TENSORFLOW or dilation_rate == (1, 1) or inputs.shape[-1] != kernel.shape[2]:
        return ops.conv(inputs, kernel, 1, padding, "channels_last", dilation_rate)
    if _export() or _has_gpu():
        return _native_convolution(inputs, kernel, padding, dilation_rate)
    return _tensorflow_convolution(inputs, kernel, padding, dilation_rate)


def _depthwise_convolution(inputs, kernel, padding, dilation_rate):
    """Maps (B, H, W, C) and a (h, w, C, M) kernel to (B, H', W', C * M)."""
    padding, dilation_rate = _simplified(padding, kernel.shape[:2], dilation_rate)
    inputs, padding = _padded(inputs, padding)
    if not _TENSORFLOW or dilation_rate == (1, 1) or not _takes_native_depthwise(kernel.dtype.name):
        return ops.depthwise_conv(inputs, kernel, 1, padding, "channels_last", dilation_rate)
    if _export():
        fastest = _export() == (None,)
        outputs = _native_depthwise_convolution(inputs, kernel, padding, dilation_rate, fastest)
        return tf.raw_ops.PreventGradient(input=outputs, message="This was traced for inference, in export_ops().")
    return _tensorflow_depthwise_convolution(inputs, kernel, padding, dilation_rate)


def _native_attributes(padding, dilation_rate):
    return {"strides": [1, 1, 1, 1], "dilations": [1, *dilation_rate, 1], "padding": padding.upper()}


def _native_convolution(inputs, kernel, padding, dilation_rate):
    return tf.raw_ops.Conv2D(input=inputs, filter=kernel, **_native_attributes(padding, dilation_rate))


# oneDNN keeps its fast depthwise kernel up to this many columns of padding of its own: 4 with AVX2, 6 with AVX-512.
# Beyond, it is up to 20 times slower than on a map that was padded for it.
_WIDEST_PAD = 4


def _native_depthwise_convolution(inputs, kernel, padding, dilation_rate, fastest=True):
    if fastest:
        pads = _pads(padding, kernel.shape[:2], dilation_rate)
        if max(pads[1]) > _WIDEST_PAD:
            inputs, padding = _padded(inputs, pads)
    attributes = _native_attributes(padding, dilation_rate)
    return tf.raw_ops.DepthwiseConv2dNative(input=inputs, filter=kernel, **attributes)


# Their gradients on TensorFlow's CPU ------------------------------------------------------------------------

# Above this ratio of padded to plain area, most of what space to batch would move is padding.
_SPARSE = 4


def _sizes(tensor):
    """Height and width, ints where known and scalar tensors where not."""
    dynamic = tf.shape(tensor)
    return tuple(dynamic[axis] if tensor.shape[axis] is None else tensor.shape[axis] for axis in (1, 2))


def _least(a, b):
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)


def _most(a, b):
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


def _windows(taps, rate, pad, input_size, output_size):
    """For each tap along one axis: the first output position that reads inside the map, the input position it reads,
    and how many such positions follow one another (0 where the tap only ever reads padding)."""
    for tap in range(taps):
        offset = tap * rate - pad
        start = _least(_most(0, -offset), output_size)
        length = _most(0, _least(output_size, input_size - offset) - start)
        yield start, _least(_most(0, start + offset), input_size), length


def _tap_regions(inputs, gradients, kernel_size, padding, dilation_rate):
    """Yields, tap by tap in the kernel's order, the two windows that the tap ties together, or None for no positions:
    ((top, left) in the gradients, (top, left) in the inputs, (height, width))."""
    pads = _pads(padding, kernel_size, dilation_rate)
    rows, columns = (
        tuple(_windows(taps, rate, pair[0], input_size, output_size))
        for taps, rate, pair, input_size, output_size in zip(
            kernel_size, dilation_rate, pads, _sizes(inputs), _sizes(gradients), strict=True
        )
    )
    for top, input_top, height in rows:
        for left, input_left, width in columns:
            is_empty = any(isinstance(size, int) and size == 0 for size in (height, width))
            yield None if is_empty else ((top, left), (input_top, input_left), (height, width))


def _crop(tensor, corner, size):
    (top, left), (height, width) = corner, size
    return tensor[:, top : top + height, left : left + width]


def _in_turn(steps):
    """Runs the callables one after another and returns their results: at once, each would hold a copy of the map."""
    results = []
    for step in steps:
        with tf.control_dependencies(results[-1:]):
            results.append(step())
    return results


def _tensorflow_convolution(inputs, kernel, padding, dilation_rate):
    """The native operator with a gradient that multiplies only where a tap falls inside the map."""
    kernel_size, channels, filters = kernel.shape[:2], kernel.shape[2], kernel.shape[3]

    def kernel_gradient(inputs, gradients):
        def tap_gradient(region):
            if region is None:
                return tf.zeros((channels, filters), gradients.dtype)
            corner, input_corner, size = region
            return tf.matmul(
                tf.reshape(_crop(inputs, input_corner, size), (-1, channels)),
                tf.reshape(_crop(gradients, corner, size), (-1, filters)),
                transpose_a=True,
            )

        regions = _tap_regions(inputs, gradients, kernel_size, padding, dilation_rate)
        taps = _in_turn([functools.partial(tap_gradient, region) for region in regions])
        return tf.reshape(tf.stack(taps), kernel.shape)

    def input_gradient(inputs, kernel, gradients):
        total = tf.zeros_like(inputs)
        batch, (input_height, input_width) = tf.shape(inputs)[0], _sizes(inputs)
        taps = tf.unstack(tf.reshape(kernel, (-1, channels, filters)))
        regions = _tap_regions(inputs, gradients, kernel_size, padding, dilation_rate)
        for tap, region in zip(taps, regions, strict=True):
            if region is None:
                continue
            corner, (top, left), (height, width) = region
            with tf.control_dependencies([total]):
                part = tf.matmul(
                    tf.reshape(_crop(gradients, corner, (height, width)), (-1, filters)), tap, transpose_b=True
                )
            part = tf.reshape(part, (batch, height, width, channels))
            bottom, right = input_height - top - height, input_width - left - width
            total += tf.pad(part, ((0, 0), (top, bottom), (left, right), (0, 0)))
        return total

    @tf.custom_gradient
    def convolution(inputs, kernel):
        def gradient(gradients):
            if _onednn_runs(kernel.dtype.name):
                inputs_gradient = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs),
                    filter=kernel,
                    out_backprop=gradients,
                    **_native_attributes(padding, dilation_rate),
                )
            else:
                inputs_gradient = input_gradient(inputs, kernel, gradients)
            return inputs_gradient, kernel_gradient(inputs, gradients)

        return _native_convolution(inputs, kernel, padding, dilation_rate), gradient

    return convolution(inputs, kernel)


def _tensorflow_depthwise_convolution(inputs, kernel, padding, dilation_rate):
    """The native operator with a right gradient: the registered one ignores the rate and says nothing."""
    kernel_size, channels, multiplier = kernel.shape[:2], kernel.shape[2], kernel.shape[3]
    extents, pads = _extents(kernel_size, dilation_rate), _pads(padding, kernel_size, dilation_rate)

    def input_gradient(kernel, gradients):
        # A correlation with the kernel turned round, padded by what the forward pass left of the kernel's reach.
        turned_pads = tuple(
            (extent - before, extent - after) for extent, (before, after) in zip(extents, pads, strict=True)
        )
        turned_padding, _ = _simplified(turned_pads, kernel_size, dilation_rate)
        gradients, turned_padding = _padded(gradients, turned_padding)
        turned = tf.reverse(kernel, [0, 1])
        parts = [
            _tensorflow_depthwise_convolution(
                gradients[..., m::multiplier], turned[..., m : m + 1], turned_padding, dilation_rate
            )
            for m in range(multiplier)
        ]
        return tf.add_n(parts)

    def kernel_gradient(inputs, gradients):
        sizes = _sizes(gradients)
        # Each of the rate's phases is a plain map of its own: space to batch, and the kernel is not dilated any more.
        rounded = [-(-size // rate) * rate for size, rate in zip(sizes, dilation_rate, strict=True)]
        if all(isinstance(size, int) for size in (*sizes, *_sizes(inputs))):
            area = (rounded[0] + extents[0]) * (rounded[1] + extents[1])
            if area > _SPARSE * sizes[0] * sizes[1]:
                return kernel_gradient_by_taps(inputs, gradients)
        fill = [new - old for new, old in zip(rounded, sizes, strict=True)]
        input_fill = [(before, after + more) for (before, after), more in zip(pads, fill, strict=True)]
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=tf.space_to_batch(inputs, dilation_rate, input_fill),
            filter_sizes=kernel.shape,
            out_backprop=tf.space_to_batch(gradients, dilation_rate, [(0, more) for more in fill]),
            strides=[1, 1, 1, 1],
            padding="VALID",
        )

    def kernel_gradient_by_taps(inputs, gradients):
        taps = []
        for region in _tap_regions(inputs, gradients, kernel_size, padding, dilation_rate):
            if region is None:
                taps.append(tf.zeros((channels, multiplier), gradients.dtype))
                continue
            corner, input_corner, size = region
            outputs = tf.reshape(_crop(gradients, corner, size), (-1, *size, channels, multiplier))
            taps.append(tf.reduce_sum(outputs * _crop(inputs, input_corner, size)[..., None], (0, 1, 2)))
        return tf.reshape(tf.stack(taps), kernel.shape)

    @tf.custom_gradient
    def convolution(inputs, kernel):
        def gradient(gradients):
            return input_gradient(kernel, gradients), kernel_gradient(inputs, gradients)

        return _native_depthwise_convolution(inputs, kernel, padding, dilation_rate), gradient

    return convolution(inputs, kernel)


# Convolution layers -----------------------------------------------------------------------------------------


def _tensor(variable):
    """The variable's value in the layer's compute dtype. `ops` alone would hand on a tf.Variable, whose gradient a
    custom gradient may not define."""
    value = ops.convert_to_tensor(variable)
    return tf.convert_to_tensor(value) if _TENSORFLOW else value


def _finish(layer, outputs):
    if layer.use_bias:
        outputs = ops.add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


@_register
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
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        groups=1,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, 1, "valid", data_format, dilation_rate, groups, **kwargs)
        _check_convolution(self, strides)
        self.padding = _standardize_padding(padding, self.name)

    def convolution_op(self, inputs, kernel):
        return _convolution(inputs, _tensor(kernel), self.padding, self.dilation_rate)

    def compute_output_shape(self, input_shape):
        return _output_shape(self, input_shape, self.kernel_size, self.filters)

    def get_config(self):
        return {**super().get_config(), "padding": _padding_config(self.padding)}


@_register
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
        kernel_size,
        strides=(1, 1),
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=(1, 1),
        **kwargs,
    ):
        super().__init__(kernel_size, 1, "valid", depth_multiplier, data_format, dilation_rate, **kwargs)
        _check_convolution(self, strides)
        self.padding = _standardize_padding(padding, self.name)

    def call(self, inputs):
        kernel = _tensor(self.kernel)
        return _finish(self, _depthwise_convolution(inputs, kernel, self.padding, self.dilation_rate))

    def compute_output_shape(self, input_shape):
        return _output_shape(self, input_shape, self.kernel_size, input_shape[-1] * self.depth_multiplier)

    def get_config(self):
        return {**super().get_config(), "padding": _padding_config(self.padding)}


@_register
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
        filters,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        data_format=None,
        dilation_rate=(1, 1),
        **kwargs,
    ):
        super().__init__(filters, kernel_size, 1, "valid", data_format, dilation_rate, **kwargs)
        _check_convolution(self, strides)
        self.padding = _standardize_padding(padding, self.name)

    def call(self, inputs):
        kernel = _tensor(self.depthwise_kernel)
        outputs = _depthwise_convolution(inputs, kernel, self.padding, self.dilation_rate)
        return _finish(self, ops.conv(outputs, self.pointwise_kernel, 1, "valid", "channels_last"))

    def compute_output_shape(self, input_shape):
        return _output_shape(self, input_shape, self.kernel_size, self.filters)

    def get_config(self):
        return {**super().get_config(), "padding": _padding_config(self.padding)}


# Pools ------------------------------------------------------------------------------------------------------


class _DilatedPooling2D(keras.layers.Layer):
    def __init__(self, pool_size, dilation_rate=1, padding="valid", **kwargs):
        super().__init__(**kwargs)
        self.pool_size = _standardize_pair(pool_size, "pool_size", self.name)
        self.dilation_rate = _standardize_pair(dilation_rate, "dilation_rate", self.name)
        self.padding = _standardize_padding(padding, self.name)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def _axes(self):
        """Yields axis, tap positions relative to the output's, and the output's size less the input's."""
        pads = _pads(self.padding, self.pool_size, self.dilation_rate)
        for axis, taps, rate, pair in zip((1, 2), self.pool_size, self.dilation_rate, pads, strict=True):
            yield axis, [tap * rate - pair[0] for tap in range(taps)], sum(pair) - rate * (taps - 1)

    def compute_output_shape(self, input_shape):
        return _output_shape(self, input_shape, self.pool_size, input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": list(self.pool_size),
            "dilation_rate": list(self.dilation_rate),
            "padding": _padding_config(self.padding),
        }


def _cut(tensor, axis, start, stop):
    return tensor[:, start:stop] if axis == 1 else tensor[:, :, start:stop]


def _taps(inputs, axis, offsets, growth, fill):
    """The inputs shifted by each offset along `axis` and cut to the output's size, `fill` where there is no input."""
    size = ops.shape(inputs)[axis]
    before, after = max(0, -offsets[0]), max(0, offsets[-1] + growth)
    if before or after:
        pads = [(before, after) if each == axis else (0, 0) for each in range(4)]
        inputs = ops.pad(inputs, pads, constant_values=fill)
    return [_cut(inputs, axis, before + offset, before + offset + size + growth) for offset in offsets]


@_register
class DilatedMaxPooling2D(_DilatedPooling2D):
    """Maps (B, H, W, C) to the maxima over dilated windows at stride 1, (B, H', W', C).

    Padding is never a maximum; a window of padding alone gives the dtype's lowest finite value.

    Args:
        pool_size: the window's taps along height and width, an int or two.
        dilation_rate: the steps from one tap to the next, an int or two.
        padding: `"same"`, `"valid"` or explicit `((top, bottom), (left, right))`.

    Raises:
        ValueError: an argument is none of these, or the window is larger than the padded map.

    Example:

    >>> x = keras.ops.reshape(keras.ops.arange(6, dtype="float32"), (1, 1, 6, 1))
    >>> [float(v) for v in keras.ops.ravel(DilatedMaxPooling2D(3, dilation_rate=2, padding="same")(x))]
    [2.0, 3.0, 4.0, 5.0, 4.0, 5.0]
    """

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)
        if self.dilation_rate == (1, 1) and isinstance(self.padding, str):
            return ops.max_pool(inputs, self.pool_size, 1, self.padding, "channels_last")
        for axis, offsets, growth in self._axes():
            inputs = _maxima(inputs, axis, offsets, growth)
        return inputs


def _maxima(inputs, axis, offsets, growth):
    if growth or 0 not in offsets:
        lowest = float(ml_dtypes.finfo(keras.backend.standardize_dtype(inputs.dtype)).min)
        return functools.reduce(ops.maximum, _taps(inputs, axis, offsets, growth, lowest))
    # Where a tap lies on the output's own position no filling is needed. An int8 converter would have to spread its 256
    # steps down to a filling of -3e38.
    size, outputs = ops.shape(inputs)[axis], inputs
    for offset in offsets:
        if offset == 0:
            continue
        step = min(abs(offset), size) if isinstance(size, int) else ops.minimum(abs(offset), size)
        if offset > 0:
            inside = ops.maximum(_cut(outputs, axis, 0, size - step), _cut(inputs, axis, step, size))
            parts = [inside, _cut(outputs, axis, size - step, size)]
        else:
            inside = ops.maximum(_cut(outputs, axis, step, size), _cut(inputs, axis, 0, size - step))
            parts = [_cut(outputs, axis, 0, step), inside]
        outputs = ops.concatenate(parts, axis)
    return outputs


@_register
class DilatedAveragePooling2D(_DilatedPooling2D):
    """Maps (B, H, W, C) to the means over dilated windows at stride 1, (B, H', W', C).

    A mean is over the window's positions inside the map; a window of padding alone gives 0.

    Args:
        pool_size: the window's taps along height and width, an int or two.
        dilation_rate: the steps from one tap to the next, an int or two.
        padding: `"same"`, `"valid"` or explicit `((top, bottom), (left, right))`.

    Raises:
        ValueError: an argument is none of these, or the window is larger than the padded map.

    Example:

    >>> x = keras.ops.reshape(keras.ops.arange(6, dtype="float32"), (1, 1, 6, 1))
    >>> [float(v) for v in keras.ops.ravel(DilatedAveragePooling2D(3, dilation_rate=2, padding="same")(x))]
    [1.0, 2.0, 2.0, 3.0, 3.0, 4.0]
    """

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)
        for axis, offsets, growth in self._axes():
            size = ops.shape(inputs)[axis]
            inputs = functools.reduce(ops.add, _taps(inputs, axis, offsets, growth, 0))
            if isinstance(size, int):
                counts = _inside(np.arange(size + growth), offsets, size).sum(1)
                scale = ops.cast(1 / np.maximum(counts, 1), inputs.dtype)
            else:
                counts = ops.sum(ops.cast(_inside(ops.arange(size + growth), offsets, size), inputs.dtype), 1)
                scale = 1 / ops.maximum(counts, 1)
            inputs = inputs * ops.reshape(scale, (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1))
        return inputs


def _inside(positions, offsets, size):
    """(output positions, taps): whether the tap falls inside the map."""
    positions = positions[:, None] + np.asarray(offsets, "int32")
    return (positions >= 0) & (positions < size)


# Resize -----------------------------------------------------------------------------------------------------


@_register
class ResizeBilinear(keras.layers.Layer):
    """Maps `[x, reference]`, (B, h, w, C) and (B, H, W, D), to `x` resized bilinearly to (B, H, W, C).

    The sizes may be unknown when the model is built. Half-precision maps are resized in float32 and cast back.

    Args:
        align_corners: True lays corner pixel centre on corner pixel centre, as TF1's DeepLab does; False lays edge on
            edge (half-pixel centres).

    Raises:
        ValueError: it is called on anything but two maps.

    Example:

    >>> x = keras.ops.reshape(keras.ops.convert_to_tensor([0.0, 8.0]), (1, 1, 2, 1))
    >>> reference = keras.ops.zeros((1, 2, 5, 3))
    >>> [float(v) for v in ResizeBilinear()([x, reference])[0, 1, :, 0]]
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """

    def __init__(self, align_corners=True, **kwargs):
        super().__init__(**kwargs)
        self.align_corners = bool(align_corners)

    def _check(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            received = f"{len(inputs)} of them" if isinstance(inputs, (list, tuple)) else type(inputs).__name__
            raise ValueError(f"{self.name}: call it on two maps, layer([x, reference]). Received: {received}")

    def build(self, input_shape):
        self._check(input_shape)
        self.built = True

    def call(self, inputs):
        self._check(inputs)
        x, reference = inputs
        size = ops.shape(reference)[1:3]
        if _TENSORFLOW and self.compute_dtype != "float64":
            resized = tf.raw_ops.ResizeBilinear(
                images=tf.cast(x, "float32"),
                size=size,
                align_corners=self.align_corners,
                half_pixel_centers=not self.align_corners,
            )
            return tf.cast(resized, self.compute_dtype)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        rows, columns = (
            _interpolation(old, new, self.align_corners, dtype)
            for old, new in zip(ops.shape(x)[1:3], size, strict=True)
        )
        return ops.cast(ops.einsum("ph,qw,bhwc->bpqc", rows, columns, ops.cast(x, dtype)), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        return (x[0], reference[1], reference[2], x[3])

    def get_config(self):
        return {**super().get_config(), "align_corners": self.align_corners}


def _interpolation(size, new_size, align_corners, dtype):
    """The (new_size, size) matrix of bilinear weights."""
    # Before the sizes become tensors: under JAX's jit an arange needs plain ones.
    positions, sources = ops.arange(new_size, dtype=dtype), ops.arange(size, dtype=dtype)
    size, new_size = ops.cast(size, dtype), ops.cast(new_size, dtype)
    if align_corners:
        positions = positions * (size - 1) / ops.maximum(new_size - 1, 1)
    else:
        positions = (positions + 0.5) * size / new_size - 0.5
    positions = ops.clip(positions, 0, size - 1)
    distances = ops.abs(positions[:, None] - sources)
    return ops.maximum(1 - distances, 0)


@_register
class ScaleBilinear(keras.layers.Layer):
    """Maps (B, H, W, C) to the map scaled bilinearly by a factor, whatever H and W are, both unknown perhaps.

    Positions are the result's divided by `scale` itself; the ratio of the sizes, which are rounded down, isn't used.
    Half-precision maps are scaled in float32 and cast back.

    Args:
        scale: the factor, larger than 0; it is taken as a fraction with a denominator of at most 1000.
        align_corners: True lays the first pixel's centre on the first pixel's centre and gives floor((H - 1) * scale)
            + 1 rows, as Caffe's Interp does; False lays edge on edge (half-pixel centres) and gives floor(H * scale),
            as PyTorch's `interpolate(scale_factor=scale)` does.

    Raises:
        ValueError: `scale` is no positive number, or a map has no rows or columns left.

    Example:

    >>> x = keras.ops.reshape(keras.ops.arange(5, dtype="float32"), (1, 1, 5, 1))
    >>> x = keras.ops.repeat(x, 2, axis=1)
    >>> [float(v) for v in ScaleBilinear(0.5)(x)[0, 0, :, 0]]
    [0.0, 2.0, 4.0]
    >>> [float(v) for v in ScaleBilinear(0.5, align_corners=False)(x)[0, 0, :, 0]]
    [0.5, 2.5]
    """

    def __init__(self, scale, align_corners=True, **kwargs):
        super().__init__(**kwargs)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 1e-3 <= scale < float("inf"):
            raise ValueError(f"{self.name}: `scale` must be a number of 0.001 or more. Received: scale={scale!r}")
        self.scale = scale
        self.align_corners = bool(align_corners)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        outputs = ops.cast(inputs, dtype)
        for axis in (1, 2):
            size = ops.shape(inputs)[axis]
            before, behind, weight = self._neighbours(size)
            weight = ops.reshape(ops.cast(weight, dtype), (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1))
            near, far = ops.take(outputs, before, axis), ops.take(outputs, behind, axis)
            outputs = near + (far - near) * weight
        return ops.cast(outputs, self.compute_dtype)

    def _fraction(self):
        return Fraction(self.scale).limit_denominator(1000).as_integer_ratio()

    def _size(self, size):
        numerator, denominator = self._fraction()
        return (size - 1) * numerator // denominator + 1 if self.align_corners else size * numerator // denominator

    def _neighbours(self, size):
        """For each position of the result: the one at or before it, the next one, and the weight of the next.

        In whole numbers as far as possible: float32 has no room for both the position and what is left over.
        """
        numerator, denominator = self._fraction()
        module, count = (np, self._size(size)) if isinstance(size, int) else (ops, self._size(size))
        positions = module.arange(count)
        if self.align_corners:
            positions, step = positions * denominator, numerator
        else:
            positions, step = (2 * positions + 1) * denominator - numerator, 2 * numerator
        positions = module.clip(positions, 0, (size - 1) * step)
        before = positions // step
        behind = module.minimum(before + 1, size - 1)
        weight = (positions - before * step) / step
        return before, behind, weight

    def compute_output_shape(self, input_shape):
        height, width = (None if size is None else self._size(size) for size in input_shape[1:3])
        if 0 in (height, width):
            raise ValueError(
                f"{self.name}: a map of {input_shape[1]}x{input_shape[2]} has nothing left at scale {self.scale}."
            )
        return (input_shape[0], height, width, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "align_corners": self.align_corners}


@_register
class UpsampleNearest(keras.layers.Layer):
    """Maps `[x, reference]`, (B, h, w, C) and (B, H, W, D), to `x` with every position repeated, cut to (B, H, W, C).

    Unlike a resize to the reference's size, position i of the result is position i // factor of `x` at every size, so
    the grids of strided convolutions stay aligned.

    Args:
        factor: how often a position is repeated along height and along width. `factor * h` must reach H, and
            `factor * w` W.

    Raises:
        ValueError: `factor` is no positive whole number, or too small for two maps of known sizes.

    Example:

    >>> x = keras.ops.reshape(keras.ops.arange(2.0), (1, 1, 2, 1))
    >>> [float(v) for v in UpsampleNearest(2)([x, keras.ops.zeros((1, 1, 3, 5))])[0, 0, :, 0]]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise ValueError(f"{self.name}: `factor` must be a whole number from 1 up. Received: factor={factor!r}")
        self.factor = factor

    def build(self, input_shape):
        self.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs):
        x, reference = inputs
        height, width = ops.shape(reference)[1:3]
        x = ops.repeat(ops.repeat(x, self.factor, 1), self.factor, 2)
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape):
        x, reference = input_shape
        for size, new_size in zip(x[1:3], reference[1:3], strict=True):
            if None not in (size, new_size) and size * self.factor < new_size:
                raise ValueError(
                    f"{self.name}: a map of {x[1]}x{x[2]} repeated {self.factor} times doesn't reach "
                    f"{reference[1]}x{reference[2]}. Use a larger factor or a smaller reference."
                )
        return (x[0], reference[1], reference[2], x[3])

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@_register
class WindowedAveragePooling2D(keras.layers.Layer):
    """Maps (B, H, W, C) to the means of its windows, (B, P, Q, C): only windows that lie wholly inside.

    Like `AveragePooling2D` without padding, but a map that is smaller than the window along an axis is one window
    there, at any size, known when the model is built or not.

    Args:
        pool_size: the window, an int or (height, width).
        strides: steps from a window to the next, an int or (down, across).

    Example:

    >>> import numpy as np
    >>> x = np.arange(6, dtype="float32").reshape(1, 1, 6, 1)
    >>> [float(v) for v in WindowedAveragePooling2D(2, 3)(x)[0, 0, :, 0]]
    [0.5, 3.5]
    >>> [float(v) for v in WindowedAveragePooling2D(8, 3)(x)[0, 0, :, 0]]
    [2.5]
    """

    def __init__(self, pool_size, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = _standardize_pair(pool_size, "pool_size", self.name)
        self.strides = _standardize_pair(strides, "strides", self.name)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs):
        sizes = ops.shape(inputs)[1:3]
        if all(isinstance(size, int) for size in sizes):
            window = tuple(min(pool, size) for pool, size in zip(self.pool_size, sizes, strict=True))
            return ops.average_pool(inputs, window, self.strides, "valid", "channels_last")
        rows, columns = (
            _window_weights(*axis, self.compute_dtype) for axis in zip(sizes, self.pool_size, self.strides, strict=True)
        )
        return ops.einsum("ph,qw,bhwc->bpqc", rows, columns, inputs)

    def compute_output_shape(self, input_shape):
        sizes = [
            None if size is None else (size - min(pool, size)) // stride + 1
            for size, pool, stride in zip(input_shape[1:3], self.pool_size, self.strides, strict=True)
        ]
        return (input_shape[0], *sizes, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "pool_size": list(self.pool_size), "strides": list(self.strides)}


def _window_weights(size, pool, stride, dtype):
    """The (windows, size) matrix that takes the mean of each window along an axis."""
    pool = ops.minimum(pool, size)
    first = ops.arange((size - pool) // stride + 1)[:, None] * stride
    positions = ops.arange(size)
    inside = (positions >= first) & (positions < first + pool)
    return ops.cast(inside, dtype) / ops.cast(pool, dtype)


@_register
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

    def __init__(self, low, high, **kwargs):
        super().__init__(**kwargs)
        if not -math.inf < low <= high < math.inf:
            raise ValueError(
                f"{self.name}: `low` must be at most `high`, both finite. Received: low={low}, high={high}"
            )
        self.low, self.high = float(low), float(high)

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        return ops.clip(inputs, self.low, self.high)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


# Quantisation -----------------------------------------------------------------------------------------------


@_register
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

    def __init__(self, low=0.0, high=6.0, **kwargs):
        super().__init__(**kwargs)
        self._check(low, high)
        self.low, self.high = float(low), float(high)

    @staticmethod
    def _check(low, high):
        if not low <= 0 <= high or low == high:
            raise ValueError(f"a range of int8 must hold 0 and more; received low={low}, high={high}")

    def build(self, input_shape):
        for name, value in (("low", self.low), ("high", self.high)):
            variable = self.add_weight(shape=(), initializer=keras.initializers.Constant(value), name=name)
            setattr(self, f"{name}_end", variable)

    def set_range(self, low, high):
        """Gives the layer another range."""
        self._check(low, high)
        self.low, self.high = float(low), float(high)
        self.low_end.assign(self.low)
        self.high_end.assign(self.high)

    def call(self, inputs):
        low, high = _tensor(self.low_end), _tensor(self.high_end)
        if _TENSORFLOW:
            return tf.quantization.fake_quant_with_min_max_vars(inputs, low, high)
        scale = (high - low) / 255
        zero = ops.clip(ops.round(-low / scale), 0, 255)
        inside = ops.clip(inputs, -zero * scale, (255 - zero) * scale)
        return inside + ops.stop_gradient(ops.round(inside / scale) * scale - inside)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}
