"""The dense CRF: the stored results of the original codes, its definition, its doors, and the search."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import keras_deeplab
from keras_deeplab.inference.crf import (
    PARAMETERS,
    DenseCRF,
    Parameters,
    Refined,
    dense_crf,
    exact,
    mean_field,
    parameters,
    search,
)
from keras_deeplab.inference.crf import lattice as lattice_module
from keras_deeplab.inference.crf.lattice import Lattice
from keras_deeplab.inference.predictor import Predictor
from keras_deeplab.inference.runtimes.base import LABELS, LOGITS, Runtime
from keras_deeplab.inference.strategies import SeveralScales, WholeImage
from keras_deeplab.metrics import ConfusionMatrix
from keras_deeplab.specs import ModelSpec


def scene(height=24, width=31, classes=4, seed=0):
    """An image of two colours side by side with a little noise, and probabilities that are right on most pixels."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((height, width), np.int64)
    truth[:, width // 2 :] = classes - 1
    image = np.where(truth[..., None] > 0, (200, 60, 90), (40, 120, 160)) + rng.integers(-4, 5, (height, width, 3))
    wrong = rng.random(truth.shape) < 0.2
    seen = np.where(wrong, rng.integers(0, classes, truth.shape), truth)
    logits = 1.5 * np.eye(classes)[seen] + 0.3 * rng.standard_normal((height, width, classes))
    return image.astype(np.uint8), softmax(logits).astype(np.float32), truth


def softmax(logits):
    found = np.exp(logits - logits.max(-1, keepdims=True))
    return found / found.sum(-1, keepdims=True)


# The original codes -----------------------------------------------------------------------------------------------

STORED = ["v1_vgg16_largefov_release__48x64", "v1_largefov_121__48x64", "v2_vgg16__48x64", "v2_resnet101__97x129"]
LARGE = ["v1_vgg16_largefov_release__97x129", "v1_largefov_121__241x321", "v2_resnet101__241x321"]
NAMES = {"v1_vgg16_largefov_release": "v1_largefov"}


def stored(shared, name):
    """What was computed elsewhere, and its inputs: the image and the energies (H, W, C)."""
    folder = str(shared / "reference")
    if folder not in sys.path:
        sys.path.append(folder)
    from crf_inputs import crf_case

    held = np.load(shared / "reference" / f"densecrf__{name}.npz")
    image, unary, _ = crf_case(*json.loads(str(held["meta"]))["size"])
    return held, image, np.ascontiguousarray(unary.transpose(1, 2, 0))


@pytest.mark.parametrize("name", [*STORED, *[pytest.param(name, marks=pytest.mark.slow) for name in LARGE]])
def test_equals_the_original_codes(shared, name):
    held, image, energies = stored(shared, name)
    own = name.split("__")[0]
    own = NAMES.get(own, own)
    at = tuple(held["pos"].T)
    for normalisation, theirs in (
        ("after", ("pydensecrf_after", "caffe_v1")),
        ("symmetric", ("pydensecrf_symmetric",)),
    ):
        crf = DenseCRF(image, f"{own}:{normalisation}")
        for their in theirs:
            for number, iterations in enumerate(held["iters"]):
                marginals = crf.marginals(energies, int(iterations))
                samples = held[f"{their}/q_samples"][number]
                np.testing.assert_allclose(marginals[at], samples, rtol=0, atol=2e-6)
            np.testing.assert_array_equal(marginals.argmax(-1), held[f"{their}/argmax"])
            # Those of pydensecrf were summed pixel by pixel in float32, which is 7e-5 off at 241x321.
            exact = their == "caffe_v1"
            means = marginals.mean((0, 1), dtype=np.float64 if exact else np.float32)
            np.testing.assert_allclose(means, held[f"{their}/class_mean"], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("normalisation", ["after", "symmetric"])
def test_the_definition_equals_stored_sums_over_all_pairs(shared, normalisation):
    held, image, energies = stored(shared, "v2_vgg16__48x64")
    marginals = DenseCRF(image, f"v2_vgg16:{normalisation}", exact=True).marginals(energies)
    theirs = f"exact_{normalisation}"
    np.testing.assert_allclose(marginals[tuple(held["pos"].T)], held[f"{theirs}/q_samples"][-1], rtol=0, atol=5e-6)
    np.testing.assert_array_equal(marginals.argmax(-1), held[f"{theirs}/argmax"])


# The lattice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_the_lattice_filters_nearly_as_its_definition(dimensions):
    rng = np.random.default_rng(dimensions)
    features = rng.uniform(0, 6, (1500, dimensions)).astype(np.float32)
    values = np.stack([np.ones(1500), features.sum(1) > features.sum(1).mean()], 1).astype(np.float32)
    squares = ((features[:, None] - features) ** 2).sum(-1)
    kernel = np.exp(-0.5 * squares)
    found = np.asarray(Lattice(features).weighted(1.0)(values))
    np.testing.assert_allclose(found[:, 0], 1.0, atol=1e-5)
    wanted = kernel @ values[:, 1] / kernel.sum(1)
    assert np.abs(found[:, 1] - wanted).mean() < 0.03
    assert np.corrcoef(found[:, 1], wanted)[0, 1] > 0.98


@pytest.mark.parametrize("points", [1, 2, 33_000])
def test_shares_of_a_point_are_of_corners_around_it(points):
    features = np.random.default_rng(0).uniform(-50, 50, (points, 5)).astype(np.float32)
    keys, shares, steps = lattice_module._simplices(features)
    assert keys.shape == shares.shape == (points, 6)
    assert all(len(set(row)) == 6 for row in keys[:100])
    assert shares.min() > -1e-5
    np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-5)
    assert len(steps) == 6
    assert sum(steps) == 0  # one step in each direction leads back


def test_equal_keys_have_equal_numbers():
    rng = np.random.default_rng(3)
    for keys in (rng.integers(0, 50, (300, 3)), rng.integers(-(2**62), 2**62, (5000, 6)), np.zeros((1, 1), np.int64)):
        found, index = lattice_module.numbered(keys)
        wanted, inverse = np.unique(keys, return_inverse=True)
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(index, inverse.reshape(keys.shape))


@pytest.mark.parametrize(("farthest", "message"), [(9e5, "than can be numbered"), (1e12, "can tell apart")])
def test_corners_beyond_numbers_are_refused(farthest, message):
    with pytest.raises(ValueError, match=message):
        Lattice(np.array([[0.0] * 5, [farthest] * 5], np.float32))


# dense_crf --------------------------------------------------------------------------------------------------------


def test_wrong_labels_are_put_right():
    image, probabilities, truth = scene()
    marginals = keras_deeplab.dense_crf(image, probabilities)
    assert marginals.shape == probabilities.shape
    assert marginals.dtype == np.float32
    np.testing.assert_allclose(marginals.sum(-1), 1.0, atol=1e-5)
    assert (probabilities.argmax(-1) == truth).mean() < 0.9
    assert (marginals.argmax(-1) == truth).mean() > 0.99


def test_a_batch_equals_its_images_and_float_equals_bytes():
    pairs = [scene(seed=seed)[:2] for seed in range(3)]
    images, probabilities = map(np.stack, zip(*pairs, strict=True))
    both = dense_crf(images.astype(np.float32), probabilities, "densecrf")
    for number, (image, own) in enumerate(pairs):
        np.testing.assert_array_equal(both[number], dense_crf(image, own, "densecrf"))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 1), (2, 3)])
