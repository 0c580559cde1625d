"""Exported files whose labels are made row by row, so that the scores of all pixels are never in memory."""

import keras
import numpy as np
import pytest

from keras_deeplab import layers
from keras_deeplab.export import onnx
from keras_deeplab.export.onnx import export_onnx
from keras_deeplab.export.tflite import conversion, export_tflite
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.layers import argmax

SIZE, CLASSES = 33, 6


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(CLASSES, 3, 2, padding="same")(x)
    return keras.Model(images, layers.ResizeBilinear()([x, images]))


@pytest.fixture(autouse=True)
def two_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(argmax, "_AT_ONCE", 2 * 4 * SIZE * CLASSES)


def agree(path, model, **options):
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    labels, expected = predictor(path, num_threads=1, **options)(images), predictor(model)(images)
    assert len(np.unique(expected)) > 2
    assert (labels == expected).mean() > 0.999


def test_onnx_files_of_one_size_and_many_classes(model, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    assert export_onnx(model, tmp_path / "few.onnx", input_size=SIZE).operators["ArgMax"] == 1
    monkeypatch.setattr(onnx, "_WORTH_SLABS", 0)
    file = export_onnx(model, tmp_path / "model.onnx", input_size=SIZE)
    assert file.operators["ArgMax"] == 4
    agree(file.path, model)
    # At any size nothing tells where rows lie on rows.
    assert export_onnx(model, tmp_path / "any.onnx").operators["ArgMax"] == 1


def test_tflite_files_of_many_classes(model, tmp_path, monkeypatch):
    assert export_tflite(model, tmp_path / "few.tflite", input_size=SIZE).operators["ARG_MAX"] == 1
    monkeypatch.setattr(conversion, "_WORTH_SLABS", 0)
    for precision in ("float32", "float16"):
        file = export_tflite(model, tmp_path / "many.tflite", input_size=SIZE, precision=precision)
        assert file.operators["ARG_MAX"] == 4
        agree(file.path, model)
    # Logits are asked for as a whole, and 34 rows don't lie on 9.
    assert "ARG_MAX" not in export_tflite(model, tmp_path / "a.tflite", input_size=SIZE, output="logits").operators
    assert export_tflite(model, tmp_path / "b.tflite", input_size=SIZE + 1).operators["ARG_MAX"] == 1
