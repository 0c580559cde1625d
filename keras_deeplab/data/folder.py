"""One's own photographs: `images/`, `masks/`, `splits/{train,val}.txt` and `classes.txt` in a folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from keras_deeplab._helpers.files import read_regular
from keras_deeplab.data import glance
from keras_deeplab.data.images import EXTENSIONS, decoded, image_size
from keras_deeplab.data.mask_codes import LabelReader
from keras_deeplab.data.mask_files import EXTENSIONS as MASK_EXTENSIONS
from keras_deeplab.data.mask_files import decode_mask, readable, refuse_black_and_white
from keras_deeplab.data.masks import label_reader
from keras_deeplab.data.orientation import orientation_of
from keras_deeplab.data.pairs import (
    Pair,
    SplitOptions,
    beside,
    files_by_name,
    listed_splits,
    notes_on_text,
    read_text,
    split_pairs,
    without_extension,
)
from keras_deeplab.data.settings import AS_VIEWED, ImageOptions
from keras_deeplab.data.source import Source, indexed
from keras_deeplab.options import Range
from keras_deeplab.specs import Classes, Color, default_colors

# What tells the colours of RGB-coded masks: one for each class, each one's label, or a file of the former.
Colors = Sequence[Color] | Mapping[Color, int] | str | os.PathLike


def detect(name_or_path: str) -> bool:
    """Whether it is a folder with `images/` and one of `masks/`, `splits/` and `classes.txt`."""
    root = Path(name_or_path).expanduser()
    return (root / "images").is_dir() and any((root / name).exists() for name in ("masks", "splits", "classes.txt"))


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
    palette: Sequence[Color] | None = None,
    channels: int = 3,
    orientation: str | None = None,
    image_range: Sequence[float] | None = None,
    val_share: float | None = None,
    split_seed: int = 0,
) -> Source:
    """Map a folder to the `Source` of one of its splits.

    The folder holds `images/NAME.jpg` (or .jpeg, .png, .bmp, .webp, .tif, .tiff, .npy), `masks/NAME.png` of the same
    size (or .bmp, .tif, .tiff, .npy, .gif, .webp, .jpg), `splits/SPLIT.txt` with one NAME a line, and `classes.txt`
    with one class a line. NAME may contain subfolders. Masks may be called `NAME_mask`, `NAME-label` and the like, and
    may stand in `images/` then, where there is no `masks/`. A `colors.txt` with three numbers (R G B) a line gives the
    classes' colours: RGB-coded masks are read by them, and they show the labels. Without lists, `"train"` and `"val"`
    are made by `splits.automatic`.

    Args:
        location: the folder.
        split: name of a file in `splits/`, without `.txt`; or `"all"` or None for every image there is.
        classes: list of class names, or a text file with one a line, where there is no `classes.txt` or it should not
            count.
        num_classes: int; instead of `classes`.
        mask_encoding: `"grey"`, `"palette"` (the numbers in the file are the labels), `"rgb"` (see `colors`),
            `"binary"` (0 is class 0, anything else class 1; of one named class, 0 is background), `"alpha"` (the same
            of the alpha channel), or `"auto"`: what each file is, and `"rgb"` where `colors` is given.
        colors: for RGB-coded masks, a list of (red, green, blue), one for each class in order, a text file like
            `colors.txt`, or a dict from such tuples to labels, 255 for ignored.
        ignore_label: number or list of numbers in the masks to ignore, as 255 always is (but in `"binary"` masks).
        label_offset: int added to the masks' numbers, such as -1 where classes count from 1.
        mask_repair: `"nearest"` for masks that were blended: what has no meaning goes to the nearest that has one.
        missing_masks: `"background"` for images without a mask that are all class 0.
        palette: (red, green, blue) for each class, for showing labels; None for those of `colors` or `colors.txt`.
        channels: of the images: 3 for red, green and blue, 1 for grey, 4 for files with a fourth (a PNG's or TIFF's
            alpha or near infrared), any number for .npy and TIFF files.
        orientation: `"stored"` leaves photographs as they are stored; by default they are turned upright.
        image_range: the two numbers of images of more than 8 bits that become 0 and 255.
        val_share: share of the images that is val, where no list tells; 0.2 where there is no list at all.
        split_seed: int that chooses them.

    Raises:
        FileNotFoundError: a folder or list is missing, or images or masks of the split are; it names them.
        ValueError: the split or the options don't fit the folder, or all masks hold 0 and 255 alone.
    """
    root = Path(location).expanduser()
    reading = ImageOptions(orientation=orientation, image_range=cast("Range | None", image_range))
    if not (root / "images").is_dir():
        raise FileNotFoundError(f"{root} has no folder images/; it needs images/NAME.jpg and masks/NAME.png")
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"channels must be a positive integer; received {channels!r}")
    names, count = class_names(root / "classes.txt", classes, num_classes)
    coded = read_colors(root / "colors.txt", count) if (root / "colors.txt").is_file() else None
    if is_foreground(names, mask_encoding):
        names, count, coded = ("background", *(names or ())), 2, coded and ((0, 0, 0), *coded)
    images, masks, folders = _images_and_masks(root)
    notes = notes_on_text([root / "classes.txt", root / "splits" / f"{split}.txt"])
    made = SplitOptions(missing_masks, val_share, split_seed)
    pairs = split_pairs(root, split, images, masks, folders, "splits", without_extension, made, notes)
    colors = given_colors(colors, count)
    labels_of = coded_label_reader(count, mask_encoding, colors, coded, ignore_label, label_offset, mask_repair)
    record = Classes(names, _shown(palette, colors, coded, count))
    if mask_encoding == "auto" and not colors:
        others = (file for files in masks.values() for file in files)
        files = dict.fromkeys([*(mask for *_, mask in pairs if mask), *others])
        refuse_black_and_white(readable(files), record.labels(count), str(root))
    notes += glance.notes_on_masks(pairs, labels_of, mask_repair)
    notes += glance.notes_on_orientation(pairs, labels_of, reading.upright, channels)
    source = indexed(
        f"{root} ({split or 'all'})",
        record,
        len(pairs),
        pair_reader(pairs, labels_of, channels, reading),
        num_classes=count,
        channels=channels,
        image_range=reading.image_range,
        notes=notes,
    )
    source.files = pairs
    return source


def splits(location: str | os.PathLike) -> tuple[str, ...]:
    """The splits that a folder's lists tell; train and val where it has none."""
    root = Path(location).expanduser()
    return listed_splits(root / "splits", len(_images_and_masks(root)[0]))


