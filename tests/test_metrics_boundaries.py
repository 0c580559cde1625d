"""Trimap curve and boundary IoU against float64 references that follow the definitions pixel by pixel."""

import json

import numpy as np
import pytest

from keras_deeplab.metrics import BoundaryIoU, ConfusionMatrix, TrimapCurve

CLASSES, IGNORED = 6, 255


def blobs(seed, shape=(29, 23), classes=(0, 1, 2, 4), ignored=0.1):
    """A label map of patches with ignored pixels, and a prediction that differs at places; classes 3 and 5 are absent,
    but that the prediction has some pixels of 5."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(classes, (-(-shape[0] // 5), -(-shape[1] // 5)))
    labels = np.kron(coarse, np.ones((5, 5), int))[: shape[0], : shape[1]]
    predictions = np.roll(labels, rng.integers(-2, 3, 2), (0, 1))
    predictions[rng.random(shape) < 0.05] = 5
    labels[rng.random(shape) < ignored] = IGNORED
    return labels, predictions


def band(labels, width, around):
    """Which scored pixels have a pixel of another label (or an ignored one) within a width: every pair is looked at."""
    places = np.argwhere(labels >= 0).astype(np.float64)
    codes = labels.reshape(-1)
    distances = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    apart = codes[None] != codes[:, None] if around == "labels" else np.broadcast_to(codes == IGNORED, distances.shape)
    near = (np.where(apart, distances, np.inf) <= width).any(1)
    return (near & (codes != IGNORED)).reshape(labels.shape)


def iou_of(labels, predictions, among):
    found = []
    for index in range(CLASSES):
        ours, theirs = (labels == index) & among, (predictions == index) & among
        union = np.sum(ours | theirs, dtype=np.float64)
        found.append(np.sum(ours & theirs, dtype=np.float64) / union if union else np.nan)
    return np.array(found)


def test_the_papers_bands():
    """v1 to v3+ plot widths of up to 40 pixels."""
    assert TrimapCurve(2).widths == (1, 2, 3, 5, 7, 10, 15, 20, 30, 40)


@pytest.mark.parametrize("around", ["labels", "ignored"])
def test_the_trimap_curve_equals_every_pair_of_pixels(around):
    curve = TrimapCurve(CLASSES, widths=(1, 2, 3, 6), around=around)
    whole = {width: [] for width in curve.widths}
    for seed in range(4):
        labels, predictions = blobs(seed, ignored=(0.1, 0.0, 0.01, 1.0)[seed])
        curve.update(labels.astype(np.uint8), predictions.astype(np.int32))
        for width in curve.widths:
            whole[width].append((labels, predictions, band(labels, width, around)))
    expected = []
    for width, images in whole.items():
        labels, predictions, among = (
            np.concatenate([part.reshape(-1) for part in parts]) for parts in zip(*images, strict=True)
        )
        expected.append(iou_of(labels, predictions, among))
        assert curve.num_pixels[curve.widths.index(width)] == among.sum()
    np.testing.assert_array_equal(curve.iou, expected)
    assert np.isnan(curve.iou[:, 3]).all()
    np.testing.assert_allclose(curve.mean_iou, np.nanmean(expected, 1), rtol=1e-15)


def test_bands_are_discs():
    """Around a single pixel of another label, a band of width n has all pixels (y, x) with y^2 + x^2 <= n^2."""
    labels = np.zeros((91, 91), int)
    labels[45, 45] = 1
    curve = TrimapCurve(2, widths=range(1, 41))
    curve.update(labels, labels)
    places = np.arange(-45, 46)
    squares = places[:, None] ** 2 + places**2
    assert curve.num_pixels.tolist() == [int((squares <= width**2).sum()) for width in range(1, 41)]


def test_a_band_as_wide_as_the_image_is_the_confusion_matrix():
    labels, predictions = blobs(7)
    curve, matrix = TrimapCurve(CLASSES, widths=(2, 100)), ConfusionMatrix(CLASSES)
    curve.update(labels, predictions)
    matrix.update(labels, predictions)
    np.testing.assert_array_equal(curve.within(100).matrix, matrix.matrix)
    assert curve.within(2).num_pixels < matrix.num_pixels
    with pytest.raises(ValueError, match="no band of width 3; the widths are 2, 100"):
        curve.within(3)


def test_of_one_label_alone_no_pixel_is_in_a_band():
    curve = TrimapCurve(2)
    curve.update(np.zeros((5, 4), int), np.ones((5, 4), int))
    assert curve.num_pixels.tolist() == [0] * len(curve.widths)
    assert np.isnan(curve.mean_iou).all()
    assert json.loads(json.dumps(curve.to_dict()))["mean_iou"] == [None] * len(curve.widths)


def test_around_what_is_ignored_a_border_between_classes_is_none():
    labels = np.array([[0, 0, 0, 1, 1, 255]])
    of_labels, of_ignored = TrimapCurve(2, widths=(1,)), TrimapCurve(2, widths=(1,), around="ignored")
    for curve in (of_labels, of_ignored):
        curve.update(labels, np.zeros_like(labels))
    assert (of_labels.num_pixels[0], of_ignored.num_pixels[0]) == (3, 1)


def rim_of(mask, steps):
    """The mask without its erosion by a 3x3 square, done so many times, with nothing beyond the image."""
    inner = mask.astype(np.float64)
    for _ in range(steps):
        padded = np.pad(inner, 1)
        inner = np.min(
            [
                padded[1 + y : 1 + y + mask.shape[0], 1 + x : 1 + x + mask.shape[1]]
                for y in (-1, 0, 1)
                for x in (-1, 0, 1)
            ],
            axis=0,
        )
    return mask & (inner == 0)


@pytest.mark.parametrize("ratio", [0.02, 0.07, 0.3])
def test_boundary_iou_equals_the_authors_definition(ratio):
    score = BoundaryIoU(CLASSES, ratio)
    both, either = np.zeros(CLASSES), np.zeros(CLASSES)
    for seed in range(4):
        labels, predictions = blobs(seed, ignored=(0.02, 0.0, 0.1, 1.0)[seed])
        score.update(labels.astype(np.uint8), predictions)
        steps = max(1, round(ratio * np.sqrt(29**2 + 23**2)))
        for index in range(CLASSES):
            truth = rim_of(labels == index, steps)
            found = rim_of((predictions == index) & (labels != IGNORED), steps)
            both[index] += np.sum(truth & found)
            either[index] += np.sum(truth | found)
    expected = np.array([one / all_ if all_ else np.nan for one, all_ in zip(both, either, strict=True)])
    np.testing.assert_array_equal(score.iou, expected)
    assert np.isnan(score.iou[3])
    assert score.iou[5] == 0.0
    assert score.mean_iou == pytest.approx(np.nanmean(expected), rel=1e-15)


def test_boundary_iou_of_squares_by_hand():
    """A square of 10x10 beside itself moved by one: masks of 90 in 110 pixels, rims of 18 in 54."""
    truth, moved = np.zeros((50, 50), int), np.zeros((50, 50), int)
    truth[20:30, 20:30] = 1
    moved[20:30, 21:31] = 1
    score, matrix, wide = BoundaryIoU(2), ConfusionMatrix(2), BoundaryIoU(2, ratio=0.5)
    for each in (score, matrix, wide):
        each.update(truth, moved)
    assert score.iou[1] == pytest.approx(18 / 54)
    assert matrix.iou[1] == pytest.approx(90 / 110)
    np.testing.assert_array_equal(wide.iou, matrix.iou)  # the paper: with a d that reaches everything, mask IoU


def test_what_is_ignored_belongs_to_no_mask():
    """As they are, labels score 1, whatever is predicted below the ignored pixels."""
    labels, _ = blobs(3, shape=(60, 50))
    labels[20:30] = IGNORED
    score = BoundaryIoU(CLASSES)
    score.update(labels, np.where(labels == IGNORED, 5, labels))
    np.testing.assert_array_equal(score.iou, [1, 1, 1, np.nan, 1, np.nan])


@pytest.mark.parametrize("make", [lambda: TrimapCurve(CLASSES), lambda: BoundaryIoU(CLASSES)])
def test_parts_and_batches_add_up_to_the_whole(make):
    images = [blobs(seed) for seed in range(3)]
    whole, batch, parts = make(), make(), [make() for _ in images]
    for part, (labels, predictions) in zip(parts, images, strict=True):
        part.update(labels, predictions)
        whole.update(labels, predictions)
    batch.update(*map(np.stack, zip(*images, strict=True)))
    total = parts[0] + parts[1] + parts[2]
    for other in (total, batch):
        np.testing.assert_array_equal(other.iou, whole.iou)
        assert other.to_dict() == whole.to_dict()


@pytest.mark.parametrize("make", [TrimapCurve, BoundaryIoU])
def test_refuses_what_is_no_label_map_and_counts_nothing(make):
    score = make(3)
    for labels, predictions, message in (
        (np.zeros((2, 3), int), np.zeros((2, 2), int), "at the size of the label map"),
        (np.full((2, 2), 3), np.zeros((2, 2), int), "label 3 .* is not one of the classes 0..2, nor the ignored"),
        (np.zeros((2, 2), int), np.full((2, 2), 9), "prediction 9"),
        (np.zeros((2, 2), int), np.zeros((2, 2)), "pass class numbers, not logits"),
        (np.zeros(4, int), np.zeros(4, int), r"label maps \(H, W\) or \(B, H, W\), received shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            score.update(labels, predictions)
    assert np.isnan(score.mean_iou).all()
    with pytest.raises(ValueError, match=rf"can't add {make.__name__}s of different num_classes: 3 and 4"):
        score + make(4)


def test_refuses_widths_and_ratios_that_are_none():
    for widths in ((), (0, 1), (2, 2), (3, 1), (1.5,)):
        with pytest.raises(ValueError, match="whole numbers of pixels from 1 on that grow"):
            TrimapCurve(2, widths)
    with pytest.raises(ValueError, match="around must be one of labels, ignored; received 'void'"):
        TrimapCurve(2, around="void")
    with pytest.raises(ValueError, match="share of the diagonal between 0 and 1; received 2"):
        BoundaryIoU(2, 2)
    with pytest.raises(ValueError, match=r"different widths: \(1,\) and \(2,\)"):
        TrimapCurve(2, (1,)) + TrimapCurve(2, (2,))
