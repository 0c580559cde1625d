"""Calibration, and intervals of resampled images, against references that follow the definitions one by one."""

import json

import numpy as np
import pytest

from keras_deeplab.metrics import Calibration, ConfusionMatrix, ImageScores

CLASSES, IGNORED = 5, 255


def draw(seed, shape=(30, 20)):
    """Labels of four of five classes with ignored pixels, predictions of other four, and how sure each is."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.2, 1.0, shape).astype(np.float32)
    predictions = rng.integers(0, 4, shape)
    labels = np.where(rng.random(shape) < confidence**2, predictions, rng.integers(0, 4, shape))
    labels[rng.random(shape) < 0.2] = IGNORED
    return labels, predictions, confidence


def error_of(labels, predictions, confidence, bins):
    """The expected calibration error in float64: bins (0, 1/M], (1/M, 2/M], ... and the weighted mean distance."""
    scored = labels != IGNORED
    right = (labels == predictions)[scored].astype(np.float64)
    confidence = confidence[scored].astype(np.float64)
    total = 0.0
    for place in range(bins):
        inside = (confidence > place / bins) & (confidence <= (place + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total if scored.any() else np.nan


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_errors_equal_their_definition(bins):
    found, seen = Calibration(CLASSES, bins), []
    for seed in range(3):
        seen.append(draw(seed))
        found.update(*seen[-1])
    labels, predictions, confidence = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    assert found.error == pytest.approx(error_of(labels, predictions, confidence, bins), abs=1e-7)
    for index in range(4):
        of_class = np.where(predictions == index, labels, IGNORED)
        assert found.errors[index] == pytest.approx(error_of(of_class, predictions, confidence, bins), abs=1e-7)
        mine = (predictions == index) & (labels != IGNORED)
        told = confidence[mine].mean(dtype=np.float64) - (labels == predictions)[mine].mean()
        assert found.overconfidence[index] == pytest.approx(told, abs=1e-7)
    assert np.isnan(found.errors[4])
    assert found.num_pixels == (labels != IGNORED).sum()
    assert found.error > 0.05


def test_the_bins_of_a_class_and_of_all():
    found = Calibration(2, bins=4)
    found.update(np.array([0, 1, 1, 0, IGNORED]), np.array([0, 0, 1, 1, 1]), np.array([0.9, 0.5, 0.6, 0.75, 0.9]))
    whole = found.reliability()
    assert whole.pixels.tolist() == [0, 1, 2, 1]  # 0.5 and 0.75 are the last of their bins
    np.testing.assert_allclose(whole.confidence, [np.nan, 0.5, 0.675, 0.9], atol=1e-7)
    np.testing.assert_array_equal(whole.accuracy, [np.nan, 0.0, 0.5, 1.0])
    assert found.reliability(1).pixels.tolist() == [0, 0, 2, 0]


def test_what_is_as_often_right_as_it_is_sure_has_no_error():
    confidence = np.repeat([0.25, 0.5, 0.75, 1.0], 100)
    right = np.concatenate([np.arange(100) < share for share in (25, 50, 75, 100)])
    found = Calibration(2)
    found.update(right.astype(int), np.ones(400, int), confidence)
    assert found.error == 0.0
    assert found.overconfidence[1] == 0.0


def test_parts_add_up_to_the_whole_in_any_order_exactly():
    parts = []
    whole = Calibration(CLASSES)
    for seed in range(6):
        images = draw(seed)
        parts.append(Calibration(CLASSES))
        parts[-1].update(*images)
        whole.update(*images)
    forth, back = parts[0], parts[-1]
    for one, other in zip(parts[1:], parts[-2::-1], strict=True):
        forth, back = forth + one, back + other
    assert forth.to_dict() == back.to_dict() == whole.to_dict()
    assert forth.error == whole.error  # no rounding comes in between
    assert json.loads(json.dumps(whole.to_dict()))["errors"][4] is None
    with pytest.raises(ValueError, match="different bins: 15 and 10"):
        whole + Calibration(CLASSES, bins=10)


@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        (np.zeros((2, 3)), r"probability of each of \(2, 2\) predictions, received float64 of shape \(2, 3\)"),
        (np.zeros((2, 2), int), "received int64"),
        (np.full((2, 2), 3.5), "must lie in 0..1, received 3.5 to 3.5: pass probabilities, not logits"),
        (np.full((2, 2), -0.5), "must lie in 0..1, received -0.5 to -0.5"),
        (np.full((2, 2), np.nan), "must lie in 0..1"),
    ],
)
def test_refuses_what_is_no_confidence_and_counts_nothing(confidence, message):
    found = Calibration(2)
    with pytest.raises(ValueError, match=message):
        found.update(np.zeros((2, 2), int), np.zeros((2, 2), int), confidence)
    assert found.num_pixels == 0
    assert np.isnan(found.error)
    with pytest.raises(ValueError, match="bins must be at least 1"):
        Calibration(2, bins=0)


def matrices(seed, images=12, better=0.0):
    found = []
    for number in range(images):
        labels, predictions, _ = draw(100 + number)
        rng = np.random.default_rng((seed, number))
        predictions = np.where(rng.random(labels.shape) < better, np.where(labels == IGNORED, 0, labels), predictions)
        found.append(ConfusionMatrix(CLASSES))
        found[-1].update(labels, predictions)
    return found


def scores_of(found):
    scores = ImageScores(CLASSES)
    for matrix in found:
        scores.update(matrix)
    return scores


def test_scores_of_images_are_those_of_their_matrices():
    found = matrices(0)
    scores = scores_of(found)
    np.testing.assert_array_equal(scores.mean_iou, [matrix.mean_iou for matrix in found])
    half = scores_of(found[:5]) + scores_of(found[5:])
    np.testing.assert_array_equal(half.intersections, scores.intersections)
    np.testing.assert_array_equal(half.unions, scores.unions)


def test_intervals_equal_drawing_images_one_by_one():
    one, other = matrices(0, better=0.2), matrices(1, better=0.1)
    found = scores_of(one).intervals(scores_of(other), resamples=700, seed=3)
    generator = np.random.default_rng(3)
    differences, classes = [], []
    for _ in range(700):
        often = generator.multinomial(12, np.full(12, 1 / 12))
        drawn = []
        for model in (one, other):
            whole = ConfusionMatrix(CLASSES)
            for count, matrix in zip(often, model, strict=True):
                for _ in range(count):
                    whole = whole + matrix
            drawn.append(whole)
        differences.append(drawn[0].mean_iou - drawn[1].mean_iou)
        classes.append(drawn[0].iou - drawn[1].iou)
    np.testing.assert_allclose(found.mean_iou, np.quantile(differences, [0.025, 0.975]), rtol=1e-12)
    expected = np.nanquantile(np.array(classes)[:, :4], [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(found.iou[:4], expected, rtol=1e-12)
    assert np.isnan(found.iou[4]).all()
    assert 0 < found.mean_iou[0] < found.mean_iou[1]


def test_a_model_differs_from_itself_by_nothing_and_the_same_seed_draws_the_same():
    scores = scores_of(matrices(0))
    assert scores.intervals(scores, resamples=50).mean_iou == (0.0, 0.0)
    assert scores.intervals(resamples=50).mean_iou == scores.intervals(resamples=50).mean_iou
    low, high = scores.intervals(resamples=50).mean_iou
    whole = matrices(0)
    total = sum(whole[1:], whole[0])
    assert low < total.mean_iou < high


def test_a_class_of_five_images_has_an_interval_and_one_of_four_has_none():
    scores = ImageScores(2)
    for labels in ([0, 1], [0, 1], [0, 1], [0, 1], [0, 0]):
        matrix = ConfusionMatrix(2)
        matrix.update(np.array([labels]), np.array([[0, 0]]))
        scores.update(matrix)
    low, high = scores.intervals(resamples=50).iou[0]
    assert 0 < low <= high < 1
    assert np.isnan(scores.intervals(resamples=50).iou[1]).all()


def test_a_difference_needs_the_same_images():
    with pytest.raises(ValueError, match="12 images of 5 classes and 3 of 5"):
        scores_of(matrices(0)).intervals(scores_of(matrices(0)[:3]))
    with pytest.raises(ValueError, match="no images"):
        ImageScores(3).intervals()
