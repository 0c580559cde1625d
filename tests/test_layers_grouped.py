"""Grouped convolutions and layer scale: what Keras computes, with its gradients, dense, saved and exported."""

import warnings

import keras
import numpy as np
import pytest

from keras_deeplab import layers
from keras_deeplab.rewrite import atrous


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def filled(layer, channels, seed=1):
    layer.build((None, None, None, channels))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.standard_normal(weight.shape).astype("float32") for weight in layer.get_weights()])
    return layer


@pytest.mark.parametrize(
    ("layer", "settings"),
    [
        (layers.GroupedConv2D, {"strides": 2}),
        (layers.GroupedConv2D, {"padding": "same"}),
        (layers.DilatedConv2D, {"padding": "same", "dilation_rate": 3}),
        (layers.DilatedConv2D, {"padding": "valid", "dilation_rate": 2}),
    ],
)
def test_it_is_keras_s_convolution_with_its_gradients(layer, settings):
    import tensorflow as tf

    ours = filled(layer(6, 3, groups=2, **settings), 4)
    theirs = filled(keras.layers.Conv2D(6, 3, groups=2, **settings), 4)
    x = tf.convert_to_tensor(images(2, 11, 9, 4))
    results = []
    for each in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.function(each)(x)
            loss = tf.reduce_sum(y * y)
        results.append([y, *tape.gradient(loss, [x, *each.trainable_variables])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-4)


def network():
    x = inputs = keras.Input((None, None, 3))
    for stage in range(1, 4):
        x = keras.layers.ZeroPadding2D(1)(x) if stage > 1 else x
        groups, padding = (1, "same") if stage == 1 else (4, "valid")
        convolution = keras.layers.Conv2D if groups == 1 else layers.GroupedConv2D
        x = convolution(16, 3, 1 if stage == 1 else 2, padding, groups=groups, activation="relu")(x)
    x = layers.GroupedConv2D(16, 3, padding="same", groups=4)(x)
    return keras.Model(inputs, layers.LayerScale(0.5, name="scale")(x))


def test_the_dense_network_subsampled_is_the_network():
    model = network()
    x = images(1, 33, 41, 3)
    natural, dense = model(x), atrous(model, 2)(x)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(dense)[:, ::2, ::2], natural, atol=1e-6)


def test_a_network_with_them_is_saved_and_loaded(tmp_path):
    model = network()
    model.get_layer("scale").gamma.assign(np.linspace(0.1, 1, 16, dtype="float32"))
    x = images(1, 32, 32, 3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(each(x)) for each in (model, again)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_its_tflite_file_computes_the_same_by_one_operator_each(precision, tmp_path):
    import tensorflow as tf

    from keras_deeplab.export.flatbuffer import operators
    from keras_deeplab.export.tflite import export_tflite

    model = atrous(network(), 2)
    path = tmp_path / "model.tflite"
    pixels = list(np.random.default_rng(4).integers(0, 200, (12, 32, 32, 3), dtype="uint8"))
    calibration = {"calibration": pixels} if precision == "int8" else {}
    export_tflite(model, path, precision=precision, input_size=(32, 32), output="logits", upsample=False, **calibration)
    assert operators(path.read_bytes())[0]["CONV_2D"] == 4
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    image = np.random.default_rng(3).integers(0, 200, (1, 32, 32, 3)).astype(source["dtype"])
    interpreter.set_tensor(source["index"], image)
    interpreter.invoke()
    found = interpreter.get_tensor(target["index"]).astype("float32")
    if target["quantization"][0]:
        found = (found - target["quantization"][1]) * target["quantization"][0]
    expected = keras.ops.convert_to_numpy(model(image.astype("float32")))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < {"float32": 1e-5, "int8": 0.1}[precision] * np.ptp(expected)
