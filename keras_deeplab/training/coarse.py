"""A model whose step of training ends where its last resize begins."""

import keras

from keras_deeplab.layers import before_resize
from keras_deeplab.specs.model import SegmentationModel


def end_before_resize(model: SegmentationModel) -> list[str | None]:
    """Has a model return its logits before their resize when it is called for training, and at all other times after.

    So the loss (`losses.AtLabelSize`) resizes as it sees fit, and scores of images' size needn't exist for a whole
    batch. It lasts as long as this object: files and copies of it are of the plain model.

    Returns:
        The convention in which each output is resized to the images' size, None where it isn't.
    """
    found = [before_resize(output, model.inputs[0]) for output in model.outputs]
    tensors = [tensor for tensor, _ in found]
    short = keras.Model(model.inputs[0], tensors if len(tensors) > 1 else tensors[0])
    # In a function, so that its layers aren't counted twice.
    model.called_for_training = lambda images: short(images, training=True)
    return [convention for _, convention in found]
