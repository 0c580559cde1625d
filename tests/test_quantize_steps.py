"""Each step of quantisation on networks of a few layers, against its definition written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab.layers.argmax import slabs
from keras_deeplab.quantize import (
    argmax,
    copies,
    equalise,
    fake,
    fine_tune,
    fine_tuning,
    fit_ranges,
    is_quantised,
    quantize,
    ranges,
    sensitivity,
    statistics,
)
from keras_deeplab.quantize.folding import fold
from keras_deeplab.quantize.pixels import absorb_normalisation
from keras_deeplab.quantize.plan import Channels, activation_of, plan
from keras_deeplab.summary import multiply_adds

SIZE = (9, 13)


def images(count=3, seed=0):
    random = np.random.default_rng(seed)
    return [np.round(random.uniform(0, 255, (1, *SIZE, 3))).astype("float32") for _ in range(count)]


def filled(model, seed=0):
    """Random weights, of a size that keeps the channels' ranges."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 4
        variable.assign(random.normal(0, 1 / np.sqrt(fan_in), variable.shape))
    return model


def network():
    """Normalised pixels, a strided convolution, a depthwise one, three classes, resized; nothing to fold."""
    inputs = keras.Input((*SIZE, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="normalisation")(inputs)
    x = keras.layers.Conv2D(5, 3, 2, "same", name="stem")(x)
    x = keras.layers.ReLU(6.0, name="stem_relu")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="middle")(x)
    x = keras.layers.ReLU(name="middle_relu")(x)
    x = keras.layers.Conv2D(3, 1, name="logits")(x)
    return filled(keras.Model(inputs, layers.ResizeBilinear(name="resized")([x, inputs])))


def two():
    """Two 1x1 convolutions with a relu between them."""
    inputs = keras.Input((*SIZE, 3), name="images")
    x = keras.layers.ReLU(name="relu")(keras.layers.Conv2D(4, 1, name="first")(inputs))
    model = filled(keras.Model(inputs, keras.layers.Conv2D(3, 1, name="logits")(x)))
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel / 100, bias])
    return model


def clip(kind):
    inputs = keras.Input((*SIZE, 3), name="images")
    x = keras.layers.Conv2D(4, 1, name="first")(inputs)
    x = keras.layers.ReLU(name="relu")(x) if kind == "stored" else x
    return filled(keras.Model(inputs, keras.layers.Conv2D(2, 1, name="last")(layers.Clip(-0.5, 0.5, name="clip")(x))))


# Rounding in the model --------------------------------------------------------------------------------------------


def test_every_stored_tensor_is_rounded_to_its_range():
    model, image = two(), images(1)[0]
    found = {"images": (0.0, 255.0), "relu": (0.0, 3.0), "logits": (-2.0, 2.0)}
    layout = plan(model)
    assert layout.sites == ["images", "relu", "logits"]
    (kernel, bias), (last, last_bias) = (model.get_layer(name).get_weights() for name in ("first", "logits"))
    for kept in ([], ["relu"], ["images", "logits"]):

        def step(name, x, kept=kept):
            return x if name in kept else ranges.rounded(x, *ranges.nudged(*found[name]))

        hidden = step("relu", np.maximum(step("images", image) @ kernel[0, 0] + bias, 0))
        expected = step("logits", hidden @ last[0, 0] + last_bias)
        ours = fake.quantised(model, layout, found, iter(kept))
        names = {layer.name for layer in ours.layers if isinstance(layer, layers.FakeQuantization)}
        assert names == {f"{name}_range" for name in set(found) - set(kept)}
        assert ours.inputs[0].name == "images"
        np.testing.assert_allclose(ours(image), expected, atol=4 / 255 * 1.01 if "logits" not in kept else 1e-4)
        assert np.mean(np.abs(ours(image) - expected) > 1e-4) < 0.01  # a value on the edge of a step may go either way
    assert is_quantised(ours)
    assert not is_quantised(model)


@pytest.mark.parametrize("kind", ["stored", "convolution"])
def test_a_range_behind_a_convolution_is_its_clip(kind):
    model = clip(kind)
    layout = plan(model)
    assert "first" not in layout.sites
    found = dict.fromkeys(layout.ranges.values(), (-4.0, 4.0)) | {layout.ranges["clip"]: (-0.5, 0.5)}
    ours = fake.quantised(model, layout, found)
    assert any(isinstance(layer, layers.Clip) for layer in ours.layers) == (kind == "stored")
    assert "clip_range" in {layer.name for layer in ours.layers}


