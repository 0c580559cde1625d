"""DeepLab v1 and v2: counts and rates of their papers, fc6 from a classifier, branches, scales, saving, policies."""

import sys

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.backbones import preprocessing
from keras_deeplab.heads import large_fov
from keras_deeplab.layers import ScaleBilinear

# builder, settings -> trainable parameters, multiply-adds (10^9) of convolutions at 513x513 with 21 classes: DeepLab
# v1, table 2, to one more digit, and counts on the code of the sources (v2 on ResNet-101 and v1 on it: kazuto1011)
COUNTS = {
    "v1 7x7": (keras_deeplab.DeepLabV1, {"variant": "7x7"}, 134_346_581, None),
    "v1 4x4": (keras_deeplab.DeepLabV1, {"variant": "4x4"}, 65_140_565, None),
    "v1 4x4 large": (keras_deeplab.DeepLabV1, {"variant": "4x4_large"}, 65_140_565, None),
    "v1 large fov": (keras_deeplab.DeepLabV1, {}, 20_505_429, 128.585),
    "v1 resnet": (keras_deeplab.DeepLabV1, {"backbone": "resnet101_caffe", "variant": None}, 42_543_189, 182.526),
    "v2 vgg": (keras_deeplab.DeepLabV2, {"backbone": "vgg16_caffe"}, 37_877_652, 201.956),
    "v2 resnet": (keras_deeplab.DeepLabV2, {}, 44_048_532, 188.886),
}


def outline(builder, **settings):
    """A model whose variables have shapes and hardly any values, which take most of the time to build one."""
    with keras.StatelessScope(initialize_variables=False):
        return builder(**settings)


@pytest.fixture(scope="module")
def outlines():
    built = {}

    def get(name):
        if name not in built:
            builder, settings, *_ = COUNTS[name]
            built[name] = outline(builder, upsample_logits=False, **settings)
        return built[name]

    return get


def small_classifier(name="small"):
    inputs = keras.Input((None, None, 3))
    x = inputs
    for filters in (4, 8, 8, 12, 16):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, x, name=name)


@pytest.fixture(scope="module")
def small():
    return randomise(small_classifier())


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def pixels(height, width, batch=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3)).astype("uint8")


