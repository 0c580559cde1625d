"""Patterns to the images that they name, each with a name of its own for its results; what is no file, with a reason.

Nothing here keeps the others from their answers: a pipe, a link that leads to itself, a folder that can't be listed are
told and left out. Beam's own matching of local files leaves such entries out without a word.
"""

import fnmatch
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keras_deeplab.data.images import EXTENSIONS
from keras_deeplab.inference.beam import places
from keras_deeplab.inference.beam.places import Stamp

_WILD = re.compile(r"[*?\[]")
_RECORDS = re.compile(r"\.tfrecords?($|[-.])")


@dataclass(frozen=True)
class Item:
    """A file of an image, or of records of images.

    Attributes:
        name: its path below the common folder of all inputs, with its ending: no two have the same.
        place: where it is.
        stamp: what it was when it was found.
        records: whether it is a TFRecord file.
    """

    name: str
    place: str
    stamp: Stamp
    records: bool = False


@dataclass(frozen=True)
class Failure:
    """An input without an answer, and why."""

    name: str
    place: str
    reason: str

    def row(self) -> dict[str, str]:
        return {"name": self.name, "source": self.place, "reason": self.reason}


def reason_of(error: BaseException) -> str:
    """What a failure is told with: an error's own words, of the kinds that aren't made for people with their kind."""
    text = " ".join(str(error).split())
    if not isinstance(error, (ValueError, OSError, ImportError)) or not text:
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= 500 else f"{text[:497]}..."


@dataclass(frozen=True)
class Inputs:
    """What to answer.

    Attributes:
        patterns: absolute paths or addresses; of folders their images.
        root: the folder that names are below.
        excluded: a folder of results, which is no input.
        records: whether every file is a TFRecord, whatever its name.
    """

    patterns: tuple[str, ...]
    root: str
    excluded: str
    records: bool = False

    @classmethod
    def of(cls, inputs: Sequence[str | os.PathLike], excluded: str, records: bool = False) -> "Inputs":
        """Of patterns, files and folders as a person writes them.

        Raises:
            ValueError: there are none, they are on different file systems, or all of one is in the folder of results.
        """
        patterns = tuple(dict.fromkeys(places.absolute(each) for each in inputs))
        systems = sorted({places.scheme(each) or "this machine" for each in patterns})
        if len(systems) != 1:
            raise ValueError(
                f"the inputs are on {len(systems)} file systems ({', '.join(systems)}): give those of one at a time"
                if systems
                else "no input was given: name image files, folders, patterns or TFRecord files"
            )
        folders = [_fixed(each) for each in patterns]
        for folder, pattern in zip(folders, patterns, strict=True):
            if _inside(folder, excluded):
                raise ValueError(f"{pattern} is in the folder of the results, {excluded}: choose another output folder")
        system, _, first = folders[0].rpartition("://")
        paths = [first, *(folder.rpartition("://")[2] for folder in folders[1:])]
        common = posixpath.commonpath(paths) if system else os.path.commonpath(paths)
        return cls(patterns, f"{system}://{common}" if system else common, excluded, records)

    def found(self, pattern: str) -> Iterator[Item | Failure]:
        """The items of one of the patterns, in no order, and a failure where it has none."""
        count = 0
        try:
            for each in self._remote(pattern) if places.scheme(pattern) else self._local(pattern):
                count += 1
                yield each
        except Exception as error:  # of a store that doesn't answer, or refuses
            yield Failure(pattern, pattern, f"can't be listed: {reason_of(error)}")
            return
        if not count:
            yield Failure(pattern, pattern, "matches no file")

    def _remote(self, pattern: str) -> Iterator[Item | Failure]:
        system = places._systems()
        match = places.join(pattern, "*") if pattern.endswith("/") else pattern
        for entry in system.match([match])[0].metadata_list:
            wanted = match == pattern or entry.path.lower().endswith(EXTENSIONS) or is_records(entry.path)
            # Stores have no folders; some keep an empty object in the place of one.
            if wanted and not entry.path.endswith("/") and not _inside(entry.path, self.excluded):
                yield self._item(entry.path, (entry.size_in_bytes, entry.last_updated_in_seconds))

    def _local(self, pattern: str) -> Iterator[Item | Failure]:
        folder = os.path.isdir(pattern)
        if not folder and os.path.lexists(pattern):  # whatever brackets are in its name
            yield self._looked_at(pattern)
            return
        top = pattern if folder else _fixed(pattern)
        parts = ["*"] if folder else os.path.relpath(pattern, top).split(os.sep)
        for path in _walk(top, parts):
            if isinstance(path, Failure):
                yield path
                continue
            known = path.lower().endswith(EXTENSIONS) or is_records(path)
            if _inside(path, self.excluded) or (not known and (folder or os.path.isdir(path))):
                continue
            yield self._looked_at(path)

    def _looked_at(self, path: str) -> Item | Failure:
        shown = path.encode("utf-8", "backslashreplace").decode()
        try:
            name = self._name(shown)
            if shown != path:
                raise ValueError("its name isn't in UTF-8, so that no row can tell it: rename it")
            stamp = places.stamp(path)
            if stamp is None:
                raise FileNotFoundError(f"{path} is a link to what isn't there, or was removed")
        except (OSError, ValueError) as error:
            return Failure(self._name(shown), shown, reason_of(error))
        return self._item(path, stamp, name)

    def _item(self, place: str, stamp: Stamp, name: str | None = None) -> Item:
        return Item(self._name(place) if name is None else name, place, stamp, self.records or is_records(place))

    def _name(self, place: str) -> str:
        if places.scheme(place):
            return posixpath.relpath(place.partition("://")[2], self.root.partition("://")[2])
        return os.path.relpath(place, self.root).replace(os.sep, "/")


