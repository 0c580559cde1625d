"""The index of a TensorFlow checkpoint of the V2 format, looked through before TensorFlow opens it.

TensorFlow ends the process over an index with an entry that it can't parse, and takes the memory for any shape that
one declares. What passes here it reads.

Layout: tensorflow/core/lib/io/table_format.txt (a table of rows, as LevelDB's) and tensor_bundle.proto (its values).
"""

import math
import os
import struct
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab.weights.readers.common import Budget, contents, itemsize
from keras_deeplab.weights.readers.frozen_graph import DTYPES, Fields, message, varint

MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
_TRAILER = 5  # bytes behind a block: how it is packed, and its checksum
_TEXT = 7  # TensorProto.dtype of text


def check(prefix: Any) -> Any:
    """Raises ValueError unless each tensor of `prefix`.index has as many bytes as its shape needs, within its file."""
    data = memoryview(contents(f"{prefix}.index"))
    if len(data) < _FOOTER or data[-len(MAGIC) :] != MAGIC:
        raise ValueError("its index is cut off or damaged")
    position = len(data) - _FOOTER
    for _ in range(2):  # the place of what TensorFlow doesn't use
        _, position = varint(data, position)
    rows, fields = Budget(limits.BUNDLE_ROWS, "tensors"), Fields()
    sizes: dict[int, int] = {}
    seen: set[Any] = set()
    shards = 1
    for _, handle in _rows(_block(data, position), rows):
        for key, value in _rows(_block(handle, 0, data), rows):
            if key in seen:
                raise ValueError(f"its index has {key!r} twice")
            seen.add(key)
            if key:
                _entry(key, value, fields, f"{prefix}.data-{{:05d}}-of-{shards:05d}", sizes)
            else:
                shards = dict(fields(value)).get(1, 0)
                if not isinstance(shards, int) or not 0 < shards < 100_000:
                    raise ValueError("its index begins with another number of files than there can be")


def _block(handle, position, data=None):
    """The block that a handle points to; `data` is the file where the handle stands elsewhere."""
    data = handle if data is None else data
    begin, position = varint(handle, position)
    size, _ = varint(handle, position)
    if begin + size + _TRAILER > len(data) - _FOOTER:
        raise ValueError("its index points beyond its end")
    if data[begin + size]:
        raise ValueError("its index is compressed, as only TensorFlow before 1.2 wrote it")
    return data[begin : begin + size]


def _rows(block, budget):
    """(key, value) of a block's rows; a key begins as the one before did."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if restarts == 0 or end < 0:
        raise ValueError("its index is damaged")
    position, key = 0, b""
    while position < end:
        budget.spend(1)
        shared, position = varint(block, position)
        rest, position = varint(block, position)
        size, position = varint(block, position)
        if shared > len(key) or position + rest + size > end:
            raise ValueError("its index is damaged")
        key = key[:shared] + bytes(block[position : position + rest])
        position += rest + size
        yield key, block[position - size : position]


def _entry(key, value, fields, name, sizes):
    """Checks what the index says of one tensor."""
    numbers, shape = {}, []
    for number, item in fields(value):
        if number == 2:
            shape = [_size(dim, fields, key) for field, dim in _only(2, fields(message(item)), key)]
        elif number == 6 and len(message(item)) == 4:
            continue  # the checksum
        elif number in (1, 3, 4, 5) and isinstance(item, int):
            numbers[number] = item
        else:
            raise ValueError(f"its index has {key!r} in slices, or something unknown of it")
    kind, shard, begin, size = (numbers.get(number, 0) for number in (1, 3, 4, 5))
    if shard not in sizes:
        path = name.format(shard)
        if shard >= 100_000 or not os.path.isfile(path):
            raise ValueError(f"its file {os.path.basename(path)[:300]!r} is missing")
        sizes[shard] = os.path.getsize(path)
    if begin + size > sizes[shard]:
        raise ValueError(f"{key!r} takes bytes {begin} to {begin + size} of {sizes[shard]}: its data is cut off")
    if kind == _TEXT:
        return
    if kind not in DTYPES:
        raise ValueError(f"{key!r} has values of the unknown type {kind}")
    dtype = DTYPES[kind][0]
    if math.prod(shape) * itemsize(dtype) != size:
        raise ValueError(f"{key!r} has the shape {shape} of {dtype}, and {size} bytes")


def _only(field, found, key):
    for number, item in found:
        if number != field:
            raise ValueError(f"its index has an unknown shape for {key!r}")
        yield number, item


def _size(dim, fields, key):
    sizes = [item for _, item in _only(1, fields(message(dim)), key)]
    if len(sizes) > 1 or not all(isinstance(item, int) and item < 1 << 62 for item in sizes):
        raise ValueError(f"its index has an unknown shape for {key!r}")
    return sizes[0] if sizes else 0
