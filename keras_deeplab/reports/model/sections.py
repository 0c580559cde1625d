"""The parts of the page about a model that are numbers and curves: classes, borders, confidence."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_deeplab._helpers.text import percent
from keras_deeplab.reports.charts import Chart, Curve, svg
from keras_deeplab.reports.page import Markup, Page, beside

STYLE = """
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin: 1em 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 8px 14px;
  display: flex; flex-direction: column; } .figures dt { font-size: 0.85rem; color: var(--muted); }
.figures dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figures small { display: block; font-size: 0.8rem; color: var(--muted); }
td.bar { background: linear-gradient(to right, rgb(60 120 220 / 0.3) calc(100% * var(--s)), transparent 0); }
.chip { display: inline-block; width: 0.9em; height: 0.9em; border: 1px solid var(--muted); margin-right: 0.4em;
  vertical-align: -0.1em; flex: none; }
.named { display: flex; align-items: baseline; }
.legend { display: flex; flex-wrap: wrap; gap: 0.2em 1.2em; list-style: none; padding: 0; }
"""


def put_figures(page: Page, measured: Any, interval: tuple[float, float], of: str = "") -> None:
    """The totals, large, into a page; their names begin with `of`."""
    matrix, errors = measured.matrix, measured.calibration
    rows = [
        ("mean IoU", f"{matrix.mean_iou:.4f}", f"{interval[0]:.4f} to {interval[1]:.4f} over images (95 %)"),
        ("pixel accuracy", f"{matrix.pixel_accuracy:.4f}", f"mean of the classes {matrix.mean_accuracy:.4f}"),
        ("boundary IoU", _shown(measured.boundary.mean_iou), "mean of the classes"),
    ]
    if errors is not None:
        rows.append(("calibration error", _shown(errors.error), _too_sure(errors.mean_overconfidence)))
    rows.append(("an image takes", f"{np.median(measured.seconds):.3g} s", "the model's own time, median"))
    cells = "".join(
        f"<div><dt>{html.escape(of + name)}</dt><dd>{html.escape(value)}<small>{html.escape(more)}</small></dd></div>"
        for name, value, more in rows
    )
    page.put(Markup(f'<dl class="figures">{cells}</dl>'))


def put_classes(page: Page, measured: Any, intervals: np.ndarray) -> None:
    """The table of the classes, into a page."""
    matrix = measured.matrix
    head = ["class", "IoU", "95 % from", "to", "accuracy", "boundary IoU"]
    head += ["of the pixels", "of the predictions", "images"]
    total, rows = max(1, matrix.num_pixels), []
    unions = measured.images.unions
    for label, name in enumerate(measured.classes):
        if not matrix.matrix[label].sum() + matrix.matrix[:, label].sum():
            continue
        row: list[Any] = [_named(name, measured.palette[label]), _bar(matrix.iou[label])]
        row += [*map(_shown, intervals[label]), _shown(matrix.accuracy[label]), _shown(measured.boundary.iou[label])]
        shares = (matrix.matrix[label].sum() / total, matrix.matrix[:, label].sum() / total)
        rows.append([*row, *map(_part, shares), int((unions[:, label] > 0).sum())])
    page.table(head, rows, "Scores of each class", row_heads=True)
    absent = [name for name, iou in zip(measured.classes, matrix.iou, strict=True) if np.isnan(iou)]
    if absent:
        page.text(f"In neither labels nor predictions, and in no mean: {', '.join(absent)}", "muted")
    page.text(
        "IoU: pixels that label and prediction share, over those that either has, of all images together; beside it "
        "what other choices of such images would give (bootstrap; - for a class in fewer than five). "
        "Accuracy: share of a class's pixels that are predicted right. Images: those that show the class or are "
        "predicted to.",
        "muted",
    )


def put_borders(page: Page, models: Sequence[Any]) -> None:
    """The trimap curve and boundary IoU of one model or two, into a page."""
    first = models[0]
    page.heading("Borders", anchor="borders")
    what = "pixel of another label" if first.trimap.around == "labels" else "ignored pixel"
    curves = [
        Curve(name, list(zip(model.trimap.widths, model.trimap.mean_iou.tolist(), strict=True)))
        for name, model in zip(_short_names(models), models, strict=True)
    ]
    page.svg(svg(Chart("mean IoU within n pixels of a border", curves, low=0.0, high=1.0, width=640)))
    page.text(
        f"Trimap curve: only those pixels count whose nearest {what} is at most n pixels away. Where the curve rises "
        f"much, borders are what is lost: over all pixels the mean IoU is {first.matrix.mean_iou:.4f}.",
        "muted",
    )
    head = ["within", *(f"mean IoU{_of(model, models)}" for model in models), "pixels"]
    rows = [
        [f"{width} px", *(_shown(model.trimap.mean_iou[place]) for model in models), f"{count:,}"]
        for place, (width, count) in enumerate(zip(first.trimap.widths, first.trimap.num_pixels.tolist(), strict=True))
    ]
    rows.append(["anywhere", *(_shown(model.matrix.mean_iou) for model in models), f"{first.matrix.num_pixels:,}"])
    page.table(head, rows, "Trimap curve", row_heads=True)
    told = "; ".join(f"{_named_by(model, models)}{_shown(model.boundary.mean_iou)}" for model in models)
    page.text(
        f"Boundary IoU ({told}; by class in the table above) is the IoU of the rims of the masks, "
        f"{percent(first.boundary.ratio)} of the image's diagonal wide (Cheng et al., 2021).",
        "muted",
    )


def put_calibration(page: Page, models: Sequence[Any]) -> None:
    """The reliability diagram of one model or two, and the errors by class, into a page."""
    page.heading("Calibration", anchor="calibration")
    known = [model for model in models if model.calibration is not None]
    for model in models:
        if model.calibration is None:
            page.text(f"{model.title} gives labels alone, so nothing tells how sure it is", "note")
    if not known:
        return
    names = _short_names(known)
    curves = [reliability(name, model.calibration) for name, model in zip(names, known, strict=True)]
    page.put(beside([svg(_diagram("right (up) by how sure (across)", curves, 400, 3 * 400 // 4))]))
    told = "; ".join(f"{_named_by(model, models)}{_shown(model.calibration.error)}" for model in known)
    page.text(
        "Reliability diagram: of the pixels that the model is so sure of, how many it predicts right; below the thin "
        f"line it is too sure. Expected calibration error: {told}: how far the curve is from that line, a mean over "
        "the pixels. That of a class is over the pixels that are predicted to be of it.",
        "muted",
    )
    _put_bins(page, known[0].calibration, f"Bins of confidence{_of(known[0], models)}")
    head = ["class"]
    for model in known:
        head += [f"calibration error{_of(model, models)}", f"{_named_by(model, models)}too sure by"]
    rows, small = [], []
    for label, name in enumerate(known[0].classes):
        parts = [model.calibration for model in known]
        if any(part.pixels[label].any() for part in parts):
            values = [(_shown(part.errors[label]), _signed(part.overconfidence[label])) for part in parts]
            rows.append([name, *(value for pair in values for value in pair)])
            drawn = [reliability(each, part, label) for each, part in zip(names, parts, strict=True)]
            small.append(svg(_diagram(name, drawn, 220, 180, ticks=2)))
    page.table(head, rows, "Calibration of each predicted class", row_heads=True)
    page.put(Markup(f"<details><summary>Reliability diagram of each class</summary>{beside(small)}</details>"))


def reliability(name: str, calibration: Any, label: int | None = None) -> Curve:
    """The bins of a `Calibration` that have pixels, of one predicted class or all, to a curve over the confidence."""
    bins = calibration.reliability(label)
    full = bins.pixels > 0
    return Curve(name, list(zip(bins.confidence[full].tolist(), bins.accuracy[full].tolist(), strict=True)))


def _diagram(title: str, curves: list[Curve], width: int, height: int, ticks: int = 5) -> Chart:
    line = [(0.0, 0.0), (1.0, 1.0)]
    return Chart(title, curves, 0.0, 1.0, guide=line, last=False, width=width, height=height, ticks=ticks)


def _put_bins(page: Page, calibration: Any, caption: str) -> None:
    bins, total, rows = calibration.reliability(), max(1, calibration.num_pixels), []
    for place in np.flatnonzero(bins.pixels).tolist():
        ends = f"{place / calibration.bins:.3f} to {(place + 1) / calibration.bins:.3f}"
        means = (_shown(bins.confidence[place]), _shown(bins.accuracy[place]))
        rows.append([ends, _part(bins.pixels[place] / total), *means])
    page.table(["confidence", "of the pixels", "mean confidence", "right"], rows, caption, row_heads=True)


def _part(share: float) -> str:
    return "< 0.01 %" if 0 < share < 1e-4 else percent(share)


def _too_sure(by: float) -> str:
    return f"too sure by {by:.4f}" if by > 0 else f"not sure enough by {-by:.4f}"


def legend(labels: Sequence[int], classes: Sequence[str], palette: np.ndarray) -> Markup:
    """Names of classes beside their colours."""
    items = "".join(f"<li>{_chip(palette[label])}{html.escape(classes[label])}</li>" for label in labels)
    return Markup(f'<ul class="legend">{items}</ul>')


def _chip(color: Any) -> str:
    return '<span class="chip" style="background:rgb({},{},{})"></span>'.format(*map(int, color))


def _named(name: str, color: Any) -> Markup:
    return Markup(f'<th scope="row"><span class="named">{_chip(color)}{html.escape(name)}</span></th>')


def _bar(value: float) -> Markup:
    return Markup(f'<td class="number bar" style="--s:{0 if np.isnan(value) else value:.3f}">{_shown(value)}</td>')


def _short_names(models: Sequence[Any]) -> list[str]:
    return ["" if len(models) == 1 else model.title for model in models]


def _named_by(model: Any, models: Sequence[Any]) -> str:
    return f"{model.title} " if len(models) > 1 else ""


def _of(model: Any, models: Sequence[Any]) -> str:
    return f" of {model.title}" if len(models) > 1 else ""


def _shown(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.4f}"
