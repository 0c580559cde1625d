"""Commands that a signal ends: their line, their exit status, and that no hidden file stays."""

import os
import signal
import subprocess
import sys
import time

import pytest

from keras_deeplab._helpers.files import new_folder, replacing
from keras_deeplab.cli import COMMANDS, main
from keras_deeplab.options import Options

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture(autouse=True)
def _caught():
    """Signals as a shell's foreground has them: in its background, and behind nohup, some are ignored, and stay so."""
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Writing:
    """A command that is ended while it writes a file and a folder."""

    HELP = "Writes."
    number = signal.SIGTERM

    class Arguments(Options):
        pass

    def run(self, arguments):
        with replacing("file.txt") as temporary, new_folder("folder") as folder:
            temporary.write_text("half")
            (folder / "part").write_text("half")
            os.kill(os.getpid(), self.number)
            time.sleep(10)
            raise AssertionError("the signal changed nothing")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_command_that_is_ended_says_so_and_leaves_nothing_half(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = Writing()
    command.number = number
    monkeypatch.setitem(COMMANDS, "writing", command)
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert main(["writing"]) == 128 + number
    told = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert capsys.readouterr().err == f"keras-deeplab writing: {told}.\n"
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("Unable to allocate 9.00 GiB"), True),
        (ResourceExhaustedError("OOM when allocating tensor with shape[16,513,513,304]"), True),
        (
            RuntimeError(
                "Cannot parse tensor from proto: dtype: DT_INT32 [Op:__inference_multi_step_on_iterator_1435]"
            ),
            True,
        ),
        (RuntimeError("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"), True),
        (RuntimeError("Resource temporarily unavailable"), True),
        (RuntimeError("can't start new thread"), True),
        (ResourceExhaustedError("/data/x; No space left on device"), False),
        (RuntimeError("something else"), False),
    ],
)
def test_memory_that_runs_out_is_told_with_what_takes_less(error, told, monkeypatch, capsys):
    from keras_deeplab.cli import predict

    gone = []

    class Fails:
        """Needs memory to give some back, as TensorFlow's clusters do."""

        def __del__(self):
            gone.append(self)
            raise RuntimeError("Resource temporarily unavailable")

    def run(arguments):
        if told:
            held = Fails()  # noqa: F841
        raise error

    monkeypatch.setattr(predict, "run", run)
    words = ["predict", "model.keras", "image.png"]
    if not told:
        with pytest.raises(type(error)):
            main(words)
        return
    assert main(words) == 1
    assert len(gone) == 1, "while nobody listens to what it says, and not at the end of the process"
    assert capsys.readouterr().err == (
        "keras-deeplab predict: error: there is not enough memory. Give a smaller --input-size. Images of any size go "
        "by keras-deeplab tiles.\n"
    )


def test_a_second_signal_breaks_into_nothing_that_is_being_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, left = Writing(), []

    def run(arguments):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            left.append("in order")

    command.run = run
    monkeypatch.setitem(COMMANDS, "writing", command)
    assert (main(["writing"]), left) == (128 + signal.SIGTERM, ["in order"])


BUSY = """
import hashlib, sys
from pathlib import Path
from keras_deeplab._helpers.ending import ended_by_signals
from keras_deeplab._helpers.ending import remove_at_end
from keras_deeplab._helpers.files import replacing, temporary_folder, unverified
for name in (".empty", ".kept"):
    place = remove_at_end(Path(name), Path.rmdir)
    place.mkdir()
    remove_at_end(place / "new").mkdir()
Path(".kept/old").write_text("the model that stood there")
temporaries = replacing("file.txt"), temporary_folder("copies", Path())
with ended_by_signals("busy", grace=0.3), temporaries[0] as temporary, temporaries[1] as folder:
    (folder / "copy").write_text("of what is read")
    temporary.write_text("half")
    unverified(Path("other.txt"), ".txt").write_text("half")
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 300_000_000)  # minutes in C, which no exception reaches
"""


def test_a_process_that_stays_in_c_is_ended_and_its_hidden_files_are_removed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # until it is in C
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert told == "busy: ended by SIGTERM. What was not finished is removed.\n"
    # Nothing of what was there before.
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [".kept", ".kept/old"]


DROPPED = """
import gc, os, signal, sys, time
from keras_deeplab._helpers.ending import ended_by_signals
struck = []
def strike(phase, facts):
    if not struck:
        struck.append(phase)
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        time.sleep(0.1)  # the exception comes here, and Python drops it
gc.callbacks.append(strike)
with ended_by_signals("dropped") as ending:
    try:
        gc.collect()
        for _ in range(300):
            time.sleep(0.01)
        print("went on")
    except KeyboardInterrupt:
        print(ending.told, ending.status)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_whose_exception_is_dropped_ends_the_command_all_the_same(name):
    done = subprocess.run([sys.executable, "-c", DROPPED, name], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == {"SIGTERM": "ended by SIGTERM 143\n", "SIGINT": "interrupted 130\n"}[name]
    assert done.returncode == 0


def test_a_process_that_goes_on_behind_a_command_is_left_alone():
    code = """
import os, signal, time
from keras_deeplab._helpers.ending import ended_by_signals
try:
    with ended_by_signals("x", grace=0.1, last=False):
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    time.sleep(0.6)
print("on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")


def test_a_command_that_makes_a_result_of_what_it_has_takes_its_time():
    code = """
import os, signal, time
from keras_deeplab._helpers.ending import ended_by_signals, finishing
with ended_by_signals("x", grace=0.1) as ending:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        finishing()
        time.sleep(0.6)
        print("whole", ending.status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "whole 143\n", "")


def test_signals_that_are_ignored_stay_so_and_others_handlers_have_theirs_to_themselves(tmp_path):
    code = """
import os, signal, time
from keras_deeplab._helpers.ending import ended_by_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
seen = []
with ended_by_signals("x", grace=0.1) as ending:
    os.kill(os.getpid(), signal.SIGHUP)
    signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.6)
print(seen, ending.signal)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['mine'] None\n", "")
