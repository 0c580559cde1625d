"""Labels of resized scores against a resize of all scores and an argmax behind it."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.inference import answers
from keras_deeplab.layers import argmax, resized_argmax
from keras_deeplab.specs import ModelSpec

SIZES = [
    ((5, 7), (33, 49)),
    ((33, 33), (513, 513)),
    ((9, 13), (5, 4)),
    ((1, 1), (3, 7)),
    ((4, 6), (4, 6)),
    ((24, 32), (375, 500)),
    ((3, 2), (1, 1)),
    ((17, 5), (8, 40)),
    ((40, 40), (7, 9)),
]


def scores_of(height, width, classes, smooth=False):
    random = np.random.default_rng(height * width + classes)
    if smooth:  # most of it of one label, as a trained model has it
        return tf.image.resize(random.normal(size=(2, 3, 3, classes)), (height, width)).numpy()
    return random.normal(size=(2, height, width, classes)).astype(np.float32)


def resized(scores, size, align_corners):
    return tf.raw_ops.ResizeBilinear(
        images=scores, size=size, align_corners=align_corners, half_pixel_centers=not align_corners
    ).numpy()


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("smooth", [True, False])
def test_labels_are_those_of_the_resized_scores_but_for_ties(old, new, align_corners, smooth):
    scores = scores_of(*old, 5, smooth)
    full = resized(scores, new, align_corners)
    labels = resized_argmax(tf.constant(scores), new, align_corners).numpy()
    assert labels.shape == full.shape[:3]
    assert labels.dtype == np.int32
    assert (labels != full.argmax(-1)).mean() <= 1e-4
    behind = full.max(-1) - np.take_along_axis(full, labels[..., None], -1)[..., 0]
    assert behind.max() < 1e-5


def test_of_equal_scores_the_first_counts():
    labels = resized_argmax(tf.zeros((1, 3, 3, 4)), (20, 20), True).numpy()
    assert (labels == 0).all()


@pytest.mark.parametrize("align_corners", [True, False])
def test_in_a_graph_of_unknown_sizes(align_corners):
    traced = tf.function(
        lambda scores, size: resized_argmax(scores, size, align_corners),
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((2,), tf.int32)],
        autograph=False,
    )
    for size in ((50, 70), (9, 11), (130, 8)):
        scores = scores_of(9, 11, 3)
        np.testing.assert_array_equal(
            traced(scores, size).numpy(), resized_argmax(tf.constant(scores), size, align_corners).numpy()
        )


def test_many_classes_are_resized_some_at_a_time(monkeypatch):
    scores = scores_of(9, 9, 40)
    labels = resized_argmax(tf.constant(scores), (65, 65), True).numpy()
    monkeypatch.setattr(argmax, "_AT_ONCE", 1)  # a block each
    np.testing.assert_array_equal(resized_argmax(tf.constant(scores), (65, 65), True).numpy(), labels)
    assert (labels != resized(scores, (65, 65), True).argmax(-1)).mean() < 1e-3


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize(("classes", "multi_label"), [(1, False), (4, True), (4, False)])
@pytest.mark.parametrize("returns", ["logits", "probabilities"])
def test_labels_of_every_kind_of_model(classes, multi_label, returns, threshold):
    spec = ModelSpec(classes, multi_label=multi_label)
    scores = scores_of(9, 9, classes, smooth=True) * 2
    if returns == "probabilities":
        scores = np.asarray(answers.probabilities_of(scores, spec))
    expected = answers.labels_of(resized(scores, (65, 70), False), spec, returns, threshold)
    labels = answers.resized_labels_of(tf.constant(scores), (65, 70), spec, False, returns, threshold)
    assert labels.dtype == expected.dtype
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(labels, expected)
