"""Several scales of the image, and its mirror image."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from keras_deeplab.inference import answers
from keras_deeplab.inference.runtimes.base import PROBABILITIES, Runtime
from keras_deeplab.inference.settings import AVERAGES, MAX, MEAN
from keras_deeplab.inference.strategies.base import (
    Around,
    Strategy,
    needs_scores,
    resize,
    resized,
    sizes_told,
    takes_any_size,
    told,
)
from keras_deeplab.specs import ALIGN_CORNERS, ModelSpec

_CELLS = 1 << 20  # probabilities that are worked out at a time


class SeveralScales(Around):
    """The mean or the maximum of the probabilities at several scales of the image, mirrored too where asked for.

    Images are resized as the model's record says its logits are. With aligned corners a side becomes
    int((side - 1) * scale + 1), so that sizes k * stride + 1 stay of that kind (`scale_dimension` and
    `predict_labels_multi_scale` of research/deeplab); with half-pixel centres the nearest to side * scale
    (mmsegmentation, `SegTTAModel` and its `Resize`). Scores are brought to the image's size, then become
    probabilities, which are summed as they come: the sum and the scores of one image are held, however many there are.

    Args:
        inner: what every one of the images is put to.
        runtime: the runtime it will be called with.
        scales: factors of the image's size, such as the papers' (0.5, 0.75, 1.0, 1.25, 1.5, 1.75).
        flip: whether the mirrored image is averaged too.
        average: `"mean"`, or `"max"` for the greatest probability of each class, which are divided by their sum again
            where classes exclude each other.

    Raises:
        ValueError: the model gives labels alone, or takes images of certain sizes while other scales are asked for.
    """

    def __init__(
        self,
        inner: Strategy,
        runtime: Runtime,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        average: str = MEAN,
    ) -> None:
        super().__init__(inner)
        self.scales, self.flip, self.average = tuple(float(scale) for scale in scales), bool(flip), average
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}; received {average!r}")
        needs_scores(runtime, "scales" if self.scales != (1.0,) else "flip")
        if self.scales != (1.0,) and not takes_any_size(inner):
            raise ValueError(
                f"scales need a model for any input size, but {runtime.name} takes {sizes_told(runtime)} only: cut the "
                f"images of every scale into windows (windows={runtime.sizes[-1]})"
            )

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        spec = cast(ModelSpec, runtime.spec)
        height, width = images.shape[1:3]
        images = self.padded(runtime, images)
        mean = _Greatest(spec) if self.average == MAX else _Mean()
        for scale in self.scales:
            scaled = images if scale == 1.0 else _scaled(images, scale, spec.resize)
            for mirrored in (False, True)[: 1 + self.flip]:
                fed = np.ascontiguousarray(scaled[:, :, ::-1]) if mirrored else scaled
                scores, returns = self.inner(runtime, fed)
                scores = np.asarray(resized(scores, images.shape[1:3], spec))[:, :height]
                mean.add((scores[:, :, ::-1] if mirrored else scores)[:, :, :width], spec, returns)
        return mean.result(), PROBABILITIES

    def told(self) -> tuple[str, ...]:
        seen = f"scales {', '.join(f'{scale:g}' for scale in self.scales)}" if self.scales != (1.0,) else ""
        seen += (" and mirrored" if seen else "mirrored too") * self.flip
        return *told(self.inner), f"{seen} ({'maximum' if self.average == MAX else 'mean'} of probabilities)"


def _scaled(images: np.ndarray, scale: float, convention: str) -> np.ndarray:
    if convention == ALIGN_CORNERS:
        target = [max(1, int((side - 1) * scale + 1.0)) for side in images.shape[1:3]]
    else:
        target = [max(1, int(side * scale + 0.5)) for side in images.shape[1:3]]
    return np.asarray(resize(images, target, convention))


def _probabilities(scores: np.ndarray, spec: ModelSpec, returns: str) -> Any:
    """Pairs (rows, their probabilities) of scores (B, H, W, C), a few rows at a time."""
    step = max(1, _CELLS // max(1, scores[:, 0].size))
    for start in range(0, scores.shape[1], step):
        rows = np.s_[:, start : start + step]
        yield rows, np.asarray(answers.probabilities_of(scores[rows], spec, returns))


class _Mean:
    """Running mean of probabilities (B, H, W, C)."""

    total: np.ndarray | None = None
    count = 0

    def add(self, scores: np.ndarray, spec: ModelSpec, returns: str) -> None:
        if self.total is None:
            self.total = np.zeros(scores.shape, np.float32)
        for rows, found in _probabilities(scores, spec, returns):
            self.total[rows] += found
        self.count += 1

    def result(self) -> Any:
        assert self.total is not None
        self.total /= self.count
        return self.total


class _Greatest:
    """Running maximum of probabilities (B, H, W, C), as probabilities again.

    Of classes that exclude each other the maxima are divided by their sum. A class that is decided by itself has two
    labels, there and not there: the same is done with the maxima of both.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.exclusive = spec.exclusive
        self.greatest: np.ndarray | None = None
        self.least: np.ndarray | None = None

    def add(self, scores: np.ndarray, spec: ModelSpec, returns: str) -> None:
        if self.greatest is None:
            self.greatest = np.zeros(scores.shape, np.float32)
            self.least = None if self.exclusive else np.ones(scores.shape, np.float32)
        for rows, found in _probabilities(scores, spec, returns):
            np.maximum(self.greatest[rows], found, out=self.greatest[rows])
            if self.least is not None:
                np.minimum(self.least[rows], found, out=self.least[rows])

    def result(self) -> Any:
        assert self.greatest is not None
        whole = self.greatest.sum(-1, keepdims=True) if self.least is None else self.greatest + (1 - self.least)
        self.greatest /= whole
        return self.greatest
