"""The layers against a float64 NumPy reference, in TensorFlow's three ways of running, and in what they export."""

import contextlib
import functools
import importlib.util
import itertools
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorflow.core.protobuf import saved_model_pb2

from keras_deeplab import layers
from keras_deeplab.layers import (
    DilatedAveragePooling2D,
    DilatedConv2D,
    DilatedDepthwiseConv2D,
    DilatedMaxPooling2D,
    DilatedSeparableConv2D,
    ResizeBilinear,
    export_ops,
)

# What Keras 3.15 does to NumPy 2.4 when it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

MODES = ("eager", "static", "dynamic")

# kernel, rate, padding, height x width. Between them: every tap inside the map, some taps outside, all but the centre
# outside; odd, even and unequal kernels and rates; pads smaller and larger than the kernel's reach.
GEOMETRIES = [
    (3, 1, "same", (7, 6)),
    (3, 1, ((2, 0), (1, 3)), (7, 6)),
    (3, 2, "same", (9, 8)),
    (3, 2, "valid", (9, 8)),
    (3, 3, ((1, 4), (0, 6)), (9, 8)),
    (3, 2, ((6, 5), (4, 7)), (5, 4)),
    (3, 18, "same", (5, 4)),
    (3, 6, "same", (7, 13)),
    ((3, 1), (4, 9), "same", (6, 5)),
    ((2, 3), (3, 2), "same", (7, 8)),
    (2, 2, ((1, 1), (0, 2)), (5, 6)),
    (4, 3, ((4, 5), (5, 4)), (6, 5)),
    (5, (2, 3), "same", (8, 11)),
    (7, 2, "same", (6, 9)),
    (1, 5, "same", (4, 3)),
    (1, 5, ((1, 0), (0, 2)), (4, 3)),
]


def pair(value):
    return (value, value) if isinstance(value, int) else value


