"""Files for phones and accelerators: what each target's file is, what is refused, and what MediaPipe Tasks reads."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from export_models import photograph, small_model

from keras_deeplab.export.targets import TARGETS, settled
from keras_deeplab.export.tflite import export_precisions, export_tflite
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.runtimes.tflite import interpreter
from keras_deeplab.metadata import mediapipe
from keras_deeplab.metadata.tflite import describe, read_spec
from keras_deeplab.specs import FileSpec, ModelSpec

SIZE = (33, 49)
NAMES = ["background", "road", "car", "sky", "tree"]
PICTURES = [photograph(*SIZE, seed) for seed in range(3)]
READER = Path(__file__).resolve().parents[1] / "benchmarks" / "mediapipe_reader.py"

# target -> (precision, output, type of the images, of the output)
FILES = {
    "mediapipe": ("float16", "logits", "float32", "float32"),
    "android": ("float16", "labels", "uint8", "uint8"),
    "ios": ("float16", "labels", "uint8", "uint8"),
    "edgetpu": ("int8", "logits", "uint8", "int8"),
    "gpu": ("float16", "logits", "float32", "float32"),
}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_file_is_what_its_target_takes(target, model, tmp_path):
    options = {"calibration": PICTURES} if target == "edgetpu" else {}
    file = export_tflite(model, tmp_path / "m.tflite", target=target, input_size=SIZE, classes=NAMES, **options)
    loaded = interpreter(file.path)
    types = [loaded.get_input_details()[0]["dtype"].__name__, loaded.get_output_details()[0]["dtype"].__name__]
    record = read_spec(file.path)
    assert (file.precision, record.output, *types) == FILES[target]
    assert record.model.classes.names == tuple(NAMES)
    assert record.upsampled == (target != "edgetpu")
    assert (mediapipe.misread(record) is None) == (target in ("mediapipe", "gpu"))
    if TARGETS[target].operators is not None:
        assert file.operators.keys() <= TARGETS[target].operators
    expected = np.asarray(model(PICTURES[0][None].astype("float32")))[0].argmax(-1)
    assert np.mean(predictor(file.path)(PICTURES[0]) == expected) > (0.9 if target == "edgetpu" else 0.99)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "mediapip"}, "Unknown target 'mediapip': did you mean 'mediapipe'"),
        ({"target": "mediapipe", "output": "labels"}, "MediaPipe Tasks takes output 'logits' or 'probabilities'; rec"),
        ({"target": "mediapipe", "upsample": False}, "MediaPipe Tasks takes upsample True; received False"),
        ({"target": "mediapipe", "input_size": "dynamic"}, "takes files of one size of images; received dynamic"),
        ({"target": "edgetpu", "input_size": [33, 65]}, "the Edge TPU takes files of one size of images; received 33x"),
        ({"target": "edgetpu", "precision": "float16"}, "the Edge TPU takes precision 'int8'; received 'float16'"),
        ({"target": "edgetpu"}, "int8 needs images to find the ranges"),
        ({"target": "gpu", "output": "labels"}, "LiteRT's GPU delegate has no ARG_MAX, and labels come from one"),
        ({"target": "edgetpu", "output": "labels"}, "the Edge TPU has no ARG_MAX"),
        ({"target": "ios", "precision": "int8", "input_type": "int8"}, "iOS takes input_type 'uint8' or 'float32'; re"),
    ],
)
def test_what_a_target_does_not_take_is_refused(options, message, model, tmp_path):
    options = {"input_size": SIZE, "calibration": PICTURES if options.get("precision") == "int8" else None, **options}
    if options["target"] == "edgetpu" and isinstance(options["input_size"], list):
        options["calibration"] = PICTURES
    with pytest.raises(ValueError, match=message):
        export_tflite(model, tmp_path / "m.tflite", **options)
    assert not list(tmp_path.iterdir())


def test_operators_that_a_target_lacks_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"LiteRT's GPU delegate has no GELU \(1\), which the file would have"):
        export_tflite(
            small_model(extra=keras.layers.Activation("gelu")), tmp_path / "m.tflite", target="gpu", input_size=SIZE
        )
    assert not list(tmp_path.iterdir())
    record = FileSpec(ModelSpec(3), "logits", True, (SIZE,), "int8")
    with pytest.raises(ValueError, match=r"the Edge TPU has no ADD \(2\) in floating point"):
        TARGETS["edgetpu"].check_file(record, {"ADD": 3, "CONV_2D": 2}, ("ADD", "ADD"))
    with pytest.raises(ValueError, match=r"LiteRT on Android has no CUSTOM \(1\)"):
        TARGETS["android"].check_file(record, {"ADD": 3, "CUSTOM": 1}, ())


def test_only_what_is_left_out_is_the_targets():
    given = {"precision": None, "output": None, "upsample": None, "input_type": None, "output_type": None}
    assert settled(None, **given) == {**given, "precision": "float32", "output": "labels", "upsample": True}
    asked = {**given, "precision": "int8", "input_type": "uint8"}
    found = settled("mediapipe", **asked)
    assert found == {**asked, "output": "logits", "upsample": True, "output_type": "float32"}


@pytest.mark.parametrize(
    ("changes", "model", "reason"),
    [
        ({}, {}, None),
        ({"output": "probabilities"}, {"activation": "softmax"}, None),
        ({"output": "labels"}, {}, "it returns labels"),
        ({"input_sizes": ()}, {}, "it takes any size"),
        ({"input_sizes": (SIZE, (9, 9))}, {}, "it takes several sizes"),
        ({"upsampled": False}, {}, "its last resize is left out"),
        ({}, {"num_classes": 1}, "one score for two labels"),
        ({}, {"num_classes": 300}, "300 classes"),
        ({}, {"channels": 4}, "4 channels"),
    ],
)
def test_what_mediapipe_would_misread_is_told(changes, model, reason):
    told = {"output": "logits", "upsampled": True, "input_sizes": (SIZE,), **changes}
    found = mediapipe.misread(FileSpec(ModelSpec(**{"num_classes": 5, **model}), **told))
    assert found is None if reason is None else reason in found


def test_a_multi_label_file_for_mediapipe_comes_with_a_warning(tmp_path):
    multi = small_model()
    multi = keras.Model(multi.inputs, keras.layers.Activation("sigmoid")(multi.outputs[0]))
    with pytest.warns(UserWarning, match="MediaPipe Tasks: where no class of this multi-label model is above 0.5"):
        file = export_tflite(multi, tmp_path / "m.tflite", target="mediapipe", input_size=SIZE)
    assert "reads it" in describe(file.path)


# MediaPipe itself -------------------------------------------------------------------------------------------


def interpreter_with_mediapipe():
    named = os.environ.get("KERAS_DEEPLAB_MEDIAPIPE")
    if named:
        return named
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("needs mediapipe: install it, or name a Python that has it in KERAS_DEEPLAB_MEDIAPIPE")
    return sys.executable


@pytest.fixture(scope="module")
def read(model, tmp_path_factory):
    """{name of a file: what MediaPipe finds in it}, and the files."""
    python, folder = interpreter_with_mediapipe(), tmp_path_factory.mktemp("mediapipe")
    binary = small_model(num_classes=1)
    exports = {
        "labels": (model, {}),
        "dynamic": (model, {"output": "logits", "input_size": "dynamic"}),
        "several": (model, {"output": "logits", "input_size": [SIZE, (65, 65)]}),
        "small": (model, {"output": "logits", "upsample": False}),
        "one score": (binary, {"output": "logits"}),
        "logits": (model, {"output": "logits"}),
        "probabilities": (model, {"output": "probabilities"}),
        "mediapipe": (model, {"target": "mediapipe"}),
        "bytes": (model, {"target": "mediapipe", "input_type": "uint8"}),
        "int8": (model, {"target": "mediapipe", "precision": "int8", "calibration": PICTURES}),
        "int8 scores": (model, {"output": "logits", "precision": "int8", "calibration": PICTURES}),
        "binary": (binary, {"target": "mediapipe"}),
    }
    files = {}
    for name, (network, options) in exports.items():
        classes = NAMES if network is model else ["ground", "crop"]
        options = {"input_size": SIZE, "classes": classes, **options}
        files[name] = export_tflite(network, folder / f"{name}.tflite", **options).path
    np.savez(folder / "images.npz", *PICTURES)
    run = [python, str(READER), str(folder / "images.npz"), str(folder), *map(str, files.values())]
    subprocess.run(run, check=True, capture_output=True, timeout=300)
    found = {}
    for name, path in files.items():
        with np.load(path.with_suffix(".npz")) as arrays:
            found[name] = dict(arrays)
    return found, files, binary


MISREAD = ["labels", "dynamic", "several", "small", "one score"]
READ = ["logits", "probabilities", "mediapipe", "bytes", "int8", "int8 scores", "binary"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MISREAD)
def test_mediapipe_refuses_what_it_would_misread(name, read):
    assert "Invalid activation type found in CustomMetadata" in str(read[0][name]["error"])


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_mediapipe_reads_the_labels_the_probabilities_and_the_names(name, read, model):
    found, files, binary = read
    found = found[name]
    assert found["labels"].tolist() == (["ground", "crop"] if name == "binary" else NAMES)
    predict = predictor(files[name])
    for index, picture in enumerate(PICTURES):
        labels, scores = found[f"mask arr_{index}"], found[f"scores arr_{index}"]
        np.testing.assert_array_equal(labels, predict(picture))
        assert len(np.unique(labels)) > 1
        np.testing.assert_allclose(scores.sum(0), 1, atol=1e-3 if "int8" in name else 1e-5)
        expected = keras.ops.convert_to_numpy((binary if name == "binary" else model)(picture[None].astype("float32")))
        if name == "binary":
            expected = np.concatenate([0 * expected, expected], -1)
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(expected))[0]
        tolerance = 0.5 if "int8" in name else 5e-3
        assert np.abs(scores.transpose(1, 2, 0) - expected).max() <= tolerance


@pytest.mark.slow
def test_a_target_decides_the_precision_that_is_not_given(model, tmp_path):
    (file,), _ = export_precisions(
        model, tmp_path / "m.tflite", None, target="gpu", input_size=SIZE, rounds=1, progress=False
    )
    assert file.precision == "float16"
    assert read_spec(file.path).output == "logits"
