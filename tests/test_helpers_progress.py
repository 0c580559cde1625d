"""The progress line: in place on a terminal, lines in a log, nothing where it is not wanted."""

import io
import threading
import time

import pytest

from keras_deeplab._helpers.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_one_line_is_redrawn_on_a_terminal():
    stream = Terminal()
    with Progress(10, "work", stream=stream) as bar:
        bar.every = 0.0
        bar.update(5, "a long text")
        bar.update(10)
    shown = stream.getvalue()
    assert "\n" not in shown
    assert "[==========          ] work 5/10" in shown
    # Each line covers what stood there before, and the last one is wiped away.
    pieces = shown.split("\r")[1:]
    assert len(pieces[1]) == len(pieces[0])
    assert pieces[-2].strip() == ""
    assert pieces[-1] == ""


def test_a_terminal_is_clear_for_what_is_printed_between():
    stream = Terminal()
    with Progress(10, "work", stream=stream) as bar:
        bar.every = 0.0
        bar.update(5)
        width = len(stream.getvalue().strip("\r"))
        bar.clear()
        assert stream.getvalue().endswith(f"\r{' ' * width}\r")
        print("a line", file=stream)
        bar.update(6)
    assert "\ra line\n\r[============        ] work 6/10" in stream.getvalue()


def test_a_log_has_lines_and_nothing_that_moves_the_cursor():
    stream = io.StringIO()
    with Progress(4, "work", stream=stream, log_every=0.0) as bar:
        bar.update(1, "loss 2")
        bar.clear()
        bar.update(4)
    first, last, end = stream.getvalue().split("\n")
    assert first.startswith("work 1/4, ")
    assert first.endswith(" left, loss 2")
    assert last == "work 4/4, 00:00 left"
    assert end == ""
    assert "\r" not in stream.getvalue()


def test_nothing_is_shown_before_it_is_due_or_where_it_is_off():
    for stream, enabled in [(io.StringIO(), True), (Terminal(), False)]:
        with Progress(10, "work", enabled=enabled, stream=stream) as bar:
            assert not bar.due()
            bar.update(5)
            bar.clear()
        assert stream.getvalue() == ""


def test_the_time_left_is_told_by_the_steps_since_the_start(monkeypatch):
    stream = io.StringIO()
    now = time.time()
    with Progress(100, "train", start=80, stream=stream, log_every=0.0) as bar:
        monkeypatch.setattr(bar._bar, "_time", lambda: now + 100)
        bar.update(90)  # ten steps in 100 seconds, ten are left
    assert stream.getvalue() in ("train 90/100, 01:40 left\n", "train 90/100, 01:39 left\n")


def test_no_thread_is_started():
    before = threading.active_count()
    with Progress(10, "work", stream=Terminal()):
        assert threading.active_count() == before


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00"), (75, "01:15"), (59.6, "01:00"), (3675, "1:01:15")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_lines_of_a_log_grow_rare_in_long_work(monkeypatch):
    stream, now = io.StringIO(), [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    with Progress(4000, "work", stream=stream) as bar:
        monkeypatch.setattr(bar._bar, "_time", time.time)
        bar._bar.start_t = bar._bar.last_print_t = now[0]
        for done in range(1, 4001):
            now[0] += 4.5  # five hours
            bar.update(done)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("work 3/4000")  # 13.5 seconds
    assert 90 <= len(lines) <= 110
