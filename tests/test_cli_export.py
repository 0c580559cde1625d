"""export-tflite, export-onnx and what inspect and predict make of the files, as commands."""

import json

import keras
import numpy as np
import pytest
from export_models import small_model

from keras_deeplab import data, layers
from keras_deeplab.cli import main
from keras_deeplab.data.masks import decode_label_png, write_label_png
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import with_spec

CLASSES = ("background", "disc", "square", "triangle", "star", "ring")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of six classes and four drawn images with masks, two of each split."""
    from keras_deeplab._helpers.opencv import cv2

    root = tmp_path_factory.mktemp("export")
    small = small_model(upsample=False)
    classifier = keras.layers.Conv2D(6, 1)
    logits = classifier(small.outputs[0])
    random = np.random.default_rng(0)
    classifier.set_weights([random.normal(0, 1, weight.shape) for weight in classifier.get_weights()])
    model = keras.Model(small.inputs[0], layers.ResizeBilinear()([logits, small.inputs[0]]))
    with_spec(model, classes=Classes(CLASSES)).save(root / "model.keras")
    for sub in ("images", "masks", "splits"):
        (root / "data" / sub).mkdir(parents=True)
    names = []
    source = data.load("synthetic", split="train", num_examples=4, size=(40, 56))
    for sample in source.dataset().as_numpy_iterator():
        names.append(sample["name"].decode())
        cv2.imwrite(str(root / "data" / "images" / f"{names[-1]}.png"), sample["image"][..., ::-1])
        write_label_png(root / "data" / "masks" / f"{names[-1]}.png", sample["label"])
    (root / "data" / "splits" / "train.txt").write_text("\n".join(names[:2]))
    (root / "data" / "splits" / "val.txt").write_text("\n".join(names[2:]))
    (root / "data" / "classes.txt").write_text("\n".join(CLASSES))
    return root


def rows(out):
    """The cells of the lines of the table that a command printed, by the first of them."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines}


@pytest.mark.slow
def test_several_precisions_print_a_table(folder, tmp_path, capsys):
    arguments = ["export-tflite", str(folder / "model.keras"), str(tmp_path / "m.tflite"), "--input-size", "49x65"]
    arguments += ["--precision", "float32,int8", "--calibration", str(folder / "data"), "--rounds", "1"]
    (tmp_path / "colours.txt").write_text("".join(f"{label} {10 * label} 200\n" for label in range(6)))
    assert main([*arguments, "--layer-errors", "1", "--palette", str(tmp_path / "colours.txt")]) == 0
    out = capsys.readouterr().out
    table = rows(out)
    assert set(table) >= {"Keras model", "float32", "int8"}
    exact, small = (tmp_path / f"m-{precision}.tflite" for precision in ("float32", "int8"))
    assert [table[name][0] for name in ("float32", "int8")] == [f"{path.stat().st_size:,}" for path in (exact, small)]
    assert table["float32"][3] == "100.000 %"
    assert table["Keras model"][1] == table["float32"][1]
    assert (table["float32"][-1], table["int8"][-1]) == ("all", "none")
    assert "m-int8.tflite: error of each layer" in out

    assert main(["inspect", str(small)]) == 0
    out = capsys.readouterr().out
    for part in ("precision   int8", "49x65", "6: background, disc, square, triangle, star, ring", "6 colours"):
        assert part in out

    # The colours of the label files are the file's own, and those of PASCAL VOC behind them.
    image = str(next((folder / "data" / "images").iterdir()))
    assert main(["predict", str(exact), image, "--output-dir", str(tmp_path / "out")]) == 0
    (labels,) = (path for path in (tmp_path / "out").iterdir() if "overlay" not in path.name)
    content = labels.read_bytes()
    palette = np.frombuffer(content[content.index(b"PLTE") + 4 :][:768], np.uint8).reshape(256, 3)
    assert palette[5].tolist() == [5, 50, 200]
    assert palette[255].tolist() == [224, 224, 192]
    assert decode_label_png(content)[0].shape == (40, 56)


