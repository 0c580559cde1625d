"""ResNet as torchvision, Caffe and slim build it, its cascade, and DRN: counts, taps, strides and rates."""

import re

import keras
import numpy as np
import pytest
from randomise import randomise

from keras_deeplab.backbones import BACKBONES, resnet, resnet_v1_beta
from keras_deeplab.rewrite import atrous, taps

# A convolution that the source makes for a shortcut which it never adds: 1x1 from 2048 to 512, and batch norm.
UNUSED_IN_C_58 = 2048 * 512 + 2 * 512
# backbone -> trainable parameters of the classifier with 1000 classes: torchvision's documentation, and for DRN what
# the README of fyu/drn rounds to 0.1 M (25.6, 21.1, 31.2, 41.6, 16.4, 26.5, 35.8, 54.8)
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_caffe": 25_557_032,
    "resnet101_caffe": 44_549_160,
    "resnet152_caffe": 60_192_808,
    "drn_a_50": 25_557_032,
    "drn_c_26": 21_126_584,
    "drn_c_42": 31_234_744,
    "drn_c_58": 41_591_608 - UNUSED_IN_C_58,
    "drn_d_22": 16_393_752,
    "drn_d_38": 26_501_912,
    "drn_d_54": 35_809_176,
    "drn_d_105": 54_801_304,
}
# Two 3x3 convolutions from 512 to 512 more, with their batch norms, than the network two numbers below.
PARAMETERS |= {
    f"drn_d_{layers + 2}": PARAMETERS[f"drn_d_{layers}"] + 2 * (9 * 512 * 512 + 2 * 512) for layers in (22, 38, 54, 105)
}
# strides of the natural network, channels of the decoder's tap
TAPPED = {
    "resnet18": ([1, 2, 4, 8, 16, 32], 64),
    "resnet34": ([1, 2, 4, 8, 16, 32], 64),
    "resnet50": ([1, 2, 4, 8, 16, 32], 256),
    "resnet101": ([1, 2, 4, 8, 16, 32], 256),
    "resnet152": ([1, 2, 4, 8, 16, 32], 256),
    "resnet50_caffe": ([1, 2, 4, 8, 16, 32], 256),
    "resnet101_caffe": ([1, 2, 4, 8, 16, 32], 256),
    "resnet152_caffe": ([1, 2, 4, 8, 16, 32], 256),
    "drn_a_50": ([1, 2, 4, 8], 256),
    "drn_c_26": ([1, 2, 4, 8], 64),
    "drn_c_42": ([1, 2, 4, 8], 64),
    "drn_c_58": ([1, 2, 4, 8], 256),
    "drn_d_22": ([1, 2, 4, 8], 64),
    "drn_d_24": ([1, 2, 4, 8], 64),
    "drn_d_38": ([1, 2, 4, 8], 64),
    "drn_d_40": ([1, 2, 4, 8], 64),
    "drn_d_54": ([1, 2, 4, 8], 256),
    "drn_d_56": ([1, 2, 4, 8], 256),
    "drn_d_105": ([1, 2, 4, 8], 256),
    "drn_d_107": ([1, 2, 4, 8], 256),
}


def outline(build, **settings):
    """A network whose variables have shapes and no values: filling them takes most of the time to build one."""
    with keras.StatelessScope(initialize_variables=False):
        return build((None, None, 3), **settings)


@pytest.fixture(scope="module")
def outlines():
    return {name: outline(BACKBONES[name].build) for name in TAPPED}


@pytest.fixture
def narrow(monkeypatch):
    """The networks with a sixteenth of their filters, which have all their strides and rates."""
    monkeypatch.setattr(resnet, "STAGES", [(4, 1), (8, 2), (16, 2), (32, 2)])
    table = [(4, 16, 3, 2), (8, 32, 4, 2), (16, 64, 6, 2), (32, 128, 3, 1)]
    monkeypatch.setattr(resnet_v1_beta, "TABLE_50", table)
    return {
        "resnet18": resnet.resnet18,
        "resnet50": resnet.resnet50,
        "resnet50_caffe": resnet.resnet50_caffe,
        "resnet_v1_50_beta": resnet_v1_beta.resnet_v1_50_beta,
    }


def parameters(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_weights)


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


def images(height, width):
    return np.random.default_rng(1).standard_normal((1, height, width, 3)).astype("float32")


