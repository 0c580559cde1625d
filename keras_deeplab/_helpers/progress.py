"""A progress line on standard error: redrawn in place on a terminal, a line now and then in a log file."""

import sys
import time


class Progress:
    """Shows how far a loop is: `with Progress(total, "evaluate") as progress: progress.update(done, "mIoU 0.71")`.

    Args:
        total: number of steps.
        title: what is being done.
        enabled: False shows nothing.
        start: number of steps that were done before, which the estimate of the time left leaves out.
        stream: where to write; standard error by default.
        log_every: seconds between lines where the stream is not a terminal.
    """

    def __init__(self, total, title, enabled=True, start=0, stream=None, log_every=30.0):
        self.total, self.title, self.enabled, self.start = total, title, enabled, start
        self.stream = sys.stderr if stream is None else stream
        self.terminal = bool(getattr(self.stream, "isatty", lambda: False)())
        self.every = 0.1 if self.terminal else log_every
        self.began = self.shown = time.monotonic()
        self.width = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clear()

    def due(self):
        """Whether enough time has passed for `update` to show something; values that cost can wait for it."""
        return self.enabled and time.monotonic() - self.shown >= self.every

    def update(self, done, text=""):
        """Shows that `done` steps of all are done, at most every so often."""
        if not self.due():
            return
        self.shown = time.monotonic()
        line = f"{self.title} {done}/{self.total}"
        if done > self.start:
            seconds = (self.shown - self.began) / (done - self.start) * (self.total - done)
            line += f", {duration(seconds)} left"
        line += f", {text}" if text else ""
        if self.terminal:
            filled = int(20 * done / max(1, self.total))
            line = f"[{'=' * filled}{' ' * (20 - filled)}] {line}"
            self.stream.write(f"\r{line:<{self.width}}")
            self.width = len(line)
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def clear(self):
        """Removes the line, so that something else can be printed."""
        if self.width:
            self.stream.write(f"\r{' ' * self.width}\r")
            self.stream.flush()
            self.width = 0


def duration(seconds):
    """Seconds as text: `duration(75)` is '1:15', `duration(3675)` is '1:01:15'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
