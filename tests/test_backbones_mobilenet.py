"""MobileNetV2 and V3 in each source's form: widths, paddings, rates, gates, taps, and keras.applications' numbers."""

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.networks import V3, network
from keras_deeplab.rewrite import atrous
from keras_deeplab.summary import multiply_adds

# Trainable parameters of the features: of V2 what slim, VainF and jfzhang95 leave of their checkpoints' counts when
# the heads are taken away; of torchvision's its published counts less the classifiers.
PARAMETERS = {
    "mobilenet_v2": 1_811_712,
    "mobilenet_v2_vainf": 1_811_712,
    "mobilenet_v2_jfzhang95": 1_811_712,
    "mobilenet_v2_torchvision": 3_504_872 - 1_281_000,
    "mobilenet_v3_large": 5_483_032 - 2_511_080,
    "mobilenet_v3_small": 2_542_856 - 1_615_848,
    "mobilenet_v3_large_timm": 5_483_032 - 2_511_080,
    "mobilenet_v3_small_timm": 2_542_856 - 1_615_848,
}


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def images(height, width):
    return np.random.default_rng(1).uniform(-1, 1, (1, height, width, 3)).astype("float32")


def difference(a, b):
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


def depthwise(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]


def dense(classifiers, name, output_stride):
    row = BACKBONES[name]
    return atrous(classifiers(name), output_stride, strided_rate=row.strided_rate or "old", contracted=row.contracted)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_source(classifiers, name):
    model = classifiers(name)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_weights) == PARAMETERS[name]
    assert model.name == name


