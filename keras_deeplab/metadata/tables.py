"""Tables in the FlatBuffers format by the numbers of their fields, without generated classes: written and read."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

# (slot, kind, value); kinds are those that `_table` knows.
Fields = Sequence[tuple[int, str, Any]]
_SCALARS = {"int8": "Int8", "uint8": "Uint8", "int32": "Int32", "uint32": "Uint32"}


def packed(fields: Fields, identifier: bytes) -> bytes:
    """A table of (slot, kind, value) to a whole buffer with an identifier of four bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, fields), identifier)
    return bytes(builder.Output())


def _table(builder, fields):
    """Writes a table of (slot, kind, value) and returns where it lies; what it points to comes before it."""
    placed = []
    for slot, kind, value in fields:
        if kind == "string":
            placed.append((slot, kind, builder.CreateString(value)))
        elif kind == "table":
            placed.append((slot, kind, _table(builder, value)))
        elif kind == "tables":
            if not value:
                continue
            offsets = [_table(builder, entry) for entry in value]
            builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                builder.PrependUOffsetTRelative(offset)
            placed.append((slot, kind, builder.EndVector()))
        elif kind == "floats":
            placed.append((slot, kind, builder.CreateNumpyVector(np.asarray(value, np.float32))))
        elif kind == "buffer":
            # A buffer inside a buffer lies where its own tables are aligned.
            builder.StartVector(1, len(value), 16)
            builder.head -= len(value)
            builder.Bytes[builder.head : builder.head + len(value)] = value
            placed.append((slot, kind, builder.EndVector()))
        else:
            placed.append((slot, kind, value))
    builder.StartObject(max((slot for slot, _, _ in fields), default=-1) + 1)
    for slot, kind, value in placed:
        if kind in _SCALARS:
            getattr(builder, f"Prepend{_SCALARS[kind]}Slot")(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


class Table:
    """A table of a buffer, whose fields have numbers; an absent field has its default.

    Args:
        data: the buffer.
        position: where the table lies; None for the root.

    Raises:
        ValueError: from any access, where the buffer ends before or the table isn't one.
    """

    def __init__(self, data: bytes, position: int | None = None) -> None:
        self._data = data
        self._position = self._offset(0) if position is None else position
        self._fields = self._position - self._number(self._position, "i")
        self._size = self._number(self._fields, "H")

    def _number(self, position: int, code: str) -> int:
        try:
            return struct.unpack_from(f"<{code}", self._data, max(position, 0))[0]
        except struct.error as error:
            raise ValueError(f"a table points to byte {position} of {len(self._data)}") from error

    def _offset(self, position: int) -> int:
        return position + self._number(position, "I")

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        offset = self._number(self._fields + entry, "H") if entry + 2 <= self._size else 0
        return self._position + offset if offset else None

    def number(self, field: int, code: str, default: int = 0) -> int:
        """A number, by its code of `struct`."""
        place = self._place(field)
        return default if place is None else self._number(place, code)

    def _vector(self, field: int) -> tuple[int, int]:
        """(place of the first item, their number) of a vector."""
        place = self._place(field)
        if place is None:
            return 0, 0
        place = self._offset(place)
        count = self._number(place, "I")
        if count > len(self._data) - place:
            raise ValueError(f"a table has {count} values in a buffer of {len(self._data)} bytes")
        return place + 4, count

    def bytes(self, field: int) -> bytes:
        place, count = self._vector(field)
        return bytes(self._data[place : place + count])

    def text(self, field: int) -> str:
        return self.bytes(field).decode()

    def tables(self, field: int) -> list["Table"]:
        place, count = self._vector(field)
        return [Table(self._data, self._offset(place + 4 * index)) for index in range(count)]
