"""Layers in float64 NumPy, with gradients, and the cases that they are compared on."""

import itertools

import numpy as np
import tensorflow as tf

from keras_deeplab.layers import DilatedConv2D, DilatedDepthwiseConv2D, DilatedSeparableConv2D

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


# kernel, rate, padding, height x width of pools.
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
