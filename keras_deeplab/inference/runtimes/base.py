"""What runs a model: images to scores, or to labels where a file has nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_deeplab.specs import FileSpec, ModelSpec

PADDING = 127.5
LABELS, LOGITS, PROBABILITIES = "labels", "logits", "probabilities"


class Runtime(ABC):
    """A model that is ready to run: `runtime.scores(images)`.

    Attributes:
        name: what messages call the model.
        program: what computes it, such as `"tensorflow"` or `"litert"`.
        spec: the model's record; None for a file that returns labels and doesn't tell of which classes.
        returns: what `scores` gives: `"logits"`, `"probabilities"`, or `"labels"` of a file that has no scores.
        channels: of its images.
        sizes: the sizes (height, width) of images that it takes; () for any, with None for a side that is free.
    """

    name: str = "the model"
    program: str = ""
    spec: ModelSpec | None = None
    returns: str = LOGITS
    channels: int = 3
    sizes: tuple[tuple[int | None, int | None], ...] = ()

    @abstractmethod
    def scores(self, images: np.ndarray) -> Any:
        """Float32 images (B, H, W, channels) in 0..255 of one of `sizes` to scores (B, h, w, num_classes).

        Where `returns` is `"labels"`: to integers (B, H, W).
        """

    def labels(self, images: np.ndarray, height: int, width: int, threshold: float) -> np.ndarray | None:
        """The same to labels (B, height, width), of the images' top left part, where that is quicker than by scores.

        None where it isn't, or where no such labels are to be had at this threshold.
        """
        return None

    @property
    def takes_any_size(self) -> bool:
        return not self.sizes or all(size == (None, None) for size in self.sizes)


def spec_of_file(
    known: FileSpec | None, output_shape: Sequence[int | None], channels: int, name: str
) -> tuple[ModelSpec | None, str]:
    """The record in a file, and what the file returns; of one without a record what the shape of its output tells.

    Args:
        known: the record, or None. A file of other makers returns labels where its output is (B, H, W) or (B, H, W, 1),
            else logits, to be resized with aligned corners, of classes without names.

    Raises:
        ValueError: the record belongs to another network.
    """
    classes = int(output_shape[-1]) if len(output_shape) == 4 and output_shape[-1] not in (None, 1) else None
    if known is None:
        return (None, LABELS) if classes is None else (ModelSpec(classes, channels), LOGITS)
    spec, returns = known.model, known.output
    if spec.num_classes is None and returns != LABELS:  # early versions of this package didn't write it
        spec = replace(spec, num_classes=classes)
    if spec.channels != channels:
        raise ValueError(f"the record in {name} is not its own: of {spec.channels} channels, and it takes {channels}")
    if returns != LABELS and len(output_shape) == 4 and output_shape[-1] not in (None, spec.num_classes):
        raise ValueError(
            f"the record in {name} is not its own: of {spec.num_classes} classes, and it returns {output_shape[-1]}"
        )
    if returns == PROBABILITIES and spec.activation is None:
        spec = replace(spec, activation=spec.probability)
    return spec, returns


def check_images(shape: Sequence[int | None], name: str) -> int:
    """The channels of an input of images (B, H, W, channels), for one image or any number of them.

    Raises:
        ValueError: it is something else.
    """
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[3] is None:
        raise ValueError(f"{name} takes {tuple(shape)}; expected images (B, H, W, channels)")
    return int(shape[3])


def size_name(size: Sequence[int | None]) -> str:
    return "x".join("any" if side is None else str(side) for side in size)
