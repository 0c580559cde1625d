"""COCO 2017 with VOC's classes to a `Source`: objects of VOC's classes, drawn as torchvision's references do."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.annotations.encoded import by_turns, from_counts
from keras_deeplab.data.images import read_image
from keras_deeplab.data.official import Official
from keras_deeplab.data.source import Source, indexed, listing
from keras_deeplab.specs import IGNORED
from keras_deeplab.specs.class_names import COCO_STUFF_182, VOC

OFFICIAL = Official(
    "COCO",
    "https://cocodataset.org/#download",
    {
        "train2017.zip": "train2017/",
        "val2017.zip": "val2017/",
        "annotations_trainval2017.zip": "annotations/instances_train2017.json, annotations/instances_val2017.json",
    },
    {21: VOC},
    {"train": 118287, "val": 5000},
    "annotations: CC BY 4.0; photographs: Flickr's terms",
)
# COCO's id of each of VOC's classes (torchvision, references/segmentation/coco_utils.py); of the background none.
_IDS = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
_LEAST = 1000  # pixels of VOC's classes in a photograph that is trained on
_FAR = 1 << 16  # no image is as large
_SCALE = 5.0  # parts of a pixel to which outlines are rounded

# A mask of an object: polygons x, y, x, y, ..., or {"counts": lengths of runs, "size": [height, width]}.
_Shape = list[np.ndarray] | Mapping[str, Any]


def detect(name_or_path: str) -> bool:
    """No: the same folder has COCO's own 80 classes too, so VOC's are asked for by "coco_voc:PATH"."""
    return False


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map a folder with COCO's photographs and instance annotations to the `Source` of one of its splits.

    A pixel has the class of the one object that covers it, whether single or in a crowd, and 0 where there is none;
    where several of VOC's classes' objects do, it is ignored. Of train, photographs in which these objects have more
    than 1000 pixels are taken, of val all.

    Args:
        location: the folder with `annotations/instances_train2017.json` and `train2017/NAME.jpg` (or
            `images/train2017/`).
        split: `"train"` or `"val"`, or `"all"` for both.
        num_classes: 21 or None.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split, or the file's categories are not COCO's.
    """
    root = Path(location).expanduser()
    num_classes = OFFICIAL.numbering(num_classes)
    samples: list[tuple[Path, tuple[int, int], list[tuple[int, _Shape]]]] = []
    listed = 0
    for part in OFFICIAL.parts(split):
        year = f"{part}2017"
        file = OFFICIAL.folder(root, f"annotations/instances_{year}.json", archive="annotations_trainval2017.zip")
        folder = OFFICIAL.folder(root, year, f"images/{year}", archive=f"{year}.zip")
        content = json.loads(read_regular(file))
        samples += _samples(file, content, folder, _LEAST if part == "train" else -1)
        listed += len(content["images"])
    missing = [path for path, _, _ in samples if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of the {len(samples)} photographs are missing:\n{listing(missing)}")

    def read_sample(index: int) -> tuple[np.ndarray, np.ndarray, str]:
        path, size, objects = samples[index]
        image = read_image(path, upright=False)
        if image.shape[:2] != size:
            raise ValueError(
                f"{path} is {image.shape[1]}x{image.shape[0]} pixels, but its annotation {size[1]}x{size[0]}"
            )
        try:
            return image, _label(objects, *size), path.stem
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} has an annotation that is no polygon or mask of it: {error}") from error

    source = indexed(f"{root} ({split or 'all'})", VOC, len(samples), read_sample)
    source.notes += OFFICIAL.notes(split, listed)
    return source


