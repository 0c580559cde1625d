"""What the labels of loaded weights mean, and whether that is what was asked for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras_deeplab.specs import Classes


def settle(
    label: str,
    has: int | None,
    known: Classes,
    num_classes: int | None = None,
    classes: Classes | Sequence[str] | None = None,
) -> tuple[int, Classes, str | None]:
    """The classes of weights and those that were asked for, to the model's own.

    Args:
        label: what the weights are in, for messages.
        has: channels of the logits there; None without a classifier.
        known: what is known of the classes there.
        num_classes: how many were asked for; None for as many as `classes` names, or else as there are.
        classes: names, or a `Classes`; None for what is known.

    Returns:
        (number of channels, classes, None or why the last layer can't be taken over)

    Raises:
        ValueError: there is no classifier and nothing says how many classes there shall be, or there isn't a name for
            each.

    >>> settle("x.keras", 2, Classes(("sky", "road")), classes=["road", "sky"])[2]
    'has the classes sky, road, and road, sky were asked for: the same names in another order'
    """
    asked = Classes.of(classes)
    names = asked.names
    if num_classes is None:
        # Two names fit one channel, which tells label 1 from label 0.
        num_classes = has if names is None or len(names) == _labels(has) else len(names)
    if num_classes is None:
        raise ValueError(f"{label} has no classifier. Give num_classes= for a fresh one.")
    if num_classes != has or (names is not None and known.names not in (None, names)):
        return num_classes, asked.checked(_labels(num_classes)), _reason(has, known, num_classes, names)
    if isinstance(classes, Classes):
        known = replace(classes, names=names or known.names)
    elif names is not None:
        known = replace(known, names=names)
    return num_classes, known.checked(_labels(num_classes)), None


def _labels(channels: Any) -> Any:
    return 2 if channels == 1 else channels


def _reason(has, known, num_classes, names):
    if known.names is not None and names is not None:
        order = ": the same names in another order" if set(known.names) == set(names) else ""
        return f"has the classes {_listed(known.names)}, and {_listed(names)} were asked for{order}"
    had = "no classifier" if has is None else f"{has} classes"
    return f"has {had} and {num_classes} were asked for"


def agreed(label: str, known: Classes, classes: Classes) -> Classes:
    """What is known of a model's classes once all of its weights were taken over, those of the last layer as well.

    Raises:
        ValueError: the weights are of other classes than the model.
    """
    if classes.names is None or known.names is None or known.names == classes.names:
        return known if classes == Classes() else replace(classes, names=classes.names or known.names)
    raise ValueError(
        f"{label} has the classes {_listed(known.names)}, and the model was given {_listed(classes.names)}. Its last "
        "layer tells the former apart: leave classes= out, or start that layer afresh with "
        f"keras_deeplab.load({label!r}, classes=...)"
    )


def _listed(names):
    return ", ".join(names[:8]) + (f", ... ({len(names)})" if len(names) > 8 else "")
