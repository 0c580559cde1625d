"""From scores to what people look at: labels, probabilities, confidence, pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_deeplab.inference.runtimes.base import PROBABILITIES
from keras_deeplab.layers import resized_argmax
from keras_deeplab.specs import ModelSpec


def labels_of(scores: Any, spec: ModelSpec, returns: str = "logits", threshold: float = 0.5) -> Any:
    """Scores (..., num_classes) to labels (...), uint8, or int32 of more than 256 classes; also while tracing.

    The class of the greatest score. Of a binary model: 1 where its one probability is above `threshold`. Of a
    multi-label model: the class of the greatest probability where that is above `threshold`, else the ignored label.

    Args:
        scores: a tensor or array.
        spec: the model's record.
        returns: `"logits"` or `"probabilities"`, what the scores are.
        threshold: a probability between 0 and 1.
    """
    ops = keras.ops
    if spec.binary:
        return ops.cast(scores[..., 0] > _bound(threshold, returns), spec.label_dtype)
    labels = ops.cast(ops.argmax(scores, axis=-1), "int32")
    if spec.multi_label:
        present = ops.max(scores, axis=-1) > _bound(threshold, returns)
        labels = ops.where(present, labels, spec.classes.ignore_label)
    return ops.cast(labels, spec.label_dtype)


def resized_labels_of(
    scores: Any, size: Any, spec: ModelSpec, align_corners: bool, returns: str = "logits", threshold: float = 0.5
) -> Any:
    """Scores (B, h, w, num_classes) of any size to labels (B, *size), as `labels_of` of the resized ones.

    On TensorFlow without the resized ones in memory, see `keras_deeplab.layers.resized_argmax`.

    Args:
        size: (height, width), integers or a tensor of two.
        align_corners: how they are resized.
        scores, spec, returns, threshold: as of `labels_of`.
    """
    ops = keras.ops
    if not spec.exclusive:
        # A class more in front, of the score above which another one is there: the first of equal scores is taken.
        bound = ops.broadcast_to(ops.cast(_bound(threshold, returns), scores.dtype), (*ops.shape(scores)[:3], 1))
        scores = ops.concatenate([bound, scores], -1)
    labels = resized_argmax(scores, size, align_corners)
    if spec.multi_label:
        labels = ops.where(labels == 0, spec.classes.ignore_label, labels - 1)
    return ops.cast(labels, spec.label_dtype)


def masks_of(scores: Any, spec: ModelSpec, returns: str = "logits", threshold: float = 0.5) -> Any:
    """Scores (..., num_classes) to bool (..., num_labels): the classes of each pixel, of a multi-label model any."""
    if spec.multi_label:
        return scores > _bound(threshold, returns)
    labels = labels_of(scores, spec, returns, threshold)
    return keras.ops.equal(keras.ops.cast(labels, "int32")[..., None], keras.ops.arange(spec.num_labels, dtype="int32"))


def probabilities_of(scores: Any, spec: ModelSpec, returns: str = "logits") -> Any:
    """Scores (..., num_classes) to float32 probabilities (..., num_classes): a softmax, or each class's sigmoid."""
    if returns == PROBABILITIES:
        return scores
    return keras.ops.softmax(scores, axis=-1) if spec.exclusive else keras.ops.sigmoid(scores)


def _bound(threshold: Any, returns: str) -> Any:
    """The score above which a probability is above `threshold`."""
    if returns == PROBABILITIES:
        return threshold
    if isinstance(threshold, (int, float)):
        return math.log(threshold) - math.log1p(-threshold)
    return keras.ops.log(threshold) - keras.ops.log1p(-threshold)


