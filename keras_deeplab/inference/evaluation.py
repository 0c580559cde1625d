"""A predictor and a data set to its confusion matrix: intersection over union on whole, unresized images."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data import pipeline
from keras_deeplab.inference.predictor import predictor as make_predictor
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.serving.client import Client
from keras_deeplab.specs import Classes, ModelSpec, label_map


def evaluate(
    predictor: Callable[[np.ndarray], np.ndarray] | Any,
    source: Any,
    *,
    limit: int | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    progress: bool = True,
) -> ConfusionMatrix:
    """Predicts every image of `source` at its own size and counts the pixels: a `metrics.ConfusionMatrix`.

    The classes of the model and of the data are compared by name; where one of both has no names, by number.

    Args:
        predictor: what `keras_deeplab.predictor` returns (its options include padding, several scales and mirroring),
            or a model or path, of which that makes one; or any function from a uint8 image (H, W, channels) to labels
            (H, W), whose classes are taken to be the data's.
        source: a `keras_deeplab.data` source.
        limit: number of images, from the beginning; None for all.
        class_map: for data with other classes than the model's, or in another order: `"names"` pairs them by name and
            leaves pixels of the data's other classes out; a dict says which of the data's names are which of the
            model's (None to leave out), the rest as with `"names"`.
        progress: whether to show how far it is and the mean intersection over union so far.

    Returns:
        `metrics.ConfusionMatrix`, in the labels of the model: `.mean_iou`, `.iou`, `.classes`, `.table()`.

    Raises:
        ValueError: if the model has other classes and `class_map` doesn't say how they go together, an image is larger
            than the predictor's input size, or the predictor returns labels that are no classes of `source`; the
            message begins with the image's name.
    """
    if isinstance(predictor, (str, os.PathLike, keras.Model, Client, Runtime)):
        predictor = make_predictor(predictor)
    classes = source.classes_spec
    matrix, labels = matrix_of(getattr(predictor, "spec", None), classes, source.num_classes, class_map, source.name)
    total = source.num_examples if limit is None else min(limit, source.num_examples)
    # One by one: on a CPU batches of eight equal sizes take as long.
    samples = pipeline.evaluation(source, limit).as_numpy_iterator()
    with Progress(total, "evaluate", enabled=progress) as bar, data.readable_errors():
        for done, sample in enumerate(samples, 1):
            try:
                truth = sample["label"] if labels is None else labels[sample["label"]]
                matrix.update(truth, predictor(sample["image"]))
            except ValueError as error:
                raise ValueError(f"{sample['name'].decode()}: {error}") from error
            if bar.due():
                bar.update(done, f"mIoU {matrix.mean_iou:.4f}")
    return matrix


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
    return ConfusionMatrix(spec.num_labels, spec.classes.ignore_label, labels), table
