"""What a name or a path is, which reader takes it with which options, and readers of one's own."""

import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.data.source import indexed
from keras_deeplab.specs import Classes


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    return tmp_path / "mine"


def test_one_function_says_what_kind_of_data_set_something_is(folder, tmp_path):
    assert data.kind_of("synthetic") == "synthetic"
    assert data.kind_of("tfds:anything/at:all") == "tfds"
    assert data.kind_of(folder) == data.kind_of(str(folder)) == "folder"
    assert data.kind_of(f"voc:{tmp_path / 'nowhere'}") == "voc"
    assert data.kind_of(tmp_path) is None
    assert data.kind_of(folder / "images") is None
    assert data.kind_of(tmp_path / "nowhere") is None
    assert data.kind_of("oxford_iiit_pet") is None
    # A folder of photographs in a folder called images/ has no masks and is no data set.
    (tmp_path / "photographs" / "images").mkdir(parents=True)
    assert data.kind_of(tmp_path / "photographs") is None
    for place in ("devkit", "devkit/VOCdevkit", "devkit/VOCdevkit/VOC2011"):
        (tmp_path / "devkit/VOCdevkit/VOC2011/JPEGImages").mkdir(parents=True, exist_ok=True)
        assert data.kind_of(tmp_path / place) == "voc"


def test_what_two_readers_recognise_is_not_guessed_between(folder):
    (folder / "JPEGImages").mkdir()
    with pytest.raises(ValueError, match=r"can be read as folder and as voc: say which, folder:.* or voc:"):
        data.kind_of(folder)
    assert data.kind_of(f"folder:{folder}") == "folder"


@pytest.mark.parametrize("name", ["synthetic", "tfds:nothing", "folder", "voc"])
def test_an_unknown_option_is_refused_with_the_nearest_and_all_there_are(folder, name):
    wrong, near = ("sed", "seed") if name == "synthetic" else ("num_clases", "num_classes")
    name = f"{name}:{folder}" if name in ("folder", "voc") else name
    with pytest.raises(ValueError, match=rf"doesn't take {wrong}; did you mean {near}\? It takes .*{near}") as error:
        data.load(name, **{wrong: 3})
    assert not any(sign in str(error.value) for sign in ("()", "read(", "keyword", "="))


class Stripes:
    """A reader of somebody's own: no folder, images of five channels."""

    def detect(self, name_or_path):
        return name_or_path.startswith("stripes-")

    def read(self, location, split="train", *, width=4):
        def read(index):
            return np.full((3, width, 5), index, np.uint8), np.zeros((3, width), np.uint8), f"{location} {index}"

        return indexed(location, Classes(("bare", "striped"), ((0, 0, 0), (9, 9, 9))), 2, read, channels=5)


def test_a_reader_is_registered_from_outside(monkeypatch):
    monkeypatch.setitem(data.READERS, "stripes", Stripes())
    assert data.kind_of("stripes-3") == "stripes"
    assert data.options_of("stripes") == ("width",)
    for name in ("stripes-3", "stripes:stripes-3"):
        source = data.load(name, width=6)
        assert (source.name, source.classes, source.channels) == ("stripes-3", ["bare", "striped"], 5)
        assert [sample["image"].shape for sample in source.dataset()] == [(3, 6, 5)] * 2
    with pytest.raises(ValueError, match=r"doesn't take height\. It takes width"):
        data.load("stripes-3", height=2)


def test_every_reader_keeps_the_contract():
    for kind in data.READERS:
        assert isinstance(data.options_of(kind), tuple)
        assert data.kind_of(f"{kind}:x") == kind


def test_a_source_checks_its_record():
    def source(*arguments, **options):
        return indexed("mine", *arguments, 1, lambda index: None, **options)

    assert source(Classes(), num_classes=2).classes == ["class 0", "class 1"]
    assert source(["a", "b"]).classes_spec == Classes(("a", "b"))
    with pytest.raises(ValueError, match=r"mine: received 2 class names \(a, b\), and the data has 3 classes"):
        source(["a", "b"], num_classes=3)
    with pytest.raises(ValueError, match="mine: 0 classes"):
        source(Classes())
    with pytest.raises(ValueError, match=r"mine: .*'a' more than once"):
        source(["a", "a"])
