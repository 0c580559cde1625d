"""The shell commands of the documentation run: a page's in order, on small stand-ins for what the reader has.

A block that can't be run here stands below a comment `<!-- not run: REASON -->`. What a reader trains for hours is two
steps of a network of five convolutions here, and images and files are small; all other words are the page's own. Where
nothing on the page takes what was trained, the network is built and the settings are made, and no step is run.
"""

import glob
import re
import shlex
import shutil
from importlib.util import find_spec

import annotation_exports
import numpy as np
import pytest
from documentation import PAGES, named, small_model, write_data_set
from tiny_backbone import tiny_backbone  # noqa: F401  a fixture

from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.cli import main

_REASON = r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?(?:<!-- test command -->\n)?"
_FENCED = r"^```(?P<language>\w*)\n(?P<fenced>(?:(?!```).*\n)*)```"
_INDENTED = r"(?:(?<=\n\n)|(?<=-->\n))(?P<indented>(?:    .*\n|\n(?=    ))+)"
_BLOCK = re.compile(rf"{_REASON}(?:{_FENCED}|{_INDENTED})", re.MULTILINE)
_PROGRAMS = r"keras-deeplab|tools/\S+|python3?|pip|docker|cd|curl|tensorboard|\.ci/run|\.venv/\S+"
_COMMAND = re.compile(rf"(?:\$ |\()?(?:[A-Z_]+=\S+ )*(?:{_PROGRAMS})(?: |$)")

CLASSES = ("background", "person", "bicycle", "car", "bus", "train")
# What stands for what a page calls by a name in capitals.
_MEANT = {
    "MODEL": "model.keras",
    "OTHER": "other.keras",
    "CHECKPOINT": "model.keras",
    "FILE": "other.keras",
    "DATA": "photographs",
    "DATASET": "photographs",
    "VOC": "photographs",
    "EXPORT": "garden",
    "IMAGE": "scene.png",
    "PATTERN": "mobile",
    "SIZE": "112",
    "SIDE": "200",
    "N": "16",
    "SHARE": "1",
}
_SMALLER = {
    r"--steps \d+": "--steps 2",
    r"--hard-example-steps \d+": "--hard-example-steps 2",
    r"--epochs \d+": "--epochs 1",
    r"--batch-size \d+": "--batch-size 2",
    r"--backbone \S+": "--backbone tiny",
    r"--backbone-weights \S+": "",
    r"--input-size \d+": "--input-size 65",
    r"--input-sizes \S+": "--input-sizes 65,97",
    r"--max-miou-drop \S+": "--max-miou-drop 1",
    r"--w1 \S+": "--w1 5,7",
    r"--precision all": "--precision float32,float16",
}
# What is put behind a command, unless it has the flag or the other one that stands for it.
_ADDED = {
    "train": ("--steps 2", "--batch-size 2", "--crop-size 33", "--backbone tiny"),
    # A share that is pruned to is one code path, whichever it is; float32 files are in test_export_shrink.py.
    "shrink": ("--precisions float16,int8", "--multiply-adds 1,0.75", "--rounds 2"),
}
_INSTEAD = {"--steps": "--epochs", "--backbone": "--weights"}
# Modules and programs that not every machine has, by a word of the command.
_NEEDS = {"export-onnx": ("tf2onnx", "onnxruntime", "openvino"), "--audio": ("ffmpeg",)}


def blocks(text):
    """(line, commands, reason not to run them) of each block of a page that has commands."""
    for found in _BLOCK.finditer(text):
        content = found["fenced"] if found["indented"] is None else re.sub(r"^    ", "", found["indented"], flags=re.M)
        lines = re.sub(r" *\\\n\s*", " ", content).splitlines()
        if found["language"] in ("bash", "", None) and any(_COMMAND.match(line) for line in lines):
            prompted = [line[2:] for line in lines if line.startswith("$ ")]
            plain = [re.split(r"\s{4,}|\s+# ", line)[0].strip() for line in prompted or lines]
            yield text[: found.start()].count("\n") + 1, [line for line in plain if line], found["reason"]


