"""Scores, times and memory of exported files, and the table of them."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import small_model

from keras_deeplab import data
from keras_deeplab.data import pipeline, transforms
from keras_deeplab.export import compare
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import with_spec

SIZE = (65, 81)
SMALL = (64, 72)


def six_classes(**options):
    """A model for the classes of the synthetic data set."""
    return small_model(num_classes=6, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("files"), six_classes()
    return {
        "model": model,
        "exact": export_tflite(model, folder / "exact.tflite", input_size=SIZE).path,
        "coarse": export_tflite(six_classes(seed=1), folder / "other.tflite", input_size=SIZE).path,
        "large": export_tflite(model, folder / "large.tflite", input_size=1025).path,
        "several": export_tflite(model, folder / "several.tflite", input_size=[SIZE, SMALL]).path,
        "far": export_tflite(model, folder / "far.tflite", input_size=[33, 1025]).path,
    }


@pytest.mark.slow
def test_several_files_are_scored_in_one_pass(files):
    source = data.load("synthetic", split="val", num_examples=3, size=(60, 70))
    pair = [files["exact"], files["coarse"]]
    together = compare.verify_all(pair, files["model"], source, max_miou_drop=0.5, progress=False)
    alone = [compare.verify(path, files["model"], source, max_miou_drop=0.5, progress=False) for path in pair]
    assert together == alone
    assert together[0].equal_labels > 0.9999 > together[1].equal_labels
    assert together[0].bytes == files["exact"].stat().st_size


@pytest.mark.slow
def test_files_of_different_sizes_are_not_compared_together(files):
    source = data.load("synthetic", split="val", num_examples=1, size=(60, 70))
    pair = [files["exact"], files["large"]]
    with pytest.raises(ValueError, match=r"the files take different sizes"):
        compare.verify_all(pair, files["model"], source, progress=False)
    with pytest.raises(ValueError, match=r"takes images of 1025x1025"):
        compare.verify_all(pair, files["model"], source, input_size=SIZE, progress=False)


@pytest.mark.slow
def test_a_file_of_several_sizes_is_scored_at_each(files):
    source = data.load("synthetic", split="val", num_examples=2, size=(60, 76))
    sizes = [SMALL, SIZE]
    found = compare.verify_sizes([files["several"]], files["model"], source, sizes, progress=False)
    assert list(found) == [SIZE, SMALL]
    alone = compare.verify(files["several"], files["model"], source, progress=False)
    assert found[SIZE] == [alone]
    # The smaller size sees the same photographs, scaled down to fit with their labels.
    matrix, wanted = ConfusionMatrix(source.num_classes, source.ignore_label), predictor(files["model"], SMALL)
    for sample in pipeline.evaluation(source).as_numpy_iterator():
        image, label = transforms.resize(sample["image"], sample["label"], (57, 72), antialias=True)
        matrix.update(label.numpy(), wanted(np.rint(image).astype(np.uint8)))
    (small,) = found[SMALL]
    assert small.model_miou == matrix.mean_iou != alone.model_miou
    assert small.equal_labels >= 0.9999


@pytest.mark.slow
def test_an_image_that_no_size_holds_is_refused(files):
    source = data.load("synthetic", split="val", num_examples=1, size=(66, 58))
    with pytest.raises(ValueError, match=r"66x58 .* larger than the input size"):
        compare.verify_sizes([files["several"]], files["model"], source, [SMALL, SIZE], progress=False)


@pytest.mark.slow
def test_latencies_are_measured_in_turns(files):
    small, large = compare.latencies([files["exact"], files["large"]], rounds=3, num_threads=1)
    assert 0 < small < large / 10
    small, large = (compare.latencies([files["far"]], 3, 1, (side, side))[0] for side in (33, 1025))
    assert 0 < small < large / 10


@pytest.mark.slow
def test_a_larger_image_takes_more_memory(files):
    small, large = (compare.peak_memory(files[name], 1) for name in ("exact", "large"))
    if small is None:
        pytest.skip("this system doesn't tell a process's memory")
    # The image alone has 12.6 MB.
    assert large - small > 12e6
    small, large = (compare.peak_memory(files["far"], 1, (side, side)) for side in (33, 1025))
    assert large - small > 12e6


@pytest.mark.slow
def test_a_file_that_cannot_run_is_named(tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match=r"bad.tflite could not be run in a process of its own"):
        compare.peak_memory(tmp_path / "bad.tflite")
    with pytest.raises(ValueError, match=r"is no exported file that a runtime runs"):
        compare.latencies([tmp_path / "model.pth"])
    with pytest.raises(ValueError, match=r"a .tflite file is run by one of litert, openvino; received 'onnxruntime'"):
        compare.latencies([(tmp_path / "bad.tflite", "onnxruntime")])


def test_the_table_has_a_row_for_each_file():
    lost = compare.Verification(10, 0.78, 0.7755, 0.98765, 1_234_567, None)
    float32 = compare.Row("float32", Path("m.tflite"), None, 9_000_000, 70.04, 30_400_000, None, None)
    int8 = compare.Row("int8", Path("m.tflite"), None, 1_234_567, 30.0, None, ("COS", "ADD", "COS"), lost)
    lines = compare.table([float32, int8, dataclasses.replace(int8, float_operators=())]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == "precision,bytes,mIoU,loss; points,equal labels,ms,memory; MB,float operators".replace(
        ",", "\n"
    ).replace(";", ",").split("\n")
    assert cells[2] == ["float32", "9,000,000", "", "", "", "70.0", "30", "all"]
    assert cells[3][:3] == ["Keras model", "", "0.7800"]
    assert cells[4] == ["int8", "1,234,567", "0.7755", "0.45", "98.765 %", "30.0", "", "COS (2), ADD (1)"]
    assert cells[5][-1] == "none"
    assert len({len(line) for line in lines}) == 1


def test_the_table_has_a_row_for_each_size():
    rows = [
        compare.Row(name, Path(name), size, 10, 1.0, None, None, compare.Verification(1, miou, 0.7, 0.9, 10, None))
        for size, miou in (((513, 513), 0.78), ((257, 321), 0.71))
        for name in ("float32", "int8")
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in compare.table(rows).splitlines()[2:]]
    assert [line[0] for line in cells] == [
        f"{name}, {size}" for size in ("513x513", "257x321") for name in ("Keras model", "float32", "int8")
    ]
    assert (cells[0][2], cells[3][2]) == ("0.7800", "0.7100")


def test_the_table_of_layers_is_cut():
    errors = [compare.LayerError(f"layer{index}", "ADD", 0.5 - index / 10, 0.1, -1.0, 2.0) for index in range(3)]
    lines = compare.layer_table(errors, 2).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["layer0", "ADD", "50.00", "%", "-1", "to", "2"]


def test_a_score_that_is_no_number_never_passes():
    assert not compare.Verification(0, np.nan, np.nan, 1.0, 0, 0.5).passed


@pytest.mark.slow
def test_data_of_other_classes_is_refused_or_paired_by_name(files):
    source = data.load("synthetic", split="val", num_examples=2, size=(60, 70))
    names = tuple(reversed(source.classes))
    path = files["exact"]
    model = with_spec(keras.models.clone_model(files["model"]), classes=Classes(names))
    model.set_weights(files["model"].get_weights())
    with pytest.raises(ValueError, match=r"the data's classes are not the model's, though the names are the same"):
        compare.verify(path, model, source, progress=False)
    paired = compare.verify(path, model, source, class_map="names", progress=False)
    assert paired.equal_labels > 0.9999
    other = compare.verify(path, files["model"], source, progress=False)
    assert paired.model_miou != other.model_miou


@pytest.mark.slow
def test_binary_models_of_any_channels_are_compared(tmp_path):
    images = keras.Input((None, None, 4))
    logits = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="glorot_normal")(images)
    model = with_spec(keras.Model(images, logits), classes=Classes(("ground", "crop")))
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 20, 24, 4), np.uint8)
    wanted = (np.asarray(model(pictures.astype(np.float32)))[..., 0] > 0).astype(np.uint8)
    assert 0 < wanted.mean() < 1

    class Given:
        """Samples as a data set gives them."""

        name, num_examples, num_classes, ignore_label, channels = "given", 2, 2, 255, 4
        classes_spec = Classes(("ground", "crop"))

        def dataset(self, *_):
            samples = {"image": pictures, "label": wanted, "name": ["a", "b"]}
            return tf.data.Dataset.from_tensor_slices(samples)

    path = export_tflite(model, tmp_path / "model.tflite", input_size=(20, 24)).path
    found = compare.verify(path, model, Given(), progress=False)
    assert found.model_miou == 1.0
    assert found.equal_labels == found.file_miou == 1.0
