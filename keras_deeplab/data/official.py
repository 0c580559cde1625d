"""What the readers of public data sets share: the record of one, its parts on disk, and masks by a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_deeplab.data.folder import pair_reader
from keras_deeplab.data.images import read_image
from keras_deeplab.data.pairs import Files, Pair, files_by_name, pair_files
from keras_deeplab.data.settings import ImageOptions
from keras_deeplab.data.source import Source, indexed
from keras_deeplab.specs import IGNORED, Classes

# Masks were drawn for photographs as they are stored: MATLAB and the tools of that time didn't turn them.
STORED = ImageOptions(orientation="stored", image_range=None)
# What maps a mask file's stored numbers, its palette and alpha or None, to labels (H, W) uint8, 255 ignored.
LabelsOf = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Official:
    """What a public data set is, as its authors say. One stands in each reader's module, as `OFFICIAL`.

    Attributes:
        name: what it is called.
        homepage: where its archives are.
        archives: their official names, each with the folders it brings; the reader finds them in the data set's folder.
        classes: the classes of each numbering under their number, `num_classes`; the first is the default.
        splits: the official number of images of each split that has labels; `"all"` is all of them.
        licence: whose terms its images stand under, in a few words.
    """

    name: str
    homepage: str
    archives: Mapping[str, str]
    classes: Mapping[int, Classes]
    splits: Mapping[str, int]
    licence: str

    def numbering(self, num_classes: int | None) -> int:
        """The option `num_classes` of a reader to one of the numberings; None to the first.

        Raises:
            ValueError: it has no such numbering.
        """
        if num_classes is None:
            return next(iter(self.classes))
        if num_classes not in self.classes:
            known = " or ".join(f"num_classes={count}" for count in self.classes)
            raise ValueError(f"{self.name} is read with {known}; received num_classes={num_classes!r}")
        return num_classes

    def parts(self, split: str | None) -> tuple[str, ...]:
        """The splits that a split consists of: itself, and all of them for `"all"` or None.

        Raises:
            ValueError: it has no such split.
        """
        if split is None or split == "all":
            return tuple(self.splits)
        if split not in self.splits:
            raise ValueError(
                f"{self.name} has no split {split!r} with labels; it has {', '.join(map(repr, self.splits))} and 'all'"
            )
        return (split,)

    def folder(self, root: Path, *places: str, archive: str) -> Path:
        """The first of the folders or files `places` in `root` that is there.

        Raises:
            FileNotFoundError: none is; it says which archive brings it and where to unpack it.
        """
        for place in places:
            if (root / place).exists():
                return root / place
        raise FileNotFoundError(
            f"{root} has no {' or '.join(places)}, a part of {self.name}: download {archive} from {self.homepage} and "
            f"unpack it so that {root / places[0]} is there"
        )

    def source(
        self,
        root: Path,
        split: str | None,
        pairs: Sequence[Pair],
        labels_of: LabelsOf | None,
        num_classes: int,
        read: Callable[[int], tuple[np.ndarray, np.ndarray, str]] | None = None,
    ) -> Source:
        """The `Source` of pairs of image and mask files, with a note where they are not the official number.

        Args:
            labels_of: for masks that are PNG files.
            num_classes: which numbering.
            read: for other masks, as `indexed` takes it.
        """
        # Of every source the ignored label is 255, whatever number the archive has for it.
        classes = replace(self.classes[num_classes], ignore_label=IGNORED)
        if read is None:
            assert labels_of is not None
            read = pair_reader(pairs, labels_of, reading=STORED)
        source = indexed(f"{root} ({split or 'all'})", classes, len(pairs), read)
        source.files = pairs
        source.notes += self.notes(split, len(pairs))
        return source

    def notes(self, split: str | None, count: int) -> list[str]:
        """What is to be said of a split that has `count` images, where that isn't the official number."""
        if split is not None and split != "all" and split not in self.splits:
            return []
        official = sum(self.splits[part] for part in self.parts(split))
        return [] if count == official else [f"{count:,} images; {self.name} has {official:,}"]


def inside(path: Path, present: Callable[[Path], bool], *names: str) -> Path | None:
    """The folder in which a data set's parts are: the path itself or a folder of these names in it; None for neither.

    Args:
        present: whether a folder has some of the parts.
    """
    return next((place for place in (path, *(path / name for name in names)) if present(place)), None)


