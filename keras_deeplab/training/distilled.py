"""A model that learns from a teacher beside the labels."""

from typing import Any

import keras

from keras_deeplab.specs.model import SegmentationModel, main_output
from keras_deeplab.training.losses import Distillation


class Distilled(SegmentationModel):
    """A model whose loss is `1 - weight` of the compiled one, and `weight` of how far its logits are from a teacher's.

    See `losses.Distillation`. It is for `fit` alone: its files are those of the model that it is the twin of.
    """

    def taught(self, teacher: keras.Model, weight: float, temperature: float, ignore_label: int) -> None:
        """Sets the teacher, a model from images to logits at their size, and how much it counts."""
        soft = Distillation(lambda labels, logits: 0.0, 1.0, temperature, ignore_label)
        # In a function, so that the teacher's variables are none of this model's.
        self._divergence = lambda images, labels, logits: soft(
            labels, logits, main_output(teacher(images, training=False))
        )
        self._weight = weight

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """As Keras's, with the teacher's part."""
        hard = super().compute_loss(x, y, y_pred, sample_weight, training)
        return (1.0 - self._weight) * hard + self._weight * self._divergence(x, y, main_output(y_pred))
