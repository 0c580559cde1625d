"""VGG with the poolings of torchvision, Caffe and CoinCheung: counts, sizes, rates, and what the rewrite keeps."""

import keras
import numpy as np
import pytest
from randomise import randomise

from keras_deeplab import layers
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.rewrite import atrous, taps

# torchvision's documentation counts parameters with fully connected layers for 1000 classes; batch norm has gamma and
# beta for each filter
FULLY_CONNECTED = 25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}
PARAMETERS |= {f"vgg{number}_caffe": PARAMETERS[f"vgg{number}"] for number in (11, 13, 16, 19)}
PARAMETERS["vgg16_coincheung"] = PARAMETERS["vgg16"]


@pytest.fixture(scope="module")
def outlines():
    """Networks whose variables have shapes and no values: filling them takes most of the time to build one."""
    with keras.StatelessScope(initialize_variables=False):
        return {name: BACKBONES[name].build((None, None, 3)) for name in PARAMETERS}


@pytest.fixture(scope="module")
def vgg11_caffe():
    return randomise(BACKBONES["vgg11_caffe"].build((None, None, 3)))


def images(height, width):
    return np.random.default_rng(1).uniform(-1, 1, (1, height, width, 3)).astype("float32")


def call(model, x):
    return keras.ops.convert_to_numpy(model(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_source(outlines, name):
    trainable = sum(int(np.prod(v.shape)) for v in outlines[name].trainable_weights)
    assert trainable + FULLY_CONNECTED == PARAMETERS[name]
    biases = [v for v in outlines[name].trainable_weights if v.path.endswith("bias")]
    convolutions = [layer for layer in outlines[name].layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(biases) == len(convolutions)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_deepest_map_is_pool5_at_stride_32(outlines, name):
    model = outlines[name]
    assert model.layers[-1].name == "pool5"
    assert list(taps(model)) == [1, 2, 4, 8, 16, 32]
    assert model.get_layer(BACKBONES[name].low_level).output.shape[-1] == 256
    assert taps(model)[4] == BACKBONES[name].low_level


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("vgg16", {128: [64, 32, 16, 8, 4], 321: [160, 80, 40, 20, 10], 70: [35, 17, 8, 4, 2]}),
        # Caffe rounds up: the README of the reference outputs has 17 x 21 at stride 8 for 128 x 160.
        ("vgg16_caffe", {128: [65, 33, 17, 9, 5], 321: [161, 81, 41, 21, 11], 70: [36, 19, 10, 6, 4]}),
        ("vgg16_coincheung", {128: [64, 32, 16, 8, 4], 321: [161, 81, 41, 21, 11], 70: [35, 18, 9, 5, 3]}),
    ],
)
def test_the_poolings_round_as_their_source_does(outlines, name, sizes):
    model = outlines[name]
    pooled = keras.Model(model.input, [model.get_layer(f"pool{stage}").output for stage in range(1, 6)])
    for size, expected in sizes.items():
        assert [shape[1] for shape in pooled.compute_output_shape((1, size, size, 3))] == expected


@pytest.mark.slow
def test_the_poolings_of_torch_are_computed():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for name, settings in {
        "vgg11": {"kernel_size": 2, "stride": 2},
        "vgg11_caffe": {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    }.items():
        model = BACKBONES[name].build((None, None, 3))
        part = keras.Model(model.get_layer("conv1_1_relu").output, model.get_layer("pool1").output)
        for height, width in [(9, 12), (10, 7)]:
            x = np.maximum(rng.standard_normal((1, height, width, 64)), 0).astype("float32")
            expected = torch.nn.functional.max_pool2d(torch.tensor(x.transpose(0, 3, 1, 2)), **settings)
            np.testing.assert_array_equal(call(part, x), expected.numpy().transpose(0, 2, 3, 1))


def test_the_dense_network_of_the_paper(outlines):
    """Sheet of v1: pool4 and pool5 stride 1 on neighbouring positions, conv5 at rate 2."""
    row = BACKBONES["vgg16_caffe"]
    with keras.StatelessScope(initialize_variables=False):
        dense = atrous(outlines["vgg16_caffe"], 8, contracted=row.contracted)
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in dense.layers
        if isinstance(layer, (keras.layers.Conv2D, layers.DilatedMaxPooling2D))
    }
    expected = {name: 1 for name in rates} | {f"conv5_{index}": 2 for index in (1, 2, 3)}
    assert rates == expected
    for name in ("pool4", "pool5"):
        pool = dense.get_layer(name)
        assert (type(pool), pool.pool_size, pool.strides) == (keras.layers.MaxPooling2D, (3, 3), (1, 1))
        assert dense.get_layer(f"{name}_pad").padding == ((1, 1), (1, 1))
    assert {shape: dense.compute_output_shape((1, shape, shape, 3))[1] for shape in (321, 320)} == {321: 41, 320: 41}


@pytest.mark.parametrize("size", [(65, 33), (64, 94)])
def test_rounding_up_keeps_the_law_where_its_windows_are_whole(vgg11_caffe, size):
    """Even sizes too: the first three poolings add the row that makes what the others see 4 n + 1."""
    x = images(*size)
    natural = call(vgg11_caffe, x)
    dense = call(atrous(vgg11_caffe, 8), x)[:, ::4, ::4]
    assert dense.shape == natural.shape
    assert np.abs(dense - natural).max() < 1e-5 * np.abs(natural).max()


@pytest.mark.slow
def test_an_extra_row_of_rounding_up_is_all_that_the_dense_network_lacks(vgg11_caffe):
    """At 72 pixels the map at stride 8 has 10 rows: the classifier's sixth row at stride 16 lies outside of it."""
    x = images(80, 65)
    pool4 = keras.Model(vgg11_caffe.input, vgg11_caffe.get_layer("pool4").output)
    natural, dense = call(pool4, x), call(atrous(pool4, 8), x)
    assert (natural.shape[1], dense.shape[1]) == (6, 11)
    np.testing.assert_allclose(dense[:, ::2, ::2], natural, atol=1e-5 * np.abs(natural).max())
    x = images(72, 65)
    natural, dense = call(pool4, x), call(atrous(pool4, 8), x)
    assert (natural.shape[1], dense.shape[1]) == (6, 10)
    np.testing.assert_allclose(dense[:, ::2, ::2], natural[:, :5], atol=1e-5 * np.abs(natural).max())


@pytest.mark.slow
def test_the_contracted_pool5_sees_neighbours_of_what_the_law_gives(vgg11_caffe):
    x = images(65, 65)
    dense = atrous(vgg11_caffe, 8, contracted=("pool5",))
    before = keras.Model(dense.input, dense.get_layer("conv5_2_relu").output)
    expected = keras.ops.max_pool(keras.ops.pad(before(x), ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 1)
    np.testing.assert_array_equal(call(dense, x), keras.ops.convert_to_numpy(expected))
    natural = keras.Model(vgg11_caffe.input, vgg11_caffe.get_layer("conv5_2_relu").output)
    expected = call(natural, x)
    assert np.abs(call(before, x)[:, ::2, ::2] - expected).max() < 1e-5 * np.abs(expected).max()
