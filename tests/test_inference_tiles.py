"""Tiles: the whole image's labels where the halo covers what the model sees, without seams where it doesn't."""

import itertools

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.inference.predictor import Predictor, predictor
from keras_deeplab.inference.rasters.base import Pixels
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.inference.runtimes.base import LABELS, PROBABILITIES
from keras_deeplab.inference.strategies import Tiles
from keras_deeplab.inference.tiles.bilinear import taps
from keras_deeplab.inference.tiles.plan import spans
from keras_deeplab.inference.tiles.raster import tiling_of
from keras_deeplab.inference.tiles.seams import Positions, Seams
from keras_deeplab.inference.tiles.settings import TileOptions
from keras_deeplab.inference.tiles.upsampling import Upsampling
from keras_deeplab.layers import ResizeBilinear
from keras_deeplab.specs import ModelSpec
from keras_deeplab.specs.model import with_spec


class Blur(Runtime):
    """Scores that are sums over a window of 2 * radius + 1 pixels, with zeros around the image: known to the pixel."""

    name = "the blur"

    def __init__(self, radius=9, count=3, returns="logits", sizes=()):
        self.radius, self.returns, self.sizes = radius, returns, sizes
        self.spec = ModelSpec(count, output_stride=8)
        self.weights = np.random.default_rng(1).normal(size=(3, count)).astype(np.float32)
        self.seen = []

    def scores(self, images):
        self.seen.append(images.shape[1:3])
        padded = np.pad(images - 127.5, [(0, 0), (self.radius,) * 2, (self.radius,) * 2, (0, 0)])
        sums = padded.cumsum(1, dtype=np.float64).cumsum(2)
        sums = np.pad(sums, [(0, 0), (1, 0), (1, 0), (0, 0)])
        side, (height, width) = 2 * self.radius + 1, images.shape[1:3]
        last = (slice(side, side + height), slice(side, side + width))
        total = (
            sums[:, last[0], last[1]] - sums[:, :height, last[1]] - sums[:, last[0], :width] + sums[:, :height, :width]
        )
        found = (total @ self.weights / side**2).astype(np.float32)
        if self.returns == LABELS:
            return found.argmax(-1)
        return found if self.returns != PROBABILITIES else np.exp(found) / np.exp(found).sum(-1, keepdims=True)


