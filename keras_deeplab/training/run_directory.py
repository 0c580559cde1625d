"""A training run's folder: checkpoints that survive a kill at any moment, the history, and the settings."""

import contextlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from keras_deeplab._helpers.values import from_json

_STATE, _ARRAYS = "training/state.json", "training/arrays.npz"


class RunDirectory:
    """The files of one training run.

    | file | what |
    |---|---|
    | `last.keras` | the model at the last checkpoint, with the state of the training beside it in the archive |
    | `previous.keras` | the checkpoint before, should `last.keras` be damaged |
    | `best.keras` | the model of the best validation |
    | `history.jsonl` | one JSON object a line: step, loss, learning rate, scores |
    | `config.json` | the settings, to look at; the checkpoints hold them too |
    | `report.html`, `curves.png`, `history.csv`, `pictures/` | to look at, made of these (`reports.run`) |
    | `tensorboard/` | to look at with TensorBoard, where that is asked for |

    Each is written under another name and renamed, so a kill or a full disk leaves the old file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self.last, self.previous, self.best = (self.path / f"{name}.keras" for name in ("last", "previous", "best"))
        self.history, self.config = self.path / "history.jsonl", self.path / "config.json"
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"run_dir {self.path} is a file; name a folder, which is made if needed")
        self.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process trains into this folder; the system ends it with the process."""
        try:
            lock = filelock.FileLock(self.path / ".lock").acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(
                f"another process is training into {self.path}: wait for it, end it, or choose another run_dir"
            ) from None
        with lock:
            yield

    def clear(self) -> None:
        """Removes the files of the run, and no others."""
        for file in (self.last, self.previous, self.best, self.history, self.config):
            file.unlink(missing_ok=True)
        for name in ("report.html", "curves.png", "history.csv"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("pictures", "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def write_config(self, config: Mapping[str, Any]) -> None:
        _replace(self.config, (json.dumps(config, indent=2) + "\n").encode())

    def write_history(self, records: Iterable[Mapping[str, Any]]) -> None:
        _replace(self.history, "".join(json.dumps(record) + "\n" for record in records).encode())

    def save_best(self, model: Any) -> None:
        with _temporary(self.best) as temporary:
            model.save(temporary)
            _to_disk(temporary)
            os.replace(temporary, self.best)

    def save_checkpoint(self, model: Any, state: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Makes `last.keras` of the model, a JSON-able state and a dict of arrays; the old one becomes previous."""
        with _temporary(self.last) as temporary:
            model.save(temporary)
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.writestr(_ARRAYS, buffer.getvalue())
                archive.writestr(_STATE, json.dumps(state))
            _to_disk(temporary)
            if self.last.exists():
                os.replace(self.last, self.previous)
            os.replace(temporary, self.last)

    def read_checkpoint(
        self, log: Callable[[str], Any], problem_of: Callable[[Any], str | None] = lambda state: None
    ) -> tuple[Path, Any, dict[str, np.ndarray]] | None:
        """The newest checkpoint that is whole, as (path, state, arrays), or None where there is none.

        Args:
            log: called with what is wrong with one that is passed over.
            problem_of: maps a state to what it has that no state was written with, None for nothing.

        Raises:
            ValueError: if there are checkpoints and all are damaged.
        """
        problems = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state, arrays = _read(path)
                if (problem := problem_of(state)) is not None:
                    raise ValueError(f"its {_STATE} has {problem}")
            except Exception as error:  # of damaged bytes zipfile and numpy raise nearly anything
                problems.append(f"{path} is damaged ({error or type(error).__name__})")
                continue
            for problem in problems:
                log(f"{problem}; going on from {path}, step {state['step']}, instead")
            return path, state, arrays
        if problems:
            raise ValueError(
                f"{'; '.join(problems)}. Nothing is left to go on from: restart=True (--restart) begins anew and "
                "overwrites, another run_dir leaves the files as they are"
            )
        return None


def _read(path):
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken:
            raise zipfile.BadZipFile(f"the checksum of its part {broken} is wrong")
        missing = sorted({"config.json", "model.weights.h5", _STATE, _ARRAYS} - set(archive.namelist()))
        if missing:
            raise zipfile.BadZipFile(f"it has no {', '.join(missing)}")
        state = from_json(archive.read(_STATE))
        with np.load(io.BytesIO(archive.read(_ARRAYS)), allow_pickle=False) as arrays:
            return state, dict(arrays)


def _to_disk(path):
    with open(path, "r+b") as file:  # Windows brings only what is open for writing to the disk
        os.fsync(file.fileno())


def _replace(path, data):
    with _temporary(path) as temporary:
        temporary.write_bytes(data)
        os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path):
    """A name beside `path`, with its suffix; what is left there at the end is removed.

    A folder that somebody removed while the run goes on is made again: what the process holds is all there is of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".unfinished-{path.name}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
