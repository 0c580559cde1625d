"""The record, class names and colours inside a TFLite file, by the TFLite Metadata standard, and back.

The standard is a buffer named TFLITE_METADATA (metadata_schema.fbs of the TensorFlow Authors' tflite-support, with the
identifier M001) that describes tensors and names files, and a ZIP archive of these files behind the model. Interpreters
ignore both; any ZIP reader lists the files. tflite-support's own Python package stopped at Python 3.11 and NumPy 1, so
the few tables that are needed are written with flatbuffers alone.

export.json is the record that this package reads; labels.txt and palette.txt say the same to other readers.
"""

import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab.metadata import earlier_spec, mediapipe, tables
from keras_deeplab.specs import Classes, FileSpec, parsed, range_text

BUFFER = "TFLITE_METADATA"
LABELS, PALETTE, EXPORT = "labels.txt", "palette.txt", "export.json"
# Of the standard's parsers, the first that knows every field written here.
_PARSER = "1.5.0"
_IDENTIFIER = b"M001"
# metadata_schema.fbs: AssociatedFileType, ContentProperties, ProcessUnitOptions, ColorSpaceType.
_UNKNOWN, _AXIS_LABELS, _VALUE_LABELS = 0, 2, 3
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_UNKNOWN_SPACE, _RGB, _GRAYSCALE = 0, 1, 2
# What export.json had before the record.
_EARLIER_KEYS = {"precision", "output", "input_sizes", "upsampled", "resize"}


def write(name: str, spec: FileSpec) -> tuple[bytes, bytes]:
    """An exported file's record to (buffer, archive): the bytes of its TFLITE_METADATA buffer and of the ZIP behind it.

    The archive has labels.txt where the classes' names are known, and palette.txt where a label is a byte.

    Args:
        name: of the model.
        spec: the record.
    """
    classes, count = spec.model.classes, spec.model.num_labels
    files = {EXPORT: json.dumps(spec.to_dict(), indent=1).encode()}
    if classes.names is not None:
        files[LABELS] = "".join(f"{entry}\n" for entry in classes.names).encode()
    if count is not None and count <= 256:
        files[PALETTE] = "".join("{} {} {}\n".format(*color) for color in classes.palette(count)).encode()
    output, sizes = spec.output, spec.input_sizes
    about_labels = []
    # The scores of a binary model have one channel, and its names are those of two labels.
    if classes.names is not None and not (spec.model.binary and output != "labels"):
        kind = _VALUE_LABELS if output == "labels" else _AXIS_LABELS
        about_labels = [_file(LABELS, "the classes, a name a line, from class 0", kind)]
    image: list[tuple[int, str, Any]] = [(0, "int8", {1: _GRAYSCALE, 3: _RGB}.get(spec.model.channels, _UNKNOWN_SPACE))]
    if len(sizes) == 1:
        image.append((1, "table", [(0, "uint32", sizes[0][1]), (1, "uint32", sizes[0][0])]))
    shown = {1: "grey", 3: "RGB", 4: "RGBA"}.get(spec.model.channels, f"{spec.model.channels}-channel")
    told = f"{shown} pixels in 0..255 whatever the type; the model normalises them itself"
    if spec.model.image_range is not None:
        told += f"; of images of more bits, {range_text(spec.model.image_range)}"
    pixels = [
        (0, "string", "images"),
        (1, "string", told),
        (3, "table", [(0, "uint8", _IMAGE), (1, "table", image), (2, "table", [(0, "int32", 0), (1, "int32", 255)])]),
        (4, "tables", [[(0, "uint8", _NORMALIZATION), (1, "table", [(0, "floats", [0.0]), (1, "floats", [1.0])])]]),
    ]
    result = [
        (0, "string", output),
        (1, "string", _OUTPUTS[output]),
        (3, "table", [(0, "uint8", _FEATURE), (1, "table", [])]),
        (6, "tables", about_labels),
    ]
    colours = [_file(PALETTE, "the classes' colours, red green blue a line", _UNKNOWN)] if PALETTE in files else []
    about = _file(EXPORT, "what the model is and how it was exported, as JSON", _UNKNOWN)
    # labels.txt is a file of the model where it is none of an output.
    loose = (
        [_file(LABELS, "the labels, a name a line, from 0", _UNKNOWN)] if LABELS in files and not about_labels else []
    )
    reason = mediapipe.misread(spec)
    told = "for MediaPipe Tasks too" if reason is None else f"not for MediaPipe Tasks: {reason}"
    subgraph = [
        (1, "string", told),
        (2, "tables", [pixels]),
        (3, "tables", [result]),
        (9, "tables", [[(0, "string", mediapipe.NAME), (1, "buffer", mediapipe.options(spec))]]),
    ]
    model = [
        (0, "string", name),
        (1, "string", f"Semantic segmentation, weights and activations in {spec.precision}"),
        (3, "tables", [subgraph] * max(1, len(sizes))),
        (6, "tables", [*loose, *colours, about]),
        (7, "string", _PARSER),
    ]
    return tables.packed(model, _IDENTIFIER), _archive(files)


