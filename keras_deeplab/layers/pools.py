"""Pools that Keras lacks: dilated ones of stride 1, and means of windows that lie inside the map."""

import functools
from collections.abc import Iterator
from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_deeplab.layers.backend import Tensor, register
from keras_deeplab.layers.windows import (
    Padding,
    Pair,
    Shape,
    output_shape,
    padding_config,
    pads_of,
    standardize_padding,
    standardize_pair,
)


class _DilatedPooling2D(keras.layers.Layer):
    def __init__(
        self, pool_size: int | Pair, dilation_rate: int | Pair = 1, padding: Padding = "valid", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = standardize_pair(pool_size, "pool_size", self.name)
        self.dilation_rate = standardize_pair(dilation_rate, "dilation_rate", self.name)
        self.padding = standardize_padding(padding, self.name)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def _axes(self) -> Iterator[tuple[int, list[int], int]]:
        """Yields axis, tap positions relative to the output's, and the output's size less the input's."""
        pads = pads_of(self.padding, self.pool_size, self.dilation_rate)
        for axis, taps, rate, pair in zip((1, 2), self.pool_size, self.dilation_rate, pads, strict=True):
            yield axis, [tap * rate - pair[0] for tap in range(taps)], sum(pair) - rate * (taps - 1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return output_shape(self, input_shape, self.pool_size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": list(self.pool_size),
            "dilation_rate": list(self.dilation_rate),
            "padding": padding_config(self.padding),
        }


def _cut(tensor: Tensor, axis: int, start: Any, stop: Any) -> Tensor:
    return tensor[:, start:stop] if axis == 1 else tensor[:, :, start:stop]


def _taps(inputs: Tensor, axis: int, offsets: list[int], growth: int, fill: float) -> list[Tensor]:
    """The inputs shifted by each offset along `axis` and cut to the output's size, `fill` where there is no input."""
    size = ops.shape(inputs)[axis]
    before, after = max(0, -offsets[0]), max(0, offsets[-1] + growth)
    if before or after:
        pads = [(before, after) if each == axis else (0, 0) for each in range(4)]
        inputs = ops.pad(inputs, pads, constant_values=fill)
    return [_cut(inputs, axis, before + offset, before + offset + size + growth) for offset in offsets]


@register
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

    def call(self, inputs: Tensor) -> Tensor:
        self.compute_output_shape(inputs.shape)
        if self.dilation_rate == (1, 1) and isinstance(self.padding, str):
            return ops.max_pool(inputs, self.pool_size, 1, self.padding, "channels_last")
        for axis, offsets, growth in self._axes():
            inputs = _maxima(inputs, axis, offsets, growth)
        return inputs


def _maxima(inputs: Tensor, axis: int, offsets: list[int], growth: int) -> Tensor:
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


@register
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

    def call(self, inputs: Tensor) -> Tensor:
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


def _inside(positions: Any, offsets: list[int], size: Any) -> Any:
    """(output positions, taps): whether the tap falls inside the map."""
    positions = positions[:, None] + np.asarray(offsets, "int32")
    return (positions >= 0) & (positions < size)


@register
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

    def __init__(self, pool_size: int | Pair, strides: int | Pair = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = standardize_pair(pool_size, "pool_size", self.name)
        self.strides = standardize_pair(strides, "strides", self.name)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Tensor) -> Tensor:
        sizes = ops.shape(inputs)[1:3]
        if all(isinstance(size, int) for size in sizes):
            window = tuple(min(pool, size) for pool, size in zip(self.pool_size, sizes, strict=True))
            return ops.average_pool(inputs, window, self.strides, "valid", "channels_last")
        rows, columns = (
            _window_weights(*axis, self.compute_dtype) for axis in zip(sizes, self.pool_size, self.strides, strict=True)
        )
        return ops.einsum("ph,qw,bhwc->bpqc", rows, columns, inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        sizes = [
            None if size is None else (size - min(pool, size)) // stride + 1
            for size, pool, stride in zip(input_shape[1:3], self.pool_size, self.strides, strict=True)
        ]
        return (input_shape[0], *sizes, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": list(self.pool_size), "strides": list(self.strides)}


def _window_weights(size: Any, pool: int, stride: int, dtype: str) -> Tensor:
    """The (windows, size) matrix that takes the mean of each window along an axis."""
    pool = ops.minimum(pool, size)
    first = ops.arange((size - pool) // stride + 1)[:, None] * stride
    positions = ops.arange(size)
    inside = (positions >= first) & (positions < first + pool)
    return ops.cast(inside, dtype) / ops.cast(pool, dtype)
