"""The drills of `benchmarks/drills.py`: what they look at is looked at, and one of them is played."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_deeplab._helpers.opencv import cv2

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drills are of Linux")


@pytest.fixture(scope="module")
def drills():
    spec = importlib.util.spec_from_file_location("drills", ROOT / "benchmarks" / "drills.py")
    sys.modules["drills"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["drills"]


def test_a_file_that_is_cut_short_is_noticed(drills, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9), np.uint8))
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "a.keras")
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "a.html").write_text("<html></html>\n")
    (tmp_path / "a.tflite").write_bytes(b"\0\0\0\0TFL3")
    for path in sorted(tmp_path.iterdir()):
        assert drills.damage_of(path) is None, path
        path.write_bytes(path.read_bytes()[:-5])
        assert f"half-written {path.name}" in drills.damage_of(path)


def test_another_weight_is_noticed(drills, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((2,))
        keras.Model(inputs, keras.layers.Dense(1, name="last")(inputs)).save(tmp_path / f"{name}.keras")
    a, b, c = (drills.content(tmp_path / f"{name}.keras") for name in "abc")
    assert a
    assert a == b != c


@pytest.mark.slow
def test_a_conversion_that_is_killed_leaves_nothing_half(drills):
    command = [sys.executable, str(ROOT / "benchmarks" / "drills.py"), "--only", "SIGKILL, convert"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "| SIGKILL, convert | 1 | 0 |" in result.stdout
    assert "1 drills, 0 failed" in result.stdout
