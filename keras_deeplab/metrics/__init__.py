"""What predictions are worth: intersection over union, in NumPy for evaluation and as a Keras metric for training."""

from keras_deeplab.metrics.confusion import ConfusionMatrix
from keras_deeplab.metrics.mean_iou import MeanIoU

__all__ = ["ConfusionMatrix", "MeanIoU"]