def holds(folder: Path, pattern: str) -> bool:
    """Whether any file in a folder matches a pattern."""
    return next(folder.glob(pattern), None) is not None


def files_ending(folder: Path, ending: str) -> dict[str, list[Path]]:
    """Every file in a folder and its subfolders whose name has this ending, under its relative path without it."""
    end, _, extension = ending.rpartition(".")
    files = files_by_name(folder, (f".{extension}",))
    return {name.removesuffix(end): paths for name, paths in files.items() if name.endswith(end)}


def pairs_of(
    root: Path, names: Sequence[str], images: Files, masks: Files, folders: tuple[str, str], origin: Path
) -> list[Pair]:
    """As `pairs.pair_files`, for a data set whose every image has a mask."""
    return pair_files(root, names, images, masks, folders, origin, missing_masks=None)


def all_pairs(root: Path, images: tuple[Path, str], masks: tuple[Path, str]) -> list[Pair]:
    """Every image in a folder with the mask of its name in another.

    Args:
        root: the data set's folder, for messages.
        images, masks: folders, and how the names of the files in them end.

    Raises:
        FileNotFoundError: there are no images, or some have no mask; it lists them.
    """
    pictures, labels = files_ending(*images), files_ending(*masks)
    if not pictures:
        raise FileNotFoundError(f"{images[0]} holds no files that end in {images[1]}")
    shown = (images[0].relative_to(root).as_posix(), masks[0].relative_to(root).as_posix())
    return pairs_of(root, sorted(pictures), pictures, labels, shown, images[0])


def matlab_reader(
    pairs: Sequence[Pair],
    labels_in: Callable[[Path], np.ndarray],
    others: Callable[[int], tuple[np.ndarray, np.ndarray, str]] | None = None,
    reading: ImageOptions = STORED,
) -> Callable[[int], tuple[np.ndarray, np.ndarray, str]]:
    """Map pairs whose masks are .mat files, some perhaps not, to the `read(index)` that `indexed` takes.

    Args:
        labels_in: a .mat file to its labels (H, W) uint8; it raises ValueError.
        others: the `read(index)` of masks of other kinds.
    """

    def read(index: int) -> tuple[np.ndarray, np.ndarray, str]:
        name, image_file, mask_file = pairs[index]
        if others is not None and (mask_file is None or mask_file.suffix.lower() != ".mat"):
            return others(index)
        assert mask_file is not None
        image = read_image(image_file, upright=reading.upright)
        try:
            label = labels_in(mask_file)
        except ValueError as error:
            raise ValueError(f"{mask_file} {error}") from error
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{mask_file} is {label.shape[1]}x{label.shape[0]} pixels, but its image {image_file} is "
                f"{image.shape[1]}x{image.shape[0]}"
            )
        return image, label, name

    return read


def labels_by_number(meaning: Mapping[int, int]) -> LabelsOf:
    """Map the numbers of a data set's masks, 0..255, to a function from a mask to labels, 255 ignored.

    A mask with a number that has no meaning is refused.

    >>> labels_by_number({7: 0, 8: 1, 0: 255})(np.array([[7, 0, 8]], np.uint8)).tolist()
    [[0, 255, 1]]
    """
    table, strange = np.full(256, IGNORED, np.uint8), np.ones(256, np.uint8)
    for number, label in meaning.items():
        table[number], strange[number] = label, 0
    strange[IGNORED] = 0

    def labels_of(values: np.ndarray, *_: np.ndarray | None) -> np.ndarray:
        if values.ndim != 2:
            raise ValueError("has three channels, red, green and blue, where one number a pixel is expected")
        from keras_deeplab._helpers.opencv import cv2

        small = np.ascontiguousarray(values if values.dtype == np.uint8 else np.clip(values, 0, 255), np.uint8)
        wrong = cv2.LUT(small, strange) > 0
        if small is not values:  # what doesn't fit into 8 bits has no meaning either
            wrong |= values != small
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"holds {_shown(np.unique(values[wrong]))}, first at row {row}, column {column}, which the data set's "
                "masks don't have"
            )
        return cv2.LUT(small, table)

    return labels_of


def _shown(numbers: Iterable[int]) -> str:
    shown = [str(number) for number in numbers]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} other numbers" if len(shown) > 5 else "")