def test_kernels_have_a_step_for_each_output():
    random = np.random.default_rng(0)
    dense, depthwise = keras.layers.Conv2D(4, 3), keras.layers.DepthwiseConv2D(3, depth_multiplier=2)
    for layer, shape, axes in ((dense, (3, 3, 2, 4), (0, 1, 2)), (depthwise, (3, 3, 2, 2), (0, 1))):
        kernel = random.normal(size=shape)
        kernel[..., 1] = 0
        steps = fake.kernel_steps(layer, kernel)
        np.testing.assert_allclose(steps, np.maximum(np.max(np.abs(kernel), axes, keepdims=True) / 127, 1e-12))
        counts = fake.rounded_kernel(layer, kernel) / steps
        np.testing.assert_allclose(counts, np.round(kernel / steps), atol=1e-9)
        assert set(np.abs(counts).max(axes).round(6).ravel()) == {0, 127}


def test_which_layers_are_clips():
    kinds = {
        "relu": [keras.layers.ReLU(), keras.layers.Activation("relu")],
        "relu6": [keras.layers.ReLU(6.0), keras.layers.Activation("relu6")],
        "clip": [layers.Clip(-1, 1), layers.Clip(0, 1), layers.Clip(-1, 0)],
        "linear": [keras.layers.Activation("linear")],
        None: [
            *(keras.layers.ReLU(5.0), keras.layers.ReLU(negative_slope=0.1), keras.layers.ReLU(threshold=1.0)),
            *(layers.Clip(0.5, 1), layers.Clip(-1, -0.5), keras.layers.Activation("tanh"), keras.layers.Dropout(0.1)),
        ],
    }
    for kind, members in kinds.items():
        assert [activation_of(layer) for layer in members] == [kind] * len(members)


def test_channels_are_not_scaled_through_what_mixes_or_bends_them():
    for layer in (keras.layers.Softmax(), keras.layers.LayerNormalization(), keras.layers.Activation("tanh")):
        inputs = keras.Input((*SIZE, 3), name="images")
        x = keras.layers.Conv2D(4, 1, name="first")(inputs)
        model = keras.Model(inputs, keras.layers.Conv2D(2, 1, name="last")(layer(x)))
        groups = plan(model).channels
        assert all(group.fixed for group in groups if group.producers or group.consumers), layer.name
    free = [group for group in plan(two()).channels if not group.fixed]
    assert [group.producers[0][0].name for group in free] == ["first"]
    assert [(layer.name, first) for layer, first in free[0].consumers] == [("logits", 0)]


def test_channels_are_not_scaled_through_a_clip_whose_ends_stay():
    groups = plan(clip("stored")).channels
    assert all(group.fixed for group in groups if group.producers or group.consumers)


@pytest.mark.parametrize("seed", range(6))
def test_a_range_is_searched_one_end_after_the_other(seed):
    random = np.random.default_rng(seed)
    values = random.standard_t(2, 500) * np.where(random.random(500) < 0.5, 1.0, 4.0)
    low, high = values.min(), values.max()
    seen = statistics.Statistics(*(np.array([x]) for x in (low, high, 0.0, 0.0, 0.0)), values)
    fractions = 0.3 + 0.02 * np.arange(36)

    def error(low, high):
        return np.mean((ranges.rounded(values, *ranges.nudged(low, high)) - values) ** 2)

    joint = min(fractions, key=lambda f: error(low * f, high * f))
    upper = min(fractions, key=lambda f: error(low * joint, high * f))
    lower = min(fractions, key=lambda f: error(low * f, high * upper))
    assert ranges.search([seen]) == pytest.approx(ranges.nudged(low * lower, high * upper))


# Statistics and sensitivity ---------------------------------------------------------------------------------------


def test_statistics_are_those_of_all_images():
    model, batch = two(), images(3)
    inner = keras.Model(model.inputs, model.get_layer("logits").output)
    maps = [inner([image]).numpy().reshape(-1, 3) for image in batch]
    whole = np.concatenate(maps)
    found = statistics.observe(model, ["images", "logits"], batch)
    assert set(found) == {"images", "logits"}
    np.testing.assert_allclose(found["images"].high, np.concatenate(batch).max((0, 1, 2)))
    found = found["logits"]
    np.testing.assert_allclose(found.low, whole.min(0), rtol=1e-5)
    np.testing.assert_allclose(found.high, whole.max(0), rtol=1e-5)
    np.testing.assert_allclose(found.typical, np.mean([np.abs(each).max(0) for each in maps], 0), rtol=1e-5)
    np.testing.assert_allclose(found.mean, whole.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.mean_square, (whole**2).mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.values, whole.ravel(), rtol=1e-4, atol=1e-6)  # so few that all are kept


