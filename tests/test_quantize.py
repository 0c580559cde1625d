"""Each step of quantisation leaves the network what it was, or brings it nearer; the file takes all of it over."""

import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import photograph, small_model
from randomise import randomise

import keras_deeplab
from keras_deeplab import layers
from keras_deeplab.export import flatbuffer
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.export.tflite.conversion import converted as tflite_content
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.quantize import UnfoldableError, argmax, balance, fine_tune, fit_ranges, quantize, ranges
from keras_deeplab.quantize.copies import copy_channels
from keras_deeplab.quantize.equalise import equalise
from keras_deeplab.quantize.fake import convolutions, kernel_steps, quantised
from keras_deeplab.quantize.folding import fold
from keras_deeplab.quantize.pixels import absorb_normalisation, inside
from keras_deeplab.quantize.plan import plan
from keras_deeplab.quantize.rounding import round_kernels
from keras_deeplab.quantize.sensitivity import channel_errors, shares
from keras_deeplab.quantize.statistics import observe
from keras_deeplab.specs.model import spec_of

SIZE = (33, 49)


def images(count=4, seed=0):
    return [photograph(*SIZE, seed + index)[None].astype(np.float32) for index in range(count)]


def difference(one, other, seeds=(50, 51)):
    """The largest difference of two models' outputs relative to their spread."""
    found = [[np.asarray(model(image)) for image in images(len(seeds), seeds[0])] for model in (one, other)]
    return np.abs(np.subtract(*found)).max() / np.ptp(found[0])


