"""A Keras model's scores before they are resized to the image."""

import keras

from keras_deeplab._helpers.private import calls, producer
from keras_deeplab.inference.runtimes.base import LOGITS, PROBABILITIES
from keras_deeplab.layers import ResizeBilinear
from keras_deeplab.specs import ModelSpec


def without_resize(model: keras.Model, spec: ModelSpec) -> tuple[keras.Model, bool | None, str]:
    """A model to that of its scores before they are resized to the image, how they are, and what they are."""
    scores = model.outputs[0]
    returns = LOGITS if spec.activation is None else PROBABILITIES
    layer = producer(scores)
    if isinstance(layer, keras.layers.Activation) and spec.activation is not None:
        scores = calls(layer)[0].input_tensors[0]
        if isinstance(producer(scores), ResizeBilinear):
            layer, returns = producer(scores), LOGITS
    if isinstance(layer, ResizeBilinear):
        coarse, reference = calls(layer)[0].input_tensors
        if reference is model.inputs[0]:
            return keras.Model(model.inputs, coarse), layer.align_corners, returns
    if len(model.outputs) > 1:
        model = keras.Model(model.inputs, model.outputs[0])
    return model, None if spec.logits_stride == 1 else spec.align_corners, returns
