"""Files of one model beside one another: how fast, large and good they are; which are beaten, and which to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_deeplab.reports.charts import Chart, Curve


@dataclass(frozen=True)
class Choice:
    """A file that a model could become, as measured.

    Attributes:
        network: what was done to the model: `"whole"`, `"pruned to 0.75"`, or the name of another model.
        output_stride: of the network; None where nothing tells.
        size: (height, width) of its images.
        precision: such as `"int8"`.
        float_tensors: how many of an int8 file's tensors are in floating point.
        multiply_adds: of an image of that size.
        milliseconds: least time for an image.
        bytes: of the file.
        mean_iou: on the data, at the images' own size, in 0..1.
        drop: what the model has more.
        path: of the file.
    """

    network: str
    output_stride: int | None
    size: tuple[int, int]
    precision: str
    float_tensors: int
    multiply_adds: int | None
    milliseconds: float
    bytes: int
    mean_iou: float
    drop: float
    path: str

    @property
    def stored(self) -> str:
        """Its precision in words."""
        return f"{self.precision}, {self.float_tensors} tensors float" if self.float_tensors else self.precision

    def told(self) -> str:
        """What it is, and what was measured, in a line."""
        stride = "" if self.output_stride is None else f", output stride {self.output_stride}"
        return (
            f"{self.size[0]}x{self.size[1]}, {self.network}{stride}, {self.stored}: {self.milliseconds:.1f} ms, "
            f"{self.bytes:,} bytes, mIoU {self.mean_iou:.4f}, drop {self.drop:+.4f}"
        )


def front(choices: Sequence[Choice]) -> list[int]:
    """The places of those that no other is at least as fast and as good as, the fastest first.

    Of several with the same time and mIoU it is the smallest file.
    """
    best: float | None = None
    found = []
    for place in sorted(
        range(len(choices)), key=lambda i: (choices[i].milliseconds, -choices[i].mean_iou, choices[i].bytes)
    ):
        if best is None or choices[place].mean_iou > best:
            best = choices[place].mean_iou
            found.append(place)
    return found


def chosen(choices: Sequence[Choice], target_latency: float | None, max_miou_drop: float | None) -> int | None:
    """The place of the one to take; None where none meets what is asked for.

    Of those that take at most `target_latency` milliseconds and lose at most `max_miou_drop`: where a time is given the
    best, else the fastest.
    """
    fitting = [
        place
        for place, one in enumerate(choices)
        if (target_latency is None or one.milliseconds <= target_latency)
        and (max_miou_drop is None or one.drop <= max_miou_drop)
    ]
    if not fitting:
        return None
    fast = [(choices[place].milliseconds, -choices[place].mean_iou, choices[place].bytes, place) for place in fitting]
    good = [(-choices[place].mean_iou, choices[place].milliseconds, choices[place].bytes, place) for place in fitting]
    return min(fast if target_latency is None else good)[-1]


def nearest(choices: Sequence[Choice], target_latency: float | None, max_miou_drop: float | None) -> list[str]:
    """Where none meets what is asked for: in words, what comes near from either side."""
    lines = []
    if target_latency is not None:
        fast = [one for one in choices if one.milliseconds <= target_latency]
        if fast:
            lines.append(f"the best of those within {target_latency:g} ms: {max(fast, key=_good).told()}")
        else:
            lines.append(f"none takes {target_latency:g} ms or less; the fastest: {min(choices, key=_slow).told()}")
    if max_miou_drop is not None:
        good = [one for one in choices if one.drop <= max_miou_drop]
        if good:
            lines.append(f"the fastest of those that lose at most {max_miou_drop:g}: {min(good, key=_slow).told()}")
        else:
            lines.append(f"none loses {max_miou_drop:g} or less; the best: {max(choices, key=_good).told()}")
    return lines


def _good(one):
    return one.mean_iou, -one.milliseconds


def _slow(one):
    return one.milliseconds, -one.mean_iou


def table(choices: Sequence[Choice], reference: float, take: int | None = None) -> str:
    """The text of a Markdown table, the fastest first: `*` marks the front, `->` the one to take.

    Args:
        reference: the model's own mIoU.
        take: the place of the one to take, None for none.
    """
    ahead = set(front(choices))
    titles = ["", "ms", "mIoU", "drop", "bytes", "input", "network", "stride", "precision", "multiply-adds"]
    cells = [["", "", f"{reference:.4f}", "", "", "own size", "Keras model", "", "", ""]]
    for number, place in enumerate(by_speed(choices), 1):
        one = choices[place]
        marks = f"{number}{' *' if place in ahead else ''}{' ->' if place == take else ''}"
        stride = "" if one.output_stride is None else str(one.output_stride)
        operations = "" if one.multiply_adds is None else f"{one.multiply_adds / 1e9:.3f} G"
        cells.append(
            [
                marks,
                f"{one.milliseconds:.1f}",
                f"{one.mean_iou:.4f}",
                f"{one.drop:+.4f}",
                f"{one.bytes:,}",
                f"{one.size[0]}x{one.size[1]}",
                one.network,
                stride,
                one.stored,
                operations,
            ]
        )
    widths = [max(3, *map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [titles, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def by_speed(choices: Sequence[Choice]) -> list[int]:
    """Places in the table's order: the fastest first."""
    return sorted(range(len(choices)), key=lambda place: _slow(choices[place]))


def chart(choices: Sequence[Choice], reference: float, target_latency: float | None = None) -> Chart:
    """mIoU over milliseconds, with the numbers of the table: the front as a line, the others as points.

    Args:
        reference: the model's own mIoU, a thin line.
        target_latency: a vertical line.
    """
    ahead, order = front(choices), by_speed(choices)
    numbers = {place: str(number) for number, place in enumerate(order, 1)}

    def curve(name: str, places: Sequence[int], joined: bool) -> Curve:
        points = [(choices[place].milliseconds, choices[place].mean_iou) for place in places]
        return Curve(name, points, joined, tuple(numbers[place] for place in places))

    times: list[Any] = [one.milliseconds for one in choices]
    scores = [one.mean_iou for one in choices]
    low, high = min(*scores, reference), max(*scores, reference)
    room = max(high - low, 0.01)
    return Chart(
        "mIoU over milliseconds an image",
        [
            curve("front", ahead, True),
            curve("others", [place for place in order if place not in ahead], False),
        ],
        low=max(0.0, low - 0.15 * room),
        high=min(1.0, high + 0.15 * room),
        guide=[(0.0, reference), (max(times), reference)],
        mark=target_latency if target_latency is not None and target_latency <= max(times) else None,
        last=False,
        width=720,
        height=420,
    )
