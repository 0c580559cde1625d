"""The law of the rewrite: the dense network, subsampled, is the classifier."""

import functools

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab import rewrite as rewrite_module
from keras_deeplab.rewrite import UNDILATED, atrous, taps

# Where all strides behind 8 are rates, those behind 16 are too: of most networks the denser one alone is looked at.
# network -> a size at which the law is exact: any where padding is explicit, and where "same" pads both sides alike
# (an odd map in front of every strided layer; Xception's stem cuts the border first)
LAWFUL = {
    "ResNet50": (97, 129),
    "ResNet50V2": (90, 129),
    "MobileNet": (97, 129),
    "MobileNetV2": (97, 129),
    "VGG16": (97, 129),
    "Xception": (103, 135),
    "DenseNet121": (97, 129),
    "ConvNeXtTiny": (97, 129),
}
# Squeeze and excitation averages over the dense map, and branches cut borders of their own: these only have to build.
BUILDING = {
    "EfficientNetV2B0": (8, 16),
    "MobileNetV3Large": (8, 16, 32),
    "NASNetMobile": (8,),  # of 769 layers
    "InceptionV3": (8, 32),
}


def network(name, **settings):
    shape = (224, 224, 3) if name.startswith("NASNet") else (None, None, 3)
    builder = getattr(keras.applications, name)
    return builder(**{"include_top": False, "weights": None, "input_shape": shape, **settings})


def images(height, width, seed=1):
    return np.random.default_rng(seed).uniform(0, 255, (1, height, width, 3)).astype("float32")


def relative_error(dense, natural, step):
    subsampled = dense[:, ::step, ::step]
    assert subsampled.shape == natural.shape
    return np.abs(subsampled - natural).max() / np.abs(natural).max()


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def in_float64(model):
    """The same network, computed in float64."""

    def clone(layer):
        config = layer.get_config()
        return type(layer).from_config(config | {"dtype": "float64"} if "dtype" in config else config)

    images = keras.Input(model.input.shape[1:], dtype="float64")
    exact = keras.models.clone_model(model, clone_function=clone, input_tensors=images)
    exact.set_weights([weights.astype("float64") for weights in model.get_weights()])
    return exact


@pytest.fixture(scope="module")
def resnet():
    return randomise(network("ResNet50"))


@pytest.fixture(scope="module")
def dense_resnet(resnet):
    """It at an output stride, made once."""
    return functools.cache(lambda output_stride: atrous(resnet, output_stride))


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWFUL)
def test_the_dense_network_subsampled_is_the_classifier(name):
    model = randomise(network(name))
    x = images(*LAWFUL[name])
    natural = call(model, x)
    if name == "MobileNetV2":
        # Float32 itself is 1e-4 off in this one, and batch norms behind a rewrite round otherwise: the law is of one
        # arithmetic in float32, and of the classifier itself in float64.
        natural, exact, precise = call(atrous(model, 32), x), in_float64(model), x.astype("float64")
    for output_stride in (8, 16) if name == "MobileNetV2" else (8,):
        dense, step = atrous(model, output_stride), 32 // output_stride
        assert relative_error(call(dense, x), natural, step) < 1e-5
        if name == "MobileNetV2":
            assert relative_error(call(atrous(exact, output_stride), precise), call(exact, precise), step) < 1e-9
        assert [(v.name, v.path, v.shape) for v in dense.weights] == [(v.name, v.path, v.shape) for v in model.weights]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDING)
