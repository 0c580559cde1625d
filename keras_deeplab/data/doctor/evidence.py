"""What is measured of a data set before anything is said about it: each sample once, in several threads."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.doctor.files import Files
from keras_deeplab.data.doctor.findings import Example
from keras_deeplab.data.doctor.outlines import Outlines, lone_pixels, outlines
from keras_deeplab.data.source import Source
from keras_deeplab.specs import IGNORED

THUMBNAIL = 16  # pixels of a side
_OUTLINED = 150  # samples of a split whose outlines are compared


@dataclass(frozen=True)
class Look:
    """What an image and its mask look like.

    Attributes:
        thumbnail: uint8 (16, 16, channels), of the first three channels at most.
        low, high: the smallest and largest number in the image.
        grey: whether its three channels are the same.
        lone: pixels of the mask unlike all around them.
        outlines: for some samples.
    """

    thumbnail: np.ndarray
    low: int
    high: int
    grey: bool
    lone: int
    outlines: Outlines | None


@dataclass(frozen=True)
class Seen:
    """A sample that was read.

    Attributes:
        index: its place in the split's own order.
        size: (height, width).
        counts: pixels by label, of the labels that it has.
        image, mask: digests of their pixels.
        look: None where only a part of the samples was looked at.
    """

    index: int
    name: str
    size: tuple[int, int]
    counts: Mapping[int, int]
    image: bytes
    mask: bytes
    look: Look | None

    @property
    def labels(self) -> set[int]:
        """Those that are not ignored."""
        return self.counts.keys() - {IGNORED}


@dataclass(frozen=True)
class Part:
    """A split of a data set: what could be read of it, and why the rest could not.

    Attributes:
        split: its name.
        source: what it was read from.
        seen: of its samples.
        problems: a line for each sample that can't be read.
    """

    split: str
    source: Source
    seen: Sequence[Seen]
    problems: Sequence[str]

    @cached_property
    def counts(self) -> np.ndarray:
        """Pixels by label, int64 (256,)."""
        total = np.zeros(256, np.int64)
        for seen in self.seen:
            for label, count in seen.counts.items():
                total[label] += count
        return total

    @property
    def labelled(self) -> int:
        """How many pixels have a label that is not ignored."""
        return int(self.counts.sum() - self.counts[IGNORED])

    @property
    def present(self) -> list[int]:
        """The classes that have pixels."""
        return [label for label in range(self.source.num_classes) if self.counts[label]]

    @property
    def looks(self) -> list[tuple[Seen, Look]]:
        return [(seen, seen.look) for seen in self.seen if seen.look is not None]

    def shown(self, seen: Sequence[Seen]) -> dict[str, Any]:
        """What a `Finding` about some samples has of them: all of their names, and a few to look at."""
        return {"details": tuple(each.name for each in seen), "examples": self.examples(seen)}

    def examples(self, seen: Sequence[Seen], most: int = 4) -> tuple[Example, ...]:
        """Some samples of it, spread over those given."""
        chosen = seen[:: max(1, len(seen) // most)][:most]
        return tuple(Example(each.name, self.split, each.index) for each in chosen)


@dataclass(frozen=True)
class Evidence:
    """All that the checks look at.

    Attributes:
        parts: the splits by name, that which is trained on first.
        training: the name of that split.
        refused: by split, why it can't be read at all.
        files: the images and masks themselves, where the data set is a folder of them.
        reading: the options that it is read with, by name.
        crop_size: (height, width) of the training crops, or None.
        turns: whether its reader can turn photographs, which those of public data sets don't.
    """

    parts: Mapping[str, Part]
    training: str
    refused: Mapping[str, str] = field(default_factory=dict)
    files: Files = field(default_factory=Files)
    reading: Mapping[str, Any] = field(default_factory=dict)
    crop_size: tuple[int, int] | None = None
    turns: bool = True

    @property
    def train(self) -> Part | None:
        """The split that is trained on, where it can be read."""
        return self.parts.get(self.training)

    @property
    def others(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name != self.training]

    @property
    def troubled(self) -> bool:
        """Whether something can't be read, so that the files may tell why. A reader may know of files that look odd."""
        return bool(self.refused) or any(part.problems for part in self.each())

    def each(self) -> Iterator[Part]:
        yield from self.parts.values()


def seen_of(split: str, source: Source, looks: int | None = None, seed: int = 0, progress: bool = False) -> Part:
    """Reads a split.

    Args:
        split: its name.
        looks: how many samples are looked at closely, a random part; None for all. Labels and digests are of all.
        seed: of the choice.
        progress: whether to show a progress line.
    """
    count = source.num_examples
    order = np.random.default_rng(seed % 2**63).permutation(count)
    closely = set(order[:looks].tolist())
    outlined = set(order[:_OUTLINED].tolist())

    def measure(index: int, image: np.ndarray, label: np.ndarray, name: str) -> Seen:
        pixels = np.bincount(label.reshape(-1), minlength=256)
        counts = {int(value): int(pixels[value]) for value in np.flatnonzero(pixels)}
        look = _look(image, label, index in outlined) if index in closely else None
        title = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        return Seen(index, title, (label.shape[0], label.shape[1]), counts, _digest(image), _digest(label), look)

    seen, problems = [], []
    with Progress(count, f"check {split}", enabled=progress) as bar:
        for done, found in enumerate(source.survey(measure)):
            if isinstance(found, Exception):
                problems.append(str(found))
            else:
                seen.append(found)
            if bar.due():
                bar.update(done + 1, "")
    return Part(split, source, seen, problems)


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16, key=str(array.shape).encode()).digest()


def _look(image: np.ndarray, label: np.ndarray, outlined: bool) -> Look:
    from keras_deeplab._helpers.opencv import cv2

    first = np.ascontiguousarray(image[..., :3])
    low, high, _, _ = cv2.minMaxLoc(np.ascontiguousarray(image).reshape(image.shape[0], -1))
    return Look(
        cv2.resize(first, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA),
        int(low),
        int(high),
        image.shape[-1] == 3 and _is_grey(image[::16, ::16]) and _is_grey(image),
        lone_pixels(label),
        outlines(image, label) if outlined else None,
    )


def _is_grey(image: np.ndarray) -> bool:
    return not (image[..., :1] != image[..., 1:]).any()
