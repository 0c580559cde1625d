"""What outputs are made of: an image, the answer to it, and what its labels mean."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.outputs.place import Place
from keras_deeplab.inference.outputs.regions import Regions, regions_of
from keras_deeplab.specs import Classes, ModelSpec


@dataclass(frozen=True, eq=False)
class Legend:
    """What labels mean.

    Attributes:
        names: of the labels 0 to N - 1; those of no class are called "class N", and "ignored".
        palette: uint8 (N, 3), their colours; N is 256 at least.
        ignore_label: of pixels of which nothing is said.
        channels: the label of each channel of the answer's probabilities and masks.
        exclusive: whether a pixel has one class, so that its probabilities add up to 1.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    ignore_label: int
    channels: tuple[int, ...]
    exclusive: bool = True

    @classmethod
    def of(
        cls, classes: Classes | Sequence[str] | None, spec: ModelSpec | None = None, palette: Any = None
    ) -> "Legend":
        """Of classes, or the names of some, None for those of the model's record; with other colours where given."""
        classes = spec.classes if classes is None and spec is not None else Classes.of(classes)
        labels = (spec and spec.num_labels) or len(classes.names or ())
        count = max(256, labels, classes.ignore_label + 1)
        # A file has colours for its classes; label PNGs have 256.
        given = [] if palette is None else np.asarray(palette, np.uint8).tolist()
        colors = np.array([*given, *classes.palette(count)[len(given) :]], np.uint8)
        known = classes.labels(labels) if labels else ()
        names = [*known, *(f"class {label}" for label in range(len(known), len(colors)))]
        if labels and classes.ignore_label >= labels:
            names[classes.ignore_label] = "ignored"
        exclusive = spec is None or not spec.multi_label
        return cls(tuple(names), colors, classes.ignore_label, tuple(range(labels)), exclusive)

    @cached_property
    def rest(self) -> tuple[int, ...]:
        """The labels that are no things: a class named "background", and what is ignored."""
        return tuple(
            label
            for label, name in enumerate(self.names)
            if name.lower() == "background" or (label == self.ignore_label and name == "ignored")
        )

    def with_names(self, names: Mapping[int, str], channels: Iterable[int]) -> "Legend":
        """The same with other names of some labels, and other channels."""
        renamed = tuple(names.get(label, name) for label, name in enumerate(self.names))
        return replace(self, names=renamed, channels=tuple(channels))


@dataclass(frozen=True, eq=False)
class Result:
    """An image with the answer to it, of which outputs are made.

    Attributes:
        name: how the image is called in tables.
        image: uint8 (H, W, channels).
        answer: its probabilities are there where one of the outputs `needs_scores`.
        legend: what the labels mean.
        place: where on the earth it lies; None where nothing tells.
        alpha: weight of the colours in an overlay.
        with_legend: whether an overlay has a strip that names them.
    """

    name: str
    image: np.ndarray
    answer: Answer
    legend: Legend
    place: Place | None = None
    alpha: float = 0.5
    with_legend: bool = True

    @property
    def labels(self) -> np.ndarray:
        return self.answer.labels

    @property
    def probabilities(self) -> np.ndarray:
        """Float32 (H, W, channels of the legend).

        Raises:
            ValueError: the model gives labels alone.
        """
        if self.answer.probabilities is None:
            raise ValueError("the model gives labels alone, so there are no probabilities: export it with logits")
        return self.answer.probabilities

    @cached_property
    def regions(self) -> Regions:
        """The connected regions of all classes but a background."""
        return regions_of(self.labels, self.legend.rest)


class Collected(Protocol):
    """A file of what all images of a run have, written as they come."""

    def part(self, result: Result) -> Any:
        """What it has of an image; called in a thread."""

    def head(self, legend: Legend) -> bytes: ...

    def add(self, part: Any) -> bytes:
        """The bytes for a part; called in the order of the images."""

    def tail(self) -> bytes: ...


@dataclass(frozen=True)
class Output:
    """A kind of output.

    Attributes:
        help: what it is, a phrase.
        endings: what its files' names have behind the image's name; all that may come.
        make: a result to the contents of its files by their endings.
        needs_scores: whether it is made of probabilities.
        on_map: whether it is another where the image has a georeference.
        collected: the name of one more file for all images of a run, and what makes it.
    """

    help: str
    endings: tuple[str, ...] = ()
    make: Callable[[Result], Mapping[str, bytes]] = lambda result: {}
    needs_scores: bool = False
    on_map: bool = False
    collected: tuple[str, Callable[[], Collected]] | None = None
