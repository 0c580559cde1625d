"""SavedModels agree with the Keras model, run without Keras, and are on disk whole or not at all."""

import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import NUM_CLASSES, photograph, small_model

from keras_deeplab.export import saved_model
from keras_deeplab.export.saved_model import export_saved_model, next_version
from keras_deeplab.export.warmup import FILE as WARMUP_FILE
from keras_deeplab.layers import tracing


def keras_labels(model, images):
    return np.argmax(model(np.asarray(images, np.float32), training=False), -1)


def png(array):
    return tf.io.encode_png(array).numpy()


def operators(path, signature="serving_default"):
    """All nodes of a signature, those of the functions it calls included."""
    definition = tf.saved_model.load(str(path)).signatures[signature].graph.as_graph_def()
    return list(definition.node) + [node for function in definition.library.function for node in function.node_def]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("saved") / "small" / "1", classes=list("abcde"))


def test_tensor_signatures_agree_with_the_model_at_any_size_and_batch(model, exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    seen = set()
    for batch, height, width in [(1, 65, 65), (3, 48, 71)]:
        images = np.stack([photograph(height, width, seed) for seed in range(batch)])
        labels = signatures["serving_default"](images=tf.constant(images))["labels"]
        logits = signatures["logits"](images=tf.constant(images))["logits"]
        assert labels.dtype == tf.uint8
        assert np.mean(labels.numpy() == keras_labels(model, images)) >= 0.9999
        np.testing.assert_allclose(logits, model(images.astype(np.float32)), rtol=1e-3, atol=1e-4)
        seen |= set(np.unique(labels))
        softmax = signatures["probabilities"](images=tf.constant(images))["probabilities"]
        np.testing.assert_allclose(softmax, tf.nn.softmax(model(images.astype(np.float32))), rtol=1e-3, atol=1e-5)
    assert len(seen) >= 3  # else the comparison would say little


@pytest.mark.slow
def test_encoded_images_of_all_kinds_give_label_pngs_of_their_sizes(model, exported):
    colour, grey = photograph(40, 53, 1), photograph(37, 64, 2)[..., :1]
    alpha = np.concatenate([photograph(33, 31, 3), np.full((33, 31, 1), 7, np.uint8)], -1)
    files = [png(colour), png(grey), png(alpha), tf.io.encode_jpeg(colour).numpy()]
    pixels = [colour, np.repeat(grey, 3, -1), alpha[..., :3], tf.io.decode_jpeg(files[3]).numpy()]
    encoded = tf.saved_model.load(str(exported)).signatures["encoded"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="is a PNG file of 16 bits, and nothing says"):
        encoded(image_bytes=tf.constant([png(colour.astype(np.uint16) * 257)]))
    outputs = encoded(image_bytes=tf.constant(files))["labels_png_bytes"].numpy()
    assert len(outputs) == len(files)
    for output, image in zip(outputs, pixels, strict=True):
        labels = tf.io.decode_png(output).numpy()
        assert labels.shape == (*image.shape[:2], 1)
        assert np.mean(labels[..., 0] == keras_labels(model, image[None])[0]) >= 0.9999


@pytest.mark.slow
def test_encoded_images_to_class_ids_padded_to_the_largest(model, exported):
    images = [photograph(40, 53, 1), photograph(37, 64, 2), photograph(1, 1, 3)]
    signature = tf.saved_model.load(str(exported)).signatures["encoded_labels"]
    outputs = signature(image_bytes=tf.constant([png(image) for image in images]))
    labels, sizes = outputs["labels"].numpy(), outputs["sizes"].numpy()
    assert labels.dtype == np.uint8
    assert labels.shape == (3, 40, 64)
    assert sizes.tolist() == [[40, 53], [37, 64], [1, 1]]
    for row, image in zip(labels, images, strict=True):
        height, width = image.shape[:2]
        assert np.mean(row[:height, :width] == keras_labels(model, image[None])[0]) >= 0.999
        assert (row[height:] == 255).all()
        assert (row[:, width:] == 255).all()
    alone = signature(image_bytes=tf.constant([png(images[0])]))["labels"].numpy()
    np.testing.assert_array_equal(alone[0], labels[0, :, :53])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes holds no file"):
        signature(image_bytes=tf.constant([], tf.string))


@pytest.mark.slow
def test_each_bad_file_of_a_call_is_named(exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    files = tf.constant([png(photograph(9, 9)), b"", png(photograph(9, 9)), b"some text"])
    for name in ("encoded", "encoded_labels"):
        with pytest.raises(tf.errors.InvalidArgumentError) as raised:
            signatures[name](image_bytes=files)
        text = "[image_bytes[1] is empty: it has 0 bytes; image_bytes[3] is no JPEG, PNG or BMP file]"
        assert text in str(raised.value)


@pytest.fixture(scope="module")
def limited(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("limited") / "1"
    return export_saved_model(model, path, max_pixels=400, warmup_size=(20, 20), batch_requests=6)


@pytest.mark.slow
def test_max_pixels_holds_for_files_tensors_and_padded_batches(limited):
    signatures = tf.saved_model.load(str(limited)).signatures
    square, tall, wide = (png(np.zeros((*size, 3), np.uint8)) for size in [(20, 20), (200, 2), (2, 200)])
    for name in ("encoded", "encoded_labels"):
        signatures[name](image_bytes=tf.constant([square]))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1\] declares 21x20 pixels .* 420 in all; .* 400"):
            signatures[name](image_bytes=tf.constant([square, png(photograph(21, 20))]))
    signatures["encoded"](image_bytes=tf.constant([tall, wide]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"of 2 files, padded to 200x200, have 80000 .* 400:"):
        signatures["encoded_labels"](image_bytes=tf.constant([tall, wide]))
    small = png(np.zeros((1, 1, 3), np.uint8))
    ten = png(np.zeros((10, 10, 3), np.uint8))
    assert signatures["encoded_labels"](image_bytes=tf.constant([ten] + 3 * [small]))["labels"].shape == (4, 10, 10)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"of 5 files, padded to 10x10, have 500 pixels; .* 400"):
        signatures["encoded_labels"](image_bytes=tf.constant([ten] + 4 * [small]))
    for name in ("serving_default", "logits", "probabilities"):
        signatures[name](images=tf.zeros((4, 10, 10, 3), tf.uint8))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\(5, 10, 10, 3\) have 500 pixels; .* up to 400"):
            signatures[name](images=tf.zeros((5, 10, 10, 3), tf.uint8))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\(1, 0, 10, 3\) have no pixels"):
            signatures[name](images=tf.zeros((1, 0, 10, 3), tf.uint8))


@pytest.mark.slow
def test_all_signatures_share_one_copy_of_the_weights(tmp_path):
    wide = keras.layers.Conv2D(1024, 3, padding="same", name="wide")  # 24 channels in: 221,184 weights
    path = export_saved_model(small_model(extra=wide), tmp_path / "1")
    weights = 4 * 9 * 24 * 1024
    assert weights < (path / "saved_model.pb").stat().st_size < 1.8 * weights


@pytest.mark.slow
def test_warm_up_requests_are_read_by_the_servers_own_messages(exported):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    signatures = tf.saved_model.load(str(exported)).signatures
    seen = set()
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests")):
        log = apis.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "small"
        seen.add(request.model_spec.signature_name)
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        if "images" in inputs:
            assert inputs["images"].shape == (1, 513, 513, 3)
            assert (inputs["images"] == 128).all()
        elif "query" in inputs:
            assert request.model_spec.signature_name == "record"
        else:
            assert tf.io.decode_png(inputs["image_bytes"][0]).shape == (513, 513, 3)
        signatures[request.model_spec.signature_name](**{name: tf.constant(value) for name, value in inputs.items()})
    assert seen == set(signatures)


@pytest.mark.slow
def test_batch_requests_writes_the_servers_parameters(limited):
    lines = (limited / "batching_params.pbtxt").read_text().splitlines()
    assert "max_batch_size { value: 6 }" in lines
    assert "enable_large_batch_splitting { value: true }" in lines


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"max_pixels": 400}, r"max_pixels=400 refuses the warm-up images of 513x513"),
        ({"max_pixels": 0}, r"max_pixels is a number of pixels, at least 1, or None; received 0"),
        ({"warmup_size": 0}, r"warmup_size is None, a positive number or \(height, width\); received \(0, 0"),
        ({"warmup_size": (1, 2, 3)}, r"received \(1, 2, 3\)"),
        ({"batch_requests": 0}, r"batch_requests is a number of images, at least 1, or None; received 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(model, tmp_path, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        export_saved_model(model, tmp_path / "1", **settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_with_tensorflow_alone_runs_it(model, exported, tmp_path):
    image = photograph(50, 60, 5)
    np.save(tmp_path / "image.npy", image)
    script = """
import sys
sys.modules["keras"] = sys.modules["keras_deeplab"] = None
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
image = np.load(sys.argv[2])
np.save(sys.argv[3], model.signatures["serving_default"](images=tf.constant(image[None]))["labels"].numpy())
"""
    arguments = [str(exported), str(tmp_path / "image.npy"), str(tmp_path / "labels.npy")]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "custom gradient" not in done.stderr
    assert np.mean(np.load(tmp_path / "labels.npy") == keras_labels(model, image[None])) >= 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True])
