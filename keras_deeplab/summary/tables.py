"""The published models beside what the code counts, as rows and as text."""

from dataclasses import dataclass
from typing import Any

from keras_deeplab._helpers.progress import Progress
from keras_deeplab._helpers.text import text_table
from keras_deeplab.published import MODELS, PublishedModel
from keras_deeplab.summary.costs import Parameters, count_parameters, multiply_adds
from keras_deeplab.summary.networks import skeleton


@dataclass(frozen=True)
class Summary:
    """A published model, the number of its parameters, and its multiply-adds for an image of 513x513."""

    model: PublishedModel
    parameters: Parameters
    multiply_adds: int


def summarise(pattern: str = "", progress: bool = False) -> list[Any]:
    """Counts the published models whose name or backbone holds `pattern`: a list of `Summary` rows.

    No variable is allocated and nothing is run; all of them together take a minute or two.

    Args:
        pattern: part of a name or of a backbone's; `""` for all models.
        progress: whether to show on standard error how far it is.

    Raises:
        ValueError: no model has it in its name; the message lists them.
    """
    rows = []
    chosen = _chosen(pattern)
    with Progress(len(chosen), "counting", enabled=progress) as shown:
        for index, model in enumerate(chosen):
            shown.update(index, model.name)
            built = skeleton(model)
            rows.append(Summary(model, count_parameters(built), multiply_adds(built)))
    return rows


def summary_table(pattern: str = "", markdown: bool = False, progress: bool = False) -> str:
    """The published models whose name or backbone holds `pattern`, as text.

    Each with its backbone, output stride, parameters (trainable ones, in millions), multiply-adds of its convolutions
    for an image of 513x513 (in billions), published accuracy and the source of that. In plain text the first accuracy
    stands for all.

    Args:
        pattern, progress: as `summarise` takes them.
        markdown: whether to return a Markdown table, with all accuracies.

    Example:

    >>> summary_table("bonlime_deeplabv3_mobilenetv2").splitlines()[2][:88]
    'bonlime_deeplabv3_mobilenetv2  mobilenet_v2  8              2.114 M     8.826 B        -'
    """
    header = ("model", "backbone", "output stride", "parameters", "multiply-adds", "mean IoU", "source")
    lines = []
    for row in summarise(pattern, progress):
        model = row.model
        scores = [str(score) for score in model.scores] or ["-"]
        if len(scores) > 1 and not markdown:
            scores = [f"{scores[0]} and {len(scores) - 1} more"]
        counts = (f"{row.parameters.trainable / 1e6:.3f} M", f"{row.multiply_adds / 1e9:.3f} B")
        lines.append(
            (model.name, model.spec.backbone, str(model.spec.output_stride), *counts, "; ".join(scores), model.source)
        )
    return text_table(header, lines, markdown)


def comparison_table(pattern: str = "", markdown: bool = False, progress: bool = False) -> str:
    """Every published number of parameters or multiply-adds, beside what the code counts under its conditions.

    Args:
        pattern, markdown, progress: as `summary_table` takes them.

    Example:

    >>> comparison_table("vainf_deeplabv3_mobilenet").splitlines()[2].split()[:5]
    ['vainf_deeplabv3_mobilenet', 'parameters', '5.114M', '5.114M', '-0.002']
    """
    header = ("model", "figure", "published", "here", "difference", "remark", "source")
    lines = []
    chosen = [(model, count) for model in _chosen(pattern) for count in model.counts]
    with Progress(len(chosen), "counting", enabled=progress) as shown:
        for index, (model, count) in enumerate(chosen):
            shown.update(index, model.name)
            here = _count(model, count)
            remarks = [count.remark] if count.remark else []
            if count.space_to_batch and abs(here / count.value - 1) > 0.005:
                padded = _count(model, count, space_to_batch=True)
                if padded != here:
                    difference = 100 * (padded / count.value - 1)
                    remarks.insert(0, f"{_like(padded, count)} ({difference:+.2f} %) with space to batch")
            lines.append(
                (
                    model.name,
                    ", ".join(filter(None, (count.quantity, count.conditions()))),
                    count.published,
                    _like(here, count),
                    f"{100 * (here / count.value - 1):+.3f} %",
                    "; ".join(remarks),
                    count.source,
                )
            )
    return text_table(header, lines, markdown)


def _chosen(pattern):
    chosen = [model for model in MODELS.values() if pattern in model.name or pattern in model.spec.backbone]
    if not chosen:
        raise ValueError(f"No published model has {pattern!r} in its name or backbone: {', '.join(MODELS)}.")
    return chosen


def _count(model, count, space_to_batch=False):
    """What the code counts under the conditions of a published figure."""
    built = skeleton(model, **count.overrides)
    if count.quantity == "parameters":
        return count_parameters(built).trainable
    return sum(multiply_adds(built, size, space_to_batch) for size in count.sizes())


def _like(number, count):
    """A number written as a published figure is."""
    unit = count.published[-1]
    decimals = len(count.published.partition(".")[2]) - 1
    return f"{number / (1e6 if unit == 'M' else 1e9):.{max(decimals, 0)}f}{unit}"
