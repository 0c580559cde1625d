"""LabelMe's JSON files, one an image, to a `Source`.

    NAME.json    with its image beside it, at the path that it names, or inside it
    labels.txt   one label a line, in the order of the classes; may be left out: then they are in alphabetical order

The files stand in one folder, or in the folders `train/`, `val/` (or `valid/`) and `test/`. Shapes are painted in the
order of the file, each over those before it, as LabelMe's own export does. An image with a file that has no shape is
background; one without a file has not been looked at, see `missing_masks`.
"""

import base64
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.data.annotations.encoded import png_mask
from keras_deeplab.data.annotations.export import Export, Item, Shape, in_parts, not_looked_at
from keras_deeplab.data.annotations.layout import Images, has_keys, json_files, part_named, read_json, refuse_missing
from keras_deeplab.data.annotations.reading import reader, splitter
from keras_deeplab.data.annotations.regions import Canvas, Region, bitmap, box, ellipse, line, points, polygon

_is_labelme = has_keys("shapes", "imagePath")


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with LabelMe files in it or in its folders."""
    path = Path(name_or_path).expanduser()
    return path.is_dir() and bool(json_files(path, _is_labelme, "*"))


def _parse(location: Path, missing_masks: str) -> Export:
    if not location.is_dir():
        raise FileNotFoundError(f"{location} is no folder; LabelMe's files, one an image, are read from one")
    files = json_files(location, _is_labelme, "*")
    images = Images(location)
    items, problems, labels = [], [], set()
    for file in files:
        content = _content(file)
        shapes, height, width = content["shapes"], content.get("imageHeight"), content.get("imageWidth")
        labels |= {str(shape["label"]) for shape in shapes}
        item = Item("", file, (height, width) if height and width else None, file, shapes)
        path = _image(images, file, str(content.get("imagePath") or f"{file.stem}.jpg"))
        if isinstance(path, Path):
            item = item._replace(file=path)
        elif content.get("imageData"):
            item = item._replace(embedded=partial(_inside, file))
        else:
            problems.append(path)
        items.append((part_named(file.parent.name) if file.parent != location else None, item))
    refuse_missing(problems, len(files), location, location)
    known = {item.file for _, item in items}
    folders = {file.parent for file in known}  # others may hold pictures of the annotations
    beside = [file for file in images if file.parent in folders]
    without = [
        (part_named(file.parent.name) if file.parent != location else None, Item("", file, None, file, []))
        for file in not_looked_at(location, beside, known, missing_masks)
    ]
    return Export(location, in_parts(items + without), sorted(labels), {}, _shapes)


def _content(file: Path) -> Mapping[str, Any]:
    content = read_json(file)
    shapes = content.get("shapes") if isinstance(content, Mapping) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, Mapping) and "label" in shape for shape in shapes):
        raise ValueError(f"{file} is no LabelMe file: it needs a list of shapes, each with a label")
    return content


def _image(images: Images, file: Path, name: str) -> Path | str:
    """The image of a file, which names it from its own folder; or what is wrong."""
    beside = file.parent / name.replace("\\", "/")
    return Path(os.path.normpath(beside)) if beside.is_file() else images.find(name, beside=file.parent)


def _inside(file: Path) -> bytes:
    """The bytes of the image inside a file."""
    return base64.b64decode(_content(file)["imageData"])


def _shapes(item: Item) -> Iterable[Shape]:
    for number, shape in enumerate(item.raw, 1):
        yield Shape(str(shape["label"]), partial(_region, shape), f"shape {number} ({shape['label']})")


def _region(shape: Mapping[str, Any], canvas: Canvas) -> Region:
    kind, given = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in ("polygon", "oriented_rectangle", "rotation"):  # the last is X-AnyLabeling's turned box
        return polygon(canvas, [points(given)])
    if kind == "rectangle":
        corners = points(given, 2)
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        return box(canvas, x0, y0, x1, y1)
    if kind == "circle":
        center, edge = points(given, 2)[:2]
        radius = float(np.hypot(*(edge - center)))
        return ellipse(canvas, center[0], center[1], radius, radius)
    if kind == "mask":
        left, top = points(given, 1).min(axis=0).astype(int).tolist()
        return bitmap(canvas, top, left, png_mask(shape.get("mask")))
    if kind in ("line", "linestrip"):
        return line(canvas, points(given, 2))
    raise ValueError(f"is a {kind}, which covers no area: remove it, or change it to a polygon")


read = reader(_parse)
splits = splitter(_parse)
