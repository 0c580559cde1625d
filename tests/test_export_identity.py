"""Exported files answer as the model they come from, whatever it is, and carry its record."""

import json
import shutil
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import photograph
from randomise import randomise

import keras_deeplab
from keras_deeplab import export, layers
from keras_deeplab.export import FORMATS, Format, export_model
from keras_deeplab.export.onnx import export_onnx
from keras_deeplab.export.saved_model import export_saved_model
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.metadata import onnx as onnx_metadata
from keras_deeplab.metadata import saved_model as saved_model_metadata
from keras_deeplab.metadata import tflite as tflite_metadata
from keras_deeplab.specs import Classes, FileSpec
from keras_deeplab.specs.model import spec_of, with_spec

SIZE = (161, 193)
SMALL = (49, 65)


# Running files with their runtimes alone -----------------------------------------------------------------------


def run_saved_model(path, images, signature="serving_default"):
    (result,) = tf.saved_model.load(str(path)).signatures[signature](images=tf.constant(images)).values()
    return result.numpy()


def run_tflite(path, images):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        loaded = tf.lite.Interpreter(model_path=str(path), num_threads=2)
    loaded.allocate_tensors()
    (source,), (target,) = loaded.get_input_details(), loaded.get_output_details()
    found = []
    for image in images:
        loaded.set_tensor(source["index"], image[None].astype(source["dtype"]))
        loaded.invoke()
        found.append(loaded.get_tensor(target["index"])[0])
    found = np.stack(found)
    scale, zero_point = target["quantization"]
    return (found.astype(np.float32) - zero_point) * scale if scale else found


def run_onnx(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.astype(np.float32)})[0]


def exported(kind, model, folder, size, **options):
    """A model to the path of its file and the function that runs it."""
    if kind == "saved_model":
        return export_saved_model(model, folder / "saved", warmup_size=None), run_saved_model
    if kind == "onnx":
        pytest.importorskip("tf2onnx")
        return export_onnx(model, folder / "model.onnx", **options).path, run_onnx
    return export_tflite(model, folder / "model.tflite", input_size=size, **options).path, run_tflite


KINDS = ["saved_model", "tflite", "onnx"]


# The same labels whether the model resizes or the file does ----------------------------------------------------


def backbone(channels=3):
    """A classifier of stride 32, small enough to be exported twice in a test."""
    images = x = keras.Input((None, None, channels))
    for index, filters in enumerate((8, 12, 16, 24, 24)):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", use_bias=False, name=f"conv_{index}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{index}")(x)
        x = keras.layers.ReLU(name=f"relu_{index}")(x)
    return keras.Model(images, x, name="small")


@pytest.fixture(scope="module")
def classifier():
    return backbone()


def deeplab(builder, classifier, channels=3, seed=0, **options):
    options = {"filters": 32, "output_stride": 16, "include_preprocessing": "tf", "atrous_rates": (3,)} | options
    model = getattr(keras_deeplab, builder)(classifier, input_shape=(None, None, channels), **options)
    return randomise(model, seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "builder", "num_classes"),
    [
        ("tf", "DeepLabV3", 21),
        ("tf", "DeepLabV3Plus", 9),
        ("torchvision", "DeepLabV3", 21),
        ("vainf", "DeepLabV3Plus", 9),
    ],
)
def test_labels_do_not_depend_on_who_resizes_the_logits(flavour, builder, num_classes, classifier, tmp_path):
    options = {"flavour": flavour, "num_classes": num_classes, "atrous_rates": None}
    whole = deeplab(builder, classifier, upsample_logits=True, **options)
    coarse = deeplab(builder, classifier, upsample_logits=False, **options)
    coarse.set_weights(whole.get_weights())
    assert coarse.spec.logits_stride > 1
    images = photograph(*SIZE, seed=3)[None]
    expected = np.argmax(whole(images.astype(np.float32), training=False), -1)
    for kind in KINDS:
        labels = []
        for name, model in (("whole", whole), ("coarse", coarse)):
            path, run = exported(kind, model, tmp_path / kind / name, SIZE)
            labels.append(run(path, images))
        np.testing.assert_array_equal(*labels, err_msg=f"{kind}: upsample_logits on and off")
        assert len(np.unique(labels[0])) > 3
        # The runtimes sum in other orders than Keras, so a pixel between two classes may fall to either.
        assert np.mean(labels[1] == expected) >= 0.9995
        assert export.read_spec(path).model.resize == whole.spec.resize


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["tf", "vainf"])
def test_logits_that_are_left_small_say_how_they_are_resized(flavour, classifier, tmp_path):
    whole = deeplab("DeepLabV3Plus", classifier, flavour=flavour, num_classes=9)
    images = photograph(*SIZE, seed=4)[None]
    expected = np.argmax(whole(images.astype(np.float32), training=False), -1)
    for kind in ("tflite", "onnx"):
        path, run = exported(kind, whole, tmp_path, SIZE, output="logits", upsample=False)
        spec = export.read_spec(path)
        assert (spec.output, spec.upsampled) == ("logits", False)
        resized = tf.raw_ops.ResizeBilinear(
            images=run(path, images),
            size=SIZE,
            align_corners=spec.model.align_corners,
            half_pixel_centers=not spec.model.align_corners,
        )
        assert np.mean(np.argmax(resized, -1) == expected) >= 0.9995


