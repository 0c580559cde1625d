"""Which backend Keras runs on, and what that means for the layers: TensorFlow's own operators, or Keras's path."""

import keras
from keras import ops

_TENSORFLOW = keras.backend.backend() == "tensorflow"
if _TENSORFLOW:
    import tensorflow as tf
else:
    tf = None

_register = keras.saving.register_keras_serializable("keras_deeplab")


def _tensor(variable):
    """The variable's value in the layer's compute dtype. `ops` alone would hand on a tf.Variable, whose gradient a
    custom gradient may not define."""
    value = ops.convert_to_tensor(variable)
    return tf.convert_to_tensor(value) if _TENSORFLOW else value
