"""Which backend Keras runs on, and what that means for the layers: TensorFlow's own operators, or Keras's path."""

import importlib
from typing import Any, TypeAlias

import keras
from keras import ops

# A tensor of the backend that Keras runs on, or a symbolic one.
Tensor: TypeAlias = Any

TENSORFLOW: bool = keras.backend.backend() == "tensorflow"
# TensorFlow itself where Keras runs on it; None elsewhere, where its import would cost seconds.
tf: Any = importlib.import_module("tensorflow") if TENSORFLOW else None

register = keras.saving.register_keras_serializable("keras_deeplab")


def tensor_of(variable: Any) -> Tensor:
    """The variable's value in the layer's compute dtype. `ops` alone would hand on a tf.Variable, whose gradient a
    custom gradient may not define."""
    value = ops.convert_to_tensor(variable)
    return tf.convert_to_tensor(value) if TENSORFLOW else value
