"""What the callbacks that show a training share: pictures of what the model predicts, scores of each class."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_deeplab.data.source import Source
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metrics import MeanIoU
from keras_deeplab.reports.history import scores
from keras_deeplab.reports.panels import Sample, chosen, panel
from keras_deeplab.training.averages import averaged
from keras_deeplab.training.hosts import Hosts


class Panels:
    """Some images of a data set as pictures: image, truth and what a model predicts of it.

    Args:
        source: the data; images that show many of its classes are taken.
        count: how many.
        predict: function from an image uint8 (H, W, channels) to labels (H, W); None for the model's own, of whole
            images at their own size.
    """

    def __init__(
        self, source: Source, count: int = 4, predict: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> None:
        self.source, self.count, self.predict = source, count, predict
        self._samples: list[Sample] = []

    def drawn(self, model: keras.Model) -> list[tuple[np.ndarray, str]]:
        """Pictures uint8 (H, W, 3) and their names, of a compiled model, with the average of its weights if it has one.

        None where several hosts train it: they would be predictions of one, in which the others take no part.

        Raises:
            ValueError: an image can't be read, or the model doesn't take it.
        """
        if Hosts(model).several:
            return []
        self.predict = self.predict or predictor(model)
        self._samples = self._samples or chosen(self.source, self.count)
        with averaged(model):
            samples = [sample.predicted(self.predict) for sample in self._samples]
        return [(panel(sample, self.source.classes_spec), sample.name) for sample in samples]


def with_class_scores(model: keras.Model, logs: Mapping[str, Any]) -> dict[str, Any]:
    """The logs of an epoch, with the scores of each class where a validation of Keras left them in a metric `MeanIoU`.

    Those of the callback `Validation` are in the logs already.
    """
    found = dict(logs)
    if "val_iou" in found or not any(name.startswith("val_") for name in found):
        return found
    parts = [part for metric in model.metrics for part in (metric, *getattr(metric, "metrics", ()))]
    metric = next((part for part in parts if isinstance(part, MeanIoU)), None)
    if metric is not None:  # it holds what it counted last, which was the validation
        found |= scores(metric.confusion)
    return found
