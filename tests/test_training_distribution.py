"""Training on several devices, in processes of their own: a backend has several CPUs from its start or never."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_deeplab.training.distribution import distributed

PROGRAM = Path(__file__).with_name("distributed_training.py")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one_with_the_same_batch(backend):
    if backend == "jax":
        pytest.importorskip("jax", reason="needs JAX")
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), *sys.path]),
    }
    process = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["devices"] == 2
    assert found["weights"] < 1e-5
    assert found["losses"] < 1e-5
    assert found["scores"] < 1e-3
    assert found["synchronized"] == 0
    assert "batch_size must be a multiple of the number of devices, 2; received 3" in found["refused"]


def test_more_devices_than_there_are_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="99 devices were asked for, and there "), distributed(99):
        pass
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with (
        pytest.raises(ValueError, match="hosts=True needs the environment variable TF_CONFIG"),
        distributed(hosts=True),
    ):
        pass
