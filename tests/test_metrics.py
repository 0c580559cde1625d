import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.metrics import ConfusionMatrix, MeanIoU, label_maps
from keras_deeplab.training.losses import SparseCategoricalCrossentropy


def draw(seed=0, shape=(3, 20, 17), classes=5, ignored=0.2):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, classes, shape), rng.integers(0, classes, shape)
    predictions = np.where(rng.random(shape) < 0.5, labels, predictions)
    labels[rng.random(shape) < ignored] = 255
    return labels, predictions


def iou_by_sets(labels, predictions, classes):
    """Intersection over union of sets of pixel positions; None for a class that occurs nowhere."""
    scores = []
    for index in range(classes):
        pixels = range(labels.size)
        ours = {p for p in pixels if labels.flat[p] == index}
        theirs = {p for p in pixels if predictions.flat[p] == index and labels.flat[p] != 255}
        scores.append(len(ours & theirs) / len(ours | theirs) if ours | theirs else None)
    return scores


def one_hot(predictions, classes):
    return np.eye(classes, dtype=np.float32)[predictions] * 3.0 - 1.0


def test_scores_equal_sets_of_pixels():
    labels, predictions = draw()
    matrix = ConfusionMatrix(5)
    for label, prediction in zip(labels, predictions, strict=True):
        matrix.update(label.astype(np.uint8), prediction.astype(np.int32))
    expected = iou_by_sets(labels, predictions, 5)
    np.testing.assert_allclose(matrix.iou, expected)
    assert matrix.mean_iou == pytest.approx(np.mean(expected))
    valid = labels != 255
    assert matrix.num_pixels == valid.sum()
    assert matrix.pixel_accuracy == pytest.approx(np.mean(labels[valid] == predictions[valid]))
    recall = [np.mean(predictions[labels == index] == index) for index in range(5)]
    assert matrix.mean_accuracy == pytest.approx(np.mean(recall))
    share = [np.mean(labels[valid] == index) for index in range(5)]
    assert matrix.frequency_weighted_iou == pytest.approx(np.dot(share, expected))


def test_a_class_that_never_occurs_is_in_no_mean_and_one_that_is_only_predicted_counts_zero():
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([0, 0, 1, 255]), np.array([0, 2, 1, 3]))
    np.testing.assert_array_equal(matrix.iou, [0.5, 1.0, 0.0, np.nan])
    assert matrix.mean_iou == pytest.approx(0.5)
    assert matrix.mean_accuracy == pytest.approx(0.75)


def test_nothing_scored_is_nan_without_a_warning():
    matrix = ConfusionMatrix(3)
    matrix.update(np.full((2, 2), 255), np.zeros((2, 2), int))
    for value in (matrix.mean_iou, matrix.pixel_accuracy, matrix.mean_accuracy, matrix.frequency_weighted_iou):
        assert np.isnan(value)
    assert np.isnan(matrix.iou).all()
    assert matrix.to_dict()["mean_iou"] is None
    assert "mean IoU" in matrix.table()