def test_dilated_convolutions_are_single_operators(exported, tmp_path, plain):
    if not tracing.onednn_runs("float32"):
        pytest.skip("needs a processor on which TensorFlow has oneDNN: others have no such depthwise operator")
    path = export_saved_model(small_model(plain=True), tmp_path / "1") if plain else exported
    nodes = operators(path)
    assert not [node.name for node in nodes if "SpaceToBatch" in node.op]
    dilated = [node.op for node in nodes if max(node.attr["dilations"].list.i or [1]) > 1]
    assert sorted(dilated) == ["Conv2D", "DepthwiseConv2dNative"]


@pytest.mark.slow
def test_portable_takes_the_native_depthwise_apart_and_agrees(model, tmp_path):
    path = export_saved_model(model, tmp_path / "1", portable=True)
    dilated = [node for node in operators(path) if max(node.attr["dilations"].list.i or [1]) > 1]
    assert "DepthwiseConv2dNative" not in [node.op for node in dilated]
    images = photograph(57, 66)[None]
    labels = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(images))["labels"]
    assert np.mean(labels.numpy() == keras_labels(model, images)) >= 0.9999


@pytest.mark.slow
def test_logits_that_the_model_leaves_small_are_resized(tmp_path):
    path = export_saved_model(small_model(upsample=False), tmp_path / "1")
    images = photograph(66, 57)[None]
    labels = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(images))["labels"]
    assert np.mean(labels.numpy() == keras_labels(small_model(), images)) >= 0.9999


