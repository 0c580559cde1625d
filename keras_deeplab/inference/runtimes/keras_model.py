"""A `keras.Model`, on whichever backend Keras has."""

from typing import Any

import keras
import numpy as np

from keras_deeplab.inference import answers
from keras_deeplab.inference.coarse import without_resize
from keras_deeplab.inference.runtimes.base import LOGITS, PROBABILITIES, Runtime
from keras_deeplab.specs.model import main_output, spec_of


class KerasRuntime(Runtime):
    """A model from images (B, H, W, channels) to logits, or probabilities; auxiliary outputs are left aside.

    Args:
        model: functional `keras.Model`.
        input_size: (height, width) that it will be given images of, None for any: a graph is traced for it.

    Raises:
        ValueError: it doesn't map images to scores.
    """

    def __init__(self, model: keras.Model, name: str | None = None, input_size: Any = None) -> None:
        self.model = model
        self.name = name or f"the model {model.name!r}"
        self.program = keras.backend.backend()
        self.spec = spec_of(model)
        self.channels = self.spec.channels
        own = tuple(model.inputs[0].shape[1:3])
        self.sizes = () if own == (None, None) else (own,)
        self.returns = LOGITS if self.spec.activation is None else PROBABILITIES
        self._scores = self._labels = None
        if keras.backend.backend() == "tensorflow":
            self._scores, self._labels = self._graphs(own, input_size or own)

    def scores(self, images: np.ndarray) -> Any:
        if self._scores is None:
            return np.asarray(main_output(self.model.predict_on_batch(images)), np.float32)
        return self._scores(images)

    def labels(self, images: np.ndarray, height: int, width: int, threshold: float | None) -> Any:
        return None if self._labels is None else self._labels(images, height, width, threshold).numpy()

    def _graphs(self, own, input_size):
        """TensorFlow's functions from images to scores and to labels, each traced when it is first called."""
        import tensorflow as tf

        model, spec = self.model, self.spec

        def scores(images):
            return tf.cast(main_output(model(images, training=False)), tf.float32)

        # Labels don't need the scores of every pixel.
        coarse, convention, kind = without_resize(model, spec)

        def labels(images, height, width, threshold):
            found = tf.cast(coarse(images, training=False), tf.float32)
            if convention is None:
                return answers.labels_of(found[:, :height, :width], spec, kind, threshold)
            size = tf.shape(images)[1:3]
            labels = answers.resized_labels_of(found, size, spec, convention, kind, threshold)
            return labels[:, :height, :width]

        # One trace for every image: height and width are unknown to it unless images are padded to one size. A strategy
        # may put the image to the scores at several.
        any_size, padded = (tf.TensorSpec((None, *size, self.channels), tf.float32) for size in (own, input_size))
        numbers = [tf.TensorSpec((), tf.int32)] * 2 + [tf.TensorSpec((), tf.float32)]
        settings = {"autograph": False, "jit_compile": False}
        return (
            tf.function(scores, input_signature=[any_size], **settings),
            tf.function(labels, input_signature=[padded, *numbers], **settings),
        )
