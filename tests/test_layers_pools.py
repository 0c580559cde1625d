"""Pools against a float64 NumPy reference, in TensorFlow's three ways of running."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from layer_reference import MODES, POOLS, assert_close, pad, random, run, tap_views

from keras_deeplab.layers import DilatedAveragePooling2D, DilatedMaxPooling2D


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


@pytest.mark.slow
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
