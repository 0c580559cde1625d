"""A checkpoint in several files: the index that a hub's folder has, `{"weight_map": {name: file}}`, and its shards."""

import json
import os
from pathlib import Path
from typing import Any

from keras_deeplab.weights.readers import safetensors, torch
from keras_deeplab.weights.readers.common import contents, reading

ENDING = ".index.json"
_MAX_INDEX = 1 << 26  # bytes that are read at most; a line for each array
# how a shard's name ends -> its reader
_READERS = {".safetensors": safetensors.read, ".bin": torch.read}


def read(path: str | os.PathLike[str]) -> Any:
    """An index (`model.safetensors.index.json`, `pytorch_model.bin.index.json`) to `{name: array}` of its shards.

    Raises:
        FileNotFoundError: there is no such index.
        ValueError: it is no index, a shard isn't beside it or is damaged, or the shards hold other names than the index
            lists for them.
    """
    path = Path(path)
    index = contents(path, _MAX_INDEX)
    with reading(path, "an index of shards"):
        files = _files(index)
        missing = [name for name in files if not (path.parent / name).is_file()]
        if missing:
            there = len(files) - len(missing)
            raise ValueError(
                f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} not beside it; {there} of {len(files)} "
                "shards are there. Download the others into the same folder"
            )
        arrays = {}
        for name, listed in files.items():
            shard = _READERS[Path(name).suffix](path.parent / name)
            for names, what in (
                (set(listed) - set(shard), "lacks arrays that the index lists for it"),
                (set(shard) - set(listed), "holds arrays that the index doesn't list for it"),
            ):
                if names:
                    raise ValueError(f"the shard {name!r} {what}: {_listed(sorted(names))}")
            arrays.update(shard)
        return arrays


def _files(index):
    """`{file name: names of its arrays}` in the order of the index."""
    index = json.loads(index.decode())
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ValueError("it has no weight_map from names of arrays to names of files")
    files = {}
    for name, file in places.items():
        # What lies elsewhere is not this checkpoint's.
        if os.path.basename(file) != file or "\\" in file or Path(file).suffix not in _READERS:
            raise ValueError(f"{file!r} is no name of a shard; they end in {' or '.join(_READERS)} and have no folder")
        files.setdefault(file, []).append(name)
    return files


def _listed(names):
    return ", ".join(map(repr, names[:6])) + (f", ... ({len(names)})" if len(names) > 6 else "")
