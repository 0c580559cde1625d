"""Checks of the images as they are read: their light, their sizes, and whether the masks are theirs."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from keras_deeplab.data.doctor.evidence import Evidence, Seen
from keras_deeplab.data.doctor.findings import NOTE, WARNING, Finding, number, share
from keras_deeplab.data.doctor.outlines import Outlines

_DARK = 100  # the largest number in 0..255 that a whole split should exceed
_PADDED = 0.5  # share of a crop that is padding, for most images
_SMALLEST = 32  # side of a crop, two positions of the features
_GLIMPSE = 1 / 16  # share of an image that a crop shows, for most images
_FEWEST = 8  # images with outlines, below which nothing is said of how masks lie
_CLEARLY = 0.1  # by how much an image's edges must agree better with a turned mask
_MOSTLY = 0.8  # of the images


def dark(evidence: Evidence) -> Iterator[Finding]:
    """Images that use a small part of 0..255, as 12 bits stored as 16 do once they are read."""
    part, deep = evidence.train, any(image.bits > 8 for image in evidence.files.images.values())
    if part is None or (deep and not evidence.reading.get("image_range")):  # of which `of_files.depth` tells
        return
    high = max((look.high for _, look in part.looks), default=255)
    if high < _DARK and any(look.high > look.low for _, look in part.looks):
        yield Finding(
            WARNING,
            f"the brightest pixel of {part.split} is {high} of 255: the images are nearly black as they are read, and "
            "trained weights see little in them.",
            "A smaller image_range= spreads them over 0 to 255." if deep else "Spread their numbers over 0 to 255.",
            examples=part.examples([seen for seen, _ in part.looks]),
        )


def plain(evidence: Evidence) -> Iterator[Finding]:
    """Images of a single colour, and grey ones among coloured."""
    for part in evidence.each():
        looks = part.looks
        blank = [seen for seen, look in looks if look.low == look.high]
        if blank:
            yield Finding(
                WARNING,
                f"{part.split}: {number(len(blank), 'image')} of {len(looks):,} of a single colour.",
                "Leave them out of the list, or restore the files.",
                **part.shown(blank),
            )
    train = evidence.train
    looks = [] if train is None else train.looks
    grey = [seen for seen, look in looks if look.grey and look.low != look.high]
    if train is not None and grey and len(grey) < len(looks):
        yield Finding(
            NOTE,
            f"{train.split}: {number(len(grey), 'image')} of {len(looks):,} grey, the others in colour.",
            "saturation=1 in training shows the others with less colour too."
            if len(grey) < len(looks) / 2
            else "channels=1 reads all of them as grey.",
            **train.shown(grey),
        )


def crops(evidence: Evidence) -> Iterator[Finding]:
    """Training crops that are far larger or far smaller than the images."""
    part, crop = evidence.train, evidence.crop_size
    if part is None or crop is None or not part.seen:
        return
    shapes = np.array([seen.size for seen in part.seen], np.float64)
    filled = np.minimum(shapes, crop).prod(1) / np.prod(crop)
    seen = np.minimum(shapes, crop).prod(1) / shapes.prod(1)
    usual, count = Counter(each.size for each in part.seen).most_common(1)[0]
    sizes = f"{usual[1]}x{usual[0]}" if count == len(part.seen) else f"about {_middle(shapes)}"
    if np.median(filled) < 1 - _PADDED:
        yield Finding(
            WARNING,
            f"the crops are {crop[1]}x{crop[0]} (width x height) and the images {sizes}: "
            f"{share(1 - np.median(filled))} of a crop is padding, which costs time and teaches nothing.",
            f"crop_size={_fitting(shapes)} fits the images.",
        )
    elif np.median(seen) < _GLIMPSE:
        yield Finding(
            WARNING,
            f"the crops are {crop[1]}x{crop[0]} (width x height) and the images {sizes}: a crop shows "
            f"{share(np.median(seen))} of an image, so that much of what tells classes apart lies outside.",
            "Make images and masks smaller (masks by nearest neighbour), or take a larger crop_size=.",
        )


def _middle(shapes: np.ndarray) -> str:
    height, width = np.median(shapes, axis=0)
    return f"{width:.0f}x{height:.0f}"


def _fitting(shapes: np.ndarray) -> str:
    """The size that most images have, or one of 16 n + 1 that holds most of them: `96` or `(64, 96)`.

    The very size, because a map of another one is stretched otherwise when it is enlarged to whole images.
    """
    usual, count = Counter(map(tuple, shapes.astype(int).tolist())).most_common(1)[0]
    if count >= 0.75 * len(shapes) and min(usual) >= _SMALLEST:
        height, width = usual
    else:
        height, width = (int(16 * np.ceil((np.quantile(shapes[:, axis], 0.75) - 1) / 16) + 1) for axis in (0, 1))
    return f"{height}" if height == width else f"({height}, {width})"


def sizes(evidence: Evidence) -> Iterator[Finding]:
    """Images of greatly differing sizes."""
    part = evidence.train
    if part is None or len(part.seen) < 2:
        return
    longest = {seen.index: max(seen.size) for seen in part.seen}
    small, large = min(part.seen, key=lambda seen: longest[seen.index]), max(part.seen, key=lambda s: longest[s.index])
    if longest[large.index] > 8 * longest[small.index]:
        yield Finding(
            WARNING,
            f"{part.split}: the images' sizes differ greatly, from {small.size[1]}x{small.size[0]} ({small.name}) to "
            f"{large.size[1]}x{large.size[0]} ({large.name}).",
            "Make them alike, so that things have about one size in pixels; or widen scale_range=.",
            examples=part.examples([small, large]),
        )


def misplaced(evidence: Evidence) -> Iterator[Finding]:
    """Masks that lie on their images better once they are mirrored, or no better than on another image."""
    for part in evidence.each():
        rows = [(seen, look.outlines) for seen, look in part.looks if look.outlines is not None]
        agreements = {seen.index: found.agreement() for seen, found in rows}
        own = {index: agreement for index, agreement in agreements.items() if agreement is not None}
        rows = [(seen, found) for seen, found in rows if seen.index in own]
        if len(rows) < _FEWEST:
            continue
        mean = _mean([own[seen.index] for seen, _ in rows])
        for told, gains in _gains(rows, own).items():
            if _better(gains):
                yield Finding(
                    WARNING,
                    f"{part.split}: edges of the images lie on {share(mean)} of the masks' outlines, and on "
                    f"{share(mean + _mean(gains))} of those {told} ({number(len(gains), 'sample')} compared).",
                    "Look at the pictures (check-data --html FILE) and mend the masks"
                    f"{' or their names' * ('image' in told)}.",
                    examples=part.examples([seen for seen, _ in rows]),
                )
                break


def _gains(rows: list[tuple[Seen, Outlines]], own: dict[int, float]) -> dict[str, list[float]]:
    """By how much images agree better with other outlines than with their own; those that are the best come first."""
    found: dict[str, list[float]] = {}
    for told, turn in _TURNS.items():
        found[told] = [(each.agreement(turn(each.outlines)) or 0.0) - own[seen.index] for seen, each in rows]
    for told, step in (("of the image before", -1), ("of the next image", 1)):
        pairs = [(seen, each, rows[(place + step) % len(rows)][1].outlines) for place, (seen, each) in enumerate(rows)]
        found[told] = [
            (each.agreement(other) or 0.0) - own[seen.index]
            for seen, each, other in pairs
            if other.shape == each.edges.shape
        ]
    return dict(sorted(found.items(), key=lambda row: -_mean(row[1])))


def _better(gains: list[float]) -> bool:
    enough = len(gains) >= _FEWEST and sum(gain > 0 for gain in gains) >= _MOSTLY * len(gains)
    return enough and _mean(gains) > _CLEARLY


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


_TURNS = {
    "mirrored left to right": lambda array: array[:, ::-1],
    "upside down": lambda array: array[::-1],
    "turned by 180 degrees": lambda array: array[::-1, ::-1],
}
