"""PASCAL VOC on a miniature devkit made here: as a folder and through TensorFlow Datasets."""

import data_sets
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data.images import decode_image
from keras_deeplab.data.masks import write_label_png
from keras_deeplab.data.voc import CLASSES
from keras_deeplab.specs import default_colors

NAMES = ("2007_000032", "2007_000039", "2008_000008")


def photograph(number):
    """The bytes of a JPEG file."""
    image = np.random.default_rng(number).integers(0, 256, (20 + number, 31, 3), np.uint8)
    done, encoded = cv2.imencode(".jpg", image)
    assert done
    return encoded.tobytes()


def labels(number, seed=0):
    drawn = np.random.default_rng((seed, number)).integers(0, 21, (20 + number, 31), np.uint8)
    drawn[0] = 255
    return drawn


@pytest.fixture
def devkit(tmp_path):
    """A folder that holds VOCdevkit/VOC2012, with three pairs, and a fourth that only the augmented lists name."""
    year = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (year / folder).mkdir(parents=True)
    for number, name in enumerate((*NAMES, "2009_000001")):
        (year / "JPEGImages" / f"{name}.jpg").write_bytes(photograph(number))
        if name in NAMES:
            write_label_png(year / "SegmentationClass" / f"{name}.png", labels(number))
        cv2.imwrite(str(year / "SegmentationClassAug" / f"{name}.png"), labels(number, seed=1))
    lists = year / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text(f"{NAMES[0]}\n{NAMES[2]}\n")
    (lists / "val.txt").write_text(f"{NAMES[1]}\n")
    (lists / "test.txt").write_text("2012_000001\n")
    return tmp_path / "data"


def found(source):
    return {item["name"].numpy().decode(): (item["image"].numpy(), item["label"].numpy()) for item in source.dataset()}


@pytest.mark.parametrize("within", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_devkit_is_read_from_any_of_its_folders(devkit, within):
    source = data.load(devkit / within)
    assert source.num_classes == 21
    assert (source.classes[0], source.classes[15], source.classes[20]) == ("background", "person", "tvmonitor")
    samples = found(source)
    assert list(samples) == [NAMES[0], NAMES[2]]
    for number in (0, 2):
        image, label = samples[NAMES[number]]
        np.testing.assert_array_equal(image, decode_image(photograph(number)))
        np.testing.assert_array_equal(label, labels(number))
    assert list(found(data.load(f"voc:{devkit / within}", split="val"))) == [NAMES[1]]


def test_another_year_is_found_and_two_are_not_guessed_between(devkit):
    (devkit / "VOCdevkit" / "VOC2012").rename(devkit / "VOCdevkit" / "VOC2010")
    assert len(data.load(devkit)) == 2
    (devkit / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"give one of .*VOC2007, .*VOC2010"):
        data.load(devkit)


def test_the_augmented_masks_and_lists_in_their_usual_form(devkit):
    lists = devkit / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    names = (NAMES[0], "2009_000001")
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in names]
    (lists / "trainaug.txt").write_text("\n".join(lines))
    samples = found(data.load(devkit, split="trainaug", augmented=True))
    assert list(samples) == list(names)
    (lists / "marked.txt").write_text(f"{NAMES[0]} -1\n{NAMES[2]}  1\n")
    assert list(found(data.load(devkit, split="marked"))) == [NAMES[0], NAMES[2]]
    np.testing.assert_array_equal(samples[NAMES[0]][1], labels(0, seed=1))
    assert list(found(data.load(devkit, split="trainaug"))) == list(names)
    np.testing.assert_array_equal(found(data.load(devkit, split="trainaug"))[NAMES[0]][1], labels(0, seed=1))
    with pytest.raises(FileNotFoundError, match=r"SegmentationClass/2009_000001\.png is missing"):
        data.load(devkit, split="trainaug", augmented=False)


def test_what_is_missing_is_named(devkit):
    with pytest.raises(FileNotFoundError, match=r"no .*trainval\.txt\. ImageSets/Segmentation/ has test, train, val\."):
        data.load(devkit, split="trainval")
    with pytest.raises(FileNotFoundError, match=r"JPEGImages/2012_000001\.jpg is missing"):
        data.load(devkit, split="test")
    with pytest.raises(FileNotFoundError, match="is no VOC devkit"):
        data.load(f"voc:{devkit.parent}")
    year = devkit / "VOCdevkit" / "VOC2012"
    (year / "SegmentationClassAug").rename(year / "Elsewhere")
    with pytest.raises(FileNotFoundError, match="no folder SegmentationClassAug/"):
        data.load(devkit, augmented=True)