def test_matrices_of_parts_add_up_to_the_whole():
    labels, predictions = draw(seed=1)
    parts = [ConfusionMatrix(5), ConfusionMatrix(5)]
    parts[0].update(labels[:1], predictions[:1])
    parts[1].update(labels[1:], predictions[1:])
    whole = ConfusionMatrix(5)
    whole.update(labels, predictions)
    np.testing.assert_array_equal((parts[0] + parts[1]).matrix, whole.matrix)
    with pytest.raises(ValueError, match=r"5 classes.* and 4 classes"):
        whole + ConfusionMatrix(4)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([[0, 1]], [0, 1], r"labels have shape \(1, 2\) but predictions have \(2,\)"),
        ([0, 3], [0, 1], r"label 3 \(on 1 pixels\) is not one of the classes 0..2, nor the ignored label 255"),
        ([0, -1], [0, 1], "label -1"),
        ([0, 255], [0, 20], r"prediction 20 \(on 1 pixels\) is not one of the classes 0..2"),
        ([0.0, 1.0], [0, 1], "labels must be integers, received dtype float64"),
        ([0, 1], [0.0, 1.0], "predictions must be integers"),
    ],
)
def test_refuses_what_is_no_label_map_and_counts_nothing(labels, predictions, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        matrix.update(np.array(labels), np.array(predictions))
    assert matrix.num_pixels == 0


@pytest.mark.parametrize(("num_classes", "ignore_label"), [(3, 255), (3, 0), (3, -1), (256, 300)])
def test_maps_of_bytes_are_counted_as_any_others(num_classes, ignore_label):
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, num_classes, (2, 9, 11)).astype(np.uint8)
    if ignore_label == 255:
        labels[2] = 255
    bytewise, other = (ConfusionMatrix(num_classes, ignore_label) for _ in range(2))
    for _ in range(2):
        bytewise.update(labels, predictions)
        other.update(labels.astype(np.int64), predictions.astype(np.int64))
    np.testing.assert_array_equal(bytewise.matrix, other.matrix)
    if num_classes == 3:
        for wrong, message in (((labels + 3, predictions), "label 3"), ((labels, predictions + 3), "prediction 3")):
            with pytest.raises(ValueError, match=message):
                bytewise.update(*wrong)
        np.testing.assert_array_equal(bytewise.matrix, other.matrix)


def test_an_ignored_label_within_the_classes_is_not_scored():
    matrix = ConfusionMatrix(3, ignore_label=0)
    matrix.update(np.array([0, 1, 2]), np.array([1, 1, 0]))
    np.testing.assert_array_equal(matrix.iou, [0.0, 1.0, 0.0])
    assert matrix.num_pixels == 2


def test_table_names_every_class_in_aligned_columns():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1]), np.array([0, 1, 1]))
    lines = matrix.table(["road", "a rather long class name", "sky"]).splitlines()
    assert lines[1].split() == ["road", "0.5000", "0.5000", "66.67"]
    assert lines[3].split() == ["sky", "-", "-", "0.00"]
    assert len({len(line) for line in lines[:5]}) == 1
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        matrix.table(["one", "two"])


def test_to_dict_is_json_with_the_exact_counts():
    labels, predictions = draw(seed=2)
    matrix = ConfusionMatrix(5)
    matrix.update(labels, predictions)
    read = json.loads(json.dumps(matrix.to_dict()))
    assert read["matrix"] == matrix.matrix.tolist()
    assert read["mean_iou"] == pytest.approx(matrix.mean_iou)


@pytest.mark.parametrize("compiled", [False, True])
def test_keras_metric_equals_the_confusion_matrix(compiled):
    metric, matrix = MeanIoU(6), ConfusionMatrix(6)
    update = tf.function(metric.update_state) if compiled else metric.update_state
    assert np.isnan(float(metric.result()))
    for seed in range(3):
        labels, predictions = draw(seed)
        labels = labels[..., None] if seed == 1 else labels
        update(tf.constant(labels, tf.uint8), tf.constant(one_hot(predictions, 6)))
        matrix.update(labels.reshape(predictions.shape), predictions)
    np.testing.assert_array_equal(metric.matrix, matrix.matrix)
    assert float(metric.result()) == pytest.approx(matrix.mean_iou, rel=1e-6)
    metric.reset_state()
    assert np.isnan(float(metric.result()))


@pytest.mark.slow
def test_counts_go_on_beyond_what_a_float32_counter_holds():
    metric = MeanIoU(2)
    labels = tf.zeros((1, 2048, 2048), tf.uint8)
    logits = tf.constant([1.0, 0.0]) + tf.zeros((1, 2048, 2048, 2))
    update = tf.function(metric.update_state)
    for _ in range(5):
        update(labels, logits)
    update(labels[:, :1, :3], logits[:, :1, :3])
    assert metric.matrix[0, 0] == 5 * 2048**2 + 3
    assert metric.matrix[0, 0] > 2**24
    # Ten single wrong pixels must show, each alone too little to move a float32 counter of that size.
    for _ in range(10):
        update(labels[:, :1, :1] + 1, logits[:, :1, :1])
    assert metric.matrix[1, 0] == 10
    for variable in metric.variables:
        assert float(keras.ops.max(variable)) < 2**24