# Sigmoids, channels, auxiliary outputs --------------------------------------------------------------------------


def pictures(channels=3, count=2):
    found = [photograph(*SMALL, seed=seed) for seed in range(count)]
    return np.stack([np.resize(np.moveaxis(each, -1, 0), (channels, *SMALL)).transpose(1, 2, 0) for each in found])


def balanced(model, images):
    """Has about half of the pixels of each channel above 0."""
    scores = np.asarray(model(images.astype(np.float32), training=False))
    bias = next(layer for layer in reversed(model.layers) if getattr(layer, "use_bias", False))
    kernel, offset = bias.get_weights()
    bias.set_weights([kernel, offset - np.median(scores, axis=(0, 1, 2))])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "upsample_logits"), [(None, False), ("sigmoid", True), ("sigmoid", False)])
def test_binary_models_are_thresholded(activation, upsample_logits, classifier, tmp_path):
    images = pictures()
    plain = balanced(deeplab("DeepLabV3", classifier, num_classes=1), images)
    model = deeplab(
        "DeepLabV3", classifier, num_classes=1, classifier_activation=activation, upsample_logits=upsample_logits
    )
    model.set_weights(plain.get_weights())
    logits = np.asarray(plain(images.astype(np.float32), training=False))
    wanted = (logits[..., 0] > 0).astype(np.uint8)
    assert 0.3 < wanted.mean() < 0.7
    for kind in KINDS:
        path, run = exported(kind, model, tmp_path / kind, SMALL)
        labels = run(path, images)
        assert labels.dtype == np.uint8
        assert np.mean(labels == wanted) >= 0.999, kind
        assert export.read_spec(path).model.num_labels == 2
    saved = tmp_path / "saved_model" / "saved"
    np.testing.assert_allclose(run_saved_model(saved, images, "logits"), logits, rtol=1e-3, atol=1e-3)
    probabilities = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(run_saved_model(saved, images, "probabilities"), probabilities, atol=1e-4)
    path, run = exported("tflite", model, tmp_path, SMALL, output="probabilities")
    np.testing.assert_allclose(run(path, images), probabilities, atol=1e-4)
    spec = export.read_spec(path)
    assert (spec.output, spec.model.activation) == ("probabilities", "sigmoid")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int16x8"])
def test_binary_models_keep_their_labels_in_integers(precision, classifier, tmp_path):
    images = pictures(count=4)
    model = balanced(deeplab("DeepLabV3", classifier, num_classes=1), images)
    wanted = np.asarray(model(images.astype(np.float32), training=False))[..., 0] > 0
    options = {"precision": precision, "calibration": list(images)}
    written = export_tflite(model, tmp_path / "model.tflite", input_size=SMALL, **options)
    assert precision != "int8" or written.float_operators == ()
    labels = run_tflite(written.path, images)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1}
    assert np.mean(labels == wanted) >= (0.97 if precision == "int8" else 0.99)
    if precision == "int8":
        options |= {"output": "probabilities", "output_type": "float32", "fine_tune_steps": 2}
        path = export_tflite(model, tmp_path / "tuned.tflite", input_size=SMALL, **options).path
        assert np.mean((run_tflite(path, images)[..., 0] > 0.5) == wanted) >= 0.97