@dataclass(frozen=True)
class Answer:
    """What a model says of an image, or of a batch of them.

    Attributes:
        labels: integers (H, W).
        probabilities: float32 (H, W, num_labels), of a binary model those of both labels; None where the model has
            labels alone.
        masks: bool (H, W, num_labels), which classes a pixel has; None likewise.
        spec: the model's record, None likewise.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    masks: np.ndarray | None
    spec: ModelSpec | None

    @property
    def confidence(self) -> np.ndarray:
        """Float32 (H, W): the probability of the label, or where none is given that of the likeliest class.

        Raises:
            ValueError: the model has labels alone.
        """
        if self.probabilities is None:
            raise ValueError("the model gives labels alone, so nothing tells how sure it is: export it with logits")
        return self.probabilities.max(-1)


def overlay(
    image: np.ndarray, labels: np.ndarray, palette: np.ndarray, alpha: float = 0.5, untouched: Sequence[int] = ()
) -> np.ndarray:
    """Image uint8 (H, W, 3), labels (H, W) and palette uint8 (N, 3) to the image tinted with each label's colour.

    Args:
        alpha: weight of the colour, from 0 (the photograph) to 1 (the colours only).
        untouched: labels whose pixels keep the photograph's colours, such as a background class.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if the shapes disagree, a label has no colour in the palette, or alpha is outside 0..1.

    >>> image, labels = np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]])
    >>> overlay(image, labels, np.array([[0, 0, 0], [200, 100, 0]], np.uint8)).tolist()
    [[[0, 0, 0], [100, 50, 0]]]
    """
    image, labels, palette = np.asarray(image), np.asarray(labels), np.asarray(palette)
    if image.dtype != np.uint8 or image.shape != (*labels.shape, 3):
        raise ValueError(
            f"expected a uint8 image (H, W, 3) and labels (H, W), received {image.dtype} {image.shape} "
            f"and {labels.shape}"
        )
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in 0..1, received {alpha}")
    if labels.size and not 0 <= labels.min() <= labels.max() < len(palette):
        raise ValueError(
            f"labels {labels.min()} to {labels.max()} need a palette of as many colours, received {len(palette)}"
        )
    share = np.full(len(palette), alpha, np.float32)
    share[list(untouched)] = 0.0
    share = share[labels][..., None]
    mixed = image * (1.0 - share) + palette[labels].astype(np.float32) * share
    return np.rint(mixed).astype(np.uint8)


def add_legend(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[str], palette: np.ndarray, untouched: Sequence[int] = ()
) -> np.ndarray:
    """Image uint8 (H, W, 3) to the same with a strip below that names the classes in `labels` beside their colours.

    Args:
        labels: integer array; the classes with the most pixels come first.
        classes: list of names.
        palette: uint8 (N, 3).
        untouched: labels to leave out, those that `overlay` doesn't tint.

    Returns:
        uint8 (H + strip, W, 3); the image itself where there is nothing to name.
    """
    from keras_deeplab._helpers.opencv import cv2

    height, width = image.shape[:2]
    unit = max(10, round(min(height, width) / 24))
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, unit / 26, max(1, unit // 14)
    found, counts = np.unique(labels[~np.isin(labels, list(untouched))], return_counts=True)
    if not found.size:
        return image
    rows: list[list[tuple[int, str, list[int]]]] = [[]]
    left = unit // 2
    for label in found[np.argsort(-counts, kind="stable")]:
        name = str(classes[label]) if label < len(classes) else f"class {label}"
        extent = cv2.getTextSize(name, font, scale, thickness)[0][0] + 3 * unit
        if rows[-1] and left + extent > width:
            rows.append([])
            left = unit // 2
        rows[-1].append((left, name, palette[label].tolist()))
        left += extent
    step = 2 * unit
    strip = np.full((step * len(rows), width, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        top = number * step + unit // 2
        for left, name, colour in row:
            cv2.rectangle(strip, (left, top), (left + unit, top + unit), colour, cv2.FILLED)
            cv2.rectangle(strip, (left, top), (left + unit, top + unit), (0, 0, 0), 1)
            corner = (left + unit + unit // 2, top + unit - max(1, unit // 8))
            cv2.putText(strip, name, corner, font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return np.concatenate([image, strip])


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image of any number of channels as one to look at: its first three, or its first as grey."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def encode_png(image: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3) RGB, or uint8 or uint16 (H, W), to the bytes of a PNG file."""
    from keras_deeplab._helpers.opencv import cv2

    done, data = cv2.imencode(".png", image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} as PNG")
    return data.tobytes()
