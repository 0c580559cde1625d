"""What every metric asks of labels and predictions: whole numbers of one shape, each a class or the ignored label."""

from collections.abc import Iterator
from typing import Any

import numpy as np


def scored(labels: Any, predictions: Any, num_classes: int, ignore_label: int) -> tuple[np.ndarray, ...]:
    """Labels and predictions of one shape to both as arrays, and bool of that shape: which pixels are scored.

    Raises:
        ValueError: if the shapes differ, an array is not of integers, a label is neither a class nor `ignore_label`, or
            a prediction is not a class.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels have shape {labels.shape} but predictions have {predictions.shape}: "
            "score the predictions at the size of the label map"
        )
    for what, array in (("labels", labels), ("predictions", predictions)):
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{what} must be integers, received dtype {array.dtype}: pass class numbers, not logits")
    valid = labels != ignore_label
    _check("label", labels[valid], num_classes, f", nor the ignored label {ignore_label}")
    _check("prediction", predictions, num_classes, "")
    return labels, predictions, valid


def maps(labels: Any, predictions: Any, num_classes: int, ignore_label: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Labels and predictions (H, W) or (B, H, W) to those of each image, (H, W), and which pixels are scored.

    Raises:
        ValueError: as `scored`, before the first; or they are no maps.
    """
    arrays = scored(labels, predictions, num_classes, ignore_label)
    if arrays[0].ndim not in (2, 3):
        raise ValueError(f"expected label maps (H, W) or (B, H, W), received shape {arrays[0].shape}")
    return zip(*arrays, strict=True) if arrays[0].ndim == 3 else iter([arrays])


def check_like(one: Any, other: Any, *names: str) -> None:
    """Raises a ValueError where two metrics differ in one of these attributes, so that they can't be added."""
    for name in names:
        if getattr(one, name) != getattr(other, name):
            raise ValueError(
                f"can't add {type(one).__name__}s of different {name}: {getattr(one, name)} and {getattr(other, name)}"
            )


def ratio(part: Any, whole: Any) -> np.ndarray:
    """Float64 `part / whole`, NaN where `whole` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def mean(values: np.ndarray) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def plain(value: Any) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def _check(what: str, array: np.ndarray, num_classes: int, also: str) -> None:
    stray = (array < 0) | (array >= num_classes)
    if stray.any():
        values = np.unique(array[stray])
        shown = ", ".join(str(value) for value in values[:5]) + (", ..." if values.size > 5 else "")
        raise ValueError(
            f"{what} {shown} (on {int(stray.sum())} pixels) is not one of the classes 0..{num_classes - 1}{also}"
        )
