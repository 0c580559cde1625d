"""The data doctor: each kind of fault is found and told with its way out; sound data has none."""

import re
from pathlib import Path

import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data import doctor
from keras_deeplab.data.source import indexed

CLASSES = ("background", "disc", "box")
SIZE = (32, 48)


def scene(number, size=SIZE):
    """An image of noise with a disc and a box, and its mask."""
    rng = np.random.default_rng(number)
    image = rng.integers(60, 110, (*size, 3), np.uint8)
    image = cv2.resize(cv2.resize(image, (6, 4)), size[::-1], interpolation=cv2.INTER_CUBIC)
    image = np.clip(image + rng.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)
    label = np.zeros(size, np.uint8)
    centre = (int(rng.integers(9, size[1] // 2 - 2)), int(rng.integers(9, size[0] - 9)))
    cv2.circle(label, centre, 7, 1, cv2.FILLED)
    top, left = int(rng.integers(2, size[0] - 14)), int(rng.integers(size[1] // 2 + 6, size[1] - 12))
    label[top : top + 11, left : left + 9] = 2
    image[label == 1] = (210, 40, 40)
    image[label == 2] = (30, 60, 220)
    return image, label


def source(samples, classes=CLASSES, **settings):
    """A `Source` of a list of (image, label)."""
    return indexed("drawn", list(classes), len(samples), lambda i: (*samples[i], f"s{i:03}"), **settings)


def scenes(count, first=0):
    return [scene(first + number) for number in range(count)]


def kinds(found, severity=None):
    return [each.kind for each in found.findings if severity in (None, each.severity)]


def the(found, kind):
    """The one finding of a kind."""
    (finding,) = [each for each in found.findings if each.kind == kind]
    return finding


def examined(train, val=None, **settings):
    parts = {"train": source(train)} | ({} if val is None else {"val": source(val)})
    return doctor.examine(parts, **{"crop_size": SIZE, **settings})


@pytest.fixture(scope="module")
def sound():
    return scenes(60), scenes(12, 1000)


def changed(samples, change, every=1):
    """The samples with (image, label) of each, or each so many, changed by a function."""
    return [change(*copied(pair)) if place % every == 0 else pair for place, pair in enumerate(samples)]


def copied(pair):
    return pair[0].copy(), pair[1].copy()


def test_sound_data_has_no_findings(sound):
    assert examined(*sound).findings == ()
    synthetic = {split: data.load("synthetic", split, num_examples=60, size=48) for split in ("train", "val")}
    assert doctor.examine(synthetic, crop_size=49).findings == ()


def test_one_class_alone_is_an_error(sound):
    found = examined(changed(sound[0], lambda image, label: (image, label * 0 + 2)), sound[1])
    assert kinds(found, "error") == ["one_class"]
    assert "every labelled pixel of train is box" in the(found, "one_class").text
    with pytest.raises(ValueError, match=r"can't be trained on.*\n.*every labelled pixel"):
        found.refuse_errors()
    found = examined(changed(sound[0], lambda image, label: (image, label * 0 + 255)))
    assert "no pixel of train has a label" in the(found, "one_class").text


def test_classes_that_a_split_lacks_are_named(sound):
    def without_box(image, label):
        label[label == 2] = 0
        return image, label

    lacking = changed(sound[0], without_box)
    finding = the(examined(lacking, sound[1]), "absent_classes")
    assert finding.severity == "warning"
    assert "train has no pixel of box" in finding.text
    assert "Other splits have box and will score 0 there" in finding.text
    finding = the(examined(sound[0], changed(sound[1], without_box)), "absent_classes")
    assert (finding.severity, "val has no pixel of box" in finding.text) == ("note", True)


def test_ignored_pixels_and_samples_are_counted(sound):
    def mostly(image, label):
        label[:, :30] = 255
        return image, label

    finding = the(examined(changed(sound[0], mostly), sound[1]), "ignored_pixels")
    assert "62% of the pixels of train are ignored" in finding.text
    wholly = changed(sound[0], lambda image, label: (image, label * 0 + 255), every=20)
    finding = the(examined(wholly, sound[1]), "ignored_pixels")
    assert "3 samples of 60 wholly ignored" in finding.text
    assert finding.details == ("s000", "s020", "s040")
    assert [(each.split, each.index) for each in finding.examples] == [("train", 0), ("train", 20), ("train", 40)]


def test_mostly_empty_masks_and_rare_classes_hint_at_class_weights(sound):
    empty = [pair if place % 3 == 0 else (pair[0], pair[1] * 0) for place, pair in enumerate(sound[0])]
    finding = the(examined(empty, sound[1]), "samples_of_one_class")
    assert "40 samples of 60 show background alone" in finding.text
    assert "class_weights='auto'" in finding.remedy

    def small_box(image, label):
        label[label == 2] = 0
        label[20:22, 30:33] = 2
        return image, label

    finding = the(examined(changed(sound[0], small_box), sound[1]), "class_imbalance")
    assert "1 class of 3 with under 1% of the labelled pixels of train: box 0.39% (in 60 images)" in finding.text
    assert "class_weights='auto'" in finding.remedy


def test_noise_of_single_pixels_is_found(sound):
    def noisy(image, label):
        label[5::9, 5::9] = (label[5::9, 5::9] + 1) % 3
        return image, label

    finding = the(examined(changed(sound[0], noisy), sound[1]), "noisy_masks")
    assert "0.88% of the labelled pixels" in finding.text
    assert "in 60 masks" in finding.text


def test_copies_in_another_split_are_counted_by_pixels_and_by_look(sound):
    train, val = sound
    finding = the(examined(train, train[:4] + val), "overlapping_splits")
    assert "4 images of 16 in val are in train too, pixel for pixel (4 under the same name)" in finding.text
    assert finding.severity == "warning"

    def resized(image, label):
        return cv2.resize(image, None, fx=2, fy=2), np.kron(label, np.ones((2, 2), np.uint8))

    copies = changed(train[5:8], resized)
    finding = the(examined(train, val + copies), "overlapping_splits")
    assert "3 images of 15 in val are nearly the same as one in train" in finding.text
    assert finding.details[0] == "s012 (val) = s005 (train)"


def test_repeated_images_with_other_masks_contradict_each_other(sound):
    train, val = sound
    assert (
        "1 image more than once, with the same mask" in the(examined([*train, train[3]], val), "repeated_images").text
    )
    finding = the(examined([*train, (train[3][0], train[4][1])], val), "repeated_images")
    assert (finding.severity, finding.details) == ("warning", ("s003, s060",))


def test_few_samples_are_noted(sound):
    text = the(examined(sound[0][:12], sound[1][:3]), "few_samples").text
    assert "train has 12 samples and val has 3 samples" in text


def test_crops_that_do_not_fit_the_images_are_told_with_a_size_that_does(sound):
    finding = the(examined(*sound, crop_size=(129, 193)), "crop_size")
    assert "94% of a crop is padding" in finding.text
    assert finding.remedy == "crop_size=(32, 48) fits the images."
    # Of sizes that differ, one at which the strides of features nest holds three quarters.
    mixed = [
        (image[: 30 + 2 * (place % 2)], label[: 30 + 2 * (place % 2)]) for place, (image, label) in enumerate(sound[0])
    ]
    assert the(examined(mixed, crop_size=(129, 193)), "crop_size").remedy == "crop_size=(33, 49) fits the images."
    large = [(np.kron(image, np.ones((8, 8, 1), np.uint8)), np.kron(label, np.ones((8, 8), np.uint8)))
             for image, label in sound[0]]  # fmt: skip
    assert "a crop shows 1.6% of an image" in the(examined(large, crop_size=SIZE), "crop_size").text


def test_sizes_that_differ_greatly_are_noticed(sound):
    image, label = sound[0][0]
    large = (np.kron(image, np.ones((9, 9, 1), np.uint8)), np.kron(label, np.ones((9, 9), np.uint8)))
    assert "from 48x32 (s000) to 432x288 (s060)" in the(examined([*sound[0], large], sound[1]), "image_sizes").text


def test_dark_blank_and_grey_images_are_found(sound):
    train, val = sound
    dark = changed(train, lambda image, label: (image // 16, label))
    assert "the brightest pixel of train is 13 of 255" in the(examined(dark, val), "dark_images").text
    blank = changed(train, lambda image, label: (image * 0 + 7, label), every=30)
    finding = the(examined(blank, val), "plain_images")
    assert (finding.severity, finding.details) == ("warning", ("s000", "s030"))
    grey = changed(train, lambda image, label: (np.repeat(image[..., :1], 3, -1), label), every=30)
    finding = the(examined(grey, val), "plain_images")
    assert (finding.severity, finding.details) == ("note", ("s000", "s030"))


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        (lambda label: label[:, ::-1], "mirrored left to right"),
        (lambda label: label[::-1], "upside down"),
        (lambda label: label[::-1, ::-1], "turned by 180 degrees"),
    ],
)
def test_masks_that_lie_otherwise_than_their_images_are_told(sound, turn, told):
    found = examined(changed(sound[0], lambda image, label: (image, turn(label).copy())), sound[1])
    assert told in the(found, "misplaced_masks").text


def test_masks_of_the_next_image_are_told(sound):
    train = sound[0]
    slipped = [(image, train[(place + 1) % len(train)][1]) for place, (image, _) in enumerate(train)]
    assert "of the image before" in the(examined(slipped, sound[1]), "misplaced_masks").text


def test_every_sample_that_can_not_be_read_is_listed(sound):
    def read(index):
        if index % 2:
            raise ValueError(f"s{index:03} is cut short")
        return (*sound[0][index], f"s{index:03}")

    found = doctor.examine({"train": indexed("broken", list(CLASSES), 60, read)}, crop_size=SIZE)
    finding = the(found, "unreadable")
    assert (finding.severity, len(finding.details)) == ("error", 30)
    assert "30 samples of 60 in train can't be used" in finding.text
    assert finding.told().count("cut short") == 3
    assert "... and 27 more" in finding.told()
    assert finding.told(None).count("cut short") == 30


def test_labels_of_no_class_are_an_error(sound):
    found = doctor.examine({"train": source(sound[0], CLASSES[:2])}, crop_size=SIZE)
    finding = the(found, "unknown_labels")
    assert "60 samples of 60 in train with labels of no class, 2: there are 2 classes, 0 to 1" in finding.text


def test_a_split_that_can_not_be_opened_is_told_once(sound):
    error = FileNotFoundError("there is no list\n  a.jpg\n  b.jpg")
    found = doctor.examine({"train": error, "val": error})
    assert the(found, "refused").told() == "error: train and val can't be read: there is no list\n    a.jpg, b.jpg"
    assert kinds(found) == ["refused"]


def test_the_quick_part_looks_at_some_and_counts_all(sound, monkeypatch):
    monkeypatch.setattr(doctor, "_QUICK", 20)
    train = changed(sound[0], lambda image, label: (image, label * 0 + 255), every=20)
    found = examined(train, sound[1], quick=True)
    part = found.evidence.train
    assert (len(part.seen), len(part.looks)) == (60, 20)
    assert len(the(found, "ignored_pixels").details) == 3
    again = examined(train, sound[1], quick=True).evidence.train
    assert [seen.index for seen, _ in again.looks] == [seen.index for seen, _ in part.looks]


def test_every_check_is_told_in_the_documentation_and_may_be_joined_by_another(sound, monkeypatch):
    text = (Path(__file__).parents[1] / "docs" / "check_data.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == sorted(doctor.CHECKS)
    monkeypatch.setitem(doctor.CHECKS, "square", None)  # so that it goes again
    exec(text[text.index("from keras_deeplab.data.doctor import CHECKS") :].partition("```")[0], {})
    assert the(examined(*sound), "square").text == "train has images that are not square."
