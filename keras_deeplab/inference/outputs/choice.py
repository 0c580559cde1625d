"""Classes that are left out, and classes that are taken together, of whatever a model answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_deeplab.inference.answers import Answer
from keras_deeplab.inference.outputs.result import Legend
from keras_deeplab.inference.runtimes.base import LABELS
from keras_deeplab.options import near


@dataclass(frozen=True)
class Chosen:
    """The classes that answers shall have.

    Attributes:
        legend: what their labels mean.
        answer: a model's answer to the one with these classes.
        notes: lines that tell what became of which label.
        needs_scores: whether the labels are decided anew, by the probabilities.
    """

    legend: Legend
    answer: Callable[[Answer], Answer]
    notes: tuple[str, ...] = ()
    needs_scores: bool = False


def choose(legend: Legend, only: Sequence[str] = (), merge: Mapping[str, Sequence[str]] | None = None) -> Chosen:
    """A model's legend to the one of fewer classes.

    Labels keep their numbers: classes taken together have the least of theirs. What isn't asked for becomes the class
    named "background" where there is one, since that is what is none of the named, else the ignored label. Labels are
    those of the model under their new names; probabilities are added up. Where a pixel may have several classes (a
    multi-label model) a sum has the greatest of its probabilities, and the label is the likeliest that is left.

    Args:
        only: names of the classes to keep, those of `merge` among them, or labels.
        merge: new names to the classes that they stand for.

    Raises:
        ValueError: a name is unknown, or stands in two sums.
    """
    merge = dict(merge or {})
    if not only and not merge:
        return Chosen(legend, lambda answer: answer)
    owner = {label: label for label in range(len(legend.names))}
    renamed: dict[int, str] = {}
    joined: dict[int, str] = {}
    for name, members in merge.items():
        labels = [_label(member, legend, "merge") for member in members]
        twice = [legend.names[label] for label in labels if label in joined]
        if twice or len(set(labels)) < len(labels):
            raise ValueError(f"merge= has {(twice or list(members))[0]!r} twice, and a class can be part of one sum")
        old = [label for label, known in enumerate(legend.names) if known == name]
        if not name or (old and old[0] not in labels):
            raise ValueError(
                f"merge= can't call {' + '.join(members)} {name!r}, which is another class: choose another name, or "
                "make it part of the sum"
            )
        target = min(labels)
        renamed[target] = name
        for label in labels:
            joined[label] = name
            owner[label] = target
    names = legend.with_names(renamed, legend.channels)
    gone = {legend.names[label]: name for label, name in joined.items() if legend.names[label] not in merge}
    kept = {_label(name, names, "only", gone) for name in only}
    # Of classes that don't exclude each other none is what the others leave.
    known = enumerate(names.names if legend.exclusive else ())
    background = next((label for label, name in known if name.lower() == "background"), None)
    rest = legend.ignore_label if background is None else background
    if only and background is None and rest in legend.channels:
        raise ValueError(f"only= leaves no label for other classes: {rest}, the ignored one, is a class of the model's")
    if only:
        owner = {label: target if target in kept | {rest} else rest for label, target in owner.items()}
        if background is None and rest not in kept:
            names = names.with_names({rest: "ignored"}, names.channels)
    table = np.array([owner[label] for label in range(len(owner))])
    channels = [label for label in dict.fromkeys(int(table[each]) for each in legend.channels)]
    if not legend.exclusive:
        channels = [label for label in channels if not only or label in kept]
    channels.sort()
    found = names.with_names({}, channels)
    own = table[list(legend.channels)] if legend.channels else np.zeros(0, int)
    parts = [np.flatnonzero(own == label) for label in channels]
    notes = [f"{name} has the label {target}" for target, name in renamed.items()]
    if only:
        what = f"class {names.names[rest]!r}" if background is not None else "ignored label"
        notes.append(f"other classes become the {what}, {rest}")
    return Chosen(found, _mapping(found, table, parts), tuple(notes), not legend.exclusive)


def answering(predictor: Any, chosen: Chosen, needing: Sequence[str] = ()) -> Callable[[np.ndarray], Answer]:
    """What maps an image to an `Answer` of the chosen classes, by one run of a model.

    Args:
        predictor: a `Predictor`, or a function from an image to labels.
        needing: names of what is made of scores; without any, labels are all that is computed.

    Raises:
        ValueError: something needs scores, and the predictor gives labels alone.
    """
    needing = [*needing, *["only= or merge="] * chosen.needs_scores]
    if not needing:
        return lambda image: chosen.answer(Answer(np.asarray(predictor(image)), None, None, None))
    if not hasattr(predictor, "answer") or getattr(getattr(predictor, "runtime", None), "returns", None) == LABELS:
        name = getattr(predictor, "name", "the predictor")
        raise ValueError(
            f"{needing[0]} can't be had of {name}, which gives labels alone: export the model with logits or "
            "probabilities, or use the file that it was exported from"
        )
    return lambda image: chosen.answer(predictor.answer(image))


def _mapping(legend: Legend, table: np.ndarray, members: Sequence[np.ndarray]) -> Callable[[Answer], Answer]:
    def mapped(answer: Answer) -> Answer:
        probabilities, masks, labels = answer.probabilities, answer.masks, answer.labels
        if labels.size and labels.max() >= len(table):
            raise ValueError(f"the model returned the label {labels.max()}, and it has {len(table)} at most")
        if probabilities is not None:
            together = np.add.reduce if legend.exclusive else np.maximum.reduce
            probabilities = np.stack([together(probabilities[..., each], -1) for each in members], -1)
        if masks is not None:
            masks = np.stack([masks[..., each].any(-1) for each in members], -1)
        dtype = labels.dtype if table.max() <= np.iinfo(labels.dtype).max else np.int32
        if legend.exclusive:
            labels = table[labels].astype(dtype)
        elif probabilities is None or masks is None:
            raise ValueError("a model of several labels a pixel needs probabilities for only= and merge=")
        else:
            likeliest = np.where(masks, probabilities, -1).argmax(-1)
            labels = np.where(masks.any(-1), np.array(legend.channels)[likeliest], legend.ignore_label).astype(dtype)
        return Answer(labels, probabilities, masks, answer.spec)

    return mapped


def _label(name: str, legend: Legend, option: str, gone: Mapping[str, str] | None = None) -> int:
    """The label of a class by its name, or by its number where no class has such a name."""
    if gone and name in gone:
        raise ValueError(f"{option}= has the class {name!r}, which is part of {gone[name]!r}: give that instead")
    known = [legend.names[label] for label in legend.channels] or list(legend.names)
    label = legend.names.index(name) if name in legend.names else None
    if label is None and name.isdecimal() and int(name) < len(legend.names):
        label = int(name)
    if label is None or (legend.channels and label not in legend.channels):
        raise ValueError(f"{option}= has an unknown class {name!r}{near(name, known, known=True)}")
    return label
