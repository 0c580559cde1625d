"""The notebooks are those of docs/notebooks.py, and their cells run in order, on fewer and smaller things."""

import importlib.util
import json
import re
import shlex

import pytest
from documentation import ROOT
from tiny_backbone import tiny

from keras_deeplab.cli import main

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
_SMALLER = {
    r"steps=300": "steps=2",
    r"validation_every=100": "validation_every=2",
    r"num_examples=40": "num_examples=6",
    r"size=129": "size=65",
    r"--input-size 129": "--input-size 65",
    r"mobilenet_v2\(alpha=0\.5\)": "tiny()",
}


def generator():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebooks_are_what_their_script_writes():
    module = generator()
    assert [path.stem for path in NOTEBOOKS] == sorted(module.NOTEBOOKS)
    for path in NOTEBOOKS:
        assert json.loads(path.read_text("utf-8")) == module.notebook(module.NOTEBOOKS[path.stem])


def run(cell, names):
    """Runs a cell as a notebook does: lines that begin with ! are commands."""
    for pattern, smaller in _SMALLER.items():
        cell = re.sub(pattern, smaller, cell)
    if not cell.startswith("!"):
        exec(compile(cell, "a cell", "exec"), names)
        return
    for line in re.sub(r"\\\n\s*", " ", cell).splitlines():
        program, *words = shlex.split(line.removeprefix("!"))
        assert (program, main(words)) == ("keras-deeplab", 0), line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_cells_of_a_notebook_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"tiny": tiny}
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        source = "".join(cell["source"])
        if "%pip" not in source:
            run(source, names)
    if path.stem == "checkpoint":  # the most that outputs differ by is what one of its cells shows
        import numpy as np

        images = names["images"]
        np.testing.assert_allclose(names["model"](images), names["there"](images), rtol=0, atol=1e-4)
