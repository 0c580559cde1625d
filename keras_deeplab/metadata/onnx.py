"""The record inside an ONNX file: the entry "keras_deeplab" of its metadata_props, JSON."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keras_deeplab._helpers import limits
from keras_deeplab.metadata import KEY, earlier_spec
from keras_deeplab.specs import FileSpec, parsed

# onnx.proto3: ModelProto.metadata_props, StringStringEntryProto's fields, and protocol buffers' wire types.
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


def spec_from(text: str | bytes | None, origin: str = "the ONNX file") -> FileSpec | None:
    """The entry "keras_deeplab" of an ONNX file's metadata to its record, None to None.

    Args:
        origin: the file, for messages.

    Raises:
        ValueError: it can't be understood.
    """
    if not text:
        return None
    if len(text) > limits.RECORD_BYTES:
        raise ValueError(
            f"{origin} has metadata of more than {limits.RECORD_BYTES >> 20} MB, which no record of a model takes"
        )
    values = parsed(text, origin)
    if isinstance(values, dict) and "model" not in values and values.keys() >= {"output", "upsampled", "resize"}:
        return earlier_spec(values, values.get("classes"), values.get("palette"), origin)
    return FileSpec.from_dict(values, origin)


def read_spec(path: str | os.PathLike[str]) -> FileSpec | None:
    """The path of an ONNX file to its record, None where it has none; the network in it is skipped, not read.

    For runtimes that don't hand metadata on, such as OpenVINO.

    Raises:
        ValueError: the record can't be understood, or the file is no ONNX file.
    """
    with Path(path).open("rb") as file:
        for entry in _entries(file, str(path)):
            fields = dict(_fields(entry, str(path)))
            if fields.get(_KEY) == KEY.encode():
                return spec_from(fields.get(_VALUE, b""), str(path))
    return None


def _entries(file: BinaryIO, origin: str) -> Iterator[bytes]:
    """The contents of the metadata_props of a ModelProto."""
    size = file.seek(0, 2)
    file.seek(0)
    while file.tell() < size:
        number, kind = divmod(_varint(file, origin), 8)
        if kind == _VARINT:
            _varint(file, origin)
            continue
        length = {_EIGHT: 8, _FOUR: 4}.get(kind)
        if length is None:
            length = _varint(file, origin) if kind == _LENGTH else size
        if length > size - file.tell():
            raise ValueError(f"{origin} is no ONNX file, or is cut short: a field of it ends behind the file")
        if number == _METADATA_PROPS and length <= limits.RECORD_BYTES:
            yield file.read(length)
        else:
            file.seek(length, 1)


def _fields(content: bytes, origin: str) -> Iterator[tuple[int, bytes]]:
    """The strings of a StringStringEntryProto."""
    file = io.BytesIO(content)
    while file.tell() < len(content):
        number, kind = divmod(_varint(file, origin), 8)
        if kind != _LENGTH:
            raise ValueError(f"{origin} has metadata that are no strings")
        yield number, file.read(_varint(file, origin))


def _varint(file: BinaryIO, origin: str) -> int:
    value = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise ValueError(f"{origin} is no ONNX file, or is cut short")
