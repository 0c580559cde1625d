"""Training on two hosts that are two processes of this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_training_trainer import tiny

from keras_deeplab import data
from keras_deeplab.cli.train import Arguments
from keras_deeplab.data import pipeline
from keras_deeplab.options import OptionError
from keras_deeplab.training.hosts import Hosts

PROGRAM = Path(__file__).with_name("hosts_training.py")
STEPS = 40


def start(backend, folder, port, index, **more):
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Compiling is what takes JAX its time.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "PYTHONPATH": os.pathsep.join([str(PROGRAM.parents[1]), *sys.path]),
    }
    command = [sys.executable, PROGRAM, folder, str(STEPS), str(port), str(index)]
    folder.mkdir(exist_ok=True)
    with open(folder / f"told{index}.txt", "w") as told:
        return subprocess.Popen(command, env=environment | more, stdout=told, stderr=told)


def ended(folder, *processes):
    statuses = [process.wait(240) for process in processes]
    return statuses, [(folder / f"told{index}.txt").read_text() for index in range(len(processes))]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_hosts_train_as_one_and_go_on_after_one_got_a_signal(backend, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax", reason="needs JAX")
    alone = start(backend, tmp_path / "one", 0, "alone")
    folder, port = tmp_path / "two", free_port()
    hosts = [start(backend, folder, port, index) for index in (0, 1)]
    while not (folder / "run" / "last.keras").exists() and hosts[0].poll() is None:
        time.sleep(0.01)
    hosts[1].send_signal(signal.SIGTERM)
    statuses, told = ended(folder, *hosts)
    assert 0 not in statuses, told
    stopped = [text.rpartition("stopped at step ")[2].partition(",")[0] for text in told]
    assert stopped[0] == stopped[1], told
    assert stopped[0].endswith(f" of {STEPS}"), told
    port = free_port()
    statuses, told = ended(folder, *[start(backend, folder, port, index) for index in (0, 1)])
    assert statuses == [0, 0], told
    assert alone.wait(240) == 0, (tmp_path / "one" / "toldalone.txt").read_text()

    expected = np.load(tmp_path / "one" / "alone.npz")
    for index in (0, 1):
        found = np.load(folder / f"{index}.npz")
        assert found["devices"] == 2
        assert (found["told"] > 0) == (index == 0)
        for name in (name for name in expected if name.startswith("arr_")):
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
        assert abs(found["loss"] - expected["loss"]) < 1e-5
        assert abs(found["score"] - expected["score"]) < 1e-3


@pytest.mark.slow
def test_hosts_with_other_settings_both_refuse(tmp_path):
    pytest.importorskip("jax", reason="needs JAX")
    port = free_port()
    hosts = [start("jax", tmp_path, port, index, RATE=rate) for index, rate in ((0, "0.05"), (1, "0.06"))]
    statuses, told = ended(tmp_path, *hosts)
    assert 0 not in statuses
    for index, text in enumerate(told):
        assert "settings, model or data differ between hosts: 1 of 0 to 1 have others than host 0" in text
        assert f"here (host {index})" in text
    assert not (tmp_path / "run").exists()


def test_parts_of_a_batch_are_the_batch():
    source = data.load("synthetic", size=32, num_examples=7)
    options = {"batch_size": 6, "crop_size": 24, "seed": 5, "start_step": 2, "brightness": 0.2}
    whole = list(pipeline.training(source, **options).take(3).as_numpy_iterator())
    parts = [list(pipeline.training(source, **options, part=(n, 3)).take(3).as_numpy_iterator()) for n in range(3)]
    for step, (images, labels) in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[step][0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[step][1] for part in parts]), labels)


def test_parts_that_do_not_fit_the_batch_are_refused():
    source = data.load("synthetic", size=32, num_examples=4)
    for part in ((0, 4), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="of batch_size=6: it is"):
            pipeline.training(source, batch_size=6, crop_size=24, part=part)
    with pytest.raises(ValueError, match="batch_size=2 in 2 parts has none"):
        pipeline.training(source, batch_size=2, crop_size=24, part=(0, 2), class_mix=0.5)


def test_one_host_agrees_with_itself():
    hosts = Hosts(tiny())
    assert (hosts.index, hosts.count, hosts.first, hosts.several) == (0, 1, True, False)
    assert hosts.gathered(7) == [7]
    hosts.agree({"steps": 3}, "settings")
    with pytest.raises(OSError, match="full"):
        hosts.all_managed(OSError("full"), "write")


def test_devices_of_one_host_are_not_chosen_among_several():
    with pytest.raises(OptionError, match="devices"):
        Arguments.of(data="synthetic", run_dir="run", hosts=True, devices=2, settings={"steps": 3})