def assert_close(got, expected, tolerance=1e-5):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def rates(model):
    return {
        layer.name: layer.dilation_rate[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and (layer.kernel_size != (1, 1))
    }


# Counts and rates --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_trainable_parameters(outlines, name):
    variables = outlines(name).trainable_weights
    assert sum(int(np.prod(v.shape)) for v in variables) == COUNTS[name][2]
    assert len({v.path for v in variables}) == len(variables)


def multiply_adds(model, size):
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    outputs = keras.Model(model.input, [layer.output for layer in convolutions])
    shapes = outputs.compute_output_shape((1, size, size, 3))
    kernels = [layer.kernel.shape for layer in convolutions]
    return sum(int(np.prod(s)) * int(np.prod(k[:3])) for s, k in zip(shapes, kernels, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in COUNTS.items() if row[3]])
def test_multiply_adds(outlines, name):
    assert round(multiply_adds(outlines(name), 513) / 1e9, 3) == COUNTS[name][3]


@pytest.mark.slow
def test_multiply_adds_of_all_three_scales(outlines):
    """344.876 on kazuto1011's code at 513, 384 and 256 pixels."""
    total = sum(multiply_adds(outlines("v2 resnet"), size) for size in (513, 384, 256))
    assert round(total / 1e9, 3) == 344.876


@pytest.mark.slow
def test_v1_has_the_rates_of_its_sheet(outlines):
    body = {name: 2 if name.startswith("conv5") else 1 for name in rates(outlines("v1 7x7")) if name != "fc6"}
    for name, fc6 in {"v1 7x7": 4, "v1 4x4": 4, "v1 4x4 large": 8, "v1 large fov": 12}.items():
        assert rates(outlines(name)) == {**body, "fc6": fc6}
    assert len(body) == 13
    sizes = [outlines(name).compute_output_shape((1, size, size, 3))[1] for name in COUNTS for size in (321, 320)]
    assert sizes == [41, 41] * len(COUNTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1 resnet", "v2 resnet"])
def test_resnet_has_the_rates_of_its_sheet(outlines, name):
    """2 and 4 without unit rates: those are of v3."""
    found = rates(outlines(name))
    stages = {stage: {rate for name, rate in found.items() if name.startswith(stage)} for stage in ("layer3", "layer4")}
    assert stages == {"layer3": {2}, "layer4": {4}}
    pyramid = [rate for name, rate in found.items() if name.startswith("logits")]
    assert pyramid == ([6, 12, 18, 24] if name == "v2 resnet" else [])


@pytest.mark.slow
def test_a_larger_output_stride_divides_the_rates(small):
    for output_stride, expected in [(8, 12), (16, 6), (32, 3)]:
        model = keras_deeplab.DeepLabV1(small, output_stride=output_stride, filters=4)
        assert model.get_layer("fc6").dilation_rate == (expected, expected)
    model = keras_deeplab.DeepLabV2(small, output_stride=16)
    assert [model.get_layer(f"logits_{branch}").dilation_rate[0] for branch in (1, 2, 3, 4)] == [3, 6, 9, 12]
    # 6 is 1.5 at 32, so there only rates of one's own will do.
    with pytest.raises(ValueError, match=r"A rate of 6 belongs to output stride 8 .* at 32 \(1\.5\)"):
        keras_deeplab.DeepLabV2(small, output_stride=32)
    model = keras_deeplab.DeepLabV2(small, output_stride=32, atrous_rates=(1, 2))
    assert [model.get_layer(f"logits_{branch}").dilation_rate[0] for branch in (1, 2)] == [1, 2]


@pytest.mark.slow
def test_v2_on_vgg_has_wide_branches_and_one_of_them_is_v1():
    names = {layer.name for layer in outline(keras_deeplab.DeepLabV2, backbone="vgg11").layers}
    assert {"fc6_1", "fc7_1", "logits_1", "fc6_4", "logits_sum"} <= names
    single = outline(keras_deeplab.DeepLabV2, backbone="vgg11", atrous_rates=(12,))
    assert single.get_layer("fc6_1").filters == 1024
    assert "logits_sum" not in {layer.name for layer in single.layers}


# The head -----------------------------------------------------------------------------------------------------


def head(variant, channels, filters, rate):
    inputs = keras.Input((None, None, channels))
    kernel_size = large_fov.VARIANTS[variant][0]
    x = large_fov.fully_connected(inputs, kernel_size=kernel_size, dilation_rate=rate, filters=filters)
    return keras.Model(inputs, x)


def fill(model, arrays):
    for variable in model.weights:
        variable.assign(arrays[variable.path])
    return model


def fully_connected(channels=3, filters=10, seed=0):
    """Weights of a classifier's fc6 and fc7 in Keras's layout."""
    rng = np.random.default_rng(seed)
    shapes = [(49 * channels, filters), (filters,), (filters, filters), (filters,)]
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


@pytest.mark.slow
def test_fc6_as_a_convolution_is_the_classifiers_fc6():
    """On a 7x7 map the dense layers of keras.applications and torchvision, as they flatten it, see what the kernel's
    centre sees."""
    weights = fully_connected()
    features = np.random.default_rng(1).standard_normal((1, 7, 7, 3)).astype("float32")
    dense = np.maximum(features.reshape(1, -1) @ weights[0] + weights[1], 0)
    expected = np.maximum(dense @ weights[2] + weights[3], 0)
    model = head("7x7", 3, 10, rate=1)
    arrays = keras_deeplab.convert_fully_connected(*weights, "7x7")
    assert_close(call(fill(model, arrays), features)[:, 3, 3], expected)

    # torch: (outputs, inputs), and the inputs are flattened channels first
    torch_fc6, torch_fc7 = np.random.default_rng(2).standard_normal((10, 3 * 49)), weights[2].T
    dense = np.maximum(torch_fc6 @ features.transpose(0, 3, 1, 2).reshape(-1) + weights[1], 0)
    expected = np.maximum(torch_fc7 @ dense + weights[3], 0)
    for fc6, fc7 in [(torch_fc6, torch_fc7), (torch_fc6.reshape(10, 3, 7, 7), torch_fc7[:, :, None, None])]:
        arrays = keras_deeplab.convert_fully_connected(fc6, weights[1], fc7, weights[3], "7x7", layout="torch")
        assert_close(call(fill(model, arrays), features)[0, 3, 3], expected)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["4x4_large", "large_fov"])
def test_decimation_keeps_the_positions_where_they_were(variant):
    """A 7x7 fc6 that is zero where the decimated one has no tap computes the same, at 4 times the variant's step."""
    size, rate, *_ = large_fov.VARIANTS[variant]
    fc6, *others = fully_connected()
    kept = np.zeros((7, 7))
    kept[:: rate // 4, :: rate // 4] = 1
    assert kept.sum() == size**2
    fc6 = (fc6.reshape(7, 7, 3, 10) * kept[..., None, None]).astype("float32")
    features = np.random.default_rng(1).standard_normal((1, 20, 31, 3)).astype("float32")
    whole = fill(head("7x7", 3, 10, rate=4), keras_deeplab.convert_fully_connected(fc6, *others, "7x7"))
    decimated = fill(head(variant, 3, 10, rate=rate), keras_deeplab.convert_fully_connected(fc6, *others, variant))
    assert_close(call(decimated, features), call(whole, features))


def test_a_narrower_head_has_a_subset_of_the_filters_in_both_layers():
    fc6, bias6, fc7, bias7 = fully_connected()
    arrays = keras_deeplab.convert_fully_connected(fc6, bias6, fc7, bias7, filters=6)
    kept = [bias6.tolist().index(value) for value in arrays["fc6/bias"]]
    assert sorted(set(kept)) == kept
    assert kept != list(range(6))
    np.testing.assert_array_equal(arrays["fc6/kernel"], fc6.reshape(7, 7, 3, 10)[::3, ::3][..., kept])
    np.testing.assert_array_equal(arrays["fc7/kernel"], fc7[kept][:, kept][None, None])
    np.testing.assert_array_equal(arrays["fc7/bias"], bias7[kept])
    again = keras_deeplab.convert_fully_connected(fc6, bias6, fc7, bias7, filters=6)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)
    others = [keras_deeplab.convert_fully_connected(fc6, bias6, fc7, bias7, filters=6, seed=seed) for seed in (1, 2, 3)]
    assert any(not np.array_equal(arrays["fc6/bias"], other["fc6/bias"]) for other in others)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "5x5"}, r"Unknown variant of fc6 '5x5'.*4x4, 4x4_large, 7x7, large_fov"),
        ({"layout": "caffe"}, "layout must be 'keras' or 'torch'; received 'caffe'"),
        ({"layout": "torch"}, r"layout='torch'.*\(4096, 25088\).*received \(147, 10\), \(10,\), \(10, 10\), \(10,\)"),
        ({"fc7_kernel": np.zeros((10, 4))}, r"received \(147, 10\), \(10,\), \(10, 4\)"),
        ({"fc7_bias": np.zeros(4)}, r"received .*\(4,\)\."),
        ({"filters": 11}, "filters=11 can't be taken from the 10"),
    ],
)
def test_arrays_of_other_layers_are_refused(changes, message):
    names = ("fc6_kernel", "fc6_bias", "fc7_kernel", "fc7_bias")
    with pytest.raises(ValueError, match=message):
        keras_deeplab.convert_fully_connected(**{**dict(zip(names, fully_connected(), strict=True)), **changes})