def clone(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


@pytest.fixture(scope="module")
def model():
    return small_model()


# Folding ----------------------------------------------------------------------------------------------------


def separable():
    """Batch norm behind separable convolutions, before any, and twice; activations inside layers; a dropout."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization()(inputs)
    x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(scale=False)(x)
    x = keras.layers.BatchNormalization(center=False)(x)
    x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(x))
    x = layers.DilatedSeparableConv2D(8, 3, padding="same", dilation_rate=2, activation="relu6")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(8, 3, groups=2, padding="same", activation="hard_sigmoid")(x)
    x = keras.layers.BatchNormalization()(x)
    return randomise(keras.Model(inputs, keras.layers.Conv2D(3, 1)(x)))


FOLDED = {
    "small": small_model,
    "separable": separable,
    "mobilenet_v2_vainf": lambda: randomise(keras_deeplab.DeepLabV3Plus("mobilenet_v2_vainf", flavour="vainf")),
    "mobilenet_v3": lambda: randomise(keras_deeplab.DeepLabV3("mobilenet_v3_small_seg")),
}


@pytest.mark.parametrize(
    "name", [name if name in ("small", "separable") else pytest.param(name, marks=pytest.mark.slow) for name in FOLDED]
)
def test_a_folded_model_computes_the_same_without_batch_norm(name):
    model = FOLDED[name]()
    folded = fold(model)
    kinds = (keras.layers.BatchNormalization, keras.layers.SeparableConv2D, keras.layers.Rescaling)
    assert not [layer for layer in folded.layers if isinstance(layer, kinds)]
    assert difference(model, folded) < 2e-5


def nested():
    """A model whose backbone is a model that holds one, and is used twice, as is a convolution; and a Sequential."""
    source = keras.Input((None, None, 3))
    deepest = keras.Sequential([source, keras.layers.Conv2D(3, 1), keras.layers.BatchNormalization()], name="deepest")
    source = keras.Input((None, None, 3))
    inner = keras.Model(source, keras.layers.ReLU()(deepest(source)), name="inner")
    inputs = keras.Input((None, None, 3))
    twice = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    x = keras.layers.Add()([inner(twice(inner(inputs))), twice(inputs)])
    return randomise(keras.Model(inputs, x))


def test_models_inside_and_layers_used_twice_are_folded_as_layers_of_their_own():
    model = nested()
    folded = fold(model)
    assert not [layer for layer in folded.layers if isinstance(layer, (keras.Model, keras.layers.BatchNormalization))]
    assert sorted(layer.name for layer in folded.layers if layer.name.startswith("twice")) == ["twice", "twice_2"]
    assert difference(model, folded) < 2e-5
    sequence = keras.Sequential([keras.Input((None, None, 3)), model, keras.layers.Conv2D(4, 1)])
    assert difference(sequence, fold(sequence)) < 2e-5


class Own(keras.Model):
    def call(self, inputs):
        return 2 * inputs


def test_models_of_a_class_of_their_own_cannot_be_folded():
    inputs = keras.Input((None, None, 3))
    with pytest.raises(UnfoldableError, match=r"'inside' of 'whole' is a model of a class of its own, Own: build"):
        fold(keras.Model(inputs, Own(name="inside")(inputs), name="whole"))


# Plan -------------------------------------------------------------------------------------------------------


def test_tensors_that_one_operator_hands_on_share_a_range_and_fused_ones_have_none():
    inputs = keras.Input((None, None, 3), name="images")
    a = keras.layers.ReLU(name="a")(keras.layers.Conv2D(4, 1, name="conv_a")(inputs))
    b = keras.layers.Conv2D(5, 1, name="conv_b")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean")(b)
    resized = layers.ResizeBilinear(name="resize")([pooled, a])
    x = keras.layers.Concatenate(name="concat")([resized, a])
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="logits")(x))
    layout = plan(model)
    assert set(layout.sites) == {"images", "a", "conv_b", "mean", "resize", "concat", "logits"}
    assert len({layout.ranges[name] for name in ("mean", "resize", "a", "concat")}) == 1
    assert len(set(layout.ranges.values())) == 4
    groups = {tuple(layer.name for layer, _ in group.producers): group for group in layout.channels if group.producers}
    assert [(layer.name, first) for layer, first in groups[("conv_a",)].consumers] == [("logits", 5)]
    assert [(layer.name, first) for layer, first in groups[("conv_b",)].consumers] == [("logits", 0)]
    assert groups[("logits",)].fixed
    assert not groups[("conv_a",)].fixed


def test_terms_of_a_sum_are_scaled_together_and_relu6_limits_it(model):
    layout = plan(fold(model))
    sums = [group for group in layout.channels if len(group.producers) == 2]
    assert len(sums) == 1
    assert any(group.clipped for group in layout.channels)


def clipped(kind):
    """A clip behind a convolution, behind what is stored, and one whose ends no range has."""
    if kind == "convolution":
        return small_model(extra=lambda x: layers.Clip(-0.75, 0.5, name="clip")(keras.layers.Conv2D(16, 1)(x)))
    return small_model(extra=layers.Clip(-0.75, 0.5, name="clip") if kind == "stored" else layers.Clip(0.25, 0.75))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["convolution", "stored", "ends"])
def test_clips_cut_in_the_model_and_in_the_file(kind, tmp_path):
    model = clipped(kind)
    fixed = keras.models.clone_model(model, input_tensors=keras.Input((*SIZE, 3)))
    fixed.set_weights(model.get_weights())
    ours = quantize(fixed, images(8))
    assert any(isinstance(layer, layers.Clip) for layer in ours.layers) == (kind != "convolution")
    if kind == "convolution":
        assert -0.76 < ours.get_layer("clip_range").low < ours.get_layer("clip_range").high < 0.51
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        written = export_tflite(
            model, tmp_path / "m.tflite", precision="int8", input_size=SIZE, calibration=[x[0] for x in images(8)]
        )
    assert not written.float_operators
    computed = predictor(written.path)
    found = [[labels(fixed, x), labels(ours, x), computed(x[0].astype(np.uint8))] for x in images(4, 60)]
    wanted, modelled, filed = np.moveaxis(found, 1, 0)
    assert np.mean(modelled == wanted) > 0.95
    assert np.mean(filed == wanted) > 0.95


# Equalisation -----------------------------------------------------------------------------------------------


def uneven():
    """A network whose second tensor has one channel of a hundred times the others' range."""
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    x = keras.layers.ReLU()(keras.layers.Conv2D(8, 3, padding="same", name="first")(x))
    x = keras.layers.Conv2D(8, 1, name="second")(x)
    shortcut = x
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="third")(x)
    x = keras.layers.Add()([x, shortcut])
    model = randomise(keras.Model(inputs, keras.layers.Conv2D(3, 1, name="last")(x)))
    kernel, bias = model.get_layer("second").get_weights()
    kernel[..., 3] *= 100
    model.get_layer("second").set_weights([kernel, bias])
    kernel, bias = model.get_layer("last").get_weights()
    kernel[:, :, 3] /= 100
    model.get_layer("last").set_weights([kernel, bias])
    return model


