"""What every strategy is, how it is told, and scores to the size of the images."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_deeplab.inference.runtimes.base import LABELS, PADDING, Runtime, size_name
from keras_deeplab.layers import ResizeBilinear, conventions
from keras_deeplab.specs import ModelSpec


class Strategy(Protocol):
    """Maps a runtime and float32 images (B, H, W, channels) in 0..255 to (scores, what they are).

    Scores are (B, H, W, num_classes), `"logits"` or `"probabilities"`. `input_size` is what images are padded to, or
    None. Where it has a method `told() -> (phrase, ...)`, results say so: `told(strategy)`.
    """

    @property
    def input_size(self) -> tuple[int, int] | None: ...

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]: ...


class Around:
    """A strategy around another one, which it puts images to: what all of them share.

    Args:
        inner: the other.

    Attributes:
        takes_any_size: whether images of every size can be put to it.
    """

    def __init__(self, inner: Strategy) -> None:
        self.inner = inner

    @property
    def input_size(self) -> tuple[int, int] | None:
        return self.inner.input_size

    @property
    def takes_any_size(self) -> bool:
        return takes_any_size(self.inner)

    def padded(self, runtime: Runtime, images: np.ndarray) -> np.ndarray:
        """Images as the model takes them in the end."""
        return padded_by(self.inner, runtime, images)

    def told(self) -> tuple[str, ...]:
        return told(self.inner)


def told(strategy: Any) -> tuple[str, ...]:
    """What a strategy does, in phrases: its own `told()`, or its name where it has none."""
    own = getattr(strategy, "told", None)
    return (type(strategy).__name__,) if own is None else tuple(own())


def takes_any_size(strategy: Any) -> bool:
    """Whether images of every size can be put to a strategy; true of one that doesn't tell."""
    return bool(getattr(strategy, "takes_any_size", True))


def padded_by(strategy: Any, runtime: Runtime, images: np.ndarray) -> np.ndarray:
    """Images as a strategy pads them before anything else; as they are where it doesn't tell."""
    own = getattr(strategy, "padded", None)
    return images if own is None else own(runtime, images)


def padded_to(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Images (B, H, W, C) to (B, *size, C): 127.5 at the bottom and right."""
    height, width = images.shape[1:3]
    if (height, width) == tuple(size):
        return images
    padded = np.full((len(images), *size, images.shape[3]), PADDING, np.float32)
    padded[:, :height, :width] = images
    return padded


def refuse_larger(images: np.ndarray, larger: str, way_out: str) -> None:
    """Raises ValueError: the images are larger than what they are to be padded to."""
    height, width = images.shape[1:3]
    raise ValueError(
        f"the image is {height}x{width} (height x width), larger than {larger}. Images are padded, never "
        f"resized in silence; {way_out}"
    )


def larger_size(images: np.ndarray) -> str:
    """The way out for images that are larger than an input size that may be another."""
    return f"give an input_size (--input-size) of at least {max(images.shape[1:3])}, or none at all"


def needs_scores(runtime: Runtime, asked: str) -> None:
    """Raises ValueError of a runtime that returns labels, where `asked` averages scores."""
    if runtime.returns == LABELS:
        raise ValueError(
            f"{asked} can't be chosen for {runtime.name}, which returns labels, and labels can't be averaged: "
            "score the .keras file or checkpoint that it was exported from, or export it with logits"
        )


def sizes_told(runtime: Runtime) -> str:
    return ", ".join(map(size_name, runtime.sizes))


def resized(scores: Any, size: Sequence[Any], spec: ModelSpec | None) -> Any:
    """Scores (B, h, w, C) to (B, *size, C) by the convention of the model's record; also while tracing.

    Labels, and scores of that size, are returned as they are.
    """
    if len(scores.shape) != 4 or spec is None:
        return scores
    known = [side if isinstance(side, int) else None for side in size] if isinstance(size, (tuple, list)) else [None]
    if None not in known and None not in scores.shape[1:3]:
        return scores if tuple(scores.shape[1:3]) == tuple(known) else resize(scores, size, spec.resize)
    if spec.logits_stride == 1:
        return scores
    if spec.logits_stride is not None:
        return resize(scores, size, spec.resize)
    same = keras.ops.all(keras.ops.equal(keras.ops.shape(scores)[1:3], size))
    return keras.ops.cond(same, lambda: scores, lambda: resize(scores, size, spec.resize))


def resize(maps: Any, size: Sequence[Any], convention: str) -> Any:
    """Maps (B, h, w, C) to (B, *size, C) bilinearly, in float32, by a convention of `keras_deeplab.specs.RESIZES`."""
    like = keras.ops.broadcast_to(keras.ops.zeros((1, 1, 1, 1)), (1, size[0], size[1], 1))
    return ResizeBilinear(**conventions(convention), dtype="float32")([maps, like])