def test_pascal_voc_has_its_names_and_colours(devkit):
    record = data.load(devkit).classes_spec
    assert record.names == tuple(CLASSES)
    assert record.colors == default_colors(21)
    assert record.ignore_label == 255


def own(devkit, names=("background", "leaf", "root"), colors=None, file=None):
    """The devkit as somebody's own of three classes: photographs, masks and lists of its samples renamed."""
    year = devkit / "VOCdevkit" / "VOC2012"
    for number, name in enumerate(NAMES):
        photograph_file = year / "JPEGImages" / f"{name}.jpg"
        if number == 2:
            cv2.imwrite(str(photograph_file.with_name("field2.png")), cv2.imread(str(photograph_file)))
            photograph_file.unlink()
        else:
            photograph_file.rename(photograph_file.with_name(f"field{number}.jpg"))
        mask = year / "SegmentationClass" / f"{name}.png"
        values = labels(number) % 3
        if colors is None:
            write_label_png(mask, values)
        else:
            cv2.imwrite(str(mask), np.array(colors, np.uint8)[values][..., ::-1])
        mask.rename(mask.with_name(f"field{number}.png"))
    (year / "ImageSets" / "Segmentation" / "train.txt").write_text("field0\nfield2\n")
    if file is not None:
        (year / file).write_text("".join(f"{name}\n" for name in names))
    return year


def test_ones_own_classes_in_its_layout_are_never_called_aeroplane(devkit):
    year = own(devkit)
    for path in (devkit, year):
        with pytest.raises(ValueError, match=r"nothing tells the classes of .*VOC2012: write a classes\.txt"):
            data.load(path)
    source = data.load(devkit, num_classes=3)
    assert (source.num_classes, source.classes_spec.names) == (3, None)
    assert data.load(devkit, classes=["background", "leaf", "root"]).classes_spec.names[2] == "root"
    with pytest.raises(ValueError, match=r"num_classes=4, but .* has 3 classes: background, leaf, root"):
        data.load(devkit, classes=["background", "leaf", "root"], num_classes=4)
    # VOC's own file names in a folder of another name don't make it VOC either.
    (year / "ImageSets" / "Segmentation" / "train.txt").write_text("2009_000001\n")
    write_label_png(year / "SegmentationClass" / "2009_000001.png", labels(3) % 3)
    assert data.load(devkit).classes_spec.names == tuple(CLASSES)
    year.rename(devkit / "plants")
    with pytest.raises(ValueError, match="nothing tells the classes"):
        data.load(devkit / "plants")


@pytest.mark.parametrize("file", ["classes.txt", "class_names.txt", "labelmap.txt"])
def test_a_list_of_classes_beside_the_folders_is_read(devkit, file):
    own(devkit, file=file)
    source = data.load(devkit)
    assert source.classes_spec.names == ("background", "leaf", "root")
    assert source.classes_spec.colors is None
    np.testing.assert_array_equal(found(source)["field2"][1], labels(2) % 3)


COLORS = ((0, 0, 0), (48, 112, 32), (176, 112, 32))


