"""Any data set to a folder with `images/`, `masks/`, `splits/`, `classes.txt` and `colors.txt`, see `data.folder`."""

import hashlib
import os
import shutil
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from keras_deeplab._helpers.ending import remove_at_end
from keras_deeplab._helpers.files import in_a_folder
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.images import EXTENSIONS, read_image
from keras_deeplab.data.masks import write_label_png
from keras_deeplab.data.source import Source, readable_errors


class Written(NamedTuple):
    """What was written: the names of the images by split, how many files were copied, and how many written anew."""

    splits: dict[str, list[str]]
    copied: int
    encoded: int


def write_folder(folder: str | os.PathLike, sources: Mapping[str, Source], *, progress: bool = False) -> Written:
    """Write the splits of a data set as a folder that `data.load` reads equal to them, all of it or nothing.

    An image's file is copied byte for byte where the folder's reader makes the same pixels of it (a JPEG keeps its
    quality and its EXIF data, and the mask fits the upright picture); else its pixels are written as a PNG file, or as
    .npy where they have other than 1, 3 or 4 channels. Masks are paletted PNG files whose numbers are the labels, 255
    ignored. An image in several splits is written once.

    Args:
        folder: must not be there, or be empty; the folder above it must be.
        sources: by the names of the splits; `"all"` alone needs no list.

    Raises:
        FileExistsError: there is something in the folder.
        FileNotFoundError: there is no folder above it.
        ValueError: a sample can't be read, or the splits have different classes.
    """
    target = in_a_folder(Path(folder).expanduser())
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there already and isn't empty; nothing in it is overwritten: give another")
    first, *others = sources.values()
    for other in others:
        if (other.classes_spec, other.num_classes, other.channels) != (
            first.classes_spec,
            first.num_classes,
            first.channels,
        ):
            raise ValueError(
                f"{first.name} has the classes {', '.join(first.classes)} in images of {first.channels} channels, and "
                f"{other.name} has {', '.join(other.classes)} in images of {other.channels}: import them one by one"
            )
    # Beside it, so that it can be moved there as a whole.
    temporary = remove_at_end(target.with_name(f".{os.getpid()}.{target.name}"))
    try:
        for name in ("images", "masks"):
            (temporary / name).mkdir(parents=True)
        written = _Writer(temporary).write(sources, progress)
        _write_lists(temporary, first, written)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return written


def _write_lists(folder: Path, source: Source, written: Written) -> None:
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in source.classes), "utf-8")
    if source.classes_spec.colors is not None:
        lines = (" ".join(map(str, color)) for color in source.classes_spec.colors)
        (folder / "colors.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    lists = {split: names for split, names in written.splits.items() if split != "all"}
    if lists:
        (folder / "splits").mkdir()
    for split, names in lists.items():
        (folder / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


class _Writer:
    """Writes samples under names of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents: dict[str, bytes] = {}  # a digest of what stands under a name
        self.copied = self.encoded = 0

    def write(self, sources: Mapping[str, Source], progress: bool) -> Written:
        names: dict[str, list[str]] = {split: [] for split in sources}
        total = sum(map(len, sources.values()))
        with Progress(total, "import", progress) as shown, readable_errors():
            for split, source in sources.items():
                for index, sample in enumerate(source.dataset().as_numpy_iterator()):
                    file = source.files[index][1] if source.files else None
                    names[split].append(self._sample(split, sample, file, source))
                    shown.update(sum(map(len, names.values())))
        return Written(names, self.copied, self.encoded)

    def _sample(self, split: str, sample: Mapping[str, Any], file: Path | None, source: Source) -> str:
        """Writes a sample, unless it is there already; returns its name."""
        image, label = sample["image"], sample["label"]
        content = hashlib.sha256(repr(image.shape).encode() + image.tobytes() + label.tobytes()).digest()
        plain = _as_name(sample["name"].decode())
        for name in (plain, f"{split}/{plain}", f"{split}/{plain}_{len(self.contents)}"):
            if self.contents.setdefault(name, content) == content:
                break
        mask = self.folder / "masks" / f"{name}.png"
        if not mask.exists():
            mask.parent.mkdir(parents=True, exist_ok=True)
            (self.folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            self._image(name, image, file)
            write_label_png(mask, label, source.palette)
        return name

    def _image(self, name: str, image: np.ndarray, file: Path | None) -> None:
        place = self.folder / "images" / name
        if file is not None and file.suffix.lower() in EXTENSIONS and _reads_as(file, image):
            shutil.copyfile(file, place.with_name(f"{place.name}{file.suffix.lower()}"))
            self.copied += 1
            return
        self.encoded += 1
        if image.shape[-1] in (1, 3, 4):
            place.with_name(f"{place.name}.png").write_bytes(_png(image))
        else:
            np.save(place.with_name(f"{place.name}.npy"), image)


def _reads_as(file: Path, image: np.ndarray) -> bool:
    """Whether the reader of folders makes these pixels of a file without being told anything but the channels."""
    try:
        return np.array_equal(read_image(file, image.shape[-1], upright=True), image)
    except (ValueError, OSError):
        return False


def _png(image: np.ndarray) -> bytes:
    from keras_deeplab._helpers.opencv import cv2

    blue_first = image[..., [2, 1, 0, *range(3, image.shape[-1])]] if image.shape[-1] > 1 else image
    return cv2.imencode(".png", np.ascontiguousarray(blue_first))[1].tobytes()


def _as_name(name: str) -> str:
    """A sample's name as a line of a list and a path in a folder."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
    text = "".join(character if character.isprintable() else "_" for character in "/".join(parts)).strip()
    stem, extension = os.path.splitext(unicodedata.normalize("NFC", text) or "image")
    # A list may have a file's name with its extension, so that none may end in one.
    return f"{stem}_{extension[1:]}" if extension.lower() in EXTENSIONS else f"{stem}{extension}"
