"""The image by tiles, so that what is in memory beside it follows a tile."""

from typing import Any

import numpy as np

from keras_deeplab.inference.rasters.base import Pixels, Read
from keras_deeplab.inference.runtimes.base import Runtime, size_name
from keras_deeplab.inference.strategies.base import needs_scores
from keras_deeplab.inference.strategies.whole import WholeImage
from keras_deeplab.inference.tiles.settings import TileOptions
from keras_deeplab.inference.tiles.sources import source_of
from keras_deeplab.inference.tiles.tiling import TILE, Tiling, labels_by


class Tiles:
    """As the whole image, by tiles: where the halo covers what a Keras model sees, with its very labels.

    `labels` holds no scores but a tile's; a call gives the scores of all pixels, as of any strategy.

    Args:
        runtime: what it is for.
        input_size: not used: what stands around this pads images.
        tiles: how the image is cut.

    Raises:
        ValueError: the model gives labels alone, or takes no images of that size.
    """

    def __init__(
        self, runtime: Runtime, input_size: tuple[int, int] | None = None, tiles: TileOptions | None = None
    ) -> None:
        needs_scores(runtime, "tiles")
        self._each = WholeImage(runtime)
        self.tiles = tiles or TileOptions.of()
        self._source = source_of(runtime, self._each, True, self.tiles.image_means)
        self.input_size = None
        self.takes_any_size = True

    def tiling(self, runtime: Runtime, height: int, width: int, threshold: float | None = 0.5) -> Tiling:
        """The tiles of an image of this size; without a threshold they give scores in place of labels."""
        make = None if threshold is None else labels_by(runtime.spec, threshold)
        return Tiling(self._source, height, width, make, self.tiles.tile, self.tiles.halo)

    def __call__(self, runtime: Runtime, images: np.ndarray) -> tuple[Any, str]:
        return _all(self._tiling(runtime, images, None), images), self._source.returns

    def labels(self, runtime: Runtime, images: np.ndarray, threshold: float) -> np.ndarray:
        """Images (B, H, W, channels) in 0..255, of any dtype, to labels (B, H, W)."""
        return _all(self._tiling(runtime, images, threshold), images)

    def exact_labels(self, runtime: Runtime, images: np.ndarray, threshold: float) -> np.ndarray | None:
        """As `labels`; None where they wouldn't be those of the whole image."""
        tiling = self._tiling(runtime, images, threshold)
        return _all(tiling, images) if tiling.exact else None

    def _tiling(self, runtime: Runtime, images: np.ndarray, threshold: float | None) -> Tiling:
        height, width = images.shape[1:3]
        return self.tiling(runtime, height, width, threshold)

    def told(self) -> tuple[str, ...]:
        size = size_name(self._source.fixed or self.tiles.tile or (TILE, TILE))
        halo = "" if self.tiles.halo is None else f" with a halo of {self.tiles.halo}"
        return (f"tiles of {size} at most{halo}",)


def _all(tiling: Tiling, images: np.ndarray) -> np.ndarray:
    return np.stack([tiling.all(_rows_of(image)) for image in images])


def _rows_of(image: np.ndarray) -> Read:
    return lambda top, bottom: Pixels(image[top:bottom], None)
