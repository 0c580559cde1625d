"""The page about a model on a data set, or about two: what `keras-deeplab report MODEL DATA` writes."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import in_a_folder, write_whole
from keras_deeplab.inference.files import as_rgb
from keras_deeplab.inference.protocols import ScoringOptions
from keras_deeplab.reports.model import cells, compared, pictures, sections
from keras_deeplab.reports.model.card import card
from keras_deeplab.reports.model.measuring import Measured, Predict, measure, short
from keras_deeplab.reports.model.shown import STYLE, Shown
from keras_deeplab.reports.page import Page

BUDGET = 14_000_000  # bytes of the pictures behind the matrix; the page stays below 20 MB


def write_model_report(
    models: Mapping[str, Predict],
    source: Any,
    path: str | os.PathLike,
    *,
    limit: int | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    around: str = "labels",
    scoring: ScoringOptions | None = None,
    figures: str | os.PathLike | None = None,
    progress: bool = True,
) -> list[Measured]:
    """Writes one HTML file about a model, or about one beside another, and returns what it was made of.

    It works offline, in light and in dark, without scripts, and asks for nothing.

    Args:
        models: one or two by the names that the page gives them, what `keras_deeplab.predictor` returns or functions
            from a uint8 image (H, W, channels) to labels (H, W). The page is about the first, and says how it differs
            from the second.
        source: a `keras_deeplab.data` source.
        path: of the page; replaced whole or not at all.
        limit, class_map: as of `inference.evaluation.evaluate`.
        around: what trimap bands lie around, as of `metrics.TrimapCurve`.
        scoring: what of a sample is scored; None for the whole image at its own size.
        figures: where the numbers are written as JSON too.
        progress: whether to show how far it is.

    Raises:
        FileNotFoundError: there is no folder for the page; before anything is predicted.
        ValueError: there are more than two models; as `evaluate`; or the two score different classes.
    """
    if not 1 <= len(models) <= 2:
        raise ValueError(f"a report is about one model or two, received {len(models)}")
    for each in (path, figures):
        if each is not None:
            in_a_folder(each)
    found = measure(models, source, limit=limit, class_map=class_map, around=around, scoring=scoring, progress=progress)
    model_page(found, source, scoring=scoring).write(path)
    if figures is not None:
        write_whole(figures, json.dumps([model.to_dict() for model in found], indent=1).encode())
    return found


def model_page(
    models: Sequence[Measured], source: Any, budget: int = BUDGET, scoring: ScoringOptions | None = None
) -> Page:
    """What was measured of one model or two on a `keras_deeplab.data` source, which is read once more, to a page.

    Args:
        scoring: as it was measured.
        budget: bytes that the pictures behind the confusion matrix may take.
    """
    model, others = models[0], list(models[1:])
    names = " and ".join(short(each.name) for each in models)
    page = Page(f"{names} on {short(source.name)}", cells.STYLE + sections.STYLE + STYLE)
    intervals = model.images.intervals(resamples=compared.RESAMPLES)
    page.text(_told(model, source))
    for each in models:
        page.text(f"{each.title}: {each.name}. {each.protocol}" if others else f"Protocol: {each.protocol}", "muted")
    sections.put_figures(page, model, intervals.mean_iou, "A: " * bool(others))
    matrix, shown = cells.Cells(model), Shown(models)
    draw = _drawing(model, matrix, shown, ScoringOptions.of() if scoring is None else scoring)
    pictures.drawn(source, model.names, {*matrix.wanted, *shown.places}, draw)
    if others:
        compared.put_comparison(page, model, others[0], compared.differences(model, others[0]))
        shown.put(page, "differ")
    of = f" of {model.title}" if others else ""
    page.heading(f"Classes{of}", anchor="classes")
    sections.put_classes(page, model, intervals.iou)
    page.heading(f"Confusion{of}", anchor="confusion")
    matrix.put(page, budget)
    matrix.put_mistakes(page)
    page.heading("Images", anchor="images")
    shown.put(page, "ranked")
    sections.put_borders(page, models)
    sections.put_calibration(page, models)
    page.heading("Model", anchor="model")
    for each in models:
        page.table(("name", "value"), card(each), f"Model card{f' of {each.title}' if others else ''}", row_heads=True)
    return page


def _told(model: Measured, source: Any) -> str:
    count = len(model.names)
    part = f"the first {count:,} of {source.num_examples:,}" if count < source.num_examples else f"all {count:,}"
    return (
        f"Scored on {part} images of {source.name}: {model.matrix.num_pixels:,} pixels in "
        f"{len(model.classes)} classes; ignored pixels are not scored."
    )


def _drawing(model: Measured, matrix: cells.Cells, shown: Shown, scoring: ScoringOptions) -> Any:
    def draw(index: int, image: np.ndarray, label: np.ndarray) -> None:
        image, label = scoring.sample(image, label)
        image, truth = as_rgb(image), model.truth(label)
        if index in matrix.wanted:
            matrix.draw(index, image, truth)
        if index in shown.places:
            shown.draw(index, image, truth)

    return draw