def test_networks_with_global_context_or_branches_build_at_every_stride(name):
    model = network(name)
    for output_stride in BUILDING[name]:
        dense = atrous(model, output_stride)
        assert [(v.name, v.shape) for v in dense.weights] == [(v.name, v.shape) for v in model.weights]
        assert all(np.array_equal(a, b) for a, b in zip(dense.get_weights(), model.get_weights(), strict=True))
        assert list(taps(dense))[-1] == output_stride
        height = dense.compute_output_shape((1, 224, 224, 3))[1]
        # InceptionV3 pads nothing, so its map is smaller than the image by what its windows need.
        assert height == (224 // output_stride if name != "InceptionV3" else call(dense, images(224, 224)).shape[1])


@pytest.mark.slow
def test_inception_keeps_the_law_away_from_its_averaged_borders():
    model = randomise(network("InceptionV3"))
    # At this size every unpadded stride-2 window leaves nothing over.
    x = images(267, 267)
    natural = call(model, x)
    assert relative_error(call(atrous(model, 16), x), natural, 2) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (65, 65), (70, 99), (33, 128), (7, 5)])
def test_explicit_padding_keeps_the_law_at_any_size(resnet, dense_resnet, size):
    x = images(*size)
    natural = call(resnet, x)
    for output_stride in (4, 8, 16):
        assert relative_error(call(dense_resnet(output_stride), x), natural, 32 // output_stride) < 1e-5


@pytest.mark.slow
def test_a_dense_network_can_be_made_denser(dense_resnet):
    x = images(65, 97)
    once, twice = call(dense_resnet(8), x), call(atrous(dense_resnet(16), 8), x)
    assert np.abs(once - twice).max() <= 1e-5 * np.abs(once).max()


@pytest.mark.slow
def test_the_law_catches_a_rate_raised_one_convolution_early(resnet, dense_resnet):
    """The mistake it exists for: the first convolution of a dilated stage at the new rate instead of the old."""
    dense = dense_resnet(8)

    def mutate(layer):
        config = layer.get_config()
        if layer.name == "conv4_block1_2_conv":
            assert tuple(config["dilation_rate"]) == (2, 2)
            config["dilation_rate"] = (4, 4)
        return type(layer).from_config(config)

    mutated = keras.models.clone_model(dense, clone_function=mutate)
    mutated.set_weights(dense.get_weights())
    x = images(97, 129)
    natural = call(resnet, x)
    assert relative_error(call(dense, x), natural, 4) < 1e-5
    assert relative_error(call(mutated, x), natural, 4) > 1e-2


@pytest.mark.slow
def test_rates_and_strides_of_a_dense_resnet(dense_resnet):
    dense = dense_resnet(8)
    rates = {
        name: tuple(dense.get_layer(name).dilation_rate)
        for name in ("conv3_block4_2_conv", "conv4_block1_2_conv", "conv5_block1_2_conv", "conv5_block3_2_conv")
    }
    # keras.applications strides in the 1x1 convolution before, so the first 3x3 of a stage already has the new rate.
    assert list(rates.values()) == [(1, 1), (2, 2), (4, 4), (4, 4)]
    strided = [layer.name for layer in dense.layers if getattr(layer, "strides", (1, 1))[0] > 1]
    assert len(strided) == 4
    assert set(strided) == {"conv1_conv", "pool1_pool", "conv3_block1_0_conv", "conv3_block1_1_conv"}


@pytest.mark.slow
def test_the_original_stays_as_it_is(resnet):
    before = [value.copy() for value in resnet.get_weights()]
    dense = atrous(resnet, 16)
    for variable in dense.weights:
        variable.assign(keras.ops.zeros_like(variable))
    assert all(np.array_equal(a, b) for a, b in zip(before, resnet.get_weights(), strict=True))
    assert resnet.compute_output_shape((1, 64, 64, 3)) == (1, 2, 2, 2048)


def test_the_padding_may_stand_some_pointwise_layers_before_its_convolution():
    """As in the torch MobileNetV2 of one source: the zeros pass expansion, batch norm and ReLU6 first."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 2, padding="same")(inputs)
    for stride in (2, 2, 1):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(16, 1)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU(6.0)(x)
        x = keras.layers.DepthwiseConv2D(3, stride)(x)
    model = randomise(keras.Model(inputs, x))
    for size in [(33, 49), (35, 41)]:
        x = images(*size)
        natural = call(model, x)
        assert relative_error(call(atrous(model, 2), x), natural, 4) < 1e-5


def test_unusual_windows():
    """Even kernels, dilations of their own, oblong kernels, poolings of every padding, cropping, nested models."""
    inputs = keras.Input((None, None, 3))
    inner_in = keras.Input((None, None, 6))
    inner = keras.Model(inner_in, keras.layers.Conv2D(6, 5, 2, padding="same")(inner_in), name="inner")
    x = keras.layers.Conv2D(6, 3, 2, padding="same")(inputs)
    x = inner(x)
    x = keras.Sequential([keras.layers.MaxPooling2D(3, 2, padding="same"), keras.layers.Conv2D(6, 4, padding="same")])(
        x
    )
    x = keras.layers.Conv2D(6, (1, 7), padding="same")(x)
    x = keras.layers.Conv2D(6, 3, dilation_rate=2, padding="same")(x)
    x = keras.layers.AveragePooling2D(3, 2, padding="same")(x)
    x = keras.layers.SeparableConv2D(6, 3, padding="same")(x)
    x = keras.layers.ZeroPadding2D(((2, 1), (0, 3)))(x)
    x = keras.layers.Cropping2D(((1, 1), (0, 2)))(x)
    x = keras.layers.AveragePooling2D(2, 1, padding="same")(x)
    x = keras.layers.MaxPooling2D(2, 1)(x)
    model = randomise(keras.Model(inputs, x))
    x = images(97, 129)
    natural = call(model, x)
    for output_stride in (2, 4, 8):
        assert relative_error(call(atrous(model, output_stride), x), natural, 16 // output_stride) < 1e-5


def staged(stages=(2, 2, 2)):
    """A stem at stride 2, then stages of three 3x3 convolutions whose first has the stride, as torch networks do."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="stem")(inputs)
    for stage, stride in enumerate(stages, start=1):
        for unit in range(3):
            x = keras.layers.ZeroPadding2D(1)(x)
            x = keras.layers.Conv2D(4, 3, stride if unit == 0 else 1, name=f"stage{stage}_{unit}")(x)
    return randomise(keras.Model(inputs, x))


def rates(model, stage):
    return [model.get_layer(f"stage{stage}_{unit}").dilation_rate[0] for unit in range(3)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # stages 2 and 3 lose a stride of 2 each
        ({}, ([1, 2, 2], [2, 4, 4])),
        ({"strided_rate": "new"}, ([2, 2, 2], [4, 4, 4])),
        # Of the old stage, the strided convolution of stage 3 has no unit rate, so two units are left.
        ({"multi_grid": (1, 2)}, ([1, 2, 2], [2, 4, 8])),
        ({"strided_rate": "new", "multi_grid": (1, 2, 4)}, ([2, 2, 2], [4, 8, 16])),
        ({"strided_rate": "new", "multi_grid": (1, 2, 4), "multi_grid_from": 8}, ([2, 4, 8], [4, 8, 16])),
        ({"contracted": ("stage3_0", "stage3_1", "stage2_0")}, ([1, 2, 2], [1, 2, 4])),
        ({"contracted": {"stage3_1": UNDILATED, "stage2_1": 1}}, ([1, 2, 2], [2, 1, 4])),
    ],
)
def test_flavours_of_dilation(settings, expected):
    model = staged()
    dense = atrous(model, 4, **settings)
    assert (rates(dense, 2), rates(dense, 3)) == expected
    x = images(40, 51)
    assert call(dense, x).shape == (1, 10, 13, 4)  # whatever the rates, the padding goes with them
    lawful = settings == {}
    assert (relative_error(call(dense, x), call(model, x), 4) < 1e-5) == lawful


