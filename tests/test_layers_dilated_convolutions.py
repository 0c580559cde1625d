"""Dilated convolutions against a float64 NumPy reference, in TensorFlow's three ways of running."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from lanes import slow_except
from layer_reference import (
    GEOMETRIES,
    MODES,
    as_dense,
    assert_close,
    check,
    dense,
    dense_gradients,
    expected_convolution,
    make,
    random,
    run,
    set_random_weights,
)

from keras_deeplab.layers import (
    DilatedConv2D,
    DilatedDepthwiseConv2D,
    DilatedSeparableConv2D,
    export_ops,
    gradients,
    tracing,
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", slow_except(GEOMETRIES, *(GEOMETRIES[i] for i in (2, 4, 6, 11))), ids=str)
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_convolution_and_gradients_match_float64(kind, geometry, mode):
    kernel, rate, padding, size = geometry
    check(make(kind, kernel, rate, padding), size, mode)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("native", [True, None])
def test_exported_operators_compute_the_same(native):
    if native and not tracing.onednn_runs("float32"):
        pytest.skip("this machine cannot run TensorFlow's dilated depthwise operator")
    for kernel, rate, padding, size in GEOMETRIES:
        for kind in ("dense", "depthwise"):
            layer, x = make(kind, kernel, rate, padding), random(2, *size, 3).astype("float32")
            expected = layer(x)
            with export_ops(native):
                y = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])(x)
            assert_close([np.asarray(y)], [np.asarray(expected)])


@pytest.mark.slow
def test_space_to_batch_and_taps_give_the_same_kernel_gradient(monkeypatch):
    for sparse in (0, 1e9):
        monkeypatch.setattr(gradients, "_SPARSE", sparse)
        for kernel, rate, padding, size in GEOMETRIES[2:]:
            check(make("depthwise", kernel, rate, padding, multiplier=2), size, "static")


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_compiles_with_xla(kind):
    layer = make(kind, 3, 2, "same")
    x, dy = random(2, 6, 5, 3), random(*layer.compute_output_shape((2, 6, 5, 3)), seed=7)
    layer.build(x.shape)
    weights = set_random_weights(layer)
    compiled = tf.function(lambda x: run(layer, x, dy, "graph"), jit_compile=True)
    actual = [np.asarray(tensor) for tensor in compiled(tf.constant(x, "float32"))]
    assert_close(actual, expected_convolution(layer, weights, x, dy))


# Shapes and errors ------------------------------------------------------------------------------------------


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
