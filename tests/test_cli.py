"""The commands as a user runs them: in a process of their own, on folders, and with things wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_deeplab
from keras_deeplab.cli import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve drawn images and masks as files, in the folder layout."""
    from keras_deeplab import data
    from keras_deeplab._helpers.opencv import cv2
    from keras_deeplab.data.masks import write_label_png

    root = tmp_path_factory.mktemp("photographs")
    source = data.load("synthetic", split="train", num_examples=12, size=(48, 64))
    for sub in ("images", "masks", "splits"):
        (root / sub).mkdir()
    names = []
    for sample in source.dataset().as_numpy_iterator():
        name = sample["name"].decode()
        cv2.imwrite(str(root / "images" / f"{name}.png"), sample["image"][..., ::-1])
        write_label_png(root / "masks" / f"{name}.png", sample["label"])
        names.append(name)
    (root / "splits" / "train.txt").write_text("\n".join(names[:8]))
    (root / "splits" / "val.txt").write_text("\n".join(names[8:]))
    (root / "classes.txt").write_text("\n".join(source.classes))
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "shapes"
    assert main(train_arguments(folder, run)) == 0
    return run


def train_arguments(folder, run, *more):
    sizes = ["--crop-size", "49x65", "--batch-size", "2", "--steps", "4", "--validation-every", "2"]
    return ["train", str(folder), "--run-dir", str(run), "--optimizer", "adam", *sizes, *more]