@pytest.mark.slow
def test_half_precision_models_are_exported_in_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = small_model()
    finally:
        keras.config.set_dtype_policy("float32")
    path = export_saved_model(half, tmp_path / "1")
    assert not [node.name for node in operators(path) if node.attr["T"].type == tf.float16.as_datatype_enum]
    images = photograph(64, 64)[None]
    labels = tf.saved_model.load(str(path)).signatures["serving_default"](images=tf.constant(images))["labels"]
    assert np.mean(labels.numpy() == keras_labels(small_model(), images)) >= 0.9999


@pytest.mark.slow
def test_a_model_of_one_size_pads_encoded_images_and_refuses_larger_ones(tmp_path):
    model = small_model(64)
    path = export_saved_model(model, tmp_path / "1")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path / "assets.extra" / WARMUP_FILE))]
    shape = b"\x12\x02\x08\x01\x12\x02\x08\x40\x12\x02\x08\x40\x12\x02\x08\x03"  # 1, 64, 64, 3 of a TensorProto
    assert [shape in record for record in records] == [True, True, True, False, False, False]
    signatures = tf.saved_model.load(str(path)).signatures
    image = photograph(50, 64)
    padded = np.full((1, 64, 64, 3), 128, np.uint8)
    padded[0, :50] = image
    output = signatures["encoded"](image_bytes=tf.constant([png(image)]))["labels_png_bytes"][0]
    assert np.mean(tf.io.decode_png(output)[..., 0] == keras_labels(model, padded)[0, :50]) >= 0.9999
    assert signatures["serving_default"].structured_input_signature[1]["images"].shape.as_list() == [None, 64, 64, 3]
    ids = signatures["encoded_labels"](image_bytes=tf.constant([png(image)]))["labels"][0]
    np.testing.assert_array_equal(ids, tf.io.decode_png(output)[..., 0])
    for name in ("encoded", "encoded_labels"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"is 65x40 .*, larger than .* exported for, 64x64"):
            signatures[name](image_bytes=tf.constant([png(photograph(65, 40))]))


def test_classes_are_written_beside_the_model(exported):
    assert (exported / "assets.extra" / "classes.txt").read_text().split() == list("abcde")


