"""`model.fit` by steps: from any step on, in epochs of a given length, the last and a resumed one perhaps shorter."""

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras


def fit(
    model: keras.Model,
    batches: Callable[[int], Any],
    *,
    steps: int,
    steps_per_epoch: int,
    start: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains a compiled model from step `start` to step `steps` by Keras's own `fit`.

    Keras begins an epoch anew where it goes on, and has epochs of one length. Here the epochs end at the same steps
    whatever `start` is, so `fit` runs once for the rest of the epoch that `start` lies in, once for all whole ones, and
    once for what is left. To the callbacks it is one training.

    Args:
        model: compiled `keras.Model`.
        batches: a step to the endless data set of the batches behind it, as `fit` takes it.
        steps: the number of the last step, counted from 1.
        steps_per_epoch: steps of an epoch.
        start: how many steps are done already.
        callbacks: as of `fit`.
    """
    listed = _Once(callbacks, model=model, add_history=True)
    epochs = -(-steps // steps_per_epoch)
    listed.begin()
    for first_epoch, next_epoch, length in _pieces(start, steps, steps_per_epoch):
        listed.set_params({"epochs": epochs, "steps": length, "verbose": 0})
        model.fit(
            batches(start),
            initial_epoch=first_epoch,
            epochs=next_epoch,
            steps_per_epoch=length,
            callbacks=listed,
            shuffle=False,
            verbose=0,
        )
        if model.stop_training:
            break
        start += length * (next_epoch - first_epoch)
    listed.end()
    # Keras leaves its iterator in a circle of references. Its threads call Python, which at its own end waits for them,
    # and they for it: so it goes now, and not whenever circles are looked for.
    gc.collect()


def _pieces(start: int, steps: int, every: int) -> Iterator[tuple[int, int, int]]:
    """(first epoch, the one behind the last, steps of each) of calls of `fit`.

    >>> list(_pieces(0, 300, 100)), list(_pieces(130, 450, 100))
    ([(0, 3, 100)], [(1, 2, 70), (2, 4, 100), (4, 5, 50)])
    """
    epoch, done = divmod(start, every)
    if done and start < steps:
        length = min(every - done, steps - start)
        yield epoch, epoch + 1, length
        start, epoch = start + length, epoch + 1
    whole, rest = divmod(steps - start, every)
    if whole > 0:
        yield epoch, epoch + whole, every
    if start < steps and rest:
        yield epoch + max(whole, 0), epoch + max(whole, 0) + 1, rest


class _Once(keras.callbacks.CallbackList):
    """A list of callbacks to which several calls of `fit` are one training."""

    def on_train_begin(self, logs: Any = None) -> None:
        pass

    def on_train_end(self, logs: Any = None) -> None:
        pass

    def begin(self) -> None:
        super().on_train_begin()

    def end(self) -> None:
        super().on_train_end()