def test_equalising_changes_ranges_and_no_output():
    model = uneven()
    folded = fold(model)
    layout = plan(folded)
    before = observe(folded, layout.sites, images())
    assert equalise(folded, layout, before)
    after = observe(folded, layout.sites, images())
    assert difference(model, folded) < 1e-5

    def unevenness(found):
        reach = np.maximum(found["second"].high, -found["second"].low)
        return reach.max() / np.median(reach)

    assert unevenness(after) < unevenness(before) / 5


def test_equalising_leaves_what_relu6_cuts(model):
    folded = fold(model)
    layout = plan(folded)
    equalise(folded, layout, observe(folded, layout.sites, images(8)))
    assert difference(model, folded, seeds=range(4)) < 1e-4  # images that were looked at


# Ranges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-1, 1), (-0.3, 7.7), (0.5, 3), (-3, -1), (0, 0)])
def test_a_nudged_range_has_zero_on_a_step(low, high):
    low, high = ranges.nudged(low, high)
    assert low <= 0 <= high
    assert low < high
    assert ranges.rounded(np.zeros(1), low, high) == 0
    steps = -low / ((high - low) / 255)
    assert abs(steps - round(steps)) < 1e-6


def test_a_searched_range_rounds_better_than_the_whole():
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, keras.layers.Rescaling(1 / 100)(inputs))
    picture = images(1)[0].copy()
    picture[0, 0, 0, 0] = 255_000  # one outlier
    found = [observe(model, [model.layers[-1].name], [picture])[model.layers[-1].name]]

    def error(method):
        return np.mean((ranges.rounded(found[0].values, *ranges.search(found, method)) - found[0].values) ** 2)

    inliers = [np.sort(found[0].values)[:-1]]
    assert ranges.search(found, "minmax")[1] > 2500
    assert ranges.search(found, "percentile")[1] < 2500
    assert error("mse") <= error("minmax")
    assert inliers[0].max() < 3
    with pytest.raises(ValueError, match="minmax, percentile, mse; received 'best'"):
        ranges.search(found, "best")


# Rounding ---------------------------------------------------------------------------------------------------


def output_error(model, rounded, images):
    return np.mean([np.mean((np.asarray(model(x)) - np.asarray(rounded(x))) ** 2) for x in images])


@pytest.mark.slow
@pytest.mark.parametrize("make", [small_model, uneven, separable])
def test_optimal_rounding_is_nearer_on_other_images_than_the_nearest(make):
    folded = fold(make())
    errors = {}
    for method in ("nearest", "optimal"):
        rounded = clone(folded)
        round_kernels(rounded, images(12), method)
        errors[method] = output_error(folded, rounded, images(4, 90))
        for layer in convolutions(rounded):
            kernel = layer.get_weights()[0]
            counts = kernel / kernel_steps(layer, kernel)
            assert np.abs(counts - np.round(counts)).max() < 1e-3
            scale = kernel_steps(folded.get_layer(layer.name), folded.get_layer(layer.name).get_weights()[0])
            np.testing.assert_allclose(kernel_steps(layer, kernel), scale, rtol=1e-5)
    assert errors["optimal"] < errors["nearest"]


def test_unknown_roundings_are_refused(model):
    with pytest.raises(ValueError, match="'stochastic'"):
        round_kernels(fold(model), images(1), "stochastic")


@pytest.mark.slow
def test_operations_that_are_no_layers_are_left_to_the_converter(tmp_path):
    clipped = small_model(extra=lambda x: keras.ops.clip(x, -4.0, 4.0))
    with pytest.raises(UnfoldableError, match=r"clip.* of 'functional.*' are operations on tensors, not layers"):
        quantize(clipped, images(1))
    photographs = [image[0] for image in images(4)]
    with pytest.warns(UserWarning, match="is calibrated as it is"):
        written = export_tflite(
            clipped, tmp_path / "m.tflite", precision="int8", input_size=SIZE, calibration=photographs
        )
    assert not written.float_operators


