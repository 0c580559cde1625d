"""What a training says: a run's records to lines of text. Importing this imports no Keras."""

from collections.abc import Sequence
from typing import Any

from keras_deeplab._helpers.progress import duration
from keras_deeplab._helpers.text import columns, padded, percent, shown
from keras_deeplab.reports.history import Record, never_predicted


def record_line(record: Record, steps: int, best_step: int | None = None) -> str:
    """A record to one line: step, loss, learning rate, scores, time.

    Args:
        record: of a run's history.
        steps: how many the run has.
        best_step: the step of the best validation so far.

    >>> record = {"step": 20, "loss": 0.5, "learning_rate": 0.007, "mean_iou": 0.25, "seconds": 75.0}
    >>> record_line(record | {"validation_mean_iou": 0.3}, 100, best_step=20)
    'step 20/100  loss 0.5000  learning rate 0.007  mIoU 0.2500  validation mIoU 0.3000 (best)  01:15'
    """
    text = f"step {record['step']}/{steps}  loss {record['loss']:.4f}  learning rate {record['learning_rate']:.2g}"
    if record.get("mean_iou") is not None:
        text += f"  mIoU {record['mean_iou']:.4f}"
    if "validation_mean_iou" in record:
        score = record["validation_mean_iou"]
        text += "  validation mIoU " + ("undefined" if score is None else f"{score:.4f}")
        text += " (best)" * (best_step == record["step"])
    return f"{text}  {duration(record['seconds'])}"


def validation_lines(record: Record, classes: Sequence[str], most: int = 12) -> list[str]:
    """What a validation says of each class: a table, and the classes that are never predicted; [] without one.

    Of more than `most` classes the table has the worst and the best ones, and counts those between.

    Args:
        record: of a run's history.
        classes: a name for each class.
        most: greatest number of rows.

    >>> record = {"validation_iou": [0.968, 0.0], "validation_pixels": [0.968, 0.032]}
    >>> print("\\n".join(validation_lines(record | {"validation_predicted": [1.0, 0.0]}, ["sound", "crack"])))
      class     IoU  % of pixels
      sound  0.9680        96.80
      crack  0.0000         3.20
      never predicted: crack (3.2 % of the pixels)
    """
    values = record.get("validation_iou")
    if not values:
        return []
    names = [shown(name) for name in classes]
    shares = record.get("validation_pixels") or [None] * len(values)
    rows = list(zip(names, values, shares, strict=True))
    width = max(columns(name) for name in ["class", *names])
    lines = [f"  {padded('class', width)}  {'IoU':>6}  {'% of pixels':>11}"]
    for row in folded(rows, most):
        if isinstance(row, str):
            lines.append(f"  {row}")
        else:
            name, value, share = row
            lines.append(f"  {padded(name, width)}  {_number(value, 4):>6}  {_number(share, 2, 100):>11}")
    line = never_predicted_line(record, classes)
    return lines + ([f"  {line}"] if line else [])


def never_predicted_line(record: Record, classes: Sequence[str], most: int = 6) -> str | None:
    """The classes that have pixels in a validation's images and none in its predictions, in a line; None without any.

    Args:
        record: of a run's history.
        classes: a name for each class.
        most: how many are named, the most frequent first; the others are counted.
    """
    found = never_predicted(record, classes)
    if not found:
        return None
    (first, share), *others = found[:most]
    named = [f"{shown(first)} ({percent(share)} of the pixels)"]
    named += [f"{shown(name)} ({percent(share)})" for name, share in others]
    if len(found) > most:
        named.append(f"and {len(found) - most} more")
    return f"never predicted: {', '.join(named)}"


def folded(rows: Sequence[tuple[str, float | None, Any]], most: int) -> list[Any]:
    """At most `most` of (name, score, ...) rows, with a line of text in place of those left out.

    All of them in their order where they are few. Otherwise the half of lowest scores, worst first, and the half of
    highest, best last; those without a score are left out first.
    """
    if len(rows) <= most:
        return list(rows)
    known = sorted((row for row in rows if row[1] is not None), key=lambda row: row[1] or 0.0)
    absent = len(rows) - len(known)
    none = f"{absent} classes do not occur" if absent > 1 else "1 class does not occur" * absent
    if len(known) <= most:
        return [*known, f"... {none}"]
    worst, best = known[: most - most // 2], known[len(known) - most // 2 :]
    between = f"... {len(known) - most} classes between" + f"; {none}" * bool(none)
    return [*worst, between, *best]


def _number(value: float | None, digits: int, factor: float = 1.0) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"
