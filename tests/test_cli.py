"""The commands as a user runs them: in a process of their own, on folders, and with things wrong."""

import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tiny_backbone import tiny, tiny_backbone  # noqa: F401  a fixture

import keras_deeplab
from keras_deeplab import quickstart
from keras_deeplab.cli import COMMANDS, main

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
def trained(folder, tiny_backbone, tmp_path_factory):  # noqa: F811
    """A finished run of a network that is traced in a moment; `test_cli_network.py` has those that options lead to."""
    run = tmp_path_factory.mktemp("run") / "shapes"
    assert main(train_arguments(folder, run, "--tensorboard")) == 0
    return run


def train_arguments(folder, run, *more):
    sizes = ["--crop-size", "49x65", "--batch-size", "2", "--steps", "4", "--validation-every", "2"]
    network = [] if "--weights" in more else ["--model", "deeplabv3", "--backbone", "tiny"]
    return ["train", str(folder), "--run-dir", str(run), "--optimizer", "adam", *network, *sizes, *more]


@pytest.mark.slow
def test_train_evaluate_predict_export(trained, folder, tmp_path, capsys):
    assert {"last.keras", "best.keras", "history.jsonl", "config.json"} <= {p.name for p in trained.iterdir()}
    events = b"".join(path.read_bytes() for path in (trained / "tensorboard").iterdir())
    assert events.count(b"validation/mean_iou") == 2
    assert b"images/" in events
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
    arguments = ["export-tflite", model, str(tflite), "--precision", "int8", "--input-size", "49x65", "--rounds", "2"]
    assert main([*arguments, "--calibration", str(folder), "--calibration-samples", "4"]) == 0
    out = capsys.readouterr().out
    assert "Keras model" in out
    assert "| int8 " in out
    # A byte a weight and some for the structure.
    assert tflite.stat().st_size < 1.3 * keras_deeplab.load(model).count_params()
    assert main(["evaluate", str(tflite), str(folder)]) == 0
    assert main(["evaluate", str(tmp_path / "served"), str(folder)]) == 0


@pytest.mark.slow
def test_a_file_that_loses_too_much_is_refused(trained, folder, tmp_path, capsys):
    target = tmp_path / "model.tflite"
    arguments = ["export-tflite", str(trained / "last.keras"), str(target), "--input-size", "49x65"]
    # A float file loses nothing; -1 can't be met, so that the refusal itself is seen.
    assert main([*arguments, "--evaluate", str(folder), "--max-miou-drop", "-1"]) == 1
    assert "no good" in capsys.readouterr().err
    assert not target.exists()
    message = "--max-miou-drop needs labelled images to compare on: give --evaluate DATA\n"
    assert refused([*arguments, "--max-miou-drop", "0.1"], capsys) == f"keras-deeplab export-tflite: error: {message}"


@pytest.mark.slow
def test_the_same_command_continues_and_says_when_it_is_finished(trained, folder, capsys):
    before = (trained / "last.keras").stat().st_mtime_ns
    assert main(train_arguments(folder, trained)) == 0
    assert "finished run of 4 steps" in capsys.readouterr().out
    assert (trained / "last.keras").stat().st_mtime_ns == before
    assert main(train_arguments(folder, trained, "--learning-rate", "0.1")) == 1
    assert "learning_rate" in capsys.readouterr().err


@pytest.mark.slow
def test_training_goes_on_from_a_file_at_its_own_output_stride(folder, tiny_backbone, tmp_path):  # noqa: F811
    model = keras_deeplab.DeepLabV3(tiny_backbone, num_classes=6, output_stride=8)
    model.save(tmp_path / "eight.keras")
    arguments = train_arguments(folder, tmp_path / "run", "--weights", str(tmp_path / "eight.keras"))
    assert main(arguments) == 0
    assert keras_deeplab.load(tmp_path / "run" / "last.keras").spec.output_stride == 8
    assert keras_deeplab.load(tmp_path / "run" / "last.keras", output_stride=16).spec.output_stride == 16