def strided_twice():
    x = inputs = keras.Input((None, None, 3))
    for stage in (1, 2):
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"pad{stage}")(x)
        x = keras.layers.Conv2D(4, 3, 2, name=f"strided{stage}")(x)
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv{stage}")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(("centred", "padding"), [(False, ((0, 4), (0, 4))), (True, ((2, 2), (2, 2)))])
def test_what_lost_its_stride_is_padded_as_before_or_alike_on_all_sides(centred, padding):
    dense = atrous(strided_twice(), 2, strided_rate="new", centred=centred)
    assert dense.get_layer("pad1").padding == ((0, 1), (0, 1))
    assert dense.get_layer("pad2").padding == padding
    assert dense.get_layer("strided2").dilation_rate == (2, 2)


@pytest.mark.parametrize(("output_stride", "rates"), [(4, (1, 1)), (2, (2, 2)), (1, (4, 4))])
def test_layers_ahead_run_at_the_rate_of_the_next_stage(output_stride, rates):
    dense = atrous(strided_twice(), output_stride, ahead=("conv1",))
    assert tuple(dense.get_layer(f"conv{stage}").dilation_rate[0] for stage in (1, 2)) == rates
    with pytest.raises(ValueError, match="ahead names 'conv3'"):
        atrous(strided_twice(), output_stride, ahead=("conv3",))


