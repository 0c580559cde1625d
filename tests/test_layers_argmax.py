"""Labels of resized scores against a resize of all scores and an argmax behind it."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.inference import answers
from keras_deeplab.layers import argmax, argmax_by_slabs, resized_argmax, slabs_of
from keras_deeplab.layers.resizes import conventions
from keras_deeplab.specs import RESIZES, ModelSpec

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


def resized(scores, size, convention):
    return tf.raw_ops.ResizeBilinear(images=scores, size=size, **conventions(convention)).numpy()


@pytest.mark.parametrize("convention", RESIZES)
@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("smooth", [True, False])
def test_labels_are_those_of_the_resized_scores_but_for_ties(old, new, convention, smooth):
    scores = scores_of(*old, 5, smooth)
    full = resized(scores, new, convention)
    labels = resized_argmax(tf.constant(scores), new, convention).numpy()
    assert labels.shape == full.shape[:3]
    assert labels.dtype == np.int32
    assert (labels != full.argmax(-1)).mean() <= 1e-4
    behind = full.max(-1) - np.take_along_axis(full, labels[..., None], -1)[..., 0]
    assert behind.max() < 1e-5


def test_of_equal_scores_the_first_counts():
    labels = resized_argmax(tf.zeros((1, 3, 3, 4)), (20, 20), "align_corners").numpy()
    assert (labels == 0).all()


@pytest.mark.parametrize("convention", RESIZES)
def test_in_a_graph_of_unknown_sizes(convention):
    traced = tf.function(
        lambda scores, size: resized_argmax(scores, size, convention),
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((2,), tf.int32)],
        autograph=False,
    )
    for size in ((50, 70), (9, 11), (130, 8)):
        scores = scores_of(9, 11, 3)
        np.testing.assert_array_equal(
            traced(scores, size).numpy(), resized_argmax(tf.constant(scores), size, convention).numpy()
        )


def test_many_classes_are_resized_some_at_a_time(monkeypatch):
    scores = scores_of(9, 9, 40)
    labels = resized_argmax(tf.constant(scores), (65, 65), "align_corners").numpy()
    monkeypatch.setattr(argmax, "_AT_ONCE", 1)  # a block each
    np.testing.assert_array_equal(resized_argmax(tf.constant(scores), (65, 65), "align_corners").numpy(), labels)
    assert (labels != resized(scores, (65, 65), "align_corners").argmax(-1)).mean() < 1e-3


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize(("classes", "multi_label"), [(1, False), (4, True), (4, False)])
@pytest.mark.parametrize("returns", ["logits", "probabilities"])
def test_labels_of_every_kind_of_model(classes, multi_label, returns, threshold):
    spec = ModelSpec(classes, multi_label=multi_label)
    scores = scores_of(9, 9, classes, smooth=True) * 2
    if returns == "probabilities":
        scores = np.asarray(answers.probabilities_of(scores, spec))
    expected = answers.labels_of(resized(scores, (65, 70), "half_pixel_centers"), spec, returns, threshold)
    labels = answers.resized_labels_of(tf.constant(scores), (65, 70), spec, "half_pixel_centers", returns, threshold)
    assert labels.dtype == expected.dtype
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("convention", RESIZES)
@pytest.mark.parametrize(("rows", "steps", "each"), [(9, 4, 1), (9, 4, 3), (9, 3, 5), (5, 16, 100), (4, 1, 2)])
def test_labels_by_slabs(convention, rows, steps, each, monkeypatch):
    width, aligned = 23, convention == "align_corners"
    height = (rows - aligned) * steps + aligned
    scores = scores_of(rows, 6, 5)
    monkeypatch.setattr(argmax, "_AT_ONCE", each * steps * width * 5)
    assert slabs_of(scores.shape, (height, width), convention) == (steps, each)
    labels = argmax_by_slabs(tf.constant(scores), (height, width), convention)
    np.testing.assert_array_equal(labels, resized(scores, (height, width), convention).argmax(-1))


def test_slabs_where_they_gain_nothing_or_do_not_fit():
    shape, size = (1, 9, 6, 5), (33, 21)
    assert slabs_of(shape, size, "align_corners", worth=4 * 33 * 21 * 5) is not None
    assert slabs_of(shape, size, "align_corners", worth=4 * 33 * 21 * 5 + 1) is None
    assert slabs_of(shape, (34, 21), "align_corners") is None
    assert slabs_of((1, None, None, 5), size, "align_corners") is None
    with pytest.raises(ValueError, match="can't be resized"):
        argmax_by_slabs(tf.zeros(shape), size, "half_pixel_centers")
