"""Checks of the samples beside one another: copies within a split and between two, and how many there are."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from keras_deeplab.data.doctor.evidence import THUMBNAIL, Evidence, Part, Seen
from keras_deeplab.data.doctor.findings import NOTE, WARNING, Example, Finding, number

_FEW, _FEW_SCORED = 50, 10  # samples below which results vary with the choice of them
# Correlation of thumbnails: of copies at half the size or JPEG quality 30 over 0.995, of photographs of one kind of
# place, such as driving scenes, under 0.982.
_COPY = 0.99
_FLAT = 4.0  # standard deviation of a thumbnail below which it tells nothing
_BLOCK = 1024  # thumbnails that are compared at once


def overlap(evidence: Evidence) -> Iterator[Finding]:
    """Samples of another split that are trained on too, which makes its score too good."""
    train = evidence.train
    if train is None:
        return
    by_content: dict[bytes, Seen] = {}
    for seen in train.seen:
        by_content.setdefault(seen.image, seen)
    names = {seen.name: seen for seen in train.seen}
    for part in evidence.others:
        same = [(by_content[seen.image], seen) for seen in part.seen if seen.image in by_content]
        exact = {seen.index for _, seen in same}
        near = [pair for pair in _near_copies(train, part) if pair[1].index not in exact]
        if same:
            also = sum(seen.name in names for _, seen in same)
            yield Finding(
                WARNING,
                f"{number(len(same), 'image')} of {len(part.seen):,} in {part.split} {_are(same)} in {train.split} "
                f"too, pixel for pixel ({also} under the same name): the score of {part.split} will be too good.",
                _APART,
                _pairs(train, part, same),
                _examples(train, part, same),
            )
        if near:
            yield Finding(
                WARNING,
                f"{number(len(near), 'image')} of {len(part.seen):,} in {part.split} {_are(near)} nearly the same as "
                f"one in {train.split}: copies at another size or quality, or frames of one film. The score of "
                f"{part.split} will be too good.",
                f"{_APART} Frames of one film belong into one split.",
                _pairs(train, part, near),
                _examples(train, part, near),
            )


_APART = "Take them out of one of the lists, or split the data anew (val_share=, split_seed=)."


def repeated(evidence: Evidence) -> Iterator[Finding]:
    """Images that stand in the training split more than once, perhaps with other masks."""
    train = evidence.train
    groups: dict[bytes, list[Seen]] = defaultdict(list)
    for seen in () if train is None else train.seen:
        groups[seen.image].append(seen)
    several = [group for group in groups.values() if len(group) > 1]
    if train is None or not several:
        return
    differing = [group for group in several if len({seen.mask for seen in group}) > 1]
    for found, severity, told, remedy in (
        (differing, WARNING, "with different masks: they contradict each other", "Keep the mask that is right."),
        ([group for group in several if group not in differing], NOTE, "with the same mask", "Keep one of each."),
    ):
        if found:
            yield Finding(
                severity,
                f"{train.split} has {number(len(found), 'image')} more than once, {told}.",
                remedy,
                tuple(", ".join(seen.name for seen in group) for group in found),
                tuple(example for group in found[:2] for example in train.examples(group, 2)),
            )


def few(evidence: Evidence) -> Iterator[Finding]:
    """Splits so small that results vary with the choice of their samples."""
    counts = {part.split: part.source.num_examples for part in evidence.each()}
    least = {split: _FEW if split == evidence.training else _FEW_SCORED for split in counts}
    small = [split for split, count in counts.items() if count < least[split]]
    if small:
        text = " and ".join(f"{split} has {number(counts[split], 'sample')}" for split in small)
        if evidence.training in small:
            text += ". More to learn from would help most"
        if small != [evidence.training]:
            text += ". On so few a score changes by points with the choice of them"
        yield Finding(
            NOTE,
            f"{text}.",
            "Start from trained weights, and vary brightness=0.3, contrast=0.3, saturation=0.3."
            if evidence.training in small
            else "Move samples there.",
        )


def _near_copies(train: Part, part: Part) -> list[tuple[Seen, Seen]]:
    """Pairs of a sample of `train` and one of `part` whose thumbnails go together."""
    ours, theirs = (_normalised(each) for each in (train, part))
    pairs = []
    for start in range(0, len(theirs[0]) if ours[0] else 0, _BLOCK):
        block = theirs[1][start : start + _BLOCK]
        alike = block @ ours[1].T
        best = alike.argmax(1)
        for row in np.flatnonzero(alike[np.arange(len(block)), best] > _COPY):
            pairs.append((ours[0][best[row]], theirs[0][start + row]))
    return pairs


def _normalised(part: Part) -> tuple[list[Seen], np.ndarray]:
    """Samples and their thumbnails, float32 (N, pixels), each of mean 0 and length 1; those that show little go."""
    found, rows = [], []
    for seen, look in part.looks:
        pixels = look.thumbnail.reshape(THUMBNAIL**2, -1).astype(np.float32)
        pixels -= pixels.mean(0)
        if pixels.std() > _FLAT:
            found.append(seen)
            rows.append(pixels.reshape(-1) / np.linalg.norm(pixels))
    return found, np.array(rows, np.float32)


def _pairs(train: Part, part: Part, pairs: list[tuple[Seen, Seen]]) -> tuple[str, ...]:
    return tuple(
        f"{theirs.name}" if ours.name == theirs.name else f"{theirs.name} ({part.split}) = {ours.name} ({train.split})"
        for ours, theirs in pairs
    )


def _examples(train: Part, part: Part, pairs: list[tuple[Seen, Seen]]) -> tuple[Example, ...]:
    return tuple(
        example for ours, theirs in pairs[:2] for example in (*part.examples([theirs]), *train.examples([ours]))
    )


def _are(found: list) -> str:
    return "is" if len(found) == 1 else "are"
