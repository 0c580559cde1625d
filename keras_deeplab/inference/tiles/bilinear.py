"""Bilinear resizes of a piece of a map, in the geometry of the whole map."""

from typing import NamedTuple

import numpy as np

from keras_deeplab.specs import ALIGN_CORNERS, ASYMMETRIC


class Taps(NamedTuple):
    """For each position along an axis: the one at or before it, the next one, and the share of the next."""

    before: np.ndarray
    behind: np.ndarray
    share: np.ndarray


def taps(
    size: int, new_size: int, resize: str, first: int, count: int, first_source: int = 0, sources: int = 0
) -> Taps:
    """What `count` positions from `first` on are made of, of an axis that is resized from `size` to `new_size`.

    In float32 and in the order of TensorFlow's ResizeBilinear, so that a piece has the numbers of the whole.

    Args:
        resize: a convention of `keras_deeplab.specs.RESIZES`.
        first_source, sources: the piece of the axis that there is; positions count from its first one, and what lies
            outside of it is taken from its ends. 0 sources for all from the first one on.

    >>> [part.tolist() for part in taps(3, 5, "align_corners", 1, 3)]
    [[0, 1, 1], [1, 1, 2], [0.5, 0.0, 0.5]]
    """
    positions = np.arange(first, first + count).astype(np.float32)
    if resize == ALIGN_CORNERS:
        scale = np.float32(size - 1) / np.float32(new_size - 1) if new_size > 1 else np.float32(size)
        found = positions * np.float32(scale)
    elif resize == ASYMMETRIC:
        found = positions * (np.float32(size) / np.float32(new_size))
    else:
        found = (positions + np.float32(0.5)) * (np.float32(size) / np.float32(new_size)) - np.float32(0.5)
    floor = np.floor(found)
    before = np.maximum(floor.astype(np.int64), 0)
    behind = np.minimum(np.ceil(found).astype(np.int64), size - 1)
    last = sources - 1 if sources else size - 1 - first_source
    inside = [np.clip(each - first_source, 0, last).astype(np.int32) for each in (before, behind)]
    return Taps(inside[0], inside[1], found - floor)