def test_pool5a_counts_the_padding():
    model = keras_deeplab.DeepLabV1("vgg11_caffe", filters=2, num_classes=2)
    averaged = keras.Model(model.get_layer("pool5").output, model.get_layer("pool5a").output)
    means = call(averaged, np.ones((1, 4, 5, 512), "float32"))[0, :, :, 0]
    np.testing.assert_allclose(means[0], [4 / 9, 6 / 9, 6 / 9, 6 / 9, 4 / 9], rtol=1e-6)
    np.testing.assert_allclose(means[1:3, 1:4], 1, rtol=1e-6)
    names = {layer.name for layer in outline(keras_deeplab.DeepLabV1, backbone="vgg11_caffe", variant="4x4").layers}
    assert not any(name.startswith("pool5a") for name in names)


@pytest.mark.slow
def test_without_fully_connected_layers_one_classifier_stays(small):
    model = keras_deeplab.DeepLabV1(small, variant=None, num_classes=4, upsample_logits=False)
    assert [layer.name for layer in model.layers if "fc" in layer.name] == []
    assert model.get_layer("logits").kernel.shape == (1, 1, 16, 4)
    assert call(model, pixels(33, 49)).shape == (1, 5, 7, 4)


@pytest.mark.slow
def test_a_vgg_of_keras_applications_takes_the_place_of_ours():
    classifier = keras.applications.VGG16(weights=None, include_top=False, input_shape=(None, None, 3))
    model = outline(keras_deeplab.DeepLabV1, backbone=classifier, filters=8, num_classes=2)
    assert {model.get_layer(f"block5_conv{index}").dilation_rate for index in (1, 2, 3)} == {(2, 2)}
    assert model.compute_output_shape((1, 65, 97, 3)) == (1, 65, 97, 2)