_OUTPUTS = {
    "labels": "the class of each pixel",
    "logits": "scores of the classes at each position; the largest is the class, a single one is class 1 above 0",
    "probabilities": "probabilities of the classes at each position",
}


def read_spec(path: str | os.PathLike[str]) -> FileSpec | None:
    """The path of a TFLite file to its record, None where it has none.

    What versions before the record wrote (export.json with other keys, labels.txt, palette.txt) becomes a record too.

    Raises:
        ValueError: the file's own entries can't be understood, or are larger than any record.
    """
    texts = _texts(path)
    if EXPORT not in texts:
        return None
    values = parsed(texts[EXPORT], f"the metadata of {path}")
    if not isinstance(values, dict):
        return None  # another program's
    if "model" in values:
        return FileSpec.from_dict(values, f"the metadata of {path}")
    if not values.keys() >= _EARLIER_KEYS:
        return None
    return earlier_spec(values, *_names_and_colors(texts, path), str(path))


def read_classes(path: str | os.PathLike[str]) -> Classes | None:
    """The path of any TFLite file to the classes of its record or, in other programs' files, of the file of labels.

    That is the one which the metadata name for its last output, or else labels.txt. None where it has none, or names
    there that don't tell classes apart.

    Raises:
        ValueError: as `read_spec`.
    """
    spec = read_spec(path)
    if spec is not None:
        return spec.model.classes
    texts = _texts(path, (PALETTE, _named_labels(path) or LABELS))
    texts = {name if name == PALETTE else LABELS: text for name, text in texts.items()}
    names, colors = _names_and_colors(texts, path)
    if names is None or len(set(names)) != len(names) or not all(name.strip() for name in names):
        return None
    shown = (
        None if colors is None or len(colors) < len(names) else tuple((red, green, blue) for red, green, blue in colors)
    )
    return Classes(tuple(names), shown)


def _named_labels(path: str | os.PathLike[str]) -> str | None:
    """The name of the file that the metadata tell to hold the labels of a TFLite file's last output, or None."""
    try:
        data = Path(path).read_bytes()
        if data[4:8] != b"TFL3":
            return None
        file = tables.Table(data)  # a Model of TensorFlow Lite's schema.fbs
        buffers = [entry.number(1, "I") for entry in file.tables(6) if entry.text(0) == BUFFER]
        if not buffers:
            return None
        for subgraph in tables.Table(file.tables(4)[buffers[0]].bytes(0)).tables(3)[:1]:
            for about in subgraph.tables(3)[-1:]:
                for entry in about.tables(6):
                    if entry.number(2, "b") in (_AXIS_LABELS, _VALUE_LABELS) and not entry.text(3):  # of no language
                        return entry.text(0)
    except OSError:
        return None  # that there is no file the runtime says
    except (ValueError, IndexError) as error:
        raise ValueError(f"the metadata of {path} can't be read: {error}") from error
    return None


