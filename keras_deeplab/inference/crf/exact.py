"""The Gaussian filter as it is defined, a sum over all pairs of points: what the lattice approximates.

Its time and memory grow with the square of the number of pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_deeplab.inference.crf.lattice import factors

MOST = 10_000  # points, whose pairs take 800 MB


class ExactFilter:
    """Filters values at points with the kernel exp(-|f_i - f_j|^2 / 2), the point itself included, normalised.

    Args and methods: those of `keras_deeplab.inference.crf.lattice.Lattice`.

    Raises:
        ValueError: there are more than `MOST` points.
    """

    def __init__(self, features: np.ndarray, normalisation: str = "after") -> None:
        if len(features) > MOST:
            raise ValueError(
                f"exact sums over all pairs are for images of up to {MOST:,} pixels, received {len(features):,}: leave "
                "exact out, or make the image smaller"
            )
        points = np.asarray(features, np.float64)
        norms = np.einsum("nd,nd->n", points, points)
        kernel = norms[:, None] + norms - 2.0 * points @ points.T
        np.exp(-0.5 * np.maximum(kernel, 0.0, out=kernel), out=kernel)
        before, after = factors(kernel.sum(1), normalisation)
        self._kernel = after[:, None] * kernel * before

    def weighted(self, weight: float) -> Callable[[Any], np.ndarray]:
        """What maps values (N, C) to their weighted sums (N, C), times `weight`, float32."""
        return lambda values: (weight * (self._kernel @ np.asarray(values, np.float64))).astype(np.float32)
