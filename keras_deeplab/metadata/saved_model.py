"""The record beside a SavedModel: `assets.extra/keras_deeplab.json`, and the classes' names for other readers."""

import os
from pathlib import Path

from keras_deeplab._helpers import limits
from keras_deeplab.specs import FileSpec

FOLDER, RECORD, CLASSES = "assets.extra", "keras_deeplab.json", "classes.txt"


def write(folder: Path, spec: FileSpec) -> None:
    """Puts a record into the SavedModel `folder`, and its classes' names, where they are known, beside it."""
    extra = folder / FOLDER
    extra.mkdir(exist_ok=True)
    (extra / RECORD).write_text(spec.to_json() + "\n", "utf-8")
    if spec.model.classes.names is not None:
        (extra / CLASSES).write_text("".join(f"{name}\n" for name in spec.model.classes.names), "utf-8")


def read_spec(folder: str | os.PathLike[str]) -> FileSpec | None:
    """The SavedModel `folder` to its record, None where it has none.

    Raises:
        ValueError: the record can't be understood.
    """
    path = Path(folder) / FOLDER / RECORD
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(limits.RECORD_BYTES + 1)
    if len(text) > limits.RECORD_BYTES:
        raise ValueError(f"{path} has more than {limits.RECORD_BYTES >> 20} MB, which no record of a model takes")
    return FileSpec.from_json(text, str(path))
