"""The Oxford-IIIT Pet data set to a `Source` of pet, background and outline."""

import os
from pathlib import Path

from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.official import Official, inside, pairs_of
from keras_deeplab.data.pairs import Pair, files_by_name, listed_names
from keras_deeplab.data.source import Source
from keras_deeplab.data.splits import automatic
from keras_deeplab.specs import Classes
from keras_deeplab.specs.class_names import OXFORD_PET

_TWO = Classes((OXFORD_PET.names or ())[:2], (OXFORD_PET.colors or ())[:2])
OFFICIAL = Official(
    "Oxford-IIIT Pet",
    "https://www.robots.ox.ac.uk/~vgg/data/pets/",
    {"images.tar.gz": "images/", "annotations.tar.gz": "annotations/"},
    {3: OXFORD_PET, 2: _TWO},
    {"trainval": 3680, "test": 3669},
    "CC BY-SA 4.0",
)
# The official lists have no val; these are made of trainval.
_MADE = ("train", "val")


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `annotations/trimaps/`, or has `oxford-iiit-pet/` with that in it."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    return inside(path, lambda root: (root / "annotations" / "trimaps").is_dir(), "oxford-iiit-pet")


def splits(location: str | os.PathLike) -> tuple[str, ...]:
    """The splits that have nothing in common."""
    return (*_MADE, "test")


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map a folder with `images/` and `annotations/` to the `Source` of one of its splits.

    Args:
        location: the folder, or the one in which torchvision put it as `oxford-iiit-pet`.
        split: `"trainval"` or `"test"` as the lists in `annotations/` have them; `"train"` or `"val"`, four fifths and
            one fifth of trainval, always the same ones; or `"all"`.
        num_classes: 3 (or None): pet, background, and their outline, the trimaps' 1, 2 and 3. 2: the outline, which
            its authors left unclassified, is ignored.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split or numbering.
    """
    path = Path(location).expanduser()
    root = _root(path) or path
    num_classes = OFFICIAL.numbering(num_classes)
    lists = ("trainval",) if split in _MADE else OFFICIAL.parts(split)
    images = files_by_name(OFFICIAL.folder(root, "images", archive="images.tar.gz"), (".jpg",))
    masks = files_by_name(OFFICIAL.folder(root, "annotations/trimaps", archive="annotations.tar.gz"), (".png",))
    pairs: list[Pair] = []
    for part in lists:
        origin = OFFICIAL.folder(root, f"annotations/{part}.txt", archive="annotations.tar.gz")
        names = [line.split()[0] for line in listed_names(origin)]  # NAME CLASS SPECIES BREED
        if split in _MADE:
            names = automatic(names, str(split), origin=origin)
        pairs += pairs_of(root, names, images, masks, ("images", "annotations/trimaps"), origin)
    labels_of = label_reader(num_classes, "auto", None, 3 if num_classes == 2 else None, -1)
    return OFFICIAL.source(path, split, pairs, labels_of, num_classes)