@pytest.mark.parametrize(("width", "step"), [(96, 3), (128, 5)])
def test_samples_of_a_large_tensor_are_spread_over_places_and_channels(width, step):
    inputs = keras.Input((64, width, 2))
    model = keras.Model(inputs, keras.layers.ReLU(name="relu")(inputs))
    image = np.arange(64 * width * 2, dtype="float32").reshape(1, 64, width, 2)
    values = statistics.observe(model, ["relu"], [image])["relu"].values
    steps = np.diff(values)
    assert steps[0] == step  # 12,288 or 16,384 values in about 4,096 samples, by an odd number
    assert (steps == steps[0]).all()
    assert values[0] == 0
    assert values[-1] >= 64 * width * 2 - step


def test_errors_of_channels_are_what_their_rounding_does_to_the_logits():
    model, batch = two(), images(2)
    layout = plan(model)
    found = {"images": (0.0, 255.0), "relu": (0.0, 3.0), "logits": (-9.0, 9.0)}
    errors = sensitivity.channel_errors(model, layout, found, batch, seed=5)
    assert list(errors) == ["images", "relu"]
    (kernel, bias), (last, last_bias) = (model.get_layer(name).get_weights() for name in ("first", "logits"))
    expected, zeros = np.zeros(4), []
    for number, image in enumerate(batch):
        hidden = np.maximum(image @ kernel[0, 0] + bias, 0)
        logits = hidden @ last[0, 0] + last_bias
        signs = tf.random.stateless_normal(logits.shape, [5, number]).numpy()
        counted = logits > logits.max(-1, keepdims=True) - 10
        error = ranges.rounded(hidden, *ranges.nudged(*found["relu"])) - hidden
        expected += ((error * ((signs * counted) @ last[0, 0].T)) ** 2).sum((0, 1, 2))
        zeros.append((hidden <= 0).mean((0, 1, 2)))
    np.testing.assert_allclose(errors["relu"].error, expected, rtol=1e-3)
    np.testing.assert_allclose(errors["relu"].zeros, np.mean(zeros, 0), rtol=1e-5)
    assert errors["relu"].positions == SIZE[0] * SIZE[1]
    parts = sensitivity.shares(errors)
    assert sum(parts.values()) == pytest.approx(1)
    assert list(parts.values()) == sorted(parts.values(), reverse=True)


# Equalisation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_expected_error_of_scales_is_that_of_both_roundings(depthwise):
    random = np.random.default_rng(0)
    inputs = keras.Input((4, 4, 5))
    layer = keras.layers.DepthwiseConv2D(3) if depthwise else keras.layers.Conv2D(2, 3)
    layer(inputs)
    kernel = random.normal(size=layer.kernel.shape)
    layer.set_weights([kernel, layer.get_weights()[1]])
    first, size = 1, 3
    group = Channels(size, consumers=[(layer, first)])
    low, high = -random.uniform(0.1, 1, size), random.uniform(1, 9, size)
    mean_square, scales = random.uniform(0.2, 2, size), np.array([0.2, 0.5, 1.0])
    step = ((high / scales).max() - (low / scales).min()) / 255
    signal = activations = weights = 0.0
    for place, channel in enumerate(range(first, first + size)):
        own = kernel[:, :, channel]  # (3, 3, outputs), of a depthwise one (3, 3, 1)
        signal += (own**2).sum() * mean_square[place]
        activations += ((own * scales[place]) ** 2).sum() * step**2 / 12
    if not depthwise:
        scaled = kernel[:, :, first : first + size] * scales[:, None]
        for output in range(2):
            weight_step = np.abs(scaled[..., output]).max() / 127
            weights += sum(9 * weight_step**2 / 12 * mean_square[i] / scales[i] ** 2 for i in range(size))
    found = equalise._error(group, scales, low, high, mean_square)
    assert found == pytest.approx((activations + weights) / signal, rel=1e-6)
    positive = equalise._error(group, scales, low + 2, high, mean_square)  # 0 is in every range
    assert positive == pytest.approx(equalise._error(group, scales, 0 * low, high, mean_square))
    negative = equalise._error(group, scales, low, high - 9, mean_square)
    assert negative == pytest.approx(equalise._error(group, scales, low, 0 * high, mean_square))


