"""A model whose step of training ends where its last resize begins."""

from typing import Any

import keras

from keras_deeplab.layers import before_resize
from keras_deeplab.specs.model import SegmentationModel


def resizes(model: keras.Model) -> list[str | None]:
    """The convention in which each output of a model is resized to its images' size, None where it isn't."""
    return [before_resize(output, model.inputs[0])[1] for output in model.outputs]


class Coarse(SegmentationModel):
    """A model that returns its logits before their resize when it is called for training, and at all times else them.

    So the loss (`losses.AtLabelSize`) resizes as it sees fit, and scores of images' size needn't exist for a whole
    batch. It is for `fit` alone: its files are those of the model that it is the twin of.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        coarse = [before_resize(output, self.inputs[0])[0] for output in self.outputs]
        short = keras.Model(self.inputs[0], coarse if len(coarse) > 1 else coarse[0])
        # In a function, so that its layers aren't counted twice.
        self._short = lambda images: short(images, training=True)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return self._short(inputs) if training else super().call(inputs, training=training, mask=mask)
