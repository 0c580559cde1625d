"""One's own photographs: `images/`, `masks/`, `splits/{train,val}.txt` and `classes.txt` in a folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_deeplab.data.images import EXTENSIONS, read_image
from keras_deeplab.data.masks import decode_label_png, label_reader
from keras_deeplab.data.source import Source, indexed, listing
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
    palette: Sequence[Color] | None = None,
    channels: int = 3,
) -> Source:
    """Map a folder to the `Source` of one of its splits.

    The folder holds `images/NAME.jpg` (or .jpeg, .png, .bmp, .tif, .tiff, .npy), `masks/NAME.png` of the same size,
    `splits/SPLIT.txt` with one NAME a line, and `classes.txt` with one class a line. NAME may contain subfolders. A
    `colors.txt` with three numbers (R G B) a line gives the classes' colours: RGB-coded masks are read by them, and
    they show the labels.

    Args:
        location: the folder.
        split: name of a file in `splits/`, without `.txt`; or `"all"` or None for every image there is.
        classes: list of class names, or a text file with one a line, where there is no `classes.txt` or it should not
            count.
        num_classes: int; instead of `classes`.
        mask_encoding: `"grey"`, `"palette"` (the numbers in the file are the labels), `"rgb"` (see `colors`), or
            `"auto"`: what each file is, and `"rgb"` where `colors` is given.
        colors: for RGB-coded masks, a list of (red, green, blue), one for each class in order, a text file like
            `colors.txt`, or a dict from such tuples to labels, 255 for ignored.
        ignore_label: number or list of numbers in the masks to ignore, as 255 always is.
        label_offset: int added to the masks' numbers, such as -1 where classes count from 1.
        palette: (red, green, blue) for each class, for showing labels; None for those of `colors` or `colors.txt`.
        channels: of the images: 3 for red, green and blue, 1 for grey, 4 for files with a fourth (a PNG's or TIFF's
            alpha or near infrared); .npy files are uint8 (H, W, channels) of any number.

    Raises:
        FileNotFoundError: a folder or list is missing, or images or masks of the split are; it names them.
        ValueError: the split or the options don't fit the folder.
    """
    root = Path(location).expanduser()
    for sub in ("images", "masks"):
        if not (root / sub).is_dir():
            raise FileNotFoundError(f"{root} has no folder {sub}/; it needs images/NAME.jpg and masks/NAME.png")
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"channels must be a positive integer; received {channels!r}")
    names, count = class_names(root / "classes.txt", classes, num_classes)
    coded = read_colors(root / "colors.txt", count) if (root / "colors.txt").is_file() else None
    images = files_by_name(root / "images", EXTENSIONS)
    masks = files_by_name(root / "masks", (".png",))
    pairs = split_pairs(root, split, images, masks, ("images", "masks"), "splits", _without_extension)
    colors = given_colors(colors, count)
    labels_of = coded_label_reader(count, mask_encoding, colors, coded, ignore_label, label_offset)
    shown = coded if colors is None else colors_by_label(colors, count)
    record = Classes(names, shown if palette is None else tuple(map(tuple, palette)))
    return indexed(
        f"{root} ({split or 'all'})",
        record,
        len(pairs),
        pair_reader(pairs, labels_of, channels),
        num_classes=count,
        channels=channels,
    )


def class_names(
    classes_file: Path, classes: Sequence[str] | str | os.PathLike | None = None, num_classes: int | None = None
) -> tuple[tuple[str, ...] | None, int]:
    """The class names of an option, or of a text file with one a line, and how many; None where only that is told."""
    if classes is not None:
        origin = "classes="
        names = given_names(classes)
    elif classes_file.is_file():
        origin, names = classes_file, names_in(classes_file)
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
    names = tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
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
    lines = [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
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
    colors: Colors | None,
    coded: Sequence[Color] | None,
    ignore_label: int | Sequence[int] | None,
    label_offset: int,
) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
    """As `masks.label_reader`, where the data's own files tell colours too: RGB-coded masks are read by those.

    Args:
        colors: the option, which decides where it is given.
        coded: a colour for each class, from a file beside the masks, or None.
    """
    if colors or not coded or encoding in ("grey", "palette"):
        return label_reader(num_classes, encoding, colors, ignore_label, label_offset)
    by_color = label_reader(num_classes, "rgb", coded)
    if encoding == "rgb":
        return by_color
    by_number = label_reader(num_classes, encoding, None, ignore_label, label_offset)
    return lambda values, palette: by_color(values, palette) if values.ndim == 3 else by_number(values, palette)


def split_pairs(
    root: Path,
    split: str | None,
    images: Mapping[str, list[Path]],
    masks: Mapping[str, list[Path]],
    folders: tuple[str, str],
    lists: str,
    name_of: Callable[[str], str],
) -> list[tuple[str, Path, Path]]:
    """The (name, image file, mask file) of a split: what the file of its name in `root / lists` lists, or all there is.

    Args:
        images, masks: what `files_by_name` found.
        folders: names of the two folders, for messages.
        name_of: a line of a list to the name that it means.

    Raises:
        FileNotFoundError: there is no such list, or a name in it is no pair.
        ValueError: the list is empty, or has a name twice.
    """
    origin = root / lists / f"{split or 'all'}.txt"
    if split is None or (split == "all" and not origin.is_file()):
        names = sorted(images.keys() | masks.keys())
        if not names:
            raise FileNotFoundError(f"{root / folders[0]} holds no images; it takes {', '.join(EXTENSIONS)} files")
        return pair_files(root, names, images, masks, folders, root / folders[0])
    if not origin.is_file():
        others = sorted(file.stem for file in origin.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"there is no {origin}. "
            + (f"{lists}/ has {', '.join(others)}. " if others else "")
            + f"It is a text file with one image name a line; split='all' takes all {len(images)} images"
        )
    names = [line if line in images else name_of(line) for line in listed_names(origin)]
    refuse_repetitions(names, origin)
    return pair_files(root, names, images, masks, folders, origin)


def _without_extension(line: str) -> str:
    stem, extension = os.path.splitext(line)
    return stem if extension.lower() in EXTENSIONS else line


def listed_names(path: Path) -> list[str]:
    """The lines of a text file, without the white space around them and without empty ones.

    Raises:
        ValueError: there are none.
    """
    names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} lists no image; it is a text file with one image name a line")
    return names


def refuse_repetitions(names: Sequence[str], origin: Path) -> None:
    """Raise a ValueError that lists the names which occur more than once, if any do."""
    seen = set()
    twice = [name for name in names if name in seen or seen.add(name)]
    if twice:
        raise ValueError(f"{origin} lists {len(twice)} names more than once:\n{listing(twice)}")


def files_by_name(folder: Path, extensions: Sequence[str]) -> dict[str, list[Path]]:
    """Every file in a folder and its subfolders, as lists under its relative path without the extension."""
    files = {}
    for parent, folders, entries in os.walk(folder, followlinks=True):
        folders.sort()
        for entry in sorted(entries):
            stem, extension = os.path.splitext(entry)
            if extension.lower() in extensions and not entry.startswith("."):
                file = Path(parent, entry)
                files.setdefault(file.with_name(stem).relative_to(folder).as_posix(), []).append(file)
    return files


def pair_files(
    root: Path,
    names: Sequence[str],
    images: Mapping[str, list[Path]],
    masks: Mapping[str, list[Path]],
    folders: tuple[str, str],
    origin: Path,
) -> list[tuple[str, Path, Path]]:
    """Map names to a list of (name, image file, mask file).

    Args:
        root: the data set's folder, for messages.
        names: list of names.
        images, masks: what `files_by_name` found.
        folders: names of the two folders, for messages.
        origin: where the names come from, for messages.

    Raises:
        FileNotFoundError: a name has no image or no mask, or several; it lists them.
    """
    problems = []
    for name in names:
        for files, folder in ((images, folders[0]), (masks, folders[1])):
            found = files.get(name, [])
            if not found:
                problems.append(f"{folder}/{name}{'.png' if files is masks else '.jpg'} is missing")
            elif len(found) > 1:
                several = ", ".join(file.relative_to(root).as_posix() for file in found)
                problems.append(f"{several}: only one of them can be meant")
    if problems:
        raise FileNotFoundError(
            f"of the {len(names)} samples in {origin}, not all are a pair of one image and one mask. "
            f"{len(problems)} problems in {root}:\n{listing(problems)}"
        )
    return [(name, images[name][0], masks[name][0]) for name in names]


def pair_reader(
    pairs: Sequence[tuple[str, Path, Path]],
    labels_of: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    channels: int = 3,
) -> Callable[[int], tuple[np.ndarray, np.ndarray, str]]:
    """Map pairs of (name, image file, mask file) to the `read(index)` that `indexed` takes."""

    def read_pair(index):
        name, image_file, mask_file = pairs[index]
        image = read_image(image_file, channels)
        data = mask_file.read_bytes()
        try:
            label = labels_of(*decode_label_png(data))
        except ValueError as error:
            raise ValueError(f"{mask_file} {error}") from error
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{mask_file} is {label.shape[1]}x{label.shape[0]} pixels, but its image {image_file} is "
                f"{image.shape[1]}x{image.shape[0]} (as stored; an EXIF orientation is not applied)"
            )
        return image, label, name

    return read_pair


def colors_by_label(colors: Sequence[Color] | Mapping[Color, int], count: int) -> tuple[Color, ...]:
    """A colour for each class, of several the first."""
    if not isinstance(colors, Mapping):
        return tuple(map(tuple, colors))
    chosen = dict(enumerate(default_colors(count)))
    # Backwards, so that of several colours of one class the first is shown.
    for color, label in reversed(colors.items()):
        if label in chosen:
            chosen[label] = tuple(color)
    return tuple(chosen.values())