@pytest.mark.parametrize("classes", [1, 2, 300])
def test_small_images_and_any_number_of_classes(height, width, classes):
    image, probabilities, _ = scene(height, width, classes)
    marginals = dense_crf(image, probabilities)
    assert np.isfinite(marginals).all()
    np.testing.assert_allclose(marginals.sum(-1), 1.0, atol=1e-5)


def test_classes_in_slices_give_the_same(monkeypatch):
    image, probabilities, _ = scene(classes=21)
    whole = dense_crf(image, probabilities)
    monkeypatch.setattr(mean_field, "_SLICE", 1)
    assert len(mean_field._slices(image[..., 0].size, 21)) == 3
    np.testing.assert_allclose(dense_crf(image, probabilities), whole, atol=1e-6)
    far = -300 * np.log(probabilities)  # beyond the range of exp
    np.testing.assert_allclose(DenseCRF(image).marginals(far).sum(-1), 1.0, atol=1e-5)


def test_a_grey_image_is_one_of_three_equal_channels():
    image, probabilities, _ = scene()
    grey = image[..., :1]
    np.testing.assert_array_equal(dense_crf(grey, probabilities), dense_crf(np.repeat(grey, 3, -1), probabilities))


def test_without_iterations_or_weights_probabilities_stay():
    image, probabilities, _ = scene()
    for found in (dense_crf(image, probabilities, iterations=0), dense_crf(image, probabilities, "0/1/1,0/1")):
        np.testing.assert_allclose(found, probabilities, atol=1e-5)


