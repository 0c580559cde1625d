"""Roboflow's "Semantic Segmentation Masks" to a `Source`.

    train/NAME.jpg, NAME_mask.png, _classes.csv    and the same in valid/ and test/

`_classes.csv` says which number in the masks is which class, `Pixel Value, Class` a line; 255 is ignored where it isn't
one of them. The folder `valid` is the split `"val"`. An image without a mask is refused, see `missing_masks`.
(Roboflow's "COCO Segmentation" is read by `keras_deeplab.data.annotations.coco`.)
"""

import csv
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.annotations.export import Export, Item, Shape, in_parts, not_looked_at
from keras_deeplab.data.annotations.layout import Images, listed, part_named
from keras_deeplab.data.annotations.reading import reader, splitter
from keras_deeplab.data.annotations.regions import Canvas, Region
from keras_deeplab.data.masks import decode_label_png
from keras_deeplab.specs import IGNORED

_CLASSES, _MASK = "_classes.csv", "_mask.png"


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `_classes.csv` and masks in it, or in its folders."""
    return bool(_folders(Path(name_or_path).expanduser()))


def _folders(root: Path) -> list[Path]:
    found = [file.parent for file in (*root.glob(_CLASSES), *sorted(root.glob(f"*/{_CLASSES}")))]
    return [folder for folder in found if any(folder.glob(f"*{_MASK}"))]


def _parse(location: Path, missing_masks: str) -> Export:
    folders = _folders(location)
    if not folders:
        raise FileNotFoundError(f"{location} has no {_CLASSES} beside files *{_MASK}, nor have its folders")
    names = _classes(folders[0] / _CLASSES)
    items: list[tuple[str | None, Item]] = []
    for folder in folders:
        if (other := _classes(folder / _CLASSES)) != names:
            raise ValueError(
                f"{folders[0] / _CLASSES} has {listed(names.values())}, and {folder / _CLASSES} has "
                f"{listed(other.values())}, or other numbers: make them equal"
            )
        part = part_named(folder.name) if folder != location else None
        masks = {file.name.removesuffix(_MASK): file for file in sorted(folder.glob(f"*{_MASK}"))}
        images = Images(folder, leave_out=lambda file: file.name.endswith(_MASK))
        own = [file for file in images if file.parent == folder]
        for file in own:
            if (mask := masks.get(file.stem)) is not None:
                items.append((part, Item("", file, None, mask, mask)))
        for file in not_looked_at(folder, own, {item.file for _, item in items}, missing_masks):
            items.append((part, Item("", file, None, file, None)))
        strangers = masks.keys() - {file.stem for file in own}
        if strangers:
            raise FileNotFoundError(f"{folder} has {min(strangers)}{_MASK}, and no image {min(strangers)}.jpg")
    return Export(location, in_parts(items), list(names.values()), {}, partial(_shapes, names))


def _classes(file: Path) -> dict[int, str]:
    """The names by the numbers in the masks."""
    try:
        lines = read_regular(file).decode("utf-8-sig").splitlines()
        rows = [row for row in csv.reader(lines, skipinitialspace=True) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no table in UTF-8: {error}") from error
    found: dict[int, str] = {}
    for place, row in enumerate(rows):
        if place == 0 and not row[0].strip().isdecimal():  # the header
            continue
        if len(row) != 2 or not row[0].strip().isdecimal() or not row[1].strip() or int(row[0]) in found:
            raise ValueError(f"{file}, line {place + 1}: {', '.join(row)!r} is no new PIXEL VALUE, CLASS")
        found[int(row[0])] = row[1].strip()
    if not found or len(set(found.values())) < len(found):
        raise ValueError(f"{file} names {'no class' if not found else 'a class twice'}")
    return dict(sorted(found.items()))


def _shapes(names: Mapping[int, str], item: Item) -> Iterable[Shape]:
    """The pixels of each number in a mask."""
    if item.raw is None:
        return
    try:
        values, _ = decode_label_png(read_regular(item.raw))
    except ValueError as error:
        raise ValueError(f"the mask {error}") from error
    if values.ndim == 3:
        if (values[..., :1] != values).any():
            raise ValueError(f"the mask has colours, and {_CLASSES} tells numbers")
        values = values[..., 0]
    for number in np.unique(values).tolist():
        if number not in names and number != IGNORED:
            row, column = np.argwhere(values == number)[0]
            raise ValueError(
                f"the mask holds {number}, first at row {row}, column {column}, which {_CLASSES} doesn't name"
            )
        yield Shape(names.get(number), partial(_region, values, number), "the mask")


def _region(values: np.ndarray, number: int, canvas: Canvas) -> Region:
    height, width = values.shape
    if (height, width) != (canvas.height, canvas.width):
        raise ValueError(f"is {width}x{height} pixels, but its image is {canvas.width}x{canvas.height}")
    return Region(0, 0, values == number)


read = reader(_parse)
splits = splitter(_parse)
