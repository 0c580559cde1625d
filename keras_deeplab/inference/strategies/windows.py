"""The image in windows that overlap."""

from typing import Any

import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime, size_name
from keras_deeplab.inference.strategies.base import Around, Strategy, needs_scores, sizes_told, takes_any_size, told


class Windows(Around):
    """Each window of the image is put to another strategy, and where windows overlap their scores are averaged.

    As mmsegmentation's `slide_inference` does: windows stand every `stride` pixels from the top left, the last of a row
    or column is moved back until it ends where the image does, and an image that is smaller than a window is one window
    of its own size. What is averaged are the model's scores as they are: its logits, where it returns them.

    Args:
        inner: what every window is put to.
        runtime: the runtime it will be called with.
        size: (height, width) of a window.
        stride: (down, right) from one to the next.

    Raises:
        ValueError: the model gives labels alone, or takes no images of the windows' size.
    """

    takes_any_size = True

    def __init__(self, inner: Strategy, runtime: Runtime, size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__(inner)
        self.size, self.stride = size, stride
        needs_scores(runtime, "windows")
        if not takes_any_size(inner) and not any(_holds(own, size) for own in runtime.sizes):
            raise ValueError(
                f"windows of {size_name(size)} are larger than {runtime.name} takes, {sizes_told(runtime)}: give "
                f"windows={runtime.sizes[-1]}, or smaller"
            )

    @property
    def input_size(self) -> tuple[int, int] | None:
        return None

    def padded(self, runtime: Runtime, images: np.ndarray) -> np.ndarray:
        return images

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        height, width = images.shape[1:3]
        rows, columns = (places(*each) for each in zip((height, width), self.size, self.stride, strict=True))
        total, returns = None, ""
        for top, bottom in rows:
            for left, right in columns:
                window = np.ascontiguousarray(images[:, top:bottom, left:right])
                scores, returns = self.inner(runtime, window)
                if len(rows) == len(columns) == 1:
                    return scores, returns
                if total is None:
                    total = np.zeros((*images.shape[:3], scores.shape[-1]), np.float32)
                total[:, top:bottom, left:right] += np.asarray(scores)
        assert total is not None
        total /= np.outer(_counts(rows, height), _counts(columns, width))[..., None]
        return total, returns

    def told(self) -> tuple[str, ...]:
        each = told(self.inner)[1:]
        every = size_name(self.stride)
        own = f"windows of {size_name(self.size)} every {every} pixels (mean of scores)"
        return (own, *(f"each {words}" for words in each))


def places(side: int, window: int, stride: int) -> list[tuple[int, int]]:
    """(start, end) of each window along a side of the image.

    >>> places(10, 4, 3), places(3, 4, 3)
    ([(0, 4), (3, 7), (6, 10)], [(0, 3)])
    >>> places(11, 4, 3)
    [(0, 4), (3, 7), (6, 10), (7, 11)]
    """
    count = -(-max(side - window, 0) // stride) + 1
    ends = [min(number * stride + window, side) for number in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def _counts(found: list[tuple[int, int]], side: int) -> np.ndarray:
    """How many windows lie over each position of a side, float32."""
    counts = np.zeros(side, np.float32)
    for start, end in found:
        counts[start:end] += 1
    return counts


def _holds(own: tuple[int | None, int | None], size: tuple[int, int]) -> bool:
    return all(side is None or side >= wish for side, wish in zip(own, size, strict=True))