# name -> rates of the depthwise convolutions at output stride 16 and at 8, in the source
V2_RATES = {
    "mobilenet_v2_vainf": ([1] * 14 + [2] * 3, [1] * 7 + [2] * 7 + [4] * 3),
    "mobilenet_v2_torchvision": ([1] * 13 + [2] * 4, [1] * 6 + [2] * 7 + [4] * 4),
    "mobilenet_v2_jfzhang95": ([1] * 16 + [2], [1] * 10 + [2] * 6 + [4]),
}
RATES = {
    **V2_RATES,
    "mobilenet_v3_large": ([1] * 12 + [2] * 3, [1] * 6 + [2] * 6 + [4] * 3),
    "mobilenet_v3_large_timm": ([1] * 13 + [2] * 2, [1] * 7 + [2] * 6 + [4] * 2),
    "mobilenet_v3_small_seg": ([1] * 9 + [2] * 2, [1] * 4 + [2] * 5 + [4] * 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES)
def test_the_dense_network_has_the_rates_of_its_source(classifiers, name):
    for output_stride, expected in zip((16, 8), RATES[name], strict=True):
        found = depthwise(dense(classifiers, name, output_stride))
        assert [layer.dilation_rate[0] for layer in found] == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", V2_RATES)
def test_the_dense_network_has_a_map_of_its_stride_at_even_and_odd_sizes(classifiers, name):
    """Which fails where a padding and the convolution it belongs to are given different rates."""
    for output_stride in (16, 8):
        model = dense(classifiers, name, output_stride)
        for size in [(64, 98), (65, 83)]:
            halves = [(side - 1) // 2 + (name != "mobilenet_v2_vainf") for side in size]
            expected = tuple((half - 1) // (output_stride // 2) + 1 for half in halves)
            assert model(images(*size)).shape[1:3] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenet_v2_vainf", "mobilenet_v2_jfzhang95", "mobilenet_v2_torchvision", "mobilenet_v3_large"]
)
def test_explicit_padding_keeps_the_law_at_even_sizes(name):
    model, x = randomise(BACKBONES[name].build((None, None, 3))), images(70, 98)
    for layer in model.layers:
        # Gates see the whole map, and a denser one has other means; this leaves them their biases.
        if getattr(layer, "activation", None) is keras.activations.hard_sigmoid:
            layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
    assert difference(call(atrous(model, 8), x)[:, ::4, ::4], call(model, x)) < 1e-5


def test_vainf_loses_a_pixel_in_the_stem():
    model = BACKBONES["mobilenet_v2_vainf"].build((513, 513, 3))
    sizes = {layer.output.shape[1] for layer in model.layers if layer.name.endswith("_project_BN")}
    assert sizes == {256, 128, 64, 32, 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "border"),
    [("mobilenet_v2", 0.0), ("mobilenet_v2_torchvision", 0.0), ("mobilenet_v2_vainf", 2.5)],
)
def test_a_border_of_zeros_passes_the_expansion_where_the_source_pads_before_it(name, border):
    model = BACKBONES[name].build()
    # The expansion gives 2.5 everywhere; the window's upper left tap shows what stands outside of the map.
    model.get_layer("block_2_expand").kernel.assign(np.zeros((1, 1, 24, 144)))
    model.get_layer("block_2_expand_BN").beta.assign(np.full(144, 2.5))
    corner = np.zeros((3, 3, 144, 1))
    corner[0, 0] = 1
    model.get_layer("block_2_depthwise").kernel.assign(corner)
    filtered = keras.Model(model.input, model.get_layer("block_2_depthwise").output)
    found = call(filtered, images(64, 64))[0, :, :, 0]
    assert (found[1:, 1:] == 2.5).all()
    assert (found[0] == border).all()
    assert (found[:, 0] == border).all()


@pytest.mark.slow
def test_torchvision_and_slim_agree_where_their_paddings_do(classifiers):
    """At sizes 32 n + 1, epsilon moved into the variance; at even ones TensorFlow pads at the other side."""
    ours = classifiers("mobilenet_v2")
    theirs = BACKBONES["mobilenet_v2_torchvision"].build()
    for source, target in zip(ours.weights, theirs.weights, strict=False):
        assert source.path.rpartition("/")[2] == target.path.rpartition("/")[2]
        target.assign(source + (1e-3 - 1e-5) if "variance" in source.path else source)
    theirs = keras.Model(theirs.input, theirs.get_layer("block_16_project_BN").output)
    assert difference(call(theirs, images(97, 65)), call(ours, images(97, 65))) < 1e-5
    assert difference(call(theirs, images(96, 64)), call(ours, images(96, 64))) > 1e-2


@pytest.mark.slow
def test_torchvision_rounds_widths_as_slim_and_keeps_its_last_filters():
    for alpha, last in [(0.35, 1280), (1.4, 1792)]:
        ours, slim = (
            BACKBONES["mobilenet_v2_torchvision"].build(alpha=alpha),
            BACKBONES["mobilenet_v2"].build(alpha=alpha),
        )
        features = keras.Model(ours.input, ours.get_layer("block_16_project_BN").output)
        assert [variable.shape for variable in features.weights] == [variable.shape for variable in slim.weights]
        assert ours.output_shape[-1] == last


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "alpha", "expected"),
    [
        ("mobilenet_v2_vainf", 0.35, [16, 30, 48, 66, 132, 198, 336]),
        ("mobilenet_v2_jfzhang95", 0.35, [11, 30, 48, 66, 132, 198, 336]),
        ("mobilenet_v3_large", 0.75, [16, 48, 56, 88, 184, 152, 136, 360, 504, 720]),
    ],
)
def test_depthwise_convolutions_have_the_channels_of_the_source(name, alpha, expected):
    assert (
        list(dict.fromkeys(layer.input.shape[-1] for layer in depthwise(BACKBONES[name].build(alpha=alpha))))
        == expected
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs", "alpha"),
    [
        ("mobilenet_v3_large_timm", keras.applications.MobileNetV3Large, 0.75),
        ("mobilenet_v3_small_timm", keras.applications.MobileNetV3Small, 1.0),
    ],
)
def test_timm_is_the_network_of_keras_applications(name, theirs, alpha):
    x = images(64, 97)
    theirs = theirs(input_shape=x.shape[1:], alpha=alpha, include_top=False, weights=None, include_preprocessing=False)
    ours = randomise(BACKBONES[name].build(alpha=alpha))
    theirs.set_weights(ours.get_weights())
    assert difference(call(ours, x), call(theirs, x)) < 1e-5


