"""A project of Supervisely to a `Source`: bitmaps, polygons with holes, rectangles.

    meta.json                   the classes, in this order, with their colours
    DATASET/img/NAME.jpg
    DATASET/ann/NAME.jpg.json   the objects of an image

The parts are the datasets where all are called train, val (or valid) or test; else what the images are tagged, where
each has one such tag. Objects are painted in the order of the file, each over those before it, as Supervisely's own
export does. An image without objects is background; one without a file has not been looked at, see `missing_masks`.

Coordinates are whole and name pixels, and the outline belongs to the shape, that of a hole to the hole (Supervisely's
developer portal, "Coordinate System"); so polygons are painted by OpenCV, as its SDK paints them.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.data.annotations.encoded import png_mask
from keras_deeplab.data.annotations.export import Export, Item, Shape, in_parts, not_looked_at
from keras_deeplab.data.annotations.layout import Images, has_keys, listed, part_named, read_json
from keras_deeplab.data.annotations.reading import reader, splitter
from keras_deeplab.data.annotations.regions import Canvas, Region, bitmap, points
from keras_deeplab.specs import Color

_is_meta = has_keys("classes")


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with Supervisely's meta.json and folders `img/` and `ann/` in its folders."""
    root = Path(name_or_path).expanduser()
    return _is_meta(root / "meta.json") and bool(_datasets(root))


def _datasets(root: Path) -> list[Path]:
    """The folders with `img/` and `ann/` in them, also those of datasets in datasets."""
    places = ("*", "*/datasets/*", "*/datasets/*/datasets/*")
    return [
        folder
        for place in places
        for folder in sorted(root.glob(place))
        if (folder / "ann").is_dir() and (folder / "img").is_dir()
    ]


def _parse(location: Path, missing_masks: str) -> Export:
    datasets = _datasets(location)
    if not datasets:
        raise FileNotFoundError(f"{location} has no datasets of Supervisely, folders with img/ and ann/")
    labels, colors = _classes(location / "meta.json")
    items: list[tuple[str | None, Item]] = []
    for dataset in datasets:
        images = Images(dataset / "img")
        known = {file: found for file in images if (found := _annotations(dataset, file, labels)) is not None}
        strangers = {*(dataset / "ann").glob("*.json")} - {origin for origin, _ in known.values()}
        if strangers:
            raise FileNotFoundError(
                f"{dataset / 'img'} lacks the images of {len(strangers)} files in {dataset / 'ann'}, such as "
                f"{min(strangers).name}: download the project with its images"
            )
        part = part_named(dataset.name)
        for file, (origin, content) in known.items():
            size = (int(content["size"]["height"]), int(content["size"]["width"]))
            items.append((part, Item("", file, size, origin, content)))
        for file in not_looked_at(dataset, images, known, missing_masks):
            items.append((part, Item("", file, None, file, {"objects": []})))
    if not all(part for part, _ in items):
        tagged = [_tag(item) for _, item in items]
        items = [(part if all(tagged) else None, item) for part, (_, item) in zip(tagged, items, strict=True)]
    return Export(location, in_parts(items), labels, colors, _shapes)


def _classes(file: Path) -> tuple[list[str], dict[str, Color]]:
    """The names of the classes, and their colours."""
    try:
        entries = [(str(entry["title"]), str(entry.get("color", ""))) for entry in read_json(file)["classes"]]
        named = {name: color.removeprefix("#") for name, color in entries}
        colors = {
            name: (int(color[:2], 16), int(color[2:4], 16), int(color[4:], 16))
            for name, color in named.items()
            if len(color) == 6
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is no meta.json of Supervisely ({error})") from error
    return [name for name, _ in entries], colors


def _annotations(dataset: Path, image: Path, labels: list[str]) -> tuple[Path, Mapping[str, Any]] | None:
    """The file of an image's annotations with what it holds; None where there is none."""
    for name in (f"{image.name}.json", f"{image.stem}.json"):
        file = dataset / "ann" / name
        if not file.is_file():
            continue
        content = read_json(file)
        try:
            used = [
                (entry.get("id", number), entry["classTitle"]) for number, entry in enumerate(content["objects"], 1)
            ]
            int(content["size"]["height"]), int(content["size"]["width"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{file} is no annotation of Supervisely: it has no {error}") from error
        for number, label in used:
            if label not in labels:
                raise ValueError(f"{file}: object {number} has the class {label!r}, which is none of {listed(labels)}")
        return file, content
    return None


def _tag(item: Item) -> str | None:
    """The part that an image is tagged with."""
    tags = item.raw.get("tags") or ()
    if not isinstance(tags, (list, tuple)):
        raise ValueError(f"{item.origin} has tags that are no list: {tags!r:.80}")
    found = {part_named(str(tag.get("name", ""))) for tag in tags if isinstance(tag, Mapping)} - {None}
    return found.pop() if len(found) == 1 else None


def _shapes(item: Item) -> Iterable[Shape]:
    for number, entry in enumerate(item.raw["objects"], 1):
        where = f"object {entry.get('id', number)} ({entry['classTitle']})"
        yield Shape(entry["classTitle"], partial(_region, entry), where)


def _region(entry: Mapping[str, Any], canvas: Canvas) -> Region:
    from keras_deeplab._helpers.opencv import cv2

    kind = entry.get("geometryType") or ("bitmap" if entry.get("bitmap") else "polygon")
    if kind == "bitmap":
        left, top = np.rint(points([entry["bitmap"]["origin"]], 1)[0]).astype(int).tolist()
        return bitmap(canvas, top, left, png_mask(entry["bitmap"]["data"]))
    if kind not in ("polygon", "rectangle"):
        raise ValueError(f"is a {kind}, which is not read: change it to a polygon or bitmap in Supervisely")
    outer = np.rint(points(entry["points"]["exterior"], 2 if kind == "rectangle" else 3)).astype(np.int64)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = outer.min(axis=0), outer.max(axis=0)
        outer = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    holes = [np.rint(points(ring)).astype(np.int64) for ring in entry["points"].get("interior") or ()]
    left, top = outer.min(axis=0).tolist()
    width, height = (outer.max(axis=0) - (left, top) + 1).tolist()
    if width * height > 16 * canvas.width * canvas.height:
        raise ValueError(f"reaches over {width}x{height} pixels, far outside its image: {canvas.width}x{canvas.height}")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [(outer - (left, top)).astype(np.int32)], 1)
    for hole in holes:
        cv2.fillPoly(mask, [(hole - (left, top)).astype(np.int32)], 0)
    return bitmap(canvas, top, left, mask > 0)


read = reader(_parse)
splits = splitter(_parse)
