"""Several scales of the image, and its mirror image."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from keras_deeplab.inference import answers
from keras_deeplab.inference.runtimes.base import LABELS, PROBABILITIES, Runtime, size_name
from keras_deeplab.inference.strategies.base import resize, resized
from keras_deeplab.inference.strategies.whole import WholeImage
from keras_deeplab.specs import ModelSpec


class SeveralScales(WholeImage):
    """The mean of the probabilities at several scales of the image, mirrored too where asked for.

    Sizes k * stride + 1 stay of that kind (`scale_dimension` of research/deeplab/core/utils.py); images are resized
    with aligned corners, as there.

    Args:
        runtime, input_size: as of `WholeImage`.
        scales: factors of the image's size, such as the papers' (0.5, 0.75, 1.0, 1.25, 1.5, 1.75).
        flip: whether the mirrored image is averaged too.

    Raises:
        ValueError: the model gives labels alone, or takes images of certain sizes while other scales are asked for.
    """

    def __init__(
        self,
        runtime: Runtime,
        input_size: tuple[int, int] | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ):
        super().__init__(runtime, input_size)
        self.scales, self.flip = tuple(float(scale) for scale in scales), bool(flip)
        if runtime.returns == LABELS:
            asked = "scales" if self.scales != (1.0,) else "flip"
            raise ValueError(
                f"{asked} can't be chosen for {runtime.name}, which returns labels, and labels can't be averaged: "
                "score the .keras file or checkpoint that it was exported from, or export it with logits"
            )
        if self.scales != (1.0,) and not runtime.takes_any_size:
            raise ValueError(
                f"scales need a model for any input size, but {runtime.name} takes "
                f"{', '.join(map(size_name, runtime.sizes))} only"
            )

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        height, width = images.shape[1:3]
        images = self.padded(runtime, images)
        size = images.shape[1:3]
        total: Any = 0.0
        for scale in self.scales:
            scaled = images
            if scale != 1.0:
                target = [max(1, int((side - 1) * scale + 1.0)) for side in size]
                scaled = np.asarray(resize(images, target, align_corners=True))
            for mirrored in (False, True)[: 1 + self.flip]:
                fed = np.ascontiguousarray(scaled[:, :, ::-1]) if mirrored else scaled
                scores = resized(runtime.scores(fed), size, runtime.spec)
                found = answers.probabilities_of(scores, cast(ModelSpec, runtime.spec), runtime.returns)
                total = total + (found[:, :, ::-1] if mirrored else found)
        mean = total / (len(self.scales) * (1 + self.flip))
        return mean[:, :height, :width], PROBABILITIES
