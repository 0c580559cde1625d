"""bonlime's, VainF's and jfzhang95's Xceptions, and HRNetV2: counts, rates, sizes, and what each does its own way."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from randomise import randomise

from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES, xception
from keras_deeplab.backbones.hrnet import hrnetv2_32
from keras_deeplab.backbones.xception_jfzhang95 import xception_jfzhang95
from keras_deeplab.backbones.xception_vainf import xception_vainf
from keras_deeplab.layers import UpsampleNearest
from keras_deeplab.rewrite import atrous, taps
from keras_deeplab.summary import multiply_adds

pytestmark = pytest.mark.slow

# backbone, output stride, input size -> parameters and multiply-adds of v3+ on it with 21 classes, counted on the
# source's own code (None: rounded there, to 10^6), its decoder's convolutions; channels, channels of the tap, rows of
# the features and of the tap
PUBLISHED = {
    ("xception_vainf", 16, 513): (37_050_525, 50_430_866_816, 1, 2048, 128, 28, 127),
    ("xception_vainf", 8, 513): (37_050_525, 135_589_115_264, 1, 2048, 128, 52, 127),
    ("xception_jfzhang95", 16, 513): (54_705_317, 86_576_993_984, 2, 2048, 128, 33, 129),
    ("xception_jfzhang95", 8, 513): (54_705_317, 248_680_000_000, 2, 2048, 128, 65, 129),
    ("hrnetv2_32", 4, 512): (33_918_517, 114_734_260_224, 1, 480, 256, 128, 128),
    ("hrnetv2_48", 4, 512): (71_720_000, 186_413_000_000, 1, 720, 256, 128, 128),
}


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def images(height, width):
    return np.random.default_rng(1).uniform(-1, 1, (1, height, width, 3)).astype("float32")


def up_to(model, name):
    return keras.Model(model.input, model.get_layer(name).output)


def dense(name, model, output_stride):
    row = BACKBONES[name]
    return atrous(model, output_stride, strided_rate=row.strided_rate, contracted=row.contracted)


def rates(model, start):
    """The dilation rates of the 3x3 convolutions whose names begin with `start`, in order."""
    found = [layer for layer in model.layers if getattr(layer, "kernel_size", (1, 1)) == (3, 3)]
    return [layer.dilation_rate[0] for layer in found if layer.name.startswith(start)]


def convolution(inputs, outputs, kernel=1):
    """(trainable parameters of a convolution and its batch norm, multiply-adds a position)"""
    return np.array([kernel**2 * inputs * outputs + 2 * outputs, kernel**2 * inputs * outputs])


def head_costs(decoder_convs, channels, low_level, rows, low_level_rows):
    """Parameters and multiply-adds of v3+'s head, dense convolutions and 21 classes, on square maps."""
    pyramid = convolution(channels, 256) + 3 * convolution(channels, 256, 3) + convolution(5 * 256, 256)
    pooling = convolution(channels, 256)
    decoder = convolution(low_level, 48) + convolution(304, 256, 3) + [256 * 21 + 21, 256 * 21]
    decoder += (decoder_convs - 1) * convolution(256, 256, 3)
    return (pyramid + pooling + decoder)[0], (pyramid * rows**2 + pooling + decoder * low_level_rows**2)[1]


@pytest.mark.parametrize(("name", "output_stride", "size"), PUBLISHED)
def test_parameters_and_multiply_adds_are_those_of_the_source(name, output_stride, size):
    parameters, cost, decoder_convs, channels, low_level, rows, low_level_rows = PUBLISHED[name, output_stride, size]
    row = BACKBONES[name]
    with unallocated():
        if row.output_strides is None:
            model = dense(name, row.build((size, size, 3)), output_stride)
        else:
            model = row.build((size, size, 3), output_stride=output_stride)
    assert model.output_shape == (None, rows, rows, channels)
    assert model.get_layer(row.low_level).output.shape == (None, low_level_rows, low_level_rows, low_level)
    head_parameters, head_cost = head_costs(decoder_convs, channels, low_level, rows, low_level_rows)
    found = sum(int(np.prod(variable.shape)) for variable in model.trainable_weights) + head_parameters
    found_cost = multiply_adds(model, (size, size)) + head_cost
    assert round(found, -3 if parameters % 1000 == 0 else 0) == parameters
    assert round(found_cost, -6 if cost % 10**6 == 0 else 0) == cost


# bonlime ----------------------------------------------------------------------------------------------------------


def test_bonlime_differs_from_slim_by_a_pixel_at_even_sizes(monkeypatch):
    monkeypatch.setattr(xception, "TABLE_65", [])  # the stem alone, which is all that differs
    bonlime, slim = randomise(xception.xception_65_bonlime()), xception.xception_65()
    slim.set_weights(bonlime.get_weights())
    odd, even = images(9, 13), images(10, 14)
    np.testing.assert_allclose(call(bonlime, odd), call(slim, odd), atol=1e-6)
    # "same" pads an even size behind only, so but for the border it is the network on the image one pixel on.
    shifted = call(slim, even[:, 1:, 1:])
    assert shifted.shape == call(bonlime, even).shape == (1, 5, 7, 64)
    np.testing.assert_allclose(call(bonlime, even)[:, 2:, 2:], shifted[:, 2:, 2:], atol=1e-6)
    assert np.abs(call(bonlime, even) - call(slim, even)).max() > 0.1


