"""ONNX files give the model's labels at every size, in ONNX Runtime and in OpenVINO."""

import sys

import keras
import numpy as np
import pytest
from export_models import NUM_CLASSES, photograph, small_model

from keras_deeplab import data, layers
from keras_deeplab.export import compare
from keras_deeplab.export.onnx import export_compared, export_onnx
from keras_deeplab.inference.predictor import predictor

SIZES = [(65, 81), (64, 64), (33, 130)]


def needs(*packages):
    for package in packages:
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    needs("tf2onnx")
    names = ["none", "road", "car", "tree", "sky"]
    colours = np.arange(15, dtype=np.uint8).reshape(5, 3)
    target = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return export_onnx(model, target, classes=names, palette=colours).path


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_labels_are_the_models_at_any_size(runtime, path, model):
    needs(runtime)
    segment, expected = predictor(path, runtime=runtime, num_threads=1), predictor(model)
    assert segment.input_size is None
    for seed, size in enumerate(SIZES):
        pictures = np.stack([photograph(*size, seed), photograph(*size, seed + 10)])
        labels = segment(pictures)
        assert labels.dtype == np.uint8
        assert len(np.unique(labels)) >= 3
        assert np.mean(labels == expected(pictures)) >= 0.9999


@pytest.mark.slow
def test_dilated_convolutions_are_one_operator_each(path):
    import onnx

    nodes = onnx.load(path).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("Conv") == 8
    assert not {"SpaceToDepth", "Pad", "PreventGradient"} & set(kinds)
    dilated = [
        {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        for node in nodes
        if any(entry.name == "dilations" and set(entry.ints) != {1} for entry in node.attribute)
    ]
    assert sorted((entry["dilations"], entry["pads"]) for entry in dilated) == [([2, 2], [2] * 4), ([3, 3], [3] * 4)]


@pytest.mark.slow
def test_the_file_tells_its_classes_and_colours(path):
    needs("onnxruntime")
    segment = predictor(path)
    assert segment.num_labels == NUM_CLASSES
    assert segment.spec.labels == ("none", "road", "car", "tree", "sky")
    assert segment.spec.classes.colors[-1] == (12, 13, 14)


@pytest.mark.slow
def test_a_fixed_size_and_bytes(model, tmp_path):
    needs("tf2onnx", "onnxruntime")
    written = export_onnx(model, tmp_path / "model.onnx", input_size=(65, 81), input_type="uint8")
    assert written.input_size == (65, 81)
    assert written.bytes == written.path.stat().st_size
    assert written.operators["Conv"] == 8
    segment = predictor(written.path)
    picture = photograph(65, 81)
    assert np.mean(segment(picture) == predictor(model)(picture)) >= 0.9999
    with pytest.raises(ValueError, match=r"takes no other size"):
        segment(photograph(66, 81))


@pytest.mark.slow
@pytest.mark.parametrize("align_corners", [True, False])
def test_logits_at_the_stride_of_the_head_leave_the_resize_to_the_caller(align_corners, tmp_path):
    needs("tf2onnx", "onnxruntime")
    coarse = small_model(upsample=False)
    resize = layers.ResizeBilinear(align_corners, dtype="float32")
    model = keras.Model(coarse.inputs[0], resize([coarse.outputs[0], coarse.inputs[0]]))
    written = export_onnx(model, tmp_path / "model.onnx", output="logits", upsample=False)
    assert "ArgMax" not in written.operators
    picture = photograph(65, 81, 5)
    assert np.mean(predictor(written.path)(picture) == predictor(model)(picture)) >= 0.9999


@pytest.mark.slow
def test_probabilities_add_up_to_one(model, tmp_path):
    needs("tf2onnx", "onnxruntime")
    import onnxruntime

    path = export_onnx(model, tmp_path / "model.onnx", output="probabilities").path
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    picture = photograph(65, 81).astype(np.float32)[None]
    (found,) = session.run(["probabilities"], {"images": picture})
    np.testing.assert_allclose(found, keras.ops.softmax(model(picture), axis=-1), atol=1e-4)


@pytest.mark.slow
def test_the_comparison_keeps_no_bad_file(model, tmp_path, monkeypatch):
    needs("tf2onnx", "onnxruntime")
    monkeypatch.setattr(compare, "peak_memory", lambda file, num_threads, input_size: 5_000_000)
    inputs = keras.Input((None, None, 3))
    source = data.load("synthetic", split="val", num_examples=2, size=(60, 70))
    six = keras.Model(inputs, keras.layers.Conv2D(6, 1)(model(inputs)))
    options = {"rounds": 1, "num_threads": 1, "progress": False}
    file, (row,) = export_compared(six, tmp_path / "model.onnx", source, max_miou_drop=0.001, **options)
    assert file.path == tmp_path / "model.onnx"
    assert row.name == "ONNX, onnxruntime"
    assert row.verification.equal_labels >= 0.9999
    assert row.milliseconds > 0
    assert row.memory == 5_000_000
    before = file.path.read_bytes()
    file, _ = export_compared(six, tmp_path / "model.onnx", source, max_miou_drop=-1, **options)
    assert file.path == tmp_path / "model.rejected.onnx"
    assert (tmp_path / "model.onnx").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_operators_that_cannot_be_converted_are_named(tmp_path):
    needs("tf2onnx")

    @keras.saving.register_keras_serializable("tests")
    def odd(x):
        import tensorflow as tf

        return tf.math.lgamma(x)

    inputs = keras.Input((None, None, 3))
    x = keras.layers.Lambda(odd, output_shape=lambda shape: shape)(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(x))
    with pytest.raises(ValueError, match=r"tf2onnx can't convert the operators Lgamma: no file was written"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "masks"}, r"output must be one of labels, logits, probabilities; received 'masks'"),
        ({"input_type": "int8"}, r"input_type must be one of float32, uint8"),
        ({"upsample": False}, r"labels can't be enlarged well"),
        ({"input_size": (65, 0)}, r"input_size must be an int or \(height, width\)"),
        ({"classes": ["a"]}, r"classes must be 5 names"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_onnx(model, tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install tf2onnx"):
        export_onnx(model, tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    for runtime in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, runtime, None)
        with pytest.raises(ImportError, match=rf"needs a package that isn't installed: pip install {runtime}"):
            predictor(tmp_path / "model.onnx", runtime=runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_files_that_are_none_are_named(runtime, tmp_path):
    needs(runtime)
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model.onnx is not an? .*file that .*run"):
        predictor(tmp_path / "model.onnx", runtime=runtime)


def test_runtimes_that_do_not_fit_are_refused(model, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a .onnx file is run by one of onnxruntime, openvino; received 'litert'"):
        predictor(tmp_path / "model.onnx", runtime="litert")
    with pytest.raises(ValueError, match=r"runtime can't be chosen for a keras.Model"):
        predictor(model, runtime="openvino")
    with pytest.raises(ValueError, match=r"input_range can't be chosen for an ONNX file"):
        predictor(tmp_path / "model.onnx", input_range=(-1, 1))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone.onnx"):
        predictor(tmp_path / "gone.onnx")