def pads_of(padding, kernel, rate):
    extents = [r * (k - 1) for k, r in zip(pair(kernel), pair(rate), strict=True)]
    if padding == "same":
        return [(extent // 2, extent - extent // 2) for extent in extents]
    return [(0, 0), (0, 0)] if padding == "valid" else padding


def tap_views(padded, kernel, rate):
    """The padded map as every tap of the window sees it, in the kernel's order; views, so that writes go through."""
    (kh, kw), (rh, rw) = pair(kernel), pair(rate)
    height, width = padded.shape[1] - rh * (kh - 1), padded.shape[2] - rw * (kw - 1)
    for i, j in itertools.product(range(kh), range(kw)):
        yield i, j, padded[:, i * rh : i * rh + height, j * rw : j * rw + width]


def pad(x, padding, kernel, rate, value=0.0):
    return np.pad(x, [(0, 0), *pads_of(padding, kernel, rate), (0, 0)], constant_values=value)


def crop(padded, shape, padding, kernel, rate):
    (top, _), (left, _) = pads_of(padding, kernel, rate)
    return padded[:, top : top + shape[1], left : left + shape[2]]


def dense(x, kernel, rate, padding):
    return sum(
        view @ kernel[i, j] for i, j, view in tap_views(pad(x, padding, kernel.shape[:2], rate), kernel.shape[:2], rate)
    )


def dense_gradients(x, kernel, dy, rate, padding):
    padded = pad(x, padding, kernel.shape[:2], rate)
    dx, dk = np.zeros_like(padded), np.zeros_like(kernel)
    for i, j, view in tap_views(padded, kernel.shape[:2], rate):
        dk[i, j] = np.einsum("bhwc,bhwf->cf", view, dy)
    for i, j, view in tap_views(dx, kernel.shape[:2], rate):
        view += dy @ kernel[i, j].T
    return crop(dx, x.shape, padding, kernel.shape[:2], rate), dk


def as_dense(kernel):
    """The (h, w, C, C * M) kernel of the dense convolution that a depthwise (h, w, C, M) kernel is."""
    height, width, channels, multiplier = kernel.shape
    result = np.zeros((height, width, channels, channels, multiplier))
    for c in range(channels):
        result[:, :, c, c] = kernel[:, :, c]
    return result.reshape(height, width, channels, channels * multiplier)


def from_dense(kernel, multiplier):
    height, width, channels, _ = kernel.shape
    kernel = kernel.reshape(height, width, channels, channels, multiplier)
    return np.stack([kernel[:, :, c, c] for c in range(channels)], 2)


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def set_random_weights(layer):
    weights = [random(*weight.shape, seed=seed) for seed, weight in enumerate(layer.get_weights(), 1)]
    layer.set_weights(weights)
    return weights


def run(layer, x, dy, mode):
    """Outputs, then gradients of sum(outputs * dy) by the input and by each variable, as float64 arrays."""
    x, dy = tf.cast(x, layer.compute_dtype), tf.constant(dy)

    def forward_and_backward(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, dy.dtype) * dy)
        return [y, *tape.gradient(loss, [x, *[weight.value for weight in layer.trainable_weights]])]

    if mode == "static":
        forward_and_backward = tf.function(forward_and_backward, jit_compile=False)
    elif mode == "dynamic":
        spec = tf.TensorSpec((None, None, None, x.shape[-1]), x.dtype)
        forward_and_backward = tf.function(forward_and_backward, input_signature=[spec], jit_compile=False)
    results = [tf.cast(tensor, "float64") for tensor in forward_and_backward(x)]
    return [np.asarray(tensor) for tensor in results] if tf.executing_eagerly() else results


def assert_close(actual, expected, tolerance=2e-6):
    assert len(actual) == len(expected)
    for got, wanted in zip(actual, expected, strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())


def expected_convolution(layer, weights, x, dy):
    """What `run` must return for a convolution layer with these weights."""
    arguments = layer.dilation_rate, layer.padding
    if isinstance(layer, DilatedConv2D):
        kernel, bias = weights
        dx, dk = dense_gradients(x, kernel, dy, *arguments)
        return [dense(x, kernel, *arguments) + bias, dx, dk, dy.sum((0, 1, 2))]
    if isinstance(layer, DilatedDepthwiseConv2D):
        kernel, bias = weights
        dx, dk = dense_gradients(x, as_dense(kernel), dy, *arguments)
        y = dense(x, as_dense(kernel), *arguments) + bias
        return [y, dx, from_dense(dk, kernel.shape[-1]), dy.sum((0, 1, 2))]
    depthwise, pointwise, bias = weights
    middle = dense(x, as_dense(depthwise), *arguments)
    d_pointwise = np.einsum("bhwc,bhwf->cf", middle, dy)[None, None]
    dx, dk = dense_gradients(x, as_dense(depthwise), dy @ pointwise[0, 0].T, *arguments)
    d_depthwise = from_dense(dk, depthwise.shape[-1])
    return [middle @ pointwise[0, 0] + bias, dx, d_depthwise, d_pointwise, dy.sum((0, 1, 2))]


def make(kind, kernel, rate, padding, multiplier=1, **options):
    options = {"dilation_rate": rate, "padding": padding, **options}
    if kind == "dense":
        return DilatedConv2D(5, kernel, **options)
    if kind == "depthwise":
        return DilatedDepthwiseConv2D(kernel, depth_multiplier=multiplier, **options)
    return DilatedSeparableConv2D(5, kernel, depth_multiplier=multiplier, **options)


def check(layer, size, mode, batch=2, channels=3, tolerance=2e-6):
    x = random(batch, *size, channels)
    layer.build((None, None, None, channels))
    weights = set_random_weights(layer)
    dy = random(*layer.compute_output_shape(x.shape), seed=7)
    expected = expected_convolution(layer, weights, x, dy)
    actual = run(layer, x, dy, mode)
    assert layer.compute_output_shape(x.shape) == actual[0].shape
    assert_close(actual, expected, tolerance)


# Convolutions: numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_convolution_and_gradients_match_float64(kind, geometry, mode):
    kernel, rate, padding, size = geometry
    check(make(kind, kernel, rate, padding), size, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", [GEOMETRIES[i] for i in (1, 2, 4, 5, 6, 9, 11)], ids=str)
def test_depth_multiplier(geometry, mode):
    kernel, rate, padding, size = geometry
    check(make("depthwise", kernel, rate, padding, multiplier=3), size, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", [GEOMETRIES[i] for i in (1, 2, 5)], ids=str)
def test_separable_convolution_is_depthwise_then_pointwise(geometry, mode):
    kernel, rate, padding, size = geometry
    check(make("separable", kernel, rate, padding, multiplier=2), size, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_one_image_and_one_channel(kind, mode):
    check(make(kind, 3, 2, "same"), (6, 5), mode, batch=1, channels=1)


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
@pytest.mark.parametrize("geometry", [GEOMETRIES[i] for i in (2, 4, 5, 6, 12)], ids=str)
def test_float64_takes_the_paths_without_onednn(kind, geometry):
    # oneDNN has no float64, so these are the formulations that other machines run.
    kernel, rate, padding, size = geometry
    for mode in MODES:
        check(make(kind, kernel, rate, padding, dtype="float64"), size, mode, tolerance=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_portable_operators_compute_the_same(mode):
    for kernel, rate, padding, size in GEOMETRIES[2:7]:
        with export_ops(native=False):
            check(make("depthwise", kernel, rate, padding), size, mode)


@pytest.mark.parametrize("native", [True, None])
def test_exported_operators_compute_the_same(native):
    if native and not layers._onednn_runs("float32"):
        pytest.skip("this machine cannot run TensorFlow's dilated depthwise operator")
    for kernel, rate, padding, size in GEOMETRIES:
        for kind in ("dense", "depthwise"):
            layer, x = make(kind, kernel, rate, padding), random(2, *size, 3).astype("float32")
            expected = layer(x)
            with export_ops(native):
                y = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])(x)
            assert_close([np.asarray(y)], [np.asarray(expected)])


def test_space_to_batch_and_taps_give_the_same_kernel_gradient(monkeypatch):
    for sparse in (0, 1e9):
        monkeypatch.setattr(layers, "_SPARSE", sparse)
        for kernel, rate, padding, size in GEOMETRIES[2:]:
            check(make("depthwise", kernel, rate, padding, multiplier=2), size, "static")


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_second_derivative(kind):
    layer = make(kind, 3, 2, "same", use_bias=False)
    x = tf.constant(random(1, 5, 4, 2), "float32")
    layer.build(x.shape)
    weights = set_random_weights(layer)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2) / 2
        gradient = inner.gradient(loss, x)
        loss = tf.reduce_sum(gradient**2) / 2
    # The loss is a quadratic form, so its gradient is A x for A = J'J, and the gradient of |A x|^2 / 2 is A A x.
    kernel = weights[0] if kind == "dense" else as_dense(weights[0])
    twice = np.asarray(x, "float64")
    for _ in range(2):
        twice, _ = dense_gradients(twice, kernel, dense(twice, kernel, (2, 2), "same"), (2, 2), "same")
    assert_close([np.asarray(outer.gradient(loss, x))], [twice], 1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["dense", "depthwise", "separable"])
def test_mixed_precision(kind, policy):
    for rate, mode in itertools.product((1, 2), MODES):
        layer = make(kind, 3, rate, "same", dtype=policy)
        layer.build((None, None, None, 3))
        weights = set_random_weights(layer)
        x, dy = random(2, 6, 5, 3), random(*layer.compute_output_shape((2, 6, 5, 3)), seed=7)
        assert layer(x).dtype == layer.compute_dtype
        assert {weight.dtype for weight in layer.weights} == {"float32"}
        tolerance = 0.005 if policy == "mixed_float16" else 0.04
        assert_close(run(layer, x, dy, mode), expected_convolution(layer, weights, x, dy), tolerance)


def test_bias_and_activation():
    x = random(1, 5, 6, 3)
    for kind in ("dense", "depthwise", "separable"):
        plain, full = (make(kind, 3, 2, "same", use_bias=False), make(kind, 3, 2, "same", activation="relu"))
        for layer in (plain, full):
            layer.build(x.shape)
        set_random_weights(full)
        plain.set_weights(full.get_weights()[:-1])
        expected = np.maximum(np.asarray(plain(x)) + full.get_weights()[-1], 0)
        np.testing.assert_allclose(full(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", ((2, 2), (2, 2)), ((3, 1), (0, 4))])
def test_groups(padding):
    x = random(1, 7, 6, 4)
    layer = DilatedConv2D(6, 3, dilation_rate=2, padding=padding, groups=2, use_bias=False)
    layer.build(x.shape)
    (kernel,) = set_random_weights(layer)
    halves = [dense(x[..., 2 * g : 2 * g + 2], kernel[..., 3 * g : 3 * g + 3], 2, padding) for g in range(2)]
    assert_close([np.asarray(layer(x))], [np.concatenate(halves, -1)])


@pytest.mark.parametrize("kind", ["dense", "depthwise", "separable"])
@pytest.mark.parametrize("rate", [1, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_same_as_the_keras_layer_that_it_replaces(kind, rate, padding):
    ours = make(kind, 3, rate, padding, multiplier=1, activation="tanh")
    config = ours.get_config()
    theirs = type(ours).__mro__[1].from_config(config)
    assert type(ours).from_config(theirs.get_config()).get_config() == config
    x = random(2, 9, 8, 3)
    ours.build(x.shape)
    theirs.build(x.shape)
    assert [(w.path, w.shape) for w in ours.weights] == [(w.path, w.shape) for w in theirs.weights]
    set_random_weights(ours)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_reduces_the_loss(jit_compile):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = DilatedConv2D(6, 3, padding="same", dilation_rate=2, activation="relu")(inputs)
    x = DilatedSeparableConv2D(6, 3, padding="same", dilation_rate=4, activation="relu")(x)
    x = DilatedDepthwiseConv2D(3, padding="same", dilation_rate=2)(x)
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=jit_compile)
    history = model.fit(random(8, 8, 8, 3), random(8, 8, 8, 6, seed=1), epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_compiles_with_xla(kind):
    layer = make(kind, 3, 2, "same")
    x, dy = random(2, 6, 5, 3), random(*layer.compute_output_shape((2, 6, 5, 3)), seed=7)
    layer.build(x.shape)
    weights = set_random_weights(layer)
    compiled = tf.function(lambda x: run(layer, x, dy, "graph"), jit_compile=True)
    actual = [np.asarray(tensor) for tensor in compiled(tf.constant(x, "float32"))]
    assert_close(actual, expected_convolution(layer, weights, x, dy))


# Convolutions: shapes and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_output_shape_is_the_same_for_known_and_unknown_sizes(geometry):
    kernel, rate, padding, size = geometry
    for kind in ("dense", "depthwise", "separable"):
        layer = make(kind, kernel, rate, padding)
        height, width = layer.compute_output_shape((None, *size, 3))[1:3]
        assert layer.compute_output_shape((4, None, size[1], 3))[:3] == (4, None, width)
        assert layer.compute_output_shape((None, size[0], None, 3))[:3] == (None, height, None)
        assert layer(keras.Input((None, None, 3))).shape[:3] == (None, None, None)
        assert layer(keras.Input((*size, 3))).shape[1:3] == (height, width)


@pytest.mark.parametrize("kind", ["dense", "depthwise", "separable"])
def test_refuses_what_it_cannot_do(kind):
    keras_name = {"dense": "Conv2D", "depthwise": "DepthwiseConv2D", "separable": "SeparableConv2D"}[kind]
    with pytest.raises(ValueError, match=rf"block3.*stride 1 only.*strides=\(2, 2\).*keras\.layers\.{keras_name} "):
        make(kind, 3, 2, "same", strides=(2, 2), name="block3")
    with pytest.raises(ValueError, match=r'block3.*data_format="channels_last"'):
        make(kind, 3, 2, "same", data_format="channels_first", name="block3")
    for padding in ("reflect", 3, ((1, 2), (3,)), ((1, 2), (3, -1)), ((1, 2.5), (3, 1)), None):
        with pytest.raises(ValueError, match=r'block3: `padding` must be "same", "valid" or \(\(top, bottom\)'):
            make(kind, 3, 2, padding, name="block3")
    with pytest.raises(ValueError, match=r"block3: a window of 5x5 positions.*does not fit a map of 4x9"):
        make(kind, 3, 2, "valid", name="block3")(np.zeros((1, 4, 9, 3)))


# Pools ------------------------------------------------------------------------------------------------------

POOLS = [
    (3, 1, "same", (5, 6)),
    (3, 1, ((1, 1), (1, 1)), (5, 6)),
    (2, 1, "same", (5, 6)),
    (2, 2, "same", (5, 6)),
    (3, 2, "same", (7, 9)),
    (3, 2, "valid", (7, 9)),
    (3, 4, ((0, 8), (4, 4)), (7, 9)),
    (3, 2, ((1, 4), (4, 2)), (3, 4)),
    ((2, 3), (3, 1), "same", (5, 6)),
    (3, 18, "same", (5, 4)),
    (5, 3, "same", (9, 4)),
    (3, 2, "same", (1, 1)),
]


def pooled(x, kind, kernel, rate, padding):
    views = np.stack([view for _, _, view in tap_views(pad(x, padding, kernel, rate, np.nan), kernel, rate)])
    assert not np.isnan(views).all(0).any(), "a window of padding alone has a test of its own"
    return np.nanmax(views, 0) if kind is DilatedMaxPooling2D else np.nanmean(views, 0)


@pytest.mark.parametrize("kind", [DilatedMaxPooling2D, DilatedAveragePooling2D])
@pytest.mark.parametrize("geometry", POOLS, ids=str)
def test_pool_ignores_padding(kind, geometry):
    kernel, rate, padding, size = geometry
    x = random(2, *size, 3) - 5
    layer = kind(kernel, rate, padding)
    expected = pooled(x, kind, *geometry[:3])
    assert layer.compute_output_shape(x.shape) == expected.shape
    dynamic = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for call in (layer, tf.function(layer), dynamic):
        assert_close([np.asarray(call(tf.constant(x, "float32")))], [expected])


@pytest.mark.parametrize("kind", [DilatedMaxPooling2D, DilatedAveragePooling2D])
@pytest.mark.parametrize("geometry", POOLS, ids=str)
def test_pool_gradient(kind, geometry):
    kernel, rate, padding, size = geometry
    # Distinct values far apart, so that a step of 1e-2 changes no maximum.
    x = np.random.default_rng(0).permutation(2 * np.prod(size)).reshape(2, *size, 1).astype("float64")
    layer = kind(kernel, rate, padding)
    dy = random(*layer.compute_output_shape(x.shape))
    expected = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-2
        difference = pooled(x + step, kind, *geometry[:3]) - pooled(x - step, kind, *geometry[:3])
        expected[index] = (difference * dy).sum() / 2e-2
    for mode in MODES:
        assert_close(run(layer, x, dy, mode)[1:], [expected], 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_window_of_padding_alone(dtype):
    x = ops.ones((1, 2, 2, 1), dtype)
    padding = ((4, 0), (0, 0))
    top = np.asarray(ops.cast(DilatedMaxPooling2D(1, 1, padding, dtype=dtype)(x), "float32"))[0, :4]
    lowest = {"float16": -65504.0, "bfloat16": -3.3895313892515355e38, "float32": -3.4028234663852886e38}[dtype]
    np.testing.assert_array_equal(top, np.full_like(top, lowest))
    average = DilatedAveragePooling2D(1, 1, padding, dtype=dtype)(x)
    np.testing.assert_array_equal(ops.cast(average[0, :, 0, 0], "float32"), [0, 0, 0, 0, 1, 1])


def test_pool_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"pool7: `pool_size` must be one or two whole numbers from 1 up.*=0"):
        DilatedMaxPooling2D(0, name="pool7")
    with pytest.raises(ValueError, match=r"pool7: `dilation_rate` must be one or two whole numbers"):
        DilatedAveragePooling2D(3, (1, 2, 3), name="pool7")
    with pytest.raises(ValueError, match="pool7: `padding` must be"):
        DilatedMaxPooling2D(3, 1, "full", name="pool7")
    with pytest.raises(ValueError, match="pool7: a window of 5x5 positions"):
        DilatedMaxPooling2D(3, 2, name="pool7")(np.zeros((1, 4, 9, 3)))


# Resize -----------------------------------------------------------------------------------------------------


def resized(x, height, width, align_corners):
    for axis, new in ((1, height), (2, width)):
        old = x.shape[axis]
        if align_corners:
            positions = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
        else:
            positions = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(positions).astype(int)
        weight = (positions - low).reshape([-1 if a == axis else 1 for a in range(4)])
        high = np.minimum(low + 1, old - 1)
        x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
    return x


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("old", "new"), [((5, 4), (9, 13)), ((9, 13), (5, 4)), ((1, 1), (3, 7)), ((4, 6), (4, 6))])
@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16", "mixed_bfloat16"])
def test_resize(old, new, align_corners, dtype):
    x, reference = random(2, *old, 3), np.zeros((2, *new, 1))
    layer = ResizeBilinear(align_corners, dtype=dtype)
    spec = [tf.TensorSpec((None, None, None, c), layer.compute_dtype) for c in (3, 1)]
    dynamic = tf.function(lambda x, reference: layer([x, reference]), input_signature=spec)
    tolerance = {"float32": 2e-6, "float64": 1e-12, "mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}[dtype]
    for call in (lambda x, reference: layer([x, reference]), dynamic):
        y = call(tf.constant(x, layer.compute_dtype), tf.constant(reference, layer.compute_dtype))
        assert y.dtype == layer.compute_dtype
        assert_close([np.asarray(tf.cast(y, "float64"))], [resized(x, *new, align_corners)], tolerance)
    assert layer.compute_output_shape([x.shape, reference.shape]) == y.shape
    assert layer.compute_output_shape([(None, None, None, 3), (None, None, 8, 1)]) == (None, None, 8, 3)


def test_resize_to_one_row():
    y = ResizeBilinear()([random(1, 3, 4, 2), np.zeros((1, 1, 1, 1))])
    assert_close([np.asarray(y)], [random(1, 3, 4, 2)[:, :1, :1]])


def test_resize_in_float32_inside_a_half_precision_model():
    x = keras.Input((None, None, 3), dtype="float16")
    layer = ResizeBilinear(dtype="float32")
    assert layer([x, keras.Input((9, 9, 1))]).dtype == "float32"


def test_resize_takes_two_maps():
    with pytest.raises(ValueError, match=r"up1: call it on two maps, layer\(\[x, reference\]\). Received: 3 of them"):
        ResizeBilinear(name="up1")([np.zeros((1, 2, 2, 1))] * 3)
    with pytest.raises(ValueError, match="up1: call it on two maps"):
        ResizeBilinear(name="up1")(np.zeros((1, 2, 2, 1)))


# Files ------------------------------------------------------------------------------------------------------


def model_of_all_layers(size=(None, None)):
    inputs = keras.Input((*size, 3))
    x = DilatedConv2D(6, 3, padding=((6, 6), (6, 6)), dilation_rate=6)(inputs)
    x = DilatedDepthwiseConv2D(3, padding=((2, 1), (4, 3)), dilation_rate=(1, 2))(x)
    x = DilatedSeparableConv2D(4, 3, padding="same", dilation_rate=2)(x)
    x = DilatedMaxPooling2D(3, 2, "same")(x)
    x = DilatedAveragePooling2D(2, 2, ((1, 1), (0, 2)))(x)
    x = ResizeBilinear(align_corners=False)([x, inputs])
    return keras.Model(inputs, x)


def test_saved_model_file_reloads(tmp_path):
    model = model_of_all_layers()
    x = random(1, 9, 7, 3).astype("float32")
    expected = model(x).numpy()
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(x), expected)
    assert [layer.get_config() for layer in reloaded.layers] == [layer.get_config() for layer in model.layers]
    assert reloaded.layers[1].get_config()["padding"] == [[6, 6], [6, 6]]


def in_a_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        capture_output=True,
        text=True,
        check=False,
    )


def test_saved_model_file_reloads_in_a_process_that_imports_the_layers(tmp_path):
    model = model_of_all_layers()
    x = np.ones((1, 9, 7, 3), "float32")
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, numpy, keras_deeplab.layers; "
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r}); "
        f"numpy.save({str(tmp_path / 'y.npy')!r}, model(numpy.ones((1, 9, 7, 3))))"
    )
    result = in_a_new_process(code)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x), rtol=1e-6)


