"""Files where a pipeline has them: by a path of this machine, or by an address such as gs://bucket/name."""

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from keras_deeplab._helpers.files import read_regular, refuse_other, replacing, temporary_folder

# Stores whose files appear when they are closed, whole; elsewhere a file is written beside its place and renamed.
_OBJECT_STORES = ("gs", "s3", "azfs")

# (size in bytes, time of the last change): what says whether a file is still the one that it was.
Stamp = tuple[int, float]


def scheme(place: str) -> str:
    """`gs` of gs://bucket/name; "" of a path of this machine."""
    return place.partition("://")[0] if "://" in place else ""


def absolute(place: str | os.PathLike) -> str:
    """A path to an absolute one, without `~`; an address as it is."""
    place = os.fspath(place)
    return place if scheme(place) else os.path.abspath(os.path.expanduser(place))


def join(folder: str, *names: str) -> str:
    return "/".join([folder.rstrip("/"), *names])


def stamp(place: str) -> Stamp | None:
    """The stamp of a regular file; None where there is nothing.

    Raises:
        ValueError: there is something else, which isn't opened: a pipe would be waited for without an end.
        OSError: as the system tells, such as of a link that leads to itself.
    """
    if scheme(place):
        # Not by matching, to which the brackets in a name would be a pattern.
        system = _systems().get_filesystem(place)
        if not system.exists(place):
            return None
        told = system.metadata(place)
        return told.size_in_bytes, told.last_updated_in_seconds
    try:
        found = os.stat(place)
    except FileNotFoundError:
        return None
    refuse_other(place, found.st_mode)
    return found.st_size, found.st_mtime


def exists(place: str) -> bool:
    return bool(_systems().exists(place)) if scheme(place) else os.path.isfile(place)


def occupied(folder: str) -> bool:
    """Whether there is anything in a folder."""
    if scheme(folder):
        return bool(_systems().match([join(folder, "**")], [1])[0].metadata_list)
    return os.path.isdir(folder) and bool(os.listdir(folder))


def opened(place: str) -> BinaryIO:
    """A file to read bytes from, unpacked where its name ends in .gz. Whoever opens it has looked at `stamp`."""
    if scheme(place):
        return _systems().open(place)  # which unpacks by the name too
    return gzip.open(place) if place.endswith(".gz") else open(place, "rb")  # type: ignore[return-value]


def read(place: str) -> bytes:
    """All bytes of a file, as they are."""
    if scheme(place):
        from apache_beam.io.filesystem import CompressionTypes

        with _systems().open(place, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read()
    return read_regular(place)


@contextlib.contextmanager
def writing(place: str) -> Iterator[Path]:
    """A path of this machine to write at; the file is at `place` when the block ends without an error, or not at all.

    Folders on the way are made.
    """
    if not scheme(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as temporary:
            yield temporary
        return
    with temporary_folder() as folder:
        local = folder / f"file{Path(place).suffix}"
        yield local
        data = local.read_bytes()
    if scheme(place) in _OBJECT_STORES:
        _create(place, data)
        return
    beside = join(place.rpartition("/")[0], f".{os.getpid()}.{place.rpartition('/')[2]}")
    _create(beside, data)
    if exists(place):
        _systems().delete([place])
    _systems().rename([beside], [place])


def write(place: str, data: bytes) -> None:
    """Writes a file whole or not at all, see `writing`."""
    with writing(place) as path:
        path.write_bytes(data)


@contextlib.contextmanager
def fetched(place: str) -> Iterator[str]:
    """A path of this machine with a file, or with all of a folder: itself, or of an address a copy for a while.

    Raises:
        FileNotFoundError: there is nothing at the address.
    """
    if not scheme(place):
        yield place
        return
    place = place.rstrip("/")
    found = [place]
    if not exists(place):
        found = [each.path for each in _systems().match([join(place, "**")])[0].metadata_list]
    if not found:
        raise FileNotFoundError(f"there is neither a file nor a folder {place}")
    with temporary_folder() as folder:
        top = folder / place.rpartition("/")[2]
        for each in found:
            target = top / each[len(place) :].strip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read(each))
        yield str(top)


def _create(place: str, data: bytes) -> None:
    from apache_beam.io.filesystem import CompressionTypes

    with _systems().create(place, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)


def _systems() -> Any:
    """Beam's file systems, which know the addresses."""
    from apache_beam.io.filesystems import FileSystems

    return FileSystems