def _images_and_masks(root: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]], tuple[str, str]]:
    """The files of a folder's images and masks by name, and where they are."""
    images = files_by_name(root / "images", EXTENSIONS)
    if (root / "masks").is_dir():
        return images, files_by_name(root / "masks", MASK_EXTENSIONS), ("images", "masks")
    images, masks = beside(images)
    if not masks:
        raise FileNotFoundError(
            f"{root} has no folder masks/, nor masks images/NAME_mask.png; it needs images/NAME.jpg and masks/NAME.png"
        )
    return images, masks, ("images", "images")


def _shown(
    palette: Sequence[Color] | None,
    colors: Sequence[Color] | Mapping[Color, int] | None,
    coded: Sequence[Color] | None,
    count: int,
) -> tuple[Color, ...] | None:
    if palette is not None:
        return tuple(map(_color, palette))
    if colors is not None:
        return colors_by_label(colors, count)
    return None if coded is None else tuple(coded)


def _color(color: Sequence[int]) -> Color:
    return cast(Color, tuple(color))


def class_names(
    classes_file: Path, classes: Sequence[str] | str | os.PathLike | None = None, num_classes: int | None = None
) -> tuple[tuple[str, ...] | None, int]:
    """The class names of an option, or of a text file with one a line, and how many; None where only that is told."""
    given = given_names(classes)
    if given is not None:
        origin, names = "classes=", given
    elif classes_file.is_file():
        origin, names = str(classes_file), names_in(classes_file)
    elif num_classes is not None:
        return None, num_classes
    else:
        raise ValueError(
            f"there is no {classes_file}, so the classes are unknown: write it with one class a line, label 0 first, "
            "or give num_classes= or classes=[...]"
        )
    if num_classes not in (None, len(names)):
        raise ValueError(f"num_classes={num_classes}, but {origin} has {len(names)} classes")
    return names, len(names)


def is_foreground(names: Sequence[str] | None, mask_encoding: str) -> bool:
    """Whether one class is named for masks that tell two, so that it is the second and the first is background."""
    return mask_encoding in ("binary", "alpha") and names is not None and len(names) == 1


def given_names(classes: Sequence[str] | str | os.PathLike | None) -> tuple[str, ...] | None:
    """A reader's option `classes`, names or a text file of them, to the names."""
    if isinstance(classes, (str, os.PathLike)):
        return names_in(Path(classes).expanduser())
    return None if classes is None else tuple(classes)


