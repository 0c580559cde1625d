"""The backbones: the law of the rewrite, the rates of the papers' sheets."""

import keras
import numpy as np
import pytest
from lanes import slow_except
from randomise import randomise, zeros_at_first

import keras_deeplab
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import (
    BACKBONES,
    convnext,
    efficientnet,
    mobileone,
    regnet,
    res2net,
    resnest,
    resnet_timm,
    resnext,
    resolve,
    se_resnet,
    se_resnet_timm,
)
from keras_deeplab.rewrite import atrous, taps

# Of families of one build the smallest; benchmarks/smp_parity.py runs all of them beside their source.
FAMILIES = (
    resnext,
    se_resnet,
    efficientnet,
    mobileone,
    convnext,
    regnet,
    se_resnet_timm,
    resnet_timm,
    resnest,
    res2net,
)
LARGER = {name for family in FAMILIES for name in list(family.BUILDERS)[1:]}
LARGER -= {"se_resnext50_32x4d", "senet154", "efficientnet_b0_timm_same"}
# Of others whose units are the same ones, only more of them, a depth of each.
LARGER |= {name for name in BACKBONES if name.startswith(("resnet101", "resnet152", "resnet_v1_101", "drn_d_10"))}
LARGER -= {"resnet152"}
DISTINCT = [name for name in BACKBONES if name not in LARGER | {"xception"}]


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def images(height, width):
    return np.random.default_rng(1).uniform(-1, 1, (1, height, width, 3)).astype("float32")


def relative_error(dense, natural, step):
    subsampled = dense[:, ::step, ::step]
    assert subsampled.shape == natural.shape
    return np.abs(subsampled - natural).max() / np.abs(natural).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_except(DISTINCT, "vgg11", "mobilenet_v2", "xception_vainf"))
