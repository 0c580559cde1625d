"""Which program runs a file: the one that is named, the first that is installed, or the fastest of all."""

import logging
import sys
import time

import numpy as np
import pytest

from keras_deeplab.inference import runtimes
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.runtimes import RUNTIMES, Runtime, runtime_of
from keras_deeplab.specs import ModelSpec


class Sleeps(Runtime):
    spec, sizes = ModelSpec(2), ((8, 9),)

    def __init__(self, program, seconds):
        self.program, self.seconds, self.seen = program, seconds, []

    def scores(self, images):
        self.seen.append(images.shape)
        time.sleep(self.seconds)
        return np.zeros((*images.shape[:3], 2), np.float32)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file that four programs run: one refuses it, one isn't installed, and of two the second is the faster."""

    def refuses(path, **options):
        raise ValueError("an operator is unknown")

    def is_missing(path, **options):
        raise ImportError("pip install missing")

    rows = {
        "refuses": refuses,
        "missing": is_missing,
        "slow": lambda path, **options: Sleeps("slow", 0.03),
        "quick": lambda path, **options: Sleeps("quick", 0.001),
    }
    monkeypatch.setitem(RUNTIMES, ".tflite", rows)
    monkeypatch.setitem(runtimes._PACKAGES, "missing", ("no_such_package_at_all",))
    path = tmp_path / "model.tflite"
    path.write_bytes(b"")
    return path


def test_the_fastest_is_found_by_running_the_file(file):
    predict = predictor(file, runtime="fastest")
    assert predict.program == "quick"
    # Tried at the size that it takes, and by turns.
    assert predict.runtime.seen == [(1, 8, 9, 3)] * 4


def test_where_one_is_left_nothing_is_tried(file):
    del RUNTIMES[".tflite"]["slow"]
    assert predictor(file, runtime="fastest").runtime.seen == []


def test_where_none_runs_it_the_reason_is_told(file):
    del RUNTIMES[".tflite"]["slow"], RUNTIMES[".tflite"]["quick"]
    with pytest.raises(ValueError, match="an operator is unknown"):
        predictor(file, runtime="fastest")
    del RUNTIMES[".tflite"]["refuses"]
    with pytest.raises(ImportError, match="pip install missing"):
        predictor(file, runtime="fastest")


def test_the_one_that_is_named_runs_it(file):
    assert predictor(file, runtime="slow").program == "slow"


def test_the_first_that_is_installed_runs_it_and_that_is_told(file, caplog):
    del RUNTIMES[".tflite"]["refuses"]
    with caplog.at_level(logging.INFO, "keras_deeplab"):
        assert predictor(file).program == "slow"
    assert caplog.messages == [f'{file} is run by slow; quick can run it too: runtime="fastest" tries all']


def test_a_program_that_is_not_installed_leaves_the_file_to_the_next(monkeypatch):
    pytest.importorskip("openvino")
    assert runtime_of("model.tflite") == "litert"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert runtime_of("model.onnx") == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert runtime_of("model.onnx") == "onnxruntime"  # which says what to install
