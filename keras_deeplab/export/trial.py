"""The run that every exported file passes before it gets its name: beside its model, on random pictures."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_deeplab.export import graph
from keras_deeplab.inference.runtimes.base import LABELS, LOGITS, Runtime
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
    size: tuple[int, int] | None = None,
) -> float | None:
    """Runs an exported file on random pictures and says how far it is from the model that it was made of.

    Args:
        runtime: the file in what runs it. One of any size is run at an odd and at an even size, one of several sizes at
            each.
        model: what `graph.network` gave, to logits.
        spec: the record in the file.
        limit: the largest difference that is right; None for any.
        batches: how many pictures at once, of the first size and of the others.
        size: (height, width) of the one picture for a file of any size.

    Returns:
        The largest difference of scores, as a share of the range of the model's. Of a file that returns labels: the
        most that the score of a pixel's label lies below the pixel's largest one. None where scores are integers.

    Raises:
        ValueError: the file can't be run, or returns something else than the model.
    """
    differences: list[float | None] = []
    for index, (height, width) in enumerate(_sizes(runtime, model, size)):
        count = batches[min(index, len(batches) - 1)]
        pictures = np.random.default_rng(index).integers(0, 256, (count, height, width, runtime.channels))
        pictures = pictures.astype(np.float32)
        logits_of = graph.logits_function(graph.comparable(model, (height, width)), native=None)
        logits = graph.output_of(logits_of(pictures), spec, LOGITS).numpy()
        if not np.isfinite(logits).all():
            raise ValueError(
                f"the model {model.name!r} gives scores that are not finite on a random picture of {height}x{width}, "
                "so that no file can be compared with it: look for weights that are not finite"
            )
        try:
            found = np.asarray(runtime.scores(pictures))
        except Exception as error:  # each runtime has classes of its own
            raise ValueError(
                f"the converted file can't be run on images of {'x'.join(map(str, pictures.shape))}: {error}. No file "
                f"was written. This is a fault of the conversion of {model.name!r}, not of your images: please report "
                "it"
            ) from error
        difference = _difference(found, logits, runtime.returns, spec)
        if difference is not None and not difference <= (np.finfo(np.float32).max if limit is None else limit):
            raise ValueError(
                f"the converted file gives something else than the model {model.name!r}: on a random picture of "
                f"{height}x{width} it differs by {difference:.2g} of the range of the scores, and {limit or 1:g} is "
                "the most that rounding explains. No file was written. This is a fault of the conversion: please "
                "report it"
            )
        differences.append(difference)
    known = [difference for difference in differences if difference is not None]
    return max(known) if known else None


def _sizes(runtime, model, size):
    """The (height, width) of the pictures; for files of any size an odd and an even one."""
    if not runtime.takes_any_size:
        return [(height or 97, width or 129) for height, width in runtime.sizes]
    if size is not None:
        return [size]
    for factor in (1, 2, 4, 8):  # some networks have nothing left of a small picture
        sizes = [(96 * factor + 1, 128 * factor + 1), (128 * factor, 96 * factor)]
        if all(_has_scores(model, *each) for each in sizes):
            break
    return sizes


def _has_scores(model, height, width):
    images = keras.KerasTensor((1, height, width, model.inputs[0].shape[-1]), dtype="float32")
    try:
        model.compute_output_spec(images)
    except ValueError:
        return False
    return True


def _difference(found, logits, returns, spec):
    """As `largest_difference` returns it; infinite for what no scores or labels of these images can be."""
    if returns == LABELS:
        if not spec.exclusive:  # as in `graph.labels_of`: one class more in front, of the logit 0
            logits = np.pad(logits, [(0, 0)] * 3 + [(1, 0)])
            found = found.astype(np.int64)
            if not spec.binary:
                found = np.where(found == spec.classes.ignore_label, 0, found + 1)
        if found.shape != logits.shape[:3] or found.max() >= logits.shape[3]:
            return np.inf
        chosen = np.take_along_axis(logits, found.astype(np.int64)[..., None], -1)[..., 0]
        return float(np.max(logits.max(-1) - chosen)) / _spread(logits)
    expected = graph.output_of(logits, spec, returns)
    if found.shape != tuple(expected.shape) or not np.isfinite(found).all():
        return np.inf
    if not np.issubdtype(found.dtype, np.floating):
        return None
    return float(np.max(np.abs(np.asarray(found, np.float64) - expected))) / _spread(np.asarray(expected))


def _spread(scores):
    return float(np.ptp(scores)) or 1.0
