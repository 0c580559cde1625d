"""PyTorch's files without PyTorch: `torch.save` as a zip archive (since 1.6) and in the format before."""

import io
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_deeplab.weights.readers.common import Budget, contents, itemsize, reading, values
from keras_deeplab.weights.readers.pickles import Global, Pickle, sizes

MAGIC = 0x1950A86A20F9469CFC6C  # what the format before 1.6 begins with, pickled
_PROTOCOL = 1001
_WHAT = "a PyTorch checkpoint"

# class of the storage -> type of its items
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
# torch.dtype, as a name in pickles -> type of the items
_DTYPES = {
    **{name: name for name in dict.fromkeys(_STORAGES.values())},
    **{name: name for name in ("uint16", "uint32", "uint64")},
}
# where training scripts keep the weights, the plain ones before their moving averages
_PLACES = (
    *("model_state", "state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),
)
_AVERAGED = "n_averaged"  # an averaged model's count of steps


def read(path: str | os.PathLike[str]) -> Any:
    """A `.pth` or `.pt` file to the state dict in it, `{name: array}`, whatever it is wrapped in.

    Arrays are read-only and share memory where the tensors did; bfloat16 becomes float32, all else keeps its type.
    Nothing the file asks for is imported or called.

    Args:
        path: a file of `torch.save`: a state dict, or a checkpoint that holds one.

    Returns:
        `dict`, without what `DataParallel` puts before the names (`module.`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its pickle asks for anything but plain values and arrays (the message names it), holds no state
            dict or several, or the file is damaged.
    """
    return read_with_notes(path)[0]


def read_with_notes(path: str | os.PathLike[str]) -> Any:
    """(state dict, notes) of a `.pth` or `.pt` file: as `read`, and what `notes_in` finds beside it."""
    value = read_object(path)
    with reading(path, _WHAT):
        return tensors_in(value), notes_in(value)


def notes_in(value: Any) -> Any:
    """`{key: what it says}` of what a training script saved beside the tensors, such as `meta` or `hyper_parameters`.

    Args:
        value: what was saved.

    >>> notes_in({"meta": {"CLASSES": ("sky", "road")}, "state_dict": {"bias": np.zeros(2)}, "epoch": 3})
    {'meta': {'CLASSES': ('sky', 'road')}}
    """
    if not isinstance(value, dict) or _has_tensors(value):
        return {}
    return {
        key: item
        for key, item in value.items()
        if isinstance(item, dict) and item and key not in _PLACES and not _has_tensors(item)
    }


def read_object(path: str | os.PathLike[str]) -> Any:
    """A `.pth` or `.pt` file to what was saved: dicts, lists, tuples, numbers, text and arrays for tensors.

    Args and Raises as for `read`.
    """
    data = contents(path)
    with reading(path, _WHAT):
        return _read_zip(data) if data[:2] == b"PK" else _read_legacy(data)


def tensors_in(value: Any) -> Any:
    """The state dict in what a training script saved.

    Args:
        value: a mapping of names to arrays, or a mapping that has one: under one of the usual keys (`model_state`,
            `state_dict`, `model`, ...), or as the only one there is.

    Returns:
        `{name: array}`; a prefix that all names have from a wrapper (`module.`, `_orig_mod.`) is taken off. Of several
        mappings of one network, such as its weights and their moving averages, all are returned, their keys before the
        names.

    Raises:
        ValueError: there is none, or it isn't clear which; the message lists what there is.

    >>> tensors_in({"epoch": 3, "model_state": {"module.conv1.bias": np.zeros(2)}})
    {'conv1.bias': array([0., 0.])}
    """
    for _ in range(3):  # checkpoints nest: {"model": {"state_dict": {...}}}
        if _has_tensors(value):
            return without_wrappers({name: array for name, array in value.items() if name != _AVERAGED})
        if not isinstance(value, dict):
            break
        inner = {key: item for key, item in value.items() if isinstance(item, dict) and item}
        usual = [key for key in _PLACES if key in inner]
        direct = [key for key in inner if _has_tensors(inner[key])]
        choice = [key for key in usual if key in direct][:1] or (direct if len(direct) == 1 else usual[:1])
        if not choice:
            break
        others = alike(inner, choice[0])
        if choice[0] in direct and others:
            several = {key: without_wrappers(inner[key]) for key in (choice[0], *others) if key in direct}
            return {f"{key}.{name}": array for key, found in several.items() for name, array in found.items()}
        value = inner[choice[0]]
    raise ValueError(
        f"it holds {_list(value)}: no mapping of names to tensors, or no telling which. Give load() the right one, or "
        "save it alone: torch.save(model.state_dict(), path)."
    )


def _has_tensors(value):
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, np.ndarray) for key, item in value.items())
    )


