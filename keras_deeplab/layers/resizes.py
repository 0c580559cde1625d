"""Resizes: bilinear to another map's size or by a factor, in each convention, and repetition of positions."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deeplab._helpers.private import calls, producer
from keras_deeplab.layers.backend import TENSORFLOW, Tensor, register, tf
from keras_deeplab.layers.windows import Shape
from keras_deeplab.specs import ALIGN_CORNERS, ASYMMETRIC, HALF_PIXEL_CENTERS, RESIZES


def convention(align_corners: bool, half_pixel_centers: bool | None = None) -> str:
    """The arguments of `ResizeBilinear` to the name of their convention; ValueError where both are asked for.

    >>> convention(False), convention(False, False)
    ('half_pixel_centers', 'asymmetric')
    """
    if half_pixel_centers is None:
        half_pixel_centers = not align_corners
    if align_corners and half_pixel_centers:
        raise ValueError("align_corners and half_pixel_centers are two conventions: give one of them as True")
    return ALIGN_CORNERS if align_corners else HALF_PIXEL_CENTERS if half_pixel_centers else ASYMMETRIC


def conventions(resize: str) -> dict[str, bool]:
    """The name of a convention to the arguments of `ResizeBilinear`.

    >>> conventions("asymmetric")
    {'align_corners': False, 'half_pixel_centers': False}
    """
    if resize not in RESIZES:
        raise ValueError(f"resize must be one of {', '.join(map(repr, RESIZES))}; received {resize!r}")
    return {"align_corners": resize == ALIGN_CORNERS, "half_pixel_centers": resize == HALF_PIXEL_CENTERS}


@register
class ResizeBilinear(keras.layers.Layer):
    """Maps `[x, reference]`, (B, h, w, C) and (B, H, W, D), to `x` resized bilinearly to (B, H, W, C).

    The sizes may be unknown when the model is built. Half-precision maps are resized in float32 and cast back.

    Args:
        align_corners: True lays corner pixel centre on corner pixel centre, as TF1's DeepLab does.
        half_pixel_centers: True lays edge on edge, and None means it where `align_corners` is False. Where both are
            False position i reads from i * h / H: what lies behind is shifted by up to half a position, as TF1's own
            default is and the only resize that Android's NNAPI had before 1.3.

    Attributes:
        resize: the name of the convention: `"align_corners"`, `"half_pixel_centers"` or `"asymmetric"`.

    Raises:
        ValueError: it is called on anything but two maps, or both conventions are asked for.

    Example:

    >>> x = keras.ops.reshape(keras.ops.convert_to_tensor([0.0, 8.0]), (1, 1, 2, 1))
    >>> reference = keras.ops.zeros((1, 2, 5, 3))
    >>> [float(v) for v in ResizeBilinear()([x, reference])[0, 1, :, 0]]
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """

    def __init__(self, align_corners: bool = True, half_pixel_centers: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.resize = convention(align_corners, half_pixel_centers)
        self.align_corners = self.resize == ALIGN_CORNERS
        self.half_pixel_centers = self.resize == HALF_PIXEL_CENTERS

    def _check(self, inputs: Any) -> None:
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            received = f"{len(inputs)} of them" if isinstance(inputs, (list, tuple)) else type(inputs).__name__
            raise ValueError(f"{self.name}: call it on two maps, layer([x, reference]). Received: {received}")

    def build(self, input_shape: Sequence[Shape]) -> None:
        self._check(input_shape)
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        self._check(inputs)
        x, reference = inputs
        return resize_bilinear(x, ops.shape(reference)[1:3], self.resize, self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        x, reference = input_shape
        return (x[0], reference[1], reference[2], x[3])

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "align_corners": self.align_corners}
        # Files of the other two stay readable by versions that know no third.
        return config if self.resize != ASYMMETRIC else {**config, "half_pixel_centers": False}


def before_resize(scores: keras.KerasTensor, images: keras.KerasTensor) -> tuple[keras.KerasTensor, str | None]:
    """A functional model's scores before a `ResizeBilinear` to its images' size, and the convention of that.

    Where there is none they are returned as they are, with None.
    """
    layer = producer(scores)
    if isinstance(layer, ResizeBilinear):
        coarse, reference = calls(layer)[0].input_tensors
        if reference is images:
            return coarse, layer.resize
    return scores, None


def resize_bilinear(x: Tensor, size: Sequence[Any], resize: str, compute_dtype: str) -> Tensor:
    """(B, h, w, C) to (B, *size, C) in `compute_dtype`, by a convention's name; sizes may be tensors."""
    if TENSORFLOW and compute_dtype != "float64":
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(x, "float32"),
            size=size,
            align_corners=resize == ALIGN_CORNERS,
            half_pixel_centers=resize == HALF_PIXEL_CENTERS,
        )
        return tf.cast(resized, compute_dtype)
    dtype = "float64" if compute_dtype == "float64" else "float32"
    rows, columns = (_interpolation(old, new, resize, dtype) for old, new in zip(ops.shape(x)[1:3], size, strict=True))
    return ops.cast(ops.einsum("ph,qw,bhwc->bpqc", rows, columns, ops.cast(x, dtype)), compute_dtype)


