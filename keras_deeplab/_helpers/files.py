"""Files that are written whole or not at all, and files of others that are opened only where they are files."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.ending import remove_at_end, unfinished

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class TooManyBytes(ValueError):
    """A file that is larger than what was to be read at most."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write at, beside `path` and of its kind, that takes its place when the block ends without an error.

    Raises:
        FileNotFoundError: there is no folder for it.
    """
    path = in_a_folder(path)
    # Keras tells formats by the ending, and a hidden file doesn't look like a result.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    with unfinished(temporary):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write into, beside `path`, that becomes it when the block ends without an error.

    Raises:
        FileExistsError: there is something already, an empty folder aside.
        FileNotFoundError: there is no folder to put it into.
    """
    path = in_a_folder(Path(os.path.abspath(path)))
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise FileExistsError(f"{os.fspath(path)!r} is there already: give the path of a new folder, or remove it.")
    with temporary_folder(f".{path.name}.", path.parent) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            path.rmdir()
        temporary.rename(path)


@contextlib.contextmanager
def temporary_folder(prefix: str = "keras_deeplab_", parent: Path | None = None) -> Iterator[Path]:
    """A folder for the time of the block, by default where the system has such; it goes should a signal end the block.

    Args:
        prefix: what its name begins with.
        parent: the folder to make it in.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    with unfinished(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _umask():
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes bytes to a file; what was there before stays until all of them are written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def unverified(path: str | os.PathLike[str], suffix: str) -> Path:
    """A hidden name beside `path` for a file that is looked at before it is put there: each process has its own."""
    path = Path(path)
    return remove_at_end(path.with_name(f".{os.getpid()}.{path.stem}.unverified{suffix}"))


def in_a_folder(path: str | os.PathLike[str]) -> Path:
    """`path` as a `Path`, if its folder is there."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {os.fspath(path.parent)!r} to write {path.name!r} into.")
    return path


def read_regular(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The bytes of a regular file, perhaps by a link. Nothing else is opened: a pipe would wait for its other end.

    Args:
        most: of how many bytes it may be; None for any number.

    Raises:
        FileNotFoundError, PermissionError, OSError: as the system tells.
        TooManyBytes: it is larger; a ValueError.
        ValueError: it is something else than a file; the message begins with the path.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise TooManyBytes(f"{path} has {size} bytes, more than the {most} that are read at most")
        return file.read()


def open_regular(path: str | os.PathLike[str]) -> Any:
    """A regular file, open for reading bytes; raises as `read_regular`."""
    refuse_other(path, os.stat(path).st_mode)
    # What was a file a moment ago may be a pipe now, which would be waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        refuse_other(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def refuse_other(path: Any, mode: int) -> None:
    """Raises ValueError where a mode of `os.stat` isn't that of a regular file."""
    if not stat.S_ISREG(mode):
        what = next((name for test, name in _KINDS if test(mode)), "something else")
        raise ValueError(f"{path} is {what}, and a regular file is expected")


def walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk` of a folder, in order, through links too: (its path, names of folders, names of files) of each.

    A link that leads back to a folder above itself is passed over. Names may be taken out of the list of folders.

    Raises:
        ValueError: links lead to the same folders again and again.
    """
    above: dict[str, tuple[tuple[int, int], ...]] = {}
    seen: set[tuple[int, int]] = set()
    repeated = 0
    for parent, folders, files in os.walk(os.fspath(folder), followlinks=True):
        own = _identity(parent)
        repeated += own in seen
        if repeated > limits.REPEATED_FOLDERS:
            raise ValueError(
                f"{folder} is a maze of links: {repeated} of its folders are reached more than once, the last by "
                f"{parent}; remove the links that lead back"
            )
        if own is not None:
            seen.add(own)
        path = (*above.pop(parent, ()), *([own] if own else []))
        inner = {name: _identity(os.path.join(parent, name)) for name in sorted(folders)}
        folders[:] = [name for name, identity in inner.items() if identity is not None and identity not in path]
        above |= {os.path.join(parent, name): path for name in folders}
        yield parent, folders, sorted(files)


def _identity(folder: str) -> tuple[int, int] | None:
    """What tells a folder from all others, whatever it is called; None where it can't be looked at."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
