"""TensorFlow without its start-up noise: what it found no GPU with, and what it was not compiled for.

Run as a file, this is the process that TensorFlow's standard error goes through meanwhile: see `quiet_tensorflow`.
"""

import contextlib
import os
import re
import subprocess
import sys

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# The two ways in which TensorFlow's libraries begin a line: absl's, and TensorFlow's own.
_BEGIN = rb"^(?:%b\d{4} [\d:.]+ +\d+ |\d{4}-\d\d-\d\d [\d:.]+: %b )\S+:\d+\] "
_NOISE = re.compile(
    rb"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|^To enable the following instructions: "
    rb"|"
    + _BEGIN.replace(b"%b", b"[IW]")
    + rb"|"
    + _BEGIN.replace(b"%b", b"E")
    # No driver for a GPU; and libraries of CUDA that register themselves twice, in every TensorFlow since 2.16.
    + rb".*(?:cuInit|Unable to register cu\w+ factory)"
)


def quiet_tensorflow() -> None:
    """Has TensorFlow say nothing but errors of its own when it is imported, now or later, by this process.

    For the command line, before anything imports TensorFlow; it imports nothing itself. A part of the noise is printed
    whatever the environment says, while TensorFlow loads and when it first looks for devices. So both happen with
    standard error going through a process that holds such lines back. It is a process, and no file to be read later,
    so that what TensorFlow says when it ends the whole program (on a processor that it wasn't compiled for) is seen.

    A user who sets TF_CPP_MIN_LOG_LEVEL to 0 or 1 sees everything.
    """
    if os.environ.setdefault(_LEVEL, "2") not in ("0", "1") and "tensorflow" not in sys.modules:
        from keras_deeplab._helpers.importing import around_import

        around_import("tensorflow", _quiet)


@contextlib.contextmanager
def _quiet():
    with _without_noise():
        yield
        # Where it fails it will fail again, when it is needed.
        with contextlib.suppress(Exception):
            sys.modules["tensorflow"].config.list_physical_devices()


@contextlib.contextmanager
def _without_noise():
    """A context in which standard error, of this process and all its libraries, is without the noise."""
    try:
        usual = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        # In a session of its own it outlives Ctrl-C, after which there may be more to tell.
        command = [sys.executable, "-I", "-S", __file__]
        with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
            sys.stderr.flush()
            os.dup2(process.stdin.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(usual, 2)
    finally:
        os.close(usual)


def _filter():
    for line in sys.stdin.buffer:
        if not _NOISE.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    _filter()
