"""The page of a training, kept up to date while it goes on."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_deeplab.data.source import Source
from keras_deeplab.reports.history import Record, read_run, recorded
from keras_deeplab.reports.run import save_pictures, write_report
from keras_deeplab.training.callbacks.showing import Panels, with_class_scores
from keras_deeplab.training.run_directory import RunDirectory

_SHARE = 0.02  # of a training's time that goes into its page


class RunReport(keras.callbacks.Callback):
    """Writes `report.html`, `curves.png` and `history.csv` of a run's folder whenever its history has grown.

    It stands behind what writes the history, such as `TrainingRun`. Where nothing does, `keep_history` makes a record
    of each epoch's logs, of a `model.fit` of one's own:

        model.compile("adam", loss, metrics=[keras_deeplab.metrics.MeanIoU(3)])
        model.fit(batches, validation_data=others, callbacks=[RunReport("runs/a", source, keep_history=True)])

    A metric `MeanIoU` with validation data, or the callback `Validation` before this one, gives the scores of each
    class. The page takes at most about 2 % of the training's time, and is written at its end in any case. An error
    here, of a full disk say, is told once and doesn't end the training.

    Args:
        run_dir: the folder; made where it is kept here.
        source: of images to show, truth beside prediction, and of the classes' names; None for no images.
        pictures: how many images.
        predict: function from an image uint8 (H, W, channels) to labels (H, W); None for the model's own.
        keep_history: whether the history is written here. It begins anew with each `fit`.
        log: called with a line of text where something goes wrong.
    """

    def __init__(
        self,
        run_dir: Any,
        source: Source | None = None,
        *,
        pictures: int = 4,
        predict: Callable[[np.ndarray], np.ndarray] | None = None,
        keep_history: bool = False,
        log: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        self.run, self.source, self.keep_history, self.log = RunDirectory(run_dir), source, keep_history, log
        self.panels = Panels(source, pictures, predict) if source is not None and pictures else None
        self._records: list[Record] = []
        self._seen: Any = None
        self._told = False
        self._began = self._ended = time.monotonic()
        self._took = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._began, self._records = time.monotonic(), []
        if self.keep_history:
            told = {} if self.source is None else {"source": self.source.name, "classes": list(self.source.classes)}
            self.run.write_config(told)
            self.run.write_history([])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.keep_history:
            self._guarded(lambda: self._keep(logs or {}))
        self.update()

    def on_train_end(self, logs: Any = None) -> None:
        self.update(last=True)

    def update(self, last: bool = False) -> None:
        """Writes the files anew where the history is another than the last time and enough time has passed.

        Args:
            last: not to wait for that.
        """
        if not last and time.monotonic() - self._ended < self._took / _SHARE:
            return
        began = time.monotonic()
        self._guarded(self._write)
        self._ended = time.monotonic()
        self._took = self._ended - began

    def _write(self) -> None:
        if not self.run.history.exists():
            return
        told = self.run.history.stat()
        # Whoever replaces the file within the clock's tick makes another one.
        seen = told.st_mtime_ns, told.st_ino, told.st_size
        if seen == self._seen:
            return
        run = read_run(self.run.path)
        if run.records:
            if self.panels is not None and "validation_mean_iou" in run.records[-1]:
                step = run.records[-1]["step"]
                drawn = self.panels.drawn(self.model)
                save_pictures(run.path, [(picture, f"{name}: step {step}") for picture, name in drawn])
            write_report(run.path)
        self._seen = seen

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if not self._told:
                self._told = True
                self.log(f"the page of the run can't be written, and the training goes on without it: {error}")

    def _keep(self, logs: dict[str, Any]) -> None:
        optimizer = self.model.optimizer
        record = {
            "step": int(optimizer.iterations),
            "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            **recorded(with_class_scores(self.model, logs)),
            "seconds": round(time.monotonic() - self._began, 1),
        }
        self._records.append(record)
        self.run.write_history(self._records)