def test_the_dense_backbone_subsampled_is_the_classifier_and_its_tap_has_stride_4(name):
    row = BACKBONES[name]
    x = images(65, 97)
    # Where there is no law to keep, because its dense form is another network, there is nothing to compute.
    with zeros_at_first() if row.output_strides is None else unallocated():
        model = row.build((None, None, 3))
    tap = keras.Model(model.input, model.get_layer(row.low_level).output)
    # Unpadded stems cut up to two positions.
    assert tap.compute_output_shape((None, *x.shape[1:]))[1:3] in [(17, 25), (16, 24), (15, 23)]
    if row.output_strides is not None:
        return
    randomise(model)
    for layer in model.layers:
        # A gate by the image's averages differs on the denser map; without its inputs it is the same constant.
        if getattr(layer, "activation", None) in (keras.activations.hard_sigmoid, keras.activations.sigmoid):
            layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
        # With clips on every map, random scales make a difference of rounding grow from unit to unit: on processors
        # that round the two forms alike there is none, on others it reached 3e-3 of the output.
        if "bounded" in name and isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(0.5 * layer.gamma)
    natural = call(model, x)
    assert natural.std() > 1e-2 * np.abs(natural).max()
    stride = list(taps(model))[-1]
    step = stride // 8 if stride > 8 else 2
    with zeros_at_first():
        dense = atrous(model, stride // step)
    assert relative_error(call(dense, x), natural, step) < 1e-5


@pytest.mark.slow
def test_padding_in_front_as_behind_keeps_the_law_at_every_size(classifiers):
    model = classifiers("xception_41")
    dense = atrous(model, 8)
    for size in [(96, 130), (71, 90)]:
        x = images(*size)
        assert relative_error(call(dense, x), call(model, x), 4) < 1e-5


@pytest.mark.slow
def test_bounded_activations_stay_within_six_and_keep_the_law():
    from keras_deeplab.backbones.xception import xception_41

    model = randomise(xception_41(bounded=True))
    for variable in model.weights:
        if variable.path.endswith("gamma"):
            variable.assign(variable * 2)
    x = images(97, 129)
    low_level = keras.Model(model.input, model.get_layer("entry_flow_block2_separable_conv2_pointwise_clip").output)
    assert np.abs(call(low_level, x)).max() == 6
    natural = call(model, x)
    assert natural.max() <= 6
    assert relative_error(call(atrous(model, 16), x), natural, 2) < 1e-5


def rates(model):
    """Dilation rates of the convolutions larger than 1x1, by the part of the network that they stand in, in order."""
    parts = {}
    for layer in model.layers:
        if getattr(layer, "kernel_size", (1, 1)) != (1, 1):
            part = "_".join(layer.name.split("_")[: 1 if layer.name.startswith(("block", "conv1")) else 3])
            part = "middle_flow" if part.startswith("middle_flow") else part
            parts.setdefault(part, []).append(layer.dilation_rate)
            assert layer.dilation_rate[0] == layer.dilation_rate[1]
    return {part: [rate for rate, _ in found] for part, found in parts.items()}


def xception_rates(block3, middle, exit1, exit2):
    return {
        "entry_flow_conv1": [1, 1],
        "entry_flow_block1": [1] * 3,
        "entry_flow_block2": [1] * 3,
        "entry_flow_block3": [block3] * 3,
        "middle_flow": [middle] * 24,
        "exit_flow_block1": [exit1] * 3,
        "exit_flow_block2": exit2,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output_stride", "multi_grid", "expected"),
    [
        (32, None, xception_rates(1, 1, 1, [1, 1, 1])),
        (16, None, xception_rates(1, 1, 1, [2, 2, 2])),
        (8, None, xception_rates(1, 2, 2, [4, 4, 4])),
        (32, (1, 2, 4), xception_rates(1, 1, 1, [1, 2, 4])),
        (16, (1, 2, 4), xception_rates(1, 1, 1, [2, 4, 8])),
        (16, (3,), xception_rates(1, 1, 1, [6, 6, 6])),
    ],
)
def test_xception_has_the_rates_of_its_sheet(classifiers, output_stride, multi_grid, expected):
    dense = atrous(classifiers("xception_41"), output_stride, multi_grid)
    assert rates(dense) == expected
    strided = [layer.name for layer in dense.layers if getattr(layer, "strides", (1, 1)) != (1, 1)]
    # the stem, and each block's last separable convolution and shortcut
    assert len(strided) == 1 + 2 * {8: 2, 16: 3, 32: 4}[output_stride]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output_stride", "block2", "block3", "block4"),
    [(32, [1] * 4, [1] * 6, [1, 2, 4]), (16, [1] * 4, [1] * 6, [2, 4, 8]), (8, [1] * 4, [2] * 6, [4, 8, 16])],
)
def test_resnet_beta_has_the_rates_of_its_sheet(classifiers, output_stride, block2, block3, block4):
    dense = atrous(classifiers("resnet_v1_50_beta"), output_stride, (1, 2, 4))
    assert rates(dense) == {"conv1": [1] * 3, "block1": [1] * 3, "block2": block2, "block3": block3, "block4": block4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output_stride", "expected"), [(16, [1] * 14 + [2] * 3), (8, [1] * 7 + [2] * 7 + [4] * 3), (32, [1] * 17)]
)
def test_mobilenet_v2_has_the_rates_of_its_sheet(classifiers, output_stride, expected):
    dense = atrous(classifiers("mobilenet_v2"), output_stride)
    assert [layer.dilation_rate[0] for layer in dense.layers if layer.name.endswith("_depthwise")] == expected


@pytest.mark.slow
def test_the_networks_take_the_multi_grid_of_their_backbone():
    def last_rates(**settings):
        model = keras_deeplab.DeepLabV3("resnet_v1_50_beta", num_classes=2, **settings)
        return [model.get_layer(f"block4_unit_{unit}_conv2").dilation_rate[0] for unit in (1, 2, 3)]

    assert last_rates() == [2, 4, 8]
    assert last_rates(multi_grid=(1,)) == [2, 2, 2]


