"""Ends a training that no longer gets better."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_deeplab.reports.history import Record
from keras_deeplab.training.early_stopping import should_stop


class Stopping(keras.callbacks.Callback):
    """Ends `fit` at an epoch's end where `early_stopping.should_stop` says so of a history, such as `TrainingRun`'s.

    Args:
        history: a list of records to which another callback, before this one, adds.
        patience: validations without a better mean IoU; None never ends it.
        log: called with a line of text.
    """

    def __init__(self, history: Sequence[Record], patience: int | None, log: Callable[[str], None] = print) -> None:
        super().__init__()
        self.history, self.patience, self.log = history, patience, log

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if should_stop(self.history, self.patience):
            self.log(f"{self.patience} validations without a better mean IoU: the training ends here")
            self.model.stop_training = True