def test_the_strength_with_the_least_error_is_taken():
    model = fold(network())
    layout = plan(model)
    seen = statistics.observe(model, layout.sites, images())
    group = next(group for group in layout.channels if group.producers and group.producers[0][0].name == "middle")
    found = seen["middle_relu"]
    reach = np.maximum(found.high, -found.low)
    candidates = [np.maximum(reach / reach.max(), 1e-3) ** strength for strength in (0, 0.25, 0.5, 0.75, 1)]
    errors = [equalise._error(group, scales, found.low, found.high, found.mean_square) for scales in candidates]
    before, image = model(images(1)[0]).numpy(), images(1)[0]
    scaled = equalise.equalise(model, layout, seen)
    np.testing.assert_allclose(scaled["middle_relu"], candidates[int(np.argmin(errors))], rtol=1e-6)
    assert np.ptp(scaled["middle_relu"])
    np.testing.assert_allclose(model(image), before, atol=1e-4)


def test_what_is_joined_has_the_extremes_of_all():
    one = statistics.Statistics(*(np.array([9.0, value, value]) for value in (-1, 2, 0, 0, 3)), np.zeros(1))
    other = statistics.Statistics(*(np.array([value, value]) for value in (-3.0, 1.0, 0.0, 0.0, 4.0)), np.zeros(1))
    group = Channels(2, sites=[("one", 1), ("other", 0)])
    low, high, mean_square = equalise._joint(group, {"one": one, "other": other})
    for values, expected in ((low, -3), (high, 2), (mean_square, 4)):
        np.testing.assert_array_equal(values, [expected, expected])


# Copies -----------------------------------------------------------------------------------------------------------


def chained(filters, depthwise, stride):
    inputs = keras.Input((None, None, 3), name="images")
    x = keras.layers.ReLU(name="relu")(keras.layers.Conv2D(filters, 3, padding="same", name="first")(inputs))
    if depthwise:
        x = keras.layers.DepthwiseConv2D((3, 5), stride, padding="same", name="depthwise")(x)
        x = keras.layers.ReLU(name="relu_2")(x)
    return keras.Model(inputs, keras.layers.Conv2D(7, (1, 3), stride, padding="same", name="last")(x))


def chains_of(layout):
    return [chain for chain in (copies._chain(group, layout) for group in layout.channels) if chain]


@pytest.mark.parametrize(("depthwise", "stride"), [(False, 1), (False, 2), (True, 1), (True, 2)])
def test_a_copy_costs_what_a_channel_more_costs(depthwise, stride):
    """So many multiply-adds has the network that is one channel wider there, on a map that both strides divide."""
    model = chained(4, depthwise, stride)
    layout = plan(model)
    (chain,) = [chain for chain in chains_of(layout) if chain.producer.name == "first"]
    assert (chain.depthwise is not None) == depthwise
    assert chain.consumer.name == "last"
    assert chain.site == "relu"
    errors = {"relu": sensitivity.ChannelErrors(np.zeros(4), np.zeros(4), 8 * 16)}
    found = copies._multiply_adds_of_a_channel(chain, errors)
    assert found == multiply_adds(chained(5, depthwise, stride), (8, 16)) - multiply_adds(model, (8, 16))


def test_channels_of_a_grouped_convolution_are_not_copied():
    inputs = keras.Input((None, None, 4), name="images")
    x = keras.layers.Conv2D(4, 3, padding="same", groups=2, name="first")(inputs)
    layout = plan(keras.Model(inputs, keras.layers.Conv2D(7, 1, name="last")(keras.layers.ReLU()(x))))
    assert chains_of(layout) == []