def test_filters_are_made_once(monkeypatch):
    made = []

    class Counted(Lattice):
        def __init__(self, features, normalisation="after"):
            made.append(features.shape[1])
            super().__init__(features, normalisation)

    monkeypatch.setattr(mean_field, "Lattice", Counted)
    image, probabilities, _ = scene()
    energies = -np.log(probabilities)
    crf = DenseCRF(image, "4/67/3,3/1")
    first = crf.marginals(energies)
    assert sorted(made) == [2, 5]
    other = DenseCRF(image, "9/67/3,1/1", like=crf)
    assert sorted(made) == [2, 5]
    assert np.abs(other.marginals(energies) - first).max() > 1e-3
    np.testing.assert_array_equal(other.marginals(energies), DenseCRF(image, "9/67/3,1/1").marginals(energies))
    made.clear()
    DenseCRF(image, "4/60/3,3/1", like=crf)
    assert made == [5]
    DenseCRF(image.copy(), "4/67/3,3/1", like=crf)  # another image of that size
    assert made == [5, 5]
    DenseCRF(image, "4/67/3,3/1:symmetric", like=crf)
    assert sorted(made[2:]) == [2, 5]
    DenseCRF(image[:-1], "4/67/3,3/1", like=crf)
    assert sorted(made[4:]) == [2, 5]


def test_energies_are_of_the_images_size():
    with pytest.raises(ValueError, match="of its size"):
        DenseCRF(scene()[0]).marginals(np.zeros((3, 4, 5), np.float32))


IMAGE, BELIEFS, _ = scene(4, 5, 3)


@pytest.mark.parametrize(
    ("image", "probabilities", "settings", "message"),
    [
        (IMAGE[..., 0], BELIEFS, {}, r"shape \(H, W, 3\)"),
        (IMAGE[:0], BELIEFS[:0], {}, r"shape \(H, W, 3\)"),
        (np.repeat(IMAGE, 2, -1), BELIEFS, {}, "received 6 channels"),
        (IMAGE, BELIEFS[:-1], {}, r"probabilities of shape \(4, 5, classes\), received \(3, 5, 3\)"),
        (IMAGE[None], BELIEFS, {}, r"probabilities of shape \(1, 4, 5, classes\)"),
        (IMAGE.astype(np.int32), BELIEFS, {}, "dtype int32"),
        (IMAGE / 255.0, BELIEFS, {}, "multiplied by 255"),
        (IMAGE * 2.0, BELIEFS, {}, r"in 0\.\.255, received"),
        (np.where(IMAGE > 100, np.nan, IMAGE), BELIEFS, {}, r"in 0\.\.255, received values from nan"),
        (IMAGE, BELIEFS * np.nan, {}, "received values from nan"),
        (IMAGE, BELIEFS.astype(np.float64) * 5 - 2, {}, "take the softmax"),
        (IMAGE, BELIEFS[..., :1], {}, "add up to 1"),
        (IMAGE, BELIEFS.argmax(-1)[..., None], {}, "dtype int64"),
        (IMAGE, BELIEFS, {"parameters": "v2_resnet11"}, "did you mean 'v2_resnet101'"),
        (IMAGE, BELIEFS, {"iterations": -1}, "at least 0"),
        (IMAGE, BELIEFS, {"iterations": 2.5}, "whole number"),
    ],
)
def test_what_it_does_not_take(image, probabilities, settings, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(image, probabilities, **settings)


# Parameters -------------------------------------------------------------------------------------------------------


def test_published_parameters():
    assert [PARAMETERS[name].text() for name in ("v1_largefov", "v1_largefov_121", "v2_vgg16", "v2_resnet101")] == [
        "4/49/5,3/3",
        "4/121/5,3/3",
        "4/65/3,2/2",
        "4/67/3,3/1",
    ]
    assert PARAMETERS["densecrf"].text() == "10/60/20,3/3"
    assert all(row.source and row.iterations == 10 and row.normalisation == "after" for row in PARAMETERS.values())


def test_parameters_from_text_and_files(tmp_path):
    from keras_deeplab.inference.crf.settings import written

    mine = parameters("5.5/1e2/3, 0/1:symmetric")
    assert (mine.w1, mine.sigma_alpha, mine.w2, mine.normalisation) == (5.5, 100.0, 0.0, "symmetric")
    assert parameters(mine.text()) == mine
    assert parameters("v2_vgg16:symmetric").normalisation == "symmetric"
    assert parameters(mine) is mine
    path = tmp_path / "best.json"
    path.write_bytes(written(mine.with_options(iterations=5), tuned={"mean_iou": 0.5}))
    assert parameters(str(path)).with_options(source="") == mine.with_options(iterations=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4/67/3", "not of the form"),
        ("4/67,3/1", "not of the form"),
        ("4/0/3,3/1", "sigma_alpha must be"),
        ("-4/67/3,3/1", "w1 must be"),
        ("v2_resnet101:before", "normalisation must be one of after, symmetric"),
        ("v3", "Known: .*v2_vgg16.* Give one of"),
        ("", "must be text"),
        (None, "must be text"),
    ],
)
def test_parameters_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        parameters(text)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("{", "no JSON"),
        ("[1]", 'no object "crf"'),
        ('{"crf": {"w1": 4}}', "must be given"),
        ('{"crf": 3}', "no object"),
    ],
)
def test_files_that_hold_no_parameters(tmp_path, held, message):
    path = tmp_path / "crf.json"
    path.write_text(held)
    with pytest.raises(ValueError, match=message):
        parameters(str(path))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        parameters(str(tmp_path / "other.json"))


