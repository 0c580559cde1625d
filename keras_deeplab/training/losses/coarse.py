"""Losses of logits that are coarser than the labels."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.layers import convention, conventions
from keras_deeplab.training.losses.base import SegmentationLoss, at_size_of, squeezed


@keras.saving.register_keras_serializable("keras_deeplab")
class AtLabelSize(keras.losses.Loss):
    """Label maps (B, H, W) and logits (B, h, w, C) to a loss of the logits, resized bilinearly to (H, W).

    For models with `upsample_logits=False`, or a training that leaves out the last resize: the values and gradients are
    those of the loss behind that resize. `SparseCategoricalCrossentropy` without hard pixels and smoothing then needs
    scores of images' size for one or two images at a time on the TensorFlow backend, and not for the whole batch.

    Args:
        loss: a function from labels and logits at their size to a number, such as the losses of this package.
        resize: the convention, one of `keras_deeplab.specs.RESIZES`: a model's `model.spec.resize`.
        name: name of the loss.

    Raises:
        ValueError: the convention is none.

    >>> import numpy as np
    >>> from keras_deeplab.training.losses import SparseCategoricalCrossentropy
    >>> loss = AtLabelSize(SparseCategoricalCrossentropy(), "align_corners")
    >>> print(f"{float(loss(np.zeros((1, 5, 5)), np.zeros((1, 2, 2, 4)))):.4f}")  # log(4)
    1.3863
    """

    def __init__(self, loss: Any, resize: str, name: str = "at_label_size") -> None:
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.loss, self.resize = loss, convention(**conventions(resize))

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        # Each loss refuses or takes sample weights by itself.
        labels, logits = squeezed(ops.cast(y_true, "int32")), ops.convert_to_tensor(y_pred)
        more = {} if sample_weight is None else {"sample_weight": sample_weight}
        if None not in labels.shape[1:] and tuple(labels.shape[1:]) == tuple(logits.shape[1:3]):
            return self.loss(labels, logits, **more)
        if isinstance(self.loss, SegmentationLoss) and not more:
            return self.loss.resized(labels, logits, self.resize)
        return self.loss(labels, at_size_of(labels, logits, self.resize), **more)

    def get_config(self) -> dict[str, Any]:
        return {"loss": keras.saving.serialize_keras_object(self.loss), "resize": self.resize, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AtLabelSize":
        return cls(**(config | {"loss": keras.saving.deserialize_keras_object(config["loss"])}))
