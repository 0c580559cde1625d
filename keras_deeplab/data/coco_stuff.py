"""COCO-Stuff 164k to a `Source` of its 171 classes of things and stuff."""

import os
from pathlib import Path

from keras_deeplab.data.official import Official, all_pairs, holds, inside, labels_by_number
from keras_deeplab.data.pairs import Pair
from keras_deeplab.data.source import Source
from keras_deeplab.specs.class_names import COCO_STUFF, COCO_STUFF_182

OFFICIAL = Official(
    "COCO-Stuff",
    "https://github.com/nightrome/cocostuff",
    {
        "train2017.zip": "images/train2017",
        "val2017.zip": "images/val2017",
        "stuffthingmaps_trainval2017.zip": "train2017, val2017 (unpack it in annotations/)",
    },
    {171: COCO_STUFF, 182: COCO_STUFF_182},
    {"train": 118287, "val": 5000},
    "masks: CC BY 4.0; photographs: Flickr's terms",
)
_MASKS = ("annotations", "stuffthingmaps", "annotations/stuffthingmaps")


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with masks in `annotations/train2017/` or `stuffthingmaps/train2017/` (or val2017)."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    def present(root: Path) -> bool:
        return any(holds(root, f"{kind}/{part}2017/*.png") for kind in _MASKS for part in OFFICIAL.splits)

    return inside(path, present)


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map a folder with COCO's images and the maps of `stuffthingmaps_trainval2017.zip` to the `Source` of a split.

    Args:
        location: the folder with `images/train2017/NAME.jpg` (or `train2017/`) and `annotations/train2017/NAME.png` (or
            `stuffthingmaps/train2017/`).
        split: `"train"` or `"val"`, or `"all"` for both.
        num_classes: 171 (or None): the classes without gaps. 182: with the 11 numbers that no mask holds, as the maps
            have them.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split or numbering.
    """
    path = Path(location).expanduser()
    num_classes = OFFICIAL.numbering(num_classes)
    pairs: list[Pair] = []
    for part in OFFICIAL.parts(split):
        folder = f"{part}2017"
        images = OFFICIAL.folder(path, f"images/{folder}", folder, archive=f"{folder}.zip")
        places = [f"{kind}/{folder}" for kind in _MASKS]
        masks = OFFICIAL.folder(path, *places, archive="stuffthingmaps_trainval2017.zip")
        pairs += all_pairs(path, (images, ".jpg"), (masks, ".png"))
    return OFFICIAL.source(path, split, pairs, labels_by_number(meaning(num_classes)), num_classes)


def meaning(num_classes: int) -> dict[int, int]:
    """The label of each number in the maps, 0 to 181, that any pixel has."""
    names = OFFICIAL.classes[num_classes].names or ()
    return {number: names.index(name) for number, name in enumerate(COCO_STUFF_182.names or ()) if name in names}
