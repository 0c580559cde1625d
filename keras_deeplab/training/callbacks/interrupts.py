"""Signals to end: the step that is running is finished, and what writes checkpoints writes one."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A training was ended by a signal.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal = int(number)


class Interrupts(keras.callbacks.Callback):
    """Ends `fit` after the running step on Ctrl-C, SIGTERM or SIGHUP, so that callbacks behind it save that step.

    Nothing is raised in the middle of a step, and `fit` returns as it does at its end: its iterator over the data,
    whose threads call Python, is gone before the interpreter ends, which would wait for them forever. A second Ctrl-C
    ends at once. It acts in the main thread alone, the only one that Python gives signals to.

    Args:
        gathered: where several hosts train, `Hosts.gathered`: what one of them received ends the same step of all, and
            no signal ends a validation, in which they wait for each other.

    Attributes:
        received: the number of the signal that came, or None.
    """

    def __init__(self, gathered: Callable[[int], list[int]] | None = None) -> None:
        super().__init__()
        self._gathered = gathered
        self.received: int | None = None
        # Before the first step of a process there is nothing to save, and tracing it may take long.
        self._at_once = True

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """A context in which the signals are caught; outside of it they do what they did before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        usual = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A context in which a signal raises `Interrupted` instead of waiting for a step."""
        if self._gathered is not None:
            yield
            return
        before, self._at_once = self._at_once, True
        try:
            if self.received is not None:
                raise self._error()
            yield
        finally:
            self._at_once = before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._at_once = False
        if self._gathered is not None:
            self.received = max(self._gathered(self.received or 0)) or None
        if self.received is not None:
            self.model.stop_training = True

    def _handle(self, number: int, frame: Any) -> None:
        again, self.received = self.received is not None, number
        if self._at_once or (again and number == signal.SIGINT):
            raise self._error()
        if not again:
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nstopping after this step; press Ctrl-C again not to wait\n")

    def _error(self) -> Interrupted:
        return Interrupted("stopped without a further checkpoint", self.received or signal.SIGINT)
