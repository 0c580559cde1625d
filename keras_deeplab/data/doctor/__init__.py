"""The data doctor: what is wrong with a data set, found before anything is trained on it.

>>> from keras_deeplab import data
>>> parts = {split: data.load("synthetic", split, num_examples=60, size=32) for split in ("train", "val")}
>>> examine(parts, crop_size=33).findings
()
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_deeplab.data import kind_of, location_of, options_of
from keras_deeplab.data.doctor.checks import CHECKS, checked
from keras_deeplab.data.doctor.evidence import Evidence, Part, seen_of
from keras_deeplab.data.doctor.files import Files, files_of
from keras_deeplab.data.doctor.findings import ERROR, SEVERITIES, WARNING, Example, Finding, number, share
from keras_deeplab.data.source import Source
from keras_deeplab.specs import IGNORED

__all__ = ["CHECKS", "SEVERITIES", "Evidence", "Examination", "Example", "Finding", "examine", "other_name"]

_QUICK = 300  # samples of a split, and files, that the quick examination looks at closely


@dataclass(frozen=True)
class Examination:
    """What was measured of a data set, and what the checks say of it, the worst first."""

    evidence: Evidence
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a training worthless or stop it."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == WARNING]

    def refuse_errors(self) -> None:
        """Raise a ValueError that tells all errors, if there are any."""
        if self.errors:
            told = "\n".join(finding.told() for finding in self.errors)
            raise ValueError(f"the data can't be trained on as it is.\n{told}")

    def summary(self) -> str:
        """A line for each split: how many samples, their sizes, and how many could be read."""
        return "\n".join(map(_line, self.evidence.each()))

    def shares(self) -> str:
        """A table of the classes: their shares of the labelled pixels of each split, and that of the ignored ones."""
        parts = [part for part in self.evidence.each() if part.seen]
        if not parts:
            return ""
        rows = [("share of the pixels", *(part.split for part in parts))]
        for label, name in enumerate(parts[0].source.classes):
            rows.append((name, *(share(part.counts[label], part.labelled) for part in parts)))
        rows.append(("(ignored)", *(share(part.counts[IGNORED], part.counts.sum()) for part in parts)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for name, *cells in rows:
            right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *right]))
        return "\n".join(lines)


def examine(
    parts: Mapping[str, Source | Exception],
    location: str | os.PathLike | None = None,
    *,
    reading: Mapping[str, Any] | None = None,
    crop_size: tuple[int, int] | int | None = None,
    quick: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Examination:
    """Map the splits of a data set to what is wrong with it: every sample is read once, and every check is made.

    Args:
        parts: the splits by name, that to train on first: what `keras_deeplab.data.load` gives, or the error that it
            raised.
        location: the data set's path, if it has one, so that its files are looked at as they are stored as well.
        reading: the options that it is read with, by name.
        crop_size: of the training crops: (height, width), or an int for both; None to leave them out.
        quick: whether images and files are looked at by a sample of 300 where there are more; labels, names and copies
            are checked of all.
        seed: of the choice.
        progress: whether to show a progress line.

    Returns:
        An `Examination`.
    """
    looks = _QUICK if quick else None
    read = {
        split: seen_of(split, source, looks, seed, progress)
        for split, source in parts.items()
        if isinstance(source, Source)
    }
    refused = {split: str(error) for split, error in parts.items() if isinstance(error, Exception)}
    files = Files() if location is None else files_of(location_of(location), looks, seed)
    crop = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    turns = location is None or _turns(location)
    evidence = Evidence(read, next(iter(parts), ""), refused, files, dict(reading or {}), crop, turns)
    return Examination(evidence, checked(evidence))


def _turns(location: str | os.PathLike) -> bool:
    """Whether the reader of a data set turns photographs as their EXIF orientation says, unless it is told not to."""
    try:
        kind = kind_of(location)
    except ValueError:  # several readers know it
        return True
    known = None if kind is None else options_of(kind)
    return known is None or "orientation" in known


def other_name(split: str, training: str) -> str:
    """What to call a split beside that which is trained on, which may be the same."""
    return split if split != training else f"{split}, for validation"


def _line(part: Part) -> str:
    told = [number(part.source.num_examples, "sample")]
    if part.problems:
        told.append(f"{len(part.seen):,} of them readable")
    if part.seen:
        sides = [sorted(seen.size[axis] for seen in part.seen) for axis in (1, 0)]
        told.append("x".join(f"{side[0]}" if side[0] == side[-1] else f"({side[0]} to {side[-1]})" for side in sides))
    return f"{part.split}: {', '.join([*told, number(part.source.num_classes, 'class', 'classes')])}"
