"""The image as it is, padded where the model asks for it."""

from typing import Any, cast

import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime, size_name
from keras_deeplab.inference.strategies.base import larger_size, padded_to, refuse_larger, resized


class WholeImage:
    """The image as it is, padded at the bottom and right with 127.5 to a size that the model takes.

    Args:
        runtime: what it is for.
        input_size: (height, width) to pad to; None for the model's own where it has one size, the smallest that holds
            the image where it has several, else no padding.

    Raises:
        ValueError: the model takes no images of that size.
    """

    def __init__(self, runtime: Runtime, input_size: tuple[int, int] | None = None) -> None:
        sizes = runtime.sizes
        if len(sizes) > 1:
            known = ", ".join(map(size_name, sizes))
            if input_size is not None and input_size not in sizes:
                raise ValueError(
                    f"{runtime.name} takes images of {known}, received input_size {input_size}: choose one of them, or "
                    "none"
                )
            self._sizes = cast(tuple[tuple[int, int], ...], sizes) if input_size is None else (input_size,)
        else:
            own = sizes[0] if sizes else (None, None)
            if input_size is None:
                if None in own and own != (None, None):
                    raise ValueError(
                        f"{runtime.name} fixes only one of height and width, {own}: give an input_size (--input-size)"
                    )
                input_size = None if own == (None, None) else cast(tuple[int, int], own)
            elif any(side not in (None, wish) for side, wish in zip(own, input_size, strict=True)):
                raise ValueError(
                    f"{runtime.name} takes images of {size_name(own)} only, received input_size {input_size}: leave it "
                    "out"
                )
            self._sizes = () if input_size is None else (input_size,)
        self.input_size = self._sizes[0] if len(self._sizes) == 1 else None
        self.takes_any_size = runtime.takes_any_size

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        height, width = images.shape[1:3]
        images = self.padded(runtime, images)
        scores = resized(runtime.scores(images), images.shape[1:3], runtime.spec)
        return scores[:, :height, :width], runtime.returns

    def padded(self, runtime: Runtime, images: np.ndarray) -> np.ndarray:
        """Images as the runtime takes them.

        Raises:
            ValueError: they are larger.
        """
        height, width = images.shape[1:3]
        if not self._sizes or (height, width) in self._sizes:
            return images
        holding = [size for size in self._sizes if size[0] >= height and size[1] >= width]
        if not holding:
            larger = f"the input size {size_name(self._sizes[0])}"
            if len(self._sizes) > 1:
                larger = f"all sizes of {runtime.name}: {', '.join(map(size_name, self._sizes))}"
            fixed = (
                f"{runtime.name} takes no other size: build or export it with a larger input, or cut images into "
                f"windows (windows={self._sizes[-1]})"
            )
            refuse_larger(images, larger, larger_size(images) if self.takes_any_size else fixed)
        return padded_to(images, holding[0])

    def told(self) -> tuple[str, ...]:
        sizes = " or ".join(map(size_name, self._sizes))
        return ("whole image", f"padded to {sizes}") if sizes else ("whole image",)
