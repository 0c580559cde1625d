"""A `keras.Model`, on whichever backend Keras has."""

import keras
import numpy as np

from keras_deeplab.inference.runtimes.base import LOGITS, PROBABILITIES, Runtime
from keras_deeplab.specs.model import spec_of


class KerasRuntime(Runtime):
    """A model from images (B, H, W, channels) to logits, or probabilities; auxiliary outputs are left aside.

    Args:
        model: functional `keras.Model`.
        input_size: (height, width) that it will be given images of, None for any: a graph is traced for it.

    Raises:
        ValueError: it doesn't map images to scores.
    """

    def __init__(self, model, name=None, input_size=None):
        self.model = model
        self.name = name or f"the model {model.name!r}"
        self.spec = spec_of(model)
        self.channels = self.spec.channels
        own = tuple(model.inputs[0].shape[1:3])
        self.sizes = () if own == (None, None) else (own,)
        self.returns = LOGITS if self.spec.activation is None else PROBABILITIES
        self.has_labels = keras.backend.backend() == "tensorflow"
        self._run, self._labels = None, None
        self._input_size = input_size or own

    def scores(self, images):
        if keras.backend.backend() != "tensorflow":
            return np.asarray(_first(self.model.predict_on_batch(images)), np.float32)
        if self._run is None:
            self._trace()
        return self._run(images)

    def labels(self, images, height, width, threshold):
        if self._labels is None:
            self._trace()
        return self._labels(images, height, width, threshold).numpy()

    def _trace(self):
        import tensorflow as tf

        from keras_deeplab.inference import answers, strategies

        model, spec, returns = self.model, self.spec, self.returns
        # One trace for every image: height and width are unknown to it unless images are padded to one size.
        pixels = tf.TensorSpec((None, *self._input_size, self.channels), tf.float32)

        def scores(images):
            return tf.cast(_first(model(images, training=False)), tf.float32)

        def labels(images, height, width, threshold):
            found = strategies.resized(scores(images), tf.shape(images)[1:3], spec)
            return answers.labels_of(found[:, :height, :width], spec, returns, threshold)

        numbers = [tf.TensorSpec((), tf.int32)] * 2 + [tf.TensorSpec((), tf.float32)]
        # Any size: a strategy may run the image at several.
        any_size = tf.TensorSpec((None, *model.inputs[0].shape[1:3], self.channels), tf.float32)
        self._run = tf.function(scores, input_signature=[any_size], autograph=False, jit_compile=False)
        self._labels = tf.function(labels, input_signature=[pixels, *numbers], autograph=False, jit_compile=False)


def _first(outputs):
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs
