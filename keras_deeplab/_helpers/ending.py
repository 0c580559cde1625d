"""A command that a signal ends: in a line, with its hidden files taken away, in a few seconds whatever it is doing."""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is none of Windows'
_GRACE = 4.0  # seconds
_SOON = 0.02
# Hidden paths of this process's own, and what removes each.
_unfinished: dict[Path, Callable[[Path], Any]] = {}
_finishing = threading.Event()


class Ending:
    """What ends a command: `signal` is the last signal that asked for it, None where none did."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.asked = False  # the exception has been raised

    @property
    def told(self) -> str:
        """How it was ended, for a message.

        >>> ending = Ending()
        >>> ending.told
        'interrupted'
        """
        asked = self.signal not in (None, signal.SIGINT)
        return f"ended by {signal.Signals(self.signal or 0).name}" if asked else "interrupted"

    @property
    def status(self) -> int:
        """The exit status, as shells have it: 128 and the signal's number.

        >>> Ending().status
        130
        """
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def ended_by_signals(name: str, grace: float = _GRACE, last: bool = True) -> Iterator[Ending]:
    """A context in which SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, so that blocks are left in order.

    A handler that somebody sets in the meantime, as training does, has its signals to itself.

    Args:
        name: what the line on stderr begins with, should it come to that.
        grace: seconds that a process has from the first signal on. Code of others may swallow the exception, stay in C
            for minutes, or leave a thread that is waited for: then it is ended from another thread, its unfinished
            files removed.
        last: whether the process ends with the context; one that goes on behind it isn't ended so.
    """
    ending = Ending()

    def asked(number: int, frame: Any) -> None:
        if ending.asked:
            if number == signal.SIGINT and last:  # somebody at the keyboard waits no longer
                _end_late(name, ending, 0.0)
            return  # blocks are being left, which nothing shall break into
        ending.asked, ending.signal = True, number
        if last and os.name != "posix":
            threading.Thread(target=_end_late, args=(name, ending, grace), daemon=True).start()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield ending  # where no handler can be set
        return
    numbers = [getattr(signal, each) for each in _NAMES if hasattr(signal, each)]
    # What the caller ignores, as nohup has it, stays ignored.
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, asked)
    with _again_if_swallowed(ending), _woken(before, asked, ending, name, grace) if last else contextlib.nullcontext():
        try:
            yield ending
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is asked:
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _again_if_swallowed(ending: Ending) -> Iterator[None]:
    """Sends a signal once more whose exception was raised where Python drops it: in a destructor, in a callback of the
    garbage collector (JAX has one). Otherwise the command would go on, with a traceback of it on the screen."""
    usual = sys.unraisablehook

    def told(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            usual(dropped)
            return
        number = getattr(dropped.exc_value, "signal", None) or ending.signal or signal.SIGINT
        ending.asked = False
        # Not from here, which is such a place as well.
        threading.Timer(_SOON, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = usual


@contextlib.contextmanager
def _woken(numbers: Any, asked: Any, ending: Ending, name: str, grace: float) -> Iterator[None]:
    """Has a thread told of signals by the system: the handler above runs only once the main thread leaves C code."""
    if os.name != "posix":
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        while number := os.read(reading, 1):
            if number[0] in numbers and signal.getsignal(number[0]) is asked:
                ending.signal = ending.signal or number[0]
                _end_late(name, ending, grace)
        os.close(reading)

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # which ends the thread, unless it waits to end the process


def _end_late(name: str, ending: Ending, grace: float) -> None:
    time.sleep(grace)
    if _finishing.is_set() and grace:
        return
    for path, remove in reversed(list(_unfinished.items())):
        with contextlib.suppress(OSError):
            remove(path)
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{name}: {ending.told}. What was not finished is removed.\n")
        sys.stderr.flush()
    os._exit(ending.status)


def finishing() -> None:
    """Lets the command take its time, though a signal asked for its end: it makes a whole result of what it has."""
    _finishing.set()


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_at_end(path: Path, remove: Callable[[Path], Any] = _remove) -> Path:
    """`path`, a hidden name that is this process's own: what lies there is removed should the process be ended.

    Args:
        remove: removes it, such as `Path.rmdir` a folder that stays unless it is empty; the last path comes first.
    """
    _unfinished[path] = remove
    return path


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """A context in which such a hidden file or folder may be there."""
    remove_at_end(path)
    try:
        yield
    finally:
        _unfinished.pop(path, None)