# Behind a model ---------------------------------------------------------------------------------------------------


class Fixed(Runtime):
    """Returns the same logits for any image."""

    def __init__(self, logits, returns=LOGITS, channels=3, **spec):
        self.logits, self.returns, self.channels, self.calls = logits, returns, channels, 0
        self.spec = ModelSpec(logits.shape[-1], channels, **spec)

    def scores(self, images):
        self.calls += 1
        return np.broadcast_to(self.logits, (len(images), *self.logits.shape))


def test_refined_scores_are_the_marginals_of_the_models_probabilities():
    image, probabilities, truth = scene()
    runtime = Fixed(np.log(probabilities))
    strategy = Refined(WholeImage(runtime), "v1_largefov")
    predict = Predictor(runtime, strategy)
    assert predict.input_size is None
    found = predict.probabilities(image)
    np.testing.assert_allclose(found, dense_crf(image, probabilities, "v1_largefov"), atol=1e-6)
    assert (predict(image) == truth).mean() > 0.99
    assert (predict(np.stack([image, image])) == truth).mean() > 0.99
    np.testing.assert_array_equal(predict.answer(image).probabilities, found)
    few = Predictor(runtime, Refined(WholeImage(runtime), "v1_largefov", iterations=1))
    assert np.abs(few.probabilities(image) - found).max() > 1e-3


def test_refined_stands_behind_other_strategies():
    image, probabilities, _ = scene()
    runtime = Fixed(np.log(probabilities))
    strategy = Refined(SeveralScales(WholeImage(runtime), runtime, flip=True))
    found = Predictor(runtime, strategy).probabilities(image)
    mirrored = (probabilities + probabilities[:, ::-1]) / 2
    np.testing.assert_allclose(found, dense_crf(image, mirrored), atol=1e-5)


def test_a_dark_image_is_no_image_in_0_to_1():
    image, probabilities, _ = scene()
    runtime = Fixed(np.log(probabilities))
    Predictor(runtime, Refined(WholeImage(runtime)))(np.minimum(image, 1))


def test_of_a_binary_model_both_labels_take_part():
    image, probabilities, _ = scene(classes=2)
    logit = np.log(probabilities[..., 1:] / probabilities[..., :1])
    runtime = Fixed(logit)
    assert runtime.spec.binary
    strategy = Refined(WholeImage(runtime))
    scores, returns = strategy(runtime, image[None].astype(np.float32))
    assert scores.shape == (1, *image.shape[:2], 1)
    assert returns == "probabilities"
    np.testing.assert_allclose(scores[0, ..., 0], dense_crf(image, probabilities)[..., 1], atol=1e-5)
    assert Predictor(runtime, strategy).probabilities(image).shape == (*image.shape[:2], 2)


