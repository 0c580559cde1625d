"""What the readers share: a file's bytes, arrays over them, a bound on what may come of them, errors with the name."""

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import open_regular


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Within it, whatever goes wrong is a ValueError that names the file and says it is no proper `what`."""
    try:
        yield
    except Exception as error:
        # A damaged file makes parsers, Python's own included, raise nearly anything.
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{os.fspath(path)!r} can't be read as {what}: {told[:2000]}") from error


def contents(path: str | os.PathLike[str], size: Any = -1) -> Any:
    """The bytes of a file, or its first `size`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is a folder, a pipe, or can't be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(size)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.") from None
    except OSError as error:
        raise ValueError(f"{os.fspath(path)!r} can't be read: {error.strerror or error}.") from error


class Budget:
    """Counts bytes (or steps) and refuses what goes beyond a limit.

    >>> Budget(3, "bytes").spend(4)
    Traceback (most recent call last):
    ...
    ValueError: it asks for more than 3 bytes, far more than weights need
    """

    def __init__(self, limit: int, unit: str = "bytes of arrays") -> None:
        self.limit, self.left, self.unit = limit, limit, unit

    @classmethod
    def of(cls, size: int) -> Any:
        """The budget for the arrays of a file of `size` bytes."""
        return cls(limits.EXPANSION * size + limits.SMALL)

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise ValueError(f"it asks for more than {self.limit:,} {self.unit}, far more than weights need")


def values(raw: Any, dtype: Any, order: Any = "<") -> np.ndarray:
    """Bytes to a read-only array of one axis in the machine's own byte order.

    Args:
        raw: bytes or a memoryview, a whole number of items.
        dtype: a NumPy name, or `"bfloat16"`, which becomes float32.
        order: `"<"` or `">"`, how the bytes are ordered.

    >>> values(bytes([0x80, 0x3F, 0x20, 0xC0]), "bfloat16")
    array([ 1. , -2.5], dtype=float32)
    """
    if dtype == "bfloat16":
        array = (values(raw, "uint16", order).astype("uint32") << 16).view("float32")
    elif dtype == "bool":
        array = np.frombuffer(raw, "uint8") != 0
    else:
        stored = np.frombuffer(raw, np.dtype(dtype).newbyteorder(order))
        array = np.require(stored.view(dtype) if stored.dtype.isnative else stored.astype(dtype), requirements="A")
    array.flags.writeable = False
    return array


def shaped(raw: Any, dtype: Any, shape: Any, order: Any = "<") -> np.ndarray:
    """`values` in a shape that needs all of the bytes, not one more."""
    shape = tuple(shape)
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape} has a negative size")
    needed = math.prod(shape) * itemsize(dtype)
    if needed != len(raw):
        raise ValueError(f"shape {shape} of {dtype} takes {needed} bytes, there are {len(raw)}")
    return values(raw, dtype, order).reshape(shape)


def itemsize(dtype: Any) -> int:
    """Bytes an item takes in the file."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