def test_existing_things_are_refused_and_only_a_saved_model_is_overwritten(model, exported, tmp_path):
    with pytest.raises(ValueError, match=r"already holds a SavedModel: pass overwrite=True"):
        export_saved_model(model, exported)
    folder, file = tmp_path / "thesis", tmp_path / "file"
    folder.mkdir()
    (folder / "chapter").write_text("1")
    file.write_text("")
    for target in (folder, file):
        with pytest.raises(ValueError, match=r"is no SavedModel"):
            export_saved_model(model, target, overwrite=True)
    assert (folder / "chapter").read_text() == "1"
    with pytest.raises(ValueError, match=r"classes must be 5 names .*; received 2"):
        export_saved_model(model, tmp_path / "new", classes=["a", "b"])
    with pytest.raises(ValueError, match=r"expected a keras.Model, received str"):
        export_saved_model("model.keras", tmp_path / "new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "thesis"]


@pytest.mark.slow
def test_overwriting_replaces_the_whole_folder(tmp_path):
    target = tmp_path / "7"
    target.mkdir()  # an empty folder is no obstacle
    export_saved_model(small_model(seed=1), target, classes=list("abcde"))
    export_saved_model(small_model(seed=2), target, overwrite=True, warmup_size=None)
    images = photograph(40, 40)[None]
    labels = tf.saved_model.load(str(target)).signatures["serving_default"](images=tf.constant(images))["labels"]
    assert np.mean(labels.numpy() == keras_labels(small_model(seed=2), images)) >= 0.9999
    assert [entry.name for entry in (target / "assets.extra").iterdir()] == ["keras_deeplab.json"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["7"]


@pytest.mark.slow
def test_a_failure_leaves_the_old_version_and_no_rubbish(model, exported, tmp_path, monkeypatch):
    target = tmp_path / "1"
    export_saved_model(model, target)

    def fail(module, folder, *_):
        os.makedirs(folder)
        with open(os.path.join(folder, "half"), "w") as file:
            file.write("x")
        raise OSError("disk full")

    monkeypatch.setattr(saved_model.tf.saved_model, "save", fail)
    for path in (target, tmp_path / "2"):
        with pytest.raises(OSError, match="disk full"):
            export_saved_model(model, path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]
    assert (target / "saved_model.pb").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_that_another_process_put_there_meanwhile_is_not_replaced(model, tmp_path, monkeypatch, overwrite):
    target = tmp_path / "1"
    target.mkdir()

    def save(module, folder, *_):
        for place, text in ((folder, "mine"), (target, "theirs")):
            os.makedirs(place, exist_ok=True)
            pathlib.Path(place, "saved_model.pb").write_text(text)

    monkeypatch.setattr(saved_model.tf.saved_model, "save", save)
    monkeypatch.setattr(saved_model, "_try", lambda *arguments: None)
    if overwrite:
        export_saved_model(model, target, overwrite=True, warmup_size=None)
    else:
        with pytest.raises(ValueError, match=r"already holds a SavedModel: pass overwrite=True"):
            export_saved_model(model, target, warmup_size=None)
    assert (target / "saved_model.pb").read_text() == ("mine" if overwrite else "theirs")
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]


@pytest.mark.slow
def test_a_folder_that_is_something_else_than_its_model_gets_no_name(model, tmp_path, monkeypatch):
    export_saved_model(small_model(seed=1), tmp_path / "other", warmup_size=None)
    monkeypatch.setattr(
        saved_model.tf.saved_model, "save", lambda _, new, *rest: shutil.copytree(tmp_path / "other", new)
    )
    with pytest.raises(ValueError, match=r"the converted file gives something else than the model 'functional"):
        export_saved_model(model, tmp_path / "1", warmup_size=None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


@pytest.mark.slow
def test_if_the_new_version_cannot_take_its_place_the_old_one_stays(model, tmp_path, monkeypatch):
    target = tmp_path / "1"
    export_saved_model(small_model(seed=1), target)
    before = (target / "saved_model.pb").read_bytes()
    rename = pathlib.Path.rename

    def rename_all_but_the_new(self, other):
        if self.name == "new":
            raise PermissionError("no")
        return rename(self, other)

    monkeypatch.setattr(pathlib.Path, "rename", rename_all_but_the_new)
    with pytest.raises(PermissionError):
        export_saved_model(model, target, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["1"]
    assert (target / "saved_model.pb").read_bytes() == before


def test_next_version(exported, tmp_path):
    assert next_version(tmp_path / "absent").name == "1"
    for name in ("2", "10", "notes", "3.old"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == tmp_path / "11"
    assert next_version(exported.parent).name == "2"
    with pytest.raises(ValueError, match=r"itself a SavedModel, not a folder of versions"):
        next_version(exported)


def test_outputs_have_the_names_that_servers_show(exported):
    signatures = tf.saved_model.load(str(exported)).signatures
    assert {name: sorted(function.structured_outputs) for name, function in signatures.items()} == {
        "serving_default": ["labels"],
        "logits": ["logits"],
        "probabilities": ["probabilities"],
        "encoded": ["labels_png_bytes"],
        "encoded_labels": ["labels", "sizes"],
        "record": ["record"],
    }
    for name in ("logits", "probabilities"):
        assert signatures[name].structured_outputs[name].shape[-1] == NUM_CLASSES


def test_a_full_disk_is_told_as_an_error_of_the_system(tmp_path, monkeypatch):
    """TensorFlow's writers raise errors of their own kind, which the command line doesn't tell in words."""

    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "requests; No space left on device")

    monkeypatch.setattr(saved_model, "write_warmup_requests", full)
    with pytest.raises(OSError, match="can't be written: requests; No space left on device"):
        export_saved_model(small_model(), tmp_path / "1", warmup_size=33)
    assert not list(tmp_path.iterdir())