def test_models_that_have_no_crf():
    image, probabilities, _ = scene()
    labels = Fixed(probabilities, returns=LABELS)
    with pytest.raises(ValueError, match="returns labels alone"):
        Refined(WholeImage(labels))(labels, image[None])
    several = Fixed(probabilities, activation="sigmoid")
    with pytest.raises(ValueError, match="decides each class by itself"):
        Predictor(several, Refined(WholeImage(several)))(image)
    channels = Fixed(probabilities, channels=4)
    with pytest.raises(ValueError, match="received 4 channels"):
        Predictor(channels, Refined(WholeImage(channels)))(np.repeat(image[..., :1], 4, -1))
    with pytest.raises(ValueError, match="did you mean"):
        Refined(WholeImage(labels), "v2_vgg15")


# The search -------------------------------------------------------------------------------------------------------


def test_the_grid_is_searched_coarse_to_fine():
    axes = [range(6), range(6), range(8)]
    peak = (4, 1, 6)
    calls = []

    def score(points):
        calls.append(len(points))
        return {point: -sum((a - b) ** 2 for a, b in zip(point, peak, strict=True)) for point in points}

    tried = search.coarse_to_fine(axes, score)
    assert max(tried, key=tried.get) == peak
    assert calls[0] == 27
    assert sum(calls) == len(tried) < 6 * 6 * 8 / 2
    assert all(
        tuple(peak[i] + (d if i == axis else 0) for i in range(3)) in tried for axis in range(3) for d in (-1, 1)
    )
    assert set(search.coarse_to_fine([[1.0], [2.0], [3.0]], score)) == {(0, 0, 0)}


def test_candidates_are_scored_as_one_by_one(tmp_path):
    pairs = [scene(seed=seed) for seed in range(2)]
    samples = [{"image": image, "label": truth, "name": "x"} for image, _, truth in pairs]
    beliefs = iter([own for _, own, _ in pairs])
    progress = SimpleNamespace(update=(seen := []).append)
    stored = search.gathered(samples, lambda image: next(beliefs), tmp_path, progress)
    assert seen == [1, 2]
    candidates = [None, *map(parameters, ("4/20/5,3/3", "1/5/5,3/3", "0/1/1,3/1"))]
    found = search.scored(stored, candidates, lambda: ConfusionMatrix(4))
    for candidate, matrix in zip(candidates, found, strict=True):
        wanted = ConfusionMatrix(4)
        for image, own, truth in pairs:
            scores = own if candidate is None else dense_crf(image, own, candidate)
            wanted.update(truth, scores.argmax(-1))
        np.testing.assert_array_equal(matrix.matrix, wanted.matrix)
    assert len({matrix.matrix.tobytes() for matrix in found}) == len(found)