def test_copies_are_made_as_long_as_each_takes_off_more_than_it_costs():
    """One channel has all of the error: the n-th copy takes 1 / (n - 1)^2 - 1 / n^2 of it."""
    model = filled(chained(4, False, 1))
    layout = plan(model)
    found = dict.fromkeys(layout.ranges.values(), (0.0, 6.0))
    cost = multiply_adds(chained(5, False, 1), SIZE) / multiply_adds(model, SIZE) - 1
    for share in (0.9, 1.2, 1.8):
        gain = share * cost / (1 / 4 - 1 / 9)  # of the third copy, times `share`
        error = np.array([0.0, gain, 0.0, 0.0])
        errors = {
            "relu": sensitivity.ChannelErrors(error, np.zeros(4), SIZE[0] * SIZE[1]),
            "images": sensitivity.ChannelErrors(np.array([1 - gain, 0, 0]), np.zeros(3), SIZE[0] * SIZE[1]),
        }
        _, counts = copies.copy_channels(model, layout, found, errors, SIZE)
        np.testing.assert_array_equal(counts["first"], [1, 2 if share < 1 else 3, 1, 1])
    errors["relu"].zeros[1] = 0.03
    assert copies.copy_channels(model, layout, found, errors, SIZE) == (model, {})
    errors["relu"].zeros[1] = 0.0
    errors["relu"].error[:] = 0
    assert copies.copy_channels(model, layout, found, errors, SIZE) == (model, {})
    errors["images"].error[:] = 0
    assert copies.copy_channels(model, layout, found, errors, SIZE) == (model, {})


def test_each_copy_is_shifted_by_its_part_of_a_step():
    model = filled(chained(2, False, 1))
    layout = plan(model)
    found = dict.fromkeys(layout.ranges.values(), (0.0, 5.1))  # a step of 0.02
    (chain,) = filter(None, (copies._chain(group, layout) for group in layout.channels if group.producers))
    copied = copies._copied(model, {chain: np.array([1, 3])}, layout, found)
    (kernel, bias), (more, shifted) = (each.get_layer("first").get_weights() for each in (model, copied))
    np.testing.assert_array_equal(more, kernel[..., [0, 1, 1, 1]])
    shifts = shifted - bias[[0, 1, 1, 1]]
    assert shifts[0] == 0
    np.testing.assert_allclose(np.diff(shifts[1:]), 0.02 / 3, rtol=1e-3)
    kernel, last = (each.get_layer("last").get_weights()[0] for each in (model, copied))
    np.testing.assert_allclose(last, kernel[:, :, [0, 1, 1, 1]] / np.array([1, 3, 3, 3])[:, None], rtol=1e-6)


# Logits -----------------------------------------------------------------------------------------------------------


def classified(size=SIZE, resized=False):
    inputs = keras.Input((*size, 3), name="images")
    x = keras.layers.Conv2D(4, 1, 2 if resized else 1, "same", name="logits")(inputs)
    model = filled(keras.Model(inputs, layers.ResizeBilinear(name="resized")([x, inputs]) if resized else x))
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel / 50, bias])
    return model


