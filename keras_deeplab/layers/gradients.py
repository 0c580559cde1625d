"""TensorFlow's native dilated operators, with the gradients that its CPU lacks or gets wrong."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from keras_deeplab.layers.backend import Tensor, tf
from keras_deeplab.layers.tracing import onednn_runs
from keras_deeplab.layers.windows import Padding, Pair, extents_of, padded, pads_of, simplified


def _native_attributes(padding: str, dilation_rate: Pair) -> dict[str, Any]:
    return {"strides": [1, 1, 1, 1], "dilations": [1, *dilation_rate, 1], "padding": padding.upper()}


def native_convolution(inputs: Tensor, kernel: Tensor, padding: str, dilation_rate: Pair) -> Tensor:
    """TensorFlow's one operator, which has no gradient of its own in some types on a CPU."""
    return tf.raw_ops.Conv2D(input=inputs, filter=kernel, **_native_attributes(padding, dilation_rate))


# oneDNN keeps its fast depthwise kernel up to this many columns of padding of its own: 4 with AVX2, 6 with AVX-512.
# Beyond, it is up to 20 times slower than on a map that was padded for it.
_WIDEST_PAD = 4


def native_depthwise_convolution(
    inputs: Tensor, kernel: Tensor, padding: str, dilation_rate: Pair, fastest: bool = True
) -> Tensor:
    """TensorFlow's one operator, whose own gradient is wrong; `fastest` pads the map first where oneDNN is slow."""
    if fastest:
        pads = pads_of(padding, kernel.shape[:2], dilation_rate)
        if max(pads[1]) > _WIDEST_PAD:
            inputs, padding = padded(inputs, pads)
    attributes = _native_attributes(padding, dilation_rate)
    return tf.raw_ops.DepthwiseConv2dNative(input=inputs, filter=kernel, **attributes)


# Above this ratio of padded to plain area, most of what space to batch would move is padding.
_SPARSE = 4


def _sizes(tensor: Tensor) -> tuple[Any, Any]:
    """Height and width, ints where known and scalar tensors where not."""
    dynamic = tf.shape(tensor)
    height, width = (dynamic[axis] if tensor.shape[axis] is None else tensor.shape[axis] for axis in (1, 2))
    return height, width


def _least(a: Any, b: Any) -> Any:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tf.minimum(a, b)


def _most(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else tf.maximum(a, b)


def _windows(taps: int, rate: int, pad: int, input_size: Any, output_size: Any) -> Iterator[tuple[Any, Any, Any]]:
    """For each tap along one axis: the first output position that reads inside the map, the input position it reads,
    and how many such positions follow one another (0 where the tap only ever reads padding)."""
    for tap in range(taps):
        offset = tap * rate - pad
        start = _least(_most(0, -offset), output_size)
        length = _most(0, _least(output_size, input_size - offset) - start)
        yield start, _least(_most(0, start + offset), input_size), length


def _tap_regions(
    inputs: Tensor, gradients: Tensor, kernel_size: Pair, padding: Padding, dilation_rate: Pair
) -> Iterator[tuple[Any, Any, Any] | None]:
    """Yields, tap by tap in the kernel's order, the two windows that the tap ties together, or None for no positions:
    ((top, left) in the gradients, (top, left) in the inputs, (height, width))."""
    pads = pads_of(padding, kernel_size, dilation_rate)
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


def _crop(tensor: Tensor, corner: tuple[Any, Any], size: tuple[Any, Any]) -> Tensor:
    (top, left), (height, width) = corner, size
    return tensor[:, top : top + height, left : left + width]


def _in_turn(steps: list[Callable[[], Tensor]]) -> list[Tensor]:
    """Runs the callables one after another and returns their results: at once, each would hold a copy of the map."""
    results: list[Tensor] = []
    for step in steps:
        with tf.control_dependencies(results[-1:]):
            results.append(step())
    return results


def tensorflow_convolution(inputs: Tensor, kernel: Tensor, padding: str, dilation_rate: Pair) -> Tensor:
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
            if onednn_runs(kernel.dtype.name):
                inputs_gradient = tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(inputs),
                    filter=kernel,
                    out_backprop=gradients,
                    **_native_attributes(padding, dilation_rate),
                )
            else:
                inputs_gradient = input_gradient(inputs, kernel, gradients)
            return inputs_gradient, kernel_gradient(inputs, gradients)

        return native_convolution(inputs, kernel, padding, dilation_rate), gradient

    return convolution(inputs, kernel)


def tensorflow_depthwise_convolution(inputs: Tensor, kernel: Tensor, padding: str, dilation_rate: Pair) -> Tensor:
    """The native operator with a right gradient: the registered one ignores the rate and says nothing."""
    kernel_size, channels, multiplier = kernel.shape[:2], kernel.shape[2], kernel.shape[3]
    extents, pads = extents_of(kernel_size, dilation_rate), pads_of(padding, kernel_size, dilation_rate)

    def input_gradient(kernel, gradients):
        # A correlation with the kernel turned round, padded by what the forward pass left of the kernel's reach.
        turned_pads = tuple(
            (extent - before, extent - after) for extent, (before, after) in zip(extents, pads, strict=True)
        )
        turned_padding, _ = simplified(turned_pads, kernel_size, dilation_rate)
        gradients, turned_padding = padded(gradients, turned_padding)
        turned = tf.reverse(kernel, [0, 1])
        parts = [
            tensorflow_depthwise_convolution(
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

        return native_depthwise_convolution(inputs, kernel, padding, dilation_rate), gradient

    return convolution(inputs, kernel)
