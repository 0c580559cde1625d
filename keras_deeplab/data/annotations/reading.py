"""What the readers of annotations share: images with shapes to a `Source`, whose labels are painted as it is read."""

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.data.annotations.export import Export, Item, chosen
from keras_deeplab.data.annotations.layout import listed
from keras_deeplab.data.annotations.regions import Canvas, Region
from keras_deeplab.data.folder import given_names, names_in
from keras_deeplab.data.images import decode_image, read_image
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.data.source import Source, indexed
from keras_deeplab.data.splits import LEAST
from keras_deeplab.specs import IGNORED, Classes, default_colors

LISTS = ("labels.txt",)
_IGNORED_NAME = "__ignore__"  # as LabelMe's labels.txt has it


def reader(parse: Callable[..., Export], **own: Any) -> Callable[..., Source]:
    """Map a format's function from a location and `missing_masks` to an `Export`, to the `read` of its module.

    Args:
        own: options of this format alone with their defaults, which `parse` takes too.
    """

    def read(
        location: str | os.PathLike,
        split: str | None = "train",
        *,
        classes: Sequence[str] | str | os.PathLike | None = None,
        background: str = "background",
        line_width: float | None = None,
        missing_masks: str = "refuse",
        channels: int = 3,
        orientation: str | None = None,
        image_range: tuple[float, float] | None = None,
        val_share: float | None = None,
        split_seed: int = 0,
        **others: Any,
    ) -> Source:
        """Map an export of an annotation tool, see the module, to the `Source` of one of its splits.

        What no shape covers is label 0, the background; an image without any shape is nothing else. Where a label has
        the background's name (in any case, also `_background_`), its shapes are background too.

        Args:
            location: the folder of the export, or its file of annotations.
            split: `"train"`, `"val"`, `"test"` or what else the export calls its parts; `"all"` or None for every
                image. Where it has no parts, train and val are made by `splits.automatic`.
            classes: the labels' names in the order of their numbers, or a text file with one a line, such as the
                `labels.txt` that may lie in the folder; by default the export's own order, and alphabetical where it
                has none. A background goes before them where it isn't among them; else it keeps its place.
                `__ignore__` is ignored.
            background: the name of label 0; `""` for none: then what no shape covers is ignored.
            line_width: in pixels, of shapes that are lines; None refuses them.
            missing_masks: what an image without annotations is where the format tells that it has not been looked at:
                `"refuse"`, or `"background"`.
            channels, image_range: of the images, as in `folder.read`.
            orientation: `"stored"` leaves photographs as they are stored; by default they are turned upright, as
                annotation tools show them.
            val_share, split_seed: of that split, by default 0.2 and 0. Given, it divides a part train that has no val.

        Raises:
            FileNotFoundError: images are missing; it lists them.
            ValueError: the export, a label or an option isn't understood. Damaged shapes are named as they are read, or
                by `Source.check`.
        """
        root = Path(location).expanduser()
        if missing_masks not in ("refuse", "background"):
            raise ValueError(f"missing_masks={missing_masks!r}; it is one of 'refuse', 'background'")
        images = ImageOptions(orientation=orientation, image_range=image_range)
        if others.keys() - own.keys():
            raise TypeError(f"read takes no {', '.join(sorted(others.keys() - own.keys()))}")
        with _damage_told(root):
            export = parse(root, missing_masks, **{**own, **others})
        items, notes = chosen(export, split, val_share, split_seed)
        record, numbers = _classes(export, classes, background)
        count = len(record.names or ())

        def sample(index: int) -> tuple[np.ndarray, np.ndarray, str]:
            item = items[index]
            image = _image(item, channels, images)
            _check_size(item, image, images.upright)
            canvas = Canvas(image.shape[0], image.shape[1], line_width)
            return image, _painted(export, item, canvas, numbers), item.name

        title = f"{root} ({split or 'all'})"
        source = indexed(
            title,
            record,
            len(items),
            sample,
            num_classes=count,
            channels=channels,
            image_range=images.image_range,
            notes=[*export.notes, *notes],
        )
        source.files = [(item.name, item.file, item.origin) for item in items]
        return source

    signature = inspect.signature(read)
    kept = [entry for entry in signature.parameters.values() if entry.kind is not entry.VAR_KEYWORD]
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in own.items()]
    read.__signature__ = signature.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]
    return read


def splitter(parse: Callable[..., Export]) -> Callable[[str | os.PathLike], tuple[str, ...]]:
    """Map a format's function, as `reader` takes it, to the `splits` of its module."""

    def splits(location: str | os.PathLike) -> tuple[str, ...]:
        """The splits that together are all of an export."""
        with _damage_told(Path(location).expanduser()):
            parts = parse(Path(location).expanduser(), "background").parts
        if "" not in parts:
            return tuple(parts)
        few = len(parts[""]) < LEAST
        return ("all",) if few else ("train", "val", *(part for part in parts if part not in ("", "train")))

    return splits


@contextlib.contextmanager
def _damage_told(location: Path) -> Iterator[None]:
    """Within it, values of other types than the format has are a ValueError that names the export."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"the annotations of {location} are damaged, or not of this format ({type(error).__name__}: {error})"
        ) from error


# Classes ----------------------------------------------------------------------------------------------------------


def _classes(export: Export, classes: Any, background: str) -> tuple[Classes, dict[str | None, int]]:
    """The record of the classes, and the number of each label; that of `""` is for what no shape covers."""
    names, origin = list(export.labels), ""
    root = export.location if export.location.is_dir() else export.location.parent
    if classes is not None:
        names, origin = list(given_names(classes) or ()), "classes="
    elif (root / LISTS[0]).is_file():
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
    try:
        return Classes(tuple(names), shown), numbers
    except ValueError as error:
        raise ValueError(f"{export.location}: {error}") from error


def _plain(name: str) -> str:
    return name.strip("_ ").casefold()


# Painting ---------------------------------------------------------------------------------------------------------


def _image(item: Item, channels: int, images: ImageOptions) -> np.ndarray:
    if item.embedded is None:
        return read_image(item.file, channels, images.upright, images.image_range)
    try:
        return decode_image(item.embedded(), channels, images.upright, images.image_range)
    except ValueError as error:
        raise ValueError(f"{item.file}: the image inside {error}") from error


def _check_size(item: Item, image: np.ndarray, upright: bool) -> None:
    height, width = image.shape[:2]
    if item.size in (None, (height, width)):
        return
    turned, other = (" as its EXIF orientation asks", "stored") if upright else (" as stored", "upright")
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