@pytest.mark.parametrize("resized", [False, True])
def test_the_range_of_logits_is_the_one_that_changes_the_fewest_labels(resized):
    model, batch = classified(resized=resized), images(2)
    batch[0][:, :, :4] = 128  # padding: not counted
    batch[0][:, 0, 0] = 0
    coarse = keras.Model(model.inputs, model.get_layer("logits").output)
    finer = (lambda x, image: model.get_layer("resized")([x, image]).numpy()) if resized else (lambda x, image: x)
    maps = [coarse([image]).numpy() for image in batch]
    real = [(np.abs(image - 128) > 0.5).any(-1) for image in batch]
    real[1][:] = True
    steps = (2, 2) if resized else (1, 1)
    places = [np.arange(n) * full // n for n, full in zip(maps[0].shape[1:3], SIZE, strict=True)]
    inner = [each[:, places[0]][:, :, places[1]] for each in real]
    assert inner[0].shape[1:] == tuple(-(-n // step) for n, step in zip(SIZE, steps, strict=True))
    values = np.concatenate([each[mask] for each, mask in zip(maps, inner, strict=True)])

    def changed(part):
        low, high = ranges.nudged(*part)
        count = 0
        for each, image, mask in zip(maps, batch, real, strict=True):
            wanted = finer(each, image).argmax(-1)
            found = ranges.rounded(finer(ranges.rounded(each, low, high).astype("float32"), image), low, high)
            count += ((found.argmax(-1) != wanted) & mask).sum()
        return count

    low, high = values.min(), values.max()
    cuts = [0.1 * 10 ** (index / 12) for index in range(13)]
    low = low * min(cuts, key=lambda cut: changed((low * cut, high)))
    high = high * min(cuts[-5:], key=lambda cut: changed((low, high * cut)))
    np.testing.assert_allclose(argmax.search_range(model, batch), ranges.nudged(low, high), rtol=1e-5)


@pytest.mark.parametrize("by_file", [False, True])
def test_biases_move_until_no_class_has_gained(by_file):
    exact, batch = classified(), images(3)
    batch[0][:, :3] = 128
    layout = plan(exact)
    found = {"images": (0.0, 255.0), "logits": (-12.0, 12.0)}
    exact_ranges = fake.quantised(exact, layout, found, layout.sites)
    model = fake.quantised(exact, layout, found, ["images"])
    kernel, start = model.get_layer("logits").get_weights()
    moved = (start + [0.0, 0.06, 0.0, -0.03]).astype("float32")
    model.get_layer("logits").set_weights([kernel, moved])
    low, high = (float(end) for end in ranges.nudged(-12.0, 12.0))
    window = 4 * (high - low) / 255

    def computed(bias):
        return lambda image: ranges.rounded(image[0] @ kernel[0, 0] + bias, low, high).argmax(-1)

    pairs, wanted, masks = np.zeros((4, 4)), [], []
    for image in batch:
        logits = exact(image)[0].numpy()
        masks.append((np.abs(image[0] - 128) > 0.5).any(-1))
        wanted.append(logits.argmax(-1))
        for row in logits[masks[-1]]:
            second, first = np.argsort(row)[-2:]
            if row[first] - row[second] < window:
                pairs[first, second] += 1 / (2 * window)
                pairs[second, first] += 1 / (2 * window)
    change = np.diag(pairs.sum(1)) - pairs
    change += 0.02 * np.trace(change) / 4 * np.eye(4)
    bias = moved.astype(np.float64)
    for _ in range(3):
        gained = np.zeros(4)
        for image, expected, mask in zip(batch, wanted, masks, strict=True):
            labels = computed(bias.astype("float32"))(image)
            gained += [np.sum(labels[mask] == k) - np.sum(expected[mask] == k) for k in range(4)]
        bias = np.clip(bias - np.linalg.solve(change, gained), moved - window, moved + window)
    result = argmax.balance(model, exact_ranges, batch, computed if by_file else None)
    np.testing.assert_allclose(result, bias, atol=0.02 * window)
    np.testing.assert_allclose(model.get_layer("logits").get_weights()[1], result, rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], kernel)


def test_what_has_no_classes_has_no_classifier():
    inputs = keras.Input((4, 4, 3))
    assert argmax.classifier(keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs))) is None
    assert argmax.classifier(keras.Model(inputs, keras.layers.Conv2D(2, 1, name="two")(inputs))).name == "two"
    grouped = keras.Model(inputs, keras.layers.Conv2D(3, 1, groups=3)(inputs))
    assert argmax.classifier(grouped) is None
    assert argmax.balance(grouped, grouped, images(1)) is None


# Fine-tuning ------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_divergence_of_what_the_teacher_says():
    random = np.random.default_rng(0)
    wanted, logits = random.normal(size=(2, 5, 3)).astype("float32"), random.normal(size=(2, 5, 3)).astype("float32")
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (wanted, logits))
    np.testing.assert_allclose(fine_tuning._of_one(wanted, logits), (p * np.log(p / q)).sum(-1), atol=1e-5)
    p, q = (1 / (1 + np.exp(-x)) for x in (wanted, logits))
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    np.testing.assert_allclose(fine_tuning._of_each(wanted, logits), each.sum(-1), atol=1e-5)


def test_the_learning_rate_rises_and_falls_along_half_a_cosine():
    rate = fine_tuning._schedule(0.2, 30, 10)
    for step in range(31):
        expected = 0.02 * step if step < 10 else 0.1 * (1 + np.cos(np.pi * (step - 10) / 20))
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)
    rate = fine_tuning._schedule(0.2, 30, 0)
    assert [float(rate(step)) for step in (0, 15, 30)] == pytest.approx([0.2, 0.1, 0.0], abs=1e-6)
    assert float(fine_tuning._schedule(0.2, 4, 4)(3)) == pytest.approx(0.15)


def pair():
    """A network with its kernels rounded and ranges, and the same without."""
    exact = two()
    layout = plan(exact)
    found = {"images": (0.0, 255.0), "relu": (0.0, 4.0), "logits": (-3.0, 3.0)}
    model = fake.quantised(exact, layout, found)
    for layer in fake.convolutions(model):
        kernel, bias = layer.get_weights()
        layer.set_weights([fake.rounded_kernel(layer, kernel), bias])
    return model, fake.quantised(exact, layout, found, layout.sites)


