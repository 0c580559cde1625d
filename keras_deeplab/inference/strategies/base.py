"""What every strategy is, and scores to the size of the images."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime
from keras_deeplab.layers import ResizeBilinear
from keras_deeplab.specs import ModelSpec


class Strategy(Protocol):
    """Maps a runtime and float32 images (B, H, W, channels) in 0..255 to (scores, what they are).

    Scores are (B, H, W, num_classes), `"logits"` or `"probabilities"`. `input_size` is what images are padded to, or
    None.
    """

    input_size: tuple[int, int] | None

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]: ...


def resized(scores: Any, size: Sequence[Any], spec: ModelSpec | None) -> Any:
    """Scores (B, h, w, C) to (B, *size, C) by the convention of the model's record; also while tracing.

    Labels, and scores of that size, are returned as they are.
    """
    if len(scores.shape) != 4 or spec is None:
        return scores
    known = [side if isinstance(side, int) else None for side in size] if isinstance(size, (tuple, list)) else [None]
    if None not in known and None not in scores.shape[1:3]:
        return scores if tuple(scores.shape[1:3]) == tuple(known) else resize(scores, size, spec.align_corners)
    if spec.logits_stride == 1:
        return scores
    if spec.logits_stride is not None:
        return resize(scores, size, spec.align_corners)
    same = keras.ops.all(keras.ops.equal(keras.ops.shape(scores)[1:3], size))
    return keras.ops.cond(same, lambda: scores, lambda: resize(scores, size, spec.align_corners))


def resize(maps: Any, size: Sequence[Any], align_corners: bool) -> Any:
    like = keras.ops.broadcast_to(keras.ops.zeros((1, 1, 1, 1)), (1, size[0], size[1], 1))
    return ResizeBilinear(align_corners, dtype="float32")([maps, like])
