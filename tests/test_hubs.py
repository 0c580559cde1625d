"""Presets, model cards and handles of the hub: a server on this machine stands for it."""

import json
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hub_server import serving
from randomise import randomise

import keras_deeplab
from keras_deeplab import Card, from_preset, load, save_to_preset, upload
from keras_deeplab.cli import main
from keras_deeplab.weights import handles
from keras_deeplab.weights.describe import describe

NOWHERE = "http://127.0.0.1:9"  # where nobody answers
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model():
    return randomise(
        keras_deeplab.DeepLabV3("mobilenet_v2", num_classes=2, filters=8, classes=["field", "road"], name="fields")
    )


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's package, with an empty cache and nothing to reach unless a test says where."""
    pytest.importorskip("huggingface_hub")
    package = handles.hub()
    client = package.HfApi
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(package.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def at(address):
        monkeypatch.setattr(package, "HfApi", partial(client, endpoint=address))

    at(NOWHERE)
    return SimpleNamespace(package=package, at=at)


def _same(model, other):
    images = np.random.default_rng(0).integers(0, 256, (1, 33, 49, 3)).astype("float32")
    return np.array_equal(np.asarray(model(images)), np.asarray(other(images)))


# Presets ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_preset_is_opened_by_load_from_preset_and_keras(model, tmp_path):
    folder = save_to_preset(model, tmp_path / "preset")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "metadata.json",
        "model.weights.h5",
    ]
    for other in (from_preset(folder), load(folder), keras.saving.load_model(folder)):
        assert other.spec == model.spec
        assert _same(model, other)
    assert "keras: this package" in describe(folder)
    assert json.loads((folder / "metadata.json").read_text())["keras_deeplab_version"] == keras_deeplab.__version__


def test_a_preset_is_written_whole_or_not_at_all(model, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="is there already"):
        save_to_preset(model, tmp_path / "there")
    monkeypatch.setattr("keras_deeplab.hubs.card.text", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_to_preset(model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_from_preset_takes_folders_and_handles_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        from_preset(tmp_path / "missing")
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="is a file, for load"):
        from_preset(tmp_path / "model.pth")


# Cards ------------------------------------------------------------------------------------------------------------


def test_a_card_says_what_is_known_and_of_the_rest_that_it_is_not_stated(model, tmp_path):
    yaml = pytest.importorskip("yaml")
    bare = (save_to_preset(model, tmp_path / "bare") / "README.md").read_text()
    front = yaml.safe_load(bare.split("---\n")[1])
    assert front["library_name"] == "keras"
    assert "license" not in front
    assert "model-index" not in front
    assert bare.count("ot stated") == 5  # purpose, data, metrics, limits, licence
    assert "0. field\n1. road" in bare
    card = Card(
        data="Fields: train",
        evaluated_on="Fields, val",
        metrics={"mean_iou": 0.5},
        protocol="one scale, no flip",
        license="apache-2.0",
        description="Fields and roads.",
        limits="Not at night.",
    )
    told = (save_to_preset(model, tmp_path / "told", card, "hf://me/fields") / "README.md").read_text()
    front = yaml.safe_load(told.split("---\n")[1])
    result = front["model-index"][0]["results"][0]
    assert (front["license"], result["dataset"]["name"]) == ("apache-2.0", "Fields, val")
    assert result["metrics"] == [{"type": "mean_iou", "name": "mean_iou", "value": 0.5}]
    assert "ot stated" not in told
    for words in ("Fields: train", "one scale, no flip", "Not at night.", "from_preset('hf://me/fields')"):
        assert words in told


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"metrics": {"mean_iou": 0.5}}, r"mean nothing without evaluated_on= .* and protocol="),
        ({"metrics": {"mean_iou": float("nan")}, "protocol": "p", "evaluated_on": "d"}, "must be finite numbers"),
    ],
)
def test_metrics_without_their_protocol_are_refused(facts, message):
    with pytest.raises(ValueError, match=message):
        Card(**facts)


