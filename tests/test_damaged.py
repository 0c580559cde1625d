"""Faults that changed inputs found, each by the smallest one that shows it: what is wrong is told, with the name."""

import io
import json
import re

import numpy as np
import pytest
from annotation_exports import EXPORTS, write_image, write_json
from PIL import Image

import keras_deeplab
from keras_deeplab import data
from keras_deeplab._helpers import limits
from keras_deeplab.data.channels import npy_size, read_npy
from keras_deeplab.data.mask_files import decode_mask
from keras_deeplab.inference.crf.settings import read as read_crf
from keras_deeplab.inference.rasters.reading import open_raster
from keras_deeplab.reports.run import write_report
from keras_deeplab.serving.config import write_config
from keras_deeplab.specs import Classes
from keras_deeplab.training.callbacks.run import _problem

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"names": 5}, "names must be a list of class names"),
        ({"colors": ((float("inf"), 0, 0),)}, r"colors must be .*received \(\(inf"),
        ({"colors": ((1.5, 0, 0),)}, "colors must be"),
        ({"colors": 3}, "colors must be .*received 3"),
        ({"ignore_label": "x"}, "ignore_label must be a whole number; received 'x'"),
        ({"ignore_label": True}, "ignore_label must be a whole number"),
    ],
)
def test_classes_of_other_types(values, said):
    with pytest.raises(ValueError, match=said):
        Classes(**values)


def test_json_that_is_nested_without_end(tmp_path):
    (tmp_path / "crf.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"crf\.json is no JSON of CRF parameters: it is nested too deeply"):
        read_crf(str(tmp_path / "crf.json"))
    record = json.dumps({"step": 1, "learning_rate": 0.1, "loss": 1.0})
    (tmp_path / "history.jsonl").write_text(f"{record}\n{DEEP}\n{record}\n")
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2, .*nested too deeply"):
        write_report(tmp_path)


def test_names_of_classes_that_no_encoding_has_are_written_all_the_same(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"classes": ["\ud800", "b"]}))
    told = {"validation_iou": [0.5, 0.25], "validation_mean_iou": 0.375}
    (tmp_path / "history.jsonl").write_text(json.dumps({"step": 1, "learning_rate": 0.1, "loss": 1.0} | told))
    write_report(tmp_path)
    assert "iou ?" in (tmp_path / "history.csv").read_text("utf-8")


def test_tables_and_configurations_that_are_no_text(tmp_path):
    EXPORTS["roboflow"](tmp_path)
    (tmp_path / "train" / "_classes.csv").write_bytes(b"Pixel Value, Class\n0, \x86\n")
    with pytest.raises(ValueError, match=r"_classes\.csv is no table in UTF-8"):
        data.load(f"roboflow:{tmp_path}")
    (tmp_path / "models.config").write_bytes(b"model_config_list { # \xff\n}")
    with pytest.raises(ValueError, match=r"models\.config .*must be the text of a ModelServerConfig"):
        write_config(tmp_path)


def first_result(tasks):
    return tasks[0]["annotations"][0]["result"][0]


@pytest.mark.parametrize(
    ("kind", "file", "change"),
    [
        ("coco", "annotations/instances_default.json", lambda held: held["annotations"][0].update(image_id={})),
        ("label_studio", "project-1.json", lambda held: held[0].update(annotations=5.0)),
        (
            "label_studio",
            "project-1.json",
            lambda held: first_result(held).update(original_width=[]),
        ),
        ("supervisely", "ds0/ann/a.png.json", lambda held: held.update(tags=5)),
        ("supervisely", "meta.json", lambda held: held["classes"].append(held["classes"][1])),
    ],
)
def test_exports_with_values_of_other_types(kind, file, change, tmp_path):
    EXPORTS[kind](tmp_path)
    held = json.loads((tmp_path / file).read_text())
    change(held)
    write_json(tmp_path / file, held)
    with pytest.raises(ValueError, match=tmp_path.name):
        data.load(f"{kind}:{tmp_path}", "all")


def test_too_few_images_for_a_split_name_where_they_are(tmp_path):
    EXPORTS["labelme"](tmp_path)
    for name in ("a.png", "a.json"):
        (tmp_path / name).unlink()
    write_image(tmp_path / "b.png", "b")
    with pytest.raises(ValueError, match=f"{tmp_path.name}: 2 images can't be split"):
        data.load(f"labelme:{tmp_path}")


def test_arrays_whose_headers_are_no_python(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros((4, 5, 3), np.uint8))
    damaged = file.getvalue().replace(b"'shape': (", b"'shape': ((")  # NumPy's parser raises tokenize.TokenError
    with pytest.raises(ValueError, match="can't be decoded as an array"):
        read_npy(damaged)
    assert npy_size(damaged) is None
    (tmp_path / "a.npy").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a\.npy can't be read as an array"):
        open_raster(tmp_path / "a.npy")


def test_a_mask_with_numbers_beyond_its_palette(monkeypatch):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 9, 9, 9, 200, 10, 10])
    file = io.BytesIO()
    picture.save(file, "GIF")
    monkeypatch.setattr(Image.Image, "getpalette", lambda *_: [0, 0, 0, 9, 9, 9])
    with pytest.raises(ValueError, match="holds the number 2, and its palette 2 colours"):
        decode_mask(file.getvalue())


def test_a_folder_of_very_many_files_is_not_walked_through(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CHECKPOINT_FILES", 5)
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text("")
    with pytest.raises(ValueError, match=f"{tmp_path.name}' has more than 5 files in its folders"):
        keras_deeplab.load(tmp_path)


STATE = {"step": 2, "seconds": 1.0, "history": [{"step": 2, "loss": 1.0}], "best": None, "scoring": None, "config": {}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"best": {"step": 2, "mean_iou": 0.5}}, None),
        ({"step": True}, "no step with a history"),
        ({"history": []}, "no step with a history"),
        ({"history": [5]}, "a history with no whole number"),
        ({"best": 5}, "5 for the best"),
        ({"seconds": "x"}, "'x' seconds"),
        ({"config": [1]}, r"\[1\] for the settings"),
    ],
)
def test_a_checkpoint_s_state_of_other_values(change, said):
    found = _problem({**STATE, **change})
    assert found is None if said is None else re.search(said, found)


def test_a_checkpoint_s_state_that_is_no_object():
    assert _problem([]) == "no object"


@pytest.mark.parametrize(
    ("builder", "arguments", "said"),
    [
        ("DeepLabV3", {"input_shape": 5}, r"input_shape must be .*received 5"),
        ("DeepLabV3", {"input_shape": (0, 33, 3)}, "input_shape must be"),
        ("DeepLabV3", {"output_stride": [16]}, r"output_stride must be a positive integer.*\[16\]"),
        ("DeepLabV3", {"dropout": "x"}, "dropout must be a number"),
        ("DeepLabV3", {"atrous_rates": 6}, "atrous_rates must be a list of positive integers"),
        ("DeepLabV3Plus", {"atrous_rates": (6, 0)}, "atrous_rates must be a list of positive integers"),
        ("DeepLabV3Plus", {"low_level_filters": 0}, "low_level_filters must be a positive integer; received 0"),
        ("DeepLabV2", {"atrous_rates": ()}, "atrous_rates must be a list of positive integers"),
        ("DeepLabV1", {"filters": "x"}, "filters must be a positive integer; received 'x'"),
    ],
)
def test_builders_with_arguments_of_other_types(builder, arguments, said):
    with pytest.raises(ValueError, match=said):
        getattr(keras_deeplab, builder)("mobilenet_v2", **{"num_classes": 2, **arguments})
