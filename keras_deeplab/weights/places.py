"""Where a checkpoint lies: a folder or an archive to the file of weights in it, and what lies beside that file."""

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import read_regular, temporary_folder
from keras_deeplab.weights.readers.common import Budget, reading
from keras_deeplab.weights.readers.files import kind_of
from keras_deeplab.weights.readers.literals import assignments

# What hubs call the file of weights, the first that is there counts: they are the same weights in several formats.
HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.weights.h5",
)
# keras-hub's presets: the backbone's weights, and those of the layers that a task has behind it.
_PRESET_BACKBONE, _PRESET_HEAD = "model.weights.h5", "task.weights.h5"
# Endings of files that hold a checkpoint, for a folder that has one of them.
_ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors", ".keras", ".h5", ".tflite", ".pdparams", ".pkl", ".index")


@dataclass(frozen=True)
class Place:
    """A file of weights (or the prefix or folder of a TensorFlow 1 checkpoint), and what is written beside it.

    Attributes:
        path: where it lies while the block of `located` lasts.
        kind: what it is, one of `kind_of`'s.
        configs: `{file name: what it says}` of the files that describe a network, such as a hub's `config.json` and
            `preprocessor_config.json`, Detectron2's and PaddleSeg's YAML and MMSegmentation's Python (parsed, never
            run); empty where the arrays stand alone.
        head: a file with the weights of the last layers, where a preset keeps them apart from the backbone's.
    """

    path: Path
    kind: str
    configs: dict[str, Any] = field(default_factory=dict)
    head: Path | None = None


@contextlib.contextmanager
def located(path: Any) -> Iterator[Place]:
    """A path to the checkpoint that is there, for as long as the block lasts.

    Args:
        path: a file; a folder of a hub's layout (`HUB_FILES` with `config.json`), with one file of weights, or of a
            TensorFlow 1 checkpoint; a zip archive of such a folder.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is none of these; a folder holds several checkpoints; a description beside is damaged.
    """
    path = Path(path)
    if path.is_file() and _is_archive(path):
        with temporary_folder() as folder:
            with reading(path, "a zip archive of a checkpoint's folder"):
                _unpack(path, folder)
            yield _in_folder(_root(folder), os.fspath(path))
    elif path.is_dir():
        yield _in_folder(path, os.fspath(path))
    elif path.name in HUB_FILES:
        yield _of_hub(path)
    else:
        yield Place(path, kind_of(path))


def configs_in(folder: Path) -> dict[str, Any]:
    """`{file name: what it says}` of the descriptions in a folder; indexes of shards aren't among them.

    Raises:
        ValueError: one is no JSON or YAML object, or far larger than a description; the message names it. Python that
            isn't understood is a script, and passed over.
    """
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix in _DESCRIPTIONS and path.is_file()):
        if path.name.endswith(".index.json"):
            continue
        with reading(path, f"the description of a network ({path.suffix}); move it away if it isn't one"):
            value = _DESCRIPTIONS[path.suffix](read_regular(path, limits.RECORD_BYTES).decode())
            if not isinstance(value, dict):
                raise ValueError(f"it is a {type(value).__name__}, no object")
            found[path.name] = value
    return found


def _of_hub(path: Path) -> Place:
    head = path.with_name(_PRESET_HEAD)
    head_too = path.name == _PRESET_BACKBONE and head.is_file()
    return Place(path, kind_of(path), configs_in(path.parent), head if head_too else None)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ValueError("YAML is read by PyYAML: pip install pyyaml, or move the file away") from error
    return yaml.safe_load(text)


def _python(text: str) -> Any:
    try:
        return assignments(text)
    except ValueError:
        return {}


_DESCRIPTIONS: dict[str, Callable[[str], Any]] = {".json": json.loads, ".yaml": _yaml, ".yml": _yaml, ".py": _python}


def _in_folder(folder: Path, label: str) -> Place:
    hub = next((folder / name for name in HUB_FILES if (folder / name).is_file()), None)
    if hub is not None:
        return _of_hub(hub)
    names = checkpoints_among(path.name for path in folder.iterdir() if path.is_file())
    files = [folder / name for name in names]
    if len(files) > 1:
        several = ", ".join(path.name for path in files[:8])
        raise ValueError(f"{label!r} holds several checkpoints: {several}. Give the path of one.")
    if files and files[0].suffix != ".index":
        return Place(files[0], kind_of(files[0]), configs_in(folder))
    return Place(folder, kind_of(folder))


def checkpoints_among(names: Iterable[str]) -> list[str]:
    """Of names of files those that end as a checkpoint's, in order; ONNX files where nothing else is there.

    These are mostly made of the checkpoint beside them, and hold less.
    """
    names = sorted(names)
    return [name for name in names if name.endswith(_ENDINGS)] or [name for name in names if name.endswith(".onnx")]


# Archives ---------------------------------------------------------------------------------------------------------


def _is_archive(path: Path) -> bool:
    """Whether a file is a zip archive of other files: what PyTorch and Keras write is one as well, and isn't meant."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    if path.suffix == ".keras":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except Exception:  # a damaged directory makes zipfile raise nearly anything: its name decides what it should be
        return path.suffix == ".zip"
    if any(re.fullmatch(r"[^/]+/(data|constants)\.pkl", name) for name in names):
        return False  # what torch.save and TorchScript write
    return any(name.rpartition("/")[2] in HUB_FILES or name.endswith((*_ENDINGS, ".onnx")) for name in names)


def _unpack(path: Path, folder: Path) -> None:
    """The files of an archive, without what their names would do outside of the folder, and within a bound."""
    budget = Budget.of(path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            budget.spend(member.file_size)
        archive.extractall(folder)


def _root(folder: Path) -> Path:
    """The folder that archives have everything in, where there is one."""
    inner = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    return _root(inner[0]) if len(inner) == 1 and inner[0].is_dir() else folder
