"""What predictions are worth, in NumPy for evaluation, and intersection over union as a Keras metric for training.

Metrics of label maps have `update(labels, predictions)`, and those of parts of a data set add up with `+` to those of
the whole, exactly.
"""

from keras_deeplab.metrics.boundary import BoundaryIoU
from keras_deeplab.metrics.calibration import Calibration
from keras_deeplab.metrics.confusion import ConfusionMatrix
from keras_deeplab.metrics.images import ImageScores
from keras_deeplab.metrics.mean_iou import MeanIoU
from keras_deeplab.metrics.trimap import TrimapCurve

__all__ = ["BoundaryIoU", "Calibration", "ConfusionMatrix", "ImageScores", "MeanIoU", "TrimapCurve"]
