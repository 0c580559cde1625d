"""What the readers of annotations share: images with shapes to a `Source`, whose labels are painted as it is read."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_deeplab.data.annotations.layout import listed
from keras_deeplab.data.annotations.regions import Canvas, Region
from keras_deeplab.data.images import decode_image, read_image
from keras_deeplab.data.source import Source, indexed, listing
from keras_deeplab.data.splits import PARTS, automatic
from keras_deeplab.specs import IGNORED, Classes, Color, default_colors

LISTS = ("labels.txt",)
_IGNORED_NAME = "__ignore__"  # as LabelMe's labels.txt has it


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
    """

    location: Path
    parts: Mapping[str, Sequence[Item]]
    labels: Sequence[str]
    colors: Mapping[str, Color]
    shapes: Callable[[Item], Iterable[Shape]]
    smaller_last: bool = False


def reader(parse: Callable[[Path, str], Export]) -> Callable[..., Source]:
    """Map a format's function from a location and `missing_masks` to an `Export`, to the `read` of its module."""

    def read(
        location: str | os.PathLike,
        split: str | None = "train",
        *,
        classes: Sequence[str] | str | os.PathLike | None = None,
        background: str = "background",
        line_width: float | None = None,
        missing_masks: str = "refuse",
        channels: int = 3,
        orientation: str = "upright",
        val_share: float = 0.2,
        split_seed: int = 0,
    ) -> Source:
        """Map an export of an annotation tool, see the module, to the `Source` of one of its splits.

        What no shape covers is label 0, the background; an image without any shape is nothing else. Where a label has
        the background's name (in any case, also `_background_`), its shapes are background too.

        Args:
            location: the folder of the export, or its file of annotations.
            split: `"train"`, `"val"`, `"test"` or what else the export calls its parts; `"all"` or None for every
                image. Where it has no part `"val"`, one is split off from the others, see `splits.automatic`.
            classes: the labels' names in the order of their numbers, or a text file with one a line, such as the
                `labels.txt` that may lie in the folder; by default the export's own order, and alphabetical where it
                has none. A background goes before them where it isn't among them; else it keeps its place.
                `__ignore__` is ignored.
            background: the name of label 0; `""` for none: then what no shape covers is ignored.
            line_width: in pixels, of shapes that are lines; None refuses them.
            missing_masks: what an image without annotations is where the format tells that it has not been looked at:
                `"refuse"`, or `"background"`.
            channels: of the images, as in `folder.read`.
            orientation: `"upright"`: photographs are turned as their EXIF orientation asks, as annotation tools show
                them; `"stored"`: not.
            val_share, split_seed: of a part `"val"` that is split off.

        Raises:
            FileNotFoundError: images are missing; it lists them.
            ValueError: the export, a label or an option isn't understood. Damaged shapes are named as they are read, or
                by `Source.check`.
        """
        root = Path(location).expanduser()
        for option, value, known in (
            ("orientation", orientation, ("upright", "stored")),
            ("missing_masks", missing_masks, ("refuse", "background")),
        ):
            if value not in known:
                raise ValueError(f"{option}={value!r}; it is one of {listed(known)}")
        export = parse(root, missing_masks)
        items, automatically = _chosen(export, split, val_share, split_seed)
        record, numbers = _classes(export, classes, background)
        count = len(record.names or ())

        def sample(index: int) -> tuple[np.ndarray, np.ndarray, str]:
            item = items[index]
            image = _image(item, channels, orientation == "upright")
            _check_size(item, image, orientation)
            canvas = Canvas(image.shape[0], image.shape[1], line_width)
            return image, _painted(export, item, canvas, numbers), item.name

        title = f"{root} ({split or 'all'}{', split automatically' * automatically})"
        source = indexed(title, record, len(items), sample, num_classes=count, channels=channels)
        source.files = [(item.name, item.file, item.origin) for item in items]
        return source

    return read


def splitter(parse: Callable[[Path, str], Export]) -> Callable[[str | os.PathLike], tuple[str, ...]]:
    """Map a format's function, as `reader` takes it, to the `splits` of its module."""

    def splits(location: str | os.PathLike) -> tuple[str, ...]:
        """The splits that together are all of an export."""
        parts = parse(Path(location).expanduser(), "background").parts
        if "val" in parts or not {"", "train"} & set(parts):
            return tuple(parts)
        return ("train", "val", *(part for part in parts if part not in ("", *PARTS)))

    return splits


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
    if "val" in parts and "" in parts:  # reached by a name too
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


