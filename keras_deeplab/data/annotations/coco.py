"""COCO's JSON to a `Source`: polygons and run-length encoded masks, as COCO, CVAT, Roboflow and others write it.

    annotations/instances_train.json, instances_val.json    or one file; or train/_annotations.coco.json (Roboflow)
    images/, train2017/, ...                                anywhere beside them

Parts are told by the names of the files or of their folders. The classes are the categories in the order of their
ids, which may have gaps. Shapes have no order in this format, so smaller ones are painted over larger ones: what is
drawn on something is smaller than that. An image of the list without annotations is background.

`iscrowd` marks a region with many objects that were not told apart, and is ignored where no object lies on it; but CVAT
and Datumaro mark every mask that was drawn with a brush so: `crowds="object"` takes them for what they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.data.annotations.encoded import coco_counts, from_counts
from keras_deeplab.data.annotations.export import Export, Item, Shape, in_parts
from keras_deeplab.data.annotations.layout import (
    Images,
    has_keys,
    json_files,
    listed,
    part_named,
    read_json,
    refuse_missing,
)
from keras_deeplab.data.annotations.reading import reader, splitter
from keras_deeplab.data.annotations.regions import Canvas, Region, bitmap, points, polygon, union

_is_coco = has_keys("images", "annotations")


def detect(name_or_path: str) -> bool:
    """Whether it is a COCO file, or a folder with one in it, in its `annotations/` or in another folder of it."""
    path = Path(name_or_path).expanduser()
    return _is_coco(path) if path.is_file() else bool(_files(path))


def _files(root: Path) -> dict[str, Path]:
    """The files of a folder by part."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in filter(_is_coco, json_files(root, _is_coco, "annotations", "*")):
        part = part_named(file.stem) or (part_named(file.parent.name) if file.parent != root else None)
        if file not in found[part or ""]:
            found[part or ""].append(file)
    chosen = {}
    for part, files in found.items():
        instances = [file for file in files if file.name.startswith("instances")] or files
        if len(instances) == 1:
            chosen[part] = instances[0]
        else:
            chosen |= {file.stem: file for file in instances}
    return chosen


def _parse(location: Path, missing_masks: str, crowds: str = "ignore") -> Export:
    if crowds not in ("ignore", "object"):
        raise ValueError(f"crowds={crowds!r}; it is one of 'ignore', 'object'")
    if location.is_dir():
        files, root = _files(location), location
        if not files:
            raise FileNotFoundError(f"{location} has no COCO file, annotations/*.json or */_annotations.coco.json")
    else:
        files = {"": location}
        root = location.parent.parent if location.parent.name == "annotations" else location.parent
    images = Images(root)
    items: list[tuple[str | None, Item]] = []
    categories: dict[int, str] = {}
    first = None
    for part, file in files.items():
        content = read_json(file)
        found = _categories(file, content)
        if first is not None and found != categories:
            raise ValueError(
                f"{first} has the categories {listed(categories.values())}, and {file} has {listed(found.values())}, "
                "or other ids: make them equal, or give one of the files itself"
            )
        categories, first = found, file
        items += [(part or None, item) for item in _items(file, part, content, categories, images)]
    names = list(categories.values())
    shapes = partial(_shapes, categories, crowds == "ignore")
    return Export(location, in_parts(items), names, {}, shapes, True, _notes(location, items, crowds))


def _notes(location: Path, items: Iterable[tuple[str | None, Item]], crowds: str) -> list[str]:
    """A line on regions that are ignored because they are crowds."""
    entries = [entry for _, item in items for entry in item.raw]
    count = sum(bool(entry.get("iscrowd")) for entry in entries)
    if not count or crowds == "object":
        return []
    return [
        f"{count} of {len(entries)} annotations in {location} are crowds (iscrowd) and ignored; crowds='object' takes "
        "them as objects, as CVAT and Datumaro mean those that were drawn with a brush"
    ]


