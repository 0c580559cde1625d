"""Curves: points to shapes on a plane, and the shapes to SVG. `reports.drawing` makes a PNG of the same shapes."""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_deeplab._helpers.text import shown

Point = tuple[float, float]
# What is drawn how: the page's colours, which differ in light and in dark.
_INK = {
    "text": "var(--ink)",
    "muted": "var(--muted)",
    "grid": "var(--line)",
    "first": "var(--bar)",
    "second": "var(--warning)",
}
_MOST = 400  # points of a curve that are drawn


@dataclass(frozen=True)
class Curve:
    """A name and (x, y) points in the order of x; where y is None or not finite the curve has a gap.

    Attributes:
        name: what the points are.
        points: as above.
        joined: whether a line goes through them.
        marks: texts beside the points, one for each; none for none.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    joined: bool = True
    marks: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """One or two curves over an axis.

    Attributes:
        title: what is shown.
        curves: at most two, which are the first and the second colour; their names stand with their last values.
        low, high: of the vertical axis; by default 0 or the lowest value, and the highest. A few values far above the
            others are cut off, and the title says so.
        logarithmic: whether the horizontal axis is.
        mark: an x that a vertical line stands at.
        guide: points of a thin line below the curves.
        last: whether the names of the curves stand with their last values.
        width, height: pixels.
        ticks: about how many values an axis names.
    """

    title: str
    curves: Sequence[Curve]
    low: float | None = None
    high: float | None = None
    logarithmic: bool = False
    mark: float | None = None
    guide: Sequence[Point] = ()
    last: bool = True
    width: int = 480
    height: int = 240
    ticks: int = 5


@dataclass(frozen=True)
class Stroke:
    """A line through points, in the colour of its role."""

    points: Sequence[Point]
    role: str


@dataclass(frozen=True)
class Dot:
    """A point of a curve, and what it says when it is pointed at."""

    at: Point
    role: str
    told: str


@dataclass(frozen=True)
class Words:
    """Texts beside one another, each in the colour of its role; `at` is the start, middle or end of the baseline."""

    at: Point
    parts: Sequence[tuple[str, str]]
    anchor: str = "start"
    bold: bool = False


def shapes(chart: Chart, letter: int = 13) -> list[Any]:
    """A chart to `Stroke`s, `Dot`s and `Words` in pixels from its upper left corner.

    Args:
        letter: height of a letter.
    """
    points = [point for curve in chart.curves for point in _known(curve.points)]
    if chart.logarithmic:
        points = [(x, y) for x, y in points if x > 0]
    legend, em = _legend(chart), 0.62 * letter
    room = chart.width / em - sum(len(text) + 2 for text, _ in legend)
    words = [Words((0, letter + 2), [(shown(_title(chart, points), max(8, int(room))), "text")], bold=True)]
    if not points:
        return [*words, Words((0, 3 * letter), [("nothing yet", "muted")])]
    low, high, x_low, x_high = _ranges(chart, points)
    rows = ticks(low, high, max(2, chart.ticks - 1))
    if chart.high is None and rows[-1] < high:
        rows.append(float(f"{2 * rows[-1] - rows[-2]:.10g}"))
        high = rows[-1]
    left = 4 + em * max(len(number(row)) for row in rows)
    top, right, bottom = 2.1 * letter, chart.width - 1.8 * letter, chart.height - 1.6 * letter

    def place(x: float, y: float) -> Point:
        if chart.logarithmic:
            across = math.log(x / x_low) / math.log(x_high / x_low)
        else:
            across = (x - x_low) / (x_high - x_low)
        up = min(1.0, max(0.0, (y - low) / (high - low)))
        return left + across * (right - left), bottom - up * (bottom - top)

    found: list[Any] = words
    for row in rows:
        y = place(x_low, row)[1]
        found.append(Stroke([(left, y), (right, y)], "grid"))
        found.append(Words((left - 4, y + 0.36 * letter), [(number(row), "muted")], "end"))
    for column in decades(x_low, x_high) if chart.logarithmic else ticks(x_low, x_high, chart.ticks):
        x = place(column, low)[0]
        found.append(Stroke([(x, bottom), (x, bottom + 4)], "muted"))
        found.append(Words((x, bottom + 1.4 * letter), [(number(column), "muted")], "middle"))
    if chart.mark is not None:
        x = place(chart.mark, low)[0]
        found.append(Stroke([(x, top), (x, bottom)], "muted"))
    if chart.guide:
        found.append(Stroke([place(x, y) for x, y in chart.guide], "muted"))
    for curve, role in zip(chart.curves, ("first", "second"), strict=False):
        found += _drawn(curve, role, place, chart)
    found.append(Words((right, letter + 2), legend, "end"))
    return found


def _drawn(curve: Curve, role: str, place: Any, chart: Chart) -> Iterable[Any]:
    for text, (x, y) in zip(curve.marks, curve.points, strict=False):
        if y is not None and math.isfinite(y) and (x > 0 or not chart.logarithmic):
            across, up = place(x, y)
            yield Words((across, up - 6), [(text, role)], "middle")
    for part in _parts(curve.points, chart.logarithmic):
        if curve.joined:
            yield Stroke([place(x, y) for x, y in thinned(part, _MOST)], role)
        if len(part) <= 60 or not curve.joined:  # more would hide the curve
            yield from (Dot(place(x, y), role, f"{curve.name} {number(x)}: {y:.4g}") for x, y in part)


def _title(chart: Chart, points: Sequence[Point]) -> str:
    highest = max((y for _, y in points), default=0.0)
    cut = chart.high is None and bool(points) and highest > _top([y for _, y in points])
    return f"{chart.title} (cut; up to {highest:.3g})" if cut else chart.title


def _legend(chart: Chart) -> list[tuple[str, str]]:
    found = []
    for curve, role in zip(chart.curves, ("first", "second"), strict=False):
        known = list(_known(curve.points))
        if known:
            found.append((f"{curve.name} {known[-1][1]:.4g}".strip() if chart.last else curve.name, role))
    return found


def _ranges(chart: Chart, points: Sequence[Point]) -> tuple[float, float, float, float]:
    """The vertical axis's ends and the horizontal one's."""
    ys = [y for _, y in points]
    low = min(0.0, *ys) if chart.low is None else chart.low
    high = _top(ys) if chart.high is None else chart.high
    xs = [x for x, _ in points]
    x_low, x_high = min(xs), max(xs)
    if chart.logarithmic:
        return low, _above(high, low), x_low, x_high if x_high > x_low else 10 * x_low
    return low, _above(high, low), min(0.0, x_low), _above(x_high, min(0.0, x_low))


def _top(values: Sequence[float]) -> float:
    """The highest of some values, but at most four times what nine tenths of them don't exceed."""
    ordered = sorted(values)
    usual = ordered[int(0.9 * (len(ordered) - 1))]
    return min(ordered[-1], 4 * usual) if usual > 0 else ordered[-1]


