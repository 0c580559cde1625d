"""What people install: an sdist and a wheel, built without an index, with all of the package and nothing else."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")

pytestmark = pytest.mark.slow
pytest.importorskip("setuptools", "77", reason="the build system is not installed")


def built(kind, source, folder):
    """The path of the sdist or wheel that the build system makes of a source tree."""
    folder.mkdir(exist_ok=True)
    code = f"import sys, setuptools.build_meta as build; build.build_{kind}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


def package_files():
    """What belongs to the package, by names from the repository's root on."""
    paths = [path for path in (ROOT / "keras_deeplab").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    for name in ("keras_deeplab", "tests"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / "source")
    with tarfile.open(built("sdist", folder / "source", folder / "dist")) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (path,) = (folder / "unpacked").iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that is made of the sdist."""
    return built("wheel", sdist, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_of_the_sdist_is_the_package_byte_for_byte(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    expected = package_files()
    assert sorted(found) == sorted(expected)
    assert found == expected
    assert {"keras_deeplab/py.typed", "keras_deeplab/demo/static/index.html"} <= set(found)


def test_the_sdist_has_what_builds_the_wheel_and_no_half_of_the_tests(sdist):
    (archive,) = (sdist.parents[1] / "dist").iterdir()
    with tarfile.open(archive) as opened:
        names = {name.split("/")[1] for name in opened.getnames() if "/" in name}
    assert names - {"keras_deeplab.egg-info", "PKG-INFO"} == {*FILES, "keras_deeplab"}


def test_the_wheel_tells_what_it_needs(wheel):
    from email.parser import BytesParser

    from keras_deeplab import __version__

    with zipfile.ZipFile(wheel) as archive:
        info = f"keras_deeplab-{__version__}.dist-info"
        told = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        commands = archive.read(f"{info}/entry_points.txt").decode()
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert told["Requires-Python"] == "<3.14,>=3.11"
    assert "keras-deeplab = keras_deeplab.cli:main" in commands
    always = [line for line in told.get_all("Requires-Dist") if "extra ==" not in line]
    assert {line.split(">")[0].split("<")[0] for line in always} >= {"tensorflow", "keras", "numpy", "pillow"}


def test_a_command_runs_from_the_wheel_alone(wheel, tmp_path):
    """A wheel is an archive that Python imports from; in a folder with nothing of the repository."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys; from pathlib import Path; from keras_deeplab import cli; from keras_deeplab.demo import page\n"
        "assert Path(cli.__file__).is_relative_to(sys.argv[1]), cli.__file__\n"
        "assert (Path(page.__file__).parent / 'static' / 'index.html').is_file()\n"
        "sys.exit(cli.main(['serving-config', 'served']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    words = [sys.executable, "-P", "-c", code, str(site)]
    done = subprocess.run(words, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (empty / "served" / "compose.yaml").is_file()
