"""What training scripts save beside a network: a loss's weights, a normalisation's numbers, metrics' counts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_deeplab.backbones import preprocessing

# What the first parts of a name are called, and what it is.
_SCOPES = (
    (r"(\w+_)?(criterion|criteria|criterions|loss|losses|loss_(fn|func|function)|objective)\d*(_\w+)?", "a loss's"),
    (r"(\w+_)?(metric|metrics|iou|miou|jaccard|accuracy|confusion_matrix)(_\w+)?", "a metric's"),
)
_MEAN, _DEVIATION = ("mean", "pixel_mean", "img_mean"), ("std", "pixel_std", "img_std")
_CLOSE = 2e-3  # 0.406 is written as 0.4060 or 0.41, 103.53 / 255 as 0.406


@dataclass(frozen=True)
class Beside:
    """What lies beside a network's arrays.

    Attributes:
        names: `{name: what it is}` of what is no part of the network.
        normalisation: ((means), (deviations)) in 0..1 for each channel, as the module that was trained had them; None
            where it had none.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def told(self) -> str:
        """What was left out, in words."""
        return ", ".join(f"{name} ({what})" for name, what in self.names.items())


def split(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], Beside]:
    """`{name: array}` of a checkpoint to the network's arrays and what lies beside them.

    >>> network, beside = split({"conv.weight": np.zeros(3), "criterion.weight": np.zeros(2)})
    >>> list(network), beside.told()
    (['conv.weight'], "criterion.weight (a loss's)")
    """
    names: dict[str, str] = {}
    parts: dict[str, tuple[float, ...]] = {}
    for name, array in arrays.items():
        *scopes, leaf = str(name).split(".")
        # A Lightning module has its loss beside the network or, as a wrapper, one deeper.
        what = next((what for pattern, what in _SCOPES for part in scopes[:2] if re.fullmatch(pattern, part)), None)
        kind = "mean" if leaf in _MEAN else "std" if leaf in _DEVIATION else None
        if what is None and kind is not None and len(scopes) <= 1 and 0 < np.size(array) == max(np.shape(array)):
            what = "a normalisation's"
            parts[kind] = tuple(float(number) for number in np.ravel(array))
        if what is not None:
            names[str(name)] = what
    network = {name: array for name, array in arrays.items() if name not in names}
    means, deviations = parts.get("mean"), parts.get("std")
    if means is None or deviations is None or len(means) != len(deviations):
        return network, Beside(names)
    # Of pixels in 0..255 as mmsegmentation and detectron2 write them, or in 0..1.
    scale = 255.0 if max(means) > 1 else 1.0
    return network, Beside(names, (_divided(means, scale), _divided(deviations, scale)))


def agree(beside: Beside, mode: preprocessing.Mode | None, label: str) -> None:
    """Refuses a checkpoint whose module normalised images otherwise than its source's networks are known to.

    Args:
        mode: how they do.

    Raises:
        ValueError: it did; the message has the numbers and what would do.
    """
    found = beside.normalisation
    if found is None or mode is None:
        return
    means, deviations = found
    known = _known(mode, len(means))
    if known is not None and all(
        len(a) == len(b) and np.allclose(a, b, rtol=0, atol=_CLOSE) for a, b in zip(found, known, strict=True)
    ):
        return
    given = f"(({_listed(means)}), ({_listed(deviations)}))"
    raise ValueError(
        f"{label} holds a normalisation beside its network: {preprocessing.told(found)}. Its source's networks are "
        f"known to take {preprocessing.told(mode)}, which is another. Say which it was trained with: "
        f"include_preprocessing={given}, or {mode!r}; False to normalise images yourself."
    )


def _known(mode: preprocessing.Mode, channels: int) -> tuple[list[float], list[float]] | None:
    if mode == "tf":
        return [0.5] * channels, [0.5] * channels
    if mode == "torch":
        return preprocessing.of_each(preprocessing.MEAN, channels), preprocessing.of_each(preprocessing.STD, channels)
    return None if isinstance(mode, str) else (list(mode[0]), list(mode[1]))


def _divided(numbers: tuple[float, ...], scale: float) -> tuple[float, ...]:
    return tuple(round(number / scale, 6) for number in numbers)


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers) + "," * (len(numbers) == 1)
