"""The class of the greatest score at every pixel, of scores that are coarser than the image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_deeplab.layers.backend import TENSORFLOW, Tensor, tf
from keras_deeplab.layers.resizes import ResizeBilinear, conventions
from keras_deeplab.specs import ALIGN_CORNERS, ASYMMETRIC

_SIDE = 8  # pixels of a block
_AT_ONCE = 1 << 21  # scores that are resized at a time: 8 MB


def resized_argmax(scores: Tensor, size: Any, convention: str) -> Tensor:
    """Scores (B, h, w, C) to int32 (B, *size): what an argmax gives behind a bilinear resize to (height, width).

    On TensorFlow the resized scores never exist as a whole. The image is cut into blocks of 8x8 pixels. Where all
    positions that a block lies between have one label, so has the block: a bilinear mean keeps the order of what has
    the same order at all of them. The scores of the other blocks are computed, some megabytes at a time. Labels differ
    from those of a resize and an argmax where two scores are equal but for their rounding, and nowhere else.

    Args:
        scores: floating point, computed with in float32. The first of equal ones counts.
        size: (height, width), integers or a tensor of two.
        convention: of the resize, one of `keras_deeplab.specs.RESIZES`.

    >>> import keras
    >>> scores = keras.ops.reshape(keras.ops.convert_to_tensor([[1.0, 0.0], [0.0, 1.1]]), (1, 1, 2, 2))
    >>> resized_argmax(scores, (1, 5), "align_corners")[0, 0].numpy().tolist()
    [0, 0, 1, 1, 1]
    """
    if not TENSORFLOW:
        like = ops.broadcast_to(ops.zeros((1, 1, 1, 1)), (1, size[0], size[1], 1))
        resize = ResizeBilinear(**conventions(convention), dtype="float32")
        return ops.cast(ops.argmax(resize([scores, like]), -1), "int32")
    scores = tf.cast(scores, tf.float32)
    labels = tf.argmax(scores, -1, output_type=tf.int32)
    found = tf.cond(
        tf.reduce_all(tf.shape(labels)[1:] == size),
        lambda: labels,
        lambda: _by_blocks(scores, labels, size[0], size[1], convention),
    )
    return tf.ensure_shape(found, (scores.shape[0], tf.get_static_value(size[0]), tf.get_static_value(size[1])))


def _by_blocks(scores: Tensor, labels: Tensor, height: Any, width: Any, convention: str) -> Tensor:
    """As `resized_argmax`, from scores and their own labels (B, h, w)."""
    sizes = zip(tf.unstack(tf.shape(scores)[1:3]), (height, width), strict=True)
    rows, columns = (_Blocks(old, new, convention) for old, new in sizes)

    def extent(reduce: Any) -> Tensor:
        """The least or greatest label that a block lies between, (B, rows, columns)."""
        return reduce(tf.gather(reduce(tf.gather(labels, rows.around, axis=1), 2), columns.around, axis=2), 3)

    least = extent(tf.reduce_min)
    mixed = tf.cast(tf.where(least != extent(tf.reduce_max)), tf.int32)
    # A frame as Resize's ends are, because CropAndResize takes 0 for what is beyond them.
    framed = tf.pad(scores, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    each = tf.maximum(1, _AT_ONCE // (tf.shape(scores)[3] * _SIDE * _SIDE))
    total = tf.shape(mixed)[0]
    steps = -(-total // each)

    def resize(step: Tensor, found: Any) -> tuple[Tensor, Any]:
        image, row, column = tf.unstack(mixed[step * each : (step + 1) * each], axis=1)
        parts = (rows.first, row), (columns.first, column), (rows.last, row), (columns.last, column)
        some = tf.raw_ops.CropAndResize(
            image=framed,
            boxes=tf.stack([tf.gather(*part) for part in parts], -1),
            box_ind=image,
            crop_size=(_SIDE, _SIDE),
        )
        return step + 1, found.write(step, tf.argmax(some, -1, output_type=tf.int32))

    found = tf.TensorArray(tf.int32, steps, infer_shape=False, element_shape=(None, _SIDE, _SIDE))
    found = tf.while_loop(lambda step, _: step < steps, resize, (0, found), parallel_iterations=1)[1]
    found = tf.cond(steps > 0, found.concat, lambda: tf.zeros((0, _SIDE, _SIDE), tf.int32))
    blocks = tf.tile(least[..., None, None], (1, 1, 1, _SIDE, _SIDE))
    blocks = tf.transpose(tf.tensor_scatter_nd_update(blocks, mixed, found), (0, 1, 3, 2, 4))
    pixels = tf.reshape(blocks, (tf.shape(scores)[0], rows.count * _SIDE, columns.count * _SIDE))
    return pixels[:, :height, :width]


class _Blocks:
    """The blocks along one axis, which is resized from `old` to `new` positions.

    Attributes:
        count: how many there are; the last may reach beyond the end.
        around: (count, n): the old positions that each lies between, some more than once.
        first, last: (count,): the old positions of each one's first and last pixel, as CropAndResize takes them of a
            map with a frame.
    """

    def __init__(self, old: Tensor, new: Any, convention: str) -> None:
        self.count = -(-new // _SIDE)
        pixels = tf.cast(tf.range(self.count * _SIDE), tf.float32)
        sizes = tf.cast(old, tf.float32), tf.cast(new, tf.float32)
        if convention == ALIGN_CORNERS:
            positions = pixels * ((sizes[0] - 1) / tf.maximum(sizes[1] - 1, 1))
        elif convention == ASYMMETRIC:
            positions = pixels * (sizes[0] / sizes[1])
        else:
            positions = (pixels + 0.5) * (sizes[0] / sizes[1]) - 0.5
        first, last = positions[::_SIDE], positions[_SIDE - 1 :: _SIDE]
        low = tf.clip_by_value(tf.cast(tf.floor(first), tf.int32), 0, old - 1)
        high = tf.clip_by_value(tf.cast(tf.floor(last), tf.int32) + 1, 0, old - 1)
        self.around = tf.minimum(low[:, None] + tf.range(tf.reduce_max(high - low) + 1), high[:, None])
        self.first, self.last = (first + 1) / (sizes[0] + 1), (last + 1) / (sizes[0] + 1)


def slabs_of(shape: Any, size: tuple[int, int], convention: str, worth: int = 0) -> tuple[int, int] | None:
    """How `argmax_by_slabs` cuts scores: (rows of the image to a row of the scores, rows of the scores in a slab).

    Args:
        shape: (B, h, w, C) of the scores.
        size, convention: as of `argmax_by_slabs`.
        worth: bytes of all resized scores of an image from which on they are cut.

    Returns:
        None where there are fewer, or where rows of the image don't lie on rows of the scores, so that some of them
        can't be resized by themselves.
    """
    (_, rows, columns, classes), (height, width) = shape, size
    aligned = convention == ALIGN_CORNERS
    if None in (rows, columns, classes) or rows < 3 or 4 * height * width * classes < worth:
        return None
    steps, rest = divmod(height - aligned, rows - aligned)
    return None if rest or not steps else (steps, max(1, _AT_ONCE // (steps * width * classes)))


def argmax_by_slabs(scores: Tensor, size: tuple[int, int], convention: str) -> Tensor:
    """Scores (B, h, w, C) of known h and w to int32 (B, *size), as `resized_argmax`, by operators of other runtimes.

    Some rows are resized at a time. Each slab of them waits for the one before it, so that its memory is used again:
    left alone, interpreters resize all of them first.

    Args:
        scores, size, convention: as of `resized_argmax`; `size` in integers, so that `slabs_of` is not None.
    """
    cut = slabs_of(scores.shape, size, convention)
    if cut is None:
        raise ValueError(f"scores {scores.shape} can't be resized to {size} by slabs: {convention}")
    found: list[Tensor] = []
    for slab in slabs(cut, scores.shape[1], convention):
        part = scores[:, slab.rows]
        if found:
            part += tf.cast(tf.minimum(found[-1][:, :1, :1, None], 0), part.dtype)  # 0: no label is less
        part = tf.raw_ops.ResizeBilinear(images=part, size=(slab.height, size[1]), **conventions(convention))
        found.append(tf.argmax(part, -1, output_type=tf.int32)[:, slab.kept])
    return tf.concat(found, 1)


@dataclass(frozen=True)
class Slab:
    """Some rows of scores, resized by themselves.

    Attributes:
        rows: those of the scores.
        height: that they are resized to.
        kept: the rows of that which are the image's.
        place: where they are in the image.
    """

    rows: slice
    height: int
    kept: slice
    place: slice


def slabs(cut: tuple[int, int], rows: int, convention: str) -> Iterator[Slab]:
    """The slabs of scores of so many rows, as `slabs_of` cuts them, from the top."""
    (steps, each), aligned = cut, convention == ALIGN_CORNERS
    # Of aligned corners both ends of a slab are rows of the scores; else a row around it counts too, where there is
    # one.
    for top in range(0, rows - aligned, each):
        bottom = min(top + each, rows - aligned)
        first, last = (top, bottom + 1) if aligned else (max(0, top - 1), min(rows, bottom + 1))
        start = (top - first) * steps
        count = (bottom - top) * steps + (aligned and bottom == rows - 1)
        height = (last - first - aligned) * steps + aligned
        yield Slab(slice(first, last), height, slice(start, start + count), slice(top * steps, top * steps + count))
