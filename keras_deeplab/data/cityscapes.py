"""Cityscapes to a `Source` of its 19 classes, from the folders that its archives unpack to."""

import os
from pathlib import Path

from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.official import LabelsOf, Official, all_pairs, holds, inside, labels_by_number
from keras_deeplab.data.pairs import Pair
from keras_deeplab.data.source import Source
from keras_deeplab.specs import IGNORED
from keras_deeplab.specs.class_names import CITYSCAPES

OFFICIAL = Official(
    "Cityscapes",
    "https://www.cityscapes-dataset.com/downloads/",
    {
        "leftImg8bit_trainvaltest.zip": "leftImg8bit/train, leftImg8bit/val",
        "gtFine_trainvaltest.zip": "gtFine/train, gtFine/val",
        "leftImg8bit_trainextra.zip": "leftImg8bit/train_extra",
        "gtCoarse.zip": "gtCoarse/train_extra",
    },
    {19: CITYSCAPES},
    {"train": 2975, "val": 500},
    "its own terms, non-commercial; register to download",
)
COARSE = Official(
    "Cityscapes (coarse)", OFFICIAL.homepage, OFFICIAL.archives, OFFICIAL.classes, {"train_extra": 19998}, ""
)

# cityscapesscripts/helpers/labels.py: the numbers 0 to 33 of labelIds, and of them those of the 19 classes in order.
_IDS = range(34)
_TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `leftImg8bit/` and `gtFine/` or `gtCoarse/`, of Cityscapes' file names."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    def present(root: Path) -> bool:
        # Cities with their files, or the folders alone where archives are missing. IDD has folders of the same names.
        return holds(root, "leftImg8bit/*/*/*_leftImg8bit.png") or holds(root, "gt*/*/*/*_gt*_labelIds.png")

    return inside(path, present, "cityscapes")


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map a folder with `leftImg8bit/` and `gtFine/` to the `Source` of one of its splits.

    Its masks are the `*_gtFine_labelIds.png` of the archive, or, where a split has none of them, the
    `*_gtFine_labelTrainIds.png` that cityscapesscripts makes.

    Args:
        location: the folder.
        split: `"train"` or `"val"`; `"train_extra"`, the coarse labels of `gtCoarse/`; or `"all"`, train and val.
        num_classes: 19 or None.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split, or its labels aren't public.
    """
    path = Path(location).expanduser()
    root = _root(path) or path
    official = COARSE if split in COARSE.splits else OFFICIAL
    num_classes = official.numbering(num_classes)
    found = [_pairs(official, root, part) for part in official.parts(split)]
    if len({trained for _, trained in found}) > 1:
        raise FileNotFoundError(
            f"{root} has labelIds for one split and only labelTrainIds for another; bring both to one"
        )
    pairs = [pair for some, _ in found for pair in some]
    return official.source(path, split, pairs, _labels_of(found[0][1]), num_classes)


def _pairs(official: Official, root: Path, split: str) -> tuple[list[Pair], bool]:
    """The pairs of a split, and whether their masks hold train ids."""
    kind, images, masks = "gtFine", "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"
    if official is COARSE:
        kind, images, masks = "gtCoarse", "leftImg8bit_trainextra.zip", "gtCoarse.zip"
    pictures = official.folder(root, f"leftImg8bit/{split}", archive=images)
    labels = official.folder(root, f"{kind}/{split}", archive=masks)
    trained = not holds(labels, f"*/*_{kind}_labelIds.png") and holds(labels, f"*/*_{kind}_labelTrainIds.png")
    ending = f"_{kind}_label{'Train' if trained else ''}Ids.png"
    return all_pairs(root, (pictures, "_leftImg8bit.png"), (labels, ending)), trained


def _labels_of(trained: bool) -> LabelsOf:
    if trained:
        return label_reader(len(_TRAINED), "auto")
    return labels_by_number({number: _TRAINED.index(number) if number in _TRAINED else IGNORED for number in _IDS})
