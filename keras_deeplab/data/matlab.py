"""MATLAB's files of version 5 (.mat) to arrays, structs and cells, as some data sets' masks come.

Sparse matrices, objects and functions are passed over.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits

_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
# By the numbers of "MAT-File Format", tables 1-1 (how data are stored) and 1-3 (what an array's numbers are).
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
    18: "u4",
}
_NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_mat(data: bytes) -> dict[str, Any]:
    """Map the bytes of a .mat file to its variables under their names.

    Numbers become arrays, texts strings, a struct a dict of its fields, an array of structs a list of them, a cell
    array a list; what is passed over None.

    Raises:
        ValueError: it is no such file, or a damaged one; the message begins with "is" or "can't".
    """
    if b"MATLAB 7.3" in data[:20]:
        raise ValueError("is a MATLAB 7.3 file, which is not read: save it with -v6 or -v7")
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI"):
        raise ValueError("is no MATLAB file of version 5, or cut short")
    order = "<" if data[126:128] == b"IM" else ">"
    try:
        return dict(_variables(memoryview(data)[128:], order))
    except (struct.error, zlib.error, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ValueError(f"can't be decoded as a MATLAB file, it is cut short or damaged ({error})") from error


def _variables(data: memoryview, order: str) -> Iterator[tuple[str, Any]]:
    for kind, contents in _elements(data, order):
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj()
            plain = unpacked.decompress(contents, limits.MATLAB_BYTES)
            if not unpacked.eof:
                raise ValueError(f"a variable ends too early or has more than {limits.MATLAB_BYTES} bytes")
            yield from _variables(memoryview(plain), order)
        elif kind == _MATRIX:
            yield _matrix(contents, order)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The kind and the contents of each element."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # a small one: both in four bytes, the contents in the next four
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            place += 8
        else:
            place = start + size if kind == _COMPRESSED else start + (size + 7) // 8 * 8
        if start + size > len(data):
            raise ValueError(f"an element of {size} bytes at {start} of {len(data)}")
        yield kind, data[start : start + size]


def _matrix(data: memoryview, order: str) -> tuple[str, Any]:
    """An array's name and its value."""
    parts = _elements(data, order)
    if not len(data):  # an empty cell
        return "", None
    kind = _numbers(next(parts), order)[0] & 0xFF
    shape = tuple(_numbers(next(parts), order).tolist())
    name = bytes(next(parts)[1]).decode("ascii", "replace")
    if kind in _NUMERIC:
        return name, _numbers(next(parts), order).astype(_NUMERIC[kind]).reshape(shape, order="F")
    if kind == _CHAR:
        return name, "".join(map(chr, _numbers(next(parts), order)))
    if kind == _CELL:
        return name, [_matrix(contents, order)[1] for _, contents in parts]
    if kind == _STRUCT:
        width = int(_numbers(next(parts), order)[0])
        packed = bytes(next(parts)[1])
        fields = [packed[at : at + width].split(b"\0")[0].decode() for at in range(0, len(packed), width)]
        values = [_matrix(contents, order)[1] for _, contents in parts]
        rows = [dict(zip(fields, values[at:], strict=False)) for at in range(0, len(values), len(fields) or 1)]
        return name, rows[0] if len(rows) == 1 else rows
    return name, None


def _numbers(element: tuple[int, memoryview], order: str) -> np.ndarray:
    kind, contents = element
    return np.frombuffer(contents, order + _STORED[kind])
