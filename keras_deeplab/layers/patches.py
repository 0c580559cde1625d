"""Patches of a map and attention among them, as MobileViT's blocks have them (arXiv 2110.02178, 2206.02680).

Between `UnfoldPatches` and `FoldPatches` a map stands as (B, P, N, C): for each of the P positions in a patch the N
patches of the image, row by row.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_deeplab.layers.backend import Tensor, register
from keras_deeplab.layers.resizes import resize_bilinear
from keras_deeplab.layers.windows import Shape
from keras_deeplab.specs import HALF_PIXEL_CENTERS

_REMAINDERS = ("resize", "crop")


class _Patches(keras.layers.Layer):
    """What both directions share: the side of a patch, and what becomes of sizes that it doesn't divide."""

    def __init__(self, patch_size: int = 2, remainder: str = "resize", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1:
            raise ValueError(f"{self.name}: `patch_size` must be a whole number from 1 up. Received: {patch_size!r}")
        if remainder not in _REMAINDERS:
            raise ValueError(f"{self.name}: `remainder` must be one of {_REMAINDERS}. Received: {remainder!r}")
        self.patch_size, self.remainder = patch_size, remainder

    def _counts(self, sizes: Sequence[Any]) -> list[Any]:
        """How many patches a map of these sizes has along each axis."""
        added = self.patch_size - 1 if self.remainder == "resize" else 0
        return [None if size is None else (size + added) // self.patch_size for size in sizes]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size, "remainder": self.remainder}


@register
class UnfoldPatches(_Patches):
    """Maps (B, H, W, C) to its patches, (B, P, N, C) with P = `patch_size` ** 2 and N the number of patches.

    Args:
        patch_size: side of a patch.
        remainder: what becomes of a size that it doesn't divide: `"resize"` scales the map up bilinearly (half-pixel
            centres) to the next that it does, `"crop"` leaves the last rows and columns out.

    Example:

    >>> x = keras.ops.reshape(keras.ops.arange(8.0), (1, 2, 4, 1))
    >>> UnfoldPatches(2)(x)[0, :, :, 0].numpy().astype(int).tolist()
    [[0, 2], [1, 3], [4, 6], [5, 7]]
    """

    def call(self, inputs: Tensor) -> Tensor:
        side = self.patch_size
        batch, height, width, channels = ops.shape(inputs)
        rows, columns = self._counts((height, width))
        if self.remainder == "crop":
            x = inputs[:, : rows * side, : columns * side]
        else:
            x = resize_bilinear(inputs, (rows * side, columns * side), HALF_PIXEL_CENTERS, self.compute_dtype)
        x = ops.reshape(x, (batch, rows, side, columns, side, channels))
        return ops.reshape(ops.transpose(x, (0, 2, 4, 1, 3, 5)), (batch, side * side, rows * columns, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        rows, columns = self._counts(input_shape[1:3])
        count = None if rows is None or columns is None else rows * columns
        return (input_shape[0], self.patch_size**2, count, input_shape[3])


@register
class FoldPatches(_Patches):
    """Maps `[patches, reference]`, (B, P, N, C) and the map (B, H, W, D) they are from, back to (B, H, W, C).

    Args:
        patch_size, remainder: as of the `UnfoldPatches` before it. With `"resize"` the map is scaled back bilinearly,
            with `"crop"` the rows and columns that were left out are zero.
    """

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        patches, reference = inputs
        side = self.patch_size
        height, width = ops.shape(reference)[1:3]
        rows, columns = self._counts((height, width))
        batch, channels = ops.shape(patches)[0], ops.shape(patches)[3]
        x = ops.reshape(patches, (batch, side, side, rows, columns, channels))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (batch, rows * side, columns * side, channels))
        if self.remainder == "crop":
            return ops.pad(x, ((0, 0), (0, height - rows * side), (0, width - columns * side), (0, 0)))
        return resize_bilinear(x, (height, width), HALF_PIXEL_CENTERS, self.compute_dtype)

    def build(self, input_shape: Sequence[Shape]) -> None:
        self.built = True

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        patches, reference = input_shape
        return (reference[0], reference[1], reference[2], patches[3])


@register
class PatchAttention(keras.layers.Layer):
    """Maps `[queries, keys, values]`, each (B, P, N, C), to (B, P, N, C): softmax attention among the N patches.

    Args:
        heads: into how many parts of equal width C is divided, each of which attends by itself.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape: Sequence[Shape]) -> None:
        width = input_shape[0][-1]
        if width is None or width % self.heads:
            raise ValueError(f"{self.name}: {width} channels can't be divided among heads={self.heads}.")
        self.built = True

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        batch, positions, count, channels = ops.shape(inputs[0])
        width = inputs[0].shape[-1] // self.heads
        parts = [ops.reshape(x, (batch * positions, count, self.heads, width)) for x in inputs]
        queries, keys, values = (ops.transpose(x, (0, 2, 1, 3)) for x in parts)
        scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2))) / width**0.5
        x = ops.transpose(ops.matmul(_softmax(scores, 3), values), (0, 2, 1, 3))
        return ops.reshape(x, (batch, positions, count, channels))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return input_shape[2]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@register
class LinearPatchAttention(keras.layers.Layer):
    """Maps (B, P, N, 1 + 2 * C), a score, a key and a value of each patch, to (B, P, N, C).

    The keys' mean, weighted by the softmax of the scores over the N patches, times the positive part of each value:
    the separable attention of MobileViTv2 (arXiv 2206.02680, section 3.2).
    """

    def call(self, inputs: Tensor) -> Tensor:
        channels = (inputs.shape[-1] - 1) // 2
        scores, keys, values = inputs[..., :1], inputs[..., 1 : channels + 1], inputs[..., channels + 1 :]
        context = ops.sum(keys * _softmax(scores, 2), axis=2, keepdims=True)
        return ops.relu(values) * context

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        width = input_shape[-1]
        return (*input_shape[:-1], None if width is None else (width - 1) // 2)


def _softmax(x: Tensor, axis: int) -> Tensor:
    """Keras's, which warns of an axis of one entry: an image may be one patch."""
    return ops.ones_like(x) if x.shape[axis] == 1 else ops.softmax(x, axis=axis)