def test_bonlime_has_the_layers_of_slim():
    with unallocated():
        bonlime, slim = xception.xception_65_bonlime(), xception.xception_65()
    assert [v.path for v in bonlime.weights] == [v.path for v in slim.weights]
    assert bonlime.name == "xception_65_bonlime"
    assert list(taps(bonlime)) == [1, 2, 4, 8, 16, 32]


# jfzhang95 --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jfzhang95():
    return randomise(xception_jfzhang95())


def test_jfzhang95_without_its_contraction_keeps_the_law_at_even_sizes(jfzhang95):
    x = images(64, 90)
    natural, finer = call(jfzhang95, x), call(atrous(jfzhang95, 8), x)[:, ::4, ::4]
    assert natural.shape == (1, 2, 3, 2048)
    np.testing.assert_allclose(finer, natural, atol=1e-5 * natural.max())


@pytest.mark.parametrize(
    ("output_stride", "block3", "middle", "block20", "last"),
    [
        (32, [1, 1, 1], 1, [1, 1, 1], 1),
        (16, [1, 1, 1], 1, [1, 1, 1], 2),
        (8, [1, 1, 1], 2, [2, 2, 1], 4),
    ],
)
def test_jfzhang95_has_the_rates_of_its_source(output_stride, block3, middle, block20, last):
    with unallocated():
        model = dense("xception_jfzhang95", xception_jfzhang95(), output_stride)
    assert rates(model, ("conv1", "conv2", "block1_", "block2_")) == [1] * 8
    assert rates(model, "block3_") == block3
    for block in range(4, 20):
        assert rates(model, f"block{block}_") == [middle] * 3
    assert rates(model, "block20_") == block20
    assert rates(model, ("conv3", "conv4", "conv5")) == [last] * 3


def test_jfzhang95_shortcuts_pass_on_rectified_features(jfzhang95):
    last = jfzhang95.get_layer("block4_rep_7_pointwise_BN")
    kept = last.get_weights()
    last.gamma.assign(keras.ops.zeros_like(last.gamma))
    last.beta.assign(keras.ops.ones_like(last.beta))
    before, behind = (call(up_to(jfzhang95, name), images(32, 32)) for name in ("block3_add", "block4_add"))
    last.set_weights(kept)
    assert before.min() < 0
    np.testing.assert_allclose(behind, np.maximum(before, 0) + 1, atol=1e-6)


# VainF's Xception -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output_stride", "size", "expected"),
    [
        (16, (129, 161), (4, 6)),
        (16, (128, 160), (4, 6)),
        (16, (71, 72), (1, 1)),
        (8, (129, 161), (4, 8)),
        (8, (128, 160), (4, 8)),
        (8, (103, 104), (1, 1)),
    ],
)
def test_vainf_xception_loses_its_border(output_stride, size, expected):
    with unallocated():
        model = xception_vainf((*size, 3), output_stride)
    assert model.output_shape == (None, *expected, 2048)


@pytest.mark.parametrize(("output_stride", "size"), [(16, 70), (8, 102)])
def test_vainf_xception_refuses_an_image_that_leaves_nothing(output_stride, size):
    with unallocated(), pytest.raises(ValueError, match=r"conv4_conv1: .* does not fit a map of"):
        xception_vainf((size, size, 3), output_stride)


@pytest.mark.parametrize(
    ("output_stride", "block3", "middle", "block12"), [(16, 1, 1, 2), (8, 2, 2, 4)], ids=["16", "8"]
)
def test_vainf_xception_dilates_a_block_without_stride_as_a_whole(output_stride, block3, middle, block12):
    with unallocated():
        model = xception_vainf(output_stride=output_stride)
    assert rates(model, ("conv1", "conv2", "block1_", "block2_")) == [1] * 6
    assert rates(model, "block3_") == [block3] * 2
    for block in range(4, 12):
        assert rates(model, f"block{block}_") == [middle] * 3
    assert rates(model, "block12_") == [block12] * 2
    assert rates(model, ("conv3", "conv4")) == [block12] * 2
    pools = {layer.name for layer in model.layers if "maxpool" in layer.name}
    assert pools == {
        f"block{block}_maxpool{end}"
        for block in ([1, 2] if output_stride == 8 else [1, 2, 3])
        for end in ("", "_stride")
    }


@pytest.fixture(scope="module")
def vainf_block1():
    return randomise(up_to(xception_vainf(), "block1_add"))


@pytest.mark.parametrize("size", [(21, 24), (23, 27)])  # maps of 8x9 and 9x11 before the pooling
def test_vainf_xception_pools_linear_features_padded_by_nothing_that_could_win(vainf_block1, size):
    x = images(*size)
    features = call(up_to(vainf_block1, "block1_rep_3_pointwise_BN"), x) - 10  # all negative
    batch_norm = vainf_block1.get_layer("block1_rep_3_pointwise_BN")
    beta = batch_norm.beta.numpy()
    batch_norm.beta.assign(beta - 10)
    pooled = call(up_to(vainf_block1, "block1_maxpool_stride"), x)
    batch_norm.beta.assign(beta)
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_allclose(pooled, windows.max((-1, -2)), atol=1e-5)
    assert pooled.max() < 0


