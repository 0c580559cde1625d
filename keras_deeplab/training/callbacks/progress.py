"""The progress line of a training."""

from typing import Any

import keras

from keras_deeplab._helpers.progress import Progress
from keras_deeplab.training.optimizers import scheduled_rate


class ProgressLine(keras.callbacks.Callback):
    """Shows the step, the running loss and score, and the learning rate.

    Args:
        steps: of the whole training.
        start: how many are done.
        enabled: False shows nothing.
    """

    def __init__(self, steps: int, start: int = 0, enabled: bool = True) -> None:
        super().__init__()
        self._progress = Progress(steps, "train", enabled=enabled, start=start)
        self._step = start

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self._progress.due():
            parts = [
                f"{title} {logs[name]:.4f}" for title, name in (("loss", "loss"), ("mIoU", "mean_iou")) if name in logs
            ]
            self._progress.update(self._step, ", ".join([*parts, *self._rate()]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._progress.clear()

    def on_train_end(self, logs: Any = None) -> None:
        self._progress.__exit__()

    def _rate(self) -> list[str]:
        rate = scheduled_rate(self.model.optimizer, self._step)
        return [] if rate is None else [f"learning rate {rate:.2g}"]
