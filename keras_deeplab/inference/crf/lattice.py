"""The permutohedral lattice: a Gaussian filter of any number of points in a few dimensions, in time linear in both.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (2010). Each point's value is
spread over the corners of the simplex that it lies in, the corners are blurred along the lattice's d + 1 directions one
after the other, and read again where the points are. The result is an approximation of the sum over all pairs, which
`keras_deeplab.inference.crf.exact` computes as it stands.

All three steps are products with sparse matrices, which are made once for a lattice and run by TensorFlow on all cores.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# Points whose simplices are found at once: few enough for their arrays to stay in a core's cache.
_CHUNK = 1 << 15
_FARTHEST = 1e6  # standard deviations from 0, beyond which float32 can't place a point in a simplex
_TINY = 1e-20  # keeps the division defined, as in the dense CRF's own code


class Lattice:
    """Filters values at points with the kernel exp(-|f_i - f_j|^2 / 2), normalised.

    Args:
        features: float32 (N, d), where the points lie; divided by the standard deviations.
        normalisation: of `keras_deeplab.inference.crf.settings.NORMALISATIONS`.

    Attributes:
        size: how many corners hold values.

    Raises:
        ValueError: the features span too much for 64-bit numbers of corners: the standard deviations are too small.
    """

    def __init__(self, features: np.ndarray, normalisation: str = "after") -> None:
        points, dimensions = features.shape
        keys, shares, steps = _simplices(np.asarray(features, np.float32))
        corners, index = numbered(keys)
        del keys
        self.size = len(corners)
        neighbours = [_neighbours(corners, step) for step in steps]
        # The result of filtering ones, by which it is normalised.
        total = np.bincount(index.ravel(), shares.ravel(), self.size + 1)
        for before, after in neighbours:
            total = total + 0.5 * (total[before] + total[after])
        scale = 1.0 / (1.0 + 2.0**-dimensions)
        total = scale * np.einsum("nd,nd->n", shares, total[index])
        first, last = factors(total, normalisation)
        # One corner more than there are: what lies at no corner, always 0.
        shape = (points, self.size + 1)
        self._splat = _transposed(_csr(index, shares * first[:, None].astype(np.float32), shape))
        self._slice = _csr(index, shares * (scale * last)[:, None].astype(np.float32), shape)
        self._blurs = [_blur(*both) for both in neighbours[:-1]]
        self._last = neighbours[-1]

    def weighted(self, weight: float) -> Callable[[Any], Any]:
        """What maps float32 values (N, C) to their weighted sums (N, C), times `weight`, as a tensor."""
        matrices = (self._splat, *self._blurs, _blur(*self._last, weight), self._slice)

        def filtered(values: Any) -> Any:
            for matrix in matrices:
                values = _product(matrix, values)
            return values

        return filtered


def factors(total: np.ndarray, normalisation: str) -> tuple[np.ndarray, np.ndarray]:
    """The filtered ones (N,) to what values are multiplied with before and after they are filtered."""
    if normalisation == "symmetric":
        root = 1.0 / np.sqrt(total + _TINY)
        return root, root
    return np.ones_like(total), 1.0 / (total + _TINY)


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Points to the corners around them.

    Returns:
        int64 (N, d + 1), a number for each corner of each point's simplex; float32 (N, d + 1), the point's barycentric
        coordinates; and what is added to a corner's number to get to its neighbour, for each of d + 1 directions.
    """
    points, dimensions = features.shape
    if np.abs(features).max() > _FARTHEST:
        raise ValueError(
            f"the image spans {np.abs(features).max():.3g} standard deviations, more than the lattice can tell apart: "
            "they are too small for it; choose larger ones"
        )
    parts = [_chunk(features[start : start + _CHUNK]) for start in range(0, points, _CHUNK)]
    # Corners have integer coordinates that add up to 0, of which d are enough. One more step on each side is there
    # for the neighbours.
    margin = 2 * (dimensions + 1)
    low = np.min([part[0].min(1) for part in parts], axis=0)[:dimensions].astype(np.int64) - margin
    high = np.max([part[0].max(1) for part in parts], axis=0)[:dimensions].astype(np.int64) + margin
    spans = [int(span) for span in high - low + 1]
    places = [1]
    for span in spans[:0:-1]:
        places.insert(0, places[0] * span)
    if places[0] * spans[0] >= 2**62:
        raise ValueError(
            f"the image spans {' x '.join(map(str, spans))} lattice steps, more than can be numbered: the standard "
            "deviations are too small for it; choose larger ones"
        )
    everywhere, weights = sum(places), np.array([*places, 0], np.int64)
    keys = np.empty((points, dimensions + 1), np.int64)
    shares = np.empty((points, dimensions + 1), np.float32)
    for number, (nearest, rank, share) in enumerate(parts):
        here = slice(number * _CHUNK, number * _CHUNK + share.shape[1])
        shares[here] = share.T
        # A corner's coordinates grow by one from each corner to the next, but for the one that falls by d.
        of_rank = _by_rank(np.broadcast_to(weights[:, None], rank.shape), rank)
        key = weights[:dimensions] @ (nearest[:dimensions].astype(np.int64) - low[:, None])
        keys[here, 0] = key
        for corner in range(1, dimensions + 1):
            key = key + everywhere - (dimensions + 1) * of_rank[dimensions + 1 - corner]
            keys[here, corner] = key
    return keys, shares, [(dimensions + 1) * int(weight) - everywhere for weight in weights]


