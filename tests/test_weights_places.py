"""Where a checkpoint lies: folders, archives, and the descriptions beside it."""

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_deeplab import load
from keras_deeplab.networks import network
from keras_deeplab.weights import SOURCES, opened
from keras_deeplab.weights.describe import describe
from keras_deeplab.weights.names import TORCH
from keras_deeplab.weights.places import located
from keras_deeplab.weights.plan import Plan

ARRAYS = {"here.weight": np.ones((2, 3, 1, 1), "float32")}


def _folder(path, config=None, name="model.safetensors"):
    path.mkdir(parents=True, exist_ok=True)
    save_file(ARRAYS, path / name)
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def test_a_hubs_folder_its_file_and_its_archive_come_with_the_config(tmp_path):
    folder = _folder(tmp_path / "hub", {"encoder_name": "resnet18"})
    archive = tmp_path / "hub.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"inner/{path.name}")
    for place in (folder, folder / "model.safetensors", archive):
        with opened(place) as stored:
            assert stored.configs == {"config.json": {"encoder_name": "resnet18"}}
            assert stored.path == str(place)
            np.testing.assert_array_equal(stored.arrays["here.weight"], ARRAYS["here.weight"])


def test_a_file_of_another_name_is_read_without_what_lies_beside_it(tmp_path):
    folder = _folder(tmp_path, "no JSON", name="mine.safetensors")
    with located(folder / "mine.safetensors") as place:
        assert (place.kind, place.configs) == ("safetensors", {})


@pytest.mark.parametrize("config", ["{", "[]", "\udc80"])
def test_a_damaged_description_is_refused_by_name(tmp_path, config):
    _folder(tmp_path)
    (tmp_path / "config.json").write_bytes(config.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json' can't be read as the description"):
        load(tmp_path)


def test_a_folder_of_several_checkpoints_is_asked_about(tmp_path):
    _folder(tmp_path, name="a.safetensors")
    (tmp_path / "model.ckpt-1.index").write_bytes(b"")
    with pytest.raises(ValueError, match=r"several checkpoints: a\.safetensors, model\.ckpt-1\.index"):
        load(tmp_path)


def test_an_archive_that_unpacks_to_far_more_than_weights_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.safetensors", bytes(1 << 26))
    with pytest.raises(ValueError, match="far more than weights need"):
        load(tmp_path / "bomb.zip")


def test_arrays_that_fit_two_networks_are_asked_about_unless_a_config_or_an_argument_says(tmp_path, monkeypatch):
    """A source of one layer whose arrays don't tell one backbone from another."""

    def recognise(shapes, label, configs):
        spec = network("DeepLabV3", "resnet18", num_classes=2, flavour="torchvision")
        told = configs.get("config.json", {}).get("encoder_name")
        undecided = () if told else ({"backbone": "resnet18"}, {"backbone": "resnet34"})
        return Plan("mine", spec, (), TORCH, undecided=undecided)

    monkeypatch.setitem(SOURCES, "mine", SimpleNamespace(TITLE="mine", recognise=recognise))
    folder = _folder(tmp_path / "a")
    with pytest.raises(ValueError, match=r"fit 2 networks.*backbone='resnet18' or backbone='resnet34'"):
        load(folder, "mine")
    with pytest.raises(ValueError, match="received backbone='vgg16'"):
        load(folder, "mine", backbone="vgg16")
    assert "undecided" in describe(folder, "mine")
    for arguments in (
        {"checkpoint": folder, "backbone": "resnet34"},
        {"checkpoint": _folder(folder, {"encoder_name": "x"})},
    ):
        with pytest.raises(ValueError, match="don't fit the model"):  # decided, and then not the network's arrays
            load(source="mine", **arguments)


def test_a_place_in_a_folder_is_its_file_with_its_kind(tmp_path):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with located(tmp_path) as place:
        assert (place.path, place.kind) == (tmp_path / "model.safetensors", "safetensors")
    (tmp_path / "model.safetensors").rename(tmp_path / "model.index")
    with located(tmp_path) as place:
        assert (place.path, place.kind) == (tmp_path, "tf1")
