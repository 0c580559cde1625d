"""The process of `hdf5.Reader`: takes requests from its input, answers with arrays in the safetensors format.

It is run as a file, not imported with the package, so that it starts without Keras.
"""

import json
import os
import sys
import time
from typing import Any

_DTYPES = {
    **{"float16": "F16", "float32": "F32", "float64": "F64", "bool": "BOOL"},
    **{"int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64"},
    **{"uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64"},
}
_NETWORK = "keras_deeplab/network"  # as specs.NETWORK
_DEPTH = 32  # of groups in groups
_FILTERS = {1, 2, 3, 32000}  # gzip, shuffle, fletcher32, lzf: no others are looked for, which could load libraries


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            _limit(request["seconds"], request["memory"] + 3 * request["limit"])
            parts = _pack(read(request["path"], request["limit"] + (1 << 20)))
            head = b"+"
        except Exception as error:
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            head, parts = b"-", [told[:2000].encode(errors="replace")]
        answers.write(head + sum(map(len, parts)).to_bytes(8, "little"))
        for part in parts:
            answers.write(part)
        answers.flush()


def _limit(seconds, memory):
    try:
        import resource
    except ImportError:  # Windows: the other process ends this one when it takes too long
        return
    spent = int(time.process_time())
    for what, soft in [
        (resource.RLIMIT_CPU, spent + seconds + 1),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
    ]:
        _, hard = resource.getrlimit(what)
        try:
            resource.setrlimit(what, (soft if hard < 0 else min(soft, hard), hard))
        except (ValueError, OSError):  # macOS limits no address space
            continue


def read(path: str | os.PathLike[str], limit: int) -> Any:
    """[(name, array)] of a file's weights, of at most `limit` bytes together."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        root = file
        if not _has(file.attrs, "layer_names") and "model_weights" in file:
            root = _at(file, "model_weights", h5py.Group)
        arrays = _keras_2(root, h5py) if _has(root.attrs, "layer_names") else _keras_3(root, h5py)
        names = [name for name, _ in arrays]
        if len(set(names)) != len(names):
            raise ValueError(f"it has two arrays {max(names, key=names.count)!r}")
        if not names:
            raise ValueError(f"it has no weights of Keras: it holds {', '.join(sorted(file)[:12]) or 'nothing'}")
        if _NETWORK.split("/")[0] in file:
            arrays.append((_NETWORK, _at(file, _NETWORK, h5py.Dataset)))
        if sum(dataset.size * dataset.dtype.itemsize for _, dataset in arrays) > limit:
            raise ValueError(f"it asks for more than {limit:,} bytes of arrays, far more than weights need")
        return [(name, _values(dataset)) for name, dataset in arrays]


def _keras_2(root, h5py):
    """Layers' groups in order, each with the names of its weights."""
    layers = _names(root.attrs, "layer_names")
    if "top_level_model_weights" in root and "top_level_model_weights" not in layers:
        layers.append("top_level_model_weights")
    arrays = []
    for layer in layers:
        group = _at(root, layer, h5py.Group)
        if _has(group.attrs, "weight_names"):
            arrays += [(name, _at(group, name, h5py.Dataset)) for name in _names(group.attrs, "weight_names")]
    return arrays


def _keras_3(root, h5py):
    """Groups in groups; variables are numbered in groups `vars`, which may know their layer's name."""
    found, seen = [], set()

    def walk(group, path):
        address = h5py.h5o.get_info(group.id).addr
        if len(path) > _DEPTH or address in seen:
            raise ValueError(f"its groups go in circles or deeper than {_DEPTH}")
        seen.add(address)
        for name in group:
            item = _at(group, name, (h5py.Group, h5py.Dataset))
            if isinstance(item, h5py.Group):
                if path or name != "optimizer":
                    walk(item, [*path, name])
            elif path[-1:] == ["vars"]:
                found.append((path[:-1], group, name, item))

    walk(root, [])
    layers = {tuple(path): group.attrs.get("name") for path, group, _, _ in found}
    known = all(isinstance(name, str) for name in layers.values()) and len(set(layers.values())) == len(layers)
    arrays = []
    for path, _, index, dataset in found:
        layer = layers[tuple(path)] if known else "/".join(path)
        arrays.append(("/".join(filter(None, [layer, "vars", index])), dataset))
    return arrays


def _has(attributes, name):
    return name in attributes or f"{name}0" in attributes


def _names(attributes, name):
    """A list of names, which Keras splits over several attributes where it is long."""
    keys = [name]
    if name not in attributes:
        keys = [f"{name}{i}" for i in range(len(attributes)) if f"{name}{i}" in attributes]
    names = [item for key in keys for item in attributes[key]]
    return [item.decode() if isinstance(item, bytes) else str(item) for item in names]


def _at(group, path, kind):
    """What is at `path`; links to other places and other files aren't followed."""
    import h5py

    for part in filter(None, path.split("/")):
        if not isinstance(group, h5py.Group) or part not in group:
            raise ValueError(f"it lacks {path!r}")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} is a link, which is not followed")
        group = group[part]
    if not isinstance(group, kind):
        raise ValueError(f"{path!r} is neither weights nor a group of them")
    return group


def _values(dataset):
    import numpy as np

    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{dataset.name!r} is in other files, which are not opened")
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if not filters <= _FILTERS:
        raise ValueError(f"{dataset.name!r} is packed with filters {sorted(filters - _FILTERS)}")
    if dataset.attrs.get("dtype") == "bfloat16" and dataset.dtype.itemsize == 2:
        return "BF16", dataset[()].view("uint16")
    array = np.asarray(dataset[()])
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"{dataset.name!r} has values of type {dataset.dtype}")
    return _DTYPES[array.dtype.name], array


def _pack(arrays):
    """The parts of a safetensors file."""
    header, offset = {}, 0
    for name, (dtype, array) in arrays:
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    little = [array.astype(array.dtype.newbyteorder("<"), copy=False) for _, (_, array) in arrays]
    return [len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in little)]


if __name__ == "__main__":
    main()
