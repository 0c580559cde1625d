"""COCO-Stuff 10k, the data set's first edition, to a `Source` of the 171 classes of the later one."""

import os
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.coco_stuff import meaning
from keras_deeplab.data.matlab import read_mat
from keras_deeplab.data.official import LabelsOf, Official, holds, inside, labels_by_number, matlab_reader, pairs_of
from keras_deeplab.data.pairs import Pair, files_by_name, listed_names
from keras_deeplab.data.source import Source
from keras_deeplab.specs import IGNORED
from keras_deeplab.specs.class_names import COCO_STUFF, COCO_STUFF_182

_ARCHIVE = "cocostuff-10k-v1.1.zip"
OFFICIAL = Official(
    "COCO-Stuff 10k",
    "https://github.com/nightrome/cocostuff10k",
    {_ARCHIVE: "images/, annotations/, imageLists/"},
    {171: COCO_STUFF, 182: COCO_STUFF_182},
    {"train": 9000, "test": 1000},
    "masks: CC BY 4.0; photographs: Flickr's terms",
)


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `annotations/COCO_train2014_....mat`, or has `cocostuff-10k-v1.1/` with that."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    return inside(path, lambda root: holds(root, "annotations/COCO_train2014_*.mat"), "cocostuff-10k-v1.1")


def splits(location: str | os.PathLike) -> tuple[str, ...]:
    """The splits: there is no val."""
    return tuple(OFFICIAL.splits)


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map the folder that `cocostuff-10k-v1.1.zip` unpacks to, to the `Source` of one of its splits.

    Args:
        location: the folder with `images/`, `annotations/` and `imageLists/`, or the one above.
        split: `"train"` or `"test"`, or `"all"` for both.
        num_classes: 171 (or None) or 182, as in `coco_stuff.read`.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: there is no such split or numbering.
    """
    path = Path(location).expanduser()
    root = _root(path) or path
    num_classes = OFFICIAL.numbering(num_classes)
    images = files_by_name(OFFICIAL.folder(root, "images", archive=_ARCHIVE), (".jpg",))
    masks = files_by_name(OFFICIAL.folder(root, "annotations", archive=_ARCHIVE), (".mat",))
    pairs: list[Pair] = []
    for part in OFFICIAL.parts(split):
        origin = OFFICIAL.folder(root, f"imageLists/{part}.txt", archive=_ARCHIVE)
        pairs += pairs_of(root, listed_names(origin), images, masks, ("images", "annotations"), origin)
    # Here the numbers are one higher, and 0 is unlabelled.
    labels_of = labels_by_number({0: IGNORED} | {number + 1: label for number, label in meaning(num_classes).items()})
    read_pair = matlab_reader(pairs, lambda file: _label(file, labels_of))
    return OFFICIAL.source(path, split, pairs, None, num_classes, read_pair)


def _label(file: Path, labels_of: LabelsOf) -> np.ndarray:
    contents = read_mat(read_regular(file))
    values, names = contents.get("S"), contents.get("names")
    if not isinstance(values, np.ndarray):
        raise ValueError("has no S, as the files of COCO-Stuff 10k have")
    if isinstance(names, list) and len(names) == 172:  # those of 1.0, without gaps
        raise ValueError(f"is of COCO-Stuff 1.0, whose numbers mean other classes: take {_ARCHIVE}")
    return labels_of(values)