# Logits and pixels ------------------------------------------------------------------------------------------


def test_shifted_logits_have_the_same_labels_in_a_smaller_range(model):
    folded, shifted = fold(model), fold(model)
    argmax.shift_logits(shifted, images(8))
    before, after = (np.concatenate([np.asarray(each(x)) for x in images(4, 60)]) for each in (folded, shifted))
    assert np.mean(before.argmax(-1) == after.argmax(-1)) > 0.9999
    assert np.ptp(after.max(-1)) < np.ptp(before.max(-1)) / 2
    low, high = argmax.search_range(shifted, images(4))
    assert after.min() * 1.5 < low < 0 <= high


def test_a_model_that_ends_otherwise_has_no_classifier():
    inputs = keras.Input((None, None, 3))
    assert argmax.classifier(keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))) is None
    assert argmax.classifier(keras.Model(inputs, keras.layers.Softmax()(keras.layers.Conv2D(4, 1)(inputs)))) is None


@pytest.mark.slow
def test_balance_takes_back_what_a_class_gained(quantised_model):
    fixed, _ = quantised_model
    ours, exact = quantize(fixed, images(8), with_exact=True)
    layer = ours.get_layer(argmax.classifier(exact).name)
    kernel, bias = layer.get_weights()
    rounded = ours.get_layer(f"{layer.name}_range")
    step = (rounded.high - rounded.low) / 255

    def gained(photographs):
        labels = [[np.asarray(each(x))[0].argmax(-1) for x in photographs] for each in (ours, exact)]
        counts = [np.bincount(np.ravel(each), minlength=len(bias)) for each in labels]
        return np.abs(counts[0] - counts[1]).sum()

    shift = np.zeros_like(bias)
    shift[3] = 3 * step
    layer.set_weights([kernel, bias + shift])
    worse = gained(images(8))
    change = balance(ours, exact, images(8)) - (bias + shift)
    assert gained(images(8)) < worse / 10
    assert np.abs(change).max() <= 4.001 * step
    np.testing.assert_allclose(layer.get_weights()[1], bias + shift + change, rtol=1e-5, atol=1e-6)
    assert np.abs(change - change.mean() + shift - shift.mean()).max() < 3 * step
    np.testing.assert_array_equal(layer.get_weights()[0], kernel)


@pytest.mark.slow
def test_biases_set_in_a_file_are_those_that_the_converter_would_write(quantised_model):
    fixed, _ = quantised_model
    ours, exact = quantize(fixed, images(4), with_exact=True)
    layer = ours.get_layer(argmax.classifier(exact).name)
    kernel, bias = layer.get_weights()

    def converted():
        options = {"precision": "int8", "output": "labels", "input_type": "uint8"}
        return flatbuffer.unpacked(tflite_content(ours, spec_of(ours), SIZE, **options))

    def constants(file):
        buffers = [file.buffers[tensor.buffer].data for tensor in file.subgraphs[0].tensors]
        return [None if data is None else bytes(data) for data in buffers]

    changed = bias + np.linspace(-0.3, 0.4, len(bias))
    before = converted()
    layer.set_weights([kernel, changed])
    wanted = constants(converted())
    assert constants(before) != wanted
    for biases in (bias - 1, changed):
        flatbuffer.set_last_biases(before, biases)
    assert constants(before) == wanted


@pytest.mark.slow
def test_balance_does_not_count_padding(quantised_model):
    fixed, _ = quantised_model
    ours, exact = quantize(fixed, images(4), with_exact=True)
    layer = ours.get_layer(argmax.classifier(exact).name)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias + [0, 1, 0, 0, 0]])
    kept = balance(ours, exact, [np.full((1, *SIZE, 3), grey, np.float32) for grey in (127.5, 128)])
    np.testing.assert_array_equal(kept, layer.get_weights()[1])
    np.testing.assert_array_equal(layer.get_weights()[1], bias + np.float32([0, 1, 0, 0, 0]))


