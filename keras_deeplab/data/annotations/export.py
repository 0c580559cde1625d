"""What a format's module makes of an export: images with shapes, by part of the data set."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_deeplab.data.annotations.layout import listed
from keras_deeplab.data.annotations.regions import Canvas, Region
from keras_deeplab.data.source import listing
from keras_deeplab.data.splits import automatic
from keras_deeplab.specs import Color


class Shape(NamedTuple):
    """One shape: the name of its label, None for ignored; where its pixels are; how messages call it."""

    label: str | None
    draw: Callable[[Canvas], Region]
    where: str


class Item(NamedTuple):
    """One image.

    Attributes:
        name: a path without an extension; `in_parts` gives it.
        file: the image.
        size: (height, width) that its annotations are made for; None where they don't tell.
        origin: the file of its annotations.
        raw: its annotations, which the format's `shapes` understands.
        embedded: gives the bytes of the image, where it is inside of `file`.
    """

    name: str
    file: Path
    size: tuple[int, int] | None
    origin: Path
    raw: Any
    embedded: Callable[[], bytes] | None = None


class Export(NamedTuple):
    """What a format's module makes of a folder or file.

    Attributes:
        location: for messages.
        parts: lists of images by `"train"`, `"val"`, `"test"` or another name; `""` for those of no part.
        labels: the names of the labels that it declares, in their order; else those that occur, sorted.
        colors: colours of some labels.
        shapes: an image to its shapes in the order of painting.
        smaller_last: whether shapes are painted by size, the largest first, because the format has no order.
        notes: lines on what was taken for granted.
    """

    location: Path
    parts: Mapping[str, Sequence[Item]]
    labels: Sequence[str]
    colors: Mapping[str, Color]
    shapes: Callable[[Item], Iterable[Shape]]
    smaller_last: bool = False
    notes: Sequence[str] = ()


def in_parts(items: Iterable[tuple[str | None, Item]]) -> dict[str, list[Item]]:
    """Images with the names of their parts, None without, to named images by part; see `Export`.

    Raises:
        ValueError: a part has an image twice.
    """
    items = list(items)
    names = _names([item.file for _, item in items])
    parts: dict[str, list[Item]] = {}
    seen = set()
    for part, item in items:
        if (part, item.file) in seen:
            raise ValueError(f"{item.origin} has the image {item.file} twice{f', for {part}' if part else ''}")
        seen.add((part, item.file))
        parts.setdefault(part or "", []).append(item._replace(name=names[item.file]))
    if "" in parts and parts.keys() & {"train", "val"}:  # reached by a name too
        parts["default"] = [*parts.get("default", ()), *parts.pop("")]
    return parts


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Image files to names: their paths in the folder that holds all of them, without the extension where that does."""
    if not files:
        return {}
    folder = os.path.commonpath([file.parent for file in files])
    paths = {file: file.relative_to(folder) for file in files}
    stems = Counter(path.with_suffix("").as_posix() for path in paths.values())
    short = {file: path.with_suffix("").as_posix() for file, path in paths.items()}
    return {file: name if stems[name] == 1 else f"{name}_{file.suffix[1:]}" for file, name in short.items()}


def not_looked_at(location: Path, images: Iterable[Path], known: Collection[Path], missing_masks: str) -> list[Path]:
    """The images without annotations, of a format that writes them for each image.

    Raises:
        ValueError: there are some, and nothing says that they are background.
    """
    rest = [file for file in images if file not in known]
    if rest and missing_masks != "background":
        raise ValueError(
            f"{len(rest)} images in {location} have no annotations, not even empty ones. If there is nothing on them, "
            f"missing_masks='background' takes them as background; else move them away:\n{listing(rest)}"
        )
    return rest


def chosen(export: Export, split: str | None, share: float | None, seed: int) -> tuple[list[Item], list[str]]:
    """The images of a split, and notes on how they were chosen where the export doesn't tell."""
    every = [item for items in export.parts.values() for item in items]
    if not every:
        raise ValueError(f"{export.location} names no image")
    if share is not None and "val" in export.parts:
        raise ValueError(f"val_share={share} is for data without a part for val, and {export.location} has one")
    if split in (None, "all"):
        return every, []
    whole = "" if "" in export.parts else "train"
    made = whole in export.parts and (whole == "" or share is not None)
    if split in export.parts and not (made and split == whole):
        return list(export.parts[split]), []
    if split not in ("train", "val") or not made:
        raise ValueError(
            f"{export.location} has no split {split!r}; it has {listed(part for part in export.parts if part)}, and "
            "'all' for every image"
            + ("; val_share=0.2 takes a fifth of train for val" if split == "val" and "train" in export.parts else "")
        )
    names = [item.name for item in export.parts[whole]]
    share = 0.2 if share is None else share
    taken = set(automatic(names, split, share=share, seed=seed, origin=export.location))
    note = f"chosen from {len(names)} by val_share={share} and split_seed={seed}"
    return [item for item in export.parts[whole] if item.name in taken], [
        f"{export.location} has no part for val: {split!r} are {len(taken)} images, {note}"
    ]