# Exports ----------------------------------------------------------------------------------------------------


fastest_ops = functools.partial(export_ops, native=None)


def small_network(kind, size, rate, padding="same"):
    """Convolution, batch norm, ReLU: what a converter should make one operator of."""
    inputs = keras.Input((*size, 8), batch_size=1)
    x = make(kind, 3, rate, padding, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.ReLU(6.0)(x))
    for layer in model.layers[1:]:
        if layer.weights:
            layer.set_weights([abs(random(*w.shape, seed=3)) for w in layer.get_weights()])
    return model


def saved_model_operators(folder):
    """The operators of the function that does the work: the others call it or are gradients."""
    content = (folder / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].graph_def
    functions = [function for function in graph.library.function if "grad" not in function.signature.name]
    return max(([node.op for node in function.node_def] for function in functions), key=operators_of_interest)


def operators_of_interest(operators):
    return sum("Conv" in operator or "Space" in operator for operator in operators)


def tflite_operators_and_outputs(content, x):
    interpreter = tf.lite.Interpreter(model_content=content)
    operators = [details["op_name"] for details in interpreter._get_ops_details()]
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return operators, interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


@pytest.mark.parametrize("switch", [export_ops, fastest_ops, contextlib.nullcontext])
@pytest.mark.parametrize("size", [(13, 11), (None, None)], ids=["static", "dynamic"])
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_saved_model_holds_one_native_operator(kind, size, switch, tmp_path):
    model, x = small_network(kind, size, rate=2), random(1, 13, 11, 8).astype("float32")
    with switch():
        model.export(tmp_path / "native", verbose=False)
    if kind == "depthwise" and not layers._onednn_runs("float32"):
        pytest.skip("this machine cannot run TensorFlow's dilated depthwise operator")
    operators = [name for name in saved_model_operators(tmp_path / "native") if "Conv" in name or "Space" in name]
    assert operators == [{"dense": "Conv2D", "depthwise": "DepthwiseConv2dNative"}[kind]]
    reloaded = tf.saved_model.load(str(tmp_path / "native"))
    np.testing.assert_allclose(reloaded.serve(x), model(x), rtol=1e-5, atol=1e-5)
    if switch is not contextlib.nullcontext:
        functions = saved_model_pb2.SavedModel.FromString((tmp_path / "native" / "saved_model.pb").read_bytes())
        assert "internal_grad_fn" not in str(functions)


