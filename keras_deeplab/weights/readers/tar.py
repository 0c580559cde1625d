"""Tar archives, plain or compressed, unpacked within bounds."""

import bz2
import gzip
import lzma
import os
import tarfile
from collections.abc import Callable
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import open_regular
from keras_deeplab.weights.readers.common import Budget

# how a compressed file begins -> what opens it
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def unpack(path: str | os.PathLike[str], folder: str | os.PathLike[str], is_wanted: Callable[[str], bool]) -> Any:
    """The plain files in an archive of whose names `is_wanted` is true, into a folder; links are left out.

    The "data" filter keeps them inside the folder. No more is unpacked than `Budget.of` the archive's size.

    Raises:
        ValueError: it is no such archive, damaged, or asks for more than weights need.
    """
    try:
        with open_regular(path) as file:
            head = file.read(8)
            file.seek(0)
            opener: Any = next((each for begin, each in _OPENERS.items() if head.startswith(begin)), None)
            stream: Any = _Stream(file if opener is None else opener(file), Budget.of(os.path.getsize(path)))
            # "r:" is a plain archive; by "r:*" `tarfile` would look for what this one is, in its own way
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                members = []
                for member in archive:
                    stream.reach(stream.tell() + member.size)
                    if member.isfile() and is_wanted(member.name):
                        members.append(member)
                archive.extractall(folder, members, filter="data")
    except Exception as error:  # damaged headers make `tarfile`, and what decompresses, raise nearly anything
        told = f"{type(error).__name__}: " * (not isinstance(error, (ValueError, tarfile.TarError))) + str(error)
        raise ValueError(f"{os.fspath(path)!r} is no archive that can be unpacked: {told}") from error


class _Stream:
    """The bytes of an archive as `tarfile` takes them: none beyond a budget, and no long header at once.

    A header may have a name of gigabytes, which `tarfile` reads before it tells anybody of the member.
    """

    def __init__(self, stream, budget):
        self._stream, self._budget, self._furthest = stream, budget, 0

    def tell(self):
        return self._stream.tell()

    def seek(self, position, whence=os.SEEK_SET):
        if whence == os.SEEK_SET:
            self.reach(position)
        return self._stream.seek(position, whence)

    def read(self, size=-1):
        if not 0 <= size <= limits.TAR_HEADER_BYTES:
            raise ValueError(f"a header in it takes {size:,} bytes, and they take {limits.TAR_HEADER_BYTES:,} at most")
        data = self._stream.read(size)
        self.reach(self._stream.tell())
        return data

    def reach(self, position):
        """Spends what lies between the furthest place so far and this one."""
        if position > self._furthest:
            self._budget.spend(position - self._furthest)
            self._furthest = position
