"""Lite R-ASPP: its windows, its formula in NumPy, its place on Google's MobileNetV3 and its published size."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from randomise import randomise

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.heads.lite_raspp import WindowedAveragePooling2D, crop_window, lite_raspp, low_level_layer
from keras_deeplab.layers import ResizeBilinear
from keras_deeplab.rewrite import layer_outputs, taps


def normals(*shape):
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype("float32")


def build(features=(None, None, 12), fine=(None, None, 7), num_classes=3, **settings):
    inputs = [keras.Input(features), keras.Input(fine)]
    return randomise(keras.Model(inputs, lite_raspp(*inputs, num_classes, **settings)))


def weights(model, layer):
    return [keras.ops.convert_to_numpy(w) for w in model.get_layer(layer).weights]


@pytest.mark.parametrize("size", [(11, 23), (4, 6), (4, 23)])
def test_windows_lie_inside_and_a_smaller_map_is_one_window(size):
    x, layer = normals(2, *size, 3), WindowedAveragePooling2D((5, 7), (3, 5))
    rows = [0, 3, 6] if size[0] > 5 else [0]
    columns = [0, 5, 10, 15] if size[1] > 7 else [0]
    means = [[x[:, r : r + 5, c : c + 7].mean((1, 2)) for c in columns] for r in rows]
    means = np.array(means).transpose(2, 0, 1, 3)
    sized = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for call in (layer, sized):
        np.testing.assert_allclose(call(x), means, atol=1e-6)
    assert layer(keras.KerasTensor((None, *size, 3))).shape == (None, *means.shape[1:])
    assert layer(keras.KerasTensor((None, None, size[1], 3))).shape == (None, None, *means.shape[2:])


@pytest.mark.parametrize("arguments", [{"pool_size": 0}, {"pool_size": (3, 3, 3)}, {"pool_size": 3, "strides": 1.5}])
def test_windows_of_no_size_are_refused(arguments):
    with pytest.raises(ValueError, match=r"must be one or two whole numbers from 1 up\. Received: "):
        WindowedAveragePooling2D(**arguments)


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize("window", [None, 5])
def test_the_head_is_its_formula(quantized, window):
    """The gate of the means weighs the 1x1 branch; both maps' scores are summed (research/deeplab/model.py)."""
    settings = {} if window is None else {"pooling_window": window, "pooling_strides": (2, 3)}
    model = build(quantized_sigmoid=quantized, filters=16, **settings)
    x, fine = normals(2, 9, 11, 12), normals(2, 33, 41, 7)

    def resize(a, reference):
        return keras.ops.convert_to_numpy(ResizeBilinear()([a, reference]))

    means = x.mean((1, 2), keepdims=True)
    if window is not None:
        means = keras.ops.convert_to_numpy(keras.layers.AveragePooling2D(window, (2, 3))(x))
    kernel, bias = weights(model, "image_pooling")
    gate = means @ kernel[0, 0] + bias
    gate = np.clip(gate + 3, 0, 6) * 0.16667 if quantized else 1 / (1 + np.exp(-gate))
    gamma, beta, mean, variance = weights(model, "aspp0_BN")
    branch = np.maximum((x @ weights(model, "aspp0")[0][0, 0] - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
    # in the source's order: resized before it is scored
    gated = resize(branch * resize(gate, x), fine)
    expected = 0
    for layer, values in [("decoder_conv0", gated), ("feature_projection0", fine)]:
        kernel, bias = weights(model, layer)
        expected = expected + values @ kernel[0, 0] + bias
    found = keras.ops.convert_to_numpy(model([x, fine]))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_logits_are_float32_under_a_half_precision_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(pooling_window=25)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = model([normals(1, 5, 6, 12), normals(1, 17, 21, 7)])
    assert logits.dtype == "float32"
    assert logits.shape == (1, 17, 21, 3)


@pytest.mark.slow
def test_a_saved_head_reloads_in_another_process_without_custom_objects(tmp_path):
    model = build(pooling_window=25)
    model.save(tmp_path / "head.keras")
    pair = [normals(1, 30, 31, 12), normals(1, 60, 61, 7)]
    np.savez(tmp_path / "arrays.npz", *pair, expected=model(pair))
    code = """
import sys, keras, keras_deeplab, numpy as np
arrays = np.load(sys.argv[2])
model = keras.saving.load_model(sys.argv[1])
np.testing.assert_allclose(model([arrays["arr_0"], arrays["arr_1"]]), arrays["expected"], atol=1e-6)
"""
    files = [str(tmp_path / name) for name in ("head.keras", "arrays.npz")]
    result = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


# network -> parameters of the model for 19 classes, which MobileNetV3's table on Cityscapes gives as 1.51 M and 0.47 M
PUBLISHED = {"mobilenet_v3_large_seg": (1_507_198, 120), "mobilenet_v3_small_seg": (468_830, 88)}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_have_their_size_and_tap_stride_8(name):
    parameters, channels = PUBLISHED[name]
    classifier = BACKBONES[name].build((None, None, 3))
    fine, features = layer_outputs(classifier, [low_level_layer(classifier), list(taps(classifier).values())[-1]])
    logits = lite_raspp(features, fine, 19, pooling_window=crop_window(32))
    model = keras.Model(classifier.input, [logits, fine])
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_weights) == parameters
    shapes = model.compute_output_shape((None, 1025, 2049, 3))
    assert shapes == [(None, 129, 257, 19), (None, 129, 257, channels)]


def test_a_network_without_stride_8_is_refused():
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(4, 3, 4, name="quarter")(inputs), name="shallow")
    with pytest.raises(ValueError, match=r"scores at stride 8; 'shallow' has maps of strides 1, 4\."):
        low_level_layer(network)
