"""What the tensors of a network hold on calibration images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab import layers

# Values of a tensor that are kept of one image, to search a range on.
_SAMPLES = 4096


@dataclass
class Statistics:
    """Of one tensor, on all calibration images.

    Attributes:
        low, high: (C,), the extremes of each channel.
        typical: (C,), the mean over the images of each channel's largest absolute value.
        mean, mean_square: (C,), of each channel.
        values: float32 (N,), evenly spaced samples of all values.
    """

    low: np.ndarray
    high: np.ndarray
    typical: np.ndarray
    mean: np.ndarray
    mean_square: np.ndarray
    values: np.ndarray


def observe(model: keras.Model, names: Iterable[str], images: Sequence[np.ndarray]) -> dict[str, Statistics]:
    """The `Statistics` of the outputs of layers, by the layers' names.

    Args:
        model: functional keras.Model.
        names: names of layers with one output each.
        images: arrays (1, H, W, 3), all of one size.
    """
    outputs = {name: keras.tree.flatten(model.get_layer(name).output)[0] for name in names}
    inner = keras.Model(model.inputs, outputs)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((1, *images[0].shape[1:]), tf.float32)])
    def figures(image):
        with layers.export_ops(native=None):
            found = inner(image, training=False)
        results = {}
        for name, values in found.items():
            flat = tf.reshape(values, (-1, values.shape[-1]))
            every = tf.reshape(values, (-1,))
            # A step that is odd and large visits all channels and places in turn.
            step = max(1, int(np.prod(values.shape)) // _SAMPLES) | 1
            results[name] = (
                tf.reduce_min(flat, 0),
                tf.reduce_max(flat, 0),
                tf.reduce_mean(flat, 0),
                tf.reduce_mean(tf.square(flat), 0),
                every[::step],
            )
        return results

    rows: dict[str, list[list[np.ndarray]]] = {name: [] for name in outputs}
    for image in images:
        for name, row in figures(tf.constant(image, tf.float32)).items():
            rows[name].append([value.numpy() for value in row])
    return {name: _summed(row) for name, row in rows.items()}


def _summed(rows):
    low, high, mean, mean_square, values = zip(*rows, strict=True)
    largest = [np.maximum(np.abs(a), np.abs(b)) for a, b in zip(low, high, strict=True)]
    return Statistics(
        np.min(low, 0),
        np.max(high, 0),
        np.mean(largest, 0),
        np.mean(mean, 0, dtype=np.float64),
        np.mean(mean_square, 0, dtype=np.float64),
        np.concatenate(values),
    )