def _interpolation(size: Any, new_size: Any, resize: str, dtype: str) -> Tensor:
    """The (new_size, size) matrix of bilinear weights."""
    # Before the sizes become tensors: under JAX's jit an arange needs plain ones.
    positions, sources = ops.arange(new_size, dtype=dtype), ops.arange(size, dtype=dtype)
    size, new_size = ops.cast(size, dtype), ops.cast(new_size, dtype)
    if resize == ALIGN_CORNERS:
        positions = positions * (size - 1) / ops.maximum(new_size - 1, 1)
    elif resize == ASYMMETRIC:
        positions = positions * size / new_size
    else:
        positions = (positions + 0.5) * size / new_size - 0.5
    positions = ops.clip(positions, 0, size - 1)
    distances = ops.abs(positions[:, None] - sources)
    return ops.maximum(1 - distances, 0)


@register
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

    def __init__(self, scale: float, align_corners: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 1e-3 <= scale < float("inf"):
            raise ValueError(f"{self.name}: `scale` must be a number of 0.001 or more. Received: scale={scale!r}")
        self.scale = scale
        self.align_corners = bool(align_corners)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def call(self, inputs: Tensor) -> Tensor:
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

    def _fraction(self) -> tuple[int, int]:
        return Fraction(self.scale).limit_denominator(1000).as_integer_ratio()

    def _size(self, size: Any) -> Any:
        numerator, denominator = self._fraction()
        return (size - 1) * numerator // denominator + 1 if self.align_corners else size * numerator // denominator

    def _neighbours(self, size: Any) -> tuple[Any, Any, Any]:
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

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        height, width = (None if size is None else self._size(size) for size in input_shape[1:3])
        if 0 in (height, width):
            raise ValueError(
                f"{self.name}: a map of {input_shape[1]}x{input_shape[2]} has nothing left at scale {self.scale}."
            )
        return (input_shape[0], height, width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "align_corners": self.align_corners}


@register
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

    def __init__(self, factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise ValueError(f"{self.name}: `factor` must be a whole number from 1 up. Received: factor={factor!r}")
        self.factor = factor

    def build(self, input_shape: Sequence[Shape]) -> None:
        self.compute_output_shape(input_shape)
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        x, reference = inputs
        height, width = ops.shape(reference)[1:3]
        x = ops.repeat(ops.repeat(x, self.factor, 1), self.factor, 2)
        return x[:, :height, :width]

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        x, reference = input_shape
        for size, new_size in zip(x[1:3], reference[1:3], strict=True):
            if size is not None and new_size is not None and size * self.factor < new_size:
                raise ValueError(
                    f"{self.name}: a map of {x[1]}x{x[2]} repeated {self.factor} times doesn't reach "
                    f"{reference[1]}x{reference[2]}. Use a larger factor or a smaller reference."
                )
        return (x[0], reference[1], reference[2], x[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}