def test_masks_are_read_by_the_colours_of_a_label_map(devkit):
    year = own(devkit, colors=COLORS)
    lines = ["# label:color_rgb:parts:actions", "leaf:48,112,32::", "background:0,0,0::", "root:176, 112, 32"]
    (year / "labelmap.txt").write_text("\n".join([*lines, "ignored:224,224,192::"]))
    source = data.load(devkit)
    assert source.classes_spec.names == ("leaf", "background", "root")
    assert source.classes_spec.colors == (COLORS[1], COLORS[0], COLORS[2])
    np.testing.assert_array_equal(found(source)["field0"][1], np.array([1, 0, 2])[labels(0) % 3])
    # A list that goes before it, or the option, gives the order of the labels.
    (year / "classes.txt").write_text("background\nleaf\nroot")
    for ordered in (data.load(devkit), data.load(devkit, classes=["background", "leaf", "root"])):
        assert (ordered.classes_spec.names, ordered.classes_spec.colors) == (("background", "leaf", "root"), COLORS)
        np.testing.assert_array_equal(found(ordered)["field0"][1], labels(0) % 3)
    (year / "classes.txt").write_text("background\nleaf\nstem")
    with pytest.raises(ValueError, match=r"classes\.txt has the classes .*stem, and .*labelmap\.txt has leaf"):
        data.load(devkit)
    (year / "classes.txt").write_text("background\nleaf")
    with pytest.raises(ValueError, match=r"classes\.txt has 2 classes and .*labelmap\.txt has 3"):
        data.load(devkit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("leaf:1,2", r"line 1: 'leaf:1,2' is not NAME:RED,GREEN,BLUE"),
        ("leaf:1,2,3::\nroot", "gives no colour for root"),
        ("leaf:1,2,3::\nroot:1,2,3::", "gives two classes one colour"),
        ("leaf:1,2,300::", "0..255"),
        ("leaf:1,2,3::\nleaf:1,2,4::", "'leaf' more than once"),
    ],
)
def test_a_label_map_that_is_not_understood_is_refused(devkit, text, message):
    (own(devkit) / "labelmap.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"labelmap\.txt.*{message}"):
        data.load(devkit)


def test_labelmes_folder_without_lists_of_images_is_read_as_a_whole(devkit):
    year = own(devkit, ("_background_", "leaf", "root"), file="class_names.txt")
    (year / "SegmentationClass").rename(year / "SegmentationClassPNG")
    for file in (year / "JPEGImages").glob("2009*"):
        file.unlink()
    for file in (year / "ImageSets" / "Segmentation").iterdir():
        file.unlink()
    (year / "ImageSets" / "Segmentation").rmdir()
    year.rename(devkit / "field")
    with pytest.raises(FileNotFoundError, match=r"test\.txt.*split='all' takes all 3 images"):
        data.load(devkit / "field", split="test")
    assert [len(data.load(devkit / "field", split)) for split in ("train", "val")] == [2, 1]
    source = data.load(devkit / "field", split="all")
    assert list(found(source)) == ["field0", "field1", "field2"]
    assert source.classes == ["_background_", "leaf", "root"]


@pytest.mark.parametrize("place", ["", "VOCdevkit/VOC2012", "VOCdevkit"])
def test_the_augmented_train_set_is_made_of_sbds_own_archive(devkit, place):
    year = devkit / "VOCdevkit" / "VOC2012"
    (year / "SegmentationClassAug").rename(devkit / "Elsewhere")
    with pytest.raises(FileNotFoundError, match=r"no benchmark_RELEASE/.*download benchmark\.tgz from"):
        data.load(devkit, split="trainaug")
    dataset = devkit / place / "benchmark_RELEASE" / "dataset"
    # SBD's lists have images of VOC's train and val too, and its masks of them differ from VOC's.
    for split, names in (("train", (NAMES[0], NAMES[1])), ("val", ("2009_000001",))):
        for name in names:
            number = (*NAMES, "2009_000001").index(name)
            theirs = np.where(labels(number, seed=1) == 255, 0, labels(number, seed=1)).astype(np.uint8)
            data_sets.mat(dataset / "cls" / f"{name}.mat", "GTcls", theirs, "Segmentation")
        (dataset / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (dataset / "img").mkdir()
    assert data.kind_of(devkit) == data.kind_of(year) == "voc"
    for path in (devkit, year):
        source = data.load(path, split="trainaug")
        samples = found(source)
        assert list(samples) == [NAMES[0], NAMES[2], "2009_000001"]
        np.testing.assert_array_equal(samples[NAMES[0]][1], labels(0))
        np.testing.assert_array_equal(samples["2009_000001"][1], np.where(labels(3, 1) == 255, 0, labels(3, 1)))
    assert "3 images; PASCAL VOC 2012 has 10,582" in source.notes[0]
    with pytest.raises(FileNotFoundError, match="SBD's own archive makes split='trainaug' alone"):
        data.load(devkit, split="train", augmented=True)


def test_the_devkit_goes_through_tensorflow_datasets(devkit, tmp_path):
    import tensorflow_datasets as tfds

    import keras_deeplab.data.tfds_builders  # noqa: F401 - registers the builder

    (devkit / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt").write_text(f"{NAMES[0]}\n2009_000001\n")
    builder = tfds.builder("keras_deeplab_voc", data_dir=tmp_path / "tfds")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=devkit))
    assert set(builder.info.splits) == {"train", "val", "trainaug"}
    assert builder.info.features["label"].names == CLASSES
    for split, numbers, seed in (("train", {0, 2}, 0), ("trainaug", {0, 3}, 1)):
        source = data.load("tfds:keras_deeplab_voc", split=split, data_dir=tmp_path / "tfds")
        by_size = {label.shape[0] - 20: (image, label) for image, label in found(source).values()}
        assert by_size.keys() == numbers
        for number in numbers:
            np.testing.assert_array_equal(by_size[number][0], decode_image(photograph(number)))
            np.testing.assert_array_equal(by_size[number][1], labels(number, seed))
