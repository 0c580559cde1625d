"""Class names, palette and what the output means inside a TFLite file, by the TFLite Metadata standard, and back.

The standard is a buffer named TFLITE_METADATA (metadata_schema.fbs of the TensorFlow Authors' tflite-support, with the
identifier M001) that describes tensors and names files, and a ZIP archive of these files behind the model. Interpreters
ignore both; any ZIP reader lists the files. tflite-support's own Python package stopped at Python 3.11 and NumPy 1, so
the few tables that are needed are written here with flatbuffers alone.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_deeplab.specs import Classes, FileSpec, ModelSpec

BUFFER = "TFLITE_METADATA"
LABELS, PALETTE, EXPORT = "labels.txt", "palette.txt", "export.json"
# Of the standard's parsers, the first that knows every field written here.
_PARSER = "1.0.0"
_IDENTIFIER = b"M001"
# metadata_schema.fbs: AssociatedFileType, ContentProperties, ProcessUnitOptions, ColorSpaceType.
_UNKNOWN, _AXIS_LABELS, _VALUE_LABELS = 0, 2, 3
_FEATURE, _IMAGE = 1, 2
_NORMALIZATION = 1
_RGB = 1
# What `describe` and the predictor rely on in export.json.
_KEYS = {"precision", "output", "input_sizes", "upsampled", "resize"}


def write(name, facts, classes=None, palette=None):
    """What an exported file is to (buffer, archive): the bytes of its TFLITE_METADATA buffer and of the ZIP behind it.

    Args:
        name: of the model.
        facts: dict for export.json: "precision"; "output"; "input_sizes", a list of [height, width], empty for any;
            "upsampled", whether the output has the images' size; "resize", the kind that it was or has to be resized
            by; and whatever else.
        classes: names of the classes, or None.
        palette: uint8 (N, 3) colours of the classes, or None.
    """
    import flatbuffers

    files = {EXPORT: json.dumps(facts, indent=1).encode()}
    if classes is not None:
        files[LABELS] = "".join(f"{entry}\n" for entry in classes).encode()
    if palette is not None:
        files[PALETTE] = "".join("{} {} {}\n".format(*colour) for colour in np.asarray(palette).tolist()).encode()
    output, sizes = facts["output"], facts["input_sizes"]
    about_labels = []
    if classes is not None:
        kind = _VALUE_LABELS if output == "labels" else _AXIS_LABELS
        about_labels = [_file(LABELS, "the classes, a name a line, from class 0", kind)]
    image = [(0, "int8", _RGB)]
    if len(sizes) == 1:
        image.append((1, "table", [(0, "uint32", sizes[0][1]), (1, "uint32", sizes[0][0])]))
    pixels = [
        (0, "string", "images"),
        (1, "string", "RGB pixels in 0..255 whatever the type; the model normalises them itself"),
        (3, "table", [(0, "uint8", _IMAGE), (1, "table", image), (2, "table", [(0, "int32", 0), (1, "int32", 255)])]),
        (4, "tables", [[(0, "uint8", _NORMALIZATION), (1, "table", [(0, "floats", [0.0]), (1, "floats", [1.0])])]]),
    ]
    result = [
        (0, "string", output),
        (1, "string", _OUTPUTS[output]),
        (3, "table", [(0, "uint8", _FEATURE), (1, "table", [])]),
        (6, "tables", about_labels),
    ]
    colours = [_file(PALETTE, "the classes' colours, red green blue a line", _UNKNOWN)] if palette is not None else []
    about = _file(EXPORT, "how the file was exported, as JSON", _UNKNOWN)
    subgraph = [(2, "tables", [pixels]), (3, "tables", [result])]
    model = [
        (0, "string", name),
        (1, "string", f"Semantic segmentation, weights and activations in {facts['precision']}"),
        (3, "tables", [subgraph] * max(1, len(sizes))),
        (6, "tables", [*colours, about]),
        (7, "string", _PARSER),
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, model), _IDENTIFIER)
    return bytes(builder.Output()), _archive(files)


_OUTPUTS = {
    "labels": "the class of each pixel",
    "logits": "scores of the classes at each position; the largest is the class",
    "probabilities": "probabilities of the classes at each position",
}


def read(path):
    """The path of a TFLite file to (facts, classes, palette): a dict, names and uint8 (N, 3), each None if not in it.

    Raises:
        ValueError: if the file's own entries can't be understood.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError):
        return None, None, None  # no archive is in it; that there is no file the runtime says
    try:
        with archive:
            names = set(archive.namelist())
            texts = {name: archive.read(name).decode() for name in (LABELS, PALETTE, EXPORT) if name in names}
    except UnicodeDecodeError as error:
        raise ValueError(f"the metadata of {path} is no text: {error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        # Damaged or cut short; zipfile's RuntimeErrors are a password and a compression that it doesn't know.
        raise ValueError(f"the metadata of {path} can't be read: {error}") from error
    try:
        facts = json.loads(texts[EXPORT]) if EXPORT in texts else None
        if not isinstance(facts, dict) or not facts.keys() >= _KEYS:
            facts = None  # another program's
        classes = texts[LABELS].removesuffix("\n").split("\n") if LABELS in texts else None
        palette = None
        if PALETTE in texts:
            palette = np.array([[int(part) for part in line.split()] for line in texts[PALETTE].splitlines()])
            if palette.shape != (len(palette), 3) or palette.min() < 0 or palette.max() > 255:
                raise ValueError(f"{PALETTE} must have three numbers in 0..255 a line")
            palette = palette.astype(np.uint8)
    except ValueError as error:
        raise ValueError(f"the metadata of {path} can't be understood: {error}") from error
    return facts, classes, palette


def describe(path):
    """The path of a TFLite file to a text of what its metadata says, or to None where it has none."""
    facts, classes, palette = read(path)
    if facts is None and classes is None:
        return None
    rows = []
    if facts is not None:
        sizes = ", ".join(f"{height}x{width}" for height, width in facts["input_sizes"]) or "any"
        rows += [("precision", facts["precision"]), ("image size", sizes), ("output", facts["output"])]
        if facts["output"] != "labels":
            rows.append(("resize left", f"bilinear, {facts['resize']}" if not facts["upsampled"] else "none"))
    if classes is not None:
        rows.append(("classes", f"{len(classes)}: {', '.join(classes)}"))
    if palette is not None:
        rows.append(("palette", f"{len(palette)} colours"))
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


def _table(builder, fields):
    """Writes a table of (slot, kind, value) and returns where it lies; what it points to comes before it."""
    placed = []
    for slot, kind, value in fields:
        if kind == "string":
            placed.append((slot, kind, builder.CreateString(value)))
        elif kind == "table":
            placed.append((slot, kind, _table(builder, value)))
        elif kind == "tables":
            if not value:
                continue
            offsets = [_table(builder, entry) for entry in value]
            builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                builder.PrependUOffsetTRelative(offset)
            placed.append((slot, kind, builder.EndVector()))
        elif kind == "floats":
            placed.append((slot, kind, builder.CreateNumpyVector(np.asarray(value, np.float32))))
        else:
            placed.append((slot, kind, value))
    builder.StartObject(max((slot for slot, _, _ in fields), default=-1) + 1)
    scalars = {"int8": "Int8", "uint8": "Uint8", "int32": "Int32", "uint32": "Uint32"}
    for slot, kind, value in placed:
        if kind in scalars:
            getattr(builder, f"Prepend{scalars[kind]}Slot")(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def read_spec(path):
    """The path of a TFLite file to its `FileSpec`, None where it has no record."""
    facts, classes, palette = read(path)
    if facts is None or facts.get("num_classes") is None:
        return None
    colors = None if palette is None else tuple(map(tuple, palette.tolist()))
    spec = ModelSpec(
        facts["num_classes"],
        classes=Classes(None if classes is None else tuple(classes), colors),
        resize=facts["resize"],
    )
    sizes = tuple(map(tuple, facts["input_sizes"]))
    return FileSpec(spec, facts["output"], facts["upsampled"], sizes, facts["precision"])
