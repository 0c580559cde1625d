"""How much a network's answers suffer as each group of channels is pruned, on labelled photographs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.inference.evaluation import matrix_of
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.pruning.network import Pruning, kept_of
from keras_deeplab.summary import layer_multiply_adds


@dataclass(frozen=True)
class Sensitivity:
    """A group of channels, a share of which is gone while all others are there.

    Attributes:
        group: its name.
        share: of its channels that went.
        kept, size: how many are left, and how many there were.
        mean_iou: on the photographs, in 0..1.
        changed: the share of all pixels whose label is another than the whole network's. It tells small differences
            on few photographs, where mean IoU goes up and down by chance.
    """

    group: str
    share: float
    kept: int
    size: int
    mean_iou: float
    changed: float


def sensitivities(
    pruning: Pruning,
    source: Any,
    shares: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    limit: int = 20,
    class_map: Mapping[str, str | None] | str | None = None,
    progress: bool = True,
) -> tuple[float, list[Sensitivity]]:
    """Each group's `Sensitivity` at each share, and the whole network's mean IoU.

    Nothing is built: the network with the kernels that `Pruning.masked` gives computes what the narrow one would. Its
    own are put back.

    Args:
        pruning: of the network.
        source: labelled photographs, `keras_deeplab.data` source; another split than the one that scores the result.
        shares: of a group's channels, each in 0..1.
        limit: how many photographs, chosen at random, always the same.
        class_map: as in `keras_deeplab.inference.evaluation.evaluate`.

    Returns:
        (mean IoU of the network as it is, list of `Sensitivity`).
    """
    predict = predictor(pruning.model)
    of_data = (predict.spec, source.classes_spec, source.num_classes, class_map, source.name)
    table = matrix_of(*of_data)[1]
    with data.readable_errors():
        samples = list(source.dataset(shuffle_seed=0).take(limit).as_numpy_iterator())
    truths = [sample["label"] if table is None else table[sample["label"]] for sample in samples]
    whole = [predict(sample["image"]) for sample in samples]

    def score(labels):
        matrix = matrix_of(*of_data)[0]
        for truth, label in zip(truths, labels, strict=True):
            matrix.update(truth, label)
        return float(matrix.mean_iou)

    pixels = sum(label.size for label in whole)
    tried = [(name, share) for name in pruning.orders for share in sorted(set(shares))]
    found: dict[tuple[str, int], Sensitivity] = {}
    with Progress(len(tried), "sensitivity", enabled=progress) as bar:
        for done, (name, share) in enumerate(tried, 1):
            size = len(pruning.orders[name])
            count = kept_of(size, share)
            if count < size and (name, count) not in found:
                labels = _labels_of_masked(pruning, name, share, predict, samples)
                changed = sum(int(np.sum(one != other)) for one, other in zip(whole, labels, strict=True)) / pixels
                found[name, count] = Sensitivity(name, share, count, size, score(labels), changed)
            bar.update(done)
    return score(whole), list(found.values())


def _labels_of_masked(pruning, name, share, predict, samples):
    kernels = pruning.masked(pruning.kept({name: share}))
    try:
        for taker, kernel in kernels.items():
            pruning.model.get_layer(taker).kernel.assign(kernel)
        return [predict(sample["image"]) for sample in samples]
    finally:
        for taker in kernels:
            pruning.model.get_layer(taker).kernel.assign(pruning.kernels[taker])


class Costs:
    """Multiply-adds of a network with fewer channels, without building it.

    Args:
        pruning: of the network.
        size: (height, width) of an image.
    """

    def __init__(self, pruning: Pruning, size: tuple[int, int]) -> None:
        self.pruning = pruning
        self.layers = layer_multiply_adds(pruning.model, size)
        self.whole = sum(self.layers.values())

    def share(self, kept: Mapping[str, int]) -> float:
        """What is left of the multiply-adds where so many channels of groups are left, of those of the whole."""
        found = self.pruning.channels
        total = 0.0
        for name, whole in self.layers.items():
            cost = float(whole)
            parts = found.inputs.get(name)
            if not cost or parts is None:
                total += cost
                continue
            left = sum(kept.get(group, size) if group is not None else size for group, size in parts)
            cost *= left / sum(size for _, size in parts)
            made = found.outputs.get(name)
            total += cost if made is None else cost * kept.get(made, (own := len(self.pruning.orders[made]))) / own
        return total / self.whole


def shares_for(pruning: Pruning, measured: Sequence[Sensitivity], keep: float, costs: Costs) -> dict[str, float]:
    """Which share of each group goes so that about `keep` of the multiply-adds is left, at the least change of labels.

    One step of one group after the other: that which costs least for each multiply-add that it saves, by what was
    measured of each group alone. The cost is the square of the share of pixels that change: as many change as the
    scores are moved far, and what independent causes do to the scores adds up in squares, so that many small cuts are
    better than a few large ones.

    Raises:
        ValueError: the shares that were measured don't save so much.
    """
    steps: dict[str, list[Sensitivity]] = {}
    for one in sorted(measured, key=lambda one: -one.kept):
        steps.setdefault(one.group, []).append(one)
    place = dict.fromkeys(steps, 0)
    kept: dict[str, int] = {}
    left = 1.0
    while left > keep:
        best: tuple[float, str, float] | None = None
        for name, rows in steps.items():
            now = rows[place[name] - 1].changed if place[name] else 0.0
            for row in rows[place[name] :]:
                after = costs.share({**kept, name: row.kept})
                if after >= left:
                    continue
                price = max(row.changed**2 - now**2, 1e-12) / (left - after)
                if best is None or price < best[0]:
                    best = (price, name, row.share)
        if best is None:
            raise ValueError(
                f"pruning by the shares that were measured leaves {left:.3f} of the multiply-adds, and {keep:g} was "
                "asked for: measure larger shares (shares=, --shares), or ask for less"
            )
        _, name, share = best
        place[name] = next(index for index, row in enumerate(steps[name]) if row.share == share) + 1
        kept[name] = steps[name][place[name] - 1].kept
        left = costs.share(kept)
    return {name: steps[name][place[name] - 1].share for name in kept}


def table(measured: Sequence[Sensitivity], whole: float) -> str:
    """`Sensitivity`s to the lines of a table, a group a line: of each share the change of mean IoU, and of labels."""
    shares = sorted({one.share for one in measured})
    rows: dict[str, dict[float, Sensitivity]] = {}
    for one in measured:
        rows.setdefault(one.group, {})[one.share] = one
    width = max(map(len, rows), default=0)
    lines = [
        f"mean IoU {whole:.4f}; by group: its change, and the pixels with another label, without so many channels",
        f"{'group':<{width}} {'channels':>8}" + "".join(f"{f'-{share:.0%}':>17}" for share in shares),
    ]
    for name, own in rows.items():
        size = next(iter(own.values())).size
        cells = [
            f"{own[share].mean_iou - whole:+8.4f} {own[share].changed:7.2%}" if share in own else "" for share in shares
        ]
        lines.append(f"{name:<{width}} {size:>8}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)
