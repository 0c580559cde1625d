"""The Semantic Boundaries Dataset (SBD): VOC's classes in 11,355 of its photographs, masks in .mat files."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data.images import EXTENSIONS
from keras_deeplab.data.matlab import read_mat
from keras_deeplab.data.official import Official, holds, inside, labels_by_number, matlab_reader, pairs_of
from keras_deeplab.data.pairs import Pair, files_by_name, listed_names
from keras_deeplab.data.source import Source
from keras_deeplab.specs.class_names import VOC

OFFICIAL = Official(
    "SBD",
    "http://home.bharathh.info/pubs/codes/SBD/download.html",
    {"benchmark.tgz": "benchmark_RELEASE/dataset"},
    {21: VOC},
    {"train": 8498, "val": 2857},
    "photographs: Flickr's terms",
)
# Names under which the folder that holds `cls/` goes, in or beside a VOC devkit.
PLACES = ("benchmark_RELEASE/dataset", "VOCaug/dataset")


def detect(name_or_path: str) -> bool:
    """Whether it is `benchmark_RELEASE`, its `dataset`, or a folder with it and without a VOC devkit."""
    path = Path(name_or_path).expanduser()
    return dataset_in((path,)) is not None and not any(
        holds(path, name) for name in ("JPEGImages", "VOC20*", "VOCdevkit")
    )


def dataset_in(places: Iterable[Path]) -> Path | None:
    """The folder that holds `cls/` with .mat files, of those where it may be; None where it isn't."""
    for place in places:
        found = inside(place, lambda root: (root / "cls").is_dir() and (root / "img").is_dir(), "dataset", *PLACES)
        if found is not None:
            return found
    return None


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map `benchmark_RELEASE` to the `Source` of one of SBD's own splits, which are not VOC's.

    For the 10,582 images that are trained on before VOC 2012 val is scored, read VOC's devkit with `split="trainaug"`.

    Args:
        location: `benchmark_RELEASE`, its `dataset`, or a folder with it.
        split: `"train"` or `"val"`; `"train_noval"`, whose list lies beside the archive; or `"all"`, train and val.
        num_classes: 21 or None.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split.
    """
    path = Path(location).expanduser()
    root = dataset_in((path,)) or path
    num_classes = OFFICIAL.numbering(num_classes)
    pairs: list[Pair] = []
    images = files_by_name(OFFICIAL.folder(root, "img", archive="benchmark.tgz"), EXTENSIONS)
    masks = files_by_name(OFFICIAL.folder(root, "cls", archive="benchmark.tgz"), (".mat",))
    for part in ("train_noval",) if split == "train_noval" else OFFICIAL.parts(split):
        origin = OFFICIAL.folder(root, f"{part}.txt", archive="benchmark.tgz")
        pairs += pairs_of(root, listed_names(origin), images, masks, ("img", "cls"), origin)
    return OFFICIAL.source(path, split, pairs, None, num_classes, matlab_reader(pairs, segmentation))


def train_augmented(root: Path, dataset: Path) -> list[Pair]:
    """The (name, photograph, mask) of what is trained on before VOC 2012 val is scored: 10,582 in all.

    They are VOC's train with VOC's own masks, and what SBD has beyond VOC's train and val with SBD's.

    Args:
        root: the devkit, `VOC2012`.
        dataset: what `dataset_in` returns.
    """
    lists = root / "ImageSets" / "Segmentation"
    own, scored = listed_names(lists / "train.txt"), set(listed_names(lists / "val.txt"))
    added = {name for part in OFFICIAL.splits for name in listed_names(dataset / f"{part}.txt")} - scored - {*own}
    masks = files_by_name(root / "SegmentationClass", (".png",))
    theirs = files_by_name(dataset / "cls", (".mat",))
    masks = {name: masks.get(name, []) for name in own} | {name: theirs.get(name, []) for name in added}
    images = files_by_name(root / "JPEGImages", EXTENSIONS)
    return pairs_of(root, sorted(masks), images, masks, ("JPEGImages", "SegmentationClass or SBD's cls"), dataset)


_labels_of = labels_by_number({label: label for label in range(21)})


def segmentation(file: Path) -> np.ndarray:
    """The labels (H, W) uint8 of a file in `cls/`; raises ValueError."""
    values = read_mat(read_regular(file)).get("GTcls")
    values = values.get("Segmentation") if isinstance(values, dict) else None
    if not isinstance(values, np.ndarray):
        raise ValueError("has no GTcls.Segmentation, as the files in SBD's cls/ have")
    return _labels_of(values)
