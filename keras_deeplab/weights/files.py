"""What a checkpoint's path points to."""

import os
from pathlib import Path


def kind_of(path):
    """`"keras"` or `"tf1"`, from the path and the file's first bytes.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: something is there that is no checkpoint this package reads.
    """
    path = Path(path)
    if path.is_dir() or Path(f"{path}.index").exists() or path.suffix == ".index":
        return "tf1"
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        beside = f" Beside it: {', '.join(siblings[:8])}." if siblings else f" {path.parent} is no folder."
        raise FileNotFoundError(f"There is no checkpoint {os.fspath(path)!r}.{beside}")
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic == b"PK\x03\x04" and path.suffix == ".keras":
        return "keras"
    if magic[:2] == b"\x1f\x8b" or path.suffixes[-2:] == [".tar", ".gz"] or path.suffix in (".tgz", ".tar"):
        return "tf1"
    if path.suffix == ".ckpt" or ".ckpt-" in path.name:
        return "tf1"
    raise ValueError(
        f"{os.fspath(path)!r} is no checkpoint that can be read: it is {_guess(magic, path)}. What can: a .keras "
        "file of this package; a TensorFlow 1 DeepLab checkpoint as its prefix, .index file, folder or .tar.gz archive."
    )


def _guess(magic, path):
    if not magic:
        return "an empty file"
    if magic == b"PK\x03\x04":
        return "a zip archive without the name of a .keras file"
    if magic == b"\x89HDF":
        return "an HDF5 file (give a .weights.h5 as weights= of the model it belongs to)"
    return f"a {path.suffix or 'nameless'} file that begins with {magic!r}"
