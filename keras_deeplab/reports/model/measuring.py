"""A model and a data set to everything that the page about it tells, in one pass: each image is predicted once."""

import tempfile
import threading
import time
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data import pipeline
from keras_deeplab.data.settings import compare_ranges
from keras_deeplab.inference.evaluation import matrix_of, protocol_of
from keras_deeplab.inference.protocols import EvaluationOptions, ScoringOptions
from keras_deeplab.inference.settings import InferenceOptions
from keras_deeplab.metrics import BoundaryIoU, Calibration, ConfusionMatrix, ImageScores, TrimapCurve
from keras_deeplab.reports.model.cells import TopImages
from keras_deeplab.specs import Classes

Predict = Callable[[np.ndarray], np.ndarray]


class Measured:
    """A model's scores on a data set, and what is behind them.

    Attributes:
        name, title: of the model: in full, and what the page calls it: the end of a path, or of two models A and B.
        predict: what predicted, a `Predictor` or a function from an image to labels.
        protocol: what was scored and how an image was put to the model, a line.
        matrix, trimap, boundary, images: the metrics, see `keras_deeplab.metrics`.
        calibration: likewise; None where the model gives labels alone.
        cells: which images have the most pixels of each cell of the matrix.
        table: uint8 (256,), the data's labels to those that are scored; None where they are the same.
        predictions: the labels of each image.
        names, sizes: of the images in their order, and how many have which (height, width).
        seconds: that the model took for each image.
    """

    def __init__(self, name: str, predict: Predict, source: Any, class_map: Any = None, around: str = "labels") -> None:
        self.name = self.title = name
        self.predict = predict
        self.protocol = ""
        classes: Classes = source.classes_spec
        spec = getattr(predict, "spec", None)
        self.matrix, self.table = matrix_of(spec, classes, source.num_classes, class_map, source.name)
        self.matrix.protocol = self.protocol or None
        compare_ranges(source.image_range, None if spec is None else spec.image_range, source.name)
        count, ignored = self.matrix.num_classes, self.matrix.ignore_label
        self.trimap = TrimapCurve(count, around=around, ignore_label=ignored)
        self.boundary = BoundaryIoU(count, ignore_label=ignored)
        self.calibration: Calibration | None = Calibration(count, ignore_label=ignored)
        self.images = ImageScores(count)
        self.cells = TopImages(count)
        self.predictions = Kept()
        self.names: list[str] = []
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.seconds: list[float] = []
        # The data's own colours where its classes are scored, else the model's.
        named = classes if self.table is None or spec is None else spec.classes
        self.palette = np.array(named.palette(max(256, count)), np.uint8)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels that are scored."""
        return self.matrix.classes or tuple(f"class {label}" for label in range(self.matrix.num_classes))

    def truth(self, label: np.ndarray) -> np.ndarray:
        """The data's labels (H, W) as they are scored."""
        return label if self.table is None else self.table[label]

    def update(self, image: np.ndarray, label: np.ndarray, name: str) -> None:
        """Predicts an image, uint8 (H, W, channels), and counts it against its labels (H, W)."""
        truth = self.truth(label)
        start = time.perf_counter()
        labels, probabilities = self._answer(image)
        self.seconds.append(time.perf_counter() - start)
        one = ConfusionMatrix(self.matrix.num_classes, self.matrix.ignore_label)
        one.update(truth, labels)
        self.matrix.matrix += one.matrix
        self.images.update(one)
        self.cells.update(len(self.names), one.matrix)
        self.trimap.update(truth, labels)
        self.boundary.update(truth, labels)
        if probabilities is None:
            self.calibration = None
        elif self.calibration is not None:
            sure = np.take_along_axis(probabilities, labels[..., None].astype(np.intp), -1)[..., 0]
            self.calibration.update(truth, labels, sure)
        self.predictions.append(labels)
        self.names.append(name)
        self.sizes[(label.shape[0], label.shape[1])] += 1

    def _answer(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if hasattr(self.predict, "answer"):
            answer = self.predict.answer(image)
            return answer.labels, answer.probabilities
        return np.asarray(self.predict(image)), None

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain numbers and lists, for JSON."""
        return {
            "model": self.name,
            "images": len(self.names),
            "classes": list(self.classes),
            **self.matrix.to_dict(),
            "trimap": self.trimap.to_dict(),
            "boundary": self.boundary.to_dict(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            "seconds_an_image": float(np.median(self.seconds)),
        }


class Kept:
    """Label maps put aside in a temporary file, compressed, so that memory doesn't grow with the data set."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._places: list[tuple[int, int, tuple[int, ...], np.dtype]] = []
        self._end = 0

    def append(self, labels: np.ndarray) -> None:
        # Fast rather than small: about 30 to 1.
        data = zlib.compress(labels.tobytes(), 1)
        self._file.seek(self._end)
        self._file.write(data)
        self._places.append((self._end, len(data), labels.shape, labels.dtype))
        self._end += len(data)

    def __getitem__(self, index: int) -> np.ndarray:
        start, length, shape, dtype = self._places[index]
        with self._lock:  # several threads draw pictures
            self._file.seek(start)
            data = self._file.read(length)
        return np.frombuffer(zlib.decompress(data), dtype).reshape(shape)


def measure(
    models: Mapping[str, Predict],
    source: Any,
    *,
    limit: int | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    around: str = "labels",
    scoring: ScoringOptions | None = None,
    progress: bool = True,
) -> list[Measured]:
    """Predicts every image of a `keras_deeplab.data` source with each model and counts: a `Measured` of each.

    Args:
        models: by name, what `keras_deeplab.predictor` returns or functions from a uint8 image (H, W, channels) to
            labels (H, W), whose classes are taken to be the data's.
        limit, class_map: as of `inference.evaluation.evaluate`.
        around: what trimap bands lie around, as of `metrics.TrimapCurve`.
        scoring: what of a sample is scored; None for the whole image at its own size.
        progress: whether to show how far it is.

    Raises:
        ValueError: as `evaluate`; or the models score different classes, so that they can't be compared.
    """
    found = [Measured(name, predict, source, class_map, around) for name, predict in models.items()]
    _check_comparable(found, source.name)
    for model, letter in zip(found, "AB", strict=False):
        model.title = short(model.name) if len(found) == 1 else letter
    total = source.num_examples if limit is None else min(limit, source.num_examples)
    scoring = ScoringOptions.of() if scoring is None else scoring
    for model in found:
        inference = getattr(model.predict, "settings", None) or InferenceOptions.of()
        settings = EvaluationOptions(scoring=scoring, inference=inference)
        model.matrix.protocol = model.protocol = protocol_of(model.predict, settings, total, source.num_examples)
    samples = pipeline.evaluation(source, limit).as_numpy_iterator()
    with Progress(total, "report", enabled=progress) as bar, data.readable_errors():
        for done, sample in enumerate(samples, 1):
            name = sample["name"].decode(errors="replace")
            try:
                image, label = scoring.sample(sample["image"], sample["label"])
                for model in found:
                    model.update(image, label, name)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            if bar.due():
                bar.update(done, f"mIoU {found[0].matrix.mean_iou:.4f}")
    return found


def short(name: str) -> str:
    """The end of a path; another name as it is.

    >>> short("runs/mine/best.keras"), short("a model")
    ('best.keras', 'a model')
    """
    return Path(name).name or name


def _check_comparable(models: Sequence[Measured], data_name: str) -> None:
    first, *others = models
    for other in others:
        if (first.classes, first.matrix.ignore_label) != (other.classes, other.matrix.ignore_label):
            raise ValueError(
                f"{first.name} and {other.name} can't be compared on {data_name}: the one is scored in "
                f"{len(first.classes)} classes ({', '.join(first.classes[:6])}, ...), the other in "
                f"{len(other.classes)} ({', '.join(other.classes[:6])}, ...)"
            )