# The branches of v1 -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def branched():
    """A small v1 with branches, by form, all of the same weights."""
    built = {}

    def get(form, **settings):
        key = (form, *settings.items())
        if key not in built:
            built[key] = keras_deeplab.DeepLabV1(
                "vgg11_caffe",
                num_classes=3,
                filters=8,
                multi_scale_features=form,
                include_preprocessing=False,
                **settings,
            )
            if len(built) == 1:
                randomise(built[key])
            else:
                built[key].set_weights(next(iter(built.values())).get_weights())
        return built[key]

    return get


def images(height, width):
    return np.random.default_rng(1).uniform(-1, 1, (1, height, width, 3)).astype("float32")


@pytest.mark.slow
def test_branches_add_what_the_paper_concatenates(branched):
    """v1, section 4.3: 640 more channels for the classifier."""
    model = branched(True, upsample_logits=False)
    names = [name for name, _ in large_fov.BRANCHES]
    ends = [model.get_layer(f"{name}_fc_dropout").output for name in names]
    concatenated = keras.layers.Concatenate()([model.get_layer("fc7_dropout").output, *ends])
    assert concatenated.shape[-1] == 8 + 640
    x = images(65, 97)
    features = call(keras.Model(model.input, concatenated), x)
    classifiers = [model.get_layer(name) for name in ("logits", *(f"{name}_ms" for name in names))]
    kernel = np.concatenate([keras.ops.convert_to_numpy(layer.kernel)[0, 0] for layer in classifiers])
    bias = sum(keras.ops.convert_to_numpy(layer.bias) for layer in classifiers)
    assert_close(call(model, x), features @ kernel + bias)
    assert [model.get_layer(f"{name}_conv").strides[0] for name in names] == [8, 4, 2, 1, 1]


@pytest.mark.slow
def test_branches_computed_densely_are_the_same_where_they_were(branched):
    """The release trains them at the logits' stride and tests them at their own."""
    x = images(65, 97)
    strided, dense = call(branched(True, upsample_logits=False), x), call(branched("dense"), x)
    assert dense.shape == (1, 65, 97, 3)
    assert_close(dense[:, ::8, ::8], strided)
    between = call(branched(True), x)
    assert_close(between[:, ::8, ::8], strided)
    assert np.abs(between - dense).max() > 1e-2 * np.abs(dense).max()


@pytest.mark.slow
def test_branches_of_another_size_are_resized_to_the_logits(branched):
    x = images(64, 72)
    assert call(branched(True, upsample_logits=False), x).shape == (1, 9, 10, 3)
    assert call(branched(True), x).shape == call(branched("dense"), x).shape == (1, 64, 72, 3)


@pytest.mark.slow
def test_the_first_branch_sees_the_normalised_image(branched):
    x = pixels(33, 41)
    model = keras_deeplab.DeepLabV1("vgg11_caffe", num_classes=3, filters=8, multi_scale_features=True)
    model.set_weights(branched(True).get_weights())
    normalised = (x[..., ::-1] - np.array(preprocessing.DEEPLAB_CAFFE_MEAN)).astype("float32")
    assert_close(call(model, x), call(branched(True), normalised))


