"""How an image is put to a runtime: whole, or at several scales and mirrored. Scores in, scores out.

A strategy maps (runtime, images) to scores at the images' size, so that strategies can stand in each other's place and
answers don't depend on what runs. `STRATEGIES` names them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import keras
import numpy as np

from keras_deeplab.inference import answers
from keras_deeplab.inference.runtimes.base import LABELS, PADDING, PROBABILITIES, Runtime, size_name
from keras_deeplab.layers import ResizeBilinear
from keras_deeplab.specs import ModelSpec


class Strategy(Protocol):
    """Maps a runtime and float32 images (B, H, W, channels) in 0..255 to (scores, what they are).

    Scores are (B, H, W, num_classes), `"logits"` or `"probabilities"`. `input_size` is what images are padded to, or
    None.
    """

    input_size: tuple[int, int] | None

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]: ...


class WholeImage:
    """The image as it is, padded at the bottom and right with 127.5 to a size that the model takes.

    Args:
        runtime: what it is for.
        input_size: (height, width) to pad to; None for the model's own where it has one size, the smallest that holds
            the image where it has several, else no padding.

    Raises:
        ValueError: the model takes no images of that size.
    """

    def __init__(self, runtime: Runtime, input_size: tuple[int, int] | None = None):
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
        self._fixed = not runtime.takes_any_size

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
            way_out = (
                f"{runtime.name} takes no other size: build or export it with a larger input"
                if self._fixed
                else f"give an input_size (--input-size) of at least {max(height, width)}, or none at all"
            )
            raise ValueError(
                f"the image is {height}x{width} (height x width), larger than {larger}. Images are padded, never "
                f"resized in silence; {way_out}"
            )
        padded = np.full((len(images), *holding[0], images.shape[3]), PADDING, np.float32)
        padded[:, :height, :width] = images
        return padded


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
                scaled = np.asarray(_resize(images, target, align_corners=True))
            for mirrored in (False, True)[: 1 + self.flip]:
                fed = np.ascontiguousarray(scaled[:, :, ::-1]) if mirrored else scaled
                scores = resized(runtime.scores(fed), size, runtime.spec)
                found = answers.probabilities_of(scores, cast(ModelSpec, runtime.spec), runtime.returns)
                total = total + (found[:, :, ::-1] if mirrored else found)
        mean = total / (len(self.scales) * (1 + self.flip))
        return mean[:, :height, :width], PROBABILITIES


# Name -> function from (runtime, input_size, options) to a `Strategy`, options as keywords; another one is a row here.
STRATEGIES: dict[str, Callable[..., Strategy]] = {"whole": WholeImage, "scales": SeveralScales}


def resized(scores: Any, size: Sequence[Any], spec: ModelSpec | None) -> Any:
    """Scores (B, h, w, C) to (B, *size, C) by the convention of the model's record; also while tracing.

    Labels, and scores of that size, are returned as they are.
    """
    if len(scores.shape) != 4 or spec is None:
        return scores
    known = [side if isinstance(side, int) else None for side in size] if isinstance(size, (tuple, list)) else [None]
    if None not in known and None not in scores.shape[1:3]:
        return scores if tuple(scores.shape[1:3]) == tuple(known) else _resize(scores, size, spec.align_corners)
    if spec.logits_stride == 1:
        return scores
    if spec.logits_stride is not None:
        return _resize(scores, size, spec.align_corners)
    same = keras.ops.all(keras.ops.equal(keras.ops.shape(scores)[1:3], size))
    return keras.ops.cond(same, lambda: scores, lambda: _resize(scores, size, spec.align_corners))


def _resize(maps: Any, size: Sequence[Any], align_corners: bool) -> Any:
    like = keras.ops.broadcast_to(keras.ops.zeros((1, 1, 1, 1)), (1, size[0], size[1], 1))
    return ResizeBilinear(align_corners, dtype="float32")([maps, like])