def is_records(place: str) -> bool:
    """Whether a file's name says that it is a TFRecord: `val-00000-of-00010.tfrecord`, `x.tfrecord-00000-of-00004`."""
    return _RECORDS.search(place.replace("\\", "/").rpartition("/")[2].lower()) is not None


def _fixed(pattern: str) -> str:
    """The folder that all that a pattern matches is in: what comes before its first wildcard."""
    system, sign, path = pattern.rpartition("://")
    separator = "/" if system else os.sep
    wild = _WILD.search(path)
    if not system and os.path.lexists(pattern):
        return pattern if os.path.isdir(pattern) else os.path.dirname(pattern)
    before = path if wild is None else path[: wild.start()]
    return f"{system}{sign}{before.rpartition(separator)[0]}" or separator


def _inside(place: str, folder: str) -> bool:
    separator = "/" if places.scheme(folder) else os.sep
    return place == folder or place.startswith(folder.rstrip(separator) + separator)


def _walk(folder: str, parts: list[str]) -> Iterator[str | Failure]:
    """Whatever is at a pattern's parts below a folder; `**` is any number of folders, which no link leads to.

    As shells have it, a hidden name is matched by a part that begins with a dot alone.
    """
    part, rest = parts[0], parts[1:]
    if not _WILD.search(part):
        path = os.path.join(folder, part)
        if rest:
            yield from _walk(path, rest)
        elif os.path.lexists(path):
            yield path
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Failure(folder, folder, f"can't be listed: {error}")
        return
    if part == "**" and rest:
        yield from _walk(folder, rest)
    for entry in entries:
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        if part == "**":
            if _is_folder(entry, follow=False):
                yield from _walk(entry.path, parts)
            elif not rest:
                yield entry.path
        elif fnmatch.fnmatchcase(entry.name, part):
            if not rest:
                yield entry.path
            elif _is_folder(entry, follow=True):
                yield from _walk(entry.path, rest)


def _is_folder(entry: "os.DirEntry[str]", follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False
