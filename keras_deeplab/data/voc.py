"""Data sets in PASCAL VOC's layout to a `Source`: VOC itself, and one's own classes as annotation tools write them."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from keras_deeplab.data import glance, sbd
from keras_deeplab.data.folder import (
    Colors,
    coded_label_reader,
    colors_by_label,
    given_colors,
    given_names,
    is_foreground,
    names_in,
    pair_reader,
)
from keras_deeplab.data.images import EXTENSIONS
from keras_deeplab.data.mask_files import EXTENSIONS as MASK_EXTENSIONS
from keras_deeplab.data.mask_files import readable, refuse_black_and_white
from keras_deeplab.data.official import Official, matlab_reader
from keras_deeplab.data.pairs import (
    Pair,
    SplitOptions,
    files_by_name,
    listed_splits,
    notes_on_text,
    read_text,
    split_pairs,
)
from keras_deeplab.data.pascal_context import context_root
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.data.source import Source, indexed
from keras_deeplab.options import Range
from keras_deeplab.specs import IGNORED, Classes, Color, default_colors
from keras_deeplab.specs.class_names import VOC

CLASSES = list(VOC.labels(21))
OFFICIAL = Official(
    "PASCAL VOC 2012",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    {
        "VOCtrainval_11-May-2012.tar": "VOCdevkit/VOC2012",
        "benchmark.tgz": "benchmark_RELEASE, for trainaug (see SBD), or",
        "SegmentationClassAug.zip": "VOC2012/SegmentationClassAug, the same masks as PNG files",
    },
    {21: VOC},
    {"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582},
    "photographs: Flickr's terms",
)

# Lists of classes that may stand beside the folders, the first goes before the others.
LISTS = ("classes.txt", "class_names.txt", "labelmap.txt")
_SPLITS = "ImageSets/Segmentation"
_PHOTOGRAPH = re.compile(r"\d{6}|20\d\d_\d{6}")  # the official names: 000032 of VOC2007, 2007_000032 of those after it
_LABEL = re.compile(r"(?P<name>[^:]+?)\s*(?::\s*(?P<color>\d+\s*,\s*\d+\s*,\s*\d+)?\s*(?::.*)?)?")
_VOID = (224, 224, 192)  # the colour of VOC's ignored border


class _ClassList(NamedTuple):
    """What a data set's files tell of its classes: names, a colour for each or None, and labels by colour or None."""

    names: tuple[str, ...]
    colors: tuple[Color, ...] | None
    coded: Mapping[Color, int] | None


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `JPEGImages/` in it, or in a `VOC.../` or `VOCdevkit/.../` in it.

    A devkit of 2010 to which the masks of Pascal Context were added is left to `pascal_context`.
    """
    path = Path(name_or_path).expanduser()
    return bool(_devkits(path)) and context_root(path) is None


def read(
    location: str | os.PathLike,
    split: str | None = "train",
    *,
    classes: Sequence[str] | str | os.PathLike | None = None,
    num_classes: int | None = None,
    mask_encoding: str = "auto",
    colors: Colors | None = None,
    ignore_label: int | Sequence[int] | None = None,
    label_offset: int = 0,
    mask_repair: str | None = None,
    missing_masks: str = "refuse",
    augmented: bool | None = None,
    channels: int = 3,
    orientation: str | None = None,
    image_range: Sequence[float] | None = None,
    val_share: float | None = None,
    split_seed: int = 0,
) -> Source:
    """Map a folder in VOC's layout to the `Source` of one of its segmentation splits.

    The folder holds `JPEGImages/NAME.jpg` (CVAT: .png and others too), `SegmentationClass/NAME.png` (labelme:
    `SegmentationClassPNG`) and `ImageSets/Segmentation/SPLIT.txt`. Its classes are those of a list beside them:
    `classes.txt` or `class_names.txt` (labelme), one a line; `labelmap.txt` (CVAT), `NAME:RED,GREEN,BLUE::` a line, by
    whose colours the masks are read. Without one it is taken for PASCAL VOC only where it is a `VOC20xx` folder whose
    photographs have VOC's names.

    Args:
        location: the folder that holds `VOCdevkit`, or `VOCdevkit`, or its `VOC2012`.
        split: name of a file in `ImageSets/Segmentation`, without `.txt`: train, val, trainval, trainaug, ...; or
            `"all"` or None for every image there is.
        classes, num_classes, mask_encoding, colors, ignore_label, label_offset, mask_repair, missing_masks, channels,
            orientation, image_range, val_share, split_seed: as in `folder.read`.
        augmented: whether to take the masks from `SegmentationClassAug` (the 10,582 with SBD's), not from
            `SegmentationClass`; None for those of the split `"trainaug"`. Where there is no `SegmentationClassAug`,
            SBD's own archive, `benchmark_RELEASE` in the devkit or beside it, makes this split: VOC's train with VOC's
            masks, and what SBD has beyond VOC's train and val with SBD's.

    Raises:
        FileNotFoundError: a folder, a list, or files that it names are missing; it names them.
        ValueError: nothing tells the classes, or lists of them differ.
    """
    path = Path(location).expanduser()
    root = devkit(path)
    reading = ImageOptions(orientation=orientation, image_range=cast("Range | None", image_range))
    notes = notes_on_text([root / LISTS[0], root / LISTS[1], root / _SPLITS / f"{split}.txt"])
    made = SplitOptions(missing_masks, val_share, split_seed)
    pairs = _pairs(root, split, split == "trainaug" if augmented is None else augmented, made, notes, path)
    told = _told(root, path)
    classes = given_names(classes)
    if classes is None and told is None and num_classes is None:
        if not is_pascal_voc(root, [name for name, _, _ in pairs]):
            raise ValueError(
                f"nothing tells the classes of {root}: write a classes.txt into it with one a line, label 0 first, or "
                "give classes=[...] or num_classes=. (CVAT's labelmap.txt and labelme's class_names.txt are read too; "
                "PASCAL VOC itself is known by a folder VOC20xx of photographs called 2007_000032.)"
            )
        told = _ClassList(tuple(CLASSES), default_colors(len(CLASSES)), None)
    if classes is not None:
        if told is not None and told.coded is not None and set(told.names) == set(classes):
            told = _in_order(told, classes)
        else:
            told = _ClassList(classes, None, None)
    names: tuple[str, ...] | None = None
    shown: tuple[Color, ...] | None = None
    coded: Mapping[Color, int] | None = None
    if told is None:
        count = cast(int, num_classes)  # else nothing told the classes, above
    else:
        names, shown, coded = told
        count = len(told.names)
        if num_classes not in (None, count):
            raise ValueError(f"num_classes={num_classes}, but {root} has {count} classes: {', '.join(told.names)}")
    if is_foreground(names, mask_encoding):
        names, shown, count = ("background", *(names or ())), shown and ((0, 0, 0), *shown), 2
    colors = given_colors(colors, count)
    if colors is not None:
        shown = colors_by_label(colors, count)
    elif mask_encoding in ("auto", "rgb"):
        colors = coded
    labels_of = coded_label_reader(count, mask_encoding, colors, None, ignore_label, label_offset, mask_repair)
    record = Classes(names, shown)
    if root.name == "VOC2012" and names == VOC.names:
        notes += OFFICIAL.notes(split, len(pairs))
    read_pair = pair_reader(pairs, labels_of, channels, reading)
    if any(mask is not None and mask.suffix == ".mat" for *_, mask in pairs):
        read_pair = matlab_reader(pairs, sbd.segmentation, read_pair, reading)
    else:
        if mask_encoding == "auto" and not colors:
            refuse_black_and_white(readable(mask for *_, mask in pairs if mask), record.labels(count), str(root))
        notes += glance.notes_on_masks(pairs, labels_of, mask_repair)
        notes += glance.notes_on_orientation(pairs, labels_of, reading.upright, channels)
    source = indexed(
        f"{path} ({split or 'all'})",
        record,
        len(pairs),
        read_pair,
        num_classes=count,
        channels=channels,
        image_range=reading.image_range,
        notes=notes,
    )
    source.files = pairs
    return source


def splits(location: str | os.PathLike) -> tuple[str, ...]:
    """The splits that a devkit's lists tell; train and val where it has none."""
    root = devkit(Path(location).expanduser())
    return listed_splits(root / _SPLITS, len(files_by_name(root / "JPEGImages", EXTENSIONS)))


def devkit(path: Path) -> Path:
    """The folder with JPEGImages in it, whichever of its parents is given.

    Raises:
        FileNotFoundError: there is none, or there are several.
    """
    found = _devkits(path)
    for root in (path, path / "VOC2012", path / "VOCdevkit" / "VOC2012"):
        if root in found:
            return root
    if len(found) == 1:
        return found[0]
    raise FileNotFoundError(
        f"{path} is no VOC devkit: there is no VOCdevkit/VOC2012/JPEGImages in it, nor a part of that path"
        + (f"; give one of {', '.join(map(str, found))}" if found else "")
    )


def _pairs(
    root: Path, split: str | None, augmented: bool, made: SplitOptions, notes: list[str], path: Path
) -> list[Pair]:
    """The (name, photograph, mask) of a split of the devkit `root`, given as `path`; raises as `pairs.split_pairs`."""
    if augmented and not (root / "SegmentationClassAug").is_dir():
        dataset = sbd.dataset_in((path, root, root.parent, root.parent.parent))
        if dataset is None or split != "trainaug":
            raise FileNotFoundError(
                f"{root} has no folder SegmentationClassAug/"
                + (
                    "; SBD's own archive makes split='trainaug' alone"
                    if dataset
                    else ", and there is no benchmark_RELEASE/ in it or beside its VOCdevkit: for split='trainaug' "
                    f"download benchmark.tgz from {sbd.OFFICIAL.homepage} and unpack it there"
                )
            )
        return sbd.train_augmented(root, dataset)
    folder = "SegmentationClassAug" if augmented else "SegmentationClass"
    if not augmented and not any((root / folder).glob("*.png")) and (root / "SegmentationClassPNG").is_dir():
        folder = "SegmentationClassPNG"  # labelme's; its SegmentationClass holds .npy files
    if not (root / folder).is_dir():
        raise FileNotFoundError(
            f"{root} has no folder {folder}/"
            + (f", a part of VOC's {next(iter(OFFICIAL.archives))}" if root.name == "VOC2012" else "")
        )
    images = files_by_name(root / "JPEGImages", EXTENSIONS)
    masks = files_by_name(root / folder, (".png",)) or files_by_name(root / folder, MASK_EXTENSIONS)
    return split_pairs(root, split, images, masks, ("JPEGImages", folder), _SPLITS, _first_name, made, notes)


def _first_name(line: str) -> str:
    # Some lists that go round give "/JPEGImages/NAME.jpg /SegmentationClassAug/NAME.png" or "NAME 1" instead of NAME.
    return Path(line.split()[0]).stem


def is_pascal_voc(root: Path, names: Sequence[str]) -> bool:
    """Whether a devkit is PASCAL VOC's own: a folder of its name whose samples all have such names.

    The folder's name alone would not do: people put data of their own into `VOCdevkit/VOC2007`.
    """
    return re.fullmatch(r"VOC20\d\d", root.name) is not None and all(map(_PHOTOGRAPH.fullmatch, names))


def _devkits(path: Path) -> list[Path]:
    places = (path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/*")))
    return [place for place in places if (place / "JPEGImages").is_dir()]


def _told(root: Path, path: Path) -> _ClassList | None:
    """What the lists beside the folders tell of the classes; None where there are none."""
    files = [folder / name for name in LISTS for folder in dict.fromkeys((root, path)) if (folder / name).is_file()]
    if not files:
        return None
    first = files[0]
    lists = {
        file: _label_map(file) if file.name == LISTS[2] else _ClassList(names_in(file), None, None) for file in files
    }
    for file, other in lists.items():
        if len(other.names) != len(lists[first].names):
            raise ValueError(
                f"{first} has {len(lists[first].names)} classes and {file} has {len(other.names)}: remove the wrong "
                "one, or give classes=[...]"
            )
    chosen = lists[first]
    for file, other in lists.items():
        if file == first or other.coded is None:
            continue
        # The colours of the label map, in the order of the list that goes before it.
        if set(other.names) != set(chosen.names):
            raise ValueError(
                f"{first} has the classes {', '.join(chosen.names)}, and {file} has {', '.join(other.names)}: remove "
                "the wrong one, or give classes=[...]"
            )
        return _in_order(other, chosen.names)
    return chosen


def _in_order(told: _ClassList, names: tuple[str, ...]) -> _ClassList:
    """A label map's classes with the labels that the order of `names` gives them."""
    order = [told.names.index(name) for name in names]
    told_codes, told_colors = told.coded or {}, told.colors or ()
    coded = {color: label if label == IGNORED else order.index(label) for color, label in told_codes.items()}
    return _ClassList(names, tuple(told_colors[index] for index in order), coded)


def _label_map(file: Path) -> _ClassList:
    """The classes of CVAT's and Datumaro's labelmap.txt: `NAME:RED,GREEN,BLUE:PARTS:ACTIONS` a line."""
    names: list[str] = []
    colors: list[Color | None] = []
    void: dict[Color, int] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LABEL.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"{file}, line {number}: {line.strip()!r} is not NAME:RED,GREEN,BLUE::")
        color = cast(Color, tuple(map(int, found["color"].split(",")))) if found["color"] else None
        if found["name"] == "ignored" and color == _VOID:
            void = {_VOID: IGNORED}  # as Datumaro writes VOC's own border
            continue
        names.append(found["name"])
        colors.append(color)
    if any(colors) and not all(colors):
        raise ValueError(f"{file} gives no colour for {names[colors.index(None)]}; it needs one for each class or none")
    try:
        record = Classes(tuple(names), tuple(color for color in colors if color) or None)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    if record.colors is None:
        return _ClassList(tuple(names), None, None)
    if len(set(record.colors)) < len(names):
        raise ValueError(f"{file} gives two classes one colour")
    return _ClassList(tuple(names), record.colors, {color: label for label, color in enumerate(record.colors)} | void)
