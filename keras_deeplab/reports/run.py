"""A run's folder to what people look at: `report.html`, `curves.png` and `history.csv` beside its other files."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import write_whole
from keras_deeplab._helpers.text import percent
from keras_deeplab.reports.charts import Chart, Curve, svg
from keras_deeplab.reports.drawing import plain, png
from keras_deeplab.reports.history import Record, Run, never_predicted, read_run
from keras_deeplab.reports.page import Page

PAGE, CURVES, TABLE, PICTURES = "report.html", "curves.png", "history.csv", "pictures"
_SMALL = {"width": 227, "height": 118, "low": 0.0, "high": 1.0, "ticks": 2}
_FOLDED = 8  # classes whose curves are shown at once, each way; the page has the others behind a click


def write_report(run_dir: str | os.PathLike) -> tuple[Path, ...]:
    """Writes the page, the curves and the table of a run's folder, and returns their paths; each is whole or as before.

    The page is one file that works offline, in light and in dark. It shows the PNG files in the folder's `pictures`.

    Raises:
        FileNotFoundError: the folder holds no history.
        ValueError: the history holds no record yet, or a line that is none.
    """
    run = read_run(run_dir)
    if not run.records:
        raise ValueError(f"the history of {run.path} is empty: its first record comes with the first checkpoint")
    write_whole(run.path / TABLE, table(run).encode("utf-8", "replace"))
    write_whole(run.path / CURVES, png([*_rows(charts(run), 2), *_rows(_few(class_charts(run, plain)), 4)]))
    page(run).write(run.path / PAGE)
    return run.path / PAGE, run.path / CURVES, run.path / TABLE


def charts(run: Run) -> list[Chart]:
    """Loss, mean IoU and learning rate of a run over its steps."""

    def curve(name: str, key: str) -> Curve:
        return Curve(name, [(record["step"], record[key]) for record in run.records if key in record])

    found = [Chart("loss", [curve("", "loss")])]
    scores = [curve("validation", "validation_mean_iou"), curve("training", "mean_iou")]
    scores = [each for each in scores if any(value is not None for _, value in each.points)]
    if scores:
        found.append(Chart("mean IoU", scores, low=0.0, high=1.0))
    return [*found, Chart("learning rate", [curve("", "learning_rate")])]


def class_charts(run: Run, name: Any = lambda name, label: name) -> list[Chart]:
    """The IoU of each class in validation over the steps; the classes that never occur are left out."""
    found = []
    for label, title in enumerate(run.classes if run.validations else ()):
        points = [(record["step"], record["validation_iou"][label]) for record in run.validations]
        if any(value is not None for _, value in points):
            found.append(Chart(name(title, label), [Curve("", points)], **_SMALL))  # type: ignore[arg-type]
    return found


def _few(classes: list[Chart]) -> list[Chart]:
    """All of some charts in their order, or of many the lowest and the highest last values."""
    if len(classes) <= 2 * _FOLDED:
        return classes
    ordered = sorted(classes, key=_last)
    return [*ordered[:_FOLDED], *ordered[-_FOLDED:]]


def _rows(drawn: Sequence[Chart], columns: int) -> list[Sequence[Chart]]:
    return [drawn[first : first + columns] for first in range(0, len(drawn), columns)]


def _last(chart: Chart) -> float:
    return next(value for _, value in reversed(chart.curves[0].points) if value is not None)


def page(run: Run) -> Page:
    """The page of a run."""
    found = Page(f"Training: {run.path.resolve().name}")
    found.text(_summary(run))
    validations = run.validations
    never = never_predicted(validations[-1], run.classes) if validations else []
    if never:
        named = ", ".join(f"{name} ({percent(share)} of the pixels)" for name, share in never)
        found.text(f"Never predicted in the last validation: {named}", "warning")
    found.svg(_beside(charts(run)))
    _pictures(found, run.path / PICTURES)
    if validations:
        _classes(found, run)
    if run.config:
        found.heading("Settings")
        given = {key: value for key, value in run.config.items() if value is not None and key != "classes"}
        found.table(("name", "value"), [(key, _value(value)) for key, value in given.items()])
    return found


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _summary(run: Run) -> str:
    from keras_deeplab._helpers.progress import duration

    last, steps = run.records[-1], run.config.get("steps")
    lines = [f"Step {last['step']}" + (f" of {steps}" if steps else "")]
    if last.get("seconds") is not None:
        lines[0] += f", {duration(last['seconds'])} of training"
    if run.best is not None:
        lines.append(f"Best validation: mean IoU {run.best['validation_mean_iou']:.4f} at step {run.best['step']}")
        told = [record for record in run.records if record.get("validation_mean_iou") is not None][-1]
        lines.append(f"Last validation: mean IoU {told['validation_mean_iou']:.4f} at step {told['step']}")
    source, count = run.config.get("source"), run.config.get("num_examples")
    if source:
        lines.append(f"Data: {source}" + (f", {count} images" if count else ""))
    return "\n".join(lines)


def _classes(found: Page, run: Run) -> None:
    found.heading("Classes in validation")
    drawn = class_charts(run)
    few = _few(drawn)
    if len(few) < len(drawn):
        found.text(f"IoU over the steps: {_FOLDED} lowest and {_FOLDED} highest of {len(drawn)} classes", "muted")
    found.svg(_beside(few))
    if len(few) < len(drawn):
        found.svg(f"<details><summary>all {len(drawn)} classes</summary>{_beside(drawn)}</details>")
    last, never = run.validations[-1], dict(never_predicted(run.validations[-1], run.classes))
    told = "validation_pixels" in last
    head = ["class", f"last IoU (step {last['step']})", "best IoU", "at step"]
    rows = []
    for label, name in enumerate(run.classes):
        value, step = _best(run.validations, label)
        row = [name, _shown(last["validation_iou"][label]), _shown(value), "-" if step is None else step]
        if told:
            row += [percent(last["validation_pixels"][label]), percent(last["validation_predicted"][label])]
            row += ["never predicted" if name in never else ""] * bool(never)
        rows.append(row)
    head += ["share of the pixels", "predicted share"] * told + [""] * bool(never)
    found.table(head, rows)


def _best(validations: Sequence[Record], label: int) -> tuple[float | None, int | None]:
    known = [(record["validation_iou"][label], record["step"]) for record in validations]
    known = [(value, step) for value, step in known if value is not None]
    return max(known, key=lambda pair: pair[0], default=(None, None))


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _beside(drawn: Sequence[Chart]) -> str:
    """Charts that stand beside one another where there is room."""
    return f'<div class="pictures">{"".join(map(svg, drawn))}</div>'


def _pictures(found: Page, folder: Path) -> None:
    from PIL import Image

    files = sorted(folder.glob("*.png")) if folder.is_dir() else []
    shown, side = [], 320
    for file in files:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
            shown.append((pixels, str(picture.info.get("Title", file.stem))))
            side = max(side, *pixels.shape[:2])
    if shown:
        found.heading("Images")
        found.pictures(shown, side=side)


def save_pictures(run_dir: str | os.PathLike, pictures: Sequence[tuple[np.ndarray, str]]) -> None:
    """Puts pictures uint8 (H, W, 3) with their titles into a run's folder, as 01.png, 02.png, ..."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    folder = Path(run_dir).expanduser() / PICTURES
    folder.mkdir(exist_ok=True)
    for number, (picture, title) in enumerate(pictures, 1):
        told, buffer = PngInfo(), io.BytesIO()
        told.add_itxt("Title", title)
        Image.fromarray(picture).save(buffer, "png", pnginfo=told)
        write_whole(folder / f"{number:02}.png", buffer.getvalue())


def model_of(run_dir: str | os.PathLike) -> Path:
    """The file of a run's best model, or where there was no validation of its last.

    Raises:
        FileNotFoundError: there is none yet.
    """
    for name in ("best.keras", "last.keras"):
        if (path := Path(run_dir).expanduser() / name).is_file():
            return path
    raise FileNotFoundError(f"{run_dir} has no best.keras or last.keras yet: they come with the first checkpoint")


def table(run: Run) -> str:
    """A run's history as CSV: a line a record, a column a number; those of classes are named `iou NAME`."""
    keys = ["step", "learning_rate", "loss", "mean_iou", "validation_mean_iou", "validation_pixel_accuracy", "seconds"]
    classes = run.classes if run.validations else ()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *(f"iou {name}" for name in classes)])
    for record in run.records:
        values = record.get("validation_iou") or [None] * len(classes)
        writer.writerow([record.get(key) for key in keys] + list(values))
    return text.getvalue()
