"""A Keras model's scores before they are resized to the image."""

import keras

from keras_deeplab._helpers.private import calls, producer
from keras_deeplab.inference.runtimes.base import LOGITS, PROBABILITIES
from keras_deeplab.layers import before_resize
from keras_deeplab.specs import ModelSpec


def without_resize(model: keras.Model, spec: ModelSpec) -> tuple[keras.Model, str | None, str]:
    """A model to that of its scores before they are resized to the image, how they are, and what they are."""
    scores, images = model.outputs[0], model.inputs[0]
    returns = LOGITS if spec.activation is None else PROBABILITIES
    coarse, resize = before_resize(scores, images)
    layer = producer(scores)
    if isinstance(layer, keras.layers.Activation) and spec.activation is not None:
        logits, convention = before_resize(calls(layer)[0].input_tensors[0], images)
        if convention is not None:
            return keras.Model(model.inputs, logits), convention, LOGITS
    if resize is not None:
        return keras.Model(model.inputs, coarse), resize, returns
    if len(model.outputs) > 1:
        model = keras.Model(model.inputs, model.outputs[0])
    return model, None if spec.logits_stride == 1 else spec.resize, returns
