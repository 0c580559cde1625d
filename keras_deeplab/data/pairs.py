"""Names of samples to their files: an image and its mask each, by lists of names, by folders, by common endings."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from keras_deeplab._helpers.files import read_regular, walk
from keras_deeplab.data import splits
from keras_deeplab.data.images import EXTENSIONS
from keras_deeplab.data.mask_files import LOSSY
from keras_deeplab.data.source import listing

Files = Mapping[str, list[Path]]
Pair = tuple[str, Path, Path | None]
# What tools put behind a photograph's name for its mask's, and behind both for the photograph's.
_OF_MASKS = re.compile(r"[ _.-](masks?|labels?|labelids?|seg|segmentation|gt|groundtruth|annotation)$", re.IGNORECASE)
_OF_IMAGES = re.compile(r"[ _.-](image|img|photo|rgb|sat)$", re.IGNORECASE)
# Lists that hold every name there is.
_WHOLE = ("all", "default", "trainval")


class SplitOptions(NamedTuple):
    """What a reader does where lists or masks are missing.

    Attributes:
        missing_masks: `"background"` for photographs without a mask as samples of class 0 alone, else `"refuse"`.
        val_share, split_seed: of the split that is made where there is no list; see `splits.automatic`.
    """

    missing_masks: str = "refuse"
    val_share: float | None = None
    split_seed: int = 0


AS_LISTED = SplitOptions()


# Text files -------------------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 with its mark, or else in Windows-1252, of which Latin-1 is a part."""
    return _text(read_regular(path))[0]


def _text(data: bytes) -> tuple[str, bool]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16"), True
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), False


def notes_on_text(files: Iterable[Path]) -> list[str]:
    """A line for each of the files that is no UTF-8: as what it was read, with its first line that shows it."""
    notes = []
    for file in files:
        text, known = _text(read_regular(file)) if file.is_file() else ("", True)
        if not known:
            line = next(line for line in text.splitlines() if not line.isascii())
            notes.append(f"{file} is not in UTF-8 and was read as Windows-1252 (Latin-1), such as {line.strip()!r}")
    return notes


def listed_names(path: Path) -> list[str]:
    """The lines of a text file, without the white space around them and without empty ones.

    Raises:
        ValueError: there are none.
    """
    names = [same(line.strip()) for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} lists no image; it is a text file with one image name a line")
    return names


def refuse_repetitions(names: Sequence[str], origin: Path) -> None:
    """Raise a ValueError that lists the names which occur more than once, if any do."""
    twice = [name for name, count in Counter(names).items() for _ in range(count - 1)]
    if twice:
        raise ValueError(f"{origin} lists {len(twice)} names more than once:\n{listing(twice)}")


def same(name: str) -> str:
    """A name in one form: `é` is one letter or two by the system that wrote it, and old systems' bytes are Latin-1."""
    if any("\udc80" <= character <= "\udcff" for character in name):
        name = os.fsencode(name).decode("cp1252", "replace")
    return unicodedata.normalize("NFC", name)


# Folders ----------------------------------------------------------------------------------------------------------


def files_by_name(folder: Path, extensions: Sequence[str]) -> dict[str, list[Path]]:
    """Every file in a folder and its subfolders, as lists under its relative path without the extension."""
    files: dict[str, list[Path]] = {}
    for parent, _, entries in walk(folder):
        for entry in entries:
            stem, extension = os.path.splitext(entry)
            if extension.lower() in extensions and not entry.startswith("."):
                file = Path(parent, entry)
                files.setdefault(same(file.with_name(stem).relative_to(folder).as_posix()), []).append(file)
    return files


def masks_of(images: Files, masks: Files) -> dict[str, list[Path]]:
    """The masks under the names of their images, also those with an ending such as `NAME_mask`.

    A mask of the very name goes first; of several with endings all are listed, so that none is taken by chance. A JPEG
    beside another file of its name is left out.
    """
    plain = {_OF_IMAGES.sub("", name): name for name in images}
    found: dict[str, list[Path]] = {}
    for name, files in masks.items():
        kept = [file for file in files if file.suffix.lower() not in LOSSY] or files
        base = _OF_MASKS.sub("", name)
        meant = name if name in images else base if base in images else plain.get(base, name)
        found.setdefault(name if meant in masks else meant, []).extend(kept)
    return found