def image(height=150, width=131, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def by_tiles(predict, pixels, **options):
    tiling = tiling_of(predict, *pixels.shape[:2], TileOptions.of(**options))
    return tiling, tiling.all(lambda top, bottom: Pixels(pixels[top:bottom], None))


# Where tiles lie ---------------------------------------------------------------------------------------------------


def test_spans_cover_an_axis_on_the_grid_with_the_image_s_own_ends():
    rng, found = np.random.default_rng(0), 0
    for _ in range(600):
        unit = int(rng.choice([1, 4, 16, 32]))
        halo = unit * int(rng.integers(0, 9))
        fade = 2 * unit * int(rng.integers(0, halo // unit + 1))
        size, most, fixed = int(rng.integers(1, 4000)), int(rng.integers(1, 1200)), rng.random() < 0.3
        try:
            placed = spans(size, most, halo, unit, fade, fixed)
        except ValueError:
            continue
        found += 1
        assert len({span.stop - span.start for span in placed}) == 1
        assert placed[0].low == 0
        assert placed[-1].high == placed[-1].stop >= size
        assert fixed or placed[-1].stop == size
        for span in placed:
            assert span.start % unit == span.low % unit == 0
            assert (span.stop - span.start - placed[-1].stop) % unit == 0
            assert span.high - span.low >= span.fade_in + span.fade_out
        for one, other in itertools.pairwise(placed):
            assert one.high - fade == other.low
            assert one.high - fade // 2 <= one.stop - halo
            assert other.low + fade // 2 >= other.start + halo
    assert found > 300
    with pytest.raises(ValueError, match="no scores left that count"):
        spans(500, 64, 32, 16)


@pytest.mark.parametrize("fade", [0, 32])
def test_neighbours_weights_add_up_to_one(fade):
    rows, columns = spans(300, 128, 32, 16, fade), spans(210, 130, 32, 16, fade)
    seams, total = Seams(-(-210 // 4)), np.full((75, 53, 2), np.nan)
    for row in rows:
        down = Positions.of(row, 4, 75)
        for column in columns:
            across = Positions.of(column, 4, 53)
            # Scores that are a function of the place are the same on every tile, so mixing must give them back.
            places = np.mgrid[row.start : row.stop : 4, column.start : column.stop : 4]
            part = seams.add(np.moveaxis(places, 0, -1).astype(np.float32), down, across)
            total[down.low : down.low + len(part), across.low : across.low + part.shape[1]] = part
        seams.end_row()
    np.testing.assert_allclose(total[..., 0], np.repeat(4.0 * np.arange(75)[:, None], 53, 1), atol=1e-3)
    np.testing.assert_allclose(total[..., 1], np.repeat(4.0 * np.arange(53)[None], 75, 0), atol=1e-3)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(65, 50), (64, 47), (1, 33)])
def test_labels_of_coarse_scores_are_those_of_tensorflows_resize(align_corners, size):
    grid = tuple(-(-side // 16) for side in size)
    scores = np.random.default_rng(2).normal(size=(*grid, 5)).astype(np.float32)
    like = np.zeros((1, *size, 1), np.float32)
    dense = keras.ops.convert_to_numpy(ResizeBilinear(align_corners)([scores[None], like]))[0]
    ours = Upsampling(grid, size, align_corners, None).labels(scores, 0, 0, size[0])
    np.testing.assert_array_equal(ours, dense)
    labels = Upsampling(grid, size, align_corners, lambda each: each.argmax(-1)).labels(scores, 0, 0, size[0])
    np.testing.assert_array_equal(labels, dense.argmax(-1))


def test_a_piece_of_an_axis_has_the_taps_of_the_whole():
    whole, piece = taps(40, 625, True, 0, 625), taps(40, 625, True, 160, 200, 10, 14)
    inside = slice(0, 190)
    np.testing.assert_array_equal(whole.before[160:350], piece.before[inside] + 10)
    np.testing.assert_array_equal(whole.behind[160:350], piece.behind[inside] + 10)
    np.testing.assert_array_equal(whole.share[160:350], piece.share[inside])


# Any runtime -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", ["logits", PROBABILITIES, LABELS])
def test_a_halo_beyond_the_receptive_field_gives_the_whole_image_s_labels(returns):
    pixels, predict = image(), Predictor(Blur(9, returns=returns))
    whole = predict(pixels)
    assert len(np.unique(whole)) == 3
    # Scores are mixed over the half of the halo that is next to where tiles meet; the other half must cover.
    tiling, labels = by_tiles(predict, pixels, tile=112, halo=32)
    assert len(tiling.rows) * len(tiling.columns) >= 4
    assert not tiling.exact  # nothing tells how far a runtime sees
    np.testing.assert_array_equal(labels, whole)
    _, labels = by_tiles(predict, pixels, tile=96, halo=0)
    assert 0 < np.mean(labels != whole) < 0.2


def test_a_file_of_one_size_takes_tiles_of_it():
    pixels, runtime = image(140, 90), Blur(5, sizes=((64, 64),))
    with pytest.raises(ValueError, match="larger than the input size 64x64"):
        Predictor(runtime)(pixels)
    tiling, labels = by_tiles(Predictor(runtime), pixels, halo=16)
    assert set(runtime.seen) == {(64, 64)}
    assert tiling.tile == (64, 64)
    assert labels.shape == (140, 90)
    inside = (slice(0, 130), slice(0, 80))  # what lies behind the image is 127.5, where a whole image has its end
    np.testing.assert_array_equal(labels[inside], Predictor(Blur(5))(pixels)[inside])


def test_a_strategy_that_needs_the_whole_image_is_refused():
    predict = predictor(Blur(), shorter_side=64)
    with pytest.raises(ValueError, match="shorter side"):
        tiling_of(predict, 200, 200)


def test_other_strategies_see_tiles_as_images():
    pixels, predict = image(), predictor(Blur(7), flip=True)
    tiling, labels = by_tiles(predict, pixels, tile=112, halo=32)
    assert "SeveralScales" in tiling.reason
    assert np.mean(labels != predict(pixels)) < 1e-4


# Keras models in their place ---------------------------------------------------------------------------------------


def classifier():
    inputs = x = keras.Input((None, None, 3))
    for filters in (4, 6, 8, 8):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    return keras.Model(inputs, x, name="small")


def balanced(model, pixels):
    """No class wins everywhere."""
    bias = model.get_layer("logits").bias
    bias.assign_sub(np.mean(model(pixels[None].astype(np.float32)), (0, 1, 2)))
    return model


def small_v3():
    model = keras_deeplab.DeepLabV3(classifier(), num_classes=7, filters=8, atrous_rates=(1, 2))
    return balanced(randomise(model), image(200, 200))


MODELS = {
    "v3": ("DeepLabV3", {"image_pooling": False}),
    "v3 with image pooling": ("DeepLabV3", {}),
    "v3+": ("DeepLabV3Plus", {}),
    "v3+ of half-pixel centres": ("DeepLabV3Plus", {"flavour": "torchvision"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_tiles_of_a_network_are_parts_of_the_image_at_every_size(name):
    """Odd and even sizes, which pad strided layers in other ways and drift under aligned corners."""
    builder, settings = MODELS[name]
    settings = {"num_classes": 7, "filters": 8, "atrous_rates": (1, 2), **settings}
    model = balanced(randomise(getattr(keras_deeplab, builder)(classifier(), **settings)), image(200, 200))
    predict = predictor(model)
    for height, width in ((401, 337), (390, 323)):
        pixels = image(height, width)
        whole = predict(pixels)
        assert len(np.unique(whole)) > 3
        tiling, labels = by_tiles(predict, pixels, tile=288, halo=96)
        assert tiling.exact
        assert tiling.passes == 1 + bool(settings.get("image_pooling", True))
        assert len(tiling.rows) * len(tiling.columns) >= 4
        np.testing.assert_array_equal(labels, whole)
    # The same test sees what a halo that is too small does.
    tiling, labels = by_tiles(predict, pixels, tile=160, halo=0)
    assert "the model sees up to" in tiling.reason
    assert np.mean(labels != whole) > 1e-3


def test_means_of_each_tile_are_other_ones_and_told_so():
    model = small_v3()
    pixels, predict = image(400, 300), predictor(model)
    pixels[:150] //= 4
    tiling, labels = by_tiles(predict, pixels, tile=272, halo=64, image_means="tile")
    assert tiling.passes == 1
    assert "each tile's own" in tiling.reason
    assert np.mean(labels != predict(pixels)) > 1e-3


def test_a_network_with_means_one_after_the_other_is_not_called_exact():
    inputs = keras.Input((None, None, 3))
    x = inputs
    for _ in range(2):
        x = keras.layers.Conv2D(4, 3, 2, padding="same")(x)
        x = keras.layers.Multiply()([x, keras.layers.GlobalAveragePooling2D(keepdims=True)(x)])
    model = with_spec(keras.Model(inputs, keras.layers.Conv2D(3, 1)(x)))
    tiling, labels = by_tiles(predictor(model), image(150, 150), tile=96, halo=16)
    assert "squeeze and excitation" in tiling.reason
    assert labels.shape == (150, 150)


@pytest.mark.parametrize(("count", "activation"), [(1, "sigmoid"), (3, "sigmoid"), (3, "softmax"), (300, None)])
def test_binary_and_multi_label_models(count, activation):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 5, 4, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(count, 1)(x)
    x = ResizeBilinear(True)([x, inputs])
    x = x if activation is None else keras.layers.Activation(activation)(x)
    predict = predictor(with_spec(keras.Model(inputs, x)), threshold=0.5 if activation != "sigmoid" else 0.52)
    pixels = image(130, 111)
    whole = predict(pixels)
    assert len(np.unique(whole)) > 1
    tiling, labels = by_tiles(predict, pixels, tile=64, halo=16)
    assert tiling.exact
    assert labels.dtype == whole.dtype
    np.testing.assert_array_equal(labels, whole)


# As a strategy -----------------------------------------------------------------------------------------------------


def test_the_strategy_s_labels_and_probabilities_are_the_image_s_and_no_scores_of_all_pixels_are_made():
    model = small_v3()
    pixels, whole = image(331, 290), predictor(model)
    assert predictor(model, strategy="tiles").protocol == "tiles of 2048x2048 at most, output stride 16"
    options = TileOptions.of(tile=240, halo=80)
    tiled = predictor(model, strategy=lambda runtime, size: Tiles(runtime, size, options))
    np.testing.assert_array_equal(tiled(pixels), whole(pixels))
    np.testing.assert_allclose(tiled.probabilities(pixels), whole.probabilities(pixels), atol=1e-5)
    both = np.stack([pixels, pixels[::-1]])
    np.testing.assert_array_equal(tiled(both), whole(both))
    given = []
    tiled.strategy.labels = lambda runtime, images, threshold: given.append(images) or np.zeros(images.shape[:3])
    tiled(pixels)
    assert given[0].dtype == np.uint8  # not the image in float32 either


def test_a_large_image_is_put_to_a_keras_model_by_tiles_where_its_labels_are_the_same(monkeypatch):
    model = small_v3()
    pixels, predict = image(470, 450), predictor(model)
    whole = predict(pixels)
    monkeypatch.setattr("keras_deeplab._helpers.limits.ONE_PIECE_PIXELS", 470 * 450 - 1)
    monkeypatch.setattr("keras_deeplab.inference.tiles.tiling.TILE", 400)
    sizes, scores = [], Tiles.tiling
    monkeypatch.setattr(Tiles, "tiling", lambda *given: sizes.append(scores(*given)) or sizes[-1])
    large = predictor(model)
    changed = large(pixels) != whole
    best = np.sort(large.probabilities(pixels)[changed], -1)
    assert np.mean(changed) < 1e-4
    assert np.all(best[:, -1] - best[:, -2] < 1e-5)  # but for rounding
    assert sizes[-1].exact
    assert len(sizes[-1].rows) * len(sizes[-1].columns) == 4
    seen = len(sizes)
    # In one piece: what tiles are compared with, smaller images, padded ones, scores, and what tiles would change.
    np.testing.assert_array_equal(large.in_one_piece(pixels), whole)
    np.testing.assert_array_equal(predictor(model, strategy="tiles").in_one_piece(pixels), whole)
    large(pixels[:, 1:])
    large.probabilities(pixels[:, 1:])
    predictor(model, input_size=480)(pixels)
    assert len(sizes) == seen
    monkeypatch.setattr("keras_deeplab.inference.tiles.tiling.TILE", 160)
    np.testing.assert_array_equal(large(pixels), whole)
    assert not sizes[-1].exact


def test_the_strategy_refuses_files_of_labels():
    with pytest.raises(ValueError, match="tiles can't be chosen"):
        predictor(Blur(returns=LABELS), strategy="tiles")
