"""The files of a data set as they are stored: what a reader hides, such as bit depth, alpha and EXIF orientation."""

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import read_regular, walk
from keras_deeplab.data import tiff
from keras_deeplab.data.channels import keeps_channels, read_npy
from keras_deeplab.data.images import EXTENSIONS, opened
from keras_deeplab.data.mask_files import read_mask
from keras_deeplab.data.masks import imdecode
from keras_deeplab.data.orientation import orientation_of

# Folders of the layouts that are known: where images lie, and where masks do.
IMAGE_FOLDERS = ("images", "JPEGImages", "leftImg8bit")
MASK_FOLDERS = ("masks", "SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug", "labels", "annotations")
_SUFFIX = re.compile(r"[_-](mask|label|labels|seg|gt)$", re.IGNORECASE)
_ENDINGS = (*EXTENSIONS, ".gif")
_VALUES = 1024  # different numbers of a mask that are kept
_TURNED = (5, 6, 7, 8)  # orientations that exchange height and width


@dataclass(frozen=True)
class ImageFile:
    """An image as it is stored.

    Attributes:
        kind: "JPEG", "PNG", ...
        size: (height, width), before any turning.
        channels: without alpha; 3 where a palette has colours.
        bits: of a channel.
        orientation: that of EXIF, 1 to 8; 1 where nothing is to be turned.
        high: the largest number in it, where that was looked up: of more than 8 bits.
        alpha: whether it has an alpha channel that is not the same everywhere.
    """

    path: Path
    kind: str
    size: tuple[int, int]
    channels: int
    bits: int
    orientation: int = 1
    high: int | None = None
    alpha: bool = False

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) once it is turned as EXIF asks."""
        return self.size[::-1] if self.orientation in _TURNED else self.size


@dataclass(frozen=True)
class MaskFile:
    """A mask as it is stored.

    Attributes:
        channels: without alpha; 1 for a palette's indices.
        values: pixels by stored number, of the most frequent; where there are three channels by 0xRRGGBB.
        thin: the values most of whose pixels lie in strips one pixel wide, as blending makes them.
        alpha: pixels by alpha; None where it has none.
    """

    path: Path
    size: tuple[int, int]
    channels: int
    values: Mapping[int, int]
    thin: frozenset[int]
    alpha: Mapping[int, int] | None = None


@dataclass(frozen=True)
class Files:
    """Images and masks of a folder by their names; of a large one a random part.

    Attributes:
        lone_images, lone_masks: the names of all images without a mask, and of all masks without an image.
    """

    images: Mapping[str, ImageFile] = field(default_factory=dict)
    masks: Mapping[str, MaskFile] = field(default_factory=dict)
    lone_images: tuple[str, ...] = ()
    lone_masks: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, ImageFile, MaskFile]]:
        return [(name, self.images[name], mask) for name, mask in self.masks.items() if name in self.images]


def files_of(location: str | os.PathLike, most: int | None = None, seed: int = 0) -> Files:
    """Map a data set's folder to its `Files`; of what is no folder, or none with images and masks, to none.

    Args:
        most: how many images and masks are looked into, a random part; None for all.
        seed: of the choice.
    """
    images, masks = _found(Path(location).expanduser())
    names = sorted(images.keys() & masks.keys()) or sorted(images.keys() | masks.keys())
    order = np.random.default_rng(seed % 2**63).permutation(len(names))
    chosen = [names[place] for place in sorted(order[:most])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = zip(
            chosen,
            pool.map(lambda name: _image_file(images.get(name)), chosen),
            pool.map(lambda name: _mask_file(masks.get(name)), chosen),
            strict=True,
        )
        found = list(seen)
    return Files(
        {name: image for name, image, _ in found if image is not None},
        {name: mask for name, _, mask in found if mask is not None},
        tuple(sorted(images.keys() - masks.keys())),
        tuple(sorted(masks.keys() - images.keys())),
    )


def _found(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The images and the masks below a folder by what their names share: the part below the folder of their kind."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    beside: dict[str, Path] = {}  # neither in a folder of images nor in one of masks
    for parent, folders, entries in walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        below = Path(parent).relative_to(root).parts
        place = next((i for i, part in enumerate(below) if part in (*IMAGE_FOLDERS, *MASK_FOLDERS)), None)
        inner = below if place is None else below[place + 1 :]
        for entry in entries:
            stem, extension = os.path.splitext(entry)
            if extension.lower() not in _ENDINGS or entry.startswith("."):
                continue
            kind = beside if place is None else images if below[place] in IMAGE_FOLDERS else masks
            kind.setdefault("/".join((*inner, stem)), Path(parent, entry))
    if not images and not masks:  # as Roboflow has them: NAME.jpg and NAME_mask.png
        masks = {name: file for name, file in beside.items() if _SUFFIX.search(name)}
        images = {name: file for name, file in beside.items() if name not in masks}
    bare = {name: _SUFFIX.sub("", name) for name in masks}
    return images, {
        name if name in images or bare[name] not in images else bare[name]: file for name, file in masks.items()
    }


def _image_file(path: Path | None) -> ImageFile | None:
    """What is to know of an image; None where it can't be read, which its reader says better."""
    if path is None:
        return None
    try:
        data = read_regular(path)
        orientation = orientation_of(data)
        if keeps_channels(data):
            return _of_array(path, stored(path), orientation)
        with opened(data) as image:
            kind, size, bands = str(image.format), (image.height, image.width), image.getbands()
        bits = max(8, data[24]) if kind == "PNG" else 8  # Pillow shows 16 bits of a colour as 8
        if bits > 8 or bands[-1] == "A":
            return replace(_of_array(path, stored(path), orientation), kind=kind)
    except Exception:
        return None
    return ImageFile(path, kind, size, 3 if bands == ("P",) else len(bands), bits, orientation)


