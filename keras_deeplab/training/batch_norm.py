"""Batch normalisation in a training: whose statistics normalise, and how they come to be those of the data."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras.activations import linear

from keras_deeplab._helpers.private import producer
from keras_deeplab.specs.model import inner_layers
from keras_deeplab.training.settings import TrainSettings

_FEW = 8  # crops in a step, below which their statistics mislead: docs/training.md has the measurement


def resolved(settings: TrainSettings, model: keras.Model) -> TrainSettings:
    """The settings with `batch_norm`, and what goes with it, filled in for a model where they were not told."""
    if settings.batch_norm is not None:
        return settings
    few = settings.batch_size < _FEW and any(layer.trainable for layer in _layers(model))
    if not few:
        return settings.filled(batch_norm="batch")
    own = settings.optimization
    clipped = {"global_clipnorm": 1.0} if own.global_clipnorm is None and isinstance(own.optimizer, str) else {}
    return settings.filled(batch_norm="calibrated", **clipped)


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
            layer.momentum = min(layer.momentum, max(0.0, 1.0 - 10.0 / settings.total_steps))


def calibrate(model: keras.Model, batches: Iterable[Any]) -> int:
    """Gives batch normalisation that has never seen data its statistics, in layers whose statistics don't move.

    Such a layer has the mean 0 and the variance 1 that Keras begins with; those of trained weights stay as they are.
    Each gets the mean and variance over all batches, of what it receives while the new layers before it normalise by
    their batch. Before, the kernels in front of new layers are scaled so that the variances are 1: a kernel whose small
    results are amplified would take steps that are as much too large, for nothing bounds them here (batch statistics
    do). That start is one of unit variance by data (Mishkin and Matas 2015, "All you need is a good init").

    Args:
        model: `keras.Model` that `prepare` has set for `"calibrated"`.
        batches: of images (B, H, W, channels), as the model takes them.

    Returns:
        How many layers got statistics.
    """
    layers = [layer for layer in _layers(model) if _calibrated(layer) and _unseen(layer)]
    if layers:
        shown = list(batches)
        for layer, (_, variance) in zip(layers, _measured(model, layers, shown), strict=True):
            _scale(layer, variance)
        for layer, (mean, variance) in zip(layers, _measured(model, layers, shown), strict=True):
            layer.moving_mean.assign(mean.astype(np.float32))
            layer.moving_variance.assign(variance.astype(np.float32))
    return len(layers)


def _measured(model, layers, batches):
    """The mean and variance of what each layer receives, over all batches, float64."""
    kept = [layer.momentum for layer in layers]
    sums = [[0.0, 0.0] for _ in layers]
    try:
        for layer in layers:
            layer.trainable, layer.momentum = True, 0.0
        for images in batches:
            model(images, training=True)
            for pair, layer in zip(sums, layers, strict=True):
                mean, variance = _statistics(layer)
                pair[0] = pair[0] + mean / len(batches)
                pair[1] = pair[1] + (variance + mean**2) / len(batches)
    finally:
        for momentum, layer in zip(kept, layers, strict=True):
            layer.momentum = momentum
            _fix(layer)
    return [(mean, np.maximum(squares - mean**2, 0.0)) for mean, squares in sums]


def _statistics(layer):
    """A layer's moving mean and variance, float64."""
    both = (layer.moving_mean, layer.moving_variance)
    return [keras.ops.convert_to_numpy(each).astype(np.float64) for each in both]


def _unseen(layer):
    mean, variance = _statistics(layer)
    return bool((mean == 0).all() and (variance == 1).all())


def _scale(layer, variance):
    """Scales the kernel before a layer so that the variance is 1, where it is a convolution's own."""
    before = producer(layer.input)
    if not isinstance(before, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)) or before.activation is not linear:
        return
    # A channel that is the same everywhere has nothing to scale.
    scale = np.where(variance > 1e-12, 1.0 / np.sqrt(np.maximum(variance, 1e-12)), 1.0).astype(np.float32)
    kernel = keras.ops.convert_to_numpy(before.kernel)
    shape = kernel.shape[2:] if isinstance(before, keras.layers.DepthwiseConv2D) else (1, -1)
    before.kernel.assign(kernel * scale.reshape(shape))
    if before.bias is not None:
        before.bias.assign(keras.ops.convert_to_numpy(before.bias) * scale)


def release(model: keras.Model) -> None:
    """Makes layers with calibrated statistics trainable again, once a training is over."""
    for layer in _layers(model):
        if _calibrated(layer):
            layer.trainable = True


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
    return list(inner_layers(model, keras.layers.BatchNormalization))


def _calibrated(layer):
    return not layer.trainable and any(each is not None and each.trainable for each in (layer.gamma, layer.beta))


def _fix(layer):
    # Keras normalises by the moving statistics then, and doesn't move them.
    layer.trainable = False
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            variable.trainable = True
