"""Checks of what the masks say, as they are read: which classes there are, how much of each, and how clean."""

from collections.abc import Iterator

from keras_deeplab.data.doctor.evidence import Evidence, Part, Seen
from keras_deeplab.data.doctor.findings import ERROR, NOTE, WARNING, Example, Finding, number, share
from keras_deeplab.specs import IGNORED

_MOSTLY_IGNORED = 0.5  # of the pixels
_MANY_EMPTY = 0.5  # of the samples, above which most crops have nothing to learn
_RARE = 0.01  # of the labelled pixels
_NOISE = 0.001  # of the labelled pixels; hand-drawn and computed masks have below a tenth of that


def refused(evidence: Evidence) -> Iterator[Finding]:
    """Splits that can't be opened at all."""
    for problem in dict.fromkeys(evidence.refused.values()):
        splits = " and ".join(split for split, told in evidence.refused.items() if told == problem)
        first, *more = problem.splitlines()
        yield Finding(ERROR, f"{splits} can't be read: {first}", details=tuple(line.strip() for line in more))


def unreadable(evidence: Evidence) -> Iterator[Finding]:
    """Samples that can't be read."""
    parts = [part for part in evidence.each() if part.problems]
    if parts:
        told = " and ".join(
            f"{number(len(part.problems), 'sample')} of {part.source.num_examples:,} in {part.split}" for part in parts
        )
        yield Finding(
            ERROR, f"{told} can't be used.", details=tuple(problem for part in parts for problem in part.problems)
        )


def unknown_labels(evidence: Evidence) -> Iterator[Finding]:
    """Samples whose labels are none of the classes, where their reader let them pass."""
    for part in evidence.each():
        classes = part.source.num_classes
        wrong = [seen for seen in part.seen if max(seen.labels, default=0) >= classes]
        if wrong:
            found = sorted({label for seen in wrong for label in seen.labels if label >= classes})
            yield Finding(
                ERROR,
                f"{number(len(wrong), 'sample')} of {len(part.seen):,} in {part.split} with labels of no class, "
                f"{_some(found)}: there are {classes} classes, 0 to {classes - 1}.",
                "num_classes=, ignore_label= or label_offset= says what they mean.",
                **part.shown(wrong),
            )


def one_class(evidence: Evidence) -> Iterator[Finding]:
    """Nothing can be learnt where only one class has pixels."""
    part = evidence.train
    if part is None or not part.seen or len(part.present) > 1:
        return
    black_white = _black_and_white(evidence)
    ignored = part.counts[IGNORED]
    what = (
        f"every labelled pixel of {part.split} is {part.source.classes[part.present[0]]}"
        if part.present
        else f"no pixel of {part.split} has a label"
    )
    text = f"{what}: there is nothing to tell apart, and training would end at a mean IoU of 1 without learning."
    remedy = "Give masks that have pixels of two classes or more."
    if ignored:
        text += f" {share(ignored, part.counts.sum())} of the pixels are 255, which means ignored."
    if black_white and part.source.num_classes <= 2:
        text += f" The masks hold 0 and {black_white} and nothing else, so {black_white} seems to be the second class."
        remedy = "mask_encoding='binary' reads 0 as class 0 and everything else as class 1."
    elif not ignored and part.source.num_classes == 1:
        remedy = "Name the rest too, such as background: classes.txt has every class, label 0 first."
    yield Finding(ERROR, text, remedy, examples=part.examples(part.seen))


def _black_and_white(evidence: Evidence) -> int | None:
    """The other number where the mask files hold 0 and it alone, and it is the largest of 8 or 16 bits."""
    values = {value for mask in evidence.files.masks.values() for value in mask.values if mask.channels == 1}
    return next((high for high in (255, 65535) if values == {0, high}), None)


def absent(evidence: Evidence) -> Iterator[Finding]:
    """Classes without pixels in the split that is trained on, or in another."""
    train = evidence.train
    if train is None or len(train.present) < 2:
        return
    names = train.source.classes
    missing = [label for label in range(train.source.num_classes) if label not in train.present]
    if missing:
        elsewhere = [names[label] for label in missing if any(label in part.present for part in evidence.others)]
        text = f"{train.split} has no pixel of {_some([names[label] for label in missing])}: the model can't learn it."
        if elsewhere:
            text += f" Other splits have {_some(elsewhere)} and will score 0 there."
        yield Finding(
            WARNING, text, "Give samples of it, split the data anew (val_share=, split_seed=), or leave the class out."
        )
    for part in evidence.others:
        lacking = [label for label in train.present if label not in part.present]
        if part.seen and lacking:
            yield Finding(
                NOTE if len(part.present) > 1 else WARNING,
                f"{part.split} has no pixel of {_some([names[label] for label in lacking])}, so nothing is known of "
                f"how well it is found{'' if len(part.present) > 1 else '; a score on one class tells nothing'}.",
                "Move samples of it there, or split the data anew (val_share=, split_seed=).",
            )


