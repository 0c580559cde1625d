"""Files that are there whole or not at all."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """A path to write at, beside `path` and of its kind, that takes its place when the block ends without an error.

    Raises:
        FileNotFoundError: there is no folder for it.
    """
    path = in_a_folder(path)
    # Keras tells formats by the ending, and a hidden file doesn't look like a result.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path, data):
    """Writes bytes to a file; what was there before stays until all of them are written."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def in_a_folder(path):
    """`path` as a `Path`, if its folder is there."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {os.fspath(path.parent)!r} to write {path.name!r} into.")
    return path