def words_of(command):
    """A command's words as the shell gives them, with the stand-ins."""
    command = re.sub(r"\|\S+|[][]|\.\.\.", "", command)
    for pattern, smaller in _SMALLER.items():
        command = re.sub(pattern, smaller, command)
    words = []
    for word in shlex.split(command):
        word = _MEANT.get(word, word)
        words += sorted(glob.glob(word)) or [word] if "*" in word else [word]
    for added in _ADDED.get(words[1], ()):
        flag, value = added.split()
        words += [] if {flag, _INSTEAD.get(flag)} & set(words) else [flag, value]
    return words


RUN = [page for page in PAGES if any(reason is None for _, _, reason in blocks(page.read_text("utf-8")))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_backbone):  # noqa: F811
    """Where a reader is. Pages share it, in order: what one has trained, the next finds finished."""
    from keras_deeplab.inference.frames import VideoFile

    path = tmp_path_factory.mktemp("reader")
    write_data_set(path / "photographs", classes=CLASSES)
    annotation_exports.EXPORTS["coco"](path / "garden")
    annotation_exports.EXPORTS["coco"](path / "crowds")
    image = cv2.imread(str(path / "photographs" / "images" / "a.png"))
    for name in ("photos/a.jpg", "holiday/b.jpg"):
        (path / name).parent.mkdir()
        cv2.imwrite(str(path / name), image)
    cv2.imwrite(str(path / "scene.png"), np.tile(image, (5, 5, 1)))
    video = VideoFile(path / "street.mp4", image.shape[:2], 25.0)
    for _ in range(3):
        video.write(image)
    video.close()
    for name in ("model.keras", "other.keras"):
        small_model(CLASSES).save(path / name)
    return path


@pytest.fixture(scope="module")
def done():
    """The words of what was run: what two pages tell in the same words is run once."""
    return []


def only_built(model, source, run_dir, *, settings, **_):
    """In the place of `keras_deeplab.train`: what it would train can be, and nothing is."""
    from keras_deeplab.training.trainer import compiled

    compiled(model, source, settings)
    return {"best": None, "best_model": None, "last": f"{run_dir}/last.keras"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUN, ids=named(RUN))
def test_the_commands_of_a_page_run(page, folder, done, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    shutil.rmtree("RUN", ignore_errors=True)
    commands = [each for _, commands, reason in blocks(page.read_text("utf-8")) if not reason for each in commands]
    for place, command in enumerate(commands):
        program, *words = words_of(command)
        assert program == "keras-deeplab", f"no test runs {command!r}: a comment above it has to say why"
        needed = [name for word in words for name in _NEEDS.get(word, ())]
        if not all(find_spec(name) or shutil.which(name) for name in needed) or words in done:
            continue
        with monkeypatch.context() as patch:
            if words[0] == "train" and not any(takes(later, words) for later in commands[place + 1 :]):
                patch.setattr("keras_deeplab.train", only_built)
            status = main(words)
        if "RUN" not in words:  # which is another one on each page
            done.append(words)
        assert status == 0, f"{command}\nas {shlex.join(words)}\n{capfd.readouterr().err}"


def takes(command, train):
    """Whether a command takes the run of a `train` before it."""
    run = train[train.index("--run-dir") + 1]
    return any(word == run or word.startswith(f"{run}/") for word in words_of(command)) and "train" not in command


def test_a_block_is_found_in_both_forms_and_says_why_it_is_not_run():
    page = """
<!-- not run: REASON -->

    pip install it   # comment

Text `keras-deeplab x`.

    keras-deeplab train DATA \\
        --run-dir RUN [--epochs 3]      explained

```
$ keras-deeplab models PATTERN
printed
```

    folder/
      keras-deeplab
"""
    found = list(blocks(page))
    assert found == [
        (2, ["pip install it"], "REASON"),
        (8, ["keras-deeplab train DATA --run-dir RUN [--epochs 3]"], None),
        (11, ["keras-deeplab models PATTERN"], None),
    ]
    expected = "keras-deeplab train photographs --run-dir RUN --epochs 1 --batch-size 2 --crop-size 33 --backbone tiny"
    assert words_of(found[1][1][0]) == expected.split()