# The scales of v2 ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("align_corners", [True, False])
def test_the_largest_score_over_the_scales_counts(small, align_corners):
    settings = {"num_classes": 4, "upsample_logits": False, "align_corners": align_corners}
    single = randomise(keras_deeplab.DeepLabV2(small, **settings))
    model = keras_deeplab.DeepLabV2(small, multi_scale=True, **settings)
    assert [v.path for v in model.weights] == [v.path for v in single.weights]
    assert len({id(v) for v in model.variables}) == len(model.variables) == len(single.variables)
    model.set_weights(single.get_weights())
    for size in [(65, 97), (64, 91)]:
        x = pixels(*size)
        terms = [call(single, x)]
        for scale in (0.75, 0.5):
            scores = single(ScaleBilinear(scale, align_corners)(x))
            terms.append(call(keras_deeplab.layers.ResizeBilinear(align_corners), [scores, terms[0]]))
        expected = np.max(terms, axis=0)
        assert all((expected == term).any() for term in terms)
        np.testing.assert_allclose(call(model, x), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_the_scales_take_an_input_of_fixed_size(small):
    dynamic = randomise(keras_deeplab.DeepLabV2(small, multi_scale=True, num_classes=3))
    fixed = keras_deeplab.DeepLabV2(small, multi_scale=True, num_classes=3, input_shape=(40, 51, 3))
    fixed.set_weights(dynamic.get_weights())
    assert fixed.output_shape == (None, 40, 51, 3)
    x = pixels(40, 51, batch=2)
    assert_close(call(fixed, x), call(dynamic, x))


# ScaleBilinear ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 0.75, 0.6, 1.25, 2])
@pytest.mark.parametrize("size", [(129, 161), (128, 160), (5, 4)])
def test_scaling_is_that_of_torch(scale, size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, *size, 3))
    expected = torch.nn.functional.interpolate(
        torch.tensor(x.transpose(0, 3, 1, 2)), scale_factor=scale, mode="bilinear", align_corners=False
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    layer = ScaleBilinear(scale, align_corners=False)
    np.testing.assert_allclose(call(layer, x.astype("float32")), expected, atol=1e-6)
    assert layer.compute_output_shape((2, *size, 3)) == expected.shape
    assert layer.compute_output_shape((2, None, size[1], 3)) == (2, None, expected.shape[2], 3)


def test_scaling_with_corners_aligned_takes_the_positions_of_caffe():
    """0.75 in the release: three times as many steps between pixels, of which every fourth is kept."""
    x = np.random.default_rng(0).standard_normal((1, 21, 13, 2)).astype("float32")
    reference = np.zeros((1, 61, 37, 1))
    finer = call(keras_deeplab.layers.ResizeBilinear(align_corners=True), [x, reference])
    np.testing.assert_allclose(call(ScaleBilinear(0.75), x), finer[:, ::4, ::4], atol=1e-5)
    np.testing.assert_array_equal(call(ScaleBilinear(0.5), x), x[:, ::2, ::2])


def test_scaling_at_unknown_sizes_in_a_graph():
    import tensorflow as tf

    x = np.random.default_rng(0).integers(0, 256, (1, 37, 52, 3)).astype("uint8")
    for align_corners in (True, False):
        layer = ScaleBilinear(0.75, align_corners)
        traced = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
        np.testing.assert_array_equal(traced(x).numpy(), call(layer, x))


def test_scaling_in_half_precision_rounds_once():
    x = np.random.default_rng(0).uniform(0, 255, (1, 37, 52, 3)).astype("float16")
    half = call(ScaleBilinear(0.75, dtype="float16"), x)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, call(ScaleBilinear(0.75), x.astype("float32")).astype("float16"))


@pytest.mark.parametrize("scale", [0, -1, "0.5", None, True, float("inf"), float("nan")])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(ValueError, match="`scale` must be a number"):
        ScaleBilinear(scale)


def test_a_map_that_vanishes_is_refused():
    with pytest.raises(ValueError, match=r"1x5 has nothing left at scale 0\.5"):
        ScaleBilinear(0.5, align_corners=False)(np.zeros((1, 1, 5, 3), "float32"))
    assert ScaleBilinear(0.5)(np.zeros((1, 1, 5, 3), "float32")).shape == (1, 1, 3, 3)


# Both ---------------------------------------------------------------------------------------------------------

SMALL = {
    "v1": (keras_deeplab.DeepLabV1, {"filters": 4}),
    "v2": (keras_deeplab.DeepLabV2, {"filters": 4}),
    "v2 scores": (keras_deeplab.DeepLabV2, {}),
    "v2 scales": (keras_deeplab.DeepLabV2, {"multi_scale": True}),
}


