"""What a checkpoint's path points to."""

import os
import re
import zipfile
from pathlib import Path
from typing import Any

from keras_deeplab._helpers.files import open_regular
from keras_deeplab.weights.readers import frozen_graph, hdf5, safetensors, shards

# kind -> what it is, in words
KINDS = {
    "keras": "a .keras file of this package",
    "tf1": "a TensorFlow 1 DeepLab checkpoint as its prefix, .index file, folder or .tar.gz archive",
    "torch": "a PyTorch checkpoint (.pth, .pt)",
    "pickle": "a pickle of arrays of PaddlePaddle or Detectron2 (.pdparams, .pkl)",
    "safetensors": "a safetensors file",
    "shards": "the index of a checkpoint in shards (model.safetensors.index.json)",
    "h5": "HDF5 weights of Keras 2 or 3 (.h5, .weights.h5)",
    "pb": "a frozen TensorFlow graph (.pb)",
    "tflite": "a TFLite file",
    "onnx": "an ONNX file",
}
_ZIP = b"PK\x03\x04"
_TORCH_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")  # in the first pickle of torch.save before 1.6
_TF1_MAGIC = bytes.fromhex("57fb808b247547db")  # ends the V1 format's one file, whatever it is called
# The version, then who wrote it, a text; in a SavedModel's graph a message stands there.
_ONNX = rb"\x08[\x01-\x1f]\x12[\x01-\x7f][\x20-\x7e]{3}"
_HEAD = 4096

# how other files begin -> what they are
_OTHERS = [
    (rb"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded (git lfs pull)"),
    (rb"\s*<(!doctype|html|\?xml)", "a web page, as failed downloads leave"),
    (rb"\x89HDF", "a cut-off HDF5 file (a whole one may also be given as weights= of the model it belongs to)"),
    (
        rb"\x08[\x01-\x0f]\x12",
        "a SavedModel's graph, which keras_deeplab.predictor runs from its folder. For a model to load or to train, "
        "give the weights that it was exported from",
    ),
    (rb"\x80[\x02-\x05]", "a Python pickle that torch.save did not write"),
    (rb"\x93NUMPY", "a NumPy array without a name; give load() a mapping of names to arrays"),
]


def kind_of(path: str | os.PathLike[str]) -> Any:
    """What a checkpoint is, one of `KINDS`: from the file's content, and from its name where that doesn't tell.

    Args:
        path: a file; or the folder or prefix of a TensorFlow 1 checkpoint.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: something is there that is no checkpoint this package reads.
    """
    path = Path(path)
    if path.is_dir() or Path(f"{path}.index").exists() or re.search(r"\.index$|\.data-\d+-of-\d+$", path.name):
        return "tf1"
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        beside = f" Beside it: {', '.join(siblings[:8])}." if siblings else f" {path.parent} is no folder."
        raise FileNotFoundError(f"There is no checkpoint {os.fspath(path)!r}.{beside}")
    with open_regular(path) as file:
        head = file.read(_HEAD)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - len(_TF1_MAGIC), 0))
        tail = file.read()
    kind = _by_content(head, tail, size, path) or _by_name(head, path)
    if kind is None:
        raise ValueError(
            f"{os.fspath(path)!r} is no checkpoint that can be read: it is {_guess(head, path)}. What can: "
            f"{'; '.join(KINDS.values())}."
        )
    return kind


def _by_content(head, tail, size, path):
    if head.startswith(_ZIP):
        return _zip_kind(path)
    if head[:1] == b"\x80" and _TORCH_MAGIC in head[:32]:
        return "torch"
    if re.match(rb"\x80[\x02-\x05]", head) and path.suffix in (".pdparams", ".pkl"):
        return "pickle"
    if head.startswith(hdf5.MAGIC):
        return "h5"
    if head[4:8] == b"TFL3":
        return "tflite"
    if re.match(_ONNX, head):
        return "onnx"
    if head[8:9] == b"{" and 2 <= safetensors.header_length(head) <= size - 8:
        return "safetensors"
    if head[:2] == b"\x1f\x8b" or tail == _TF1_MAGIC:
        return "tf1"
    if frozen_graph.begins_a_graph(head):
        return "pb"
    return None


def _zip_kind(path):
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # a damaged directory makes zipfile raise nearly anything: the name decides, its reader refuses
        return None
    if any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in names):
        return "torch"
    return None


def _by_name(head, path):
    name = path.name
    if name.endswith(shards.ENDING):
        return "shards"
    if head.startswith(_ZIP):
        torch_like = re.search(r"\.(pth|pt)(\.tar)?$", name) and "torch"
        return "keras" if path.suffix == ".keras" else torch_like or None
    if name.endswith((".tar.gz", ".tgz", ".tar")) and not head.startswith(b"\x80"):
        return "tf1"
    if any(re.match(begin, head, re.IGNORECASE) for begin, _ in _OTHERS) or not head:
        return None
    if path.suffix == ".ckpt" or ".ckpt-" in name:
        return "tf1"
    return {".pb": "pb", ".onnx": "onnx"}.get(path.suffix)


def _guess(head, path):
    if not head:
        return "an empty file"
    if head.startswith(_ZIP):
        if path.suffix == ".npz":
            return "a NumPy archive; give load() its arrays: keras_deeplab.load(dict(numpy.load(path)))"
        return "a zip archive with neither the name of a .keras file nor what torch.save puts into one"
    for begin, what in _OTHERS:
        if re.match(begin, head, re.IGNORECASE):
            return what
    return f"a {path.suffix or 'nameless'} file that begins with {head[:4]!r}"
