"""Our own `ModelHandler` of Beam: any model that `keras_deeplab.predictor` takes, loaded once for each worker.

Beam's handlers of TensorFlow don't take Keras 3's models (apache/beam#30616), and know nothing of .tflite and .onnx
files, of padding, scales or classes; `RunInference(SegmentationHandler("model.tflite"))` has all of them.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.beam import places
from keras_deeplab.inference.beam.inputs import reason_of
from keras_deeplab.inference.predictor import Predictor, predictor


class Unanswered(str):
    """In the place of an answer, why there is none."""


class Loaded:
    """A predictor for several threads: interpreters of .tflite files take one image at a time."""

    def __init__(self, predict: Predictor) -> None:
        self.predict = predict
        self._lock = threading.Lock()

    def labels(self, images: np.ndarray) -> np.ndarray:
        with self._lock:
            return self.predict(images)

    def answer(self, images: np.ndarray) -> Answer:
        with self._lock:
            return self.predict.answer(images)


class SegmentationHandler(ModelHandler[np.ndarray, PredictionResult, Loaded]):
    """Images (H, W, channels) in 0..255 of any sizes to `PredictionResult`s whose inference is their labels (H, W).

    Args:
        model: what `keras_deeplab.predictor` takes as a path, or an address such as gs://bucket/model.tflite, which
            each worker fetches; or a function without arguments that makes a `Predictor`, which can be pickled.
        batch_size: of how many images a batch is; those of one size in it are run at once. On a CPU 1 is as fast.
        answers: whether an inference is the whole `Answer`, with probabilities, instead of labels.
        errors: `"raise"`, or `"return"` an `Unanswered` in the place of an answer for images that the model refuses.
        large_model: whether the processes of a machine share one model, as of Beam's own handlers.
        options: of `keras_deeplab.predictor`.

    Raises:
        ValueError: as of these.
    """

    def __init__(
        self,
        model: str | os.PathLike | Callable[[], Predictor],
        *,
        batch_size: int = 1,
        answers: bool = False,
        errors: str = "raise",
        large_model: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(model, (str, os.PathLike)) and (options or not callable(model) or hasattr(model, "layers")):
            raise ValueError(
                f"model must be the path of a model, with options of its predictor, or a function that makes a "
                f"Predictor; received {model!r}" + (f" and {', '.join(options)}" if options else "")
            )
        if errors not in ("raise", "return"):
            raise ValueError(f"errors must be 'raise' or 'return'; received {errors!r}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number, at least 1; received {batch_size!r}")
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size, large_model=large_model)
        self._make = functools.partial(_of_path, os.fspath(model), options) if not callable(model) else model
        self._answers, self._errors = answers, errors

    def load_model(self) -> Loaded:
        made = self._make()
        if not isinstance(made, Predictor):
            raise ValueError(f"the function must make a Predictor; it made {type(made).__name__}")
        return Loaded(made)

    def run_inference(
        self, batch: Sequence[np.ndarray], model: Loaded, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        found: list[Any] = [None] * len(batch)
        for indices in _of_equal_sizes(batch):
            try:
                if len(indices) > 1:
                    answers = self._run(np.stack([batch[index] for index in indices]), model)
                    for index, answer in zip(indices, answers, strict=True):
                        found[index] = answer
                    continue
            except Exception:  # which of them is at fault is found out one by one
                pass
            for index in indices:
                found[index] = self._one(batch[index], model)
        return [PredictionResult(image, each) for image, each in zip(batch, found, strict=True)]

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        return sum(image.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        return "keras_deeplab"

    def _one(self, image: np.ndarray, model: Loaded) -> Any:
        try:
            return self._run(image[None], model)[0]
        except Exception as error:
            if self._errors == "raise":
                raise
            return Unanswered(reason_of(error))

    def _run(self, images: np.ndarray, model: Loaded) -> Sequence[Any]:
        if not self._answers:
            return list(model.labels(images))
        whole = model.answer(images)
        return [
            Answer(labels, _part(whole.probabilities, index), _part(whole.masks, index), whole.spec)
            for index, labels in enumerate(whole.labels)
        ]


def _of_equal_sizes(batch: Sequence[np.ndarray]) -> Iterable[list[int]]:
    groups: dict[Any, list[int]] = {}
    for index, image in enumerate(batch):
        groups.setdefault((np.shape(image), image.dtype), []).append(index)
    return groups.values()


def _part(arrays: np.ndarray | None, index: int) -> np.ndarray | None:
    return None if arrays is None else arrays[index]


def _of_path(model: str, options: Mapping[str, Any]) -> Predictor:
    with places.fetched(model) as path:
        return predictor(path, **options)
