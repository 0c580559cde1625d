"""A trained model to the files that serve it: `FORMATS` has a row for each kind, and `export_model` writes any of them.

`saved_model` (TensorFlow Serving), `tflite` (phones, browsers), `onnx` (ONNX Runtime, OpenVINO), and `compare`, what
they lost.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from keras_deeplab.registry import Registry
from keras_deeplab.specs import FileSpec

__all__ = ["FORMATS", "Format", "compare", "export_model", "onnx", "read_spec", "saved_model", "tflite"]


@dataclass(frozen=True)
class Format:
    """A kind of exported file.

    Attributes:
        suffix: of its files, such as `".tflite"`; `""` for folders.
        export: the function that writes one, or `"module:function"`, which is imported when it is needed.
        read_spec: the function that reads its record, likewise.
        marker: for folders, the name of a file that tells them from others.
    """

    suffix: str
    export: Callable[..., Any] | str
    read_spec: Callable[..., FileSpec | None] | str
    marker: str = ""


# The contract: `export(model, path, **options)` writes a keras.Model (or refuses it with a ValueError), whole or not at
# all, takes `classes=` and `palette=` for its record, and returns the path or something with an attribute `path`;
# `read_spec(path)` gives the record back as a `keras_deeplab.specs.FileSpec`, or None where a file has none.
FORMATS: Registry[Format] = Registry(
    "export format",
    {
        "saved_model": Format(
            "",
            "keras_deeplab.export.saved_model:export_saved_model",
            "keras_deeplab.metadata.saved_model:read_spec",
            marker="saved_model.pb",
        ),
        "tflite": Format(
            ".tflite", "keras_deeplab.export.tflite:export_tflite", "keras_deeplab.metadata.tflite:read_spec"
        ),
        "onnx": Format(".onnx", "keras_deeplab.export.onnx:export_onnx", "keras_deeplab.metadata.onnx:read_spec"),
    },
)


def export_model(model: Any, path: str | Path, format: str | None = None, **options: Any) -> Path:
    """A Keras model to an exported file of any format: `path`, which is returned.

    Args:
        model: keras.Model from images (B, H, W, channels) in 0..255 to logits.
        path: the file or folder to write.
        format: a key of `FORMATS`; None for the one whose suffix the path has.
        options: those of the format's own function, such as `keras_deeplab.export_tflite`.

    Raises:
        ValueError: no format has this name or suffix, or the model or an option doesn't fit.
    """
    row = _of_suffix(path) if format is None else FORMATS[format]
    if row is None:
        raise ValueError(
            f"the name {Path(path).name!r} tells no export format: end it in one of "
            f"{', '.join(known.suffix for known in FORMATS.values() if known.suffix)}, or give format=, one of "
            f"{', '.join(FORMATS)}"
        )
    written = _function(row.export)(model, path, **options)
    return Path(getattr(written, "path", written))


def read_spec(path: str | os.PathLike[str]) -> FileSpec | None:
    """The path of an exported file or folder of any format to its record, None where it has none.

    Raises:
        ValueError: the record can't be understood, or no format is of this kind.
    """
    path = Path(path)
    row = _of_suffix(path)
    if path.is_dir():
        row = next((known for known in FORMATS.values() if known.marker and (path / known.marker).is_file()), row)
    if row is None:
        raise ValueError(f"{path} is no exported file of a format that is known: {', '.join(FORMATS)}")
    return _function(row.read_spec)(path)


def _of_suffix(path: str | Path) -> Format | None:
    suffix = Path(path).suffix.lower()
    return next((row for row in FORMATS.values() if row.suffix and row.suffix == suffix), None)


def _function(value: Callable[..., Any] | str) -> Callable[..., Any]:
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    return getattr(import_module(module), name)
