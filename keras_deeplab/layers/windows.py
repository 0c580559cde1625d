"""What convolutions and pools at stride 1 share: padding and rate as arguments, and the shapes that follow."""

import contextlib
from typing import Any, TypeAlias

from keras import ops

from keras_deeplab.layers.backend import Tensor

Pair: TypeAlias = tuple[int, int]
# "same", "valid" or ((top, bottom), (left, right)).
Padding: TypeAlias = str | tuple[Pair, Pair]
Shape: TypeAlias = tuple[int | None, ...]


def standardize_padding(padding: Any, layer_name: str) -> Padding:
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


def standardize_pair(value: Any, argument: str, layer_name: str) -> Pair:
    """Maps an int or a pair of ints to a pair, each at least 1."""
    pair = (value, value) if isinstance(value, int) else value
    with contextlib.suppress(TypeError, ValueError):
        first, second = pair
        if (int(first), int(second)) == (first, second) and min(first, second) >= 1:
            return (int(first), int(second))
    raise ValueError(
        f"{layer_name}: `{argument}` must be one or two whole numbers from 1 up. Received: {argument}={value!r}"
    )


def check_convolution(layer: Any, strides: Any) -> None:
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


def extents_of(kernel_size: Pair, dilation_rate: Pair) -> Pair:
    """How far each axis of the dilated kernel reaches from its first tap to its last."""
    return (dilation_rate[0] * (kernel_size[0] - 1), dilation_rate[1] * (kernel_size[1] - 1))


def pads_of(padding: Padding, kernel_size: Pair, dilation_rate: Pair) -> tuple[Pair, Pair]:
    """Maps a standardised padding to ((top, bottom), (left, right)); of an odd total "same" puts more at the end."""
    if not isinstance(padding, str):
        return padding
    if padding == "valid":
        return ((0, 0), (0, 0))
    rows, columns = extents_of(kernel_size, dilation_rate)
    return ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))


def output_shape(layer: Any, input_shape: Shape, kernel_size: Pair, channels: int | None) -> Shape:
    """Maps (B, H, W, C) to (B, H', W', channels); unknown sizes stay None, an empty map is a ValueError."""
    if len(input_shape) != 4:
        raise ValueError(
            f"{layer.name}: the input must have the shape (batch, height, width, channels). "
            f"Received: shape={tuple(input_shape)}"
        )
    extents = extents_of(kernel_size, layer.dilation_rate)
    pads = pads_of(layer.padding, kernel_size, layer.dilation_rate)
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


def padding_config(padding: Padding) -> str | list[list[int]]:
    """A standardised padding as JSON holds it."""
    return padding if isinstance(padding, str) else [list(pair) for pair in padding]


def simplified(padding: Padding, kernel_size: Pair, dilation_rate: Pair) -> tuple[Padding, Pair]:
    """The same convolution in the plainest terms: no rate across a single tap, no pads where a word says it."""
    rate = (dilation_rate[0] if kernel_size[0] > 1 else 1, dilation_rate[1] if kernel_size[1] > 1 else 1)
    if not isinstance(padding, str):
        for word in ("valid", "same"):
            if padding == pads_of(word, kernel_size, rate):
                padding = word
    return padding, rate


def reaching(inputs: Tensor, kernel: Tensor, padding: Padding, dilation_rate: Pair) -> tuple[Tensor, Padding]:
    """The kernel without outer taps that read padding alone at the size of `inputs`, where that is known.

    At rates as wide as the map one tap of three is left along an axis: a 1x1 convolution, for a ninth of the work and
    none of the padding, which would be many times the map. So it is where ASPP's widest rates meet a training's crops.
    """
    pads, kept = [], []
    for taps, rate, (before, after), size in zip(
        kernel.shape[:2],
        dilation_rate,
        pads_of(padding, kernel.shape[:2], dilation_rate),
        inputs.shape[1:3],
        strict=True,
    ):
        outputs = 0 if size is None else size + before + after - rate * (taps - 1)
        inside = [tap for tap in range(taps) if size is None or -outputs < tap * rate - before < size]
        if not inside:
            return kernel, padding
        first, last = inside[0], inside[-1]
        kept.append(slice(first, last + 1))
        pads.append((before - first * rate, after - (taps - 1 - last) * rate))
    if kept == [slice(0, taps) for taps in kernel.shape[:2]] or min(*pads[0], *pads[1]) < 0:
        return kernel, padding
    return kernel[kept[0], kept[1]], (pads[0], pads[1])


def padded(inputs: Tensor, padding: Padding) -> tuple[Tensor, str]:
    """The inputs with explicit pads written out, and the word that stands for what is left to pad.

    TensorFlow's operators take explicit pads themselves, but oneDNN's dilated depthwise one ends the process on them
    when it runs in a graph, and the dense one has no gradients with them.
    """
    if isinstance(padding, str):
        return inputs, padding
    return ops.pad(inputs, ((0, 0), *padding, (0, 0))), "valid"
