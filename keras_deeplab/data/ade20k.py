"""ADE20K's scene parsing benchmark (ADEChallengeData2016) to a `Source`, of 150 classes or of 151 with the rest."""

import os
from pathlib import Path

from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.official import Official, all_pairs, holds, inside
from keras_deeplab.data.pairs import Pair
from keras_deeplab.data.source import Source
from keras_deeplab.specs.class_names import ADE20K, ADE20K_150

OFFICIAL = Official(
    "ADE20K",
    "http://data.csail.mit.edu/places/ADEchallenge/",
    {"ADEChallengeData2016.zip": "images/, annotations/"},
    {150: ADE20K_150, 151: ADE20K},
    {"train": 20210, "val": 2000},
    "images: research and education, non-commercial; masks and software: BSD 3-clause",
)
_FOLDERS = {"train": "training", "val": "validation"}


def detect(name_or_path: str) -> bool:
    """Whether it is `ADEChallengeData2016`, or a folder with it: images or masks called `ADE_...` in `training/`."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    def present(root: Path) -> bool:
        return any(
            holds(root, f"{kind}/{part}/ADE_*") for kind in ("images", "annotations") for part in _FOLDERS.values()
        )

    return inside(path, present, "ADEChallengeData2016")


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map `ADEChallengeData2016`, or the folder it stands in, to the `Source` of one of its splits.

    Its masks have 0 where none of the 150 classes is, which is neither learnt nor scored, and the classes as 1 to 150.

    Args:
        location: the folder with `images/` and `annotations/`, or the one above.
        split: `"train"` or `"val"`, or `"all"` for both.
        num_classes: 150 (or None): the classes count from 0, as in mmsegmentation (`reduce_zero_label`). 151: they
            keep their numbers and label 0, `"background"`, never occurs, as in research/deeplab.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split or numbering.
    """
    path = Path(location).expanduser()
    root = _root(path) or path
    num_classes = OFFICIAL.numbering(num_classes)
    pairs: list[Pair] = []
    for part in OFFICIAL.parts(split):
        folders = [
            OFFICIAL.folder(root, f"{kind}/{_FOLDERS[part]}", archive="ADEChallengeData2016.zip")
            for kind in ("images", "annotations")
        ]
        pairs += all_pairs(root, (folders[0], ".jpg"), (folders[1], ".png"))
    labels_of = label_reader(num_classes, "auto", None, 0, -1 if num_classes == 150 else 0)
    return OFFICIAL.source(path, split, pairs, labels_of, num_classes)
