"""A TFLite file to the folder of a static page that runs it in the browser, with everything that the page needs."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import write_whole
from keras_deeplab.demo import runtime as litert
from keras_deeplab.metadata import tflite as _tflite_metadata
from keras_deeplab.specs import ALIGN_CORNERS, default_colors
from keras_deeplab.weights.readers.tflite import read_graph

STATIC = Path(__file__).parent / "static"
SETTINGS = "demo.json"
MODEL = "model.tflite"
# What LiteRT.js has arrays for; its own list of types lacks int8 and int64.
_INPUTS = ("float32", "uint8")
_OUTPUTS = ("float32", "uint8", "int32")


@dataclass(frozen=True)
class BrowserModel:
    """What `check_model` found in a TFLite file.

    Attributes:
        input_size: (height, width) of the images it takes.
        input_type: `"float32"` or `"uint8"`.
        output: `"labels"` or `"scores"`, logits or probabilities that the page makes labels of.
        num_classes: number of labels, or None where a file that returns labels doesn't tell.
        classes: names of the labels in the file's metadata, or None.
        palette: uint8 (N, 3) colours in the file's metadata, or None.
        threshold: the score above which a class is there, where each is decided by itself; None where the largest
            score is the label.
        resize: how scores that are coarser than the images are enlarged, of `keras_deeplab.specs.RESIZES`.
        ignored: the label where no class is there, or None where one always is.
    """

    input_size: tuple
    input_type: str
    output: str
    num_classes: int | None
    classes: list | None = None
    palette: np.ndarray | None = None
    threshold: float | None = None
    resize: str = ALIGN_CORNERS
    ignored: int | None = None


def write_page(
    model: Any,
    output: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    palette: Any = None,
    input_range: Any = (0.0, 255.0),
    runtime: Any = None,
    log: Callable[[str], Any] = print,
) -> Any:
    """A TFLite file to a folder with a page that segments photographs with it, all of it in the browser.

    `demo.json` is written last; it holds what the page shows: the model's name, the classes' names, the palette. Files
    in the folder that aren't the page's are left alone.

    Args:
        model: path of a `.tflite` file that `check_model` accepts.
        output: the folder; new, empty, or one that holds such a page, whose files are then replaced.
        classes: names of the classes in order; None for those in the file's metadata, or else numbers. "background" is
            not tinted.
        palette: uint8 (N, 3) colours, at most 256; None for those in the file's metadata, or else the default ones.
        input_range: (low, high) that 0..255 is mapped to, for float files that don't normalise themselves.
        runtime: folder `node_modules` that npm put LiteRT into; None for the cache, which is filled when it is empty.
        log: called with each line of text to print.

    Returns:
        pathlib.Path of the folder.

    Raises:
        FileNotFoundError: there is no such file, or no npm to fetch the runtime with.
        FileExistsError: the folder holds something else.
        ValueError: the file is none that the page can run, or the classes don't fit it.
    """
    model = Path(model).expanduser()
    facts = check_model(model)
    settings = _settings(model, facts, classes, palette, input_range)
    output = Path(output).expanduser()
    _check_folder(output)
    contents = {f"runtime/{name}": data for name, data in _runtime_files(runtime, log).items()}
    contents |= {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in _static_files()}
    contents[MODEL] = model.read_bytes()
    contents[SETTINGS] = (json.dumps(settings, indent=1, ensure_ascii=False) + "\n").encode()
    for name, data in contents.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(output / name, data)
    return output


def check_model(path: str | os.PathLike[str]) -> Any:
    """The path of a TFLite file to the `BrowserModel` it holds, if the page can run it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TFLite file, or one with other inputs and outputs; the message says how to export it.
    """
    graph = read_graph(path)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"{path} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; one of each is needed"
        )
    source, target = (graph.tensors[index] for index in (graph.inputs[0], graph.outputs[0]))
    shape = source.shape_signature
    if len(shape) != 4 or shape[0] not in (1, -1) or shape[3] != 3:
        raise ValueError(
            f"{path} takes {shape}; images (1, H, W, 3) are needed: what browsers decode is red, green and blue. For "
            "images of other channels use keras-deeplab predict, or tiles"
        )
    if min(shape[1:3]) < 1:
        raise ValueError(
            f"{path} takes images of any size, and LiteRT.js only a fixed one: export it with --input-size, "
            "for instance 513"
        )
    if source.dtype not in _INPUTS:
        raise ValueError(
            f"{path} takes {source.dtype} images, and LiteRT.js has no such arrays: export it with --input-type uint8"
            " or float32"
        )
    size = tuple(shape[1:3])
    if target.dtype not in _OUTPUTS:
        raise ValueError(
            f"{path} returns {target.dtype} {target.shape}, and LiteRT.js has no such arrays, only those of "
            f"{', '.join(_OUTPUTS)}: export it with --output-kind labels"
        )
    record = _tflite_metadata.read_spec(path)
    found = _tflite_metadata.read_classes(path)
    names = None if found is None or found.names is None else list(found.names)
    palette = None if found is None or found.colors is None else np.array(found.colors, np.uint8)
    model = None if record is None else record.model
    ignored = model.classes.ignore_label if model and model.multi_label and not model.binary else None
    labels = target.shape in ((1, *size), (1, *size, 1)) and target.dtype != "float32"
    if labels and (record is None or record.output == "labels"):
        count = (model and model.num_labels) or _classes_of_argmax(graph) or (len(names) if names else None)
        return BrowserModel(size, source.dtype, "labels", count, names, palette, ignored=ignored)
    coarse_known = record is not None and record.output != "labels"
    scores = len(target.shape) == 4 and (target.shape[:3] == (1, *size) or (coarse_known and target.shape[0] == 1))
    # Without a record one channel of numbers may be anything.
    fewest = 1 if coarse_known else 2
    if scores and target.dtype == "float32" and fewest <= target.shape[3] <= 256:
        alone = model is not None and not model.exclusive
        return BrowserModel(
            size,
            source.dtype,
            "scores",
            model.num_labels if model and model.num_labels else target.shape[3],
            names,
            palette,
            threshold={"logits": 0.0, "probabilities": 0.5}[record.output] if alone and record else None,
            resize=ALIGN_CORNERS if model is None else model.resize,
            ignored=ignored,
        )
    raise ValueError(
        f"{path} returns {target.dtype} {target.shape}; labels {(1, *size)} are needed, or float32 logits of up to 256 "
        f"classes {(1, *size, 'classes')}: export it with --output-kind labels"
    )


def _classes_of_argmax(graph):
    counts = {graph.tensors[step.inputs[0]].shape[-1] for step in graph.operators if step.name == "ARG_MAX"}
    return counts.pop() if len(counts) == 1 else None


def _settings(model, facts, classes, palette, input_range):
    classes = facts.classes if classes is None else classes
    given = facts.palette if palette is None else palette
    palette = np.array(default_colors(256), np.uint8)
    if given is not None:
        given = np.asarray(given)
        if given.ndim != 2 or given.shape[1] != 3 or len(given) > 256 or given.dtype != np.uint8:
            raise ValueError(f"the palette must be uint8 (N, 3), N up to 256, received {given.dtype} {given.shape}")
        palette[: len(given)] = given
    low, high = (float(bound) for bound in input_range)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"input_range must be two numbers, the lower one first, received {input_range}")
    if facts.input_type == "uint8" and (low, high) != (0.0, 255.0):
        raise ValueError(f"input_range is for float files; {model} takes bytes as they are: leave it out")
    classes = [str(name) for name in classes or ()]
    untinted = [label for label, name in enumerate(classes) if name.lower() == "background"]
    if classes and facts.num_classes not in (None, len(classes)):
        raise ValueError(f"{len(classes)} class names were given, {model} has {facts.num_classes} classes")
    return {
        "name": model.stem,
        "model": MODEL,
        "inputRange": [low, high],
        "classes": classes,
        "untinted": untinted if facts.ignored is None else [*untinted, facts.ignored],
        "palette": palette.tolist(),
        "output": facts.output,
        "threshold": facts.threshold,
        "resize": facts.resize,
        "ignored": facts.ignored,
    }


def _check_folder(output):
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; name a folder for the page (--output)")
    if output.is_dir() and any(output.iterdir()) and not (output / SETTINGS).is_file():
        raise FileExistsError(
            f"{output} holds other files, which would be published with the page: name a new or empty folder (--output)"
        )


def _runtime_files(runtime, log):
    if runtime is None:
        return litert.page_files(litert.fetch(log))
    return litert.page_files(Path(runtime).expanduser())


def _static_files():
    return sorted(path for path in STATIC.rglob("*") if path.is_file())
