"""Pascal Context to a `Source` of its 59 most frequent classes, or of 60 with the rest."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.matlab import read_mat
from keras_deeplab.data.official import Official, holds, labels_by_number, matlab_reader, pairs_of
from keras_deeplab.data.pairs import files_by_name, listed_names
from keras_deeplab.data.source import Source
from keras_deeplab.specs import IGNORED
from keras_deeplab.specs.class_names import PASCAL_CONTEXT, PASCAL_CONTEXT_60

OFFICIAL = Official(
    "Pascal Context",
    "https://cs.stanford.edu/~roozbeh/pascal-context/",
    {
        "VOCtrainval_03-May-2010.tar": "VOCdevkit/VOC2010/JPEGImages, VOCdevkit/VOC2010/ImageSets",
        "59_context_labels.tar.gz": "VOC2010/59_context_labels, or",
        "trainval.tar.gz": "VOC2010/trainval (the masks of all 459 classes)",
    },
    {59: PASCAL_CONTEXT, 60: PASCAL_CONTEXT_60},
    {"train": 4998, "val": 5105},
    "photographs: Flickr's terms",
)
# The numbers that the 59 classes, in alphabetical order, have among the 459 (labels.txt of trainval.tar.gz).
_OF_459 = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159),
    *(162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368),
    *(397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
# Where the masks may be, and how they are named there.
_OFFICIAL, _SORTED, _ALL = "59_context_labels", "SegmentationClassContext", "trainval"
_PLACES = {_OFFICIAL: ".png", _SORTED: ".png", _ALL: ".mat"}


def detect(name_or_path: str) -> bool:
    """Whether it is VOC's devkit of 2010 with masks of Pascal Context in it, or the folder above with no other."""
    return context_root(Path(name_or_path).expanduser()) is not None


def context_root(path: Path) -> Path | None:
    """The folder with `JPEGImages/` and masks of Pascal Context; None where a devkit of another year is there too."""
    devkits = [place for place in (path, *path.glob("VOC20*"), *path.glob("VOCdevkit/VOC20*")) if place.is_dir()]
    years = [place for place in devkits if (place / "JPEGImages").is_dir() or _masks(place)]
    return years[0] if len(years) == 1 and _masks(years[0]) else None


def _masks(root: Path) -> str | None:
    return next((place for place, ending in _PLACES.items() if holds(root, f"{place}/*{ending}")), None)


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map VOC's devkit of 2010 with masks of Pascal Context to the `Source` of one of its splits.

    The masks are those of the archive in `59_context_labels/`; else of `SegmentationClassContext/`, as mmsegmentation's
    converter writes them, which counts the classes alphabetically; else of all 459 classes, `trainval/NAME.mat`. The
    classes of the source are the same in each case, VOC's twenty first. The splits are those of
    `ImageSets/SegmentationContext/`, else of `ImageSets/Main/`.

    Args:
        location: `VOC2010`, or a folder above it that has no other year.
        split: `"train"` or `"val"`, or another list there; or `"all"` for every image that has a mask.
        num_classes: 59 (or None): what is none of the classes is ignored. 60: it is class 0, `"background"`.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such numbering.
    """
    path = Path(location).expanduser()
    root = context_root(path) or path
    num_classes = OFFICIAL.numbering(num_classes)
    photographs = OFFICIAL.folder(root, "JPEGImages", archive="VOCtrainval_03-May-2010.tar")
    place = _masks(root)
    if place is None:
        OFFICIAL.folder(root, *_PLACES, archive="59_context_labels.tar.gz")
        raise FileNotFoundError(f"{root} has no masks in {', '.join(_PLACES)}")
    masks = files_by_name(root / place, (_PLACES[place],))
    images = files_by_name(photographs, (".jpg",))
    if split is None or split == "all":
        names, origin = sorted(images.keys() & masks.keys()), photographs
    else:
        lists = [f"ImageSets/{folder}/{split}.txt" for folder in ("SegmentationContext", "Main")]
        origin = OFFICIAL.folder(root, *lists, archive="VOCtrainval_03-May-2010.tar")
        names = [line.split()[0] for line in listed_names(origin)]
    pairs = pairs_of(root, names, images, masks, ("JPEGImages", place), origin)
    if place == _ALL:
        read_pair = matlab_reader(pairs, _label_map(num_classes))
        return OFFICIAL.source(path, split, pairs, None, num_classes, read_pair)
    return OFFICIAL.source(path, split, pairs, labels_by_number(meaning(place, num_classes)), num_classes)


def _label_map(num_classes: int) -> Callable[[Path], np.ndarray]:
    """A function from a file of trainval.tar.gz to labels."""
    table = np.full(461, 0 if num_classes == 60 else IGNORED, np.uint8)
    for number, label in meaning(_ALL, num_classes).items():
        table[number] = label

    def labels_in(file: Path) -> np.ndarray:
        values = read_mat(read_regular(file)).get("LabelMap")
        if not isinstance(values, np.ndarray):
            raise ValueError("has no LabelMap, as the files of trainval.tar.gz have")
        return table[np.minimum(values, 460).astype(np.int64)]

    return labels_in


def meaning(place: str, num_classes: int) -> dict[int, int]:
    """The label of each number in the masks of a folder; what it leaves out is none of the classes."""
    names = PASCAL_CONTEXT.names or ()
    first = num_classes - len(names)
    numbered = {
        _OFFICIAL: (names, range(1, 60)),
        _SORTED: (sorted(names), range(1, 60)),
        _ALL: (sorted(names), _OF_459),
    }
    order, numbers = numbered[place]
    rest = {0: 0 if first else IGNORED}
    return rest | {number: names.index(name) + first for number, name in zip(numbers, order, strict=True)}
