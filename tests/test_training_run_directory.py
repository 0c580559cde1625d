"""A training run's folder belongs to one process at a time, however that process ends."""

import subprocess
import sys

import pytest

from keras_deeplab.training.run_directory import RunDirectory

HOLD = """
import sys, time
from keras_deeplab.training.run_directory import RunDirectory
with RunDirectory(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_other_processes_out_and_ends_with_a_killed_one(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with (
            pytest.raises(ValueError, match=r"another process is training into .*run: wait for it, end it"),
            run.locked(),
        ):
            pass
        other.kill()
    with run.locked():
        pass


def test_a_lock_ends_with_its_context_and_holds_within_a_process(tmp_path):
    run = RunDirectory(tmp_path)
    with run.locked(), pytest.raises(ValueError, match="another process"), RunDirectory(tmp_path).locked():
        pass
    with pytest.raises(RuntimeError, match="training failed"), run.locked():
        raise RuntimeError("training failed")
    with run.locked():
        pass
