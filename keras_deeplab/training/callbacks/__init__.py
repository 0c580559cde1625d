"""Callbacks of a training, for `keras_deeplab.train` and for any `model.fit`."""

from keras_deeplab.training.callbacks.interrupts import Interrupts
from keras_deeplab.training.callbacks.reporting import RunReport
from keras_deeplab.training.callbacks.run import TrainingRun
from keras_deeplab.training.callbacks.tensorboard import TensorBoardPanels
from keras_deeplab.training.callbacks.validation import Validation

__all__ = ["Interrupts", "RunReport", "TensorBoardPanels", "TrainingRun", "Validation"]
