"""Images scaled to one length of their shorter side."""

from typing import Any

import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime
from keras_deeplab.inference.strategies.base import Around, Strategy, needs_scores, resize, resized, told
from keras_deeplab.specs import HALF_PIXEL_CENTERS


class Resized(Around):
    """Images scaled until their shorter side has one length, then put to another strategy; its scores are scaled back.

    As mmsegmentation's `Resize(scale=(longer, shorter), keep_ratio=True)` and its `postprocess_result` do: the image
    bilinearly with half-pixel centres, each side to the nearest whole number; the scores by the model's convention.

    Args:
        inner: what the scaled images are put to.
        runtime: the runtime it will be called with.
        shorter: pixels of the shorter side.
        longer: pixels that the longer side may have at most, which scales the image by less; None for any.

    Raises:
        ValueError: the model gives labels alone.
    """

    takes_any_size = True

    def __init__(self, inner: Strategy, runtime: Runtime, shorter: int, longer: int | None = None) -> None:
        super().__init__(inner)
        self.shorter, self.longer = shorter, longer
        needs_scores(runtime, "shorter_side")

    def padded(self, runtime: Runtime, images: np.ndarray) -> np.ndarray:
        return images

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        size = images.shape[1:3]
        target = sides(size, self.shorter, self.longer)
        scaled = images if target == size else np.asarray(resize(images, target, HALF_PIXEL_CENTERS))
        scores, returns = self.inner(runtime, scaled)
        return resized(scores, size, runtime.spec), returns

    def told(self) -> tuple[str, ...]:
        first, *others = told(self.inner)
        most = "" if self.longer is None else f", longer {self.longer} at most"
        return first, f"shorter side scaled to {self.shorter}{most}", *others


def sides(size: tuple[int, int], shorter: int, longer: int | None = None) -> tuple[int, int]:
    """(height, width) scaled until the shorter is as long as asked for, or the longer `longer`.

    >>> sides((375, 500), 512), sides((100, 500), 512, 1000)
    ((512, 683), (200, 1000))
    """
    scale = shorter / min(size)
    if longer is not None:
        scale = min(scale, longer / max(size))
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width
