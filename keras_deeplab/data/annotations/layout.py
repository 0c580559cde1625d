"""What is where in an export: its parts, the images that its annotations name, JSON files and what tool wrote them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from keras_deeplab._helpers.files import open_regular, read_regular, walk
from keras_deeplab._helpers.values import from_json
from keras_deeplab.data.images import EXTENSIONS
from keras_deeplab.data.source import listing

# The parts of a data set by the names that tools give them.
_PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_HEAD = 1 << 16  # bytes of a large JSON file that are looked at to see what it is
_LOOKED_AT = 5  # JSON files of a folder


def part_named(text: str) -> str | None:
    """`"train"`, `"val"` or `"test"` where a name says so as one of its words; None for any other.

    >>> part_named("instances_val2017"), part_named("Validation"), part_named("instances_default")
    ('val', 'val', None)
    """
    words = re.split(r"[^a-z]+", text.casefold())
    found = {part for part, names in _PARTS.items() if any(name in words for name in names)}
    return found.pop() if len(found) == 1 else None


class Images:
    """The image files in a folder and its subfolders, found by the names that annotations have for them."""

    def __init__(self, root: Path, leave_out: Callable[[Path], bool] = lambda file: False) -> None:
        self.root = root
        self._by_name: dict[str, list[PurePosixPath]] = {}
        for parent, folders, files in walk(root):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            for file in files:
                path = Path(parent, file)
                if path.suffix.lower() in EXTENSIONS and not file.startswith(".") and not leave_out(path):
                    self._by_name.setdefault(file, []).append(PurePosixPath(path.relative_to(root).as_posix()))

    def __iter__(self) -> Iterator[Path]:
        return (self.root / path for paths in self._by_name.values() for path in paths)

    def find(self, name: str, part: str | None = None, beside: Path | None = None) -> Path | str:
        """The file of an image; or what is wrong, for a listing.

        It is the one whose path ends as the name does, folders and all, else one of its file's name. Of several it is
        the one in the folder `beside`, else in a folder that is named after the part.

        Args:
            name: a path, also an absolute one of another machine, one of Windows, or an address.
        """
        parts = [part for part in _as_path(name).split("/") if part not in ("", ".", "..")]
        candidates = self._by_name.get(parts[-1], []) if parts else []
        exact = [path for path in candidates if path.parts[-len(parts) :] == tuple(parts)]
        found = exact or candidates
        if beside is not None and len(found) > 1:
            found = [path for path in found if self.root / path.parent == beside] or found
        if part is not None and len(found) > 1:
            found = [path for path in found if part in map(part_named, path.parts[:-1])] or found
        if not found:
            return f"{name} is missing"
        if len(found) > 1:
            return f"{name} may be {' or '.join(map(str, found))}"
        return self.root / found[0]


def _as_path(name: str) -> str:
    text = name.replace("\\", "/")
    if re.match(r"[a-z][a-z0-9+.-]+://|/data/", text):  # an address, or Label Studio's own
        address = urlsplit(text)
        text = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    return re.sub(r"^[A-Za-z]:", "", text)


def refuse_missing(problems: list[str], count: int, root: Path, origin: Path) -> None:
    """Raise a FileNotFoundError that lists the images which weren't found, if there are any."""
    if problems:
        raise FileNotFoundError(
            f"of the {count} images that {origin} names, {len(problems)} can't be told in {root} and its subfolders "
            f"(export the images too, or put them there):\n{listing(problems)}"
        )


# JSON -------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The contents of a JSON file; ValueError that names it where it is none."""
    try:
        return from_json(read_regular(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON, or a damaged one: {error}") from error


def json_files(folder: Path, is_one: Callable[[Path], bool], *places: str) -> list[Path]:
    """The JSON files of a kind in a folder, or in those of its subfolders that a pattern names; a few are looked at."""
    found = []
    for place in ("", *places):
        for parent in sorted(folder.glob(place)) if place else [folder]:
            if not parent.is_dir():
                continue
            files = sorted(parent.glob("*.json"))
            if any(map(is_one, files[:_LOOKED_AT])):
                found += files
    return found


def has_keys(*keys: str) -> Callable[[Path], bool]:
    """A function: whether a JSON file is an object with these keys, of a large file as far as its beginning shows."""

    def test(path: Path) -> bool:
        head = _head(path)
        if isinstance(head, bytes):
            head = re.sub(rb"\s+", b"", head)
            return head.startswith(b"{") and any(f'"{key}":'.encode() in head for key in keys)
        return isinstance(head, Mapping) and all(key in head for key in keys)

    return test


def is_list_of(*keys: str) -> Callable[[Path], bool]:
    """A function: whether a JSON file is a list of objects with one of these keys."""

    def test(path: Path) -> bool:
        head = _head(path)
        if isinstance(head, bytes):
            return head.lstrip().startswith(b"[") and any(f'"{key}"'.encode() in head for key in keys)
        return isinstance(head, list) and bool(head) and isinstance(head[0], Mapping) and bool(set(keys) & set(head[0]))

    return test


def _head(path: Path) -> Any:
    """What a JSON file holds, or the beginning of a large one; None where it is none."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
        return head if len(head) == _HEAD else from_json(head)
    except (OSError, ValueError):
        return None


def listed(names: Iterable[Any]) -> str:
    """Names as text, each in quotes."""
    return ", ".join(repr(str(name)) for name in names) or "none"
