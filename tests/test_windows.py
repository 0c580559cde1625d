"""What is written is written by Windows' rules too, which a test holds against this process: see `windows.py`."""

import os
import sys

import cv2
import keras
import numpy as np
import pytest
import windows
from tiny_backbone import tiny

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.cli import main
from keras_deeplab.inference.frames import VideoFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of open files")
SHAPES = ("background", "disc", "square", "triangle", "star", "ring")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder under Windows' rules."""
    monkeypatch.chdir(tmp_path)
    windows.hold(monkeypatch)
    monkeypatch.setattr("keras_deeplab.inference.runtimes.tflite._MAPPED", False)
    yield tmp_path
    assert not windows.impossible_names(tmp_path)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras_deeplab.DeepLabV3(tiny(), num_classes=6, classes=SHAPES, filters=8, head="image_pooling")


def test_the_rules_are_held(folder):
    with open("held", "wb"), pytest.raises(PermissionError):
        (folder / "held").unlink()
    with open("held", "rb") as file, pytest.raises(OSError, match="Bad file descriptor"):
        os.fsync(file.fileno())
    (folder / "held").write_bytes(bytes(8192))
    mapped = np.memmap("held", np.uint8, "r")
    with pytest.raises(PermissionError):
        (folder / "held").rename(folder / "other")
    del mapped
    (folder / "held").rename(folder / "free")
    for name in ("NUL", "aux.png", "a:b", "a?", "dot."):
        (folder / name).touch()
    assert sorted(windows.impossible_names(folder)) == ["NUL", "a:b", "a?", "aux.png", "dot."]
    for name in windows.impossible_names(folder):
        (folder / name).unlink()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_is_written_and_begins_anew(folder, model):
    shapes = {split: data.load("synthetic", split=split, size=33, num_examples=4) for split in ("train", "val")}
    options = {"validation": shapes["val"], "validation_every": 1, "batch_size": 2, "crop_size": 33, "progress": False}
    network = keras.models.clone_model(model)
    for more in ({"steps": 2}, {"steps": 1, "restart": True}):
        keras_deeplab.train(network, shapes["train"], "run", log=str, **options, **more)
    assert {"last.keras", "best.keras", "history.jsonl"} <= {path.name for path in (folder / "run").iterdir()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_models_are_written_read_and_replaced(folder, model, capsys):
    model.save("model.keras")
    for _ in range(2):
        assert main(["convert", "model.keras", "other.keras"]) == 0
        assert main(["convert", "model.keras", "other.weights.h5"]) == 0
        assert main(["convert", "other.weights.h5", "again.keras"]) == 0
        assert main(["export-saved-model", "model.keras", "served"]) == 0
    words = ["--input-size", "129", "--evaluate", "synthetic", "--limit", "2", "--rounds", "1"]
    assert main(["export-tflite", "model.keras", "model.tflite", *words]) == 0
    held = keras_deeplab.predictor("model.tflite")
    assert main(["export-tflite", "model.keras", "model.tflite", "--input-size", "129"]) == 0
    assert held.input_size == (129, 129)
    capsys.readouterr()
    words = ["--input-size", "65", "--evaluate", "synthetic", "--limit", "2"]
    assert main(["export-tflite", "model.keras", "model.tflite", *words]) == 1
    assert "WinError" not in capsys.readouterr().err
    assert not list(folder.glob(".*"))
    assert main(["publish", "model.keras", "preset"]) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_answers_are_written_and_replaced(folder, model):
    model.save("model.keras")
    image = np.random.default_rng(0).integers(0, 256, (250, 230, 3), np.uint8)
    cv2.imwrite("scene.png", image)
    video = VideoFile(folder / "street.mp4", (48, 64), 25.0)
    for _ in range(3):
        video.write(image[:48, :64])
    video.close()
    for _ in range(2):
        assert main(["predict", "model.keras", "scene.png", "--output-dir", "out", "--write", "labels,coco"]) == 0
        assert main(["tiles", "write", "model.keras", "scene.png", "--output", "tiles.png", "--tile", "112"]) == 0
        assert main(["video", "model.keras", "street.mp4", "--output", "tinted.mp4"]) == 0
    words = ["--limit", "2", "--w1", "5,6", "--sigma-alpha", "30", "--sigma-beta", "3", "--output", "crf.json"]
    assert main(["tune-crf", "model.keras", "synthetic", *words]) == 0
    assert main(["report", "model.keras", "synthetic", "--limit", "2", "--output", "page.html"]) == 0
