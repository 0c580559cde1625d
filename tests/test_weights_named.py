"""Published weights by name: the table, the cache, the checks, and what a user without a connection is told."""

import hashlib
import http.server
import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.networks import V3_PLUS
from keras_deeplab.published import Weights
from keras_deeplab.specs import Classes, class_names
from keras_deeplab.weights import applications, named, torchvision, writers
from keras_deeplab.weights.names import TORCH, rows, their_name
from keras_deeplab.weights.plan import Plan

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty Keras home; no proxy between this process and its own server."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def server(tmp_path):
    """A folder, and the address that serves it; where it has a file `half`, only halves of files arrive."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if not (folder / "half").exists():
                super().do_GET()
                return
            data = (folder / self.path.lstrip("/")).read_bytes()
            told = len(data) if (folder / "half").read_text() == "told" else len(data) // 2
            self.send_response(200)
            self.send_header("Content-Length", str(told))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])

        def log_message(self, *args):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()
        thread.join()


ROW = Weights("pascal_voc", "", 1.0, None, "", "", Classes(("ground", "leaf")), V3_PLUS, ("mobilenet_v2_vainf",))


def publish(monkeypatch, path, checksum="sha256", address=NOWHERE, row=ROW):
    """Makes a file the only published one, with the name, network and size of a row."""
    if checksum is not None:
        checksum = f"{checksum}:{hashlib.new(checksum, path.read_bytes()).hexdigest()[:8]}"
    monkeypatch.setattr(named, "PUBLISHED", (replace(row, address=address + path.name, checksum=checksum),))


@pytest.mark.slow
def test_published_weights_are_fetched_once_and_loaded(home, server, monkeypatch):
    folder, address = server
    settings = {"num_classes": 2, "filters": 4, "flavour": "vainf"}
    trained = randomise(keras_deeplab.DeepLabV3Plus("mobilenet_v2_vainf", **settings))
    keras_deeplab.export_weights(trained, folder / "best.pth", "vainf")
    publish(monkeypatch, folder / "best.pth", address=address)
    model = keras_deeplab.DeepLabV3Plus("mobilenet_v2_vainf", weights="pascal_voc", **settings)
    for a, b in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in (home / "models").iterdir()] == ["best.pth"]
    assert model.spec.labels == ("ground", "leaf")
    assert keras_deeplab.load("pascal_voc").spec.labels == ("ground", "leaf")
    assert keras_deeplab.load(home / "models" / "best.pth").spec.labels == ("class 0", "class 1")
    (folder / "best.pth").unlink()
    assert named.fetch("pascal_voc") == home / "models" / "best.pth"


@pytest.mark.slow
def test_imagenet_weights_are_fetched_for_a_backbone(home, server, monkeypatch):
    folder, address = server
    trained = randomise(keras_deeplab.BACKBONES["mobilenet_v3_small"].build((None, None, 3)))
    plan = Plan("", None, rows(torchvision.MOBILENET_V3, "features."), TORCH)
    layers = {layer.name: layer for layer in trained.layers}
    arrays = {
        their_name(variable.path, plan.rows, TORCH): plan.arrange(variable.numpy(), variable, layers, back=True)
        for variable in trained.weights
    }
    arrays["classifier.3.weight"] = np.zeros((1000, 1024), "float32")
    writers.write_torch(folder / "small.pth", arrays)
    row = named.find("imagenet", "backbone", "mobilenet_v3_small")
    publish(monkeypatch, folder / "small.pth", address=address, row=row)
    settings = {"num_classes": 2, "filters": 4, "flavour": "torchvision"}
    model = keras_deeplab.DeepLabV3("mobilenet_v3_small", backbone_weights="imagenet", **settings)
    for variable in trained.weights:
        layer, _, leaf = variable.path.rpartition("/")
        loaded = next(v for v in model.get_layer(layer).weights if v.path.endswith(leaf))
        np.testing.assert_array_equal(loaded, variable, err_msg=variable.path)


@pytest.mark.parametrize("checksum", ["sha256", "md5"])
def test_a_mirror_may_be_asked(checksum, home, server, monkeypatch):
    folder, address = server
    (folder / "x.pth").write_bytes(b"weights")
    publish(monkeypatch, folder / "x.pth", checksum)
    assert named.fetch("pascal_voc", address=address).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("checksum", "half", "message"),
    [
        ("sha256", "told", r"can't be downloaded from .*retrieval incomplete.*Fetch that file by other means"),
        ("sha256", "untold", r"has 0\.0 MB and not the checksum sha256:[0-9a-f]{8}, 1 MB are published: .*was cut off"),
        (None, "untold", r"has 0\.0 MB, 1 MB are published: .*Nothing of it was kept\. Try again"),
    ],
)
def test_a_download_that_is_cut_off_leaves_nothing(checksum, half, message, home, server, monkeypatch):
    folder, address = server
    (folder / "x.pth").write_bytes(np.random.default_rng(0).bytes(10_000))
    publish(monkeypatch, folder / "x.pth", checksum)
    (folder / "half").write_text(half)
    with pytest.raises(ValueError, match=message) as caught:
        named.fetch("pascal_voc", address=address)
    assert str(home / "models" / "x.pth") in str(caught.value)
    assert list((home / "models").iterdir()) == []


def test_a_web_page_in_its_place_leaves_nothing(home, server):
    folder, address = server
    (folder / named.find("coco").file).write_bytes(b"<html>blocked</html>")
    with pytest.raises(ValueError, match=r"not the checksum sha256:cd0a2569, 160\.515 MB are published"):
        named.fetch("coco", address=address)
    with pytest.raises(ValueError, match="404"):
        named.fetch("pascal_voc", address=address)
    assert list((home / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["coco", "pascal_voc"])
def test_another_file_in_the_cache_is_told_and_kept(name, home):
    target = home / "models" / named.find(name).file
    target.parent.mkdir(parents=True)
    target.write_bytes(b"something of the user's")
    with pytest.raises(ValueError, match=rf"{re.escape(str(target))} has 0\.0 MB.*Remove it and try again"):
        named.fetch(name, address=NOWHERE)
    assert target.exists()


def test_without_a_connection_the_message_says_where_the_file_goes(home):
    with pytest.raises(ValueError, match=r"can't be downloaded from http://127\.0\.0\.1:9/") as caught:
        named.fetch("pascal_voc", address=NOWHERE)
    target = home / "models" / "deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz"
    assert f"put it at {target}" in str(caught.value)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "archive"),
    [
        ({}, "deeplabv3_mnv2_pascal_trainval_2018_01_29"),
        ({"backbone": "mobilenet_v2_dm05"}, "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01"),
        ({"backbone": "xception"}, "deeplabv3_pascal_trainval_2018_01_04"),
        ({"backbone": "xception_65", "family": "DeepLabV3Plus"}, "deeplabv3_pascal_trainval_2018_01_04"),
        ({"family": "DeepLabV3Plus"}, "deeplabv3_pascal_trainval_2018_01_04"),
    ],
)
def test_a_name_stands_for_the_file_of_the_backbone(settings, archive):
    assert named.find("pascal_voc", **settings).file == f"{archive}.tar.gz"


def test_weights_that_are_not_published_are_told():
    with pytest.raises(ValueError, match="No weights 'ade20k' are published for DeepLabV3 on xception_71") as caught:
        named.fetch("ade20k", "DeepLabV3", "xception_71")
    assert "DeepLabV3Plus on mobilenet_v2, DeepLabV3Plus on xception_65" in str(caught.value)
    assert str(caught.value).endswith("For that backbone: 'imagenet'.")
    with pytest.raises(ValueError, match=r"'imagenet' are a backbone's alone.*backbone_weights='imagenet'"):
        keras_deeplab.load("imagenet")
    with pytest.raises(ValueError, match=r"for backbone on hrnetv2_32.*For that backbone: none"):
        named.fetch("imagenet", "backbone", "hrnetv2_32")


# The table ------------------------------------------------------------------------------------------------------


def test_every_row_is_of_registered_networks_and_no_two_are_of_one():
    seen = set()
    for row in named.PUBLISHED:
        assert row.family in ("DeepLabV3", "DeepLabV3Plus", "backbone")
        for backbone in row.backbones:
            assert backbone in keras_deeplab.BACKBONES
            assert (row.name, row.family, backbone) not in seen
            seen.add((row.name, row.family, backbone))
            assert row.family != "backbone" or backbone in applications.WAYS
        assert row.address.startswith("http")
        assert row.size > 1
        assert row.result
        assert row.licence
    assert set(named.NAMES) == {"pascal_voc", "pascal_voc_train_aug", "cityscapes", "ade20k", "coco", "imagenet"}


def test_a_published_model_is_a_row_with_its_weights_and_classes():
    row = keras_deeplab.MODELS["slim_deeplabv3plus_xception_65"]
    assert [weights.name for weights in row.weights] == ["pascal_voc", "pascal_voc_train_aug"]
    assert row.imagenet.file == "deeplabv3_xception_2018_01_04.tar.gz"
    assert all(weights in named.PUBLISHED for weights in row.weights)
    files = [(row, weights) for row in keras_deeplab.MODELS.values() for weights in row.weights]
    assert len(files) == 15
    for row, weights in files:
        assert (weights.family, weights.backbones) == (row.spec.builder, (row.spec.backbone,))
        assert len(weights.classes.names) == row.spec.num_classes
        assert weights.classes.ignore_label == (0 if weights.name == "ade20k" else 255)
    assert named.find("coco").classes.names == class_names.VOC.names
    assert named.find("cityscapes").classes.names[:2] == ("road", "sidewalk")


def test_checksums_of_torchvision_are_the_ends_of_its_names():
    rows = [row for row in named.PUBLISHED if "pytorch.org" in row.address]
    assert len(rows) == 19
    for row in rows:
        digits = row.checksum.removeprefix("sha256:")
        assert re.fullmatch("[0-9a-f]{8}", digits)
        assert row.file.endswith(f"-{digits}.pth")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "top"),
    [
        ("resnet18", 512 * 1000 + 1000),
        ("mobilenet_v2_torchvision", 1280 * 1000 + 1000),
        ("mobilenet_v3_small", 576 * 1024 + 1024 + 1024 * 1000 + 1000),
        ("vgg11_bn", 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000),
    ],
)
def test_published_sizes_are_those_of_the_classifiers(name, top):
    backbone = keras_deeplab.BACKBONES[name].build((None, None, 3)).count_params()
    size = named.find("imagenet", "backbone", name).size * 2**20
    assert size == pytest.approx(4 * (backbone + top), rel=0.01)


def test_the_documentation_lists_every_file():
    text = (Path(__file__).resolve().parents[1] / "docs/checkpoints.md").read_text("utf-8")
    for row in named.PUBLISHED:
        (line,) = [line for line in text.splitlines() if f"[{row.file}]({row.address})" in line]
        assert all(f"`{backbone}`" in line for backbone in row.backbones)
        assert row.result in line
        assert f" {row.size:g} M" in line
        assert row.name == "imagenet" or f"`{row.name}`" in line


def test_weights_of_keras_applications_that_cant_be_fetched_are_told(monkeypatch):
    def fetch(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr("keras.src.applications.mobilenet_v2.file_utils.get_file", fetch)
    told = r"'imagenet' can't be downloaded: URL fetch failure on https://.*mobilenet_v2.*its path"
    with pytest.raises(ValueError, match=told):
        keras_deeplab.DeepLabV3("mobilenet_v2", num_classes=3, backbone_weights="imagenet")
