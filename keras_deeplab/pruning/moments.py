"""What channels hold on photographs, which of them the others can stand in for, and how.

A convolution sums over its input channels. Take some away and let the others carry what those did, as far as they are
alike: that is least squares, and all it needs is the second moments of the channels, E[x_i x_j], on photographs. Which
channel costs least to take away, and what is best done about it, follows from the same matrix, as in "Optimal Brain
Surgeon" (Hassibi, Stork 1993), here for whole channels.
"""

from collections.abc import Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab.pruning.channels import Channels, Group

# Of the mean of the diagonal: keeps least squares from leaning on differences that a few photographs have by chance.
_RIDGE = 1e-3


def second_moments(model: keras.Model, found: Channels, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The mean of x x^T over positions and images of what each convolution takes of groups that may go.

    Args:
        model: functional `keras.Model`.
        found: its `Channels`.
        images: float32 (1, H, W, channels) in 0..255, of any sizes.

    Returns:
        {name of a convolution: float64 (C, C)}, C being all its input channels.

    Raises:
        ValueError: there is no image.
    """
    names = sorted({taker for group in found.groups.values() for taker in group.takers})
    tensors = [keras.tree.flatten(model.get_layer(name).input)[0] for name in names]
    inner = keras.Model(model.inputs, tensors)

    @tf.function(autograph=False, reduce_retracing=True)
    def of_one(image):
        maps = inner(image, training=False)
        sums = []
        for values in maps if isinstance(maps, (list, tuple)) else [maps]:
            rows = tf.reshape(tf.cast(values, tf.float32), (-1, values.shape[-1]))
            sums.append(tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], tf.float32))
        return sums

    totals, count = [np.zeros((tensor.shape[-1],) * 2) for tensor in tensors], 0
    for image in images:
        for total, one in zip(totals, of_one(tf.constant(image, tf.float32)), strict=True):
            total += one.numpy()
        count += 1
    if not count:
        raise ValueError("there is no photograph to see on what the channels hold")
    return {name: total / count for name, total in zip(names, totals, strict=True)}


def _of_group(group: Group, taker: str, moments: Mapping[str, np.ndarray]) -> np.ndarray:
    """The moments of a group's own channels as one convolution takes them, with the ridge."""
    first = group.takers[taker]
    matrix = moments[taker][first : first + group.size, first : first + group.size]
    return matrix + np.eye(group.size) * (_RIDGE * np.trace(matrix) / group.size + 1e-12)


def order(group: Group, kernels: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> np.ndarray:
    """A group's channels, the one first that is missed least; each next one given that those before are gone.

    Args:
        kernels: {taker: its kernel (h, w, C, filters)}.
        moments: of `second_moments`.
    """
    terms = []
    for taker, first in group.takers.items():
        weights = np.moveaxis(kernels[taker], 2, 0)[first : first + group.size].reshape(group.size, -1)
        weights = weights.astype(np.float64)
        matrix = _of_group(group, taker, moments)
        inverse, products = np.linalg.inv(matrix), weights @ weights.T
        # Takers count by the share of what they put out that is lost.
        scale = np.trace(matrix @ products) + 1e-30
        terms.append([inverse, products / scale])
    left = np.ones(group.size, bool)
    found = []
    for _ in range(group.size):
        cost = np.full(group.size, np.inf)
        cost[left] = sum(np.maximum(np.diag(p)[left], 0) / np.diag(i)[left] for i, p in terms)
        channel = int(np.argmin(cost))
        left[channel] = False
        found.append(channel)
        for term in terms:
            inverse, products = term
            step = inverse[:, channel] / inverse[channel, channel]
            own, row = products[channel, channel], products[channel].copy()
            products = products - np.outer(step, row) - np.outer(row, step) + own * np.outer(step, step)
            inverse = inverse - np.outer(step, inverse[channel])
            # What is gone stays gone, whatever rounding says.
            products[channel] = products[:, channel] = 0
            inverse[channel] = inverse[:, channel] = 0
            inverse[channel, channel] = 1
            term[:] = inverse, products
    return np.array(found)


def stood_in(
    group: Group, taker: str, kernel: np.ndarray, kept: np.ndarray, moments: Mapping[str, np.ndarray]
) -> np.ndarray:
    """A taker's kernel where those of a group's channels that aren't `kept` are zero, and the others stand in.

    Returns:
        float32, of the kernel's shape.
    """
    first = group.takers[taker]
    gone = np.setdiff1d(np.arange(group.size), kept)
    changed = kernel.astype(np.float64)
    if len(gone):
        matrix = _of_group(group, taker, moments)
        likeness = np.linalg.solve(matrix[np.ix_(kept, kept)], matrix[np.ix_(kept, gone)])
        changed[:, :, first + kept] += np.einsum("kg,hwgo->hwko", likeness, changed[:, :, first + gone])
        changed[:, :, first + gone] = 0
    return changed.astype(np.float32)