def _texts(path: str | os.PathLike[str], wanted: Sequence[str] = (LABELS, PALETTE, EXPORT)) -> dict[str, str]:
    """The files of these names in a TFLite file's archive."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError):
        return {}  # no archive is in it; that there is no file the runtime says
    except Exception as error:  # its directory is damaged, of which zipfile makes nearly anything
        raise ValueError(f"the metadata of {path} can't be read: {type(error).__name__}: {error}") from error
    try:
        with archive:
            names = set(archive.namelist())
            return {name: _text(archive, name, path) for name in wanted if name in names}
    except UnicodeDecodeError as error:
        raise ValueError(f"the metadata of {path} is no text: {error}") from error
    except ValueError:
        raise
    except Exception as error:  # damaged, cut short, with a password or a compression that zipfile doesn't know
        raise ValueError(f"the metadata of {path} can't be read: {error}") from error


def _text(archive: zipfile.ZipFile, name: str, path: str | os.PathLike[str]) -> str:
    with archive.open(name) as entry:
        # Not what the directory says of it: a few kilobytes may unpack to gigabytes.
        content = entry.read(limits.RECORD_BYTES + 1)
    if len(content) > limits.RECORD_BYTES:
        raise ValueError(
            f"the metadata of {path} can't be read: its {name} has more than {limits.RECORD_BYTES >> 20} MB, which no "
            "record of a model takes"
        )
    return content.decode()


def _names_and_colors(
    texts: dict[str, str], path: str | os.PathLike[str]
) -> tuple[list[str] | None, list[list[int]] | None]:
    """labels.txt and palette.txt, each None where there is none."""
    names = None
    if LABELS in texts:
        names = [name.removesuffix("\r") for name in texts[LABELS].removesuffix("\n").split("\n")]
    if PALETTE not in texts:
        return names, None
    try:
        colors = [[int(part) for part in line.split()] for line in texts[PALETTE].splitlines()]
    except ValueError as error:
        raise ValueError(f"the metadata of {path} can't be understood: {PALETTE}: {error}") from error
    if not colors or any(len(color) != 3 or min(color) < 0 or max(color) > 255 for color in colors):
        raise ValueError(
            f"the metadata of {path} can't be understood: {PALETTE} must have three numbers in 0..255 a line"
        )
    return names, colors


def describe(path: str | os.PathLike[str]) -> str | None:
    """The path of a TFLite file to a text of what its metadata says, or to None where it has none."""
    spec = read_spec(path)
    classes = read_classes(path) if spec is None else spec.model.classes
    if classes is None:
        return None
    rows = []
    if spec is not None:
        model = spec.model
        built = [part for part in (model.builder, model.backbone, model.flavour and f"flavour {model.flavour}") if part]
        sizes = ", ".join(f"{height}x{width}" for height, width in spec.input_sizes) or "any"
        rows += [("model", ", ".join(built))] if built else []
        rows += [("precision", spec.precision), ("image size", sizes)]
        rows += [("channels", str(model.channels))] if model.channels != 3 else []
        if model.image_range is not None:
            rows.append(("image range", range_text(model.image_range)))
        rows.append(("output", spec.output))
        reason = mediapipe.misread(spec)
        rows.append(("MediaPipe", "reads it" if reason is None else f"not for it: {reason}"))
        if spec.output != "labels":
            rows.append(("resize left", f"bilinear, {model.resize}" if not spec.upsampled else "none"))
        if classes.names is None and model.num_labels is not None:
            rows.append(("classes", f"{model.num_labels}, without names"))
    if classes.names is not None:
        rows.append(("classes", f"{len(classes.names)}: {', '.join(classes.names)}"))
    if classes.colors is not None:
        rows.append(("palette", f"{len(classes.colors)} colours"))
    width = max(len(title) for title, _ in rows)
    lines = [f"  {title:{width}}  {text}" for title, text in rows]
    return "\n".join([f"{Path(path)}: its metadata", *lines])


def _file(name, description, kind):
    return [(0, "string", name), (1, "string", description), (2, "int8", kind)]


def _archive(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            # A date of its own would make every export another file.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return stream.getvalue()