def given_colors(colors: Colors | None, count: int) -> Sequence[Color] | Mapping[Color, int] | None:
    """A reader's option `colors`, as it is given or from the text file that it names, for `count` classes."""
    return read_colors(colors, count) if isinstance(colors, (str, os.PathLike)) else colors


def names_in(path: Path) -> tuple[str, ...]:
    """The class names of a text file, one a line.

    Raises:
        ValueError: there are none, or one stands twice.
    """
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    try:
        return Classes(names).names or ()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_colors(path: str | os.PathLike, count: int) -> tuple[Color, ...]:
    """The colours of a text file with three numbers in 0..255 (R G B) a line, one for each of `count` classes.

    Raises:
        ValueError: it holds anything else.
    """
    path = Path(path).expanduser()
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    colors = []
    for number, line in enumerate(lines, 1):
        parts = line.replace(",", " ").split()
        if len(parts) != 3 or not all(part.isdecimal() and int(part) <= 255 for part in parts):
            raise ValueError(f"{path}, line {number}: {line.strip()!r} is not three numbers in 0..255 (R G B)")
        colors.append((int(parts[0]), int(parts[1]), int(parts[2])))
    if len(colors) != count:
        raise ValueError(f"{path} has {len(colors)} colours for {count} classes; it needs one a line for each")
    return tuple(colors)


def coded_label_reader(
    num_classes: int,
    encoding: str,
    colors: Sequence[Color] | Mapping[Color, int] | None,
    coded: Sequence[Color] | None,
    ignore_label: int | Sequence[int] | None,
    label_offset: int,
    repair: str | None = None,
) -> LabelReader:
    """As `masks.label_reader`, where the data's own files tell colours too: RGB-coded masks are read by those.

    Args:
        colors: the option, which decides where it is given.
        coded: a colour for each class, from a file beside the masks, or None.
    """
    if colors or not coded or encoding not in ("auto", "rgb"):
        return label_reader(num_classes, encoding, colors, ignore_label, label_offset, repair)
    by_color = label_reader(num_classes, "rgb", coded, repair=repair)
    if encoding == "rgb":
        return by_color
    by_number = label_reader(num_classes, encoding, None, ignore_label, label_offset, repair)

    def decode(values, palette):
        return (by_color if values.ndim == 3 else by_number).decode(values, palette)

    return LabelReader(decode, encoding)


def pair_reader(
    pairs: Sequence[Pair],
    labels_of: Callable[..., np.ndarray],
    channels: int = 3,
    reading: ImageOptions = AS_VIEWED,
) -> Callable[[int], tuple[np.ndarray, np.ndarray, str]]:
    """Map pairs of (name, image file, mask file) to the `read(index)` that `indexed` takes.

    Args:
        labels_of: as `masks.label_reader` makes it. Where there is no mask file all is class 0.
    """

    def read_pair(index):
        name, image_file, mask_file = pairs[index]
        data = read_regular(image_file)
        image = decoded(image_file, data, channels, reading.upright, reading.image_range)
        if mask_file is None:
            return image, np.zeros(image.shape[:2], np.uint8), name
        stored = read_regular(mask_file)
        try:
            label = labels_of(*decode_mask(stored, reading.upright))
        except ValueError as error:
            raise ValueError(f"{mask_file} {error}") from error
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{mask_file} is {label.shape[1]}x{label.shape[0]} pixels, but its image {image_file} is "
                f"{image.shape[1]}x{image.shape[0]}{other_way(data, reading, label.shape)}"
            )
        return image, label, name

    return read_pair


def other_way(data: bytes, reading: ImageOptions, size: tuple[int, ...]) -> str:
    """What an image's EXIF orientation has to do with a mask's size that isn't the image's; "" where nothing."""
    turn = orientation_of(data)
    if turn == 1:
        return ""
    other = "stored" if reading.upright else "upright"
    fits = turn > 4 and image_size(data) == (size if reading.upright else size[::-1])
    return (
        f" ({'turned by' if reading.upright else 'as stored, without'} its EXIF orientation, {turn}"
        + (f'; orientation="{other}" fits the mask' if fits else "")
        + ")"
    )


def colors_by_label(colors: Sequence[Color] | Mapping[Color, int], count: int) -> tuple[Color, ...]:
    """A colour for each class, of several the first."""
    if not isinstance(colors, Mapping):
        return tuple(map(_color, colors))
    chosen = dict(enumerate(default_colors(count)))
    # Backwards, so that of several colours of one class the first is shown.
    for color, label in reversed(list(colors.items())):
        if label in chosen:
            chosen[label] = _color(color)
    return tuple(chosen.values())