def test_a_dropped_pooling_goes_away_with_its_stride_and_stays_where_it_keeps_it():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.AveragePooling2D(2, 2, padding="same", name="first")(inputs)
    x = keras.layers.AveragePooling2D(2, 2, padding="same", name="second")(x)
    model = randomise(keras.Model(inputs, keras.layers.Conv2D(4, 1, name="conv")(x)))
    dense = atrous(model, 2, dropped=("first", "second"))
    assert [type(dense.get_layer(name)).__name__ for name in ("first", "second")] == ["AveragePooling2D", "Identity"]
    x = images(9, 12)
    expected = model.get_layer("conv")(model.get_layer("first")(x))
    np.testing.assert_allclose(call(dense, x), keras.ops.convert_to_numpy(expected), atol=1e-6)
    with pytest.raises(ValueError, match="dropped names 'third'"):
        atrous(model, 2, dropped=["third"])


def test_unit_rates_of_a_stage_that_keeps_its_stride():
    dense = atrous(staged(), 16, multi_grid=(1, 2, 4), strided_rate="new")
    assert rates(dense, 3) == [1, 2, 4]
    with pytest.raises(ValueError, match=r"'stage3_0'.*rate 2 and it keeps its stride 2"):
        atrous(staged(), 16, multi_grid=(2, 2, 2), strided_rate="new")