def ignored(evidence: Evidence) -> Iterator[Finding]:
    """Pixels that are neither learnt nor scored."""
    for part in evidence.each():
        total = part.counts.sum()
        wholly = [seen for seen in part.seen if not seen.labels]
        if not total or not part.labelled:
            continue
        if part.counts[IGNORED] > _MOSTLY_IGNORED * total:
            yield Finding(
                WARNING,
                f"{share(part.counts[IGNORED], total)} of the pixels of {part.split} are ignored (255): only "
                f"{share(part.labelled, total)} are learnt or scored.",
                "Where 255 is a class, mask_encoding='binary' or colors= says so.",
                examples=part.examples(part.seen),
            )
        if wholly:
            yield Finding(
                WARNING,
                f"{part.split}: {number(len(wholly), 'sample')} of {len(part.seen):,} wholly ignored (255).",
                "Leave them out of the list.",
                **part.shown(wholly),
            )


def alike(evidence: Evidence) -> Iterator[Finding]:
    """Samples that show one class only."""
    part = evidence.train
    if part is None or len(part.present) < 2:
        return
    single: dict[int, list[Seen]] = {}
    for seen in part.seen:
        if len(seen.labels) == 1:
            single.setdefault(min(seen.labels), []).append(seen)
    for label, found in single.items():
        if len(found) > _MANY_EMPTY * len(part.seen):
            yield Finding(
                WARNING,
                f"{part.split}: {number(len(found), 'sample')} of {len(part.seen):,} show {part.source.classes[label]} "
                "alone, so most crops have nothing else to learn.",
                "class_weights='auto' gives the other classes more weight; or leave out some of these samples.",
                **part.shown(found),
            )


def imbalance(evidence: Evidence) -> Iterator[Finding]:
    """Classes with few of the pixels."""
    part = evidence.train
    if part is None or len(part.present) < 2:
        return
    rare = sorted((part.counts[label], label) for label in part.present if part.counts[label] < _RARE * part.labelled)
    if rare:
        told = ", ".join(
            f"{part.source.classes[label]} {share(count, part.labelled)} (in "
            f"{number(sum(label in seen.counts for seen in part.seen), 'image')})"
            for count, label in rare[:6]
        )
        yield Finding(
            NOTE,
            f"{number(len(rare), 'class', 'classes')} of {len(part.present)} with under {share(_RARE)} of the labelled "
            f"pixels of {part.split}: {told}{', ...' * (len(rare) > 6)}.",
            "class_weights='auto' gives them more weight.",
            examples=_with_label(part, rare[0][1]),
        )


def noise(evidence: Evidence) -> Iterator[Finding]:
    """Labels of single pixels, which come of masks that were compressed or resized."""
    for part in evidence.each():
        lone = {seen.index: (look.lone, seen) for seen, look in part.looks if look.lone}
        looked = sum(count for seen, _ in part.looks for label, count in seen.counts.items() if label != IGNORED)
        total = sum(count for count, _ in lone.values())
        if total > _NOISE * looked:
            worst = [seen for _, seen in sorted(lone.values(), key=lambda row: -row[0])]
            yield Finding(
                WARNING,
                f"{part.split}: {share(total, looked)} of the labelled pixels are unlike all eight around them, in "
                f"{number(len(lone), 'mask')}: masks that were compressed, resized with interpolation or made by a "
                "program look like this.",
                "Export the masks anew as PNG, resized by nearest neighbour if at all; mask_repair='nearest' mends "
                "blended values.",
                examples=part.examples(worst[:4]),
            )


def _with_label(part: Part, label: int) -> tuple[Example, ...]:
    found = sorted((seen for seen in part.seen if label in seen.counts), key=lambda seen: -seen.counts[label])
    return part.examples(found[:4])


def _some(values: list) -> str:
    shown = ", ".join(map(str, values[:8]))
    return shown + (f" and {len(values) - 8} more" if len(values) > 8 else "")