def test_kernels_are_learnt_in_steps_from_where_they_were():
    model, exact = pair()
    student = keras.Model(model.inputs, fine_tuning._logits(model))
    kernels = fine_tuning._Kernels(model, exact, student)
    assert [row[0].name for row in kernels.rows] == ["first", "logits"]
    for (layer, unit, bias_unit, free, latent, bias), behind in zip(kernels.rows, (4 / 255, 6 / 255), strict=True):
        rounded, before = layer.get_weights()[0], exact.get_layer(layer.name).get_weights()[0]
        counts = np.round(rounded / fake.kernel_steps(layer, rounded))
        np.testing.assert_allclose(unit, fake.kernel_steps(layer, rounded), rtol=1e-6)
        assert bias_unit == pytest.approx(behind, rel=1e-6)
        np.testing.assert_array_equal(free, np.abs(counts) < 127)
        expected = counts + np.clip(before / unit - counts, -0.45, 0.45)
        np.testing.assert_allclose(latent.numpy(), np.where(free, expected, counts), atol=1e-4)
        assert not bias.numpy().any()
    values = kernels.values()
    for value, variable in zip(values, student.trainable_variables, strict=True):
        np.testing.assert_allclose(value, variable.numpy(), rtol=1e-5)  # at first they are where they are
    gradients = kernels.masked([np.ones(variable.shape) for variable in kernels.variables])
    np.testing.assert_array_equal(gradients[0], kernels.rows[0][3])
    assert np.all(gradients[1] == 1)
    kernels.rows[0][4].assign(kernels.rows[0][4] + 1.0)
    kernels.rows[0][5].assign(kernels.rows[0][5] + 2.0)
    layer, unit, bias_unit, *_, bias = kernels.rows[0]
    kernel, old = layer.get_weights()
    wanted = np.clip(np.round(kernels.rows[0][4].numpy()), -127, 127) * unit
    place = [id(variable) for variable in student.trainable_variables].index(id(layer.kernel))
    with tf.GradientTape() as tape:
        first = kernels.values()[place]
    np.testing.assert_allclose(first, wanted, rtol=1e-5)
    assert np.any(wanted != kernel)
    slope = tape.gradient(first, kernels.rows[0][4].value)
    inner = np.abs(kernels.rows[0][4].numpy()) < 127
    np.testing.assert_allclose(slope.numpy()[inner], np.broadcast_to(unit, slope.shape)[inner], rtol=1e-5)
    kernels.write()
    np.testing.assert_allclose(layer.get_weights()[0], wanted, rtol=1e-5)
    np.testing.assert_allclose(layer.get_weights()[1], old + 2 * bias_unit, rtol=1e-5)


def test_a_few_steps_bring_it_nearer_and_their_mean_is_returned():
    model, exact = pair()
    layer = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias + np.float32([0.1, -0.1, 0.05])])
    batch = np.concatenate(images(2))
    teacher = exact(batch).numpy()

    def divergence():
        return float(np.mean(fine_tuning._of_one(teacher, model(batch).numpy())))

    before = divergence()
    loss = fine_tune(model, exact, [batch] * 99, 30, learning_rate=0.3, warmup_steps=3, progress=False)
    assert divergence() < before / 2
    assert loss == pytest.approx(divergence(), rel=0.2)
    assert loss > 0


def test_what_cannot_be_fine_tuned_is_refused():
    model, exact = pair()
    with pytest.raises(ValueError, match="has no ranges"):
        fine_tune(two(), exact, images(1), 1)
    with pytest.raises(ValueError, match="at least 1, received 0"):
        fine_tune(model, exact, images(1), 0)
    with pytest.raises(ValueError, match="ended after 0 batches of 1"):
        fine_tune(model, exact, [], 1, progress=False)


# All of it --------------------------------------------------------------------------------------------------------


def test_pixels_go_into_the_first_convolution_as_bytes_without_their_middle():
    model = fold(network())
    before = model(images(1)[0]).numpy()
    name, (low, high) = absorb_normalisation(model)
    assert name == "normalisation"
    inner = keras.Model(model.inputs, model.get_layer("normalisation").output)
    found = inner([images(1)[0]]).numpy() - images(1)[0]
    assert set(found.flat) == {low} <= {-127.0, -128.0}  # 127.5 lies between two bytes
    assert high == 255 + low
    difference = np.abs(model(images(1)[0]).numpy() - before)
    assert difference[:, 2:-2, 2:-2].max() < 0.05