def test_padding_is_found_at_the_nearest_pixel():
    image = np.full((2, 6, 9, 3), 128.0)
    image[0, :4, :5] = 7
    image[1, 5, 8, 2] = 129
    found = np.asarray(inside(image, (6, 9)))
    assert found[0, :4, :5].all()
    assert found[0].sum() == 20
    assert found[1, 5, 8]
    assert found[1].sum() == 1
    assert np.asarray(inside(image, (2, 3)))[0].tolist() == [[True, True, False], [True, True, False]]


def test_normalisation_goes_into_the_first_convolution():
    def build(scale, offset):
        inputs = keras.Input((*SIZE, 3))
        x = keras.layers.Rescaling(scale, offset, name="normalisation")(inputs)
        x = keras.layers.Conv2D(4, 3, 2)(keras.layers.ZeroPadding2D(1)(x))
        return randomise(keras.Model(inputs, layers.ResizeBilinear()([x, inputs])))

    model = build(1 / 127.5, -127 / 127.5)
    folded = fold(model)
    assert absorb_normalisation(folded) == ("normalisation", (-127.0, 128.0))
    kernel, offset = folded.get_layer("normalisation").get_weights()
    assert (kernel == 1).all()
    assert (offset == -127).all()
    assert difference(model, folded) < 1e-5
    # ImageNet's mean differs by channel, so the border does a little; nothing else may.
    model = build([1 / 58, 1 / 57, 1 / 57.4], [-2.1, -2.0, -1.8])
    folded = fold(model)
    absorb_normalisation(folded)
    image = images(1)[0]
    one, other = np.asarray(model(image)), np.asarray(folded(image))
    assert np.abs(one - other)[:, 4:-4, 4:-4].max() < 1e-4 < np.abs(one - other).max() < 1


# Copies -----------------------------------------------------------------------------------------------------


def bright(depthwise):
    """A stem of which two channels that are never 0 matter, six matter little, and one that is often 0 matters."""
    inputs = keras.Input((*SIZE, 3), name="images")
    x = keras.layers.ReLU(6, name="stem_relu")(keras.layers.Conv2D(9, 3, 2, "same", name="stem")(inputs))
    if depthwise:
        x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
        x = keras.layers.ReLU(6, name="depthwise_relu")(x)
    x = keras.layers.ReLU(name="many_relu")(keras.layers.Conv2D(64, 1, name="many")(x))
    model = randomise(keras.Model(inputs, keras.layers.Conv2D(4, 1, name="logits")(x)))
    random = np.random.default_rng(1)
    kernel, bias = random.uniform(0, 1, (3, 3, 3, 9)) / 9 / 255, np.ones(9)
    kernel[..., 8], bias[8] = kernel[..., 8] * 4, -2.5
    model.get_layer("stem").set_weights([kernel, bias])
    if depthwise:
        model.get_layer("depthwise").set_weights([random.uniform(0.1, 0.2, (3, 3, 9, 1)), np.zeros(9)])
    kernel, bias = model.get_layer("many").get_weights()
    kernel[:, :, 2:8] *= 0.02
    model.get_layer("many").set_weights([kernel, bias])
    return model


def bright_errors(depthwise):
    folded = fold(bright(depthwise))
    layout = plan(folded)
    found = {name: (0.0, 6.0) for name in layout.ranges.values()} | {"images": (0.0, 255.0), "stem_relu": (0.0, 24.0)}
    return folded, layout, found, channel_errors(folded, layout, found, images(3))


@pytest.mark.parametrize("depthwise", [False, True], ids=["convolution", "depthwise"])
def test_copies_of_channels_compute_the_same_and_round_finer(depthwise):
    folded, layout, found, errors = bright_errors(depthwise)
    assert 0.1 < errors["stem_relu"].zeros[8] < 1
    assert errors["stem_relu"].error[8] > errors["stem_relu"].error[2:8].max()
    assert errors["stem_relu"].positions == 17 * 25
    copied, counts = copy_channels(folded, layout, found, errors, SIZE)
    assert list(counts) == ["stem", "many"]
    assert (counts["stem"][:2] > 1).all()
    assert counts["stem"][8] == 1
    assert copied.get_layer("stem").filters == counts["stem"].sum()
    assert difference(folded, copied) < 1e-5
    # Only the stem's output is rounded.
    kept = set(layout.sites) - {"stem_relu"}
    one, several = (
        output_error(folded, quantised(model, plan(model), found, kept), images(4, 80)) for model in (folded, copied)
    )
    error = errors["stem_relu"].error
    assert several / one == pytest.approx((error / counts["stem"] ** 2).sum() / error.sum(), rel=0.25)


