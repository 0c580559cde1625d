"""IDD-lite, the small India Driving Dataset, to a `Source` of its 7 classes."""

import os
from pathlib import Path

from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.official import Official, all_pairs, holds, inside
from keras_deeplab.data.pairs import Pair
from keras_deeplab.data.source import Source
from keras_deeplab.specs.class_names import IDD_LITE

OFFICIAL = Official(
    "IDD-lite",
    "https://idd.insaan.iiit.ac.in/dataset/download/",
    {"idd-lite.tar.gz": "idd20k_lite/leftImg8bit, idd20k_lite/gtFine"},
    {7: IDD_LITE},
    {"train": 1403, "val": 204},
    "its own terms, research; register to download",
)


def detect(name_or_path: str) -> bool:
    """Whether it is `idd20k_lite` or a folder with it: `*_image.jpg` in `leftImg8bit/`, `*_label.png` in `gtFine/`."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    def present(root: Path) -> bool:
        return holds(root, "leftImg8bit/*/*/*_image.jpg") or holds(root, "gtFine/*/*/*_label.png")

    return inside(path, present, "idd20k_lite")


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map `idd20k_lite`, or the folder it stands in, to the `Source` of one of its splits.

    Args:
        location: the folder with `leftImg8bit/` and `gtFine/`, or the one above.
        split: `"train"` or `"val"`, or `"all"` for both.
        num_classes: 7 or None.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split.
    """
    path = Path(location).expanduser()
    root = _root(path) or path
    num_classes = OFFICIAL.numbering(num_classes)
    pairs: list[Pair] = []
    for part in OFFICIAL.parts(split):
        images, masks = (
            OFFICIAL.folder(root, f"{kind}/{part}", archive="idd-lite.tar.gz") for kind in ("leftImg8bit", "gtFine")
        )
        pairs += all_pairs(root, (images, "_image.jpg"), (masks, "_label.png"))
    return OFFICIAL.source(path, split, pairs, label_reader(num_classes, "auto"), num_classes)
