"""Weights into the files of other code, without that code: PyTorch's, safetensors, TensorFlow 1 checkpoints.

A file is written beside its place and renamed when it is whole, so that no reader ever sees half of one.
"""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras  # ADDED
import numpy as np

from keras_deeplab._helpers.ending import remove_at_end
from keras_deeplab._helpers.files import in_a_folder, new_folder, replacing
from keras_deeplab.specs.model import SegmentationModel, add_network

# type of the items -> PyTorch's class of storage, safetensors' name
_TYPES = {
    "float64": ("DoubleStorage", "F64"),
    "float32": ("FloatStorage", "F32"),
    "float16": ("HalfStorage", "F16"),
    "int64": ("LongStorage", "I64"),
    "int32": ("IntStorage", "I32"),
    "uint8": ("ByteStorage", "U8"),
}
_ALIGNMENT = 64  # bytes; what torch.load(mmap=True) maps has to begin at a multiple


def save_keras(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model as a `.keras` file, or as a `.weights.h5` file: Keras's own, with the network beside the weights.

    `load` makes the model of either; to Keras the second is a file of weights like any other.
    """
    suffix = suffix_of_keras(path)
    with replacing(path) as temporary:
        if suffix == ".keras":
            model.save(temporary)
        else:
            model.save_weights(temporary)
            if not isinstance(model, SegmentationModel):  # which does it itself
                add_network(temporary, model)


def suffix_of_keras(path: str | os.PathLike[str]) -> Any:
    """`".keras"` or `".weights.h5"`; ValueError for the path of any other file."""
    for suffix in (".keras", ".weights.h5"):
        if os.fspath(path).endswith(suffix):
            return suffix
    raise ValueError(f"Keras's files end in .keras or .weights.h5; received {os.fspath(path)!r}.")


# PyTorch ----------------------------------------------------------------------------------------------------


def write_torch(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], wrapper: Any = None) -> None:
    """`{name: array}` to the file that `torch.save` writes of such an `OrderedDict` of tensors.

    Args:
        path: the file.
        arrays: names to NumPy arrays. An array that stands under two names is stored once, as PyTorch does.
        wrapper: None, or the key of a dict around the tensors.
    """
    storages: dict[int, tuple[str, np.ndarray]] = {}
    entries = []
    for name, array in arrays.items():
        kind = _type(name, array)[0]
        key = storages.setdefault(id(array), (str(len(storages)), array))[0]
        entries.append(_text(name) + _tensor(key, kind, array.shape))
    content = _ORDERED_DICT + b"(" + b"".join(entries) + b"u"
    if wrapper is not None:
        content = b"}(" + _text(wrapper) + content + b"u"
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _store(archive, "data.pkl", b"\x80\x02" + content + b".")
        _store(archive, "byteorder", b"little")
        for key, array in storages.values():
            _store(archive, f"data/{key}", _bytes(array))
        _store(archive, "version", b"3\n")


def _store(archive, name, content):
    """Puts an entry into the archive, uncompressed; its bytes begin at a multiple of the alignment."""
    entry = zipfile.ZipInfo(f"archive/{name}")  # of a date of its own: equal weights make equal files
    begin = archive.fp.tell() + 30 + len(entry.filename) + 4
    padding = -begin % _ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(entry, content)


def _tensor(key, kind, shape):
    """The pickle opcodes of a contiguous tensor that fills the storage of this key."""
    count = int(np.prod(shape))
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    storage = _tuple(_text("storage"), _global("torch", kind), _text(key), _text("cpu"), _number(count)) + b"Q"
    size = _tuple(*map(_number, shape))
    stride = _tuple(*map(_number, strides))
    rebuild = _global("torch._utils", "_rebuild_tensor_v2")
    return rebuild + _tuple(storage, _number(0), size, stride, b"\x89", _ORDERED_DICT) + b"R"


def _global(module, name):
    return f"c{module}\n{name}\n".encode()


def _tuple(*parts):
    return b"(" + b"".join(parts) + b"t"


def _text(text):
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value):
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


_ORDERED_DICT = _global("collections", "OrderedDict") + b")R"


def write_pickle(path: str | os.PathLike[str], arrays: Any) -> None:
    """`{name: array}` to a plain pickle of such a dict, as `paddle.save` writes the state of a layer."""
    with replacing(path) as temporary:
        Path(temporary).write_bytes(pickle.dumps(dict(arrays), protocol=4))


# Safetensors ------------------------------------------------------------------------------------------------


def write_safetensors(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """`{name: array}` to a `.safetensors` file."""
    header: dict[str, dict[str, Any]] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _type(name, array)[1], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin aligned
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(_bytes(array))


def write_hub_folder(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], configs: Mapping[str, Any]
) -> None:
    """`{name: array}` and `{file name: JSON}` to a new folder as hubs have it, whole or not at all."""
    with new_folder(path) as temporary:
        write_safetensors(temporary / "model.safetensors", arrays)
        for name, config in configs.items():
            (temporary / name).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _type(name, array):
    if array.dtype.name not in _TYPES:
        raise ValueError(f"{name!r} has the type {array.dtype}; those that are written: {', '.join(_TYPES)}.")
    return _TYPES[array.dtype.name]


def _bytes(array):
    """The items in C order, little end first."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


# TensorFlow 1 -----------------------------------------------------------------------------------------------


def write_tf1(prefix: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """`{name: array}` to a checkpoint of the V2 format, which is two files that begin with `prefix`."""
    import tensorflow as tf

    prefix = in_a_folder(prefix)
    temporary = prefix.with_name(f".{os.getpid()}.{prefix.name}")
    endings = (".data-00000-of-00001", ".index")
    for ending in endings:
        remove_at_end(Path(f"{temporary}{ending}"))
    names = list(arrays)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(temporary),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[arrays[name] for name in names],
        )
        _replace_both(*((f"{temporary}{ending}", Path(f"{prefix}{ending}")) for ending in endings))
    except tf.errors.OpError as error:
        raise ValueError(f"The checkpoint {os.fspath(prefix)!r} can't be written: {error.message}") from error
    finally:
        for ending in endings:
            Path(f"{temporary}{ending}").unlink(missing_ok=True)


def _replace_both(data, index):
    """Puts (new, old) data and index in place. Meanwhile there is no checkpoint, but never an index of other data."""
    before = index[1].read_bytes() if index[1].exists() else None
    index[1].unlink(missing_ok=True)
    try:
        os.replace(*data)
    except OSError:
        if before is not None:
            index[1].write_bytes(before)
        raise
    os.replace(*index)