def test_a_pooling_that_rounds_up_keeps_its_grid():
    """Caffe's 3x3 pooling rounds the size up; without its stride it keeps the size, as in DeepLab v1."""
    inputs = keras.Input((None, None, 3))
    x = inputs
    for _ in range(3):
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = keras.layers.ZeroPadding2D(((1, 2), (1, 2)))(x)
        x = keras.layers.MaxPooling2D(3, 2)(x)
    model = randomise(keras.Model(inputs, x))
    for size in [(33, 49), (32, 50), (31, 35)]:
        x = images(*size)
        dense = call(atrous(model, 2), x)
        natural = call(model, x)
        assert dense.shape[1:3] == tuple(n // 2 + 1 for n in size)
        assert natural.shape[1:3] == tuple(((n // 2 + 1) // 2 + 1) // 2 + 1 for n in size)
        step = dense[:, ::4, ::4]
        common = natural[:, : step.shape[1], : step.shape[2]]
        # A row that rounding up added looks beyond the dense map's border; all others are the same.
        assert np.abs(step - common)[:, :-1, :-1].max() <= 1e-5 * np.abs(natural).max()


def test_taps_name_the_last_map_of_each_stride(resnet):
    assert taps(resnet) == {
        1: resnet.layers[0].name,
        2: "conv1_relu",
        4: "conv2_block3_out",
        8: "conv3_block4_out",
        16: "conv4_block6_out",
        32: "conv5_block3_out",
    }
    assert taps(keras.applications.MobileNet(weights=None))[32] == "conv_pw_13_relu"


@keras.saving.register_keras_serializable("tests")
class Blur(keras.layers.Layer):
    """A subclassed block that mixes neighbours, which no setting of it can dilate."""

    def call(self, x):
        return keras.ops.average_pool(x, 3, 1, "same")


@keras.saving.register_keras_serializable("tests")
class Gate(keras.layers.Layer):
    """A subclassed block that looks at one position."""

    def call(self, x):
        return x * keras.ops.sigmoid(x)


def strided_then(*layers):
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(inputs)
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(x)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def test_a_custom_pointwise_layer_and_operators_pass():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(inputs)
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(x)
    x = keras.ops.relu(Gate()(x) * 2.0 + 1.0)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    model = randomise(keras.Model(inputs, x))
    x = images(65, 65)
    assert relative_error(call(atrous(model, 1), x), call(model, x), 4) < 1e-5


@pytest.mark.parametrize(
    ("model", "output_stride", "message"),
    [
        (lambda: strided_then(Blur(name="blurred")), 2, "'blurred'.*mixes neighbouring positions"),
        (lambda: strided_then(keras.layers.UpSampling2D(name="up")), 2, "'up'.*changes the size"),
        (lambda: strided_then(keras.layers.Conv2DTranspose(3, 2, 2, name="up")), 2, "'up'.*changes the size"),
        (lambda: strided_then(keras.layers.Flatten(name="flat")), 2, "'flat'.*gives up the feature map"),
        (lambda: strided_then(keras.layers.Conv2D(3, 3, (2, 1), name="oblong")), 2, "'oblong'.*differ by axis"),
        (lambda: strided_then(keras.layers.PReLU(name="slopes")), 2, "slopes.*depends on the size"),
        (lambda: strided_then(), 8, "can't have output stride 8: its feature maps have strides 1, 2, 4"),
        (lambda: strided_then(), 3, "output stride 3"),
        (lambda: strided_then(), 0, "positive integer"),
        (lambda: strided_then(), "8", "positive integer"),
        (lambda: keras.layers.Dense(3, name="dense"), 8, "functional keras.Models; received Dense 'dense'"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_by_name(model, output_stride, message):
    with pytest.raises(ValueError, match=message):
        atrous(model(), output_stride)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strided_rate": "newer"}, "must be 'old' or 'new'; received 'newer'"),
        ({"contracted": ["stage3_0", "stage9_0"]}, "contracted names 'stage9_0'"),
        ({"multi_grid": (1, 2, 4)}, "3 unit rates; .* hold 2 spatial convolutions"),
    ],
)
def test_flavours_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        atrous(staged(), 4, **settings)


def test_a_padding_that_two_layers_need_differently_is_refused_by_name():
    images = keras.Input((None, None, 3))
    padded = keras.layers.ZeroPadding2D(1, name="padded")(keras.layers.Conv2D(3, 3, 2, padding="same")(images))
    strided = [keras.layers.Conv2D(3, 3, stride, name=f"by_{stride}")(padded) for stride in (1, 2)]
    model = keras.Model(images, strided)
    assert atrous(model, 2).get_layer("padded").padding == ((1, 1), (1, 1))
    with pytest.raises(ValueError, match=r"'padded'.*it feeds 'by_2' and another layer, and they need different"):
        rewrite_module.rewrite(model, 2, strided_rate="new")


def test_a_layer_used_twice_is_refused_by_name():
    inputs = keras.Input((32, 32, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    model = keras.Model(inputs, shared(keras.layers.MaxPooling2D()(shared(inputs))))
    with pytest.raises(ValueError, match=r"'shared'.*more than once"):
        atrous(model, 1)


def test_a_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="functional"):
        atrous(Subclassed(), 8)


def test_the_module_is_the_function_too():
    model = strided_then()
    assert keras_deeplab.atrous(model, 2).output_shape == atrous(model, 2).output_shape == (None, 32, 32, 4)


# The parts by themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_on_the_dense_grid_follows_from_the_sizes(span, stride):
    """A window keeps the size where no multiple of the stride loses a position and none that is one larger gains one
    beyond its own."""
    for before in range(4):
        for behind in range(4):

            def outputs(size, padding=before + behind):
                return (size + padding - span - 1) // stride + 1

            keeps = outputs(20 * stride) >= 20 and outputs(20 * stride + 1) <= 21
            for rate in (1, 2, 5):
                expected = [rate * before, rate * (span - before) if keeps else rate * behind]
                assert rewrite_module._dense_padding((before, behind), span, stride, rate) == expected
                centred = rewrite_module._centred_padding((before, behind), span, stride, rate)
                total = rate * span
                assert centred == ([total // 2, -(-total // 2)] if sum(expected) == total else expected)


class Neighbours(keras.layers.Layer):
    def call(self, x):
        return x + keras.ops.roll(x, 1, 2)


class Failing(keras.layers.Layer):
    def call(self, x):
        raise RuntimeError("no numbers here")

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape)


@pytest.mark.parametrize(
    ("layer", "reach"),
    [
        (keras.layers.Activation("tanh"), "point"),
        (keras.layers.Softmax(axis=-1), "point"),
        (keras.layers.Softmax(axis=(1, 2)), "global"),
        (keras.layers.GlobalAveragePooling2D(keepdims=True), "none"),
        (keras.layers.GlobalAveragePooling2D(), "it gives up the feature map's two dimensions"),
        (keras.layers.UpSampling2D(2), "it changes the size of the feature map"),
        (Neighbours(), "it mixes neighbouring positions in a way of its own"),
        (Failing(), "it failed on an example"),
    ],
)
def test_how_far_a_layer_reaches_is_found_by_experiment(layer, reach):
    inputs = keras.Input((None, None, 3))
    layer(inputs)
    found = rewrite_module._reach(layer)
    assert found == reach or (reach.startswith("it failed") and found.startswith(reach))


@pytest.mark.parametrize(
    ("layer", "ratio"),
    [
        (keras.layers.MaxPooling2D(2), 2),
        (keras.layers.MaxPooling2D(3, 3), 3),
        (keras.layers.Conv2D(2, 5), 1),  # which cuts a border
        (keras.layers.UpSampling2D(2), 0.5),
        (keras.layers.UpSampling2D((4, 4)), 0.25),
        (keras.layers.GlobalAveragePooling2D(keepdims=True), None),
        (keras.layers.Flatten(), None),
    ],
)
def test_by_how_much_a_layer_divides_the_size(layer, ratio):
    layer(keras.Input((64, 64, 3) if isinstance(layer, keras.layers.Flatten) else (None, None, 3)))
    assert rewrite_module._size_ratio(layer) == ratio


def test_strides_and_unit_rates_are_checked_and_counted():
    assert rewrite_module.Grid() == rewrite_module.Grid(1, 1, frozenset())
    assert rewrite_module.Grid(8, 4).natural_stride == 32
    assert rewrite_module._unit_rates(None) == (1,)
    assert rewrite_module._unit_rates([1, np.int64(2)]) == (1, 2)
    for wrong in ((), (0,), (1, -2), (True, 2), (1.5,), 2, "12"):
        with pytest.raises(ValueError, match="multi_grid must be None or positive integers"):
            rewrite_module._unit_rates(wrong)
    model = staged()
    for wrong in (0, -8, True, 2.0, "8"):
        with pytest.raises(ValueError, match="output_stride must be a positive integer"):
            atrous(model, wrong)
    assert rates(atrous(model, np.int64(2)), 3) == [4, 8, 8]


def test_fresh_weights_are_other_ones_and_an_entry_stands_before_the_network():
    model = staged()
    inputs = keras.Input((None, None, 3))
    dense = rewrite_module.rewrite(model, 4, inputs=[inputs], entry=lambda x: x * 0.5, fresh=False)
    x = images(40, 51)
    assert dense.inputs[0] is inputs
    np.testing.assert_allclose(call(dense, x), call(atrous(model, 4), x / 2), rtol=1e-4, atol=1e-4)
    same = rewrite_module.rewrite(model, None)
    np.testing.assert_array_equal(call(same, x), call(model, x))
    fresh = rewrite_module.rewrite(model, 4, fresh=True)
    kernels = [each.get_layer("stage1_1").get_weights()[0] for each in (model, dense, fresh)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.01
    assert [v.path for v in fresh.weights] == [v.path for v in model.weights]
    with pytest.raises(ValueError, match="strided_rate must be 'old' or 'new'; received 'newest'"):
        rewrite_module.rewrite(model, 4, strided_rate="newest")


def test_the_law_on_a_sequential_network_with_poolings_of_its_own():
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.ZeroPadding2D(1),
            keras.layers.Conv2D(4, 3, 2),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(3, 2, padding="same"),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.AveragePooling2D(2, 2),
            keras.layers.Conv2D(5, 1),
        ]
    )
    randomise(model)
    x = images(65, 81)
    natural = call(model, x)
    for output_stride in (2, 4):
        dense = atrous(model, output_stride)
        step = 8 // output_stride
        found = call(dense, x)[:, ::step, ::step][:, : natural.shape[1], : natural.shape[2]]
        np.testing.assert_allclose(found, natural, atol=1e-4)
        assert [tuple(v.shape) for v in dense.weights] == [tuple(v.shape) for v in model.weights]


def halved(*after):
    """A layer that halves the size in a way of its own, between a convolution and what comes after."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.ops.average_pool(x, 2, 2)
    for layer in after:
        x = layer(x)
    return randomise(keras.Model(inputs, x))


def test_a_layer_that_divides_the_size_in_a_way_of_its_own_keeps_its_stride_or_is_refused():
    model = halved(
        keras.layers.Conv2D(4, 3, padding="same"),
        keras.layers.Conv2D(4, 3, 2, padding="same", name="strided"),
        keras.layers.Conv2D(4, 3, padding="same", name="behind"),
    )
    assert list(taps(model)) == [1, 2, 4]
    dense = atrous(model, 2)
    assert dense.get_layer("behind").dilation_rate == (2, 2)
    x = images(66, 82)  # of which half is 33, 41
    assert relative_error(call(dense, x), call(model, x), 2) < 1e-5
    assert atrous(model, 4).get_layer("behind").dilation_rate == (1, 1)
    with pytest.raises(ValueError, match="it divides the size by 2, and how to take that stride out of a AveragePool"):
        atrous(model, 1)


def test_a_map_that_is_enlarged_has_the_stride_it_was_enlarged_to():
    model = halved(keras.layers.UpSampling2D(2, name="up"), keras.layers.Conv2D(4, 3, padding="same", name="last"))
    assert list(taps(model)) == [1, 2]
    assert taps(model)[1] == "last"
    inputs = keras.Input((None, None, 3))
    larger = keras.Model(inputs, keras.layers.UpSampling2D(3, name="up")(inputs))
    with pytest.raises(ValueError, match=r"'up'.*it enlarges a map of stride 1 by 3"):
        taps(larger)


@pytest.mark.parametrize("kind", ["patches", "resize"])
def test_what_brings_other_places_together_is_refused_on_a_dense_map_alone(kind):
    inputs = keras.Input((64, 64, 3))
    early = keras.layers.Conv2D(4, 3, 2, padding="same", name="early")(inputs)
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="late")(early)
    if kind == "patches":
        x = keras_deeplab.layers.UnfoldPatches(2, name="joined")(x)
    else:
        x = keras_deeplab.layers.ResizeBilinear(name="joined")([x, early])
    model = keras.Model(inputs, x)
    assert list(taps(model)) == [1, 2, 4]
    assert atrous(model, 4).get_layer("late").strides == (2, 2)
    why = "its patches would be of other neighbours" if kind == "patches" else "brings maps of different strides"
    with pytest.raises(ValueError, match=f"'joined'.*{why}"):
        atrous(model, 2)


def test_a_pooled_vector_is_no_map_whose_size_counts():
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    layer = keras.layers.Maximum()
    layer([pooled, inputs])
    assert rewrite_module._size_ratio(layer) == 1
    assert rewrite_module._reach(layer) == "point"
