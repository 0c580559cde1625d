"""Two models on the same images: how their scores differ, and whether another choice of images could undo it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_deeplab.metrics.images import Intervals
from keras_deeplab.reports.page import Page

RESAMPLES = 2000


def differences(model: Any, other: Any) -> Intervals:
    """The 95 % intervals of one `Measured`'s IoU less another's, over the same draws of their images."""
    return model.images.intervals(other.images, RESAMPLES)


def put_comparison(page: Page, model: Any, other: Any, intervals: Intervals) -> None:
    """The table of both models' IoU and the difference, for all classes and each, into a page."""
    page.heading("Comparison", anchor="comparison")
    low, high = intervals.mean_iou
    gain = model.matrix.mean_iou - other.matrix.mean_iou
    page.text(
        f"The mean IoU of {model.title} less that of {other.title} is {_signed(gain)}, and with another choice of such "
        f"images would be between {_signed(low)} and {_signed(high)} in 95 of 100 cases. {_verdict_told(low, high)}",
        "note",
    )
    head = ["class", model.title, other.title, "difference", "95 % from", "to", "A is", "images"]
    rows: list[list[Any]] = [
        _row("mean IoU", model.matrix.mean_iou, other.matrix.mean_iou, low, high, len(model.names))
    ]
    rows += [_total(*row) for row in _totals(model, other)]
    images = ((model.images.unions > 0) | (other.images.unions > 0)).sum(0)
    for label, name in enumerate(model.classes):
        if images[label]:
            ends = intervals.iou[label]
            rows.append(_row(name, model.matrix.iou[label], other.matrix.iou[label], ends[0], ends[1], images[label]))
    page.table(head, rows, "Totals, and the IoU of each class; the difference is A less B", row_heads=True)
    page.text(
        f"Intervals: the images are drawn {RESAMPLES:,} times with replacement, the same draws for both models (paired "
        "bootstrap, percentiles, seed 0). They tell of the choice of images, not of another training. With 20 classes "
        "about one of their intervals excludes 0 by chance. Classes in fewer than five images have none.",
        "muted",
    )


def _totals(model: Any, other: Any) -> Iterator[tuple[str, float, float]]:
    yield "pixel accuracy", model.matrix.pixel_accuracy, other.matrix.pixel_accuracy
    yield "boundary IoU", model.boundary.mean_iou, other.boundary.mean_iou
    if model.calibration is not None and other.calibration is not None:
        yield "calibration error", model.calibration.error, other.calibration.error


def _total(name: str, one: float, other: float) -> list[Any]:
    return [name, f"{one:.4f}", f"{other:.4f}", _signed(one - other), "-", "-", "", ""]


def _row(name: str, one: float, other: float, low: float, high: float, images: int) -> list[Any]:
    verdict = "better" if low > 0 else "worse" if high < 0 else "within chance"
    if np.isnan([low, high]).any():
        verdict = ""
    told = [_signed(value) for value in (one - other, low, high)]
    return [name, f"{one:.4f}", f"{other:.4f}", *told, verdict, int(images)]


def _verdict_told(low: float, high: float) -> str:
    if low <= 0 <= high:
        return "So these images don't tell which is better."
    return "The interval excludes 0."


def _signed(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.4f}"