# Handles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handle", ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://a b/c", "hf://../b/c"])
def test_what_is_no_handle_is_refused(handle):
    with pytest.raises(ValueError, match="A handle is 'hf://user/name'"):
        handles.parse(handle)


@pytest.mark.slow
def test_a_handle_is_fetched_at_one_commit_and_found_again_without_the_hub(model, tmp_path, hub):
    folder = save_to_preset(model, tmp_path / "preset")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"other.pth": b"not fetched"}
    with serving("me/fields", files) as (address, asked):
        hub.at(address)
        assert _same(model, from_preset("hf://me/fields@main"))
        assert f"hf://me/fields@{COMMIT}: " in describe("hf://me/fields")
        with pytest.raises(ValueError, match="has no revision 'other'"):
            load("hf://me/fields@other")
        with pytest.raises(ValueError, match="no such repository, or it is private"):
            load("hf://me/none")
    assert not [path for path in asked if "other.pth" in path or "README" in path]
    hub.at(NOWHERE)
    assert _same(model, from_preset("hf://me/fields@main"))


def test_without_a_connection_it_is_said_where_to_put_the_files(hub):
    with pytest.raises(ValueError, match=r"can't be loaded: .*put the repository's config\.json.*give its path"):
        load("hf://me/fields")


def test_a_repository_without_weights_is_told(hub):
    with serving("me/text", {"README.md": b""}) as (address, _):
        hub.at(address)
        with pytest.raises(ValueError, match=r"has no file of weights that is read here, only README\.md"):
            load("hf://me/text")


def test_of_several_formats_one_is_fetched_with_its_shards():
    names = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "pytorch_model.bin"]
    names += ["model.safetensors.index.json", "sub/model.safetensors"]
    assert handles._wanted(names) == [names[4], names[1], names[2], "config.json"]
    assert handles._wanted(["config.json", "model.weights.h5", "task.weights.h5", "task.json"]) == [
        *("model.weights.h5", "task.weights.h5", "config.json", "task.json")
    ]


# Upload -----------------------------------------------------------------------------------------------------------


class _Api:
    """Takes the place of the hub's client, and notes what it is asked."""

    calls = ()

    def __init__(self, **settings):
        _Api.calls = []

    def create_repo(self, repo, **settings):
        self.calls.append(("create", repo, settings))

    def upload_folder(self, *, folder_path, **settings):
        self.calls.append(("upload", sorted(path.name for path in folder_path.iterdir()), settings))
        return SimpleNamespace(commit_url="https://hub/commit/1")


def test_a_preset_is_uploaded_with_its_card(model, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(hub.package, "HfApi", _Api)
    folder = save_to_preset(model, tmp_path / "preset")
    assert upload(folder, "hf://me/fields", Card(license="mit"), private=True) == "https://hub/commit/1"
    create, push = _Api.calls
    assert create == ("create", "me/fields", {"private": True, "exist_ok": True})
    assert push[1] == ["README.md", "config.json", "metadata.json", "model.weights.h5"]
    assert push[2]["repo_id"] == "me/fields"
    assert 'license: "mit"' in (folder / "README.md").read_text()
    for handle, message in [("hf://me/fields@main", "not to a revision"), ("me/fields", "A handle is")]:
        with pytest.raises(ValueError, match=message):
            upload(folder, handle)
    (folder / "notes.txt").write_text("private")
    with pytest.raises(ValueError, match=r"holds more than a preset: notes\.txt"):
        upload(folder, "hf://me/fields")
    (folder / "notes.txt").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"it lacks config\.json"):
        upload(folder, "hf://me/fields")


@pytest.mark.slow
def test_publish_writes_a_preset_and_says_what_its_card_lacks(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    words = ["publish", str(tmp_path / "model.keras"), str(tmp_path / "out"), "--data", "Fields, train"]
    assert main([*words, "--metrics", "mean_iou=0.5"]) == 1
    assert "--protocol" in capsys.readouterr().err
    assert main(words) == 0
    assert "says of metrics, license that they are not stated" in capsys.readouterr().out
    assert _same(model, load(tmp_path / "out"))
