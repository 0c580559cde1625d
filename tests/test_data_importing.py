"""Data sets of any kind, brought into the folder layout: what is read from there equals what was read before."""

import json
import shutil

import annotation_exports as exports
import numpy as np
import pytest
from annotation_exports import EXPORTS
from PIL import Image

from keras_deeplab import data
from keras_deeplab.cli import main
from keras_deeplab.data.importing import write_folder
from keras_deeplab.data.masks import decode_label_png, write_label_png
from keras_deeplab.data.source import indexed


def samples(source):
    return [(item["name"].decode(), item["image"], item["label"]) for item in source.dataset().as_numpy_iterator()]


def assert_equal(sources, folder, **options):
    for split, source in sources.items():
        written = data.load(folder, split=split, **options)
        assert written.classes == source.classes
        assert written.classes_spec.colors == source.classes_spec.colors
        assert len(written) == len(source)
        for (_, image, label), (_, other_image, other_label) in zip(samples(written), samples(source), strict=True):
            np.testing.assert_array_equal(image, other_image)
            np.testing.assert_array_equal(label, other_label)


def voc(root):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in exports.NAMES:
        exports.write_image(root / "JPEGImages" / f"{name}.png", name)
        colors = np.array([(9, 0, 0), (0, 200, 7), (3, 3, 3)], np.uint8)
        Image.fromarray(colors[exports.expected(name)]).save(root / "SegmentationClass" / f"{name}.png")
    (root / "labelmap.txt").write_text("ground:9,0,0::\nleaf:0,200,7::\nstem:3,3,3::\n")
    (root / "ImageSets" / "Segmentation" / "default.txt").write_text("a\nb\nc\n")


@pytest.mark.parametrize("kind", [*EXPORTS, "voc"])
def test_every_kind_reads_equal_after_its_import(kind, tmp_path, capsys):
    (EXPORTS | {"voc": voc})[kind](tmp_path / "export")
    assert main(["import-data", str(tmp_path / "export"), str(tmp_path / "mine")]) == 0
    assert "3 images copied as they are, 0 written anew" in capsys.readouterr().out
    sources = {split: data.load(tmp_path / "export", split=split) for split in ("train", "val")}
    assert_equal(sources, tmp_path / "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "mine"]


def drawn(name, classes=("background", "leaf"), images=(), channels=3, label=None):
    """A source of images; of one of them all labels are 1 but one, which is ignored."""

    def read(index):
        key, image = images[index]
        labels = np.zeros(image.shape[:2], np.uint8) if label is None else label
        labels = labels.copy()
        labels[0, 0], labels[0, 1] = 255, 1
        return image, labels, key

    return indexed(name, classes, len(images), read, channels=channels)


def test_other_images_are_written_without_loss_and_names_made_fit(tmp_path):
    random = np.random.default_rng(0)
    for channels in (1, 3, 4, 5):
        images = [(name, random.integers(0, 256, (6, 7, channels), np.uint8)) for name in ("a.jpg", "../b c/é", "x\ny")]
        sources = {"all": drawn("drawn", images=images, channels=channels)}
        written = write_folder(tmp_path / f"of{channels}", sources)
        assert written.splits == {"all": ["a_jpg", "b c/é", "x_y"]}
        assert (written.copied, written.encoded) == (0, 3)
        assert not (tmp_path / f"of{channels}" / "splits").exists()
        read = samples(data.load(tmp_path / f"of{channels}", "all", channels=channels))
        found = {name: (image, label) for name, image, label in read}
        for (name, image), key in zip(images, written.splits["all"], strict=True):
            np.testing.assert_array_equal(found[key][0], image, err_msg=name)
            assert found[key][1][0, :3].tolist() == [255, 1, 0]
    _, palette = decode_label_png((tmp_path / "of3" / "masks" / "a_jpg.png").read_bytes())
    assert palette[[0, 1, 255]].tolist() == [[0, 0, 0], [128, 0, 0], [224, 224, 192]]


def test_an_image_in_several_splits_is_written_once_and_another_of_its_name_beside_it(tmp_path):
    first, second = (np.full((4, 5, 3), value, np.uint8) for value in (3, 4))
    sources = {
        "train": drawn("train", images=[("a", first), ("b", first)]),
        "trainval": drawn("trainval", images=[("a", first), ("b", second), ("b", first)]),
    }
    written = write_folder(tmp_path / "mine", sources)
    assert written.splits == {"train": ["a", "b"], "trainval": ["a", "trainval/b", "b"]}
    assert written.encoded == 3
    assert_equal(sources, tmp_path / "mine")


def test_photographs_keep_their_bytes_and_their_orientation(tmp_path):
    exports.labelme(tmp_path / "export")
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.rot90(exports.image("a")))
    stored.save(tmp_path / "export" / "a.jpg", exif=exif)
    (tmp_path / "export" / "a.png").unlink()
    content = json.loads((tmp_path / "export" / "a.json").read_text())
    (tmp_path / "export" / "a.json").write_text(json.dumps(content | {"imagePath": "a.jpg"}))
    sources = {"all": data.load(tmp_path / "export", "all")}
    assert write_folder(tmp_path / "mine", sources).copied == 3
    assert (tmp_path / "mine" / "images" / "a.jpg").read_bytes() == (tmp_path / "export" / "a.jpg").read_bytes()
    assert_equal(sources, tmp_path / "mine")
    # Masks drawn for the photograph as it is stored don't fit the copy, which is shown upright.
    (tmp_path / "old" / "images").mkdir(parents=True)
    (tmp_path / "old" / "masks").mkdir()
    stored.save(tmp_path / "old" / "images" / "a.jpg", exif=exif)
    write_label_png(tmp_path / "old" / "masks" / "a.png", np.rot90(exports.expected("a")))
    (tmp_path / "old" / "classes.txt").write_text("background\nleaf\nstem\n")
    sources = {"all": data.load(tmp_path / "old", "all", orientation="stored")}
    assert write_folder(tmp_path / "new", sources).encoded == 1
    assert_equal(sources, tmp_path / "new")


