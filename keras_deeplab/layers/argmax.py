"""The class of the greatest score at every pixel, of scores that are coarser than the image."""

from typing import Any

from keras import ops

from keras_deeplab.layers.backend import TENSORFLOW, Tensor, tf
from keras_deeplab.layers.resizes import ResizeBilinear

_SIDE = 8  # pixels of a block
_AT_ONCE = 1 << 21  # scores that are resized at a time: 8 MB


def resized_argmax(scores: Tensor, size: Any, align_corners: bool) -> Tensor:
    """Scores (B, h, w, C) to int32 (B, *size): what an argmax gives behind a bilinear resize to (height, width).

    On TensorFlow the resized scores never exist as a whole. The image is cut into blocks of 8x8 pixels. Where all
    positions that a block lies between have one label, so has the block: a bilinear mean keeps the order of what has
    the same order at all of them. The scores of the other blocks are computed, some megabytes at a time. Labels differ
    from those of a resize and an argmax where two scores are equal but for their rounding, and nowhere else.

    Args:
        scores: floating point, computed with in float32. The first of equal ones counts.
        size: (height, width), integers or a tensor of two.
        align_corners: as of `ResizeBilinear`.

    >>> import keras
    >>> scores = keras.ops.reshape(keras.ops.convert_to_tensor([[1.0, 0.0], [0.0, 1.1]]), (1, 1, 2, 2))
    >>> resized_argmax(scores, (1, 5), True)[0, 0].numpy().tolist()
    [0, 0, 1, 1, 1]
    """
    if not TENSORFLOW:
        like = ops.broadcast_to(ops.zeros((1, 1, 1, 1)), (1, size[0], size[1], 1))
        return ops.cast(ops.argmax(ResizeBilinear(align_corners, dtype="float32")([scores, like]), -1), "int32")
    scores = tf.cast(scores, tf.float32)
    labels = tf.argmax(scores, -1, output_type=tf.int32)
    found = tf.cond(
        tf.reduce_all(tf.shape(labels)[1:] == size),
        lambda: labels,
        lambda: _by_blocks(scores, labels, size[0], size[1], align_corners),
    )
    return tf.ensure_shape(found, (scores.shape[0], tf.get_static_value(size[0]), tf.get_static_value(size[1])))


def _by_blocks(scores: Tensor, labels: Tensor, height: Any, width: Any, align_corners: bool) -> Tensor:
    """As `resized_argmax`, from scores and their own labels (B, h, w)."""
    sizes = zip(tf.unstack(tf.shape(scores)[1:3]), (height, width), strict=True)
    rows, columns = (_Blocks(old, new, align_corners) for old, new in sizes)

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

    def __init__(self, old: Tensor, new: Any, align_corners: bool) -> None:
        self.count = -(-new // _SIDE)
        pixels = tf.cast(tf.range(self.count * _SIDE), tf.float32)
        sizes = tf.cast(old, tf.float32), tf.cast(new, tf.float32)
        if align_corners:
            positions = pixels * ((sizes[0] - 1) / tf.maximum(sizes[1] - 1, 1))
        else:
            positions = (pixels + 0.5) * (sizes[0] / sizes[1]) - 0.5
        first, last = positions[::_SIDE], positions[_SIDE - 1 :: _SIDE]
        low = tf.clip_by_value(tf.cast(tf.floor(first), tf.int32), 0, old - 1)
        high = tf.clip_by_value(tf.cast(tf.floor(last), tf.int32) + 1, 0, old - 1)
        self.around = tf.minimum(low[:, None] + tf.range(tf.reduce_max(high - low) + 1), high[:, None])
        self.first, self.last = (first + 1) / (sizes[0] + 1), (last + 1) / (sizes[0] + 1)
