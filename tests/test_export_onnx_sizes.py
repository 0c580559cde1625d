"""An ONNX file runs at every size, holds its constants, names its free sides, and is what its model is."""

import keras
import numpy as np
import pytest
from randomise import randomise
from tiny_backbone import tiny_backbone  # noqa: F401

import keras_deeplab
from keras_deeplab import layers
from keras_deeplab.export import graph, onnx

pytest.importorskip("tf2onnx")
pytest.importorskip("onnxruntime")

# Odd and even, square or not.
SIZES = [(33 + 5 * index, 120 - 3 * index) for index in range(20)] + [(40 + 3 * index,) * 2 for index in range(20)]


@pytest.fixture(scope="module")
def decoder(tiny_backbone):  # noqa: F811
    """A v3+, whose decoder resizes by a factor that no size divides."""
    return randomise(keras_deeplab.DeepLabV3Plus(tiny_backbone, num_classes=3, filters=8))


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def assert_equal(run, model, *shape, tolerance=1e-5):
    images = np.random.default_rng(sum(shape)).uniform(0, 255, shape).astype("float32")
    expected = model(images).numpy()
    (found,) = run.run(None, {"images": images})
    assert found.shape == expected.shape
    assert np.max(np.abs(found - expected)) <= tolerance * np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [97, (225, 321)])
def test_a_resize_is_exact_where_its_scale_is_not(size, decoder, tmp_path):
    # 57 / 15 in float32, times 15, is less than 57.
    written = onnx.export_onnx(decoder, tmp_path / "model.onnx", input_size=size, output="logits")
    height, width = written.input_size
    assert_equal(session(written.path), decoder, 2, height, width, 3)
    assert written.difference <= 1e-5


@pytest.mark.slow
def test_forty_sizes(decoder, tmp_path):
    assert len(set(SIZES)) == 40
    written = onnx.export_onnx(decoder, tmp_path / "model.onnx", output="logits")
    run = session(written.path)
    assert [(entry.name, entry.shape) for entry in run.get_inputs()] == [("images", ["batch", "height", "width", 3])]
    assert [entry.shape for entry in run.get_outputs()] == [["batch", "height", "width", 3]]
    for index, size in enumerate(SIZES):
        assert_equal(run, decoder, 1 + index % 2, *size, 3)


@pytest.mark.slow
def test_constants_lie_in_the_file(tmp_path):
    # Keras's Normalization keeps mean and variance as tensors, not as variables: EfficientNet begins with one.
    images = keras.Input((None, None, 3))
    x = keras.layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[50.0, 60.0, 70.0])(images)
    model = keras.Model(images, keras.layers.Conv2D(3, 3, 2, "same")(x))
    written = onnx.export_onnx(model, tmp_path / "model.onnx", output="logits", upsample=False)
    run = session(written.path)
    assert [entry.name for entry in run.get_inputs()] == ["images"]
    assert [entry.shape for entry in run.get_outputs()] == [["batch", "rows", "columns", 3]]
    assert_equal(run, model, 2, 33, 40, 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (33, 40)])
def test_what_convnext_and_resnext_are_made_of(size, tmp_path):
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 4, 4)(images)
    y = keras.layers.Conv2D(8, 7, padding="same", groups=8)(x)
    y = keras.layers.Dense(16, activation=keras.activations.gelu)(keras.layers.LayerNormalization(epsilon=1e-6)(y))
    x = x + keras.layers.Dense(8)(y)
    x = keras.layers.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2, activation="relu")(x)
    x = layers.DilatedConv2D(8, 3, padding="same", groups=4, dilation_rate=3)(x)
    x = keras.layers.Conv2D(4, 3, 2, padding="same", groups=2)(x)
    model = randomise(keras.Model(images, x))
    written = onnx.export_onnx(model, tmp_path / "model.onnx", input_size=size, output="logits", upsample=False)
    assert written.operators["Conv"] == 5
    assert_equal(session(written.path), model, 1, *(size or (45, 52)), 3)


@pytest.fixture
def earlier(tmp_path):
    """A file that stands where another is to be written."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"earlier")
    return path


@pytest.mark.slow
def test_a_file_that_is_something_else_than_its_model_gets_no_name(decoder, earlier, monkeypatch):
    wrong = graph.output_of
    monkeypatch.setattr(graph, "output_of", lambda logits, spec, output: wrong(logits * 1.01, spec, output))
    with pytest.raises(ValueError, match=r"something else than the model 'deeplab.*differs by 0.\d+ of the range"):
        onnx.export_onnx(decoder, earlier, output="logits")
    assert [path.read_bytes() for path in earlier.parent.iterdir()] == [b"earlier"]


@pytest.mark.slow
def test_a_file_that_does_not_run_gets_no_name(earlier, monkeypatch):
    # ONNX Runtime takes no dilated convolution that leaves its pads to it.
    monkeypatch.setattr(onnx, "_write_out_pads", lambda node, helper: None)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, layers.DilatedConv2D(3, 3, padding="same", dilation_rate=2)(images))
    with pytest.raises(ValueError, match=r"the converted file can't be (run on images of 2x97x129x3|loaded): .*Dilat"):
        onnx.export_onnx(model, earlier)
    assert [path.read_bytes() for path in earlier.parent.iterdir()] == [b"earlier"]
