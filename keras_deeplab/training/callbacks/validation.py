"""Scores of whole images between the epochs of a training."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from keras_deeplab._helpers.values import plain
from keras_deeplab.data.source import Source
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.options import Size
from keras_deeplab.reports.history import scores
from keras_deeplab.training.averages import averaged
from keras_deeplab.training.callbacks.epochs import Epochs
from keras_deeplab.training.callbacks.interrupts import Interrupted


class Validation(Epochs):
    """Evaluates whole images of a data set at the end of every epoch of `fit`, each at its own size.

    The logs of the epoch get `"val_mean_iou"`, `"val_pixel_accuracy"`, `"val_iou"`, a list with the intersection over
    union of each class (None for one that occurs in neither labels nor predictions), and `"val_pixels"` and
    `"val_predicted"` with its share of the labels and of the predictions, for the callbacks behind it:
    `keras.callbacks.EarlyStopping("val_mean_iou", mode="max")` and its like. An epoch that was cut short isn't
    validated. Where the optimizer keeps a moving average of the weights, that is what is evaluated.

    Args:
        source: the data.
        limit: how many images, None for all.
        input_size: (height, width) that images are padded to, None for not at all.
        progress: whether to show a progress line.
        within: a context around every evaluation, from which a `KeyboardInterrupt` leaves it unfinished.

    Attributes:
        predict: the predictor of the model that is trained, an image to labels.
        matrix: the `ConfusionMatrix` of the last one.
        scoring: what the scores depend on besides the model, as plain values.
    """

    def __init__(
        self,
        source: Source,
        *,
        limit: int | None = None,
        input_size: Size | None = None,
        progress: bool = False,
        within: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        super().__init__()
        self.source, self.limit, self.input_size, self.progress = source, limit, input_size, progress
        self.scoring: dict[str, Any] = plain({"source": source.name, "limit": limit, "input_size": input_size})
        self.matrix: ConfusionMatrix | None = None
        self._within = within
        self.predict: Any = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self.predict = predictor(model, self.input_size)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.completed and logs is not None:
            scores = self.scores()
            logs.update({} if scores is None else scores)

    def scores(self) -> dict[str, Any] | None:
        """What the logs get, of the model as it is; None where a signal ended the evaluation."""
        try:
            with self._within(), averaged(self.model):
                self.matrix = evaluate(self.predict, self.source, limit=self.limit, progress=self.progress)
        except Interrupted:
            self.model.stop_training = True
            return None
        return scores(self.matrix)
