"""The run that every exported file passes before it gets its name: beside its model, on random pictures."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_deeplab.export import graph
from keras_deeplab.inference import answers
from keras_deeplab.inference.runtimes.base import LABELS, PROBABILITIES, Runtime
from keras_deeplab.specs import ModelSpec

# What a float32 file may differ by, a share of the range of its model's scores. Other orders of summation make 1e-6 to
# 1e-5 of it; a wrong rate, pad or resize makes far more than 1e-3.
LIMIT = 1e-3


def largest_difference(
    runtime: Runtime,
    model: keras.Model,
    spec: ModelSpec,
    limit: float | None = LIMIT,
    batches: Sequence[int] = (1,),
) -> float:
    """Runs an exported file on random pictures and says how far it is from the model that it was made of.

    Args:
        runtime: the file in what runs it. One of any size is run at an odd and at an even size, one of several sizes at
            each.
        model, spec: what `graph.network` gave: a model to logits, and its record.
        limit: the largest difference that is right; None for any.
        batches: how many pictures at once, of the first size and of the others.

    Returns:
        The largest difference of scores, as a share of the range of the model's. Of a file that returns labels: the
        most that the score of a pixel's label lies below the pixel's largest one.

    Raises:
        ValueError: the file can't be run, or returns something else than the model.
    """
    differences = [0.0]
    for index, size in enumerate(_sizes(runtime, model)):
        count = batches[min(index, len(batches) - 1)]
        shape = (count, *size, runtime.channels)
        pictures = np.random.default_rng(index).integers(0, 256, shape).astype(np.float32)
        logits_of = graph.logits_function(graph.comparable(model, size), native=None)
        expected = logits_of(pictures).numpy()
        if not np.isfinite(expected).all():
            raise ValueError(
                f"the model {model.name!r} gives scores that are not finite on a random picture of "
                f"{size[0]}x{size[1]}, so that no file can be compared with it: look for weights that are not finite"
            )
        try:
            found = runtime.scores(pictures)
        except Exception as error:  # each runtime has classes of its own
            raise ValueError(
                f"the converted file can't be run on images of {'x'.join(map(str, shape))}: {error}. No file was "
                f"written. This is a fault of the conversion of {model.name!r}, not of your images: please report it"
            ) from error
        differences.append(_difference(found, expected, runtime, spec))
        if limit is not None and not differences[-1] <= limit:
            raise ValueError(
                f"the converted file gives something else than the model {model.name!r}: on a random picture of "
                f"{size[0]}x{size[1]} it differs by {differences[-1]:.2g} of the range of the scores, and {limit:g} is "
                "the most that rounding explains. No file was written. This is a fault of the conversion: please "
                "report it"
            )
    return max(differences)


def _sizes(runtime, model):
    """The (height, width) of the pictures; for files of any size an odd and an even one."""
    if not runtime.takes_any_size:
        return [(height or 97, width or 129) for height, width in runtime.sizes]
    for factor in (1, 2, 4, 8):  # some networks have nothing left of a small picture
        sizes = [(96 * factor + 1, 128 * factor + 1), (128 * factor, 96 * factor)]
        if all(_has_scores(model, *size) for size in sizes):
            break
    return sizes


def _has_scores(model, height, width):
    images = keras.KerasTensor((1, height, width, model.inputs[0].shape[-1]), dtype="float32")
    try:
        model.compute_output_spec(images)
    except ValueError:
        return False
    return True


def _difference(found, expected, runtime, spec):
    """As `largest_difference` returns it, of logits by the model."""
    if runtime.returns == PROBABILITIES:
        expected = np.asarray(answers.probabilities_of(expected, spec))
    spread = float(np.ptp(expected)) or 1.0
    if runtime.returns == LABELS:
        if not spec.exclusive:  # as in `graph.labels_of`: one class more in front, of the logit 0
            expected = np.pad(expected, [(0, 0)] * 3 + [(1, 0)])
            named = np.asarray(found).astype(np.int64)
            found = named if spec.binary else np.where(named == spec.classes.ignore_label, 0, named + 1)
        shape = expected.shape[:3]
        if np.shape(found) != shape or np.max(found) >= expected.shape[3]:
            return np.inf
        chosen = np.take_along_axis(expected, np.asarray(found).astype(np.int64)[..., None], -1)[..., 0]
        return float(np.max(expected.max(-1) - chosen)) / spread
    if np.shape(found) != expected.shape or not np.isfinite(found).all():
        return np.inf
    return float(np.max(np.abs(np.asarray(found, np.float64) - expected))) / spread