def rates(model):
    """Dilation rates of the convolutions larger than 1x1, by the part of the network that they stand in, in order."""
    parts = {}
    for layer in model.layers:
        if getattr(layer, "kernel_size", (1, 1)) != (1, 1):
            assert layer.dilation_rate[0] == layer.dilation_rate[1]
            parts.setdefault(layer.name.split("_")[0], []).append(layer.dilation_rate[0])
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_classifier_has_the_published_number_of_parameters(outlines, name):
    model = outlines[name]
    top = 1000 * model.output_shape[-1] + 1000
    assert parameters(model) + top == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", TAPPED)
def test_the_maps_have_the_strides_and_channels_of_the_table(outlines, name):
    model, row = outlines[name], BACKBONES[name]
    strides, channels = TAPPED[name]
    assert model.name == name
    assert list(taps(model)) == strides
    units = [layer.name for layer in model.layers if re.fullmatch(r"layer\d_\d+_relu", layer.name)]
    shapes = keras.Model(model.input, {unit: model.get_layer(unit).output for unit in units}).compute_output_shape(
        (1, 129, 161, 3)
    )
    last = {128 // (shape[1] - 1): unit for unit, shape in shapes.items()}
    assert list(last)[-1] == strides[-1]
    assert last[4] == row.low_level
    assert shapes[row.low_level][-1] == channels
    # torchvision's auxiliary head reads the output of the stage before the deepest
    torchvision = name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    assert row.auxiliary == (last[16] if torchvision else None)


@pytest.mark.slow
def test_torchvision_strides_in_the_3x3_convolution_and_caffe_in_the_1x1_before(outlines):
    def strides(name):
        return [outlines[name].get_layer(f"layer3_0_{part}").strides[0] for part in ("conv1", "conv2", "downsample")]

    assert strides("resnet50") == [1, 2, 2]
    assert strides("resnet50_caffe") == [2, 1, 2]
    assert strides("resnet18") == [2, 1, 2]


@pytest.mark.parametrize(("height", "width"), [(61, 49), (64, 48), (62, 45)])
def test_caffe_pooling_rounds_up(height, width):
    def stem(ceil_pooling):
        inputs = keras.Input((None, None, 3))
        return keras.Model(inputs, resnet.stem(inputs, ceil_pooling))

    torch = randomise(stem(False))
    caffe = stem(True)
    caffe.set_weights(torch.get_weights())
    x = images(height, width)
    convolved = call(keras.Model(torch.input, torch.get_layer("conv1_relu").output), x)
    rows, columns = ((size + 2 - 3 + 1) // 2 + 1 for size in convolved.shape[1:3])
    expected = np.empty((1, rows, columns, 64), "float32")
    for row in range(rows):
        for column in range(columns):
            top, left = 2 * row - 1, 2 * column - 1
            window = convolved[:, max(top, 0) : top + 3, max(left, 0) : left + 3]
            expected[:, row, column] = window.max((1, 2))
    np.testing.assert_array_equal(call(caffe, x), expected)
    rows, columns = ((size + 1) // 2 for size in convolved.shape[1:3])
    np.testing.assert_array_equal(call(torch, x), expected[:, :rows, :columns])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_caffe"])
def test_the_dense_network_subsampled_is_the_classifier_at_any_size(narrow, name):
    model = randomise(narrow[name]())
    dense = atrous(model, 8)
    for size in [(97, 129), (96, 130), (71, 90)]:
        x = images(*size)
        natural = call(model, x)
        subsampled = call(dense, x)[:, ::4, ::4]
        assert subsampled.shape == natural.shape
        assert np.abs(subsampled - natural).max() < 1e-5 * np.abs(natural).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet_v1_50_beta"])
def test_the_cascade_halves_the_map_with_each_block_and_keeps_the_law(narrow, name):
    model = randomise(narrow[name](cascade_blocks=2))
    assert list(taps(model)) == [1, 2, 4, 8, 16, 32, 64, 128]
    x = images(255, 130)
    natural = call(model, x)
    assert natural.shape[1:3] == (2, 2)
    subsampled = call(atrous(model, 16), x)[:, ::8, ::8]
    assert np.abs(subsampled - natural).max() < 1e-5 * np.abs(natural).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "block", "strided_rate"),
    [("resnet_v1_50_beta", "block", "old"), ("resnet50_caffe", "layer", "old"), ("resnet50", "layer", "new")],
)
def test_the_cascade_has_the_rates_of_the_paper(narrow, name, block, strided_rate):
    model = narrow[name](cascade_blocks=3)
    assert list(taps(model))[-1] == 256
    for multi_grid, expected in [
        (None, [[2, 2, 2], [4, 4, 4], [8, 8, 8], [16, 16, 16]]),  # figure 3b of the v3 paper
        ((1, 2, 4), [[2, 4, 8], [4, 8, 16], [8, 16, 32], [16, 32, 64]]),  # its section 3.2.1
    ]:
        dense = rates(atrous(model, 16, multi_grid, strided_rate, multi_grid_from=32))
        assert [dense[f"{block}{index}"] for index in (4, 5, 6, 7)] == expected
        assert all(rate == 1 for index in (1, 2, 3) for rate in dense[f"{block}{index}"])


@pytest.mark.slow
def test_resnet50_has_the_rates_of_its_sources(narrow):
    model = narrow["resnet50"]()
    for output_stride, strided_rate, multi_grid, layer3, layer4 in [
        (16, "old", None, [1] * 6, [1, 2, 2]),  # torchvision and VainF
        (8, "old", None, [1, 2, 2, 2, 2, 2], [2, 4, 4]),
        (16, "new", (1, 2, 4), [1] * 6, [2, 4, 8]),  # jfzhang95
        (8, "new", (1, 2, 4), [2] * 6, [4, 8, 16]),
    ]:
        dense = rates(atrous(model, output_stride, multi_grid, strided_rate))
        assert dense == {"conv1": [1], "layer1": [1] * 3, "layer2": [1] * 4, "layer3": layer3, "layer4": layer4}


@pytest.mark.slow
def test_blocks_of_the_cascade_are_replicas_of_the_last(outlines):
    def added(name, blocks):
        build = BACKBONES[name].build
        return parameters(outline(build, cascade_blocks=blocks)) - parameters(outline(build))

    unit = 2 * 2048 * 512 + 9 * 512 * 512 + 2 * (512 + 512 + 2048)
    # torchvision's first unit has its stride, and so a shortcut convolution
    assert added("resnet50", 2) == 2 * (3 * unit + 2048 * 2048 + 2 * 2048)
    assert added("resnet_v1_50_beta", 3) == 3 * 3 * unit


@pytest.mark.parametrize("name", ["resnet18", "resnet50_caffe", "resnet_v1_50_beta"])
@pytest.mark.parametrize("cascade_blocks", [-1, 4, 2.0, True, "1", None])
def test_a_wrong_number_of_cascade_blocks_is_refused(name, cascade_blocks):
    with pytest.raises(ValueError, match=rf"cascade_blocks must be 0, 1, 2 or 3.*received {cascade_blocks!r}\."):
        BACKBONES[name].build((None, None, 3), cascade_blocks=cascade_blocks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("drn_a_50", [[1] * 3, [1] * 4, [1, 2, 2, 2, 2, 2], [1, 4, 4]]),
        ("drn_c_26", [[1] * 2, [1] * 2, [1] * 4, [1] * 4, [2] * 4, [4] * 4, [2] * 2, [1] * 2]),
        ("drn_c_58", [[1] * 2, [1] * 2, [1] * 3, [1] * 4, [2] * 6, [4] * 3, [2] * 2, [1] * 2]),
        ("drn_d_24", [[1], [1], [1] * 4, [1] * 4, [2] * 4, [4] * 4, [2] * 2, [1] * 2]),
        ("drn_d_54", [[1], [1], [1] * 3, [1] * 4, [2] * 6, [4] * 3, [2], [1]]),
    ],
)
def test_drn_has_the_rates_of_its_source(outlines, name, expected):
    found = rates(outlines[name])
    assert [found[f"layer{index}"] for index in range(1, len(expected) + 1)] == expected
    assert len(found) == len(expected) + 1


@pytest.mark.slow
def test_drn_drops_the_shortcuts_where_the_dilation_falls(outlines):
    def added(name):
        return [layer.name.split("_")[0] for layer in outlines[name].layers if isinstance(layer, keras.layers.Add)]

    residual = ["layer3"] * 2 + ["layer4"] * 2 + ["layer5"] * 2 + ["layer6"] * 2
    assert added("drn_c_26") == ["layer1", "layer2", *residual]
    assert added("drn_d_22") == residual


@pytest.mark.slow
def test_drn_takes_its_own_output_stride_alone(outlines):
    with pytest.raises(ValueError, match=r"'drn_d_22' can't have output stride 16: .* strides 1, 2, 4, 8"):
        atrous(outlines["drn_d_22"], 16)
