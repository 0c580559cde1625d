"""What the replicas of a `tf.distribute` strategy share: sums over the whole batch, and each one's part of a loss.

On JAX a step sees the whole batch however many devices it is spread over, so there is nothing to do.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_deeplab.specs.model import inner_layers

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def strategy_of(model: keras.Model) -> Any:
    """The `tf.distribute` strategy that a model was built with; None on other backends."""
    return model.distribute_strategy if keras.backend.backend() == "tensorflow" else None


def replicas_of(model: keras.Model) -> int:
    """How many devices a step of a model's training is spread over."""
    if keras.backend.backend() == "tensorflow":
        return strategy_of(model).num_replicas_in_sync
    distribution = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)


def count() -> int:
    """How many replicas share the batch that this code runs on a part of."""
    context = _context()
    return 1 if context is None else context.num_replicas_in_sync


def batch_sum(value: Any) -> Any:
    """A sum over a replica's part of the batch to that over the whole batch; gradients go through it."""
    return value if count() == 1 else _context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def share(loss: Any) -> Any:
    """A loss of the whole batch, which every replica has, to a replica's share of it: gradients are added up."""
    return loss if count() == 1 else loss / count()


def _context() -> Any:
    return tf.distribute.get_replica_context() if keras.backend.backend() == "tensorflow" else None


@contextlib.contextmanager
def synchronized(model: keras.Model, value: bool = True) -> Iterator[None]:
    """A context in which batch normalisation has the statistics of the whole batch on every replica, or has not.

    Where a step sees the whole batch anyway it changes nothing.

    Layers have Keras's `synchronized` for a while only: a model that is saved with it couldn't be opened with JAX.
    """
    parted = replicas_of(model) > 1 and keras.backend.backend() == "tensorflow"
    layers = list(inner_layers(model, keras.layers.BatchNormalization)) if parted else []
    before = [layer.synchronized for layer in layers]
    try:
        for layer in layers:
            layer.synchronized = value
        yield
    finally:
        for layer, kept in zip(layers, before, strict=True):
            layer.synchronized = kept