def _chunk(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, d) to their simplex's corner of colour 0 (d + 1, n), the coordinates' ranks and the shares, alike.

    The arithmetic is in float32 and in the order of the dense CRF's own code: where a point lies on the border of two
    simplices, other corners are made by another rounding, over which values then spread differently.
    """
    dimensions = features.shape[1]
    deviation = np.sqrt(2.0 / 3.0) * (dimensions + 1)
    count = dimensions + 1
    down = np.float32(1.0 / count)
    elevated = np.empty((count, len(features)), np.float32)
    total = np.zeros(len(features), np.float32)
    for axis in range(dimensions, 0, -1):
        scaled = features[:, axis - 1] * np.float32(np.float32(deviation) / np.sqrt(axis * (axis + 1.0)))
        elevated[axis] = total - np.float32(axis) * scaled
        total += scaled
    elevated[0] = total
    rounded = np.rint(elevated * down)
    excess = rounded.sum(0).astype(np.int32)
    nearest = rounded * np.float32(count)
    offset = elevated - nearest
    rank = np.zeros(elevated.shape, np.int32)
    for one in range(dimensions):
        for other in range(one + 1, count):
            less = offset[one] < offset[other]
            rank[one] += less
            rank[other] += ~less
    # The rounded coordinates add up to 0 where they are a corner; else those that were rounded furthest are moved.
    rank += excess
    shift = ((rank < 0).astype(np.int32) - (rank > dimensions)) * count
    rank += shift
    nearest += shift
    offset = _by_rank((elevated - nearest) * down, rank)
    share = np.empty_like(elevated)
    share[1:] = offset[dimensions - 1 :: -1] - offset[:0:-1]
    share[0] = offset[dimensions] + (np.float32(1.0) - offset[0])
    return nearest.astype(np.int32), rank, share


def _by_rank(values: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Values (d + 1, n) in the order of their ranks."""
    ordered = np.empty(values.shape, values.dtype)
    np.put_along_axis(ordered, rank, values, axis=0)
    return ordered


def numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Int64 keys to (the different ones, sorted; int32, which of them each is): `np.unique`, several times as fast.

    Few of the keys differ, so that a table by a few bits of a product tells most of them apart; only keys that share
    their place with another are sorted.
    """
    bits = max(10, int(keys.size).bit_length())
    place = ((keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)).astype(np.int64)
    table = np.zeros(1 << bits, np.int64)
    table[place] = keys
    lost = table[place] != keys
    taken = np.zeros(1 << bits, bool)
    taken[place] = True
    first = table[taken]
    rest, which = np.unique(keys[lost], return_inverse=True)
    found = np.concatenate([first, rest])
    order = np.argsort(found)
    number = np.empty(len(found), np.int32)
    number[order] = np.arange(len(found), dtype=np.int32)
    numbers = np.zeros(1 << bits, np.int32)
    numbers[taken] = number[: len(first)]
    index = numbers[place]
    index[lost] = number[len(first) + which]
    return found[order], index


def _neighbours(corners: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted corners to the one before and the one after each in a direction, ascending.

    The number of corners stands for none; the last entry of both is of none itself.
    """
    count = len(corners)
    wanted = corners + abs(step)
    found = np.minimum(np.searchsorted(corners, wanted), count - 1)
    there = corners[found] == wanted
    before = np.full(count + 1, count, np.int32)
    after = np.full(count + 1, count, np.int32)
    before[found[there]] = np.flatnonzero(there)
    after[:-1][there] = found[there]
    return before, after


# Sparse matrices --------------------------------------------------------------------------------------------------


def _blur(before: np.ndarray, after: np.ndarray, weight: float = 1.0) -> Any:
    """The matrix that adds half of each neighbour, times `weight`."""
    columns = np.stack([before, np.arange(len(before)), after], axis=1)
    values = np.empty(columns.shape, np.float32)
    values[:] = (0.5 * weight, weight, 0.5 * weight)
    return _csr(columns, values, (len(before), len(before)))


def _csr(columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> Any:
    """A matrix of `shape` from the columns and values of its entries, (rows, as many in each)."""
    import tensorflow as tf

    indices = np.empty((*columns.shape, 2), np.int64)
    indices[..., 0] = np.arange(len(columns))[:, None]
    indices[..., 1] = columns
    with tf.device("CPU:0"):
        return tf.raw_ops.SparseTensorToCSRSparseMatrix(
            indices=indices.reshape(-1, 2), values=values.ravel(), dense_shape=np.array(shape, np.int64)
        )


def _transposed(matrix: Any) -> Any:
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.raw_ops.SparseMatrixTranspose(input=matrix, type=tf.float32)


def _product(matrix: Any, values: Any) -> Any:
    import tensorflow as tf

    with tf.device("CPU:0"):
        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=values)