TRAIN = ["train", "FOLDER", "--run-dir", "RUN", "--steps", "1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "no/model.keras", "FOLDER"], "no/model.keras"),
        (["evaluate", "FOLDER/classes.txt", "FOLDER"], "is no checkpoint that can be read"),
        (["evaluate", "FOLDER/images", "FOLDER"], "no checkpoint"),
        (["train", "nowhere", "--run-dir", "RUN", "--steps", "1"], "nowhere"),
        ([*TRAIN, "--backbone", "resnet"], "Unknown backbone 'resnet'"),
        ([*TRAIN, "--num-classes", "2"], "classes.txt has 6 classes"),
        (
            ["train", "synthetic", "--run-dir", "RUN", "--steps", "1", "--num-classes", "2"],
            "doesn't take --num-classes",
        ),
        ([*TRAIN, "--augmented"], "doesn't take --augmented"),
        (
            [*TRAIN, "--mask-encoding", "rgb"],
            "--mask-encoding rgb needs --colors FILE",
        ),
        ([*TRAIN, "--binary"], "--binary is for data of two classes"),
        ([*TRAIN, "--model", "deeplab3"], "did you mean 'deeplabv3'?"),
        (
            [*TRAIN, "--variant", "4x4"],
            "--variant is no option of deeplabv3plus, which takes --backbone, --output-stride, --flavour, "
            "--atrous-rates, --multi-grid, --auxiliary-head, --backbone-weights",
        ),
        (
            [
                "train",
                "FOLDER",
                "--run-dir",
                "RUN",
                "--steps",
                "1",
                "--model",
                "vainf_deeplabv3_mobilenet",
                "--backbone",
                "vgg16",
            ],
            "has a backbone of its own",
        ),
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


@pytest.mark.slow
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


def refused(arguments, capsys):
    """What stands on stderr where a command line is refused before any work."""
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_sizes_on_the_command_line(capsys):
    for text in ("0", "12x", "1x2x3", "large"):
        error = refused(["evaluate", "m", "d", "--input-size", text], capsys)
        assert error.endswith(f"error: --input-size must be N or HEIGHTxWIDTH, at least 1; received {text}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give --steps or --epochs: how long to train"),
        ("--steps 5 --epochs 2", "give --steps or --epochs: how long to train, not both"),
        ("--steps 5 --learning-rate -1", "--learning-rate must be a finite number, at least 0; received -1"),
        ("--epochs -3", "--epochs must be a finite number, greater than 0; received -3"),
        ("--steps 5 --power nan", "--power must be a finite number, at least 0; received nan"),
        ("--steps 5 --scale-range 1", "--scale-range must be two finite numbers LOW,HIGH, greater than 0; received 1"),
        ("--steps 5 --scale-range 2,1", "--scale-range must begin with the smaller scale; received 2, 1"),
        ("--steps 5 --batch-size 0", "--batch-size must be a whole number, at least 1; received 0"),
        ("--steps 5 --crop-size 0x5", "--crop-size must be N or HEIGHTxWIDTH, at least 1; received 0x5"),
        ("--steps 5 --warmup-steps 6", "--warmup-steps must be at most --steps, 5; received 6"),
        (
            "--steps 5 --schedule ploy",
            "--schedule must be one of poly, cosine, step, constant; received ploy: did you mean 'poly'?",
        ),
        ("--steps 5 --learning-rat 1", "unknown option --learning-rat: did you mean --learning-rate?"),
        ("--steps 5 --no-flipp", "unknown option --no-flipp: did you mean --no-flip?"),
        ("--steps 5 --lear 1", "unknown option --lear: did you mean --learning-rate?"),
        ("--steps 5 --atrous-rates 6,x", "--atrous-rates must be whole numbers N,N, at least 1; received 6,x"),
        (
            "--steps 5 --weights a --backbone vgg16",
            "--weights holds the backbone too: give it or --backbone, not both",
        ),
    ],
)
def test_nonsense_is_refused_before_any_work_in_one_line(words, message, capsys):
    error = refused(["train", "nowhere", "--run-dir", "nowhere", *words.split()], capsys)
    assert error == f"keras-deeplab train: error: {message}\n"


