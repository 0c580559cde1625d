"""Weights that make a comparison mean something: fresh ones leave batch norm at 0 and 1, and logits near zero."""

from contextlib import contextmanager
from unittest import mock

import keras
import numpy as np


@contextmanager
def zeros_at_first():
    """In it Keras fills kernels with zeros, not with random values that `randomise` or `set_weights` would replace."""

    def zeros(self, shape, dtype=None, **_):
        return keras.ops.zeros(shape, dtype or keras.config.floatx())

    with mock.patch.object(keras.initializers.VarianceScaling, "__call__", zeros):
        yield


def randomise(model, seed=0):
    """Fills every weight of `model` from `seed`, scaled so that features keep their size; returns the model.

    Large kernels are uniform, which takes a tenth of the time of a normal distribution in double precision.
    """
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        name, shape = variable.path.rpartition("/")[2], tuple(variable.shape)
        if "variance" in name:
            value = rng.uniform(0.5, 1.5, shape)
        elif name == "gamma":
            value = rng.uniform(0.7, 1.3, shape)
        elif len(shape) >= 2:
            depthwise = "depthwise" in variable.path and shape[-1] == 1
            size = np.sqrt(2 / np.prod(shape[:2] if depthwise else shape[:-1]))
            if np.prod(shape) < 50_000:
                value = rng.standard_normal(shape) * size
            else:
                value = rng.random(shape, dtype="float32")
                value -= np.float32(0.5)
                value *= np.float32(np.sqrt(12) * size)
        else:
            value = rng.standard_normal(shape) * 0.1
        variable.assign(value.astype("float32"))
    return model