def _above(high: float, low: float) -> float:
    return high if high > low else low + 1.0


def _known(points: Iterable[tuple[float, float | None]]) -> Iterable[Point]:
    return ((float(x), float(y)) for x, y in points if y is not None and math.isfinite(y))


def _parts(points: Iterable[tuple[float, float | None]], positive: bool) -> Iterable[list[Point]]:
    """The pieces of a curve between its gaps."""
    part: list[Point] = []
    for x, y in points:
        if y is None or not math.isfinite(y) or (positive and x <= 0):
            if part:
                yield part
            part = []
        else:
            part.append((float(x), float(y)))
    if part:
        yield part


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` of a curve's points: the lowest and the highest of each piece, so that no peak is lost.

    >>> thinned([(x, float(x == 70)) for x in range(100)], most=4)
    [(0, 0.0), (50, 0.0), (70, 1.0), (99, 0.0)]
    """
    if len(points) <= most:
        return list(points)
    pieces = max(1, most // 2)
    found = {0: points[0], len(points) - 1: points[-1]}
    for piece in range(pieces):
        indices = range(piece * len(points) // pieces, (piece + 1) * len(points) // pieces)
        for index in (min(indices, key=lambda i: points[i][1]), max(indices, key=lambda i: points[i][1])):
            found[index] = points[index]
    return [found[index] for index in sorted(found)]


def ticks(low: float, high: float, about: int) -> list[float]:
    """About so many round numbers from `low` to `high`, in steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 0.7, 4), ticks(0, 30000, 4), ticks(0, 1, 2)
    ([0.0, 0.2, 0.4, 0.6], [0.0, 10000.0, 20000.0, 30000.0], [0.0, 0.5, 1.0])
    """
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if raw <= power * factor * 1.0001)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{step * index:.10g}") for index in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`.

    >>> decades(0.0005, 0.2)
    [0.001, 0.01, 0.1]
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [float(f"1e{power}") for power in range(first, last + 1)]


def number(value: float) -> str:
    """A number of an axis as text.

    >>> number(0.2), number(30000.0), number(1e-05)
    ('0.2', '30,000', '1e-5')
    """
    return f"{value:,.10g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.3g}".replace("e-0", "e-")


def svg(chart: Chart) -> str:
    """A chart to SVG, in the colours of a `reports.Page`, light or dark."""
    parts = [_element(shape) for shape in shapes(chart)]
    told = html.escape(f"{chart.title}: {', '.join(text for text, _ in _legend(chart))}")
    box = f'viewBox="0 0 {chart.width} {chart.height}" width="{chart.width}"'
    return f'<svg {box} role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _element(shape: Any) -> str:
    if isinstance(shape, Stroke):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        width = 1 if shape.role in ("grid", "muted") else 1.8
        return (
            f'<polyline points="{points}" fill="none" stroke="{_INK[shape.role]}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )
    if isinstance(shape, Dot):
        x, y = shape.at
        told = html.escape(shape.told)
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{_INK[shape.role]}"><title>{told}</title></circle>'
    x, y = shape.at
    # A style, as the page's own rule on text would go before an attribute.
    apart = ["", *[' dx="1em"'] * len(shape.parts)]
    texts = "".join(
        f'<tspan style="fill: {_INK[role]}"{before}>{html.escape(text)}</tspan>'
        for (text, role), before in zip(shape.parts, apart, strict=False)
    )
    bold = ' font-weight="600"' * shape.bold
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}"{bold}>{texts}</text>'
