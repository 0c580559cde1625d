"""Images padded before another strategy sees them."""

from typing import Any

import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime, size_name
from keras_deeplab.inference.strategies.base import Around, Strategy, larger_size, padded_to, refuse_larger, told


class Padded(Around):
    """Images padded with 127.5 at the bottom and right, then put to another strategy; its scores are cut again.

    As research/deeplab's evaluation does (eval.py, vis.py: the mean pixel up to the crop size).

    Args:
        inner: the other.
        size: (height, width) to pad to.
    """

    def __init__(self, inner: Strategy, size: tuple[int, int]) -> None:
        super().__init__(inner)
        self.size = size

    @property
    def input_size(self) -> tuple[int, int] | None:
        return self.size

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        """Raises ValueError: the images are larger."""
        height, width = images.shape[1:3]
        if height > self.size[0] or width > self.size[1]:
            refuse_larger(images, f"the input size {size_name(self.size)}", larger_size(images))
        scores, returns = self.inner(runtime, padded_to(images, self.size))
        return scores[:, :height, :width], returns

    def told(self) -> tuple[str, ...]:
        first, *others = told(self.inner)
        return first, f"padded to {size_name(self.size)}", *others