def _chosen(export: Export, split: str | None, share: float, seed: int) -> tuple[list[Item], bool]:
    """The images of a split, and whether they are chosen here."""
    every = [item for items in export.parts.values() for item in items]
    if not every:
        raise ValueError(f"{export.location} names no image")
    if split in (None, "all"):
        return every, False
    if split in export.parts and ("val" in export.parts or split not in PARTS):
        return list(export.parts[split]), False
    rest = [item for part, items in export.parts.items() if part in ("", "train") for item in items]
    if "val" in export.parts or split not in PARTS or not rest:
        raise ValueError(
            f"{export.location} has no split {split!r}; it has {listed(part for part in export.parts if part)}, and "
            "'all' for every image"
        )
    chosen = set(automatic([item.name for item in rest], split, share=share, seed=seed))
    return [item for item in rest if item.name in chosen], True


# Classes ----------------------------------------------------------------------------------------------------------


def _classes(export: Export, classes: Any, background: str) -> tuple[Classes, dict[str | None, int]]:
    """The record of the classes, and the number of each label; that of `""` is for what no shape covers."""
    names, origin = list(export.labels), ""
    root = export.location if export.location.is_dir() else export.location.parent
    if classes is not None:
        from keras_deeplab.data.folder import given_names

        names, origin = list(given_names(classes) or ()), "classes="
    elif (root / LISTS[0]).is_file():
        from keras_deeplab.data.folder import names_in

        names, origin = list(names_in(root / LISTS[0])), str(root / LISTS[0])
    unknown = [label for label in export.labels if label not in names]
    if unknown:
        raise ValueError(
            f"{origin} has {listed(names)}, and the annotations of {export.location} have {listed(unknown)} too: add "
            f"them ('{_IGNORED_NAME}' is one that is ignored)"
        )
    numbers: dict[str | None, int] = {None: IGNORED}
    if _IGNORED_NAME in names:
        numbers[_IGNORED_NAME] = IGNORED
        names.remove(_IGNORED_NAME)
    same = [name for name in names if background and _plain(name) == _plain(background)]
    if len(same) > 1:
        raise ValueError(f"{export.location} has several labels for the background, {listed(same)}: rename all but one")
    if background and not (origin and same):
        names = [same[0] if same else background, *(name for name in names if name not in same)]
    if not names:
        raise ValueError(f"{export.location} has no label, so there is nothing to learn")
    numbers |= {name: number for number, name in enumerate(names)}
    numbers[""] = next((numbers[name] for name in names if background and _plain(name) == _plain(background)), IGNORED)
    shown = None
    if any(name in export.colors for name in names):
        defaults = default_colors(len(names))
        shown = tuple(export.colors.get(name, defaults[number]) for number, name in enumerate(names))
    return Classes(tuple(names), shown), numbers


def _plain(name: str) -> str:
    return name.strip("_ ").casefold()


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


# Painting ---------------------------------------------------------------------------------------------------------


def _image(item: Item, channels: int, upright: bool) -> np.ndarray:
    if item.embedded is None:
        return read_image(item.file, channels, upright)
    try:
        return decode_image(item.embedded(), channels, upright)
    except ValueError as error:
        raise ValueError(f"{item.file}: the image inside {error}") from error


def _check_size(item: Item, image: np.ndarray, orientation: str) -> None:
    height, width = image.shape[:2]
    if item.size in (None, (height, width)):
        return
    turned = " as its EXIF orientation asks" if orientation == "upright" else " as stored"
    other = "stored" if orientation == "upright" else "upright"
    raise ValueError(
        f"{item.origin}: the annotations of {item.name} are made for {item.size[1]}x{item.size[0]} pixels, but "
        f"{item.file} is {width}x{height}{turned if item.size == (width, height) else ''}"
        + (f"; orientation={other!r} takes it the other way" if item.size == (width, height) else "")
    )


def _painted(export: Export, item: Item, canvas: Canvas, numbers: Mapping[str | None, int]) -> np.ndarray:
    """The labels of an image, uint8 (H, W): each shape over those before it."""
    drawn: list[tuple[int, Region]] = []
    try:
        for shape in export.shapes(item):
            try:
                drawn.append((numbers[shape.label], shape.draw(canvas)))
            except ValueError as error:
                raise ValueError(f"{shape.where} {error}") from error
            except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
                raise ValueError(f"{shape.where} is damaged ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise ValueError(f"{item.origin}: {item.name}: {error}") from error
    if export.smaller_last:
        drawn.sort(key=lambda pair: (pair[0] != IGNORED, -int(pair[1].mask.sum())))
    labels = np.full((canvas.height, canvas.width), numbers[""], np.uint8)
    for number, (top, left, mask) in drawn:
        labels[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = number
    return labels