def _categories(file: Path, content: Any) -> dict[int, str]:
    """The names of the categories by id, without one that only stands for all others, as Roboflow's first does."""
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"{file} is no COCO file: it needs lists of images, annotations and categories")
    try:
        entries = sorted(content["categories"], key=lambda entry: int(entry["id"]))
        used = {entry["category_id"] for entry in content["annotations"]}
        names = [str(entry["name"]) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} has a category without id and name, or an annotation without one: {error}") from error
    above = {entry.get("supercategory") for entry in entries}
    found = {
        int(entry["id"]): name
        for entry, name in zip(entries, names, strict=True)
        if entry["id"] in used or entry["id"] != 0 or name not in above
    }
    if len({entry["id"] for entry in entries}) < len(entries) or len(set(found.values())) < len(found):
        raise ValueError(f"{file} has several categories of one name or id: {listed(names)}")
    return found


def _items(file: Path, part: str, content: Any, categories: Mapping[int, str], images: Images) -> Iterator[Item]:
    """The images of a file with their annotations."""
    by_image: dict[Any, list[Any]] = defaultdict(list)
    for entry in content["annotations"]:
        if entry["category_id"] not in categories:
            raise ValueError(
                f"{file}: annotation {entry.get('id')} has category_id {entry['category_id']}, which is none of the "
                f"categories {listed(categories)}"
            )
        by_image[entry.get("image_id")].append(entry)
    found, problems, known = [], [], set()
    for image in content["images"]:
        if not isinstance(image, Mapping) or "id" not in image or "file_name" not in image or image["id"] in known:
            raise ValueError(f"{file} has an image without an id of its own and a file_name: {image!r:.120}")
        known.add(image["id"])
        path = images.find(str(image["file_name"]), part or None, file.parent)
        if isinstance(path, str):
            problems.append(path)
        else:
            size = (image["height"], image["width"]) if "height" in image and "width" in image else None
            found.append(Item("", path, size, file, by_image[image["id"]]))
    strangers = by_image.keys() - known
    if strangers:
        entry = by_image[min(strangers, key=str)][0]
        raise ValueError(
            f"{file}: annotation {entry.get('id')} is of image {entry.get('image_id')!r}, which isn't there"
        )
    refuse_missing(problems, len(content["images"]), images.root, file)
    return iter(found)


def _shapes(categories: Mapping[int, str], ignore_crowds: bool, item: Item) -> Iterable[Shape]:
    for entry in item.raw:
        label = None if ignore_crowds and entry.get("iscrowd") else categories[entry["category_id"]]
        where = f"annotation {entry.get('id')} ({categories[entry['category_id']]})"
        yield Shape(label, partial(_region, entry.get("segmentation")), where)


def _region(segmentation: Any, canvas: Canvas) -> Region:
    if isinstance(segmentation, Mapping):
        counts, (height, width) = segmentation["counts"], segmentation["size"]
        if (height, width) != (canvas.height, canvas.width):
            raise ValueError(
                f"is a mask of {width}x{height} pixels in an image of {canvas.width}x{canvas.height}: not of this image"
            )
        runs = coco_counts(counts) if isinstance(counts, (str, bytes)) else counts
        return bitmap(canvas, 0, 0, from_counts(runs, height, width, by_columns=True))
    if not segmentation:
        raise ValueError("has a box and no segmentation: export polygons or masks, or draw its shape")
    return union(polygon(canvas, [_ring(part)]) for part in segmentation)


def _ring(numbers: Any) -> np.ndarray:
    if not isinstance(numbers, list) or len(numbers) % 2:
        raise ValueError(f"has a polygon that is no list of x, y, x, y, ...: {numbers!r:.80}")
    return points([numbers[place : place + 2] for place in range(0, len(numbers), 2)])


read = reader(_parse, crowds="ignore")
splits = splitter(_parse)