def alike(mapping: Any, key: Any) -> Any:
    """The keys of other mappings that hold most of the names in `mapping[key]`: of another copy of that network.

    >>> alike({"state_dict": {"conv.weight": 1}, "ema": {"module.conv.weight": 2}, "optimizer": {}}, "state_dict")
    ['ema']
    """
    names = set(without_wrappers(mapping[key]))
    others = {other: value for other, value in mapping.items() if other != key and isinstance(value, Mapping)}
    return [
        other for other, value in others.items() if 2 * len(names & set(map(str, without_wrappers(value)))) > len(names)
    ]


def without_wrappers(arrays: Any) -> Any:
    """`{name: array}` without what `DataParallel` and `torch.compile` put before all names."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if arrays and all(str(name).startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _list(value):
    if not isinstance(value, dict):
        return f"a {type(value).__name__}" + (f" of shape {value.shape}" if isinstance(value, np.ndarray) else "")
    rows = [
        f"{str(key)[:60]!r} ({type(item).__name__}" + (f" of {len(item)})" if isinstance(item, (dict, list)) else ")")
        for key, item in list(value.items())[:12]
    ]
    return ", ".join(rows + ["..."] * (len(value) > 12)) or "an empty dict"


# The two containers ----------------------------------------------------------------------------------------------


def _read_zip(data):
    entries = _entries(data)
    pickles = [name for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise ValueError(f"as a zip archive it has {len(pickles)} pickles (.../data.pkl), one is needed")
    folder = pickles[0].removesuffix("data.pkl")
    byteorder = bytes(entries.get(f"{folder}byteorder", b"little")).decode()
    order = {"little": "<", "big": ">"}[byteorder]
    storages, budget = {}, Budget.of(len(data))

    def persistent(identity):
        key, dtype, count = _storage(identity)[:3]
        if key not in storages:
            if f"{folder}data/{key}" not in entries:
                raise ValueError(f"it lacks the data of storage {key!r}")
            storages[key] = _Storage(entries[f"{folder}data/{key}"], dtype, count, order, budget)
        if storages[key].dtype != dtype:
            raise ValueError(f"storage {key!r} is both {storages[key].dtype} and {dtype}")
        return storages[key]

    return Pickle(bytes(entries[pickles[0]]), _NAMES, persistent).load()


def _entries(data):
    """`{name: bytes}` of a zip archive that is stored as PyTorch stores it: nothing compressed, nothing shared."""
    entries, size = {}, 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        listed = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in listed):
        raise ValueError("it is a TorchScript program. Save its weights: torch.save(module.state_dict(), path).")
    checked = any(entry.CRC for entry in listed)  # torch.serialization.set_crc32_options(False) leaves them out
    view = memoryview(data)
    for entry in listed:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"the entry {entry.filename!r} is compressed or encrypted; PyTorch stores entries plainly")
        if entry.filename in entries:
            raise ValueError(f"the entry {entry.filename!r} is there twice")
        size += entry.file_size
        if size > len(data):
            raise ValueError("its entries are larger than the file")
        header = view[entry.header_offset : entry.header_offset + 30]
        if header[:4] != b"PK\x03\x04":
            raise ValueError(f"the entry {entry.filename!r} is not where the directory says")
        begin = entry.header_offset + 30 + sum(np.frombuffer(header[26:30], "<u2").tolist())
        content = view[begin : begin + entry.file_size]
        if len(content) != entry.file_size or (checked and zlib.crc32(content) != entry.CRC):
            raise ValueError(f"the entry {entry.filename!r} is cut off or damaged")
        entries[entry.filename] = content
    return entries


def _read_legacy(data):
    head = Pickle(data)
    if head.load() != MAGIC:
        raise ValueError("it is a pickle that torch.save did not write")
    protocol, system = head.load(), head.load()
    if protocol != _PROTOCOL:
        raise ValueError(f"its format is {protocol!r:.20}, only {_PROTOCOL} is known")
    order = "<" if system["little_endian"] is True else ">"

    # The pickle comes before its storages: read it once to learn what they are, and once more with them.
    declared = {}

    def declare(identity):
        key, dtype, count, _ = _storage(identity)
        if declared.setdefault(key, (dtype, count)) != (dtype, count):
            raise ValueError(f"storage {key!r} is declared in two ways")

    storages, budget = {}, Budget.of(len(data))

    def persistent(identity):
        key, _, _, view = _storage(identity)
        return storages[key] if view is None else storages[key].part(*view)

    first = Pickle(data, {**_NAMES, **_IDLE}, declare, head.offset)
    first.load()
    keys = Pickle(data, offset=first.offset)
    listed = keys.load()
    if type(listed) is not list or sorted(map(str, listed)) != sorted(declared):
        raise ValueError("its list of storages is not the one its pickle needs")
    position = keys.offset
    for key in listed:
        dtype, count = declared[key]
        stored = int.from_bytes(data[position : position + 8], "little" if order == "<" else "big", signed=True)
        begin, end = position + 8, position + 8 + count * itemsize(dtype)
        if stored != count or end > len(data):
            raise ValueError(f"storage {key!r} is cut off: {count} values are declared")
        storages[key] = _Storage(memoryview(data)[begin:end], dtype, count, order, budget)
        position = end
    return Pickle(data, _NAMES, persistent, head.offset).load()


# Storages and tensors --------------------------------------------------------------------------------------------


def _storage(identity):
    """(key, type of the items, their number, view or None) of what a pickle says of a storage."""
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise ValueError("its pickle points to something else than a storage")
    _, kind, key, _, count, *view = identity
    dtype = _CLASSES.get(getattr(kind, "name", None))
    if dtype is None or type(key) is not str or type(count) is not int or count < 0:
        raise ValueError(f"its pickle has a storage {str(key)[:40]!r} of an unknown kind")
    view = view[0] if view else None
    if view is not None:
        _, begin, length = view
        view = sizes((begin, length))
    return key, dtype, count, view


class _Storage:
    """Values in one row, which tensors are views of; they are converted once, when the first tensor needs them."""

    def __init__(self, raw, dtype, count, order, budget):
        if count * itemsize(dtype) != len(raw):
            raise ValueError(f"a storage of {count} values of type {dtype} has {len(raw)} bytes")
        self.raw, self.dtype, self.order, self.budget, self._cast = raw, dtype, order, budget, {}

    def part(self, begin, length):
        size = itemsize(self.dtype)
        raw = self.raw[begin * size : (begin + length) * size]
        return _Storage(raw, self.dtype, length, self.order, self.budget)

    def values(self, dtype):
        if dtype not in self._cast:
            if self._cast:
                raise ValueError("a storage is taken for two types")
            self.budget.spend(2 * len(self.raw))
            self._cast[dtype] = values(self.raw, dtype, self.order)
        return self._cast[dtype]


def _tensor(storage, offset, size, stride, *_):
    return _view(storage, storage.dtype, offset, size, stride)


def _typed_tensor(storage, offset, size, stride, requires_grad, hooks, dtype, *_):
    return _view(storage, _DTYPES[dtype.name.removeprefix("torch.")], offset, size, stride)


def _view(storage, dtype, offset, size, stride):
    row = storage.values(dtype)
    size, stride, (offset,) = sizes(size), sizes(stride), sizes((offset,))
    if len(size) != len(stride) or len(size) > 32:
        raise ValueError(f"a tensor has {len(size)} axes and {len(stride)} strides")
    count, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        count *= length
        last += (length - 1) * step
    # Fewer values than that would be taken more than once: a stride of 0 makes gigabytes of one number.
    if count > len(row) or (count and last >= len(row)):
        raise ValueError(f"a tensor of shape {size} and strides {stride} doesn't fit its storage of {len(row)} values")
    if not count:
        return np.empty(size, row.dtype)
    steps = [step * row.itemsize if length > 1 else 0 for length, step in zip(size, stride, strict=True)]
    return np.ndarray(size, row.dtype, row, offset * row.itemsize, steps)


def _parameter(data, *_):
    if not isinstance(data, np.ndarray):
        raise ValueError("a parameter is no tensor")
    return data


_CLASSES = {f"torch.{name}": dtype for name, dtype in _STORAGES.items()} | {"torch.storage.UntypedStorage": "uint8"}
_BUILDERS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": sizes,
    "torch.device": lambda kind, *_: kind,
}


def _named(table):
    return {" ".join(name.rsplit(".", 1)): Global(name, call) for name, call in table.items()}


_NAMES = _named({**dict.fromkeys(_CLASSES), **{f"torch.{name}": None for name in _DTYPES}, **_BUILDERS})
# the same while the storages are not there yet
_IDLE = _named(dict.fromkeys(_BUILDERS, lambda *_: None))
