"""Paths, folders and patterns to image files, and to names for what is made of them, each its own."""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from keras_deeplab.data.images import EXTENSIONS

Inputs = str | os.PathLike | Iterable[str | os.PathLike]


def image_files(inputs: Inputs) -> list[Path]:
    """Paths of files, folders and patterns to a sorted list of image files without duplicates.

    Folders give their image files (`data.images.EXTENSIONS`), without those in subfolders.

    Raises:
        FileNotFoundError: if an entry matches nothing.
    """
    files = [path for path in image_entries(inputs) if path.is_file()]
    if not files:
        raise FileNotFoundError("none of the inputs is a regular file")
    return files


def image_entries(inputs: Inputs) -> list[Path]:
    """As `image_files`, with everything that has an image's name, so that it can be told what is wrong with it.

    Those are pipes, devices, folders, links to nothing and in circles; to be read by `_helpers.files.read_regular`.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    files: dict[str, Path] = {}
    for entry in inputs:
        for file in sorted(_found(Path(entry).expanduser())):
            files.setdefault(os.path.abspath(file), file)
    if not files:
        raise FileNotFoundError("no input was given: name image files, folders or patterns")
    return list(files.values())


def _found(path: Path) -> list[Path]:
    if _is_folder(path):
        found = [file for file in path.iterdir() if _is_named_so(file)]
        if not found and not _is_named_so(path):
            raise FileNotFoundError(f"the folder {path} holds no image ({', '.join(EXTENSIONS)})")
        return found or [path]
    if os.path.lexists(path):
        return [path]
    found = [Path(name) for name in glob.glob(str(path)) if _is_named_so(Path(name)) or os.path.isfile(name)]
    if not found:
        raise FileNotFoundError(f"{path} is neither a file, nor a folder, nor a pattern that matches a file")
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long
        return False


def _is_named_so(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def distinct_names(files: Sequence[Path], endings: Sequence[str], taken: Sequence[str] = ()) -> dict[Path, str]:
    """Files to a name for each, so that no name with one of the endings is another's or taken.

    A name is the file's without its ending where that is enough (`a`), with it where another file has the same
    (`a_jpg` and `a_png`), else with as many folders before it as it takes (`monday_a` and `tuesday_a`). Names that
    differ in the case of letters alone count as the same, as they are on some systems.

    >>> paths = [Path("x/a.jpg"), Path("x/a.png"), Path("x/b.jpg"), Path("y/b.jpg"), Path("y/c.jpg")]
    >>> list(distinct_names(paths, [".png", "_overlay.png"]).values())
    ['a_jpg', 'a_png', 'x_b', 'y_b', 'c']
    """
    endings = list(endings) or [""]
    candidates = [_candidates(file, number) for number, file in enumerate(files)]
    names, tries = [next(each) for each in candidates], [0] * len(files)
    while True:
        owners: dict[str, list[int]] = defaultdict(list, {name.casefold(): [-1] for name in taken})
        for number, name in enumerate(names):
            for ending in endings:
                owners[f"{name}{ending}".casefold()].append(number)
        # Of those that clash the longest names give way, so that a file's own name stays where it can.
        giving = set()
        for each in owners.values():
            own = set(each) - {-1}
            if len(set(each)) > 1:
                most = max(tries[number] for number in own)
                giving |= {number for number in own if tries[number] == most}
        if not giving:
            return dict(zip(files, names, strict=True))
        for number in sorted(giving):
            names[number] = next(candidates[number])
            tries[number] += 1


def _candidates(file: Path, number: int) -> Iterator[str]:
    """Names for what is made of a file, from the shortest on."""
    kind = file.suffix[1:]
    before: list[str] = []
    for folder in ("", *(parent.name for parent in Path(os.path.abspath(file)).parents)):
        if folder:
            before.insert(0, folder)
        yield "_".join([*before, file.stem])
        if kind:
            yield "_".join([*before, file.stem, kind])
    name = "_".join([*before, file.stem, kind])
    while True:
        name = f"{name}_{number}"
        yield name
