"""A predictor and a data set to its confusion matrix, by a protocol that stands beside the score."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data import pipeline
from keras_deeplab.data.settings import compare_ranges
from keras_deeplab.inference.overlap import overlapped
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.predictor import predictor as make_predictor
from keras_deeplab.inference.protocols import EvaluationOptions, ScoringOptions
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.inference.settings import InferenceOptions
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.options import options as option_table
from keras_deeplab.options import takes
from keras_deeplab.serving.client import Client
from keras_deeplab.specs import Classes, ModelSpec, label_map


@takes(EvaluationOptions)
def evaluate(
    predictor: Callable[[np.ndarray], np.ndarray] | Any,
    source: Any,
    *,
    limit: int | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    progress: bool = True,
    **options: Any,
) -> ConfusionMatrix:
    """Predicts the images of `source` and counts the pixels: a `metrics.ConfusionMatrix`.

    Every image is scored whole and at its own size, unless `sample_side`, `centre_crop` or a protocol that has them say
    otherwise. The classes of the model and of the data are compared by name; where one of both has no names, by number.

    Args:
        predictor: a model or path, of which `keras_deeplab.predictor` makes one with the options below; or what that
            returned, whose options are its own; or any function from a uint8 image (H, W, channels) to labels (H, W),
            whose classes are taken to be the data's.
        source: a `keras_deeplab.data` source.
        limit: number of images, from the beginning; None for all.
        class_map: for data with other classes than the model's, or in another order: `"names"` pairs them by name and
            leaves pixels of the data's other classes out; a dict says which of the data's names are which of the
            model's (None to leave out), the rest as with `"names"`.
        progress: whether to show how far it is and the mean intersection over union so far.
        {options}

    Returns:
        `metrics.ConfusionMatrix`, in the labels of the model: `.mean_iou`, `.iou`, `.classes`, `.table()`, and
        `.protocol`, the line that says how it was scored.

    Raises:
        ValueError: if the model has other classes and `class_map` doesn't say how they go together, an image is larger
            than the predictor's input size, an option doesn't apply to the predictor, or the predictor returns labels
            that are no classes of `source`; the message begins with the image's name.
    """
    settings = EvaluationOptions.of(ScoringOptions.preset_for(options), **options)
    predictor = _predictor(predictor, settings)
    sample_of = settings.scoring.sample
    spec, classes = getattr(predictor, "spec", None), source.classes_spec
    matrix, labels = matrix_of(spec, classes, source.num_classes, class_map, source.name)
    compare_ranges(source.image_range, None if spec is None else spec.image_range, source.name)
    total = source.num_examples if limit is None else min(limit, source.num_examples)
    matrix.protocol = protocol_of(predictor, settings, total, source.num_examples)

    def read(sample: Any) -> tuple[np.ndarray, np.ndarray]:
        return sample_of(sample["image"], sample["label"])

    def predict(sample: Any, found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        image, truth = found
        return truth, predictor(image)

    def count(sample: Any, made: tuple[np.ndarray, np.ndarray]) -> None:
        truth, predicted = made
        matrix.update(truth if labels is None else labels[truth], predicted)

    # One by one: on a CPU batches of eight equal sizes take as long. Samples are read, and pixels counted, meanwhile.
    samples = pipeline.evaluation(source, limit).as_numpy_iterator()
    with (
        Progress(total, "evaluate", enabled=progress) as bar,
        data.readable_errors(),
        contextlib.closing(overlapped(samples, read, predict, count, threads=1)) as outcomes,
    ):
        for done, (sample, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, ValueError):
                raise ValueError(f"{sample['name'].decode()}: {outcome}") from outcome
            if isinstance(outcome, Exception):
                raise outcome
            if bar.due():
                bar.update(done, f"mIoU {matrix.mean_iou:.4f}")
    return matrix


def _predictor(given: Any, settings: EvaluationOptions) -> Any:
    """What predicts, made with the options where it isn't made yet."""
    wanted = settings.inference
    if isinstance(given, (str, os.PathLike, keras.Model, Client, Runtime)):
        return make_predictor(given, **wanted.values())
    own = getattr(given, "settings", None)
    if own is not None and own.to_json() == wanted.to_json():
        return given
    protocol = settings.scoring.protocol
    if protocol is not None and own is not None:
        other = next(name for name, value in wanted.to_json().items() if own.to_json()[name] != value)
        raise ValueError(
            f"protocol={protocol!r} is of a predictor with {other}={wanted.values()[other]!r}, and this one was made "
            f"with {other}={own.values()[other]!r}: give the model or its file, or that option where it is made"
        )
    known = option_table(InferenceOptions)
    asked = [name for name, value in wanted.values().items() if value != known[name].usual()]
    if asked and not isinstance(given, Predictor):
        raise ValueError(f"{asked[0]} can't be chosen for a function that predicts; give a model or its file")
    return make_predictor(given, **wanted.values()) if asked else given


def protocol_of(predictor: Any, settings: EvaluationOptions, images: int | None = None, of: int | None = None) -> str:
    """How a score comes about, in a line: what of a sample is scored, and how an image is put to the model.

    Args:
        predictor: what predicts.
        settings: the options of the evaluation.
        images, of: how many images are scored, the first, and how many there are.
    """
    told = getattr(predictor, "protocol", "a function that predicts, whole image")
    parts = [*settings.scoring.told(), told]
    if images is not None and of is not None and images < of:
        parts.append(f"first {images} of {of} images")
    name = settings.name
    return f"{name}: {', '.join(parts)}" if name else ", ".join(parts)


def matrix_of(
    spec: ModelSpec | None,
    classes: Classes,
    num_classes: int,
    class_map: Mapping[str, str | None] | str | None,
    name: str,
) -> tuple[ConfusionMatrix, np.ndarray | None]:
    """An empty matrix of the labels that are scored, and the table from the data's labels to them, None for none.

    Args:
        spec: the model's record, None where nothing tells its classes.
        classes, num_classes, name: of the data.
        class_map: as in `evaluate`.

    Raises:
        ValueError: the model has other classes and `class_map` doesn't say how they go together.
    """
    if spec is None:
        if class_map is not None:
            raise ValueError(f"class_map needs a model that tells its classes, to bring those of {name} to")
        return ConfusionMatrix(num_classes, classes.ignore_label, classes.labels(num_classes)), None
    if spec.multi_label:
        raise ValueError(
            f"{name} has one label for each pixel, and the model decides each class by itself: there is no one score "
            "for that. Score its Predictor.answer(image).masks class by class, or build it with "
            'classifier_activation="softmax"'
        )
    found = label_map(classes, spec.classes, class_map)
    if found is None and spec.num_labels != num_classes:
        raise ValueError(
            f"the model has {spec.num_labels} classes ({', '.join(spec.labels[:6])}, ...) and {name} has {num_classes} "
            f"({', '.join(classes.labels(num_classes)[:6])}, ...). Give both their names and pair them "
            "(class_map=, --class-map), or score it on data of its classes"
        )
    labels = spec.labels if spec.classes.names is not None else classes.labels(num_classes)
    if found is None:
        return ConfusionMatrix(num_classes, classes.ignore_label, labels), None
    table = np.full(256, spec.classes.ignore_label, np.uint8)
    table[: len(found)] = found
    # A record may have names and no number of channels.
    labels = labels or spec.classes.names or ()
    num_labels = len(labels) if spec.num_labels is None else spec.num_labels
    return ConfusionMatrix(num_labels, spec.classes.ignore_label, labels), table
