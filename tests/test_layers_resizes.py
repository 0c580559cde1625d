"""Bilinear resizes against a float64 NumPy reference, in both conventions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_reference import assert_close, random

from keras_deeplab.layers import ResizeBilinear


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