@pytest.mark.slow
def test_sizes_outputs_and_refusals(folder, tmp_path, capsys):
    model, target = str(folder / "model.keras"), tmp_path / "m.tflite"
    base = ["export-tflite", model, str(target), "--rounds", "1"]
    (tmp_path / "names.txt").write_text("\n".join("abcdef"))
    sizes = ["--input-size", "33,49x65", "--output-kind", "logits", "--no-upsample"]
    assert main([*base, *sizes, "--classes", str(tmp_path / "names.txt")]) == 0
    out = capsys.readouterr().out
    assert "input 33x33, 49x65" in out
    assert [name for name in rows(out) if "x" in name] == ["float32, 49x65", "float32, 33x33"]
    assert "not compared with the model: give --evaluate DATA" in out
    assert main(["inspect", str(target)]) == 0
    assert "bilinear, align_corners" in capsys.readouterr().out
    assert main([*base, "--input-size", "dynamic"]) == 0
    assert "input any" in capsys.readouterr().out
    for arguments, message in (
        (["--input-size", "33", "--precision", "int4"], "precision must be one of float32"),
        (["--input-size", "33", "--precision", "float32,float32"], "each once"),
        (["--input-size", "33", "--calibration", "."], "--calibration is for files with int8 in them"),
        (["--input-size", "33", "--layer-errors", "2"], "errors of layers are told of int8 and int16x8 files"),
        (["--input-size", "33", "--fine-tune-steps", "2"], "fine_tune_steps and float_tensors are for int8"),
        (["--input-size", "33", "--runtimes", "tensorrt"], "runtimes must be some of onnxruntime, openvino"),
        (["--input-size", "33", "--palette", str(tmp_path / "names.txt")], "must hold three numbers in 0..255 a line"),
    ):
        before = target.read_bytes()
        assert main([*base, *arguments]) == 1
        assert message in capsys.readouterr().err
        assert target.read_bytes() == before
    for arguments, message in (
        (
            ["--input-size", "33,huge"],
            "--input-size must be N or HEIGHTxWIDTH, several with commas, or dynamic; received",
        ),
        (["--input-size", "33", "--max-miou-drop", "0.1"], "--max-miou-drop needs labelled images"),
        (
            ["--input-size", "33", "--calibration-samples", "0"],
            "--calibration-samples must be a whole number, at least 1",
        ),
    ):
        with pytest.raises(SystemExit):
            main([*base, *arguments])
        assert message in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "unverified" in path.name]


@pytest.mark.slow
def test_onnx(folder, tmp_path, capsys):
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package)
    arguments = ["export-onnx", str(folder / "model.keras"), str(tmp_path / "m.onnx"), "--rounds", "1"]
    assert main([*arguments, "--evaluate", str(folder / "data")]) == 0
    row = rows(capsys.readouterr().out)["ONNX, onnxruntime"]
    assert row[0] == f"{(tmp_path / 'm.onnx').stat().st_size:,}"
    assert row[3] == "100.000 %"
    # It is a predictor's file too.
    scores = tmp_path / "scores.json"
    assert main(["evaluate", str(tmp_path / "m.onnx"), str(folder / "data"), "--json", str(scores)]) == 0
    assert f"{json.loads(scores.read_text())['mean_iou']:.4f}" == row[1]
    capsys.readouterr()
    (tmp_path / "m.onnx").unlink()
    assert main([*arguments, "--evaluate", str(folder / "data"), "--max-miou-drop", "-1"]) == 1
    assert "the converted file is no good" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".onnx"] == ["m.rejected.onnx"]
    # Beside a TFLite file of several sizes an ONNX file stands at each of them.
    sizes = ["export-tflite", str(folder / "model.keras"), str(tmp_path / "m.tflite"), "--input-size", "33,49x65"]
    sizes += ["--rounds", "1", "--runtimes", "onnxruntime", "--evaluate", str(folder / "data")]
    assert main([*sizes, "--max-miou-drop", "-1"]) == 1
    out, err = capsys.readouterr()
    for size in ("49x65", "33x33"):
        assert rows(out)[f"float32, {size}"][3] == rows(out)[f"ONNX, onnxruntime, {size}"][3] == "100.000 %"
        assert err.count(f"the converted file is no good at {size}: mIoU on") == 1
    assert (tmp_path / "m.rejected.tflite").is_file()


def test_the_records_have_the_exporters_options_and_defaults():
    import inspect

    from keras_deeplab import export_saved_model, export_tflite
    from keras_deeplab.export import settings
    from keras_deeplab.export.onnx import export_compared, export_onnx
    from keras_deeplab.export.tflite import export_precisions
    from keras_deeplab.options import options

    own = {"precision", "classes", "palette", "options", "progress"}
    for record, function in (
        (settings.TFLiteOptions, export_tflite),
        (settings.ONNXOptions, export_onnx),
        (settings.SavedModelOptions, export_saved_model),
        (settings.ComparisonOptions, export_precisions),
        (settings.ComparisonOptions, export_compared),
    ):
        names = {
            name: parameter.default
            for name, parameter in list(inspect.signature(function).parameters.items())[2:]
            if name not in (*own, "source", "precisions")
        }
        assert set(options(record)) == set(names), function.__name__
        for name, entry in options(record).items():
            if name != "runtimes":  # of one kind of file those, of the other none
                assert entry.default == names[name], name