@pytest.mark.slow
def test_multi_label_models_say_the_likeliest_class_or_none(classifier, tmp_path):
    images = pictures(count=4)
    logits_of = balanced(deeplab("DeepLabV3", classifier, num_classes=3), images)
    model = deeplab("DeepLabV3", classifier, num_classes=3, classifier_activation="sigmoid")
    model.set_weights(logits_of.get_weights())
    logits = np.asarray(logits_of(images.astype(np.float32), training=False))
    wanted = np.where(logits.max(-1) > 0, logits.argmax(-1), 255)
    assert {0, 1, 2, 255} >= set(np.unique(wanted)) > {255}
    for kind in KINDS:
        path, run = exported(kind, model, tmp_path / kind, SMALL)
        assert np.mean(run(path, images) == wanted) >= 0.999, kind
    saved = tmp_path / "saved_model" / "saved"
    probabilities = run_saved_model(saved, images, "probabilities")
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-4)
    options = {"precision": "int8", "calibration": list(images)}
    written = export_tflite(model, tmp_path / "int8.tflite", input_size=SMALL, **options)
    assert written.float_operators == ()
    assert np.mean(run_tflite(written.path, images) == wanted) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4, 5])
def test_models_of_any_number_of_channels(channels, tmp_path):
    images = pictures(channels, 4)
    model = deeplab("DeepLabV3", backbone(channels), channels, num_classes=5, atrous_rates=None)
    wanted = np.argmax(model(images.astype(np.float32), training=False), -1)
    assert len(np.unique(wanted)) > 2
    for kind in KINDS:
        path, run = exported(kind, model, tmp_path / kind, SMALL)
        assert np.mean(run(path, images) == wanted) >= 0.999, kind
        assert export.read_spec(path).model.channels == channels
    options = {"precision": "int8", "input_size": SMALL}
    if channels != 4:
        path = export_tflite(model, tmp_path / "int8.tflite", calibration=list(images), **options).path
        assert np.mean(run_tflite(path, images) == wanted) >= 0.9
    with pytest.raises(ValueError, match=rf"calibration images must have shape \(H, W, {channels}\)"):
        export_tflite(model, tmp_path / "none.tflite", calibration=list(pictures(2)), **options)
    signatures = tf.saved_model.load(str(tmp_path / "saved_model" / "saved")).signatures
    assert ("encoded" in signatures) == ("encoded_labels" in signatures) == (channels in (1, 3, 4))
    if channels in (1, 4):
        png = tf.io.encode_png(images[0])[None]
        (labels,) = signatures["encoded"](image_bytes=png)["labels_png_bytes"].numpy()
        assert np.mean(tf.io.decode_png(labels)[..., 0] == wanted[0]) >= 0.999


@pytest.mark.slow
def test_auxiliary_outputs_are_left_out(classifier, tmp_path):
    alone = deeplab("DeepLabV3", classifier, num_classes=4)
    deep = next(layer for layer in alone.layers if layer.name == "relu_3").output
    auxiliary = keras.layers.Conv2D(4, 3, name="auxiliary")(deep)
    plain = keras.Model(alone.inputs[0], [alone.outputs[0], auxiliary])
    model = with_spec(plain, replace(alone.spec, outputs=("logits", "auxiliary_logits")))
    images = pictures(count=1)
    for kind in KINDS:
        path, run = exported(kind, model, tmp_path / kind, SMALL)
        other, _ = exported(kind, alone, tmp_path / f"{kind}_alone", SMALL)
        np.testing.assert_array_equal(run(path, images), run(other, images))
        assert export.read_spec(path).model == alone.spec
        if path.is_file():
            assert abs(path.stat().st_size - other.stat().st_size) < 500