def test_all_steps_together_and_ranges_fitted_anew():
    model, batch, seen = network(), images(4), {}
    ours, exact = quantize(model, batch, with_exact=True, on_sensitivity=seen.update)
    assert is_quantised(ours)
    assert not is_quantised(exact)
    assert sum(seen.values()) == pytest.approx(1)
    for layer in fake.convolutions(ours):
        kernel = layer.get_weights()[0]
        counts = kernel / fake.kernel_steps(layer, kernel)
        assert np.abs(counts - np.round(counts)).max() < 1e-3
    held = {layer.name: (layer.low, layer.high) for layer in ours.layers if isinstance(layer, layers.FakeQuantization)}
    assert held["images_range"] == (0.0, 255.0)
    assert held["normalisation_range"] in ((-127.0, 128.0), (-128.0, 127.0))
    assert held["logits_range"] == pytest.approx(held["resized_range"])
    labels = [np.asarray(each(images(1, 9)[0])).argmax(-1) for each in (model, ours)]
    assert np.mean(labels[0] == labels[1]) > 0.95
    dark = [image / 4 for image in batch]
    kernels = [layer.get_weights()[0] for layer in fake.convolutions(ours)]
    fit_ranges(ours, exact, dark)
    again = {layer.name: (layer.low, layer.high) for layer in ours.layers if isinstance(layer, layers.FakeQuantization)}
    assert [again[name] == held[name] for name in ("images_range", "normalisation_range")] == [True, True]
    assert again["stem_relu_range"] != held["stem_relu_range"]
    for layer, kernel in zip(fake.convolutions(ours), kernels, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[0], kernel)


def test_steps_may_be_left_out_and_the_most_sensitive_tensors_stay_numbers():
    model, batch, seen = network(), images(3), {}
    assert isinstance(quantize(model, batch[:1], copies=False, rounding="nearest"), keras.Model)
    plainest = {"equalise": False, "copies": False, "rounding": "nearest", "range_search": "minmax"}
    told = {"with_exact": True, "on_sensitivity": seen.update}
    ours, exact = quantize(model, batch, for_argmax=False, float_tensors=1, **told, **plainest)
    names = {layer.name for layer in ours.layers}
    assert f"{next(iter(seen))}_range" not in names
    assert {f"{name}_range" for name in list(seen)[1:]} <= names
    output = model(batch[0]).numpy()
    inner = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(np.asarray(exact(batch[0]))[inner], output[inner], atol=0.05 * np.ptp(output))
    assert np.abs(np.asarray(ours(batch[0])) - output)[inner].max() < 0.1 * np.ptp(output)
    before = model.get_layer("middle").get_weights()[0]
    np.testing.assert_allclose(exact.get_layer("middle").get_weights()[0], before, rtol=1e-5)


@pytest.mark.parametrize(("convention", "size"), [("align_corners", 49), ("half_pixel_centers", 48)])
def test_a_range_is_the_same_searched_some_rows_at_a_time(convention, size, monkeypatch):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(5, 1)(keras.layers.AveragePooling2D(16, padding="same")(inputs))
    outputs = layers.ResizeBilinear(**layers.resizes.conventions(convention))([logits, inputs])
    model = keras.Model(inputs, outputs)
    draw = np.random.default_rng(0)
    batch = [draw.uniform(-1, 1, (1, size, size + 16, 3)).astype("float32") for _ in range(3)]
    whole = argmax.search_range(model, batch)
    cuts = []
    monkeypatch.setattr(argmax, "_WORTH", 0)
    monkeypatch.setattr("keras_deeplab.layers.argmax._AT_ONCE", 1)
    monkeypatch.setattr(argmax, "slabs", lambda *given: cuts.extend(slabs(*given)) or slabs(*given))
    assert argmax.search_range(model, batch) == whole
    assert len(cuts) == 3  # a row of the scores each
    assert [slab.place.start for slab in cuts] == [0, 16, 32]


@pytest.mark.parametrize("after", [{"groups": 3}, None])
def test_pixels_go_into_no_other_layer_than_a_plain_convolution(after):
    inputs = keras.Input((None, None, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="normalisation")(inputs)
    x = keras.layers.ReLU(name="first")(x) if after is None else keras.layers.Conv2D(6, 3, name="first", **after)(x)
    folded = fold(keras.Model(inputs, keras.layers.Conv2D(4, 1, name="logits")(x)))
    assert absorb_normalisation(folded) is None
