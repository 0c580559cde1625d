"""Names of images to a training and a validation part, where a data set brings no list of its own.

Nearly equal images on both sides make a validation that only measures memory: frames of one video, augmented copies of
one photograph, crops of it. Their names tell: what remains of them without a copy's mark or a trailing number is equal.
A part of such a series goes nowhere without the rest.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence

PARTS = ("train", "val", "all")
LEAST = 3  # images that can be split

_EXTENSION = re.compile(r"[._](jpe?g|png|bmp|tiff?|webp|npy)$")
_WORDS = "aug|augmented|copy|crop|cropped|tile|patch|flip|hflip|vflip|fliph|flipv|flipped|mirror|mirrored|rot|rotated"
# What a copy, a crop or an export adds to the name of the photograph that it is made of.
_MARKS = (
    re.compile(r"\.rf\.[0-9a-z]+$"),  # Roboflow: photo_jpg.rf.5f0e...
    re.compile(r"[ _-]*\(\d+\)$"),  # a file manager's second copy: photo (1)
    re.compile(r"[ _.-]+(?:x|left|col|c)_?\d+[ _.-]?(?:y|top|row|r)_?\d+$"),  # place of a crop: photo_x0_y512
    re.compile(r"[ _.-]+(?:y|top|row|r)_?\d+[ _.-]?(?:x|left|col|c)_?\d+$"),
    re.compile(rf"[ _.-]+(?:{_WORDS})[ _.-]?\d*$"),  # photo_aug_3, photo-flip, photo_rot90
)
_NUMBER = re.compile(r"[ _.-]*\d+$")


def automatic(
    names: Sequence[str], split: str, *, share: float = 0.2, seed: int = 0, origin: object = None
) -> list[str]:
    """Map the names of all images to those of one part of a split into train and val, sorted.

    What comes from one photograph or one series (see `series`) stays together. Where all names make one series, as
    `im01` to `im12` and the frames of a single video do, copies of one photograph stay together, and where they are all
    that too, each name stands for itself.

    Series are ordered by the SHA-256 of seed and series, so the split is the same on every machine and for every order
    of the names, and an added image moves few others. In this order a series goes to val where that brings the number
    of its images nearer to the share.

    Args:
        names: names of the images, each once, with or without an extension; subfolders are part of them.
        split: `"train"`, `"val"`, or `"all"` for every name.
        share: of the images that go to val, between 0 and 1; each side gets one at least.
        seed: int; another gives another split.
        origin: what has the images, for messages.

    Raises:
        ValueError: another split is asked for, the share isn't between 0 and 1, or there are fewer than three images.

    >>> frames = [f"clip{clip}_{frame:04}" for clip in range(5) for frame in range(20)]
    >>> sorted({name[:5] for name in automatic(frames, "val")})
    ['clip1']
    """
    if split not in PARTS:
        raise ValueError(
            f"split={split!r}, but nothing lists the images of the data set's splits; those that are made by "
            f"themselves are {', '.join(map(repr, PARTS))}"
        )
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share < 1:
        raise ValueError(f"val_share must be a number between 0 and 1, both excluded; received {share!r}")
    if split == "all":
        return sorted(names)
    if len(names) < LEAST:
        told = "" if origin is None else f"{origin}: "
        raise ValueError(
            f"{told}{len(names)} image{'s' * (len(names) != 1)} can't be split into train and val, which takes three "
            "at least: split='all' takes every image, without a validation (val_split='none')"
        )
    held_back = _held_back(_groups(names), len(names), share, seed)
    return sorted(name for name in names if (name in held_back) == (split == "val"))


def series(name: str) -> tuple[str, str]:
    """Map an image's name to the photograph that it is a copy or crop of, and to the series that this belongs to.

    A trailing number counts frames only behind a number that tells what of: `clip3_0001` belongs to `clip3`, and
    `cat_0001` stands for itself, because a split by `cat` and `dog` would hold back a whole class.

    >>> series("clip3_0001"), series("photo_jpg.rf.5f0ec1"), series("tile_3_x0_y512")
    (('clip3_0001', 'clip3'), ('photo', 'photo'), ('tile_3', 'tile_3'))
    """
    photograph = _without(unicodedata.normalize("NFC", name).casefold(), (_EXTENSION, *_MARKS))
    stem, rest = photograph, _NUMBER.sub("", photograph)
    while rest != stem and any(character.isdecimal() for character in rest):
        stem, rest = rest, _NUMBER.sub("", rest)
    return photograph, stem


def _without(text: str, marks: Sequence[re.Pattern]) -> str:
    """The text without any of the marks at its end, as long as something is left."""
    before = None
    while text != before:
        before = text
        for mark in marks:
            text = mark.sub("", text) or text
    return text


def _groups(names: Sequence[str]) -> Mapping[str, list[str]]:
    """The names that stay together, under what they have in common; at least two groups."""
    for level in (lambda name: series(name)[1], lambda name: series(name)[0]):
        groups = defaultdict(list)
        for name in names:
            groups[level(name)].append(name)
        if len(groups) > 1:
            return groups
    return {name: [name] for name in names}


def _held_back(groups: Mapping[str, list[str]], count: int, share: float, seed: int) -> set[str]:
    """The names of the groups that go to val."""
    wanted = min(max(round(share * count), 1), count - 1)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    chosen: list[str] = []
    for key in order:
        with_it = len(chosen) + len(groups[key])
        if abs(with_it - wanted) < abs(len(chosen) - wanted) and with_it < count:
            chosen += groups[key]
    if not chosen:  # all of them are large
        chosen = groups[min(order, key=lambda key: len(groups[key]))]
    return set(chosen)