def _of_array(path: Path, pixels: np.ndarray, orientation: int) -> ImageFile:
    channels, bits = 1 if pixels.ndim == 2 else pixels.shape[-1], 8 * pixels.dtype.itemsize
    colours, alpha = pixels, False
    if channels in (2, 4):
        channels, colours, alpha = channels - 1, pixels[..., :-1], bool(np.ptp(pixels[..., -1]))
    high = int(colours.max()) if bits > 8 and pixels.dtype.kind in "ui" else None
    kind = path.suffix.lower().lstrip(".")
    return ImageFile(path, kind, (pixels.shape[0], pixels.shape[1]), channels, bits, orientation, high, alpha)


def _mask_file(path: Path | None) -> MaskFile | None:
    if path is None:
        return None
    try:
        values, _, alpha = read_mask(path, upright=False)
    except (ValueError, OSError):
        return None
    if values.ndim == 3 and not (values[..., :1] != values[..., 1:]).any():
        values = np.ascontiguousarray(values[..., 0])
    codes = as_codes(values)
    counts = _counts(codes)
    strips = _counts(codes[_in_strips(codes)])
    thin = frozenset(value for value, count in strips.items() if count > 0.6 * counts.get(value, count))
    channels = 1 if values.ndim == 2 else 3
    return MaskFile(path, codes.shape, channels, counts, thin, None if alpha is None else _counts(alpha))


def _in_strips(codes: np.ndarray) -> np.ndarray:
    """Which pixels are unlike both neighbours above and below, or both at the sides, bool (H, W)."""
    down, across = codes[1:] != codes[:-1], codes[:, 1:] != codes[:, :-1]
    found = np.zeros(codes.shape, bool)
    found[1:-1] |= down[1:] & down[:-1]
    found[:, 1:-1] |= across[:, 1:] & across[:, :-1]
    return found


def stored(path: str | os.PathLike) -> np.ndarray:
    """The numbers of an image file as they are stored, (H, W) or (H, W, channels), alpha last; not turned.

    Raises:
        ValueError: it can't be decoded.
        OSError: it can't be read.
    """
    from keras_deeplab._helpers.opencv import cv2

    data = read_regular(path)
    if data.startswith(tiff.SIGNATURES):
        return tiff.decode(data)
    if keeps_channels(data):
        return read_npy(data)
    return tiff.rgb_first(imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION))


def as_codes(pixels: np.ndarray) -> np.ndarray:
    """Numbers (H, W), or colours (H, W, channels) of at most 8 bits, to one number for each pixel, (H, W)."""
    if pixels.ndim == 2:
        return pixels
    codes = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(pixels.shape[-1]):
        codes = codes << 8 | pixels[..., channel]
    return codes


def _counts(numbers: np.ndarray) -> dict[int, int]:
    if numbers.dtype == np.uint8:
        pixels = np.bincount(numbers.reshape(-1), minlength=256)
        values = np.flatnonzero(pixels)
        pixels = pixels[values]
    else:
        values, pixels = np.unique(numbers, return_counts=True)
    order = np.argsort(-pixels, kind="stable")[:_VALUES]
    return dict(zip(values[order].tolist(), pixels[order].tolist(), strict=True))
