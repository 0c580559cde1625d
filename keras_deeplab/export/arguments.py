"""Arguments that several exports take, checked in one place."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.options import size
from keras_deeplab.specs import OUTPUTS, Classes, ModelSpec


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raises ValueError unless the argument `name` has one of the values that it may have."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(filter(None, allowed))}; received {value!r}")


def check_output(output: str, upsample: bool) -> None:
    """Raises ValueError unless a file can return this `output`, and leave its last resize out where `upsample` is
    False."""
    one_of("output", output, OUTPUTS)
    if output == "labels" and not upsample:
        raise ValueError(
            'labels can\'t be enlarged well by the caller: take the logits of that size (output="logits", '
            "--output logits), resize them and take the argmax, or leave the resize in the file (upsample=True)"
        )


def one_size(value: Any) -> tuple[int, int]:
    """An int or (height, width) to (height, width)."""
    try:
        return size(value)
    except (TypeError, ValueError):
        raise ValueError(f"input_size must be an int or (height, width) of at least 1, received {value!r}") from None


def file_path(path: str | os.PathLike, example: str) -> Path:
    """The path of a file to write; ValueError, which names one like `example`, where it is a folder."""
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of the file to write, such as {path / example}")
    return path


def with_given_classes(spec: ModelSpec, classes: Any = None, palette: Any = None) -> ModelSpec:
    """A model's record with the names and colours that an export was given instead of its own.

    Args:
        spec: the record.
        classes: a `keras_deeplab.specs.Classes` or names, one for each label; None for the record's.
        palette: uint8 (N, 3) colours of at least all labels; None for those of `classes`, or else the record's.

    Raises:
        ValueError: there isn't one for each label.
    """
    own = spec.classes
    if classes is not None and not isinstance(classes, Classes):
        if isinstance(classes, str):
            raise ValueError(f"classes must be {spec.num_labels} names, a list; received the text {classes!r}")
        names = tuple(str(name) for name in classes)
        if len(names) != spec.num_labels or any("\n" in name for name in names):
            raise ValueError(
                f"classes must be {spec.num_labels} names of a line each, one for each label of the model; received "
                f"{len(names)}: {list(names)}"
            )
        # Colours belong to the names that they were given with.
        classes = Classes(names, own.colors if own.names in (None, names) else None, own.ignore_label)
    classes = own if classes is None else classes
    if palette is not None:
        palette = np.asarray(palette)
        if palette.ndim != 2 or palette.shape[1] != 3 or palette.dtype != np.uint8:
            raise ValueError(f"palette must be uint8 (N, 3), received {palette.dtype} {palette.shape}")
        if len(palette) < (spec.num_labels or 0):
            raise ValueError(f"the palette has {len(palette)} colours for {spec.num_labels} classes")
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in palette[: spec.num_labels])
        classes = Classes(classes.names, colors, classes.ignore_label)
    return spec.with_classes(classes)
