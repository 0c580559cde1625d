"""What several callbacks ask: whether an epoch was whole."""

from typing import Any

import keras


class Epochs(keras.callbacks.Callback):
    """A callback that knows how far the epoch came.

    Attributes:
        batches: how many batches of it are done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches = batch + 1

    @property
    def is_last_batch(self) -> bool:
        """Whether the batch that has just ended is the epoch's last; False where its length isn't known."""
        return self.batches == (self.params or {}).get("steps")

    @property
    def completed(self) -> bool:
        """At the end of an epoch, whether it ran to its end: it was not stopped in the middle."""
        steps = (self.params or {}).get("steps")
        return not self.model.stop_training if steps is None else self.batches >= steps