def test_copies_that_cost_more_than_they_bring_are_not_made():
    folded, layout, found, errors = bright_errors(False)
    errors["many_relu"].error[:] = 1e4 * errors["stem_relu"].error.sum()
    copied, counts = copy_channels(folded, layout, found, errors, SIZE)
    assert copied is folded
    assert counts == {}


@pytest.mark.slow
def test_images_of_nothing_but_padding_quantise():
    ours = quantize(bright(True), [np.full((1, *SIZE, 3), 128, np.float32)])
    assert np.isfinite(np.asarray(ours(images(1)[0]))).all()


# All of it --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantised_model(model):
    inputs = keras.Input((*SIZE, 3))
    fixed = keras.models.clone_model(model, input_tensors=inputs)
    fixed.set_weights(model.get_weights())
    return fixed, quantize(fixed, images(16))


def labels(model, image):
    return np.asarray(model(image))[0].argmax(-1)


@pytest.mark.slow
def test_quantising_keeps_labels_better_than_plain_rounding(quantised_model):
    fixed, ours = quantised_model
    folded = fold(fixed)
    layout = plan(folded)
    statistics = observe(folded, layout.sites, images(16))
    members = {name: [] for name in layout.ranges.values()}
    for site, name in layout.ranges.items():
        members[name].append(statistics[site])
    round_kernels(folded, images(1), "nearest")
    plain = quantised(folded, layout, {name: ranges.search(found, "minmax") for name, found in members.items()})
    wanted = [labels(fixed, image) for image in images(6, 70)]
    equal = [
        np.mean([np.mean(labels(each, image) == label) for image, label in zip(images(6, 70), wanted, strict=True)])
        for each in (ours, plain)
    ]
    assert equal[0] > 0.98
    assert equal[0] > equal[1]


@pytest.mark.slow
def test_ranges_are_fitted_to_another_size_and_kernels_stay(model):
    ours, exact = quantize(model, images(4), with_exact=True)

    def held():
        rounding = [layer for layer in ours.layers if isinstance(layer, layers.FakeQuantization)]
        stored = [(float(layer.low_end), float(layer.high_end)) for layer in rounding]
        np.testing.assert_allclose(stored, [(layer.low, layer.high) for layer in rounding], rtol=1e-6)
        return np.array(stored)

    kernels, before = [layer.get_weights()[0] for layer in convolutions(ours)], held()
    fit_ranges(ours, exact, images(4))
    np.testing.assert_allclose(held(), before, rtol=0.02, atol=1e-6)
    larger = [photograph(97, 65, index)[None].astype(np.float32) for index in range(4)]
    fit_ranges(ours, exact, larger)
    changed = np.abs(held() - before).max(1) > 0.02 * np.ptp(before, 1)
    assert changed.sum() > 3
    assert not changed[:2].any(), "pixels are bytes at any size"
    for layer, kernel in zip(convolutions(ours), kernels, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[0], kernel)
    assert np.mean([np.mean(labels(ours, image) == labels(model, image)) for image in larger]) > 0.97


@pytest.mark.slow
def test_the_frame_around_pixels_keeps_their_range_at_another_size():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="normalisation")(inputs)
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(keras.layers.ZeroPadding2D(1, name="frame")(x))
    model = randomise(keras.Model(inputs, layers.ResizeBilinear()([keras.layers.Conv2D(4, 1)(x), inputs])))
    ours, exact = quantize(model, images(4), with_exact=True)
    dark = [image / 3 for image in images(4)]
    fit_ranges(ours, exact, dark)
    for name in ("normalisation_range", "frame_range"):
        assert (ours.get_layer(name).low, ours.get_layer(name).high) == (-127.0, 128.0)


