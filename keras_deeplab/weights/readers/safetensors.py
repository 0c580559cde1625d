"""Safetensors: 8 bytes of length, a header in JSON, the arrays' bytes one after the other.

The package safetensors is as strict about offsets and sizes (the tests compare the two), but its NumPy side has no
bfloat16, copies every array where these are views of the file's bytes, and takes a name that stands there twice.
"""

import json
import os
from typing import Any

from keras_deeplab.weights.readers.common import contents, reading, shaped

# name in the header -> type
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}


def read(path: str | os.PathLike[str]) -> Any:
    """A `.safetensors` file to `{name: array}`; arrays are read-only, bfloat16 becomes float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the header is damaged, or the arrays overlap, leave gaps or go beyond the file.
    """
    data = contents(path)
    with reading(path, "a safetensors file"):
        return parse(data)


def header_length(data: Any) -> int:
    """Length of the header of a file that begins with `data`: what the first 8 bytes say."""
    return int.from_bytes(data[:8], "little")


def parse(data: Any) -> Any:
    """The bytes of a safetensors file to `{name: array}`; ValueError where they aren't one.

    >>> header = b'{"bias": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    >>> parse(len(header).to_bytes(8, "little") + header + bytes(8))
    {'bias': array([0., 0.], dtype=float32)}
    """
    length = header_length(data)
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError(f"its header takes {length} bytes, the file has {len(data)}")
    header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    body = memoryview(data)[8 + length :]
    arrays, places = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
            raise ValueError(f"{name!r} lacks a dtype, shape or data_offsets")
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name!r} has dtype {entry['dtype']!r:.40}; can be read: {', '.join(DTYPES)}")
        begin, end = _whole(name, entry["data_offsets"])
        if begin > end or end > len(body):
            raise ValueError(f"{name!r} takes bytes {begin} to {end} of {len(body)}")
        places.append((begin, end, name))
        try:
            arrays[name] = shaped(body[begin:end], DTYPES[entry["dtype"]], _whole(name, entry["shape"]))
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from error
    position = 0
    for begin, end, name in sorted(places):
        if begin != position:
            raise ValueError(f"{name!r} begins at byte {begin}, the array before ends at {position}")
        position = end
    if position != len(body):
        raise ValueError(f"its arrays end at byte {position} of {len(body)}")
    return arrays


def _once(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"its header has the name {max(names, key=names.count)!r} twice")
    return dict(pairs)


def _whole(name, numbers):
    if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{name!r} has {str(numbers)[:60]} for sizes or offsets")
    return numbers
