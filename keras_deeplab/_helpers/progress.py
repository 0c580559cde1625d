"""A progress line of tqdm on standard error: redrawn in place on a terminal, a line now and then in a log file."""

import sys
import time
from typing import TextIO

import tqdm


class Progress:
    """Shows how far a loop is: `with Progress(total, "evaluate") as progress: progress.update(done, "mIoU 0.71")`.

    Args:
        total: number of steps.
        title: what is being done.
        enabled: False shows nothing.
        start: number of steps that were done before, which the estimate of the time left leaves out.
        stream: where to write; standard error by default.
        log_every: least seconds between lines where the stream is not a terminal; of long work they come by share
            (`pause`).
    """

    def __init__(
        self,
        total: int,
        title: str,
        enabled: bool = True,
        start: int = 0,
        stream: TextIO | None = None,
        log_every: float = 10.0,
    ) -> None:
        stream = sys.stderr if stream is None else stream
        terminal = bool(getattr(stream, "isatty", lambda: False)())
        self.enabled, self.every = enabled, 0.1 if terminal else log_every
        self._log_every, self._start = None if terminal else log_every, start
        text = "{desc} {n_fmt}/{total_fmt}, {remaining} left{postfix}"
        self._bar = (_Bar if terminal else _Lines)(
            total=total,
            desc=title,
            initial=start,
            file=stream,
            disable=not enabled,
            bar_format=f"[{{bar:20}}] {text}" if terminal else text,
            ascii=" =",
            leave=False,
            dynamic_ncols=True,
            smoothing=0,
            # `due` decides when to draw; tqdm would draw the start at once without a delay
            mininterval=0,
            miniters=0,
            delay=1e-9,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def due(self) -> bool:
        """Whether enough time has passed for `update` to show something; values that cost can wait for it."""
        return self.enabled and time.time() - self._bar.last_print_t >= self.every

    def update(self, done: int, text: str = "") -> None:
        """Shows that `done` steps of all are done, at most every so often."""
        if self.due():
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - self._bar.n)
            if self._log_every is not None:
                share = (done - self._start) / max(1, self._bar.total - self._start)
                self.every = pause(self._log_every, time.time() - self._bar.start_t, share)

    def clear(self) -> None:
        """Removes the line, so that something else can be printed."""
        self._bar.clear()


class _Bar(tqdm.tqdm):
    monitor_interval = 0  # no thread of its own: whoever has work calls `update`


class _Lines(_Bar):
    """A bar as lines of a log, of which nothing is taken back."""

    def display(self, msg=None, pos=None):
        if msg is None:
            self.fp.write(f"{self}\n")
            self.fp.flush()

    def clear(self, nolock=False):
        pass


def pause(least: float, elapsed: float, share: float) -> float:
    """Seconds until a log's next line: a hundredth of the whole work, but from `least` to thirty times that.

    Args:
        least: seconds.
        elapsed: seconds of work so far.
        share: how much of the work that was, in 0..1.

    >>> pause(10, elapsed=60, share=0.5), pause(10, elapsed=3600, share=0.5), pause(10, elapsed=3600, share=0.001)
    (10, 72.0, 300)
    """
    return max(least, min(30 * least, 0.01 * elapsed / max(share, 1e-9)))


def duration(seconds: float) -> str:
    """Seconds as text: `duration(75)` is '01:15', `duration(3675)` is '1:01:15'."""
    return tqdm.tqdm.format_interval(round(seconds))
