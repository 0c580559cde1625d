"""A missing or broken OpenCV is named with its cure, and only where it is used."""

import builtins
import importlib
import os
import subprocess
import sys

import pytest


def import_with(monkeypatch, error):
    """Import keras_deeplab._helpers.opencv in a world where `import cv2` raises `error`."""
    true_import = builtins.__import__

    def fake_import(name, *args, **kwargs):
        if name == "cv2":
            raise error
        return true_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "keras_deeplab._helpers.opencv", raising=False)
    monkeypatch.setattr(builtins, "__import__", fake_import)
    return importlib.import_module("keras_deeplab._helpers.opencv")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
        OSError("libgthread-2.0.so.0: cannot open shared object file"),
    ],
)
def test_an_opencv_without_its_libraries_names_the_headless_build(monkeypatch, error):
    with pytest.raises(ImportError, match="opencv-python-headless") as raised:
        import_with(monkeypatch, error)
    assert str(error) in str(raised.value)
    assert "pip uninstall" in str(raised.value)


def test_a_missing_opencv_names_the_headless_build(monkeypatch):
    with pytest.raises(ImportError, match=r"not installed.*pip install opencv-python-headless"):
        import_with(monkeypatch, ModuleNotFoundError("No module named 'cv2'", name="cv2"))


def test_opencv_loads():
    from keras_deeplab._helpers.opencv import cv2

    assert cv2.imread


def test_the_readers_index_needs_neither_opencv_nor_tensorflow():
    code = (
        "import sys, keras_deeplab.data;"
        "heavy = {'cv2', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are in UTF-8")
def test_a_name_that_is_no_utf_8_is_refused_before_opencv_ends_the_process(tmp_path):
    from keras_deeplab._helpers.opencv import name_of
    from keras_deeplab.inference.frames import Frames, VideoFile

    path = tmp_path / os.fsdecode(b"film\xff.mp4")
    path.write_bytes(b"x")
    for opens in (lambda: Frames(path), lambda: VideoFile(path, (8, 8), 25.0), lambda: name_of(path)):
        with pytest.raises(ValueError, match=r"film\\udcff\.mp4' has a name that is not in UTF-8"):
            opens()
    assert name_of(tmp_path / "\u00e9") == str(tmp_path / "\u00e9")
