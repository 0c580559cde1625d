"""PASCAL VOC on a miniature devkit made here: as a folder and through TensorFlow Datasets."""

import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data.images import decode_image
from keras_deeplab.data.masks import write_label_png

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
    np.testing.assert_array_equal(samples[NAMES[0]][1], labels(0, seed=1))
    with pytest.raises(FileNotFoundError, match=r"SegmentationClass/2009_000001\.png is missing"):
        data.load(devkit, split="trainaug")


def test_what_is_missing_is_named(devkit):
    with pytest.raises(FileNotFoundError, match=r"no .*trainval\.txt; there are the splits test, train, val"):
        data.load(devkit, split="trainval")
    with pytest.raises(FileNotFoundError, match=r"JPEGImages/2012_000001\.jpg is missing"):
        data.load(devkit, split="test")
    with pytest.raises(FileNotFoundError, match="is no VOC devkit"):
        data.load(f"voc:{devkit.parent}")
    year = devkit / "VOCdevkit" / "VOC2012"
    (year / "SegmentationClassAug").rename(year / "Elsewhere")
    with pytest.raises(FileNotFoundError, match="no folder SegmentationClassAug/"):
        data.load(devkit, augmented=True)


@pytest.mark.parametrize(("config", "seed"), [("", 0), ("/augmented", 1)])
def test_the_devkit_goes_through_tensorflow_datasets(devkit, tmp_path, config, seed):
    import tensorflow_datasets as tfds

    import keras_deeplab.data.voc  # noqa: F401 - registers the builder

    builder = tfds.builder(f"keras_deeplab_voc{config}", data_dir=tmp_path / "tfds")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=devkit))
    assert set(builder.info.splits) == {"train", "val"}

    plain = tfds.load(f"keras_deeplab_voc{config}", split="train", data_dir=tmp_path / "tfds")
    numbers = {NAMES[0]: 0, NAMES[2]: 2}
    seen = set()
    for example in plain:
        number = numbers[example["name"].numpy().decode()]
        np.testing.assert_array_equal(example["label"][..., 0], labels(number, seed))
        assert example["image"].shape == (20 + number, 31, 3)
        seen.add(number)
    assert seen == {0, 2}

    source = data.load(f"tfds:keras_deeplab_voc{config}", split="train", data_dir=tmp_path / "tfds")
    assert source.classes == data.load(devkit).classes
    assert len(source) == 2
    by_size = {label.shape[0] - 20: (image, label) for image, label in found(source).values()}
    for number in (0, 2):
        np.testing.assert_array_equal(by_size[number][0], decode_image(photograph(number)))
        np.testing.assert_array_equal(by_size[number][1], labels(number, seed))
