"""The record of an exported file, in the form that each kind of file has for it: its `keras_deeplab.specs.FileSpec`."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from keras_deeplab.specs import Classes, Color, FileSpec, ModelSpec

# Where an ONNX file (metadata_props) has its record.
KEY = "keras_deeplab"


def earlier_spec(
    facts: Mapping[str, Any], names: Sequence[str] | None, colors: Sequence[Sequence[int]] | None, origin: str
) -> FileSpec:
    """What versions before the record wrote of an export to its `FileSpec`.

    Args:
        facts: "output", "upsampled" and "resize", and perhaps "num_classes", "precision" and "input_sizes".
        names, colors: of the classes, or None.
        origin: the file, for messages.

    Raises:
        ValueError: they don't fit each other.
    """
    try:
        sizes = tuple((int(height), int(width)) for height, width in facts.get("input_sizes", ()))
        count = facts.get("num_classes") or (None if names is None else len(names))
        if count == 1:  # they knew no binary models: a name and a colour for the one channel say nothing of two labels
            names = colors = None
        shown = None if colors is None else tuple(cast(Color, tuple(map(int, color))) for color in colors)
        classes = Classes(None if names is None else tuple(names), shown)
        model = ModelSpec(num_classes=count, classes=classes, resize=facts["resize"])
        return FileSpec(model, facts["output"], facts["upsampled"], sizes, facts.get("precision", "float32"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the metadata of {origin} can't be understood: {error!r}") from error
