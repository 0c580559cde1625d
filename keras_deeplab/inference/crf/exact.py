"""The Gaussian filter as it is defined, a sum over all pairs of points: what the lattice approximates.

Its time grows with the square of the number of pixels: 3,000 pixels take a second, 12,000 half a minute.
"""

from typing import Any

import numpy as np

from keras_deeplab.inference.crf.lattice import factors

_ROWS = 1 << 22  # entries of the matrix at once


class ExactFilter:
    """Filters values at points with the kernel exp(-|f_i - f_j|^2 / 2), the point itself included, normalised.

    Args and methods: those of `keras_deeplab.inference.crf.lattice.Lattice`.
    """

    def __init__(self, features: np.ndarray, normalisation: str = "after") -> None:
        self._features = np.asarray(features, np.float64)
        self._before, self._after = factors(self._sums(np.ones((len(features), 1)))[:, 0], normalisation)

    def filtered(self, values: Any, weight: float = 1.0) -> np.ndarray:
        """Values (N, C) to their weighted sums (N, C), times `weight`, float32."""
        sums = self._sums(np.asarray(values, np.float64) * self._before[:, None])
        return (weight * self._after[:, None] * sums).astype(np.float32)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        points = self._features
        norms = np.einsum("nd,nd->n", points, points)
        step = max(1, _ROWS // len(points))
        found = np.empty(values.shape)
        for start in range(0, len(points), step):
            rows = slice(start, start + step)
            distances = norms[rows, None] + norms - 2.0 * points[rows] @ points.T
            found[rows] = np.exp(-0.5 * np.maximum(distances, 0.0)) @ values
        return found