def test_depthwise_gradient_of_an_exported_graph_is_refused():
    layer = DilatedDepthwiseConv2D(3, dilation_rate=2)
    layer.build((1, 5, 5, 2))

    @tf.function(input_signature=[tf.TensorSpec((1, 5, 5, 2))], autograph=False)
    def gradient(x):
        with export_ops():
            return tf.gradients(layer(x), x)

    with pytest.raises(LookupError, match=r"traced for inference, in export_ops\(\)"):
        gradient.get_concrete_function()


def test_export_ops_chooses_a_portable_saved_model(tmp_path):
    model, x = small_network("depthwise", (None, None), rate=2), random(1, 13, 11, 8).astype("float32")
    with export_ops(native=False):
        model.export(tmp_path / "portable", verbose=False)
    assert "SpaceToBatchND" in saved_model_operators(tmp_path / "portable")
    reloaded = tf.saved_model.load(str(tmp_path / "portable"))
    np.testing.assert_allclose(reloaded.serve(x), model(x), rtol=1e-5, atol=1e-5)


def test_export_ops_holds_for_its_thread_and_its_block():
    seen = []
    with export_ops(native=False):
        with export_ops(native=True):
            assert layers._takes_native_depthwise("float16")
        assert not layers._takes_native_depthwise("float32")
        thread = threading.Thread(target=lambda: seen.append(layers._takes_native_depthwise("float32")))
        thread.start()
        thread.join()
    runs = layers._onednn_runs("float32")
    assert [*seen, layers._takes_native_depthwise("float32")] == [runs, runs]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("size", [(13, 11), (None, None)], ids=["static", "dynamic"])
