"""Pictures of what a model answers: an image, its true labels and the predicted ones beside one another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_deeplab.inference.files import as_rgb
from keras_deeplab.reports.drawing import plain
from keras_deeplab.specs import Classes

_GAP, _LETTER, _NAMED = 6, 13, 8


@dataclass(frozen=True)
class Sample:
    """An image uint8 (H, W, channels), its labels and predicted ones, integers (H, W), and its name.

    `prediction` is None where there is none yet.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray | None = None

    def predicted(self, predict: Callable[[np.ndarray], np.ndarray]) -> "Sample":
        """The same with a function's labels of its image."""
        return replace(self, prediction=np.asarray(predict(self.image)))


def chosen(source: Any, count: int, among: int = 32) -> list[Sample]:
    """Some samples of a `keras_deeplab.data` source that show many of its classes, in its order.

    Each in turn is that of the first `among` with the most classes that those before don't have.
    """
    samples = []
    for sample in source.dataset().take(max(among, count)).as_numpy_iterator():
        samples.append(Sample(sample["name"].decode(errors="replace"), sample["image"], sample["label"]))
    new = [set(np.unique(sample.truth).tolist()) - {source.ignore_label} for sample in samples]
    found: list[int] = []
    while len(found) < min(count, len(samples)):
        # `max` takes the first of equals, so where nothing new is left they come in order.
        best = max((index for index in range(len(samples)) if index not in found), key=lambda index: len(new[index]))
        found.append(best)
        new = [classes - new[best] for classes in new]
    return [samples[index] for index in sorted(found)]


def panel(sample: Sample, classes: Classes | Sequence[str], side: int = 256) -> np.ndarray:
    """A sample to one picture, uint8 (H, W, 3): image, truth and prediction, and below the classes that they show.

    Args:
        classes: their names and colours.
        side: the longest side of each of the three; larger ones are made smaller, smaller ones larger by whole numbers.
            Pillow writes the names, whose font has the letters of ASCII (`drawing.plain`).
    """
    from PIL import Image, ImageDraw, ImageFont

    classes = Classes.of(classes)
    palette = np.array(classes.palette(256), np.uint8)
    shown = [as_rgb(sample.image), palette[sample.truth]]
    shown += [] if sample.prediction is None else [palette[sample.prediction]]
    shown = [_fitted(shown[0], side, smooth=True), *(_fitted(labels, side) for labels in shown[1:])]
    height, width = shown[0].shape[:2]
    labels = np.concatenate([part.reshape(-1) for part in (sample.truth, sample.prediction) if part is not None])
    named = _named(labels, classes)
    font, step = ImageFont.load_default(_LETTER), _LETTER + _GAP
    total = 3 * width + 2 * _GAP
    places, rows = _flow([font.getlength(name) + 2 * step for name, _ in named], total)
    canvas = Image.new("RGB", (total, step + height + rows * step), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (title, picture) in enumerate(zip(("image", "truth", "prediction"), shown, strict=False)):
        left = place * (width + _GAP)
        canvas.paste(Image.fromarray(picture), (left, step))
        draw.text((left, _LETTER), title, "black", font, "ls")
    for (left, row), (name, color) in zip(places, named, strict=True):
        top = step + height + row * step + _GAP // 2
        draw.rectangle((left, top + 1, left + _LETTER - 1, top + _LETTER), color, "black")
        draw.text((left + step, top + _LETTER), name, "black", font, "ls")
    return np.asarray(canvas)


def _fitted(picture: np.ndarray, side: int, smooth: bool = False) -> np.ndarray:
    from PIL import Image

    scale = side / max(picture.shape[:2])
    scale = max(1, int(scale)) if scale >= 1 else scale
    size = [max(1, round(scale * extent)) for extent in (picture.shape[1], picture.shape[0])]
    way = Image.Resampling.BOX if smooth and scale < 1 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, way))


def _named(labels: np.ndarray, classes: Classes) -> list[tuple[str, tuple[int, int, int]]]:
    """The names and colours of the labels with the most pixels."""
    found, counts = np.unique(labels, return_counts=True)
    most = sorted(found[np.argsort(-counts, kind="stable")][:_NAMED].tolist())
    return [(_name(label, classes), classes.palette(256)[label]) for label in most]


def _name(label: int, classes: Classes) -> str:
    if label == classes.ignore_label:
        return "ignored"
    names = classes.names or ()
    return plain(names[label], label) if label < len(names) else f"class {label}"


def _flow(widths: Sequence[float], total: int) -> tuple[list[tuple[int, int]], int]:
    """Where things of these widths stand in rows of a total width, as (left, row), and how many rows they are."""
    places, left, row = [], 0.0, 0
    for width in widths:
        if left and left + width > total:
            left, row = 0.0, row + 1
        places.append((round(left), row))
        left += width
    return places, row + 1 if places else 0
