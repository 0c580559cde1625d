"""Tables of the recipes: for the terminal, and for docs/recipes.md."""

from collections.abc import Mapping
from typing import Any

from keras_deeplab.options import shown
from keras_deeplab.training.recipes import RECIPES
from keras_deeplab.training.recipes.row import Recipe

# What was trained here with a recipe, by its name: mean IoU and how it was made. Others were not run here.
RUN_HERE: Mapping[str, str] = {"mobile": "IDD-lite: 59.80 after 540 steps of 8 crops of 225x321, below"}
_NOT_RUN = "not run here"


def found(pattern: str = "") -> list[Recipe]:
    """The recipes whose name, data, figure or source has the pattern, whatever its case."""
    words = pattern.lower()
    return [
        row
        for row in RECIPES.values()
        if words in f"{row.name} {row.protocol} {row.data.name if row.data else ''} {row.source}".lower()
    ]


def listed(pattern: str = "") -> str:
    """A line or two for each recipe: its name, data, published figure and source.

    >>> print(listed("deeplabv1"))
    deeplabv1_vgg16_voc: VOC 2012 with SBD's masks, 62.25 (VOC 2012 val, no CRF)
        DeepLab v1, arXiv 1412.7062, section 4.1; DeepLab v2, arXiv 1606.00915, section 4.1.1
    """
    rows = found(pattern)
    if not rows:
        return f"no recipe has {pattern!r} in its name, data or source; without a pattern all are listed"
    lines = []
    for row in rows:
        if row.adapt is not None:
            lines.append(f"{row.name}: any data\n    {_summary(row)}")
            continue
        figure = f"{row.figure} ({row.protocol})" if row.figure else "no published figure"
        lines.append(f"{row.name}: {row.data.name if row.data else 'any data'}, {figure}\n    {row.source}")
    return "\n".join(lines)


def markdown(pattern: str = "") -> str:
    """Markdown: a table of the published recipes, what differs in each, and those that adapt."""
    rows = found(pattern)
    published = [row for row in rows if row.adapt is None]
    lines = ["| recipe | published mIoU | protocol | settings | here |", "|---|---|---|---|---|"]
    for row in published:
        here = RUN_HERE.get(row.name, _NOT_RUN)
        cells = (f"`{row.name}`", row.figure or "none", row.protocol or "none", _settings(row), here)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| recipes | source, cost | start from | what differs | not verified |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells)} |" for cells in _sources(published)]
    own = [row for row in rows if row.adapt is not None]
    if own:
        lines += ["", "| recipe | network | what it is | here |", "|---|---|---|---|"]
        for row in own:
            network = f"v3+ on {row.network['backbone']}"
            lines.append(f"| `{row.name}` | {network} | {_summary(row)} | {RUN_HERE.get(row.name, _NOT_RUN)} |")
    return "\n".join(lines)


def _sources(rows: list[Recipe]) -> list[tuple[str, ...]]:
    """The cells of each source, with the recipes that have all of them in common."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        cells = (
            f"{row.source}; {row.cost}" if row.cost else row.source,
            f"`{row.after}`" if row.after else row.start,
            "; ".join(row.differs) or "nothing known",
            "; ".join(row.unverified),
        )
        groups.setdefault(cells, []).append(f"`{row.name}`")
    return [(", ".join(names), *cells) for cells, names in groups.items()]


def _summary(row: Recipe) -> str:
    return " ".join((row.adapt.__doc__ or "").partition("\n")[0].split())


def _settings(row: Recipe) -> str:
    """What a recipe sets, in short: `30000 steps of 16 crops of 513, learning rate 0.007, ...`."""
    values: dict[str, Any] = dict(row.options)
    length = f"{values.pop('steps')} steps" if "steps" in values else f"{shown(values.pop('epochs'))} passes"
    crop = shown(values.pop("crop_size"))
    words = [f"{length} of {values.pop('batch_size')} crops of {crop}"]
    return ", ".join([*words, *(f"{name} {_value(value)}" for name, value in values.items())]).replace("|", "\\|")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"`{pattern}` {factor:g}" for pattern, factor in value.items())
    return shown(value)