def test_vainf_xception_gives_linear_features(vainf_block1):
    assert call(vainf_block1, images(33, 35)).min() < 0
    with unallocated():
        model = xception_vainf()
    assert model.layers[-1].name == "conv4_pointwise"
    assert model.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("output_stride", [4, 32, None])
def test_vainf_xception_has_output_stride_8_or_16_only(output_stride):
    with pytest.raises(ValueError, match=f"xception_vainf has output stride 8 or 16; received {output_stride}"):
        xception_vainf(output_stride=output_stride)


# HRNet ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hrnet():
    return randomise(hrnetv2_32())


@pytest.mark.parametrize("size", [(64, 32), (33, 71), (40, 63), (5, 1)])
def test_hrnet_takes_every_size_traced_without_knowing_it(hrnet, size):
    if not hasattr(hrnet, "traced"):
        hrnet.traced = tf.function(hrnet, input_signature=[tf.TensorSpec((None, None, None, 3))])
    x = images(*size)
    features = call(hrnet, x)
    assert features.shape == (1, -(-size[0] // 4), -(-size[1] // 4), 480)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(hrnet.traced(x), features, atol=1e-5 * np.abs(features).max())


def test_hrnet_stem_has_one_relu(hrnet):
    assert call(up_to(hrnet, "conv2_pad"), images(32, 32)).min() < 0
    assert call(up_to(hrnet, "conv2_relu"), images(32, 32)).min() == 0


def test_hrnet_adds_up_its_branches_and_lays_them_on_the_finest(hrnet):
    fuse = "stage4_2_fuse_layers"
    to_finest = ["stage4_2_branches_0_3_relu", f"{fuse}_0_1_0_BN", f"{fuse}_0_2_0_BN", f"{fuse}_0_3_0_BN"]
    to_coarsest = [f"{fuse}_3_0_2_0_BN", f"{fuse}_3_1_1_0_BN", f"{fuse}_3_2_0_0_BN", "stage4_2_branches_3_3_relu"]
    fused = [f"{fuse}_{index}_relu" for index in range(4)]
    names = [*to_finest, *to_coarsest, *fused]
    model = keras.Model(hrnet.input, [hrnet.get_layer(name).output for name in names] + [hrnet.output])
    *found, features = [keras.ops.convert_to_numpy(output) for output in model(images(66, 91))]
    found = dict(zip(names, found, strict=True))
    assert [found[name].shape[1:3] for name in fused] == [(17, 23), (9, 12), (5, 6), (3, 3)]

    repeated = [found[name].repeat(2**k, 1).repeat(2**k, 2)[:, :17, :23] for k, name in enumerate(to_finest)]
    np.testing.assert_allclose(found[fused[0]], np.maximum(sum(repeated), 0), rtol=1e-4, atol=1e-4)
    coarsest = sum(found[name] for name in to_coarsest)
    np.testing.assert_allclose(found[fused[3]], np.maximum(coarsest, 0), rtol=1e-4, atol=1e-4)

    resized = [tf.image.resize(found[name], (17, 23)) for name in fused]
    np.testing.assert_allclose(features, np.concatenate(resized, axis=-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", [8, 16, None])
def test_hrnet_has_output_stride_4_only(output_stride):
    with pytest.raises(ValueError, match=f"hrnetv2_32 has output stride 4, its own; received {output_stride}"):
        hrnetv2_32(output_stride=output_stride)


@pytest.mark.parametrize(("size", "reference"), [((2, 3), (8, 12)), ((2, 3), (5, 9)), ((1, 1), (1, 2))])
def test_upsampling_repeats_and_cuts(size, reference):
    x = np.random.default_rng(0).uniform(size=(2, *size, 3)).astype("float32")
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 7))]
    model = keras.Model(inputs, UpsampleNearest(4)(inputs))
    found = model.predict([x, np.zeros((2, *reference, 7), "float32")], verbose=0)
    expected = x.repeat(4, axis=1).repeat(4, axis=2)[:, : reference[0], : reference[1]]
    np.testing.assert_array_equal(found, expected)


def test_upsampling_survives_saving(tmp_path):
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 7))]
    model = keras.Model(inputs, UpsampleNearest(8, name="enlarge")(inputs))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").get_layer("enlarge").factor == 8


def test_upsampling_refuses_what_it_cannot_do():
    for factor in (0, 2.0, True):
        with pytest.raises(ValueError, match="`factor` must be a whole number from 1 up"):
            UpsampleNearest(factor)
    with pytest.raises(ValueError, match="a map of 2x3 repeated 2 times doesn't reach 4x7"):
        UpsampleNearest(2)([np.zeros((1, 2, 3, 1)), np.zeros((1, 4, 7, 1))])
