"""One's own photographs: `images/`, `masks/`, `splits/{train,val}.txt` and `classes.txt` in a folder."""

import os
from pathlib import Path

from keras_deeplab.data.images import EXTENSIONS, read_image
from keras_deeplab.data.masks import decode_label_png, label_reader, voc_palette
from keras_deeplab.data.source import indexed, listing


def read(
    path,
    split="train",
    *,
    classes=None,
    num_classes=None,
    mask_encoding="auto",
    colors=None,
    ignore_label=None,
    label_offset=0,
    palette=None,
):
    """Map a folder to the `Source` of one of its splits.

    The folder holds `images/NAME.jpg` (or .jpeg, .png, .bmp), `masks/NAME.png` of the same size, `splits/SPLIT.txt`
    with one NAME a line, and `classes.txt` with one class a line. NAME may contain subfolders.

    Args:
        path: the folder.
        split: name of a file in `splits/`, without `.txt`; or `"all"` or None for every image there is.
        classes: list of class names, where there is no `classes.txt` or it should not count.
        num_classes: int; instead of `classes`.
        mask_encoding: `"grey"`, `"palette"` (the numbers in the file are the labels), `"rgb"` (see `colors`), or
            `"auto"`: what each file is, and `"rgb"` where `colors` is given.
        colors: for RGB-coded masks, a list of (red, green, blue), one for each class in order, or a dict from such
            tuples to labels, 255 for ignored.
        ignore_label: number or list of numbers in the masks to ignore, as 255 always is.
        label_offset: int added to the masks' numbers, such as -1 where classes count from 1.
        palette: (256, 3) uint8 colours for showing labels; None for those of `colors`, else PASCAL VOC's.

    Raises:
        FileNotFoundError: a folder or list is missing, or images or masks of the split are; it names them.
        ValueError: the split or the options don't fit the folder.
    """
    root = Path(path).expanduser()
    for sub in ("images", "masks"):
        if not (root / sub).is_dir():
            raise FileNotFoundError(f"{root} has no folder {sub}/; it needs images/NAME.jpg and masks/NAME.png")
    classes = class_names(root / "classes.txt", classes, num_classes)
    images = files_by_name(root / "images", EXTENSIONS)
    masks = files_by_name(root / "masks", (".png",))
    if split is None or (split == "all" and not (root / "splits" / "all.txt").is_file()):
        origin = root / "images"
        names = sorted(images.keys() | masks.keys())
        if not names:
            raise FileNotFoundError(f"{origin} holds no images; it takes {', '.join(EXTENSIONS)} files")
    else:
        origin = root / "splits" / f"{split}.txt"
        if not origin.is_file():
            lists = sorted(file.stem for file in (root / "splits").glob("*.txt"))
            raise FileNotFoundError(
                f"there is no {origin}. "
                + (f"splits/ has {', '.join(lists)}. " if lists else "")
                + f"It is a text file with one image name a line; split='all' takes all {len(images)} images"
            )
        names = [_without_extension(name, images) for name in listed_names(origin)]
        refuse_repetitions(names, origin)
    pairs = pair_files(root, names, images, masks, ("images", "masks"), origin)
    labels_of = label_reader(len(classes), mask_encoding, colors, ignore_label, label_offset)
    if palette is None and colors:
        palette = _palette(colors)
    return indexed(f"{root} ({split or 'all'})", classes, len(pairs), pair_reader(pairs, labels_of), palette)


def class_names(classes_file, classes=None, num_classes=None):
    """The class names of an option, or of a text file with one a line, or `num_classes` numbered ones."""
    if classes is not None:
        classes = list(classes)
        origin = "classes="
    elif classes_file.is_file():
        classes = [line.strip() for line in classes_file.read_text("utf-8-sig").splitlines() if line.strip()]
        origin = classes_file
    elif num_classes is not None:
        return [f"class {label}" for label in range(num_classes)]
    else:
        raise ValueError(
            f"there is no {classes_file}, so the classes are unknown: write it with one class a line, label 0 first, "
            "or give num_classes= or classes=[...]"
        )
    if num_classes not in (None, len(classes)):
        raise ValueError(f"num_classes={num_classes}, but {origin} has {len(classes)} classes")
    return classes


def listed_names(path):
    """The lines of a text file, without the white space around them and without empty ones.

    Raises:
        ValueError: there are none.
    """
    names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} lists no image; it is a text file with one image name a line")
    return names


def refuse_repetitions(names, origin):
    """Raise a ValueError that lists the names which occur more than once, if any do."""
    seen = set()
    twice = [name for name in names if name in seen or seen.add(name)]
    if twice:
        raise ValueError(f"{origin} lists {len(twice)} names more than once:\n{listing(twice)}")


def files_by_name(folder, extensions):
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


def pair_files(root, names, images, masks, folders, origin):
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


def pair_reader(pairs, labels_of):
    """Map pairs of (name, image file, mask file) to the `read(index)` that `indexed` takes."""

    def read_pair(index):
        name, image_file, mask_file = pairs[index]
        image = read_image(image_file)
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


def _without_extension(name, images):
    stem, extension = os.path.splitext(name)
    return stem if name not in images and extension.lower() in EXTENSIONS else name


def _palette(colors):
    palette = voc_palette()
    labels = colors.items() if isinstance(colors, dict) else zip(colors, range(len(colors)), strict=True)
    # Backwards, so that of several colours of one class the first is shown.
    for color, label in reversed(list(labels)):
        palette[label] = color
    return palette