def test_tune_crf_writes_what_crf_reads(tmp_path, monkeypatch, capsys):
    from keras_deeplab.cli import main, shared

    calls = []

    def probabilities(image):
        calls.append(image.shape)
        rng = np.random.default_rng(len(calls))
        return softmax(rng.standard_normal((*image.shape[:2], spec.num_classes)).astype(np.float32))

    class Network:
        pass

    spec = ModelSpec(6)
    predict = Network()
    predict.spec, predict.probabilities = spec, probabilities
    monkeypatch.setattr(shared.AnyModel, "predictor", lambda self: predict)
    path = tmp_path / "crf.json"
    words = ["tune-crf", "model.keras", "synthetic", "--limit", "2", "--output", str(path)]
    words += ["--w1", "1,4", "--sigma-alpha", "9", "--sigma-beta", "20"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert len(calls) == 2
    assert "w1" in printed
    assert "mean IoU" in printed
    best, held = parameters(str(path)), json.loads(path.read_text())
    assert (best.sigma_alpha, best.w2) == (9.0, 3.0)
    assert isinstance(best, Parameters)
    rows = held["tuned"]["tried"]
    assert rows[0]["crf"] == best.text()
    assert len(rows) == 2
    assert rows[0]["mean_iou"] >= rows[1]["mean_iou"]
    assert main([*words, "--crf", "v2_vgg16"]) == 1
    assert "--crf is what is searched here" in capsys.readouterr().err
    assert main(["tune-crf", "model.keras", "synthetic", "--output", str(tmp_path / "no" / "crf.json")]) == 1
    assert "no folder" in capsys.readouterr().err


# The definition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalisation", ["after", "symmetric"])
def test_the_exact_filter_is_the_sum_over_all_pairs(normalisation):
    random = np.random.default_rng(0)
    features, values = (random.normal(size=(20, columns)).astype("float32") for columns in (3, 4))
    kernel = np.array([[np.exp(-0.5 * ((one - other) ** 2).sum()) for other in features] for one in features])
    total = kernel.sum(1)
    if normalisation == "symmetric":
        kernel = kernel / np.sqrt(total)[:, None] / np.sqrt(total)
    else:
        kernel = kernel / total[:, None]
    found = np.asarray(
        exact.ExactFilter(features.astype("float32"), normalisation).weighted(2.5)(values.astype("float32"))
    )
    np.testing.assert_allclose(found, 2.5 * kernel @ values, atol=1e-5)
    assert found.dtype == np.float32


def test_exact_sums_are_for_few_points(monkeypatch):
    monkeypatch.setattr(exact, "MOST", 3)
    exact.ExactFilter(np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="images of up to 3 pixels, received 4"):
        exact.ExactFilter(np.zeros((4, 2), np.float32))
    with pytest.raises(AttributeError, match="has no attribute 'densest'"):
        _ = keras_deeplab.inference.crf.densest


def test_a_black_image_of_floats_is_taken():
    _, probabilities, _ = scene(4, 5)
    black = np.zeros((4, 5, 3))
    np.testing.assert_array_equal(dense_crf(black, probabilities), dense_crf(black.astype(np.uint8), probabilities))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_each_corner_has_a_number_of_its_own_however_far_the_points_lie(dimensions):
    places = np.linspace(-40, 90, {2: 40, 3: 12}[dimensions])
    features = np.stack(np.meshgrid(*[places] * dimensions), -1).reshape(-1, dimensions).astype("float32")
    keys, _, steps = lattice_module._simplices(features)
    nearest, rank, _ = lattice_module._chunk(features)
    corners = []
    for corner in range(dimensions + 1):
        up = rank <= dimensions - corner
        corners.append(nearest + np.where(up, corner, corner - dimensions - 1))
    places = np.stack(corners, 1).reshape(dimensions + 1, -1).T  # (corners of all points, coordinates)
    flat = keys.T.reshape(-1)
    assert not places.sum(1).any()
    pairs = np.unique(np.column_stack([places, flat]), axis=0)
    assert len(pairs) == len(np.unique(places, axis=0)) == len(np.unique(flat))
    assert len(steps) == dimensions + 1


def test_the_search_begins_with_corners_and_middles():
    first = []

    def score(points):
        first.append(points)
        return {point: -sum(point) for point in points}

    search.coarse_to_fine([range(7), range(1), range(10)], score)
    assert first[0] == [(a, 0, b) for a in (0, 3, 6) for b in (0, 4, 9)]


def test_the_search_halves_its_strides_from_a_quarter_of_an_axis_on():
    tried = []

    def score(points):
        tried.extend(point for (point,) in points)
        return {point: -abs(point[0] - 6) for point in points}

    search.coarse_to_fine([range(16)], score)
    assert tried == [0, 7, 15, 3, 11, 5, 9, 4, 6]


def test_what_a_crf_did_is_told_by_its_name_or_by_its_numbers():
    labels = WholeImage(Fixed(scene()[1]))
    known = Refined(labels, "v2_vgg16").told()[-1]
    assert known.startswith("dense CRF v2_vgg16 (4/65/3,2/2), ")
    assert Refined(labels, "4/20/5,3/4").told()[-1].startswith("dense CRF 4/20/5,3/4, ")


def test_steps_of_the_search_are_counted_from_one(monkeypatch):
    seen = []
    monkeypatch.setattr(search, "Progress", lambda total, name: SimpleNamespace(update=seen.append))
    _, step = search.progressed(9)
    step()
    step()
    assert seen == [1, 2]
