"""The bytes of an image file to its pixels, those of its mask to labels, and predicted labels to counts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.data.folder import other_way
from keras_deeplab.data.images import decoded
from keras_deeplab.data.mask_files import decode_mask
from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.settings import AS_VIEWED, DataOptions, ImageOptions
from keras_deeplab.inference.beam import places
from keras_deeplab.inference.beam.settings import RECORD
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.options import OptionError

# What of `DataOptions` says how images and masks become numbers; the rest is about the layout of data sets.
_IMAGES = ("orientation", "image_range")
_MASKS = ("num_classes", "mask_encoding", "mask_repair", "colors", "ignore_label", "label_offset")


@dataclass(frozen=True)
class Scoring:
    """How a mask is compared with an answer: with the classes of one matrix.

    Attributes:
        num_classes, ignore_label, classes: of the `ConfusionMatrix`.
        table: (256,) uint8 from the masks' labels to the matrix's, or None where they are the same.
        protocol: how an image is put to the model, the matrix's line.
    """

    num_classes: int
    ignore_label: int
    classes: tuple[str, ...] | None
    table: np.ndarray | None = None
    protocol: str | None = None

    def matrix(self) -> ConfusionMatrix:
        matrix = ConfusionMatrix(self.num_classes, self.ignore_label, self.classes)
        matrix.protocol = self.protocol
        return matrix

    def counts(self, truth: np.ndarray, labels: np.ndarray) -> list[list[int]]:
        """Of one image, [label, prediction, pixels] of each pair that occurs.

        Raises:
            ValueError: as `ConfusionMatrix.update`.
        """
        matrix = self.matrix()
        matrix.update(truth if self.table is None else self.table[truth], labels)
        return [[int(a), int(b), int(matrix.matrix[a, b])] for a, b in np.argwhere(matrix.matrix)]

    def total(self, counts: Iterable[Sequence[Sequence[int]]]) -> ConfusionMatrix:
        """The matrix of all images from the counts of each."""
        matrix = self.matrix()
        for each in counts:
            for label, prediction, pixels in each:
                matrix.matrix[label, prediction] += pixels
        return matrix


@dataclass
class Reading:
    """How files become images and labels; goes to the workers, where what it needs is made once.

    Attributes:
        channels: of the images.
        images: how they are read.
        max_pixels: of an image; one that its header tells to be larger isn't decoded.
        masks: a folder of PNG files with the images' names, `RECORD`, or None.
        num_classes: of the masks.
        coding: options of `data.masks.label_reader`.
    """

    channels: int = 3
    images: ImageOptions = AS_VIEWED
    max_pixels: int = limits.MAX_PIXELS
    masks: str | None = None
    num_classes: int = 0
    coding: dict[str, Any] = field(default_factory=dict)
    _labels_of: Callable[..., np.ndarray] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_labels_of": None}  # a table of all colours may be in it

    def image(self, data: bytes, name: str) -> np.ndarray:
        """The bytes of an image file to uint8 (H, W, channels).

        Raises:
            ValueError: it can't be decoded, or is too large; the message begins with the name.
        """
        return decoded(name, data, self.channels, self.images.upright, self.images.image_range, self.max_pixels)

    def most_bytes(self) -> int:
        """Of how many bytes a file may be: what 16 bits for each number of the largest image come to."""
        return limits.file_bytes(self.max_pixels, max(4, self.channels))

    def truth(self, data: bytes, name: str, file: bytes, image: np.ndarray) -> np.ndarray:
        """The bytes of a mask file to labels (H, W) uint8, 255 ignored, of the image's size.

        Args:
            name: of the mask, for messages.
            file: the bytes of the image.

        Raises:
            ValueError: it can't be decoded, has numbers without a meaning, or another size.
        """
        if self._labels_of is None:
            self._labels_of = label_reader(self.num_classes, **self.coding)
        try:
            labels = self._labels_of(*decode_mask(data, self.images.upright))
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
        if labels.shape != image.shape[:2]:
            raise ValueError(
                f"{name} is {labels.shape[1]}x{labels.shape[0]} pixels, but its image is {image.shape[1]}x"
                f"{image.shape[0]}{other_way(file, self.images, labels.shape)}"
            )
        return labels

    def mask_place(self, name: str) -> str | None:
        """Where the mask of an image is; None where it is in the record, or none is asked for."""
        if self.masks in (None, RECORD):
            return None
        head, _, tail = name.rpartition("/")
        stem = tail.rpartition(".")[0] or tail
        return places.join(self.masks or "", *filter(None, (head, f"{stem}.png")))


def reading_of(options: DataOptions, channels: int, num_classes: int | None, masks: str | None, **more: Any) -> Reading:
    """What a person asked for to a `Reading`.

    Args:
        options: those that say how images and masks become numbers.
        channels, num_classes: of the model; num_classes None where it doesn't tell.
        masks: as of `Reading`.
        more: other attributes of it.

    Raises:
        OptionError: an option has no meaning here, or the number of classes isn't known.
    """
    given = options.given()
    for name in given:
        if name not in (*_IMAGES, *_MASKS):
            raise OptionError(
                f"{{{name}}} is of a data set's layout, and here are files: what counts is "
                + ", ".join(f"{{{each}}}" for each in (*_IMAGES, *_MASKS))
            )
        if name in _MASKS and masks is None:
            raise OptionError(f"{{{name}}} is about masks: give {{masks}} too")
    if masks is not None and num_classes is None and "num_classes" not in given:
        raise OptionError("the model doesn't tell how many classes it has: {num_classes} does, or {classes} names them")
    short = {"mask_encoding": "encoding", "mask_repair": "repair"}
    coding = {short.get(name, name): given[name] for name in _MASKS[1:] if name in given}
    count = given.get("num_classes", num_classes) or 0
    return Reading(channels, options.images, masks=masks, num_classes=count, coding=coding, **more)
