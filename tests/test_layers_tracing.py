"""The operators that dilated convolutions become in SavedModels and TFLite files."""

import contextlib
import functools
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_reference import make, random
from tensorflow.core.protobuf import saved_model_pb2

from keras_deeplab.layers import DilatedDepthwiseConv2D, DilatedMaxPooling2D, export_ops, tracing

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


@pytest.mark.slow
@pytest.mark.parametrize("switch", [export_ops, fastest_ops, contextlib.nullcontext])
@pytest.mark.parametrize("size", [(13, 11), (None, None)], ids=["static", "dynamic"])
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_saved_model_holds_one_native_operator(kind, size, switch, tmp_path):
    model, x = small_network(kind, size, rate=2), random(1, 13, 11, 8).astype("float32")
    with switch():
        model.export(tmp_path / "native", verbose=False)
    if kind == "depthwise" and not tracing.onednn_runs("float32"):
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
            assert tracing.takes_native("float16")
        assert not tracing.takes_native("float32")
        thread = threading.Thread(target=lambda: seen.append(tracing.takes_native("float32")))
        thread.start()
        thread.join()
    runs = tracing.onednn_runs("float32")
    assert [*seen, tracing.takes_native("float32")] == [runs, runs]


@pytest.mark.slow
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
    if kind == "depthwise" and switch is not export_ops and not tracing.onednn_runs("float32"):
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
