"""A model whose step of training runs less than the model: it ends where the last resize begins."""

import keras

from keras_deeplab.layers import before_resize
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.training.recomputation import recomputing


def resizes(model: keras.Model) -> list[str | None]:
    """The convention in which each output of a model is resized to its images' size, None where it isn't."""
    return [before_resize(output, model.inputs[0])[1] for output in model.outputs]


def end_before_resize(model: SegmentationModel, recompute: bool = False) -> None:
    """Has a compiled model return its logits before their resize when it is called for training.

    Its loss, `losses.AtLabelSize`, resizes as it sees fit, so that scores of images' size needn't exist for a whole
    batch. At all other times the model returns what it did. It lasts until it is compiled with another loss; files and
    copies of it are of the plain model. With `recompute` it keeps fewer of its maps, see `recomputation`.
    """
    tensors = [before_resize(output, model.inputs[0])[0] for output in model.outputs]
    short = keras.Model(model.inputs[0], tensors if len(tensors) > 1 else tensors[0])
    loss = model.loss
    # In a function, so that the layers aren't counted twice.
    run = recomputing(short) if recompute else lambda images: short(images, training=True)
    model.called_for_training = lambda images: run(images) if model.loss is loss else None
