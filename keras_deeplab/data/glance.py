"""What a reader says of masks and photographs before all of them are read, from a few of them."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import open_regular
from keras_deeplab.data.images import read_image
from keras_deeplab.data.mask_codes import LabelReader
from keras_deeplab.data.mask_files import LOSSY, read_mask
from keras_deeplab.data.orientation import explained, orientation_of
from keras_deeplab.data.pairs import Pair

_LOOKED_AT = 32
_HEAD = 1 << 16  # of a file, which has its EXIF data
_COMPARED = 8


def notes_on_masks(pairs: Sequence[Pair], labels_of: LabelReader, repair: str | None) -> list[str]:
    """Lines on masks that are JPEG files, and on the share of the pixels that `mask_repair` moves."""
    files = [mask for _, _, mask in pairs if mask is not None]
    lossy = sum(file.suffix.lower() in LOSSY for file in files)
    notes = []
    if lossy:
        notes.append(
            f"{lossy} of {len(files)} masks are JPEG files, which change numbers and colours near borders: save masks "
            "as PNG where you can"
        )
    if repair is not None:
        looked, moved, pixels = _spread(files, _LOOKED_AT), 0, 0
        for file in looked:
            with contextlib.suppress(ValueError, OSError):  # told where they are read in earnest
                labels, count = labels_of.decode(*read_mask(file))
                moved, pixels = moved + count, pixels + labels.size
        if pixels:
            notes.append(
                f'mask_repair="{repair}" moves {moved / pixels:.2%} of the pixels of the {len(looked)} masks that were '
                "looked at"
            )
    return notes


def notes_on_orientation(pairs: Sequence[Pair], labels_of: LabelReader, upright: bool, channels: int) -> list[str]:
    """A line on photographs with an EXIF orientation, and on masks that seem to be drawn for the other way."""
    looked = _spread(pairs, _LOOKED_AT)
    found = [(pair, orientation_of(_head(pair[1]))) for pair in looked]
    found = [(pair, orientation) for pair, orientation in found if orientation != 1]
    if not found:
        return []
    way, other = ("upright", "stored") if upright else ("stored", "upright")
    note = (
        f"{len(found)} of {len(looked)} images that were looked at have an EXIF orientation, and their masks are taken "
        f'to be drawn for them {"turned by it" if upright else "as stored"} (orientation="{way}")'
    )
    compared = [_agreement(pair, labels_of, channels, upright) for pair, _ in found[:_COMPARED]]
    shares = [share for share in compared if share is not None]
    if shares:
        here, there = np.mean(shares, 0)
        if there > 2 * here + 0.02:
            note += (
                f'. They fit better the other way: orientation="{other}" (labels explain {there:.0%} of the colours\' '
                f"variance that way, {here:.0%} this way)"
            )
    return [note]


def _agreement(pair: Pair, labels_of: LabelReader, channels: int, upright: bool) -> tuple[float, float] | None:
    """How much of an image its mask explains this way and the other; None where only one fits."""
    _, image, mask = pair
    try:
        label = None if mask is None else labels_of(*read_mask(mask, upright))
        both = [read_image(image, channels, way) for way in (upright, not upright)]
    except (ValueError, OSError):
        return None
    if label is None or any(each.shape[:2] != label.shape for each in both):
        return None
    return explained(both[0], label), explained(both[1], label)


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_HEAD)
    except (OSError, ValueError):
        return b""


def _spread(items: Sequence, count: int) -> list:
    """At most `count` of them, evenly spaced."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]
