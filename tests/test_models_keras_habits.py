"""What people do with any Keras model works with these, or says why not: fit, evaluate, callbacks, save, export."""

import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from randomise import randomise
from tiny_backbone import tiny_backbone  # noqa: F401

import keras_deeplab
from keras_deeplab.metrics import MeanIoU
from keras_deeplab.training.losses import SparseCategoricalCrossentropy


@pytest.fixture
def model(tiny_backbone):  # noqa: F811
    return randomise(keras_deeplab.DeepLabV3Plus(tiny_backbone, num_classes=3, filters=8))


class Pictures(keras.utils.PyDataset):
    """Batches of two pictures and their masks, with ignored pixels."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        labels = random.choice(np.array([0, 1, 2, 255], "uint8"), (2, 33, 41))
        return random.integers(0, 256, (2, 33, 41, 3), "uint8"), labels


def difference(found, expected):
    return np.max(np.abs(np.asarray(found) - expected)) / np.ptp(expected)


@pytest.mark.slow
def test_a_py_dataset_and_any_callback(model, tmp_path):
    class Own(keras.callbacks.Callback):
        """Reads what callbacks read: the model, its weights, the logs."""

        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, float(logs["loss"]), len(self.model.get_weights())))

    seen, losses = [], []
    model.compile("sgd", SparseCategoricalCrossentropy(), metrics=[MeanIoU(3)])
    callbacks = [
        Own(),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["val_loss"])),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_mean_iou", mode="max", save_best_only=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", patience=1),
        keras.callbacks.TerminateOnNaN(),
    ]
    history = model.fit(Pictures(), epochs=2, validation_data=Pictures(), callbacks=callbacks, verbose=0)
    assert history.history["val_loss"] == losses
    assert [batch for batch, _, _ in seen] == [0, 1, 0, 1]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    found = model.evaluate(Pictures(), return_dict=True, verbose=0)
    assert found["loss"] == pytest.approx(min(losses), rel=1e-5)  # EarlyStopping brought the best weights back
    assert model.predict(Pictures(), verbose=0).shape == (4, 33, 41, 3)
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best.spec == model.spec
    assert best.evaluate(Pictures(), return_dict=True, verbose=0)["mean_iou"] == pytest.approx(
        max(history.history["val_mean_iou"]), abs=1e-6
    )


@pytest.mark.slow
def test_exports_of_keras_give_what_the_model_gives(model, tmp_path, capsys):
    import tensorflow as tf

    from keras_deeplab.inference.runtimes.tflite import interpreter

    images = np.random.default_rng(0).uniform(0, 255, (1, 65, 81, 3)).astype("float32")
    expected = model(images).numpy()
    model.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    assert difference(loaded.serve(images), expected) <= 1e-6
    model.export(str(tmp_path / "model.tflite"), format="litert", verbose=False)
    run = interpreter(tmp_path / "model.tflite")
    (source,), (target,) = run.get_input_details(), run.get_output_details()
    run.resize_tensor_input(source["index"], images.shape)
    run.allocate_tensors()
    run.set_tensor(source["index"], images)
    run.invoke()
    assert difference(run.get_tensor(target["index"]), expected) <= 3e-6
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    capsys.readouterr()
    model.export(tmp_path / "model.onnx", format="onnx")
    assert "Saved artifact at" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert difference(session.run(["logits"], {"images": images})[0], expected) <= 3e-6


@pytest.mark.slow
def test_an_onnx_file_of_keras_keeps_what_the_model_returns(tiny_backbone, tmp_path):  # noqa: F811
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    options = {"num_classes": 3, "filters": 8, "upsample_logits": False, "classifier_activation": "sigmoid"}
    model = randomise(keras_deeplab.DeepLabV3(tiny_backbone, **options))
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    images = np.random.default_rng(0).uniform(0, 255, (2, 65, 81, 3)).astype("float32")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    assert difference(found, model(images).numpy()) <= 3e-6


def test_onnx_files_of_keras_that_are_refused(model, tmp_path):
    from keras_deeplab.specs.model import SegmentationModel

    with pytest.raises(ValueError, match=r"takes no opset_version here: keras_deeplab.export.onnx.export_onnx has"):
        model.export(tmp_path / "model.onnx", format="onnx", opset_version=13)
    several = SegmentationModel(model.inputs[0], [model.outputs[0], model.layers[-2].output])
    with pytest.raises(ValueError, match=r"has 2 outputs, and an ONNX file has one here: .*export_onnx\(model, path"):
        several.export(tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_quantize_of_keras_says_what_it_does_not_do(model):
    with pytest.raises(ValueError, match=r"no convolutions, 0 of the 39 layers with weights .*export_tflite\("):
        model.quantize("int8")
    images = keras.Input((None, None, 3))
    x = keras.layers.Dense(3)(keras.layers.Conv2D(8, 3)(images))
    mixed = keras_deeplab.with_spec(keras.Model(images, x))
    with pytest.warns(UserWarning, match=r"1 of the 2 layers with weights"):
        mixed.quantize("int8", filters="dense")
    assert mixed.layers[-1].quantization_mode == "int8"


@pytest.mark.slow
def test_a_file_says_which_import_is_missing(model, tmp_path):
    model.save(tmp_path / "model.keras")
    keras.Model(model.inputs[0], model.outputs[0]).save(tmp_path / "plain.keras")
    code = (
        "import sys, keras\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        keras.saving.load_model(name)\n"
        "    except TypeError as error:\n"
        "        print(str(error).partition('Could not locate')[2][:500].replace(chr(10), ' '))\n"
        "import keras_deeplab\n"
        "print([type(keras.saving.load_model(name)).__name__ for name in sys.argv[1:]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.keras"), str(tmp_path / "plain.keras")],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=True,
    )
    whole, plain, loaded = done.stdout.splitlines()
    assert "'needs': 'import keras_deeplab before this file is loaded" in whole
    assert "'module': 'keras_deeplab." in plain
    assert loaded == "['SegmentationModel', 'Functional']"


def test_what_a_file_needs_is_no_part_of_its_record(model, tmp_path):
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as file:
        assert file.read("config.json").index(b'"needs"') < 200
    assert keras.saving.load_model(tmp_path / "model.keras").spec == model.spec