def beside(images: Files) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Images of a folder that holds masks too, by an ending such as `NAME_mask`: the images, and the masks by name."""
    masks = {name: files for name, files in images.items() if _OF_MASKS.sub("", name) in images.keys() - {name}}
    return {name: files for name, files in images.items() if name not in masks}, masks


def without_extension(line: str) -> str:
    stem, extension = os.path.splitext(line)
    return stem if extension.lower() in EXTENSIONS else line


# Splits -----------------------------------------------------------------------------------------------------------


def listed_splits(folder: Path, count: int) -> tuple[str, ...]:
    """The splits of `count` images whose lists are in a folder, without those that hold every name.

    Where there are none: `"train"` and `"val"`, which are made then, or `"all"` of images that are too few for that.
    """
    names = tuple(file.stem for file in sorted(folder.glob("*.txt")) if file.stem not in _WHOLE)
    return names or (("train", "val") if count >= splits.LEAST else ("all",))


def split_pairs(
    root: Path,
    split: str | None,
    images: Files,
    masks: Files,
    folders: tuple[str, str],
    lists: str,
    name_of: Callable[[str], str],
    options: SplitOptions = AS_LISTED,
    notes: list[str] | None = None,
) -> list[Pair]:
    """The (name, image file, mask file) of a split: what the file of its name in `root / lists` lists, or all there is.

    Where there is no such file for `"train"` or `"val"`, one is made of the other names: see `_made`.

    Args:
        images, masks: what `files_by_name` found.
        folders: names of the two folders, for messages.
        name_of: a line of a list to the name that it means.
        notes: gets a line on what was not told by the data set.

    Raises:
        FileNotFoundError: there is no such list, or a name in it is no pair.
        ValueError: the list is empty, or has a name twice.
    """
    notes = [] if notes is None else notes
    masks = masks_of(images, masks)
    origin = root / lists / f"{split or 'all'}.txt"
    files = sorted((root / lists).glob("*.txt"))

    def names_of(file):
        names = [line if line in images else name_of(line) for line in listed_names(file)]
        refuse_repetitions(names, file)
        return names

    if split is None or (split == "all" and not origin.is_file()):
        names, origin = sorted(images.keys() | masks.keys()), root / folders[0]
    elif split in ("train", "val") and (options.val_share is not None or not origin.is_file()):
        known = images.keys() | masks.keys() if options.missing_masks == "refuse" else images.keys()
        names, how = _made(
            split, {file.stem: names_of(file) for file in files}, known, images.keys() & masks.keys(), options, origin
        )
        missing = origin if not origin.is_file() else origin.with_name("val.txt")
        notes.append(f"there is no {missing}: {split!r} are {len(names)} of {len(images)} images, {how}")
        origin = root / folders[0]
    elif origin.is_file():
        names = names_of(origin)
    else:
        others = [file.stem for file in files]
        raise FileNotFoundError(
            f"there is no {origin}. "
            + (f"{lists}/ has {', '.join(others)}. " if others else "")
            + f"It is a text file with one image name a line; split='all' takes all {len(images)} images"
        )
    if not names:
        raise FileNotFoundError(f"{root / folders[0]} holds no images; it takes {', '.join(EXTENSIONS)} files")
    return pair_files(root, names, images, masks, folders, origin, options.missing_masks, notes)


def _made(
    split: str,
    lists: Mapping[str, Sequence[str]],
    known: Set[str],
    whole: Set[str],
    options: SplitOptions,
    origin: Path,
) -> tuple[list[str], str]:
    """The names of a split, train or val, that has no list of its own, and how they were chosen.

    Without the other's list either, they are a seeded part of all; with it, what no list has. `val_share` divides the
    list of train, so that nothing of it is in both.

    Args:
        lists: names by list.
        known: all names.
        whole: those with an image and a mask.
        origin: the missing list.
    """
    share, other = options.val_share, "train" if split == "val" else "val"
    if share is not None and "val" in lists:
        raise ValueError(f"val_share={share} is for data without a list for val, and there is {origin.parent}/val.txt")
    if share is None and other in lists:
        names = sorted(whole - {name for names in lists.values() for name in names})
        if names:
            return names, "all that are in no list"
        way = "val_share=0.2 takes a fifth of train.txt for val, the same ones for the same split_seed=. "
        raise FileNotFoundError(
            f"there is no {origin}, and every image is in a list. {way if split == 'val' else ''}"
            "It is a text file with one image name a line"
        )
    base = [lists[name] for name in ("train", *_WHOLE) if name in lists]
    held_out = {name for title, names in lists.items() if title not in ("train", *_WHOLE) for name in names}
    names = sorted(set(base[0] if base else known) - held_out)
    chosen = splits.automatic(
        names, split, share=0.2 if share is None else share, seed=options.split_seed, origin=origin.parent
    )
    return chosen, f"chosen from {len(names)} by val_share={share or 0.2} and split_seed={options.split_seed}"


# Pairs ------------------------------------------------------------------------------------------------------------


def pair_files(
    root: Path,
    names: Sequence[str],
    images: Files,
    masks: Files,
    folders: tuple[str, str],
    origin: Path,
    missing_masks: str | None = "refuse",
    notes: list[str] | None = None,
) -> list[Pair]:
    """Map names to a list of (name, image file, mask file).

    Args:
        root: the data set's folder, for messages.
        names: list of names.
        images, masks: what `files_by_name` found.
        folders: names of the two folders, for messages.
        origin: where the names come from, for messages.
        missing_masks: `"background"`: the mask file of a name without one is None. None for a reader without that
            option, which errors don't offer then.
        notes: gets a line on those.

    Raises:
        FileNotFoundError: a name has no image or no mask, or several; it lists them.
    """
    empty = [name for name in names if name not in masks] if missing_masks == "background" else []
    problems, without = [], 0
    for name in names:
        for files, folder in ((images, folders[0]), (masks, folders[1])):
            found = files.get(name, [])
            if not found and not (files is masks and empty):
                problems.append(f"{folder}/{name}{'.png' if files is masks else '.jpg'} is missing")
                without += files is masks and name in images
            elif len(found) > 1:
                several = ", ".join(file.relative_to(root).as_posix() for file in found)
                problems.append(f"{several}: only one of them can be meant")
    if problems:
        raise FileNotFoundError(
            f"of the {len(names)} samples in {origin}, not all are a pair of one image and one mask. "
            f"{len(problems)} problems in {root}:\n{listing(problems)}"
            + (
                f'\n{without} images have no mask: missing_masks="background" takes all of their pixels for class 0'
                if missing_masks and without and without < len(names)
                else ""
            )
        )
    if len(empty) == len(names):
        raise FileNotFoundError(f"none of the {len(names)} samples in {origin} has a mask in {root / folders[1]}")
    if empty and notes is not None:
        notes.append(
            f'{len(empty)} of {len(names)} images have no mask and are all class 0 (missing_masks="background")'
        )
    return [(name, images[name][0], masks[name][0] if name in masks else None) for name in names]
