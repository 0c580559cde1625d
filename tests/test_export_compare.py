"""Scores, times and memory of exported files, and the table of them."""

import numpy as np
import pytest
from export_models import small_model

from keras_deeplab import data
from keras_deeplab.export import compare
from keras_deeplab.export.tflite import export_tflite

SIZE = (65, 81)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("files"), small_model()
    return {
        "model": model,
        "exact": export_tflite(model, folder / "exact.tflite", input_size=SIZE).path,
        "coarse": export_tflite(small_model(seed=1), folder / "other.tflite", input_size=SIZE).path,
        "large": export_tflite(model, folder / "large.tflite", input_size=1025).path,
        "several": export_tflite(model, folder / "several.tflite", input_size=[SIZE, (64, 72)]).path,
    }


def test_several_files_are_scored_in_one_pass(files):
    source = data.load("synthetic", split="val", num_examples=3, size=(60, 70))
    pair = [files["exact"], files["coarse"]]
    together = compare.verify_all(pair, files["model"], source, max_miou_drop=0.5, progress=False)
    alone = [compare.verify(path, files["model"], source, max_miou_drop=0.5, progress=False) for path in pair]
    assert together == alone
    assert together[0].equal_labels > 0.9999 > together[1].equal_labels
    assert together[0].bytes == files["exact"].stat().st_size


def test_files_of_different_sizes_need_one_to_compare_at(files):
    source = data.load("synthetic", split="val", num_examples=1, size=(60, 70))
    with pytest.raises(ValueError, match=r"the files take different sizes"):
        compare.verify_all([files["exact"], files["large"]], files["model"], source, progress=False)
    # Of several sizes the largest counts.
    (result,) = compare.verify_all([files["several"]], files["model"], source, input_size=SIZE, progress=False)
    assert result.equal_labels >= 0.9999


def test_latencies_are_measured_in_turns(files):
    small, large = compare.latencies([files["exact"], files["large"]], rounds=3, num_threads=1)
    assert 0 < small < large / 10


def test_a_larger_image_takes_more_memory(files):
    small, large = (compare.peak_memory(files[name], 1) for name in ("exact", "large"))
    if small is None:
        pytest.skip("this system doesn't tell a process's memory")
    # The image alone has 12.6 MB.
    assert large - small > 12e6


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
    text = compare.table(
        [
            compare.Row("float32", 9_000_000, 70.04, 30_400_000, None, None),
            compare.Row("int8", 1_234_567, 30.0, None, ("COS", "ADD", "COS"), lost),
            compare.Row("int16x8", 5, 30.0, None, (), lost),
        ]
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert cells[0] == "precision,bytes,mIoU,loss; points,equal labels,ms,memory; MB,float operators".replace(
        ",", "\n"
    ).replace(";", ",").split("\n")
    assert cells[2][:3] == ["Keras model", "", "0.7800"]
    assert cells[3] == ["float32", "9,000,000", "", "", "", "70.0", "30", "all"]
    assert cells[4] == ["int8", "1,234,567", "0.7755", "0.45", "98.765 %", "30.0", "", "COS (2), ADD (1)"]
    assert cells[5][-1] == "none"
    assert len({len(line) for line in text.splitlines()}) == 1


def test_the_table_of_layers_is_cut():
    errors = [compare.LayerError(f"layer{index}", "ADD", 0.5 - index / 10, 0.1, -1.0, 2.0) for index in range(3)]
    lines = compare.layer_table(errors, 2).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["layer0", "ADD", "50.00", "%", "-1", "to", "2"]


def test_a_score_that_is_no_number_never_passes():
    assert not compare.Verification(0, np.nan, np.nan, 1.0, 0, 0.5).passed