def build(name, small, **settings):
    builder, own = SMALL[name]
    return builder(small, num_classes=5, **own, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_predict_takes_several_sizes_in_a_row(small, name):
    model = build(name, small)
    for size in [(33, 47), (64, 64), (2, 5)]:
        logits = model.predict(pixels(*size), verbose=0)
        assert logits.shape == (1, *size, 5)
        assert logits.dtype == np.float32
        assert np.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_model_saves_and_reloads(small, name, tmp_path):
    model = randomise(build(name, small))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = pixels(40, 51)
    np.testing.assert_array_equal(call(again, x), call(model, x))
    assert [v.path for v in again.weights] == [v.path for v in model.weights]
    # a fresh one takes them as weights
    fresh = build(name, small, weights=tmp_path / "model.keras")
    np.testing.assert_array_equal(call(fresh, x), call(model, x))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_mixed_precision_keeps_float32_logits_near_the_float32_ones(name):
    reference = randomise(build(name, small_classifier()))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(name, small_classifier())
        model.set_weights(reference.get_weights())
        x = pixels(65, 65)
        expected, got = call(reference, x), call(model, x)
        assert got.dtype == np.float32
        assert 0 < np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_trainable_variable(name):
    import tensorflow as tf

    model = randomise(build(name, small_classifier()))
    x, labels = pixels(65, 65, batch=2), np.zeros((2, 65, 65), "int32")
    with tf.GradientTape() as tape:
        logits = model(x / np.float32(255), training=True)
        loss = keras_deeplab.training.losses.SparseCategoricalCrossentropy()(labels, logits)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    pairs = zip(model.trainable_variables, gradients, strict=True)
    assert [v.path for v, g in pairs if g is None or not np.abs(g.numpy()).max() > 0] == []


def test_dropout_is_at_work_in_training_alone(small):
    model = randomise(build("v1", small))
    x = pixels(33, 33)
    assert np.abs(keras.ops.convert_to_numpy(model(x, training=True)) - call(model, x)).max() > 0
    assert [model.get_layer(f"{name}_dropout").rate for name in ("fc6", "fc7")] == [0.5, 0.5]
    assert keras_deeplab.DeepLabV1(small, filters=4, dropout=0.25).get_layer("fc6_dropout").rate == 0.25


@pytest.mark.parametrize(
    ("builder", "settings", "message"),
    [
        (keras_deeplab.DeepLabV1, {"variant": "large-fov"}, "Unknown variant of fc6 'large-fov': did you mean 'large_"),
        (keras_deeplab.DeepLabV1, {"output_stride": 12}, "output stride 12: its feature maps have strides 1, 2, 4, 8"),
        (keras_deeplab.DeepLabV2, {"output_stride": 64}, "output stride 64: its feature maps have strides 1, 2, 4, 8"),
        (keras_deeplab.DeepLabV1, {"multi_scale_features": "all"}, "False, True or 'dense'; received 'all'"),
        (keras_deeplab.DeepLabV1, {"multi_scale_features": True}, "'pool1' is no layer of 'small'"),
        (
            keras_deeplab.DeepLabV1,
            {"backbone": "resnet18", "multi_scale_features": True},
            "goes with the VGG backbones.*received 'resnet18'",
        ),
        (keras_deeplab.DeepLabV2, {"backbone": "vgg61"}, "Unknown backbone 'vgg61': did you mean 'vgg1"),
        (keras_deeplab.DeepLabV2, {"num_classes": 0}, "positive integer; received 0"),
    ],
)
def test_errors_tell_what_was_received_and_what_would_do(small, builder, settings, message):
    with pytest.raises(ValueError, match=message):
        builder(**{"backbone": small, **settings})


@pytest.mark.slow
def test_the_large_fov_network_is_that_of_caffe(shared):
    """Reference outputs of OpenCV's Caffe importer; other sources have their own importers and tests."""
    sys.path.insert(0, str(shared / "reference"))
    try:
        from synth import Fixture, compare
    finally:
        sys.path.pop(0)
    fixture = Fixture(shared / "reference" / "caffe__deeplabv1_vgg16_largefov__os8.npz")
    model = keras_deeplab.DeepLabV1(include_preprocessing=False, upsample_logits=False)
    arrays = fixture.state_dict()
    for variable in model.weights:
        layer, kind = variable.path.replace("logits", "fc8_voc12").split("/")
        array = arrays.pop(f"{layer}.{'weight' if kind == 'kernel' else 'bias'}")
        variable.assign(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)
    assert arrays == {}
    for size in fixture.sizes:
        logits = call(model, fixture.input(size).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        assert compare(fixture, size, logits) < 2e-5