@pytest.mark.slow
def test_a_softmax_is_applied_where_probabilities_are_asked_for_alone(classifier, tmp_path):
    plain = deeplab("DeepLabV3", classifier, num_classes=4)
    images = pictures()
    inside = keras.models.clone_model(plain)
    inside.set_weights(plain.get_weights())
    last = keras.layers.Conv2D(4, 1, activation="softmax")
    model = keras.Model(inside.inputs[0], last(inside.outputs[0]))
    kernel = np.eye(4)[None, None]
    last.set_weights([kernel, np.zeros(4)])
    assert spec_of(model).activation == "softmax"
    path, run = exported("onnx", model, tmp_path, SMALL, output="logits")
    logits = np.asarray(plain(images.astype(np.float32), training=False))
    np.testing.assert_allclose(run(path, images), logits, rtol=1e-3, atol=1e-3)
    odd = with_spec(keras.Model(plain.inputs[0], plain.outputs[0]), activation="sigmoid", multi_label=True)
    with pytest.raises(ValueError, match=r"says that its outputs have been through a sigmoid, and it doesn't end in"):
        exported("onnx", odd, tmp_path, SMALL)


# The record -----------------------------------------------------------------------------------------------------

NAMES = ("soil", "leaf", "Blüte", "stone")
COLORS = ((1, 2, 3), (200, 0, 7), (0, 255, 0), (9, 9, 9))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_record_comes_back_from_a_renamed_and_moved_file(kind, classifier, tmp_path):
    model = deeplab("DeepLabV3Plus", classifier, flavour="vainf", classes=Classes(NAMES, COLORS), num_classes=4)
    path, _ = exported(kind, model, tmp_path / "here", SMALL)
    moved = tmp_path / "elsewhere" / f"other{path.suffix}"
    moved.parent.mkdir()
    shutil.move(path, moved)
    spec = export.read_spec(moved)
    assert isinstance(spec, FileSpec)
    assert spec.model == model.spec
    assert (spec.output, spec.upsampled, spec.precision) == ("labels", True, "float32")
    assert spec.input_sizes == ((SMALL,) if kind == "tflite" else ())
    assert spec.model.labels == NAMES
    assert spec.model.classes.colors == COLORS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_class_is_named_that_nobody_named(kind, classifier, tmp_path):
    model = deeplab("DeepLabV3", classifier, num_classes=21)
    path, _ = exported(kind, model, tmp_path, SMALL)
    assert export.read_spec(path).model.classes == Classes()
    found = [file.read_bytes() for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    assert not any(b"aeroplane" in content or b"class 0" in content or b"labels.txt" in content for content in found)
    assert kind != "saved_model" or not (path / "assets.extra" / "classes.txt").exists()


@pytest.mark.slow
def test_names_and_colours_that_are_given_take_the_place_of_the_models(classifier, tmp_path):
    model = deeplab("DeepLabV3", classifier, num_classes=4, classes=Classes(NAMES, COLORS))
    others = ["a", "b", "c", "d"]
    path = export_saved_model(model, tmp_path / "1", classes=others, warmup_size=None)
    # The colours were those of other names.
    assert saved_model_metadata.read_spec(path).model.classes == Classes(tuple(others))
    assert (path / "assets.extra" / "classes.txt").read_text("utf-8").split() == others
    palette = np.arange(15, dtype=np.uint8).reshape(5, 3)
    path = export_saved_model(model, tmp_path / "2", palette=palette, warmup_size=None)
    classes = saved_model_metadata.read_spec(path).model.classes
    assert classes == Classes(NAMES, tuple(map(tuple, palette[:4].tolist())))
    with pytest.raises(ValueError, match=r"classes must be 4 names, a list; received the text 'soil'"):
        export_saved_model(model, tmp_path / "3", classes="soil")


@pytest.mark.slow
def test_a_server_is_told_the_record(classifier, tmp_path):
    model = deeplab("DeepLabV3", classifier, num_classes=4, classes=NAMES)
    path = export_saved_model(model, tmp_path / "1")
    answers = tf.saved_model.load(str(path)).signatures["record"](query=tf.constant([b"", b"x"]))["record"].numpy()
    assert len(answers) == 2
    assert FileSpec.from_json(answers[0]) == FileSpec.from_json(answers[1]) == saved_model_metadata.read_spec(path)


def test_damaged_records_are_named(tmp_path):
    folder = tmp_path / "saved"
    (folder / "assets.extra").mkdir(parents=True)
    assert saved_model_metadata.read_spec(folder) is None
    record = folder / "assets.extra" / "keras_deeplab.json"
    for content, message in (
        ("{", "no JSON"),
        ("[]", "no record of an exported"),
        (json.dumps({"model": {"format": 99, "num_classes": 3}}), "update keras_deeplab"),
        (" " * (17 << 20), "more than 16 MB"),
    ):
        record.write_text(content)
        with pytest.raises(ValueError, match=message) as caught:
            saved_model_metadata.read_spec(folder)
        assert str(record) in str(caught.value)


def test_a_few_kilobytes_do_not_unpack_to_gigabytes(shared):
    bomb = shared / "cases" / "files" / "labels_zip_bomb.tflite"
    for read in (tflite_metadata.read_spec, tflite_metadata.read_classes, tflite_metadata.describe):
        with pytest.raises(ValueError, match=r"labels.txt has more than 16 MB"):
            read(bomb)


EARLIER = {"output": "logits", "num_classes": 3, "upsampled": False, "resize": "half_pixel_centers"}


def test_onnx_files_of_earlier_versions_have_a_record():
    facts = {**EARLIER, "classes": ["a", "b", "c"], "palette": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}
    spec = onnx_metadata.spec_from(json.dumps(facts))
    assert (spec.output, spec.upsampled, spec.model.resize) == ("logits", False, "half_pixel_centers")
    assert spec.model.classes == Classes(("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    bare = onnx_metadata.spec_from(json.dumps({**EARLIER, "classes": None, "palette": None}))
    assert (bare.model.num_classes, bare.model.classes) == (3, Classes())
    assert onnx_metadata.spec_from(None) is None
    for damaged in ("{", "[]", json.dumps({**facts, "classes": ["a"]}), json.dumps({**facts, "resize": "nearest"})):
        with pytest.raises(ValueError, match="the ONNX file"):
            onnx_metadata.spec_from(damaged)


def test_files_that_are_no_onnx_are_named(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a\xff\xff\xff\x7fabc")
    with pytest.raises(ValueError, match=r"model.onnx is no ONNX file"):
        onnx_metadata.read_spec(path)
    path.write_bytes(b"\x08\x07")
    assert onnx_metadata.read_spec(path) is None


# Formats --------------------------------------------------------------------------------------------------------


def test_a_format_is_added_from_outside(classifier, tmp_path, monkeypatch):
    def write(model, path, *, classes=None, palette=None):
        path.write_text(FileSpec(spec_of(model)).to_json())
        return path

    row = Format(".json", write, lambda path: FileSpec.from_json(path.read_text()))
    monkeypatch.setitem(FORMATS, "json", row)
    model = deeplab("DeepLabV3", classifier, num_classes=4, classes=NAMES)
    path = export_model(model, tmp_path / "model.json")
    assert export.read_spec(path).model == model.spec
    assert export_model(model, tmp_path / "other", "json") == tmp_path / "other"
    with pytest.raises(ValueError, match=r"'model.pb' tells no export format: end it in one of .tflite, .onnx, .json"):
        export_model(model, tmp_path / "model.pb")
    with pytest.raises(ValueError, match=r"Unknown export format 'tflight': did you mean 'tflite'\?"):
        export_model(model, tmp_path / "model", "tflight")
    with pytest.raises(ValueError, match=r"no exported file of a format that is known"):
        export.read_spec(tmp_path / "model.pb")


@pytest.mark.slow
def test_every_format_writes_a_file_whose_record_is_the_models(classifier, tmp_path):
    model = deeplab("DeepLabV3", classifier, num_classes=4, classes=NAMES)
    for name, row in FORMATS.items():
        options = {"input_size": SMALL} if name == "tflite" else {}
        path = export_model(model, tmp_path / f"{name}{row.suffix}", name, **options)
        assert export.read_spec(path).model == model.spec


def test_a_last_resize_says_more_than_the_other_resizes(tmp_path):
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 4, padding="same")(images)
    x = layers.ResizeBilinear(True)([keras.layers.Conv2D(4, 1)(x), x])
    model = keras.Model(images, layers.ResizeBilinear(False)([x, images]))
    path, _ = exported("tflite", model, tmp_path, SMALL, output="logits", upsample=False)
    assert export.read_spec(path).model.resize == "half_pixel_centers"
