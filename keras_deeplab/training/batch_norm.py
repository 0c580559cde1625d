"""Batch normalisation in a training: whose statistics normalise, and how they come to be those of the data."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from keras_deeplab.specs.model import inner_layers
from keras_deeplab.training.settings import TrainSettings


def prepare(model: keras.Model, settings: TrainSettings) -> None:
    """Sets the layers of a model as `settings.batch_norm` says, see there."""
    for layer in _layers(model):
        if settings.batch_norm == "frozen":
            layer.trainable = False
        elif settings.batch_norm == "calibrated" and layer.trainable:
            _fix(layer)
        elif settings.batch_norm_momentum is not None:
            layer.momentum = settings.batch_norm_momentum
        else:
            layer.momentum = min(layer.momentum, max(0.0, 1.0 - 10.0 / settings.steps))


def calibrate(model: keras.Model, batches: Iterable[Any]) -> None:
    """Gives batch normalisation the statistics of data, in the layers that learn and have statistics that don't move.

    Each layer gets the mean and variance over all batches, of what it receives while the layers before it normalise by
    their batch: as in training with batches of this size.

    Args:
        model: `keras.Model` that `prepare` has set for `"calibrated"`.
        batches: of images (B, H, W, channels), as the model takes them.
    """
    layers = [layer for layer in _layers(model) if _calibrated(layer)]
    kept = [layer.momentum for layer in layers]
    sums = [[0.0, 0.0] for _ in layers]
    count = 0
    try:
        for layer in layers:
            layer.trainable, layer.momentum = True, 0.0
        for images in batches:
            count += 1
            model(images, training=True)
            for pair, layer in zip(sums, layers, strict=True):
                mean, variance = (
                    keras.ops.convert_to_numpy(each).astype(np.float64)
                    for each in (layer.moving_mean, layer.moving_variance)
                )
                pair[0] = pair[0] + mean
                pair[1] = pair[1] + variance + mean**2
        for (mean, square), layer in zip(sums, layers, strict=True):
            layer.moving_mean.assign((mean / count).astype(np.float32))
            layer.moving_variance.assign(np.maximum(square / count - (mean / count) ** 2, 0.0).astype(np.float32))
    finally:
        for momentum, layer in zip(kept, layers, strict=True):
            layer.momentum = momentum
            _fix(layer)


@contextlib.contextmanager
def as_built(model: keras.Model) -> Iterator[None]:
    """A context in which layers with calibrated statistics are trainable again, as a file shall have them."""
    layers = [layer for layer in _layers(model) if _calibrated(layer)]
    try:
        for layer in layers:
            layer.trainable = True
        yield
    finally:
        for layer in layers:
            _fix(layer)


def _layers(model):
    return [layer for layer in inner_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def _calibrated(layer):
    return not layer.trainable and any(each is not None and each.trainable for each in (layer.gamma, layer.beta))


def _fix(layer):
    # Keras normalises by the moving statistics then, and doesn't move them.
    layer.trainable = False
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            variable.trainable = True