def _samples(file: Path, content: Any, folder: Path, least: int) -> list[Any]:
    """The path, size and objects (label, shape) of each photograph with more than `least` pixels of objects."""
    try:
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        theirs = {number: (COCO_STUFF_182.names or ())[number - 1] for number in _IDS}
        other = [f"{number} is {names.get(number)!r}" for number, name in theirs.items() if names.get(number) != name]
        if other:
            raise ValueError(f"its categories are not COCO's: {', '.join(other[:3])}")
        labels = {number: label for label, number in enumerate(_IDS, 1)}
        objects: dict[int, list[tuple[int, _Shape]]] = defaultdict(list)
        area: dict[int, float] = defaultdict(float)
        for entry in content["annotations"]:
            if entry["category_id"] in labels:
                objects[entry["image_id"]].append((labels[entry["category_id"]], _compact(entry["segmentation"])))
                area[entry["image_id"]] += entry["area"]
        return [
            (folder / image["file_name"], (image["height"], image["width"]), objects[image["id"]])
            for image in content["images"]
            if area[image["id"]] > least
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no instances of COCO ({type(error).__name__}: {error})") from error


def _compact(segmentation: Any) -> _Shape:
    if isinstance(segmentation, Mapping):
        return segmentation
    return [np.asarray(polygon, np.float64) for polygon in segmentation]


def _label(objects: list[tuple[int, _Shape]], height: int, width: int) -> np.ndarray:
    """The labels (H, W) uint8 of a photograph's objects."""
    label, covered = np.zeros((height, width), np.uint8), np.zeros((height, width), bool)
    for number, shape in objects:
        mask = _covered(shape, height, width)
        label[mask] = number
        label[covered & mask] = IGNORED
        covered |= mask
    return label


def _covered(shape: _Shape, height: int, width: int) -> np.ndarray:
    """The pixels of an object, bool (H, W)."""
    if isinstance(shape, Mapping):
        if list(shape["size"]) != [height, width]:
            raise ValueError(f"runs for {shape['size']} (height, width), not [{height}, {width}]")
        return from_counts(shape["counts"], height, width, by_columns=True)
    mask = np.zeros((height, width), bool)
    for polygon in shape:
        mask |= fill(polygon, height, width)
    return mask


def fill(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """Map a polygon's x, y, x, y, ... to its pixels, bool (H, W), the same ones as COCO's own tools.

    They trace its outline on a grid of fifths of a pixel and note at which row it crosses each column's middle; a
    column is inside between one crossing and the next (pycocotools, common/maskApi.c, `rleFrPoly`).
    """
    if polygon.size < 6 or polygon.size % 2 or not (np.abs(polygon) < _FAR).all():
        raise ValueError(f"a polygon of {polygon.size} numbers, or of such that are no places in an image")
    x, y = _outline((_SCALE * polygon.reshape(-1, 2) + 0.5).astype(np.int64))  # towards 0, as C does
    moved = x[1:] != x[:-1]
    column = (np.where(x[1:] < x[:-1], x[1:], x[1:] - 1)[moved] + 0.5) / _SCALE - 0.5
    row = np.ceil(np.clip((np.minimum(y[1:], y[:-1])[moved] + 0.5) / _SCALE - 0.5, 0, height))
    kept = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    mask = np.zeros((width, height), bool)
    if kept.any():
        column, row = column[kept].astype(np.int64), row[kept].astype(np.int64)
        first, last = column.min(), column.max()
        crossings = np.sort((column - first) * height + row)
        runs = np.diff(crossings, prepend=0, append=(last - first + 1) * height)
        mask[first : last + 1] = by_turns(runs).reshape(-1, height)
    return mask.T


def _outline(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The x and y of the points of the grid on a closed polygon's edges, a step of each edge's longer side apart."""
    ends = np.roll(corners, -1, axis=0)
    sides = np.abs(ends - corners)
    along = np.where(sides[:, 0] >= sides[:, 1], 0, 1)
    length = sides.max(axis=1)
    edges = np.arange(len(corners))
    # Each is walked from its start, and computed from its lower end.
    backwards = corners[edges, along] > ends[edges, along]
    low, high = np.where(backwards[:, None], ends, corners), np.where(backwards[:, None], corners, ends)
    slope = (high[edges, 1 - along] - low[edges, 1 - along]) / np.maximum(length, 1)
    edge = np.repeat(edges, length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(backwards[edge], length[edge] - step, step)
    major = low[edge, along[edge]] + step
    minor = (low[edge, 1 - along[edge]] + slope[edge] * step + 0.5).astype(np.int64)
    lying = along[edge] == 0
    return np.where(lying, major, minor), np.where(lying, minor, major)
