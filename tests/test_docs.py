"""The documentation: its commands exist, its Python runs, and the site is built without a warning.

A block of Python that can't be run here stands below a comment `<!-- not run: REASON -->`. The others of a page run one
after the other, in a folder with small stand-ins for what the reader has, and with numbers that are small as well.
"""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documentation import PAGES, ROOT, named, small_model, write_folder
from tiny_backbone import tiny, tiny_backbone  # noqa: F401

from keras_deeplab._helpers.opencv import cv2

_REASON, _CODE = r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?", r"^```python\n(?P<code>.*?)^```"
_BLOCK = re.compile(_REASON + _CODE, re.MULTILINE | re.DOTALL)
_CALLS = r"keras-deeplab|tools/\w+\.py|python benchmarks/\S+\.py"
_COMMAND = re.compile(rf"^(?:    )?(?:\$ )?((?:{_CALLS}) .*)$", re.MULTILINE)


# Commands -------------------------------------------------------------------------------------------------------


def commands(text):
    """The lines of a page that call a command or a script of this repository, continued lines joined, as words."""
    for line in _COMMAND.findall(re.sub(r"\\\n\s*", " ", text)):
        line = re.split(r"\s{4,}|\s# ", line)[0]
        yield shlex.split(re.sub(r"[\[\]|]", " ", line).replace("...", ""))


@pytest.mark.parametrize("page", PAGES, ids=named(PAGES))
def test_commands_and_their_flags_exist(page):
    from importlib import import_module

    from keras_deeplab.cli import COMMANDS, _flags

    for words in commands(page.read_text("utf-8")):
        if words[0] == "python":
            script = ROOT / words[1]
            assert script.is_file(), f"{words[1]} is told of and isn't there"
            text = script.read_text("utf-8")
            known = re.findall(r'"(--[a-z0-9-]+)"', text)
        else:
            name = words[1] if words[0] == "keras-deeplab" else Path(words[0]).stem.replace("_", "-")
            words = words[: words.index("--")] if "--" in words else words
            known = _flags(import_module(COMMANDS[name]).Arguments)
        missing = [word for word in words[2:] if word.startswith("--") and word.partition("=")[0] not in known]
        assert not missing, f"{' '.join(words)}: there is no {', '.join(missing)}"


def test_a_flag_that_is_not_there_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("    keras-deeplab train DATA \\\n        --run-dir RUN --stepz 3\n")
    with pytest.raises(AssertionError, match="there is no --stepz"):
        test_commands_and_their_flags_exist(page)


# Python ---------------------------------------------------------------------------------------------------------

# What a reader trains for hours is two steps here.
_SMALLER = {
    r"\b30000\b": "2",
    r"\b1000\b": "1",
    r"crop_size=513": "crop_size=33",
    r"batch_size=(16|8)": "batch_size=2",
    r"epochs=30": "epochs=1",
    r"tile=1536": "tile=128",
    r"\(513, 513\)": "(65, 65)",
    r'"xception(_65)?"': '"tiny"',
}
RUNS = [page for page in PAGES if any(not found["reason"] for found in _BLOCK.finditer(page.read_text("utf-8")))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader is: photographs with masks, files of models."""
    path = tmp_path_factory.mktemp("reader")
    write_folder(path)
    return path


def _standins(folder):
    """What pages take for granted: a model, images, data."""
    import keras

    import keras_deeplab
    from keras_deeplab import data
    from keras_deeplab.data import pipeline
    from keras_deeplab.training import losses

    source, validation = (data.load(folder / "photographs", split=split) for split in ("train", "val"))
    image = source.sample(0)[0]
    return {
        "keras": keras,
        "keras_deeplab": keras_deeplab,
        "model": small_model(),
        "classifier": tiny(),
        "image": image,
        "array": image,
        "images": np.stack([image, image]),
        "source": source,
        "validation": validation,
        "loss": losses.SparseCategoricalCrossentropy(),
        "batches": pipeline.training(source, batch_size=2, crop_size=33),
        "others": pipeline.evaluation(validation).map(lambda sample: (sample["image"], sample["label"])).batch(1),
    }


@pytest.fixture
def registries():
    """Takes away again what pages register."""
    from keras_deeplab.data.doctor import CHECKS

    kept = dict(CHECKS)
    yield
    CHECKS.clear()
    CHECKS.update(kept)


@pytest.mark.slow
@pytest.mark.usefixtures("registries")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUNS, ids=named(RUNS))
def test_the_python_of_a_page_runs(page, folder, tmp_path, monkeypatch, tiny_backbone):  # noqa: F811
    here = shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(here)
    names, text = _standins(here), page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        if found["reason"]:
            continue
        code = found["code"]
        for pattern, small in _SMALLER.items():
            code = re.sub(pattern, small, code)
        line = text[: found.start()].count("\n") + 2
        exec(compile("\n" * line + code, str(page), "exec"), names)


@pytest.mark.slow
def test_the_script_that_runs_a_saved_model(folder, tmp_path):
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(\"\"\"python segment.py.*?)```", page, re.DOTALL)
    (tmp_path / "segment.py").write_text(script)
    words = ["segment.py", str(folder / "savedmodels" / "mine" / "1"), str(folder / "photo.png"), "labels.png"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    labels = cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == cv2.imread(str(folder / "photo.png")).shape[:2]
    values, counts = np.unique(labels, return_counts=True)
    assert ast.literal_eval(done.stdout) == dict(zip(values.tolist(), counts.tolist(), strict=True))


# The site -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "models" / "index.html").read_text("utf-8")
    assert "include_preprocessing" in page
    assert "whether the model takes RGB pixels" in page  # the arguments that all builders share


def test_what_is_cited_is_this_version():
    import keras_deeplab

    (version,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert version == keras_deeplab.__version__