@pytest.mark.parametrize(
    ("kind", "rate", "switch"),
    [
        ("dense", 2, export_ops),
        ("dense", 18, export_ops),
        ("depthwise", 2, export_ops),
        ("depthwise", 18, export_ops),
        ("dense", 18, contextlib.nullcontext),
        ("depthwise", 4, contextlib.nullcontext),
    ],
)
def test_tflite_holds_one_operator(kind, rate, switch, size):
    if kind == "depthwise" and switch is not export_ops and not layers._onednn_runs("float32"):
        pytest.skip("this machine cannot run TensorFlow's dilated depthwise operator")
    model, x = small_network(kind, size, rate), random(1, 13, 11, 8).astype("float32")
    with switch():
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    operators, y = tflite_operators_and_outputs(content, x)
    assert [op for op in operators if op != "DELEGATE"] == [
        {"dense": "CONV_2D", "depthwise": "DEPTHWISE_CONV_2D"}[kind]
    ]
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected")
@pytest.mark.parametrize("size", [(13, 11), (None, None)], ids=["static", "dynamic"])
def test_max_pool_survives_int8(size):
    inputs = keras.Input((*size, 4), batch_size=1)
    model = keras.Model(inputs, DilatedMaxPooling2D(3, 2, "same")(inputs))
    samples = np.random.default_rng(0).uniform(-1, 1, (8, 1, 13, 11, 4)).astype("float32")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    _, y = tflite_operators_and_outputs(converter.convert(), samples[0])
    np.testing.assert_allclose(y, model(samples[0]), atol=2 / 255)