def test_train_evaluate_predict_export(trained, folder, tmp_path, capsys):
    assert {"last.keras", "best.keras", "history.jsonl", "config.json"} <= {p.name for p in trained.iterdir()}
    model = str(trained / "last.keras")

    assert main(["evaluate", model, str(folder), "--json", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    out = capsys.readouterr().out
    assert "mean IoU" in out
    assert "triangle" in out
    assert f"{scores['mean_iou']:.4f}" in out

    images = folder / "images"
    assert main(["predict", model, str(images), "--output-dir", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*_overlay.png"))) == 12

    assert main(["export-saved-model", model, str(tmp_path / "served")]) == 0
    assert main(["export-saved-model", model, str(tmp_path / "served")]) == 0
    assert {p.name for p in (tmp_path / "served").iterdir()} == {"1", "2"}
    assert (tmp_path / "served" / "1" / "assets.extra" / "classes.txt").read_text().split() == [
        "background", "disc", "square", "triangle", "star", "ring",
    ]  # fmt: skip

    tflite = tmp_path / "model.tflite"
    arguments = ["export-tflite", model, str(tflite), "--precision", "int8", "--input-size", "49x65"]
    assert main([*arguments, "--calibration", str(folder), "--calibration-samples", "4"]) == 0
    out = capsys.readouterr().out
    assert "Keras model" in out
    assert "| int8 " in out
    assert tflite.stat().st_size < 4_000_000
    assert main(["evaluate", str(tflite), str(folder)]) == 0
    assert main(["evaluate", str(tmp_path / "served"), str(folder)]) == 0


def test_a_file_that_loses_too_much_is_refused(trained, folder, tmp_path, capsys):
    target = tmp_path / "model.tflite"
    arguments = ["export-tflite", str(trained / "last.keras"), str(target), "--input-size", "49x65"]
    # A float file loses nothing; -1 can't be met, so that the refusal itself is seen.
    assert main([*arguments, "--evaluate", str(folder), "--max-miou-drop", "-1"]) == 1
    assert "no good" in capsys.readouterr().err
    assert not target.exists()
    assert main([*arguments, "--max-miou-drop", "0.1"]) == 1
    assert "--evaluate DATA" in capsys.readouterr().err


def test_the_same_command_continues_and_says_when_it_is_finished(trained, folder, capsys):
    before = (trained / "last.keras").stat().st_mtime_ns
    assert main(train_arguments(folder, trained)) == 0
    assert "finished run of 4 steps" in capsys.readouterr().out
    assert (trained / "last.keras").stat().st_mtime_ns == before
    assert main(train_arguments(folder, trained, "--learning-rate", "0.1")) == 1
    assert "learning_rate" in capsys.readouterr().err


def test_training_goes_on_from_a_file_at_its_own_output_stride(folder, tmp_path, capsys):
    model = keras_deeplab.DeepLabV3("mobilenet_v2_dm05", num_classes=6, output_stride=8)
    model.save(tmp_path / "eight.keras")
    arguments = train_arguments(folder, tmp_path / "run", "--weights", str(tmp_path / "eight.keras"))
    assert main(arguments) == 0
    with pytest.raises(ValueError, match="the output stride 8, 16 was asked for"):
        keras_deeplab.load(tmp_path / "run" / "last.keras", output_stride=16)
    capsys.readouterr()
    assert main([*arguments, "--output-stride", "16", "--restart"]) == 1
    assert "its network has the output stride 8, 16 was asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "no/model.keras", "FOLDER"], "no/model.keras"),
        (["evaluate", "FOLDER/classes.txt", "FOLDER"], "is no checkpoint that can be read"),
        (["evaluate", "FOLDER/images", "FOLDER"], "no checkpoint"),
        (["train", "FOLDER", "--run-dir", "RUN"], "--steps or --epochs"),
        (["train", "nowhere", "--run-dir", "RUN", "--steps", "1"], "nowhere"),
        (["train", "FOLDER", "--run-dir", "RUN", "--steps", "1", "--backbone", "resnet"], "Unknown backbone 'resnet'"),
        (["train", "FOLDER", "--run-dir", "RUN", "--steps", "1", "--num-classes", "2"], "classes.txt has 6 classes"),
        (["train", "synthetic", "--run-dir", "RUN", "--steps", "1", "--num-classes", "2"], "doesn't take"),
        (["export-tflite", "MODEL", "OUT", "--precision", "int8", "--input-size", "33"], "--calibration"),
        (["export-tflite", "MODEL", "OUT"], "--input-size"),
        (["predict", "MODEL", "FOLDER/nothing-*.jpg"], "nothing-"),
    ],
)
def test_errors_are_one_message_and_status_1(arguments, message, folder, trained, tmp_path, capsys):
    places = {"FOLDER": str(folder), "RUN": str(tmp_path / "run"), "MODEL": str(trained / "last.keras")}
    places["OUT"] = str(tmp_path / "out.tflite")
    for word, place in places.items():
        arguments = [argument.replace(word, place) for argument in arguments]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"keras-deeplab {arguments[0]}: error: ")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out.tflite").exists()


def test_an_unreadable_photograph_fails_alone(trained, folder, tmp_path, capsys):
    good = next((folder / "images").iterdir())
    (tmp_path / "broken.jpg").write_bytes(good.read_bytes()[:40])
    arguments = ["predict", str(trained / "last.keras"), str(good), str(tmp_path / "broken.jpg")]
    assert main([*arguments, "--output-dir", str(tmp_path / "out")]) == 1
    assert "broken.jpg" in capsys.readouterr().out
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "tools").glob("*.py")))
def test_scripts_are_the_commands(script):
    result = subprocess.run(
        [sys.executable, str(ROOT / "tools" / script), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    command = {"convert_checkpoint.py": "convert"}.get(script, script.removesuffix(".py").replace("_", "-"))
    assert f"keras-deeplab {command} [-h]" in result.stdout


def test_sizes_on_the_command_line(capsys):
    for text in ("0", "12x", "1x2x3", "large"):
        with pytest.raises(SystemExit):
            main(["evaluate", "m", "d", "--input-size", text])
        assert "argument --input-size" in capsys.readouterr().err


def test_quickstart_leaves_what_it_says(tmp_path, capsys):
    """With a handful of steps: the model is poor, every file is there."""
    assert main(["quickstart", "--output", str(tmp_path), "--steps", "4"]) == 0
    out = capsys.readouterr().out
    for name in ("model.tflite", "saved_model/1/saved_model.pb", "run/last.keras", "overlays.png"):
        assert (tmp_path / name).is_file()
    assert str(tmp_path / "overlays.png") in out
    from keras_deeplab._helpers.opencv import cv2

    sheet = cv2.imread(str(tmp_path / "overlays.png"))
    assert sheet.shape == (4 * 129, 2 * 3 * 129, 3)
    assert np.unique(sheet).size > 50