@pytest.mark.slow
def test_a_quantised_model_reloads(quantised_model, tmp_path):
    _, ours = quantised_model
    ours.save(tmp_path / "quantised.keras")
    reloaded = keras.models.load_model(tmp_path / "quantised.keras")
    np.testing.assert_array_equal(np.asarray(reloaded(images(1)[0])), np.asarray(ours(images(1)[0])))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs", "ignore:(?s).*tf.lite.Interpreter is deprecated")
def test_the_file_has_the_ranges_and_kernels_of_the_model(quantised_model):
    _, ours = quantised_model
    specification = tf.TensorSpec((1, *SIZE, 3), tf.float32)
    traced = tf.function(lambda x: ours(x, training=False), input_signature=[specification], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    stored = [each["quantization_parameters"] for each in interpreter.get_tensor_details()]
    scales = np.concatenate([each["scales"] for each in stored])
    for layer in ours.layers:
        if isinstance(layer, layers.FakeQuantization):
            assert np.isclose(scales, (layer.high - layer.low) / 255, rtol=1e-5).any(), layer.name
    for layer in convolutions(ours):
        steps = kernel_steps(layer, layer.get_weights()[0]).reshape(-1)
        assert any(
            len(each["scales"]) == len(steps) and np.allclose(each["scales"], steps, rtol=1e-4) for each in stored
        ), layer.name


@pytest.mark.slow
def test_fine_tuning_brings_the_model_nearer_to_its_teacher_and_stays_on_the_steps(quantised_model):
    fixed, _ = quantised_model
    ours, exact = quantize(fixed, images(4), rounding="nearest", equalise=False, with_exact=True)
    before = {layer.name: layer.get_weights()[0] for layer in convolutions(ours)}

    def distance():
        both = [[tf.nn.softmax(each(image)) for image in images(4, 80)] for each in (fixed, ours)]
        return float(np.mean([np.mean((a - b) ** 2) for a, b in zip(*both, strict=True)]))

    first = distance()
    batches = (np.concatenate(images(4, 10 + 4 * (index % 8))) for index in itertools.count())
    loss = fine_tune(ours, exact, batches, 60, learning_rate=0.02, progress=False)
    assert 0 < loss < 1
    assert distance() < first
    moved = 0
    for layer in convolutions(ours):
        kernel = layer.get_weights()[0]
        steps, old = kernel_steps(layer, kernel), kernel_steps(layer, before[layer.name])
        np.testing.assert_allclose(steps, old, rtol=1e-5)
        assert np.abs(kernel / steps - np.round(kernel / steps)).max() < 1e-3
        moved += np.sum(np.round(kernel / steps) != np.round(before[layer.name] / old))
    assert moved > 0


@pytest.mark.slow
def test_fine_tuning_refuses_what_it_cannot_train(quantised_model):
    fixed, ours = quantised_model
    with pytest.raises(ValueError, match="has no ranges"):
        fine_tune(fold(fixed), fold(fixed), images(1), 1)
    with pytest.raises(ValueError, match="received 0"):
        fine_tune(ours, fold(fixed), images(1), 0)
    with pytest.raises(ValueError, match="ended after 1 batches of 2"):
        fine_tune(clone(ours), fold(fixed), images(1), 2, progress=False)


# Sensitivity ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tensor_with_the_coarsest_range_is_the_most_sensitive_and_may_stay_in_floating_point(quantised_model):
    fixed, _ = quantised_model
    folded = fold(fixed)
    layout = plan(folded)
    statistics = observe(folded, layout.sites, images(4))
    found = {name: ranges.nudged(statistics[name].low.min(), statistics[name].high.max()) for name in layout.ranges}
    coarse = layout.sites[4]
    found[layout.ranges[coarse]] = ranges.nudged(*(40 * end for end in found[layout.ranges[coarse]]))
    found = shares(channel_errors(folded, layout, found, images(3)))
    assert max(found, key=found.get) == coarse == next(iter(found))
    assert np.isclose(sum(found.values()), 1)

    seen = {}
    ours = quantize(fixed, images(4), float_tensors=2, on_sensitivity=seen.update)
    rounded = {layer.name.removesuffix("_range") for layer in ours.layers if isinstance(layer, layers.FakeQuantization)}
    assert set(layout.sites) - rounded == set(list(seen)[:2])