def test_a_label_that_is_no_class_makes_the_metric_nan():
    metric = MeanIoU(3)
    logits = np.zeros((1, 1, 2, 3), np.float32)
    metric.update_state(np.array([[[0, 255]]]), logits)
    assert float(metric.result()) == 1.0
    metric.update_state(np.array([[[0, 3]]]), logits)
    assert np.isnan(float(metric.result()))


def test_keras_metric_and_loss_work_in_fit():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    model.compile(
        keras.optimizers.SGD(0.0),
        SparseCategoricalCrossentropy(),
        metrics=[MeanIoU(3, name="score")],
        jit_compile=False,
    )
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(np.float32)
    labels, _ = draw(seed=3, shape=(4, 6, 5), classes=3)
    # At a learning rate of zero, the score of an epoch is that of the model as it stands.
    history = model.fit(images, labels, batch_size=2, verbose=0).history
    matrix = ConfusionMatrix(3)
    matrix.update(labels, np.argmax(model(images), -1))
    assert history["score"][0] == pytest.approx(matrix.mean_iou, rel=1e-6)


def test_keras_metric_survives_serialisation_and_refuses_other_shapes():
    metric = MeanIoU(4, ignore_label=0, name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    with pytest.raises(ValueError, match=r"labels \(B, H, W\) and logits \(B, H, W, 4\)"):
        metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="no sample_weight"):
        metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 4)), sample_weight=[1.0])


def test_one_logit_counts_as_two_classes():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, (2, 6, 5)), rng.normal(size=(2, 6, 5, 1)).astype("float32")
    labels[rng.random(labels.shape) < 0.2] = 255
    logits[0, 0, 0] = 0.0  # is label 0, as the first of equal scores
    one, two = MeanIoU(2), MeanIoU(2)
    one.update_state(labels, logits)
    two.update_state(labels, np.concatenate([np.zeros_like(logits), logits], -1))
    np.testing.assert_array_equal(one.matrix, two.matrix)
    matrix = ConfusionMatrix(2)
    matrix.update(labels, (logits[..., 0] > 0).astype(int))
    assert float(one.result()) == pytest.approx(matrix.mean_iou)
    with pytest.raises(ValueError, match=r"logits \(B, H, W, 3\), received"):
        MeanIoU(3).update_state(labels, logits)
    with pytest.raises(ValueError, match="at least 2 classes, received 1; one logit tells two apart"):
        MeanIoU(1)


def test_scores_of_nothing_and_of_narrow_numbers_are_json():
    matrix = ConfusionMatrix(2)
    found = json.loads(json.dumps(matrix.to_dict(), allow_nan=False))
    scores = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    assert {found[name] for name in scores if name in found} == {None}
    assert type(label_maps.plain(np.float32(0.5))) is float
    assert label_maps.plain(np.nan) is None
    assert type(label_maps.mean(np.array([0.5, np.nan], np.float32))) is float


@pytest.mark.parametrize(("count", "shown"), [(1, "label 10 "), (5, "label 10, 11, 12, 13, 14 "), (6, "13, 14, ... ")])
def test_up_to_five_labels_that_are_no_class_are_named(count, shown):
    labels = np.repeat(np.arange(10, 10 + count), 2)
    with pytest.raises(ValueError, match=re.escape(f"{shown}(on {2 * count} pixels) is not one of the classes 0..2")):
        ConfusionMatrix(3).update(labels, np.zeros_like(labels))


def test_maps_of_one_image_and_of_several_and_shares_of_nothing():
    labels, predictions = draw()
    (single,) = label_maps.maps(labels[0], predictions[0], 5, 255)
    several = list(label_maps.maps(labels, predictions, 5, 255))
    assert [len(single), len(several)] == [3, 3]
    for one, other in zip(single, several[0], strict=True):
        np.testing.assert_array_equal(one, other)
    for wrong in (labels[0, 0], labels[None]):
        with pytest.raises(ValueError, match="expected label maps"):
            label_maps.maps(wrong, wrong * 0, 5, 255)
    np.testing.assert_array_equal(label_maps.ratio([1, 0], [[2, 0], [4, 1]]), [[0.5, np.nan], [0.25, 0.0]])