def test_unit_rates_compute_a_wider_dilated_convolution():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="halve")(inputs)
    padded = keras.layers.ZeroPadding2D(1, name="pad")(x)
    outputs = keras.layers.Conv2D(5, 3, name="wide")(padded)
    model = keras.Model(inputs, outputs)
    x_wide = keras.layers.Conv2D(5, 3, dilation_rate=3, padding="same", name="wide")(x)
    expected = keras.Model(inputs, x_wide)
    expected.get_layer("wide").set_weights(model.get_layer("wide").get_weights())
    picture = images(33, 41)
    np.testing.assert_allclose(call(atrous(model, 2, (3,)), picture), call(expected, picture), atol=1e-5)
    # at stride 1 the same convolution spans twice as much, and every second position is what it was
    dense, natural = call(atrous(model, 1, (3,)), picture), call(expected, picture)
    np.testing.assert_allclose(dense[:, ::2, ::2], natural, atol=1e-5)


@pytest.mark.parametrize("multi_grid", [(1, 2), (1, 2, 4, 8)])
def test_unit_rates_that_do_not_go_round_are_refused(classifiers, multi_grid):
    with pytest.raises(ValueError, match=r"3 spatial convolutions \(block4_unit_1_conv2, .*must be a multiple"):
        atrous(classifiers("resnet_v1_50_beta"), 16, multi_grid)


@pytest.mark.parametrize("multi_grid", [(), (0, 1, 2), 3, "124", (1.0, 2.0, 4.0)])
def test_unit_rates_that_are_none_are_refused(classifiers, multi_grid):
    with pytest.raises(ValueError, match="multi_grid must be None or positive integers"):
        atrous(classifiers("mobilenet_v2"), 16, multi_grid)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenet_v2", "xception_41", "resnet_v1_50_beta"])
def test_output_stride_32_builds(backbone):
    model = keras_deeplab.DeepLabV3Plus(backbone, output_stride=32, upsample_logits=False)
    assert model(images(97, 129)).shape == (1, 25, 33, 21)


@pytest.mark.slow
def test_xception_is_xception_65(classifiers):
    assert BACKBONES["xception"] is BACKBONES["xception_65"]
    assert classifiers("xception_65").name == "xception_65"


def test_a_classifier_of_a_registered_name_brings_its_row(classifiers):
    model = classifiers("xception_41")
    assert resolve(model, (None, None, 3)) == (model, BACKBONES["xception_41"])


def test_a_namesake_in_keras_applications_is_not_taken_for_ours():
    classifier = keras.applications.Xception(weights=None, include_top=False, input_shape=(None, None, 3))
    assert classifier.name == "xception"
    _, row = resolve(classifier, (None, None, 3))
    assert row.low_level != BACKBONES["xception"].low_level
    assert row.preprocessing == "tf"


def test_an_unknown_backbone_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"Unknown backbone 'xception65': did you mean 'xception_65'\?.*resnet_v1_50_be"
    ):
        keras_deeplab.DeepLabV3("xception65")
    with pytest.raises(ValueError, match=r"backbone must be one of .* or a functional keras\.Model; received 7"):
        keras_deeplab.DeepLabV3(7)


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "channels"), [(0.35, 112), (0.5, 160), (0.75, 240), (1.0, 320), (1.4, 448)])
def test_mobilenet_v2_has_the_widths_of_keras_applications(alpha, channels):
    from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2

    ours = mobilenet_v2(alpha=alpha)
    theirs = keras.applications.MobileNetV2(input_shape=(224, 224, 3), alpha=alpha, include_top=False, weights=None)
    assert ours.output_shape[-1] == channels
    assert [v.shape for v in ours.weights] == [v.shape for v in theirs.weights if not v.path.startswith("Conv_1")]
