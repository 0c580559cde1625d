"""What is done of a raster, beside the file that it becomes, so that whoever is killed goes on where they were."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import filelock
import numpy as np

from keras_deeplab._helpers.files import replacing, write_whole
from keras_deeplab._helpers.values import from_json


class Journal:
    """Labels of an image's rows from the top on, in a hidden folder beside `target`, and how many are there.

    A folder of other settings, image or model is begun anew. The folder is locked while this is open.

    Args:
        target: the file that will be written.
        facts: what the labels depend on, as JSON has it.
        width: of the image.
        dtype: of the labels.

    Attributes:
        tiles, rows: rows of tiles, and of labels, that are done.
        resumed: how many rows of labels were there from the start.

    Raises:
        OSError: somebody else is writing the same target.
    """

    def __init__(self, target: Path, facts: Mapping[str, Any], width: int, dtype: Any) -> None:
        self._folder = target.with_name(f".{target.name}.tiles")
        self._width, self._dtype = width, np.dtype(dtype)
        self._facts = json.loads(json.dumps({**facts, "width": width, "dtype": self._dtype.name}))
        self.tiles = self.rows = self.resumed = 0
        self._folder.mkdir(exist_ok=True)
        self._lock = filelock.FileLock(self._folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise OSError(f"another process is writing {target}: wait for it, or write to another file") from None
        known = self._read()
        if known is None:
            for name in ("labels", "sums.npz", "journal.json"):
                (self._folder / name).unlink(missing_ok=True)
        else:
            self.tiles, self.rows = known["tiles"], known["rows"]
            self.resumed = self.rows
        self._labels = (self._folder / "labels").open("r+b" if known is not None else "w+b")
        self._labels.truncate(self.rows * width * self._dtype.itemsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._labels.close()
        self._lock.release()

    def _read(self) -> dict[str, Any] | None:
        try:
            known = from_json((self._folder / "journal.json").read_bytes())
            there = (self._folder / "labels").stat().st_size
            if known["facts"] == self._facts and there >= known["rows"] * self._width * self._dtype.itemsize:
                return known
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def add(self, tiles: int, labels: np.ndarray) -> None:
        """Rows of labels (n, width) that follow, and how many rows of tiles are done with them."""
        self._labels.seek(0, os.SEEK_END)
        self._labels.write(np.ascontiguousarray(labels, self._dtype).tobytes())
        self._labels.flush()
        os.fsync(self._labels.fileno())
        self.tiles, self.rows = tiles, self.rows + len(labels)
        known = {"facts": self._facts, "tiles": self.tiles, "rows": self.rows}
        write_whole(self._folder / "journal.json", json.dumps(known).encode())

    def labels(self, top: int, bottom: int) -> np.ndarray:
        """Rows that are done, (n, width)."""
        size = self._width * self._dtype.itemsize
        self._labels.seek(top * size)
        return np.frombuffer(self._labels.read((bottom - top) * size), self._dtype).reshape(-1, self._width)

    @property
    def sums(self) -> list[np.ndarray] | None:
        """The sums that were kept, or None."""
        if not self.tiles:
            return None
        try:
            with np.load(self._folder / "sums.npz", allow_pickle=False) as file:
                return [file[f"arr_{index}"] for index in range(len(file.files))]
        except Exception:  # of damaged bytes zipfile and NumPy raise nearly anything
            return None

    def keep(self, sums: Sequence[np.ndarray]) -> None:
        """Sums over all tiles, which come before the labels."""
        with replacing(self._folder / "sums.npz") as temporary:
            np.savez(temporary, *sums)

    def remove(self) -> None:
        """The target is there, so nothing is left to go on with."""
        self._labels.close()
        self._lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)


def fingerprint(runtime: Any) -> str:
    """What runs, as text: a hash of a Keras model's weights, else the name and the ages of its files."""
    model: Any = getattr(runtime, "model", None)
    if hasattr(model, "weights"):
        found = hashlib.blake2b(digest_size=16)
        for variable in model.weights:
            found.update(f"{variable.path} {tuple(variable.shape)} {variable.dtype}".encode())
            found.update(np.ascontiguousarray(variable.numpy()).tobytes())
        return found.hexdigest()
    path = Path(str(runtime.name).removeprefix("the SavedModel ").partition(" (")[0])
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    ages = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return " ".join([str(runtime.name), *ages])