@pytest.mark.slow
def test_torchvision_and_timm_agree_where_their_paddings_do(classifiers):
    ours = classifiers("mobilenet_v3_small")
    theirs = BACKBONES["mobilenet_v3_small_timm"].build()
    theirs.set_weights(ours.get_weights())
    assert difference(call(theirs, images(97, 65)), call(ours, images(97, 65))) < 1e-5
    assert difference(call(theirs, images(96, 64)), call(ours, images(96, 64))) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seg", "full", "last_stage", "channels"),
    [
        ("mobilenet_v3_large_seg", "mobilenet_v3_large", [336, 480, 480], 480),
        ("mobilenet_v3_small_seg", "mobilenet_v3_small", [144, 288, 288], 288),
    ],
)
def test_the_networks_for_segmentation_have_half_the_last_stage(classifiers, seg, full, last_stage, channels):
    model = classifiers(seg)
    found = [layer.input.shape[-1] for layer in depthwise(model)]
    assert found == [layer.input.shape[-1] for layer in depthwise(classifiers(full))][:-3] + last_stage
    assert model.output_shape[-1] == channels


@pytest.mark.parametrize(
    ("name", "excite", "sixth"),
    [
        ("mobilenet_v3_small", "features_1_block_1_fc2", 1 / 6),
        ("mobilenet_v3_small_seg", "expanded_conv_squeeze_excite_Conv_1", 0.16667),
    ],
)
def test_gates_multiply_by_the_source_s_sixth(name, excite, sixth):
    """Where they are fully open: six sixths."""
    model = BACKBONES[name].build((None, None, 3))
    model.get_layer(excite).bias.assign(np.full(16, 9.0))
    model.get_layer(excite).kernel.assign(np.zeros((1, 1, 8, 16)))
    multiply = next(layer for layer in model.layers if isinstance(layer, keras.layers.Multiply))
    before, after = keras.Model(model.input, [multiply.input[0], multiply.output])(images(33, 33))
    np.testing.assert_allclose(after, before * np.float32(6 * sixth), rtol=1e-6)
    assert np.abs(before).max() > 0.1


@pytest.mark.parametrize(("name", "channels"), [("mobilenet_v3_large", 40), ("mobilenet_v3_small", 24)])
def test_the_auxiliary_head_sits_on_the_first_block_of_stride_8(classifiers, name, channels):
    model = classifiers(name)
    tap = keras.Model(model.input, model.get_layer(BACKBONES[name].auxiliary).output)
    assert tap.compute_output_shape((None, 64, 96, 3)) == (None, 8, 12, channels)
    reached = [layer for layer in tap.layers if getattr(layer, "strides", (1, 1)) == (2, 2)]
    assert len(reached) == 3
    assert depthwise(tap)[-1] is reached[-1]


@pytest.mark.parametrize(
    ("alpha", "filters", "output_stride", "billions"),
    # EdgeTPU-DeepLab and EdgeTPU-DeepLab-slim (research/deeplab/g3doc/model_zoo.md), rounded up there.
    [(1.0, 256, 32, 5.6), (1.0, 256, 16, 7.1), (0.75, 128, 32, 3.5), (0.75, 128, 16, 4.3)],
)
def test_mobilenet_edgetpu_costs_what_google_counted(alpha, filters, output_stride, billions):
    settings = {"num_classes": 19, "output_stride": output_stride, "filters": filters}
    with unallocated():
        spec = network(V3, "mobilenet_edgetpu", backbone_settings={"alpha": alpha}, **settings)
        model = keras_deeplab.build(spec)
    found = multiply_adds(model) / 1e9
    assert billions - 0.15 < found < billions
    assert not [layer for layer in model.layers if layer.name.startswith("aspp1")]


@pytest.mark.parametrize(("alpha", "millions"), [(1.0, 990), (0.75, 624)])
def test_the_classifier_of_mobilenet_edgetpu_does(alpha, millions):
    """slim/nets/mobilenet/README.md; its narrow one keeps 1280 filters in front of the classes."""
    with unallocated():
        body = BACKBONES["mobilenet_edgetpu"].build((224, 224, 3), alpha=alpha, last_filters=1280)
    assert abs(multiply_adds(body, (224, 224)) / 1e6 + 1.28 - millions) < 1.5
    adds = [layer.name for layer in body.layers if isinstance(layer, keras.layers.Add)]
    assert "expanded_conv_13_add" not in adds
    assert "expanded_conv_12_add" in adds
    assert body.get_layer("expanded_conv_5_expand").strides == (2, 2)
