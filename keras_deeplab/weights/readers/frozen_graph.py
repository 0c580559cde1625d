"""Frozen TensorFlow 1 graphs (`frozen_inference_graph.pb`): the constants that the variables became."""

import os
import re
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.weights.readers.common import Budget, contents, itemsize, reading, values

# TensorProto.dtype -> (type, field that lists values, how a value stands there). Source: types.proto, tensor.proto.
DTYPES = {
    1: ("float32", 5, "<f4"),
    2: ("float64", 6, "<f8"),
    3: ("int32", 7, "varint"),
    4: ("uint8", 7, "varint"),
    5: ("int16", 7, "varint"),
    6: ("int8", 7, "varint"),
    9: ("int64", 10, "varint"),
    10: ("bool", 11, "varint"),
    14: ("bfloat16", 13, "varint"),
    17: ("uint16", 7, "varint"),
    19: ("float16", 13, "varint"),
    22: ("uint32", 16, "varint"),
    23: ("uint64", 17, "varint"),
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# What freezing, and folding constants after it, leaves of the read of a variable.
_READ = re.compile(r"/read(/_\d+__cf__\d+)?$|/ReadVariableOp(/resource)?$")


def read(path: str | os.PathLike[str]) -> Any:
    """A frozen graph to `{variable name: array}`, the names without what reading a variable adds (`/read`).

    Only constants that were variables are returned, so no paddings, axes or sizes; where nothing tells them apart, as
    in a graph that was optimised after freezing, all constants are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no serialised GraphDef, is damaged, or holds no constants.
    """
    data = contents(path)
    with reading(path, "a frozen TensorFlow graph"):
        return parse(data)


def parse(data: bytes) -> Any:
    """The bytes of a GraphDef to `{variable name: array}`; ValueError where they aren't one."""
    budget, constants, variables = Budget.of(len(data)), {}, set()
    fields = Fields()
    for number, node in fields(memoryview(data)):
        if number != 1:
            continue
        name, operation, inputs, tensor = _node(message(node), fields)
        if operation == "Identity" and len(inputs) == 1 and _READ.sub("", name) != name:
            variables.add(inputs[0].removeprefix("^").removesuffix(":0"))
        if operation == "Const" and tensor is not None:
            if name in constants:
                raise ValueError(f"it has two nodes {name!r}")
            constants[name] = tensor
        if _READ.search(name):
            variables.add(name)
    named = [name for name in constants if name in variables] or list(constants)
    arrays = {}
    for name in named:
        array = _array(constants[name], name, fields, budget)
        short = _READ.sub("", name)
        if short in arrays:
            raise ValueError(f"it has two constants for {short!r}")
        if array is not None:
            arrays[short] = array
    if not arrays:
        raise ValueError("it holds no constants. (A saved_model.pb has its weights in variables/ beside it.)")
    return arrays


def begins_a_graph(data: Any) -> bool:
    """Whether `data`, the first bytes of a file, begin a GraphDef: a node with a name and an operation."""
    found = re.match(rb"\n[\x80-\xff]{0,4}[\x01-\x7f]\n", data)
    if not found:
        return False
    name = data[found.end() + 1 : found.end() + 1 + data[found.end()]] if len(data) > found.end() else b""
    operation = data[found.end() + 1 + len(name) :]
    return bool(re.fullmatch(rb"[\w./>-]+", name)) and operation[:1] == b"\x12"


# Protocol buffers ------------------------------------------------------------------------------------------------


def varint(data: Any, position: int) -> Any:
    """(value, position after it) of a number in 7-bit groups."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number takes more than 10 bytes")


class Fields:
    """Called with a message, yields (field number, value): an int, or a memoryview for all that isn't a varint."""

    def __init__(self) -> None:
        self.steps = Budget(limits.GRAPH_FIELDS, "fields")

    def __call__(self, data: Any) -> Any:
        position = 0
        while position < len(data):
            self.steps.spend(1)
            tag, position = varint(data, position)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, position = varint(data, position)
            else:
                if kind == _BYTES:
                    size, position = varint(data, position)
                else:
                    size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
                if size is None or number == 0 or size > len(data) - position:
                    raise ValueError(f"it is cut off or damaged (field {number})")
                value = data[position : position + size]
                position += size
            yield number, value


def message(value: Any) -> Any:
    if not isinstance(value, memoryview):
        raise ValueError("it has a number where a message belongs")
    return value


def _text(value):
    return bytes(message(value)).decode()


def _node(data, fields):
    """(name, operation, inputs, tensor in the attribute "value" or None) of a NodeDef."""
    name, operation, inputs, tensor = "", "", [], None
    for number, value in fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            operation = _text(value)
        elif number == 3:
            inputs.append(_text(value))
        elif number == 5:
            entry = dict(fields(message(value)))
            if entry.get(1) == b"value" and 2 in entry:
                tensor = dict(fields(message(entry[2]))).get(8, tensor)
    return name, operation, inputs, tensor


def _array(tensor, name, fields, budget):
    """The array of a TensorProto; None for text."""
    kind, shape, content, rows = 0, [], b"", {}
    for number, value in fields(message(tensor)):
        if number == 1:
            kind = value
        elif number == 2:
            shape = [_size(dim, fields) for field, dim in fields(message(value)) if field == 2]
        elif number == 4:
            content = message(value)
        else:
            rows.setdefault(number, []).append(value)
    if kind not in DTYPES:
        return None
    dtype, field, stored = DTYPES[kind]
    count = 1
    for size in shape:
        count *= size
    budget.spend(count * itemsize(dtype))
    if len(content):
        items = values(content, dtype)
    elif stored == "varint":
        items = _varints(rows.get(field, []), dtype, fields)
    else:
        items = values(b"".join(message(row) for row in rows.get(field, [])), dtype)
    if not count:
        return np.empty(shape, items.dtype)
    if 0 < len(items) < count and not len(content):
        # The last value listed stands for all that follow.
        items = np.concatenate([items, np.broadcast_to(items[-1], count - len(items))])
    elif not len(items) and not len(content):
        items = np.zeros(count, items.dtype)
    if len(items) != count:
        raise ValueError(f"{name!r} has shape {shape} and {len(items)} values")
    return items.reshape(shape)


def _size(dim, fields):
    size = dict(fields(message(dim))).get(1, 0)
    if not isinstance(size, int) or size >= 1 << 63:
        raise ValueError("a constant has an unknown size")
    return size


def _varints(rows, dtype, fields):
    numbers = []
    for row in rows:  # one number each, or many packed into bytes
        position = 0
        if isinstance(row, int):
            numbers.append(row)
            continue
        while position < len(row):
            fields.steps.spend(1)
            number, position = varint(row, position)
            numbers.append(number)
    if dtype in ("float16", "bfloat16"):
        return values(np.asarray(numbers, "<u2").tobytes(), dtype)
    # Negative numbers stand as if they had 64 bits.
    return np.asarray([number & (1 << 64) - 1 for number in numbers], "<u8").astype(dtype)
