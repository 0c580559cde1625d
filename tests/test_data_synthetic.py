"""The embedded data set: the same everywhere, varied, and labelled exactly."""

import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.data import synthetic


def test_a_sample_depends_on_its_number_alone():
    source = data.load("synthetic", split="train", num_examples=6, size=(40, 56))
    once = list(source.dataset().as_numpy_iterator())
    longer = list(data.load("synthetic", num_examples=9, size=(40, 56)).dataset().as_numpy_iterator())
    for sample, again in zip(once, longer[:6], strict=True):
        np.testing.assert_array_equal(sample["image"], again["image"])
        np.testing.assert_array_equal(sample["label"], again["label"])
    others = [
        data.load("synthetic", split="val", num_examples=6, size=(40, 56)),
        data.load("synthetic", num_examples=6, size=(40, 56), seed=1),
    ]
    images = [sample["image"].tobytes() for sample in once]
    images += [sample["image"].tobytes() for other in others for sample in other.dataset().as_numpy_iterator()]
    assert len(set(images)) == 18


@pytest.mark.parametrize("size", [16, (17, 33), (97, 64), (128, 128)])
def test_sizes_of_every_kind(size):
    source = data.load("synthetic", num_examples=2, size=size)
    for sample in source.dataset():
        assert tuple(sample["label"].shape) == ((size, size) if isinstance(size, int) else size)
        assert sample["image"].shape[:2] == sample["label"].shape
    with pytest.raises(ValueError, match="at least 16"):
        data.load("synthetic", size=15)


def test_every_class_has_its_share_and_a_border():
    source = data.load("synthetic", split="val")
    assert len(source) == 100
    counts = source.check()
    shares = counts / counts.sum()
    assert 0.4 < shares[0] < 0.8
    assert (shares[1 : source.num_classes] > 0.02).all()
    assert not counts[source.num_classes : 255].any()
    assert 0.03 < shares[255] < 0.15


def test_labels_meet_only_across_the_ignored_border():
    for index in range(20):
        _, label = synthetic.draw(np.random.default_rng(index), 64, 80)
        for first, second in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            scored = (first != 255) & (second != 255)
            assert (first[scored] == second[scored]).all()


def test_the_label_lies_on_what_is_drawn():
    # Within an object the image is far smoother than across its outline, wherever the label puts that.
    within, across = [], []
    for index in range(30):
        image, label = synthetic.draw(np.random.default_rng(index), 64, 64)
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(-1)
        step = step[:, 1:] + step[:, :-1]  # over two pixels, as wide as the border
        border = (label[:, 1:-1] == 255) & (label[:, :-2] != label[:, 2:])
        inside = (label[:, :-2] == label[:, 1:-1]) & (label[:, 1:-1] == label[:, 2:]) & (label[:, 1:-1] != 255)
        across.append(step[border].mean())
        within.append(step[inside].mean())
    assert np.mean(across) > 3 * np.mean(within)


def test_colour_alone_does_not_tell_the_class():
    # If it did, the data set would teach nothing about shapes: predict each pixel by the nearest mean colour.
    train, test = (
        [synthetic.draw(np.random.default_rng((part, index)), 64, 64) for index in range(60)] for part in (0, 1)
    )
    means = []
    for label in range(len(synthetic.CLASSES)):
        pixels = np.concatenate([image[labels == label] for image, labels in train])
        means.append(pixels.mean(0))
    overlaps = np.zeros((2, len(means)))
    for image, labels in test:
        distance = np.square(image[..., None, :].astype(float) - np.array(means)).sum(-1)
        guess = distance.argmin(-1)
        for label in range(len(means)):
            scored = labels != 255
            overlaps[0, label] += (scored & (guess == label) & (labels == label)).sum()
            overlaps[1, label] += (scored & ((guess == label) | (labels == label))).sum()
    mean_iou = (overlaps[0] / overlaps[1]).mean()
    assert 0.1 < mean_iou < 0.5