# Another backend --------------------------------------------------------------------------------------------

OTHER_BACKEND = """
import importlib.util, sys
try:
    import keras, numpy as np
except ImportError as error:
    sys.exit(f"cannot import {error.name}")
spec = importlib.util.spec_from_file_location("layers", sys.argv[1])
layers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layers)
cases = np.load(sys.argv[2], allow_pickle=True).item()
for name, (kind, config, weights, inputs, expected) in cases.items():
    layer = getattr(layers, kind).from_config(config)
    layer(inputs)
    layer.set_weights(weights)
    tensors = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], batch_size=len(x)), inputs)
    compiled = keras.Model(tensors, layer(tensors))
    for outputs in (layer(inputs), compiled.predict_on_batch(inputs)):
        outputs = keras.ops.convert_to_numpy(outputs)
        assert outputs.shape == expected.shape, (name, outputs.shape, expected.shape)
        error = np.abs(outputs - expected).max()
        assert error < 1e-5, (name, error)
assert "tensorflow" not in sys.modules
print(len(cases), "agree")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree(backend, tmp_path):
    """JAX may live in another environment, with Keras: name its interpreter in KERAS_DEEPLAB_JAX_PYTHON."""
    python = os.environ.get("KERAS_DEEPLAB_JAX_PYTHON", sys.executable) if backend == "jax" else sys.executable
    if python == sys.executable and importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    cases = {}

    def add(layer, inputs):
        layer(inputs)
        if layer.weights:
            set_random_weights(layer)
        kind = type(layer).__name__
        outputs = ops.convert_to_numpy(layer(inputs))
        cases[f"{kind} {len(cases)}"] = (kind, layer.get_config(), layer.get_weights(), inputs, outputs)

    for kind, index in (("dense", 9), ("dense", 5), ("depthwise", 11), ("depthwise", 2), ("separable", 1)):
        kernel, rate, padding, size = GEOMETRIES[index]
        add(make(kind, kernel, rate, padding, multiplier=2), random(2, *size, 3).astype("float32"))
    for kind, index in ((DilatedMaxPooling2D, 7), (DilatedMaxPooling2D, 4), (DilatedAveragePooling2D, 3)):
        kernel, rate, padding, size = POOLS[index]
        add(kind(kernel, rate, padding), random(2, *size, 3).astype("float32"))
    for align_corners in (True, False):
        add(ResizeBilinear(align_corners), [random(1, 5, 4, 3).astype("float32"), np.zeros((1, 9, 7, 1), "float32")])
        add(layers.ScaleBilinear(0.75, align_corners), random(1, 11, 8, 3).astype("float32"))
    add(layers.UpsampleNearest(4), [random(1, 3, 4, 2).astype("float32"), np.zeros((1, 9, 14, 1), "float32")])
    add(layers.WindowedAveragePooling2D(3, (2, 4)), random(1, 9, 7, 2).astype("float32"))
    add(layers.Clip(-0.5, 0.25), random(1, 9, 7, 2).astype("float32"))
    np.save(tmp_path / "cases.npy", cases)
    result = subprocess.run(
        [python, "-c", OTHER_BACKEND, layers.__file__, tmp_path / "cases.npy"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.stderr.startswith("cannot import"):
        pytest.skip(f"{python} {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{len(cases)} agree"


@pytest.mark.parametrize("ends", [(1, -1), (0, float("inf")), (float("nan"), 1)])
def test_a_clip_needs_ends_in_order(ends):
    with pytest.raises(ValueError, match="`low` must be at most `high`, both finite"):
        layers.Clip(*ends)