def test_a_file_of_colours_that_is_none_is_told_before_any_work(tmp_path, capsys):
    (tmp_path / "colors.txt").write_text("0 0 0\nroad\n")
    error = refused(["train", "d", "--run-dir", "r", "--steps", "1", "--colors", str(tmp_path / "colors.txt")], capsys)
    assert error.endswith("colors.txt must hold three numbers in 0..255 a line (R G B); it has 'road'\n")


def test_the_nearest_command_is_named(capsys):
    assert refused(["trian"], capsys) == "keras-deeplab: error: unknown command 'trian': did you mean 'train'?\n"
    assert "Known: train, " in refused(["xyzzy"], capsys)


def test_a_command_is_a_module_and_a_row(monkeypatch, capsys):
    """From outside the package: one file, one row."""
    code = """
from keras_deeplab.options import Options, option, record

HELP = "Says how often."


@record
class Arguments(Options):
    word: str = option(help="what", flag=None, metavar="WORD")
    times: int = option(2, "how often", minimum=1)


def run(arguments):
    print(arguments.word * arguments.times)
"""
    module = types.ModuleType("say")
    exec(code, module.__dict__)  # as a file would be imported
    monkeypatch.setitem(sys.modules, "say", module)
    monkeypatch.setitem(COMMANDS, "say", "say")
    assert main(["say", "ab", "--times", "3"]) == 0
    assert capsys.readouterr().out == "ababab\n"
    assert refused(["say", "ab", "--times", "0"], capsys).endswith(
        "--times must be a whole number, at least 1; received 0\n"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name):
    code = (
        "import sys, keras_deeplab.cli as cli\n"
        f"try: cli.main([{name!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join({'tensorflow', 'keras', 'numpy', 'cv2', 'tensorflow_datasets'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: keras-deeplab {name} [-h]")


@pytest.mark.slow
def test_quickstart_leaves_what_it_says(tmp_path, capsys, monkeypatch):
    """With a handful of steps and images and a small network: the model is poor, every file is there."""
    monkeypatch.setattr(quickstart, "SIZE", 65)
    monkeypatch.setattr(quickstart, "IMAGES", {"train": 8, "val": 8})
    monkeypatch.setattr(quickstart, "BATCH_SIZE", 2)
    monkeypatch.setattr(quickstart, "network", small_network)
    assert main(["quickstart", "--output", str(tmp_path), "--steps", "4"]) == 0
    out = capsys.readouterr().out
    for name in ("model.tflite", "saved_model/1/saved_model.pb", "run/last.keras", "overlays.png"):
        assert (tmp_path / name).is_file()
    assert str(tmp_path / "overlays.png") in out
    from keras_deeplab._helpers.opencv import cv2

    sheet = cv2.imread(str(tmp_path / "overlays.png"))
    assert sheet.shape == (4 * 65, 2 * 3 * 65, 3)
    assert np.unique(sheet).size > 50


def small_network(source):
    return keras_deeplab.DeepLabV3(tiny(), num_classes=6, filters=8, classes=source.classes_spec)


def test_quickstart_trains_a_small_mobile_network():
    from keras_deeplab import data
    from keras_deeplab._helpers.unallocated import unallocated

    source = data.load("synthetic", num_examples=1)
    with unallocated():
        model = quickstart.network(source)
    assert (model.spec.builder, model.spec.output_stride) == ("DeepLabV3Plus", 16)
    assert model.spec.classes == source.classes_spec
    assert 500_000 < model.count_params() < 1_000_000


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are in UTF-8")
def test_a_name_that_no_encoding_has_ends_no_command(tmp_path, monkeypatch):
    """It is shown with what stands for its bytes."""
    path = tmp_path / os.fsdecode(b"model\xff.txt")
    path.write_text("no model")
    shown = {name: io.TextIOWrapper(io.BytesIO(), "utf-8") for name in ("stdout", "stderr")}
    for name, stream in shown.items():
        monkeypatch.setattr(sys, name, stream)
    assert main(["inspect", str(path)]) == 1
    shown["stderr"].flush()
    assert rb"model\udcff.txt" in shown["stderr"].buffer.getvalue()
