"""What a run has done, in its folder: its settings, and for each image that is finished a row.

An image is finished when its label file is there and, written after it, its row `rows/<name>.json` with the stamps of
the image and of its mask as they are now. Both are written whole or not at all, so that a run that was killed at any
moment is continued by the same command: what is finished is seen and left alone, and anything else is done.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.values import from_json
from keras_deeplab._version import __version__
from keras_deeplab.data.masks import write_label_png
from keras_deeplab.inference.beam import places
from keras_deeplab.inference.beam.places import Stamp
from keras_deeplab.inference.files import encode_png

SETTINGS, PREDICTIONS, FAILURES = "run.json", "predictions.jsonl", "failures.jsonl"
CONFUSION, SUMMARY = "confusion.json", "summary.json"


class Ledger:
    """A run's folder.

    Args:
        folder: a path or an address.
        probabilities: whether they are written too.
        palette: uint8 (256, 3), the colours of the label files.
    """

    def __init__(self, folder: str, probabilities: bool = False, palette: np.ndarray | None = None) -> None:
        self.folder, self.probabilities, self.palette = folder, probabilities, palette

    def place(self, *names: str) -> str:
        return places.join(self.folder, *names)

    def begin(self, settings: Mapping[str, Any]) -> bool:
        """Keeps the settings of a new run, or compares them with those that it was begun with; whether it was begun.

        Raises:
            ValueError: they differ, or there are other files and no run.
        """
        settings = json.loads(json.dumps({"keras_deeplab": __version__, **settings}))
        settings = {key: value for key, value in settings.items() if value is not None}
        place = self.place(SETTINGS)
        if not places.exists(place):
            if places.occupied(self.folder):
                raise ValueError(
                    f"the folder {self.folder} holds other files and no {SETTINGS}, so it is no run's: choose a new or "
                    "empty output folder"
                )
            places.write(place, json.dumps(settings, indent=1).encode())
            return False
        try:
            known = from_json(places.read(place))
        except ValueError as error:
            raise ValueError(f"{place} can't be read ({error}): choose another output folder") from error
        differing = [
            f"{key} was {json.dumps(before)} and is {json.dumps(now)}"
            for key, before, now in _differing(known, settings)
        ]
        if differing:
            raise ValueError(
                f"the run in {self.folder} was begun with other settings: {'; '.join(differing)}. Give the same to "
                "continue it, or another output folder"
            )
        return True

    def finished(self, name: str, stamp: Stamp, mask: Stamp | None) -> dict[str, Any] | None:
        """The row of an image that is finished; None where it isn't, or where it or its mask has changed since."""
        try:
            row = json.loads(places.read(self._row(name)))
            told = (row["stamp"], row.get("mask_stamp"))
            if told != (list(stamp), None if mask is None else list(mask)):
                return None
            files = [row["labels"], *([row["probabilities"]] if self.probabilities else [])]
            return row if all(places.exists(self.place(file)) for file in files) else None
        except Exception:  # there is none, in the words of any store, or it isn't one
            return None

    def commit(
        self, name: str, row: Mapping[str, Any], labels: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, Any]:
        """Writes what was found of an image, last its row; the row with where the files are."""
        row = {**row, "labels": f"labels/{name}.png"}
        if self.probabilities and probabilities is not None:
            row["probabilities"] = f"probabilities/{name}.npz"
            with places.writing(self.place(row["probabilities"])) as path:
                np.savez_compressed(path, probabilities=probabilities)
        with places.writing(self.place(row["labels"])) as path:
            if labels.dtype == np.uint8:
                write_label_png(path, labels, self.palette)
            else:
                path.write_bytes(encode_png(labels.astype(np.uint16)))
        places.write(self._row(name), json.dumps(row).encode())
        return row

    def close(self, rows: Sequence[str], failures: Sequence[str], summary: Mapping[str, Any], confusion: Any) -> None:
        """Writes what all images come to: lines of JSON by name, the confusion matrix, and numbers."""
        places.write(self.place(PREDICTIONS), _lines(rows))
        places.write(self.place(FAILURES), _lines(failures))
        if confusion is not None:
            places.write(self.place(CONFUSION), json.dumps(confusion, indent=1).encode())
        places.write(self.place(SUMMARY), json.dumps(summary, indent=1).encode())

    def summary(self) -> dict[str, Any]:
        return json.loads(places.read(self.place(SUMMARY)))

    def confusion(self) -> dict[str, Any]:
        return json.loads(places.read(self.place(CONFUSION)))

    def _row(self, name: str) -> str:
        return self.place("rows", f"{name}.json")


def _lines(rows: Sequence[str]) -> bytes:
    """Rows in the order of their names, which they begin with."""
    return "".join(f"{row}\n" for row in sorted(rows, key=lambda row: json.loads(row)["name"])).encode()


def _differing(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What differs in two values of JSON, by dotted names."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from _differing(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield key, before, now


def fingerprint(path: str) -> str | None:
    """A number that changes with a model's files: of a file, a folder, or all files that begin so; None without any."""
    top = Path(path).expanduser()
    if top.is_file():
        files = [top]
    elif top.is_dir():
        files = sorted(file for file in top.rglob("*") if file.is_file())
    else:  # TensorFlow 1's checkpoints are named by what their files begin with
        files = sorted(top.parent.glob(f"{top.name}.*")) if top.name and top.parent.is_dir() else []
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(top.parent)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()
