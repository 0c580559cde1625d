"""CVAT's XML, "CVAT for images 1.1", to a `Source`.

    annotations.xml    polygons, boxes, ellipses, masks; several in the folder or its folders are read together
    images/...         anywhere beside it

The classes are the labels of the task or project in its order, with their colours. Shapes are painted by their
`z_order`, and in the order of the file where that is equal, as CVAT shows them. The parts are the images' subsets
(Train, Validation, Test), which a project's export has, or are told by the names of the files or folders. An image of
the list without shapes is background; tags say nothing of pixels. (CVAT's other export for segmentation, "Segmentation
mask 1.1", is read by `keras_deeplab.data.voc`.)
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from keras_deeplab._helpers.files import open_regular
from keras_deeplab.data.annotations.encoded import from_counts
from keras_deeplab.data.annotations.export import Export, Item, Shape, in_parts
from keras_deeplab.data.annotations.layout import Images, listed, part_named, refuse_missing
from keras_deeplab.data.annotations.reading import reader, splitter
from keras_deeplab.data.annotations.regions import Canvas, Region, bitmap, box, ellipse, line, points, polygon
from keras_deeplab.specs import Color

_AREAS = ("polygon", "box", "ellipse", "mask", "polyline")
_OTHERS = ("points", "cuboid", "skeleton")


def detect(name_or_path: str) -> bool:
    """Whether it is an XML file of CVAT, or a folder with some in it or in its folders."""
    return bool(_files(Path(name_or_path).expanduser()))


def _files(location: Path) -> list[Path]:
    """The files of a folder or of its folders; or the file itself. None where there is none."""
    if location.is_file():
        return [location] if location.suffix.lower() == ".xml" and _is_cvat(location) else []
    for pattern in ("*.xml", "*/*.xml"):
        files = sorted(location.glob(pattern))
        if any(map(_is_cvat, files[:5])):
            return [file for file in files if _is_cvat(file)]
    return []


def _is_cvat(file: Path) -> bool:
    with open_regular(file) as opened:
        return b"<annotations>" in opened.read(4096)


def _parse(location: Path, missing_masks: str) -> Export:
    files = _files(location)
    if not files:
        raise FileNotFoundError(f"{location} has no annotations.xml of CVAT ('CVAT for images 1.1')")
    labels: list[str] = []
    colors: dict[str, Color] = {}
    items: list[tuple[str | None, Item]] = []
    for file in files:
        root = _root(file)
        own, own_colors = _labels(file, root)
        labels += [label for label in own if label not in labels]
        colors |= own_colors
        items += _items(location, file, root, own)
    subsets = {part for part, _ in items}
    if not subsets & {"train", "val"}:  # a task's own subset says nothing
        items = [(part if part == "test" else None, item) for part, item in items]
    return Export(location, in_parts(items), labels, colors, _shapes)


def _root(file: Path) -> Any:
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is no XML, or a damaged one: {error}") from error
    if root.find("track") is not None:
        raise ValueError(
            f"{file} is an export of a video, with tracks: export the task as 'CVAT for images 1.1', which has the "
            "shapes of each frame"
        )
    return root


def _items(location: Path, file: Path, root: Any, labels: list[str]) -> list[tuple[str | None, Item]]:
    """The images of a file, with the part that each is of."""
    whole = part_named(file.stem) or (part_named(file.parent.name) if file.parent != location else None)
    images = Images(file.parent)
    items: list[tuple[str | None, Item]] = []
    problems, entries = [], root.findall("image")
    for entry in entries:
        subset = entry.get("subset")
        part = (part_named(subset) or subset) if subset else whole
        path = images.find(entry.get("name", ""), part)
        if isinstance(path, str):
            problems.append(path)
            continue
        _check_labels(file, entry, labels)
        try:
            size = (int(entry.attrib["height"]), int(entry.attrib["width"]))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{file}: image {entry.get('name')} has no width and height ({error})") from error
        items.append((part, Item("", path, size, file, entry)))
    refuse_missing(problems, len(entries), file.parent, file)
    return items


def _labels(file: Path, root: Any) -> tuple[list[str], dict[str, Color]]:
    """The names of the labels, and their colours."""
    labels: list[str] = []
    colors: dict[str, Color] = {}
    for entry in root.findall("./meta//labels/label"):
        name, color = entry.findtext("name"), entry.findtext("color") or ""
        if name is None or entry.findtext("parent"):  # the latter is a point of a skeleton
            continue
        labels.append(name)
        digits = color.removeprefix("#")
        if len(digits) == 6 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            colors[name] = (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
    if not labels:
        raise ValueError(f"{file} names no labels in its <meta>")
    return labels, colors


def _check_labels(file: Path, image: Any, labels: list[str]) -> None:
    for entry in image:
        if entry.tag in (*_AREAS, *_OTHERS) and entry.get("label") not in labels:
            raise ValueError(
                f"{file}: image {image.get('name')} has a {entry.tag} with the label {entry.get('label')!r}, which is "
                f"none of {listed(labels)}"
            )


def _shapes(item: Item) -> Iterable[Shape]:
    numbered = [(number, entry) for number, entry in enumerate(item.raw, 1) if entry.tag in (*_AREAS, *_OTHERS)]
    for number, entry in sorted(numbered, key=lambda pair: int(pair[1].get("z_order", 0))):
        yield Shape(entry.get("label"), partial(_region, entry), f"{entry.tag} {number} ({entry.get('label')})")


def _region(entry: Any, canvas: Canvas) -> Region:
    if entry.tag == "polygon":
        return polygon(canvas, [_corners(entry)])
    if entry.tag == "polyline":
        return line(canvas, _corners(entry, 2))
    if entry.tag == "mask":
        left, top, width, height = (int(entry.attrib[name]) for name in ("left", "top", "width", "height"))
        counts = entry.attrib["rle"].split(",")
        if not all(count.strip().isdecimal() for count in counts):
            raise ValueError(f"has an rle that is no list of numbers: {entry.attrib['rle']!r:.80}")
        return bitmap(canvas, top, left, from_counts([int(count) for count in counts], height, width, by_columns=False))
    rotation = float(entry.get("rotation", 0))
    if entry.tag == "box":
        x0, y0, x1, y1 = (float(entry.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        return box(canvas, x0, y0, x1, y1, rotation)
    if entry.tag == "ellipse":
        x, y, across, down = (float(entry.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
        return ellipse(canvas, x, y, across, down, rotation)
    raise ValueError(f"is a {entry.tag}, which covers no area: remove it, or change it to a polygon")


def _corners(entry: Any, least: int = 3) -> np.ndarray:
    return points([pair.split(",") for pair in entry.attrib["points"].split(";")], least)


read = reader(_parse)
splits = splitter(_parse)
