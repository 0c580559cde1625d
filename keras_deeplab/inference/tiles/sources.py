"""What gives scores on tiles: a Keras model placed in its image, or anything else that each tile is put to."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np

from keras_deeplab.inference.runtimes.base import LABELS, PADDING, Runtime
from keras_deeplab.inference.tiles.placed import PlacedModel
from keras_deeplab.inference.tiles.plan import Span

_UNIT = 32  # the largest stride of the published networks


class Scorer(Protocol):
    """What gives scores on the tiles of one image.

    Attributes:
        grid: (height, width) of the image's scores.
        first_pass: whether `first` is to see all tiles, and then `close`, before `scores`.
        sums: what `first` found of all tiles so far, for `close`.
    """

    grid: tuple[int, int]
    first_pass: bool
    sums: list[np.ndarray] | None

    def first(self, images: np.ndarray, rows: Span, columns: Span) -> list[Any]: ...

    def close(self, sums: Sequence[np.ndarray] | None = None) -> None: ...

    def scores(self, images: np.ndarray, rows: Span, columns: Span, kept: list[Any] | None = None) -> np.ndarray: ...


class Source(Protocol):
    """What gives scores on tiles of any image.

    Attributes:
        unit: what tiles' starts are multiples of, in pixels.
        stride: pixels from one position of the scores to the next.
        reach: how many pixels away a position of the scores sees; None where that isn't known.
        resize: how scores are resized to the image; None where they have its size.
        returns: `"logits"`, `"probabilities"` or `"labels"`.
        fixed: (height, width) of the only tiles that it takes, or None.
        differs: why scores of a tile aren't the image's even within reach; None where they are.
    """

    unit: int
    stride: int
    reach: int | None
    resize: str | None
    returns: str
    fixed: tuple[int, int] | None
    differs: str | None

    def on(self, height: int, width: int) -> Scorer: ...


class Placed:
    """A Keras model placed in its image.

    Args:
        model: the model.
        means: `"image"`: means over the image are those of the whole image; `"tile"`: of each tile.
    """

    fixed: tuple[int, int] | None = None

    def __init__(self, model: PlacedModel, means: str = "image") -> None:
        self._model, self._means = model, means == "image"
        self.unit, self.stride, self.reach = model.unit, model.stride, model.reach
        self.resize, self.returns = model.resize, model.returns
        self.differs = model.differs
        if model.means and not self._means:
            self.differs = "its means over the image are each tile's own, as asked for"

    def on(self, height: int, width: int) -> Scorer:
        return self._model.on(height, width, self._means)


class EachTile:
    """A strategy that every tile is put to as if it were an image.

    Args:
        strategy: maps (runtime, images) to (scores at the images' size, what they are).
        runtime: what it runs.
        reason: why the model can't be placed, to follow "it".
    """

    resize: str | None = None
    stride = 1
    reach: int | None = None
    first_pass = False
    sums: list[np.ndarray] | None = None

    def __init__(self, strategy: Any, runtime: Runtime, reason: str) -> None:
        self._strategy, self._runtime = strategy, runtime
        self.unit = (runtime.spec and runtime.spec.output_stride) or _UNIT
        self.fixed: tuple[int, int] | None = strategy.input_size
        if self.fixed is None and not runtime.takes_any_size and len(runtime.sizes) > 1:
            self.fixed = max(((height or 0, width or 0) for height, width in runtime.sizes), key=math.prod)
        self.differs: str | None = reason
        # What a strategy makes of scores, only a call of it tells.
        self.returns = runtime.returns
        self.grid = (0, 0)

    def on(self, height: int, width: int) -> Scorer:
        self.grid = (height, width)
        return self

    def first(self, images: np.ndarray, rows: Span, columns: Span) -> list[Any]:
        raise NotImplementedError

    def close(self, sums: Sequence[np.ndarray] | None = None) -> None: ...

    def scores(self, images: np.ndarray, rows: Span, columns: Span, kept: list[Any] | None = None) -> np.ndarray:
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if images.shape[1:3] != (height, width):  # behind the image's end
            padded = np.full((1, height, width, images.shape[-1]), PADDING, np.float32)
            padded[:, : images.shape[1], : images.shape[2]] = images
            images = padded
        if self._runtime.returns == LABELS:
            found = np.asarray(self._runtime.scores(images))
            return found.reshape(height, width, 1)
        found, self.returns = self._strategy(self._runtime, images)
        return keras.ops.convert_to_numpy(found)[0]


def source_of(runtime: Runtime, strategy: Any, whole: bool, means: str = "image") -> Source:
    """What gives scores on tiles.

    Args:
        runtime, strategy: of a predictor.
        whole: whether the strategy puts images to the model whole, as they are.
        means: `"image"` or `"tile"`, see `Placed`.
    """
    model = getattr(runtime, "model", None)
    if not whole:
        reason = f"each tile is put to the model by {type(strategy).__name__}, as if it were an image"
    elif strategy.input_size is not None:
        reason = "the model takes images of one size, so each tile is one"
    elif not isinstance(model, keras.Model) or runtime.spec is None:
        reason = f"nothing is known of the inside of {runtime.name}, so each tile is put to it as if it were an image"
    else:
        try:
            return Placed(PlacedModel(model, runtime.spec), means)
        except ValueError as error:
            reason = f"{runtime.name} {error}, so each tile is put to it as if it were an image"
    return EachTile(strategy, runtime, reason)