def test_an_import_is_whole_or_not_there(tmp_path, capsys):
    exports.cvat(tmp_path / "export")
    command = ["import-data", str(tmp_path / "export"), str(tmp_path / "mine")]
    file = tmp_path / "export" / "annotations.xml"
    whole = file.read_text()
    file.write_text(whole.replace('rle="', 'rle="9, '))
    assert main(command) == 1
    assert "annotations.xml: b: mask 1 (leaf) has runs of" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    file.write_text(whole)
    (tmp_path / "mine").mkdir()
    assert main(command) == 0
    before = sorted(path for path in (tmp_path / "mine").rglob("*"))
    assert main(command) == 1
    assert "mine is there already and isn't empty; nothing in it is overwritten" in capsys.readouterr().err
    assert sorted((tmp_path / "mine").rglob("*")) == before
    assert main([*command[:2], str(tmp_path / "nowhere" / "mine")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_splits_are_those_of_the_source_or_those_asked_for(tmp_path, capsys):
    exports.roboflow(tmp_path / "export")
    (tmp_path / "export" / "valid").rename(tmp_path / "export" / "test")
    source = str(tmp_path / "export")
    assert data.splits_of(source) == ("test", "train")
    assert main(["import-data", source, str(tmp_path / "kept")]) == 0
    assert sorted(file.name for file in (tmp_path / "kept" / "splits").iterdir()) == ["test.txt", "train.txt"]
    assert main(["import-data", source, str(tmp_path / "split"), "--val-share", "0.4"]) == 1
    assert "2 images can't be split" in capsys.readouterr().err
    exports.write_image(tmp_path / "export" / "train" / "c.png", "c")
    shutil.copy(tmp_path / "export" / "test" / "c_mask.png", tmp_path / "export" / "train")
    assert main(["import-data", source, str(tmp_path / "split"), "--val-share", "0.4"]) == 0
    sources = {split: data.load(source, split, val_share=0.4) for split in ("train", "val", "test")}
    assert [len(sources[split]) for split in sources] == [2, 1, 1]
    assert_equal(sources, tmp_path / "split")
    assert main(["import-data", source, str(tmp_path / "whole"), "--splits", "all", "--background", "leaf"]) == 0
    assert "--split all --val-split none" in capsys.readouterr().out
    assert data.load(tmp_path / "whole", "all").classes == ["leaf", "background", "stem"]
    image = np.zeros((4, 5, 3), np.uint8)
    sources = {"train": drawn("one", images=[("a", image)]), "val": drawn("two", ("sky", "sea"), [("a", image)])}
    with pytest.raises(ValueError, match=r"one has the classes background, leaf .* and two has sky, sea"):
        write_folder(tmp_path / "mixed", sources)


def test_too_few_images_for_a_split_are_imported_without_one(tmp_path, capsys):
    exports.coco(tmp_path / "export")
    file = tmp_path / "export" / "annotations" / "instances_default.json"
    content = json.loads(file.read_text())
    content["images"], content["annotations"] = content["images"][:1], content["annotations"][:2]
    file.write_text(json.dumps(content))
    assert main(["import-data", str(file), str(tmp_path / "mine")]) == 0
    assert "all: 1 image\n" in capsys.readouterr().out
    assert_equal({"all": data.load(file, "all")}, tmp_path / "mine")
