"""The page about a data set: what the doctor found, with pictures, the shares of the classes, samples of each."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_deeplab.data.channels import scaled
from keras_deeplab.data.doctor import SEVERITIES, Evidence, Examination, Example
from keras_deeplab.data.doctor.evidence import Part, Seen
from keras_deeplab.data.doctor.files import as_codes, stored
from keras_deeplab.data.images import read_image
from keras_deeplab.data.mask_files import read_mask
from keras_deeplab.data.source import Source
from keras_deeplab.inference.answers import overlay
from keras_deeplab.reports.page import Page, bars
from keras_deeplab.specs import IGNORED, default_colors

_CLASSES = 40  # that samples are shown of
_OF_EACH = 3
_RANGE = (0, 65535)  # of images of more than 8 bits
_TURNS = {"upright": True, "as stored": False}

Pictures = Iterator[tuple[np.ndarray, str]]


def data_page(examination: Examination, title: str, words: Callable[[str], str] = str) -> Page:
    """Map what the doctor says of a data set to a page.

    Args:
        title: of the page.
        words: maps texts with options as Python has them to those of the reader's door.
    """
    page, evidence = Page(title), examination.evidence
    counts = {kind: sum(each.severity == kind for each in examination.findings) for kind in SEVERITIES}
    page.text(examination.summary(), "muted")
    for note in dict.fromkeys(note for part in evidence.each() for note in part.source.notes):
        page.text(words(note), "muted")
    told = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items() if count)
    page.text(told or "Nothing was found.", "error" if counts["error"] else "warning" if counts["warning"] else "good")
    for finding in examination.findings:
        page.heading(f"{finding.severity}: {finding.kind.replace('_', ' ')}", 3, finding.severity)
        page.text(words(finding.text))
        if finding.remedy:
            page.text(words(finding.remedy), "good")
        if finding.details:
            page.listing(f"{len(finding.details):,} of them", [words(detail) for detail in finding.details])
        page.pictures(picture for example in finding.examples for picture in _pictures(evidence, example))
    if any(part.seen for part in evidence.parts.values()):
        _shares(page, evidence)
    if evidence.train is not None and evidence.train.seen:
        _samples(page, evidence.train)
    return page


def _shares(page: Page, evidence: Evidence) -> None:
    page.heading("Classes")
    parts = [part for part in evidence.parts.values() if part.seen]
    head = ["label", "class"]
    for part in parts:
        head += [f"{part.split}: pixels", f"{part.split}: samples"]
    rows = []
    for label, name in [*enumerate(parts[0].source.classes), (IGNORED, "(ignored)")]:
        row: list[str | int] = [label, name]
        for part in parts:
            whole = part.counts.sum() if label == IGNORED else part.labelled
            row += [f"{part.counts[label] / max(1, whole):.3%}", sum(label in seen.counts for seen in part.seen)]
        rows.append(row)
    page.table(head, rows)
    for part in parts:
        page.text(f"Shares of the labelled pixels of {part.split}, in the colours of the pictures:", "muted")
        shares = part.counts[: part.source.num_classes] / max(1, part.labelled)
        page.svg(bars(list(zip(part.source.classes, shares.tolist(), strict=True)), part.source.palette.tolist()))


def _samples(page: Page, part: Part) -> None:
    page.heading(f"Samples of each class in {part.split}")
    for label in part.present[:_CLASSES]:
        found = sorted((seen for seen in part.seen if label in seen.counts), key=lambda seen: seen.counts[label])
        # Neither the specks nor the largest alone: from the middle of what there is of the class.
        middle = [found[int((place + 0.5) * len(found) / _OF_EACH)] for place in range(min(_OF_EACH, len(found)))]
        page.heading(part.source.classes[label], 3)
        page.pictures(_overlay(part.source, seen.index, _of_label(seen, label)) for seen in middle)
    if len(part.present) > _CLASSES:
        page.text(f"The other {len(part.present) - _CLASSES} classes are not shown.", "muted")


def _of_label(seen: Seen, label: int) -> str:
    return f"{seen.name}: {seen.counts[label] / max(1, sum(seen.counts.values())):.2%}"


def _pictures(evidence: Evidence, example: Example) -> Pictures:
    if example.split is not None and example.index is not None:
        yield _overlay(evidence.parts[example.split].source, example.index, f"{example.name} ({example.split})")
        return
    turned = evidence.files.images[example.name].orientation != 1 if example.name in evidence.files.images else False
    if turned and len(example.files) == 2:
        yield from _both_ways(*map(Path, example.files))
        return
    found = [each for file, show in zip(example.files, (_image, _mask), strict=False) for each in show(Path(file))]
    if len({len(pixels) for pixels, _ in found}) == 1:
        yield functools.reduce(_beside, [pixels for pixels, _ in found]), "; ".join(told for _, told in found)
    else:
        yield from found


def _overlay(source: Source, index: int, caption: str) -> tuple[np.ndarray, str]:
    """A sample, and beside it with its labels over it; a class called background stays clear."""
    image, label, _ = source.sample(index)
    clear = [place for place, name in enumerate(source.classes) if name.lower() in ("background", "class 0")]
    return _beside(_visible(image), overlay(_visible(image), label, source.palette, 0.5, clear)), caption


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, np.full((len(left), max(1, left.shape[1] // 60), 3), 127, np.uint8), right], 1)


def _both_ways(image: Path, mask: Path) -> Pictures:
    """A photograph with its mask over it, turned as EXIF asks and as it is stored."""
    try:
        for told, upright in _TURNS.items():
            codes, pixels = _ranks(read_mask(mask, upright).values), read_image(image, 3, upright, _RANGE)
            if pixels.shape[:2] == codes.shape:
                shown = _beside(pixels, overlay(pixels, codes, _palette(), 0.5, [0]))
                yield shown, f"{image.name}, {told}, with its mask"
            else:
                yield pixels, f"{image.name}, {told}: its mask has another size"
    except (ValueError, OSError):
        return


def _image(path: Path) -> Pictures:
    """An image as it is stored, and its fourth channel."""
    with contextlib.suppress(ValueError, OSError):
        pixels = stored(path)
        yield _visible(pixels), path.name
        if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
            yield _visible(pixels[..., -1]), f"{path.name}, its last channel"


def _mask(path: Path) -> Pictures:
    """A mask in colours of its own, and its alpha channel."""
    with contextlib.suppress(ValueError, OSError):
        values, _, alpha = read_mask(path, upright=False)
        yield _palette()[_ranks(values)], path.name
        if alpha is not None:
            yield _visible(alpha), f"{path.name}, its alpha"


def _ranks(pixels: np.ndarray) -> np.ndarray:
    """The numbers or colours of a mask to 0, 1, 2, ... in their order, (H, W) uint8, the rest 255."""
    _, ranks = np.unique(as_codes(pixels), return_inverse=True)
    return np.minimum(ranks.reshape(pixels.shape[:2]), 255).astype(np.uint8)


def _palette() -> np.ndarray:
    return np.array(default_colors(256), np.uint8)


def _visible(pixels: np.ndarray) -> np.ndarray:
    """Pixels of any channels and depth to uint8 (H, W, 3): the first three channels, as bright as they are."""
    pixels = scaled(pixels, (0, max(1, int(pixels.max()))))
    if pixels.ndim == 2 or pixels.shape[-1] < 3:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], -1)[..., :1], 3, -1)
    return np.ascontiguousarray(pixels[..., :3])
