"""The history of a run: one record a checkpoint, and what it says. Importing this imports no Keras.

A record is a dict: "step", "learning_rate", "loss" (the mean since the record before), "mean_iou" (of the training's
crops), "seconds"; where there was a validation also "validation_mean_iou", "validation_pixel_accuracy" and, a number
for each class, "validation_iou", "validation_pixels" and "validation_predicted": the shares of the scored pixels that
are of the class, and that are predicted to be. None stands for what is undefined.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_deeplab._helpers.files import read_regular
from keras_deeplab._helpers.values import from_json

Record = Mapping[str, Any]
HISTORY, CONFIG = "history.jsonl", "config.json"
# What has a number for each class.
_OF_CLASSES = ("validation_iou", "validation_pixels", "validation_predicted")


@dataclass(frozen=True)
class Run:
    """What a run's folder tells of it.

    Attributes:
        path: the folder.
        records: its history, in the order of the steps.
        config: its settings and a description of its data; empty where the folder has none.
    """

    path: Path
    records: tuple[Record, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """A name for each class; where none are told `"class 0"` and so on, as many as the validations have."""
        told = self.config.get("classes")
        count = max((len(record["validation_iou"]) for record in self.validations), default=0)
        if told and (not count or len(told) == count):
            return tuple(map(str, told))
        return tuple(f"class {index}" for index in range(count))

    @property
    def validations(self) -> tuple[Record, ...]:
        """The records that have a validation of each class."""
        return tuple(record for record in self.records if record.get("validation_iou") is not None)

    @property
    def best(self) -> Record | None:
        """The record of the greatest mean IoU in validation, the first of equals; None without validation."""
        return best_of(self.records)


def read_run(path: str | os.PathLike) -> Run:
    """A run's folder to what its `history.jsonl` and `config.json` tell; a last line that is cut short is left out.

    Raises:
        FileNotFoundError: the folder holds no history.
        ValueError: a line of it is no record.
    """
    path = Path(path).expanduser()
    if not (path / HISTORY).is_file():
        raise FileNotFoundError(
            f"{path} has no {HISTORY}: name the folder of a run, the run_dir (--run-dir) of its training"
        )
    config = path / CONFIG
    told = _json(config) if config.is_file() else {}
    names = told.get("classes")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{config} must name the classes in a list, and has {names!r:.60}")
    return Run(path, _records(path / HISTORY), told)


def _records(path: Path) -> tuple[Record, ...]:
    lines = read_regular(path).split(b"\n")
    records: list[Record] = []
    validated: list[Record] = []  # those with lists
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = from_json(line)
        except ValueError as error:
            if number == len(lines):  # without its end: whoever wrote it was killed
                break
            raise ValueError(f"{path}, line {number}, is no record of a run: {error}") from None
        problem = problem_of(record, validated[-1:])
        if problem:
            raise ValueError(f"{path}, line {number}, is no record of a run: it has {problem}")
        records.append(record)
        if any(isinstance(value, list) for value in record.values()):
            validated.append(record)
    return tuple(records)


def problem_of(record: Any, before: Sequence[Record] = ()) -> str | None:
    """What a line has that no record has, or None; `before` are those that its lists must be as long as."""
    if not isinstance(record, dict) or type(record.get("step")) is not int or not _is_number(record["step"]):
        return 'no whole number "step"'
    for name, value in record.items():
        several = value if isinstance(value, list) else [value]
        of_classes = name in _OF_CLASSES and value is not None
        if of_classes > isinstance(value, list) or not all(each is None or _is_number(each) for each in several):
            return f"{value!r:.40} for {name!r:.40}, and numbers are expected"
    if len({len(value) for each in (*before, record) for value in each.values() if isinstance(value, list)}) > 1:
        return "values of more or fewer classes in one list than in another"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = from_json(read_regular(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object of settings, and holds {value!r:.60}")
    return value


def scores(matrix: Any) -> dict[str, Any]:
    """A `metrics.ConfusionMatrix` of a validation to what it adds to the logs of an epoch.

    Returns:
        dict: "val_mean_iou" and "val_pixel_accuracy", NaN where undefined, and lists of a number for each class, None
        where undefined: "val_iou", "val_pixels", "val_predicted". `recorded` makes a part of a record of it.
    """
    counts, total = matrix.matrix, max(1, matrix.num_pixels)
    return {
        "val_mean_iou": matrix.mean_iou,
        "val_pixel_accuracy": matrix.pixel_accuracy,
        "val_iou": [_or_none(float(value)) for value in matrix.iou],
        "val_pixels": [_short(value / total) for value in counts.sum(1)],
        "val_predicted": [_short(value / total) for value in counts.sum(0)],
    }


def recorded(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The logs of an epoch as a record has them: "validation_" for "val_", and None for what isn't defined.

    >>> recorded({"loss": 1.5, "val_mean_iou": float("nan"), "val_iou": [0.5, None]})
    {'loss': 1.5, 'validation_mean_iou': None, 'validation_iou': [0.5, None]}
    """
    record = {}
    for name, value in logs.items():
        name = name.replace("val_", "validation_", 1) if name.startswith("val_") else name
        record[name] = value if isinstance(value, list) else _or_none(float(value))
    return record


def best_of(records: Sequence[Record]) -> Record | None:
    """The record of the greatest mean IoU in validation, the first of equals; None without one."""
    known = [record for record in records if record.get("validation_mean_iou") is not None]
    return max(known, key=lambda record: record["validation_mean_iou"], default=None)


def never_predicted(record: Record, classes: Sequence[str]) -> list[tuple[str, float]]:
    """The classes of which a validation's images have pixels and its predictions none, by share of the pixels.

    Returns:
        (name, share of the scored pixels) of each, the most frequent first; none where the record doesn't tell.

    >>> record = {"validation_pixels": [0.968, 0.032, 0.0], "validation_predicted": [1.0, 0.0, 0.0]}
    >>> never_predicted(record, ["sound", "crack", "paint"])
    [('crack', 0.032)]
    """
    pixels, predicted = record.get("validation_pixels") or (), record.get("validation_predicted") or ()
    found = [
        (name, share)
        for name, share, told in zip(classes, pixels, predicted, strict=False)
        if share > 0.0 and told == 0.0
    ]
    return sorted(found, key=lambda entry: -entry[1])


def _or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _short(value: float) -> float:
    # Six digits: a history of 150 classes is read by people too, and a share above 0 stays above 0.
    return float(f"{value:.6g}")
