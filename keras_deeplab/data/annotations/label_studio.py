"""Label Studio's export as JSON to a `Source`: polygons, brushes, rectangles, ellipses.

    EXPORT.json   a list of tasks
    images/...    anywhere beside it: the export has no images; with or without the eight digits before an upload's name

The classes are the labels that occur in alphabetical order; a `labels.txt` beside the file, one a line, gives another.
Shapes are painted in the order of the file, each over those before it. Of several annotations of a task the one that is
marked as ground truth counts; without such a mark several are refused. An annotation without regions is background; a
task without one has not been looked at, see `missing_masks`. Coordinates are hundredths of the image's size.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.data.annotations.encoded import label_studio_alpha, png_mask
from keras_deeplab.data.annotations.export import Export, Item, Shape, in_parts, not_looked_at
from keras_deeplab.data.annotations.layout import Images, is_list_of, json_files, listed, read_json, refuse_missing
from keras_deeplab.data.annotations.reading import reader, splitter
from keras_deeplab.data.annotations.regions import Canvas, Region, bitmap, ellipse, points, polygon, turned

_is_export = is_list_of("annotations", "completions")
_UPLOAD = re.compile(r"[0-9a-f]{8}-")


def detect(name_or_path: str) -> bool:
    """Whether it is a JSON file of Label Studio, or a folder with one."""
    path = Path(name_or_path).expanduser()
    return _is_export(path) if path.is_file() else bool(_files(path))


def _files(location: Path) -> list[Path]:
    return [location] if location.is_file() else [file for file in json_files(location, _is_export) if _is_export(file)]


def _parse(location: Path, missing_masks: str) -> Export:
    files = _files(location)
    if len(files) != 1:
        raise FileNotFoundError(
            f"{location} has {len(files)} JSON exports of Label Studio"
            + (f", {files[0].name}, {files[1].name}: give the file itself" if files else "")
        )
    images = Images(files[0].parent)
    items: list[tuple[str | None, Item]] = []
    labels, problems, empty = set(), [], {}
    tasks = read_json(files[0])
    for number, task in enumerate(tasks, 1):
        where = f"{files[0]}: task {task.get('id', number)}"
        path = _image(images, where, task)
        if isinstance(path, str):
            problems.append(path)
            continue
        regions = _regions(where, task)
        if regions is None:
            empty[path] = where
            continue
        labels |= {label for _, label, _ in regions}
        items.append((None, Item("", path, _size(where, regions), files[0], regions)))
    refuse_missing(problems, len(tasks), files[0].parent, files[0])
    for path in not_looked_at(location, list(empty), (), missing_masks):
        items.append((None, Item("", path, None, files[0], ())))
    return Export(location, in_parts(items), sorted(labels), {}, _shapes)


def _image(images: Images, where: str, task: Mapping[str, Any]) -> Path | str:
    """The file of a task's image, or what is wrong."""
    data = task.get("data")
    texts = {key: text for key, text in data.items() if isinstance(text, str)} if isinstance(data, Mapping) else {}
    names = [texts["image"]] if "image" in texts else list(texts.values())
    if len(names) != 1:
        raise ValueError(f"{where} has no image in its data, or several texts that may be one: {data!r:.120}")
    found = images.find(names[0])
    stem = names[0].rpartition("/")[2]
    if isinstance(found, str) and _UPLOAD.match(stem):
        found = images.find(_UPLOAD.sub("", stem, count=1))
    return found


def _regions(where: str, task: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]] | None:
    """The regions of a task, (id, label, what it says); None where nobody annotated it."""
    entries = task.get("annotations", task.get("completions")) or []
    entries = [entry for entry in entries if not entry.get("was_cancelled")]
    truths = [entry for entry in entries if entry.get("ground_truth")]
    if len(truths or entries) > 1:
        raise ValueError(
            f"{where} has {len(truths or entries)} annotations{' marked as ground truth' * bool(truths)}, and one "
            "counts: mark it as ground truth in Label Studio, or delete the others"
        )
    if not entries:
        return None
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for number, result in enumerate((truths or entries)[0].get("result") or (), 1):
        if isinstance(result.get("value"), Mapping) and (kind := _kind(result)):
            by_id.setdefault(str(result.get("id", number)), []).append({**result, "kind": kind})
    return [(name, _label(where, name, results), _shape(results)) for name, results in by_id.items()]


def _kind(result: Mapping[str, Any]) -> str | None:
    """What a result is without "labels": brush, polygon, ...; `""` for labels alone; None for what is of no region."""
    kind = str(result.get("type", ""))
    if kind in ("choices", "textarea", "rating", "number", "taxonomy", "pairwise", "datetime", "relation"):
        return None
    return kind.removesuffix("labels") or "labels"


def _label(where: str, name: str, results: list[Mapping[str, Any]]) -> str:
    """The label of a region, which may stand in a result of its own."""
    found = {
        str(label)
        for result in results
        for key, labels in result["value"].items()
        if key.endswith("labels") and isinstance(labels, list)
        for label in labels
    }
    if len(found) != 1:
        raise ValueError(f"{where}, region {name} must have one label; it has {listed(sorted(found))}")
    return found.pop()


def _shape(results: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((result for result in results if result["kind"] != "labels"), results[0])


def _size(where: str, regions: list[tuple[str, str, Mapping[str, Any]]]) -> Any:
    sizes = {(shape.get("original_height"), shape.get("original_width")) for _, _, shape in regions} - {(None, None)}
    if len(sizes) > 1:
        raise ValueError(f"{where} has regions of images of several sizes: {sorted(sizes)}")
    return sizes.pop() if sizes else None


def _shapes(item: Item) -> Iterable[Shape]:
    for name, label, shape in item.raw:
        yield Shape(label, partial(_region, shape), f"region {name} ({label})")


def _region(shape: Mapping[str, Any], canvas: Canvas) -> Region:
    kind, value = shape["kind"], shape["value"]
    if shape.get("image_rotation"):
        raise ValueError(f"is drawn on an image that was turned by {shape['image_rotation']} degrees in Label Studio")
    if kind in ("brush", "magicwand") and "rle" in value:
        return bitmap(canvas, 0, 0, label_studio_alpha(value["rle"], canvas.height, canvas.width))
    if kind == "bitmask":
        return bitmap(canvas, 0, 0, png_mask(value["imageDataURL"]))
    scale = np.array([canvas.width, canvas.height]) / 100
    if kind == "polygon":
        return polygon(canvas, [points(value["points"]) * scale])
    if kind == "ellipse":
        radii = points([(value["radiusX"], value["radiusY"])], 1)[0] * scale
        center = points([(value["x"], value["y"])], 1)[0] * scale
        return ellipse(canvas, center[0], center[1], radii[0], radii[1], value.get("rotation", 0))
    if kind == "rectangle":
        left, top = points([(value["x"], value["y"])], 1)[0] * scale
        width, height = points([(value["width"], value["height"])], 1)[0] * scale
        corners = points([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
        return polygon(canvas, [turned(corners, (left, top), value.get("rotation", 0))])
    raise ValueError(f"is a {kind or 'label'}, which covers no area: remove it, or draw a polygon or brush")


read = reader(_parse)
splits = splitter(_parse)
