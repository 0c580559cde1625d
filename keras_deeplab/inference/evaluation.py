"""A predictor and a data set to its confusion matrix: intersection over union on whole, unresized images."""

import os

import keras

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data import pipeline
from keras_deeplab.inference.predictor import predictor as make_predictor
from keras_deeplab.metrics import ConfusionMatrix


def evaluate(predictor, source, *, limit=None, progress=True):
    """Predicts every image of `source` at its own size and counts the pixels: a `metrics.ConfusionMatrix`.

    Args:
        predictor: a function from a uint8 image (H, W, 3) to labels (H, W), such as what
            `keras_deeplab.predictor` returns (its options include padding, several scales and mirroring);
            or a model or path, of which that makes one.
        source: a `keras_deeplab.data` source.
        limit: number of images, from the beginning; None for all.
        progress: whether to show how far it is and the mean intersection over union so far.

    Returns:
        `metrics.ConfusionMatrix`: `.mean_iou`, `.iou`, `.table(source.classes)`.

    Raises:
        ValueError: if an image is larger than the predictor's input size, or the predictor returns labels that are
            no classes of `source`; the message begins with the image's name.
    """
    if isinstance(predictor, (str, os.PathLike, keras.Model)):
        predictor = make_predictor(predictor)
    matrix = ConfusionMatrix(source.num_classes, source.ignore_label)
    total = source.num_examples if limit is None else min(limit, source.num_examples)
    # One by one: on a CPU batches of eight equal sizes take as long.
    samples = pipeline.evaluation(source, limit).as_numpy_iterator()
    with Progress(total, "evaluate", enabled=progress) as bar, data.readable_errors():
        for done, sample in enumerate(samples, 1):
            try:
                matrix.update(sample["label"], predictor(sample["image"]))
            except ValueError as error:
                raise ValueError(f"{sample['name'].decode()}: {error}") from error
            if bar.due():
                bar.update(done, f"mIoU {matrix.mean_iou:.4f}")
    return matrix
