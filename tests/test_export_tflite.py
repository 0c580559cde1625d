"""TFLite files agree with the Keras model, int8 ones are integer throughout, and bad ones aren't kept."""

import collections
import pathlib
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import NUM_CLASSES, photograph, small_model

from keras_deeplab import data, layers
from keras_deeplab.export import compare, flatbuffer
from keras_deeplab.export.calibration import Calibration
from keras_deeplab.export.compare import verify
from keras_deeplab.export.flatbuffer import operators
from keras_deeplab.export.tflite import RejectedFile, export_precisions, export_tflite, export_verified
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metadata import tflite as _tflite_metadata
from keras_deeplab.specs import Classes, ModelSpec

HEIGHT, WIDTH = SIZE = (65, 81)


def interpreter(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        loaded = tf.lite.Interpreter(model_path=str(path), num_threads=1)
    loaded.allocate_tensors()
    return loaded


def run(path, image):
    """The one output of a file for one image (H, W, 3)."""
    loaded = interpreter(path)
    (source,), (target,) = loaded.get_input_details(), loaded.get_output_details()
    if -1 in source["shape_signature"]:
        loaded.resize_tensor_input(source["index"], (1, *np.shape(image)))
        loaded.allocate_tensors()
    loaded.set_tensor(source["index"], np.asarray(image)[None].astype(source["dtype"]))
    loaded.invoke()
    return loaded.get_tensor(target["index"])[0]


def keras_logits(model, image):
    return np.asarray(model(np.asarray(image, np.float32)[None], training=False))[0]


def agreement(path, model, seeds=(100, 101, 102)):
    """The share of equal labels on pictures that weren't calibrated on."""
    pictures = [photograph(HEIGHT, WIDTH, seed) for seed in seeds]
    equal = [run(path, picture) == keras_logits(model, picture).argmax(-1) for picture in pictures]
    return np.mean(equal)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def photographs():
    return [photograph(HEIGHT - seed % 3, WIDTH - seed % 5, seed) for seed in range(24)]


@pytest.fixture(scope="module")
def integer_file(model, photographs, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "small.tflite"
    return export_tflite(model, path, precision="int8", input_size=SIZE, calibration=photographs)


# What the files compute -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [small_model, lambda: small_model(64), lambda: small_model(upsample=False), lambda: small_model(plain=True)],
    ids=["any size", "another size", "small logits", "Keras's dilated layers"],
)
def test_float32_agrees_with_the_model_and_keeps_dilated_operators(build, model, tmp_path):
    written = export_tflite(build(), tmp_path / "model.tflite", input_size=SIZE)
    assert agreement(written.path, model) >= 0.9999
    assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & written.operators.keys()
    assert written.operators["DEPTHWISE_CONV_2D"] == 2
    assert written.operators["CONV_2D"] == 6
    labels = run(written.path, photograph(*SIZE))
    assert labels.dtype == np.uint8
    assert labels.shape == SIZE
    assert len(np.unique(labels)) >= 3


def test_logits_are_those_of_the_model(model, tmp_path):
    written = export_tflite(model, tmp_path / "model.tflite", input_size=SIZE, output="logits")
    picture = photograph(*SIZE)
    np.testing.assert_allclose(run(written.path, picture), keras_logits(model, picture), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "least", "types"),
    [
        ("float16", 0.999, {np.float16, np.float32}),
        ("dynamic", 0.98, {np.int8, np.float32}),
        ("int8_weights", 0.99, {np.int8, np.float16, np.float32}),
    ],
)
def test_smaller_weights_agree_nearly(precision, least, types, model, tmp_path):
    written = export_tflite(model, tmp_path / "model.tflite", input_size=SIZE, precision=precision)
    assert least <= agreement(written.path, model) < 1
    assert {d["dtype"] for d in interpreter(written.path).get_tensor_details() if len(d["shape"]) == 4} == types


@pytest.mark.slow
def test_photographs_round_the_kernels_of_int8_weights_better(model, photographs, tmp_path):
    def error(calibration, precision):
        options = {"input_size": SIZE, "output": "logits", "calibration": calibration}
        path = export_tflite(model, tmp_path / "model.tflite", precision=precision, **options).path
        pictures = [photograph(HEIGHT, WIDTH, seed) for seed in range(100, 106)]
        return np.mean([np.square(run(path, picture) - keras_logits(model, picture)) for picture in pictures])

    assert 0 < error(photographs, "int8_weights") < 0.8 * error(None, "int8_weights")
    # It rounds activations too, whatever the kernels.
    assert 0 < error(photographs, "dynamic") < 1.1 * error(None, "dynamic")


@pytest.mark.slow
def test_int8_weights_have_a_scale_for_each_channel_and_spare_small_kernels(model, tmp_path):
    written = export_tflite(model, tmp_path / "model.tflite", input_size=SIZE, precision="int8_weights")
    loaded = interpreter(written.path)
    stored = [entry for entry in loaded.get_tensor_details() if entry["dtype"] == np.int8]
    # Of the kernels only the dilated 3x3 one has 1,024 weights or more.
    assert [tuple(entry["shape"]) for entry in stored] == [(16, 3, 3, 12)]
    (dense,) = (layer for layer in model.layers if isinstance(layer, layers.DilatedConv2D))
    norm = next(layer for layer in model.layers[model.layers.index(dense) :] if "norm" in layer.name)
    gain = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    folded = (np.asarray(dense.kernel) * gain).transpose(3, 0, 1, 2)
    quantization = stored[0]["quantization_parameters"]
    np.testing.assert_allclose(quantization["scales"], np.abs(folded).max((1, 2, 3)) / 127, rtol=1e-4)
    assert not quantization["zero_points"].any()
    restored = loaded.get_tensor(stored[0]["index"]) * quantization["scales"][:, None, None, None]
    assert np.abs(restored - folded).max() <= 0.51 * quantization["scales"].max()


@pytest.mark.slow
def test_int16_activations_compute_in_integers_throughout(model, photographs, tmp_path):
    options = {"precision": "int16x8", "input_size": SIZE, "calibration": photographs[:8]}
    written = export_tflite(model, tmp_path / "model.tflite", **options)
    assert written.float_operators == ()
    assert agreement(written.path, model) >= 0.99
    details = interpreter(written.path).get_tensor_details()
    assert sum(entry["dtype"] == np.int16 for entry in details) >= 15
    assert {entry["dtype"] for entry in details if len(entry["shape"]) == 4 and entry["dtype"] != np.int16} == {
        np.float32,
        np.int8,
        np.int32,
    }
    scores = next(entry for entry in details if entry["dtype"] == np.int32 and tuple(entry["shape"]) == (1, *SIZE, 5))
    assert scores["quantization"] == (0.0, 0)
    as_bytes = export_tflite(model, tmp_path / "bytes.tflite", input_type="uint8", **options)
    assert as_bytes.float_operators == ()
    assert interpreter(as_bytes.path).get_input_details()[0]["dtype"] == np.uint8
    picture = photograph(*SIZE, 100)
    np.testing.assert_array_equal(run(as_bytes.path, picture), run(written.path, picture))


@pytest.mark.slow
def test_equal_biases_keep_their_values_in_int16(tmp_path):
    """The converter holds them once, at the scale of one of their operators."""
    inputs = keras.Input((16, 16, 3))
    x = inputs
    for gain in (0.002, 0.3, 0.01):
        bias, kernel = keras.initializers.Constant(3), keras.initializers.RandomUniform(-gain, gain, seed=1)
        x = keras.layers.Conv2D(8, 1, bias_initializer=bias, kernel_initializer=kernel)(x)
    model = keras.Model(inputs, x)
    pictures = [photograph(16, 16, seed) for seed in range(4)]
    options = {"precision": "int16x8", "calibration": pictures, "output": "logits"}
    written = export_tflite(model, tmp_path / "model.tflite", **options)
    np.testing.assert_allclose(run(written.path, pictures[0]), keras_logits(model, pictures[0]), rtol=0.01)


# Sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.9999), ("float16", 0.998), ("int8", 0.95)])
def test_a_file_for_any_size_keeps_dilated_operators(precision, least, model, photographs, tmp_path):
    options = {"calibration": photographs[:8]} if precision == "int8" else {}
    written = export_tflite(model, tmp_path / "any.tflite", precision=precision, input_size="dynamic", **options)
    assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & written.operators.keys()
    assert written.operators["DEPTHWISE_CONV_2D"] == 2 + (precision == "int8")
    assert written.input_sizes == ()
    assert written.input_size is None
    assert interpreter(written.path).get_input_details()[0]["shape_signature"].tolist() == [1, -1, -1, 3]
    segment = predictor(written.path)
    equal = []
    for seed, size in enumerate([(65, 81), (64, 64), (97, 50), (33, 130), (128, 96)]):
        picture = photograph(*size, seed)
        labels = run(written.path, picture)
        np.testing.assert_array_equal(segment(picture), labels)
        equal.append(np.mean(labels == keras_logits(model, picture).argmax(-1)))
    assert least <= np.mean(equal)
    if precision == "int8":
        assert written.float_operators == ()


@pytest.mark.slow
def test_one_file_for_several_sizes_shares_its_weights(photographs, tmp_path):
    # The 3x3 convolution behind has 14,400 weights, so that sharing shows.
    wide = small_model(extra=keras.layers.Conv2D(100, 3, padding="same"))
    one = export_tflite(wide, tmp_path / "one.tflite", input_size=SIZE)
    two = export_tflite(wide, tmp_path / "two.tflite", input_size=[SIZE, 97])
    assert two.input_sizes == (SIZE, (97, 97))
    assert two.input_size == SIZE
    assert two.bytes < 1.15 * one.bytes
    loaded = interpreter(two.path)
    assert loaded.get_signature_list() == {
        "65x81": {"inputs": ["images"], "outputs": ["labels"]},
        "97x97": {"inputs": ["images"], "outputs": ["labels"]},
    }
    picture = photograph(97, 97, 100)
    labels = loaded.get_signature_runner("97x97")(images=picture[None].astype(np.float32))["labels"][0]
    assert np.mean(labels == keras_logits(wide, picture).argmax(-1)) >= 0.9999
    np.testing.assert_array_equal(run(two.path, photograph(*SIZE, 100)), run(one.path, photograph(*SIZE, 100)))

    segment = predictor(two.path)
    np.testing.assert_array_equal(segment(picture), labels)
    # Of the sizes that hold an image the smallest is taken.
    small = photograph(60, 70, 3)
    np.testing.assert_array_equal(segment(small), predictor(wide, SIZE)(small))
    np.testing.assert_array_equal(predictor(two.path, 97)(small), predictor(wide, 97)(small))
    with pytest.raises(ValueError, match=r"is 98x97 .* larger than all sizes of .*: 65x81, 97x97"):
        segment(photograph(98, 97))
    with pytest.raises(ValueError, match=r"takes images of 65x81, 97x97, received input_size \(513, 513\)"):
        predictor(two.path, 513)


@pytest.mark.slow
def test_several_sizes_of_int8_agree_and_share_kernels(model, photographs, tmp_path):
    options = {"precision": "int8", "calibration": photographs}
    both = export_tflite(model, tmp_path / "two.tflite", input_size=[SIZE, 97], **options)
    largest = export_tflite(model, tmp_path / "one.tflite", input_size=97, **options)
    assert both.float_operators == ()
    first, second = kernels(both.path)
    assert len(set(first)) > 5
    assert first == second
    square = photograph(97, 97, 100)
    np.testing.assert_array_equal(predictor(both.path)(square), predictor(largest.path)(square))
    assert np.mean(predictor(both.path)(square) == keras_logits(model, square).argmax(-1)) >= 0.95
    picture = photograph(*SIZE, 100)
    assert np.mean(run(both.path, picture) == keras_logits(model, picture).argmax(-1)) >= 0.95


@pytest.mark.slow
def test_a_fixed_model_is_quantised_for_another_size_with_the_same_kernels(photographs, tmp_path):
    fixed = keras.models.clone_model(small_model(), input_tensors=keras.Input((*SIZE, 3)))
    fixed.set_weights(small_model().get_weights())
    options = {"precision": "int8", "calibration": photographs}
    both = export_tflite(fixed, tmp_path / "two.tflite", input_size=[(49, 97), SIZE], **options)
    for size in ((49, 97), SIZE):
        picture = photograph(*size, 100)
        assert np.mean(predictor(both.path)(picture) == keras_logits(small_model(), picture).argmax(-1)) >= 0.95


def kernels(path):
    """The buffers of the convolutions' kernels, for each size."""
    file = flatbuffer.unpacked(path.read_bytes())
    kinds = (flatbuffer.schema.BuiltinOperator.CONV_2D, flatbuffer.schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    return [
        [
            graph.tensors[int(operator.inputs[1])].buffer
            for operator in graph.operators
            if flatbuffer.code_of(file, operator) in kinds
        ]
        for graph in file.subgraphs
    ]


@pytest.mark.slow
def test_constants_lie_at_multiples_of_16(integer_file):
    from keras_deeplab._helpers.private import schema

    content = integer_file.path.read_bytes()
    file = schema.Model.GetRootAs(content, 0)
    found = 0
    for index in range(file.BuffersLength()):
        buffer = file.Buffers(index)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0
            found += 1
    assert found > 20


# What the files return --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("align_corners", [True, False])
def test_logits_at_the_stride_of_the_head_leave_the_resize_to_the_caller(align_corners, tmp_path):
    coarse = small_model(upsample=False)
    resize = layers.ResizeBilinear(align_corners, dtype="float32")
    model = keras.Model(coarse.inputs[0], resize([coarse.outputs[0], coarse.inputs[0]]))
    options = {"input_size": SIZE, "output": "logits", "upsample": False}
    written = export_tflite(model, tmp_path / "model.tflite", **options)
    picture = photograph(*SIZE, 100)
    logits = run(written.path, picture)
    assert logits.shape == (17, 21, NUM_CLASSES)
    np.testing.assert_allclose(logits, keras_logits(coarse, picture), rtol=1e-3, atol=1e-3)
    assert "ARG_MAX" not in written.operators
    # The predictor is such a caller, and the file tells it how to resize.
    labels = predictor(written.path)(picture)
    assert np.mean(labels == keras_logits(model, picture).argmax(-1)) >= 0.9999
    # A model that has no last resize gives the same file.
    same = export_tflite(coarse, tmp_path / "same.tflite", **options)
    np.testing.assert_array_equal(run(same.path, picture), logits)


@pytest.mark.slow
def test_a_model_of_full_size_without_a_last_resize_has_none_to_leave(tmp_path):
    inputs = keras.Input((None, None, 3))
    plain = keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same")(inputs))
    with pytest.raises(ValueError, match=r"no resize to leave to the caller: choose upsample=True"):
        export_tflite(plain, tmp_path / "model.tflite", input_size=8, output="logits", upsample=False)
    assert export_tflite(plain, tmp_path / "model.tflite", input_size=8).operators["ARG_MAX"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("upsample", [True, False])
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_probabilities_are_those_of_the_model(activation, upsample, model, tmp_path):
    expected = model if upsample else small_model(upsample=False)
    source = model
    if activation:
        source = keras.Model(model.inputs[0], keras.layers.Activation("softmax")(model.outputs[0]))
    options = {"input_size": SIZE, "output": "probabilities", "upsample": upsample}
    written = export_tflite(source, tmp_path / "model.tflite", **options)
    assert written.operators["SOFTMAX"] == 1
    picture = photograph(*SIZE, 100)
    softmax = keras.ops.softmax(keras_logits(expected, picture), axis=-1)
    np.testing.assert_allclose(run(written.path, picture), softmax, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("output_type", ["uint8", "float32", None])
def test_int8_files_return_the_type_asked_for(output_type, model, photographs, tmp_path):
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs[:8], "output": "probabilities"}
    written = export_tflite(model, tmp_path / "model.tflite", output_type=output_type, **options)
    assert written.float_operators == ()
    (target,) = interpreter(written.path).get_output_details()
    assert target["dtype"] == np.dtype(output_type or "int8")
    picture = photograph(*SIZE, 100)
    found = run(written.path, picture).astype(np.float32)
    scale, zero_point = target["quantization"]
    found = found if output_type == "float32" else (found - zero_point) * scale
    expected = keras.ops.softmax(keras_logits(model, picture), axis=-1)
    assert np.abs(found - expected).mean() < 0.03


# Metadata ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_tells_its_classes_colours_and_sizes(model, tmp_path):
    names, colours = ["none", "road", "car", "tree", "sky"], np.arange(15, dtype=np.uint8).reshape(5, 3)
    options = {"input_size": SIZE, "output": "logits", "upsample": False}
    path = export_tflite(model, tmp_path / "model.tflite", classes=names, palette=colours, **options).path
    spec = _tflite_metadata.read_spec(path)
    assert spec.model.labels == tuple(names)
    np.testing.assert_array_equal(spec.model.classes.colors, colours)
    assert (spec.precision, spec.output, spec.input_sizes, spec.upsampled) == ("float32", "logits", (SIZE,), False)
    assert (spec.model.num_classes, spec.model.resize) == (5, "align_corners")
    segment = predictor(path)
    assert segment.spec == spec.model
    # Without names nothing takes their place, and the number of classes is known still.
    bare = predictor(export_tflite(model, tmp_path / "bare.tflite", input_size=SIZE).path)
    assert (bare.spec.classes.names, bare.num_labels) == (None, 5)
    assert _tflite_metadata.read_spec(tmp_path / "bare.tflite").model.classes == Classes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "b"]}, r"classes must be 5 names .*; received 2"),
        ({"classes": ["a", "b", "c", "d", "e\nf"]}, r"classes must be 5 names of a line each"),
        ({"palette": np.zeros((5, 3))}, r"palette must be uint8 \(N, 3\), received float64"),
        ({"palette": np.zeros((4, 3), np.uint8)}, r"the palette has 4 colours for 5 classes"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(options, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_tflite(model, tmp_path / "model.tflite", input_size=SIZE, **options)


# Errors of layers -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_error_of_each_layer_is_told(model, photographs, tmp_path):
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs[:8], "layer_errors": 2}
    errors = export_tflite(model, tmp_path / "model.tflite", **options).layer_errors
    kinds = collections.Counter(entry.operator for entry in errors)
    assert kinds["CONV_2D"] == 6
    assert kinds["DEPTHWISE_CONV_2D"] == 3
    assert [entry.error for entry in errors] == sorted((entry.error for entry in errors), reverse=True)
    # Logits are cut far below the largest, which costs no label.
    cut, others = errors[:2], errors[2:]
    assert {entry.operator for entry in cut} == {"CONV_2D", "RESIZE_BILINEAR"}
    assert all(0 < entry.error < 0.1 and entry.scale > 0 for entry in others if entry.name.startswith("conv"))
    # Ranges found on a black picture alone don't hold a bright one's values.
    options |= {"calibration": [np.zeros((*SIZE, 3), np.uint8)], "layer_errors": 0}
    dark = export_tflite(model, tmp_path / "dark.tflite", **options).path.read_bytes()
    exact = export_tflite(model, tmp_path / "exact.tflite", input_size=SIZE).path.read_bytes()
    picture = photograph(*SIZE, 100)[None].astype(np.float32)
    worse = {entry.name: entry for entry in compare.layer_errors(dark, exact, [picture])}
    assert max(entry.error for entry in worse.values() if entry.operator == "CONV_2D") > 0.2
    assert {entry.error for entry in compare.layer_errors(exact, exact, [picture])} == {0.0}
    assert export_tflite(model, tmp_path / "plain.tflite", input_size=SIZE).layer_errors is None
    with pytest.raises(ValueError, match=r"told of int8 and int16x8 files; this one is float32"):
        export_tflite(model, tmp_path / "plain.tflite", input_size=SIZE, layer_errors=1)


@pytest.mark.slow
def test_half_precision_models_become_float32_files(model, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = small_model()
    finally:
        keras.config.set_dtype_policy("float32")
    written = export_tflite(half, tmp_path / "model.tflite", input_size=SIZE)
    assert agreement(written.path, model) >= 0.9999


@pytest.mark.slow
def test_int8_is_integer_from_end_to_end(integer_file, model):
    assert integer_file.float_operators == ()
    assert integer_file.bytes == integer_file.path.stat().st_size
    assert not {"SPACE_TO_BATCH_ND", "DEQUANTIZE"} & integer_file.operators.keys()
    details = interpreter(integer_file.path).get_tensor_details()
    assert {np.dtype(entry["dtype"]).kind for entry in details} <= {"i", "u"}
    scales = [len(entry["quantization_parameters"]["scales"]) for entry in details if len(entry["shape"]) == 4]
    assert {8, 12, NUM_CLASSES} <= set(scales)  # one for each output channel
    assert agreement(integer_file.path, model) >= 0.95


@pytest.mark.slow
def test_int8_takes_the_pixels_themselves(integer_file):
    (source,) = interpreter(integer_file.path).get_input_details()
    assert source["dtype"] == np.uint8
    assert source["quantization"] == (1.0, 0)


@pytest.mark.slow
def test_files_have_a_signature_and_short_unique_names(integer_file, model):
    loaded = interpreter(integer_file.path)
    assert loaded.get_signature_list() == {"serving_default": {"inputs": ["images"], "outputs": ["labels"]}}
    picture = photograph(*SIZE, 100)
    labels = loaded.get_signature_runner()(images=picture[None])["labels"][0]
    np.testing.assert_array_equal(labels, run(integer_file.path, picture))
    names = [entry["name"] for entry in loaded.get_tensor_details()]
    assert len(set(names)) == len(names)
    assert not [name for name in names if ";" in name or model.name in name]


@pytest.mark.slow
@pytest.mark.parametrize(("input_type", "shift"), [("int8", -128), ("float32", 0)])
def test_int8_files_with_other_inputs_give_the_same_labels(
    input_type, shift, integer_file, model, photographs, tmp_path
):
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs, "input_type": input_type}
    written = export_tflite(model, tmp_path / "model.tflite", **options)
    assert written.float_operators == ()
    picture = photograph(*SIZE, 100)
    np.testing.assert_array_equal(run(written.path, picture.astype(np.int16) + shift), run(integer_file.path, picture))


@pytest.mark.slow
def test_int8_logits_come_with_their_scale(model, photographs, tmp_path):
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs, "output": "logits"}
    written = export_tflite(model, tmp_path / "model.tflite", **options)
    (target,) = interpreter(written.path).get_output_details()
    assert target["dtype"] == np.int8
    scale, zero_point = target["quantization"]
    picture = photograph(*SIZE, 100)
    logits = (run(written.path, picture).astype(np.float32) - zero_point) * scale
    expected = keras_logits(model, picture)
    assert np.abs(logits - expected).mean() < 0.03 * np.ptp(expected)


@pytest.mark.slow
def test_a_model_inside_the_model_is_quantised_as_if_it_were_not(model, photographs, tmp_path):
    inputs = keras.Input((None, None, 3))
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs}
    outer = keras.Model(inputs, model(inputs))
    one, other = (export_tflite(each, tmp_path / f"{each.name}.tflite", **options) for each in (model, outer))
    assert one.operators == other.operators
    picture = photograph(*SIZE, 100)
    np.testing.assert_array_equal(run(one.path, picture), run(other.path, picture))


@pytest.mark.slow
def test_only_int8_files_are_fine_tuned_or_keep_float_tensors(model, photographs, tmp_path):
    path = tmp_path / "model.tflite"
    for option in ("fine_tune_steps", "float_tensors"):
        with pytest.raises(ValueError, match="are for int8; this file is float16"):
            export_tflite(model, path, precision="float16", input_size=SIZE, **{option: 2})
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs[:8]}
    mixed = export_tflite(model, path, float_tensors=2, **options)
    assert 0 < len(mixed.float_operators) < sum(mixed.operators.values())
    assert agreement(path, model) > 0.95
    tuned = export_tflite(model, path, fine_tune_steps=3, **options)
    assert tuned.float_operators == ()
    assert agreement(path, model) > 0.95


@keras.saving.register_keras_serializable("tests")
def _cosine(x):
    return keras.ops.cos(x)


@pytest.mark.slow
def test_operators_that_stay_in_floating_point_are_refused(photographs, tmp_path):
    path = tmp_path / "model.tflite"
    odd = small_model(extra=keras.layers.Activation(_cosine))
    with pytest.raises(ValueError, match=r"int8.*COS"):
        export_tflite(odd, path, precision="int8", input_size=SIZE, calibration=photographs[:2])
    assert not list(tmp_path.iterdir())
    _, floating = operators(export_tflite(odd, path, input_size=SIZE).path.read_bytes())
    assert collections.Counter(floating)["COS"] == 1
    options = {"precision": "int8", "input_size": SIZE, "calibration": photographs[:2], "allow_float": True}
    assert export_tflite(odd, path, **options).float_operators == ("DEQUANTIZE", "COS", "QUANTIZE")


# Calibration ------------------------------------------------------------------------------------------------


def write_images(folder, count):
    folder.mkdir(parents=True)
    for index in range(count):
        (folder / f"{index:03d}.png").write_bytes(tf.io.encode_png(np.full((8, 9, 3), index, np.uint8)).numpy())


def calibration_images(given, size, samples=100):
    return Calibration(given, samples, ModelSpec(2)).images(size)


def shades(images):
    return [int(image[0, 0, 0, 0]) for image in images]


def test_a_folder_of_images_is_sampled_evenly(tmp_path):
    write_images(tmp_path / "photos", 20)
    assert shades(calibration_images(tmp_path / "photos", (8, 9), 5)) == [0, 4, 8, 12, 16]
    assert shades(calibration_images(str(tmp_path / "photos"), (8, 9), 100)) == list(range(20))


@pytest.mark.slow
def test_a_data_set_gives_its_training_split_only(tmp_path):
    write_images(tmp_path / "set" / "images", 20)
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "splits").mkdir()
    (tmp_path / "set" / "classes.txt").write_text("a\nb\n")
    for index in range(20):
        mask = tf.io.encode_png(np.zeros((8, 9, 1), np.uint8)).numpy()
        (tmp_path / "set" / "masks" / f"{index:03d}.png").write_bytes(mask)
    (tmp_path / "set" / "splits" / "train.txt").write_text("".join(f"{index:03d}\n" for index in range(12)))
    (tmp_path / "set" / "splits" / "val.txt").write_text("".join(f"{index:03d}\n" for index in range(12, 20)))
    assert sorted(shades(calibration_images(tmp_path / "set", (8, 9)))) == list(range(12))
    chosen = shades(calibration_images(data.load(tmp_path / "set", "train"), (8, 9), 4))
    assert len(set(chosen)) == 4
    assert chosen == shades(calibration_images(tmp_path / "set", (8, 9), 4))


def test_any_iterable_of_images_or_samples_gives_its_first(photographs):
    endless = ({"image": np.full((8, 9, 3), index, np.uint8)} for index in range(10**9))
    assert shades(calibration_images(endless, (8, 9), 3)) == [0, 1, 2]
    dataset = tf.data.Dataset.from_tensor_slices(np.stack([np.full((8, 9, 3), 5, np.uint8)] * 4))
    assert shades(calibration_images(dataset, (8, 9), 3)) == [5, 5, 5]


def test_images_are_padded_with_grey_or_scaled_down_to_fit():
    small, wide = np.full((4, 6, 3), 10, np.uint8), np.full((8, 32, 3), 20, np.uint8)
    first, second, third = calibration_images([small, small, wide], (8, 16))
    assert first.shape == (1, 8, 16, 3)
    assert first.dtype == np.float32
    assert (second[0, :4, :6] == 10).all()
    assert np.unique(second[0, 4:]).tolist() == np.unique(second[0, :4, 6:]).tolist() == [128]
    assert (third[0, :4] == 20).all()
    assert np.unique(third[0, 4:]).tolist() == [128]
    assert (first.min(), first.max()) == (0, 255)  # else the input's scale isn't 1


def test_images_that_cannot_be_calibrated_on_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no images"):
        calibration_images([], (8, 8))
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\), received \(4, 4\)"):
        calibration_images([np.zeros((4, 4), np.uint8)], (8, 8))
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        calibration_images(tmp_path / "nowhere", (8, 8))
    with pytest.raises(FileNotFoundError, match=r"holds no image"):
        calibration_images(tmp_path, (8, 8))


# Arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, r"must be one of float32, float16, dynamic, int8_weights, int8, int16x8; received"),
        ({"output": "masks"}, r"output must be one of labels, logits, probabilities; received 'masks'"),
        ({"upsample": False}, r"labels can't be enlarged well by the caller"),
        ({"output_type": "uint8"}, r"output_type is for logits and probabilities"),
        ({"output_type": "uint8", "output": "logits"}, r"output_type 'uint8' needs precision=\"int8\""),
        ({"precision": "int16x8"}, r"int16x8 needs images .* pass calibration="),
        ({"input_type": "int16"}, r"input_type must be one of uint8, float32, int8; received 'int16'"),
        ({"input_type": "int8"}, r'input_type "int8" needs precision="int8"'),
        ({"precision": "int8"}, r"int8 needs images .* pass calibration= \(--calibration\)"),
        ({"calibration": "photos"}, r"calibration is for files with int8 in them; float32"),
        ({"calibration_samples": 0}, r"calibration_samples must be at least 1"),
        ({"input_size": None}, r"takes any size: pass input_size= \(--input-size\)"),
        ({"input_size": (65, 0)}, r"input_size must be an int or \(height, width\)"),
        ({"input_size": "any"}, r'input_size must be "dynamic" or numbers, received \'any\''),
        ({"input_size": [65, (65, 65)]}, r"at least one size, and each once"),
        ({"input_size": []}, r"at least one size, and each once"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_tflite(model, tmp_path / "model.tflite", **{"input_size": SIZE, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_models_of_one_size_need_no_input_size_and_nested_ones_allow_no_other(tmp_path):
    nested = keras.Sequential([keras.Input((40, 48, 3)), keras.models.clone_model(small_model()), keras.layers.ReLU()])
    assert export_tflite(nested, tmp_path / "model.tflite").input_size == (40, 48)
    with pytest.raises(ValueError, match=r"was built for 40x48 images, so no file of it takes any size"):
        export_tflite(nested, tmp_path / "other.tflite", input_size="dynamic")
    inner = small_model(32)
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner])
    with pytest.raises(ValueError, match=r"was built for 32x32 images and can't be brought to 65x81: build it with"):
        export_tflite(outer, tmp_path / "other.tflite", input_size=SIZE)
    with pytest.raises(ValueError, match=r"is a folder; give the name of the file"):
        export_tflite(inner, tmp_path)


# Verification -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    return data.load("synthetic", split="val", num_examples=4, size=(60, 70))


@pytest.fixture(scope="module")
def synthetic_model(source):
    """A model that answers for the classes of the synthetic data: no good, but not constant."""
    base = small_model()
    model = keras.Model(base.inputs, keras.layers.Conv2D(source.num_classes, 1)(base.outputs[0]))
    random = np.random.default_rng(0)
    model.layers[-1].set_weights([random.normal(0, 1, weight.shape) for weight in model.layers[-1].get_weights()])
    return model


@pytest.mark.slow
def test_verification_scores_both_on_the_same_images(synthetic_model, source, tmp_path):
    path = export_tflite(synthetic_model, tmp_path / "model.tflite", input_size=SIZE).path
    result = verify(path, synthetic_model, source, limit=3, max_miou_drop=0.0, progress=False)
    assert result.images == 3
    assert result.bytes == path.stat().st_size
    assert result.equal_labels >= 0.9999
    assert abs(result.miou_drop) < 1e-4
    from keras_deeplab.inference.evaluation import evaluate

    expected = evaluate(predictor(synthetic_model, SIZE), source, limit=3, progress=False)
    assert result.model_miou == expected.mean_iou
    assert f"Keras model {result.model_miou:.4f}, exported file {result.file_miou:.4f}" in str(result)


@pytest.mark.slow
def test_a_file_that_lost_too_much_is_not_kept_under_its_name(synthetic_model, source, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"what was here before")
    # Calibrated on black pictures, the ranges hold nothing else.
    options = {"precision": "int8", "input_size": SIZE, "calibration": [np.zeros((*SIZE, 3), np.uint8)]}
    with pytest.raises(RejectedFile, match=r"no good: mIoU on 4 images: Keras model .* \(allowed: -200.00\)") as caught:
        export_verified(synthetic_model, path, source, max_miou_drop=-2, progress=False, **options)
    assert path.read_bytes() == b"what was here before"
    assert caught.value.path == tmp_path / "model.rejected.tflite"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.rejected.tflite", "model.tflite"]
    written, result = export_verified(synthetic_model, path, source, max_miou_drop=2, progress=False, **options)
    assert written.path == path
    assert result.passed
    assert path.stat().st_size == written.bytes == result.bytes


@pytest.mark.slow
def test_several_precisions_are_written_and_compared(synthetic_model, source, tmp_path, monkeypatch):
    # No processes here: what they measure is tested with the rest of that module.
    monkeypatch.setattr(compare, "peak_memory", lambda file, num_threads, input_size: 1_000_000)
    options = {"input_size": SIZE, "calibration": source, "calibration_samples": 2, "rounds": 1, "progress": False}
    precisions = ["float32", "int8_weights", "int8"]
    files, rows = export_precisions(synthetic_model, tmp_path / "m.tflite", precisions, source, limit=2, **options)
    assert [file.path.name for file in files] == ["m-float32.tflite", "m-int8_weights.tflite", "m-int8.tflite"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(file.path.name for file in files)
    assert [row.name for row in rows] == precisions
    assert [row.bytes for row in rows] == [file.path.stat().st_size for file in files]
    assert [row.float_operators for row in rows] == [None, None, ()]
    exact, _, small = (verify(file.path, synthetic_model, source, limit=2, progress=False) for file in files)
    assert rows[0].verification == exact
    assert rows[2].verification == small
    assert exact.equal_labels > small.equal_labels


@pytest.mark.slow
def test_of_several_precisions_only_those_that_lost_too_much_are_refused(
    synthetic_model, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(compare, "peak_memory", lambda file, num_threads, input_size: None)
    scores = [compare.Verification(1, 0.7, score, 0.9, 10, 0.1) for score in (0.69, 0.5)]
    monkeypatch.setattr(compare, "verify_all", lambda *arguments, **options: scores)
    (tmp_path / "m-int8.tflite").write_bytes(b"what was here before")
    options = {"input_size": SIZE, "calibration": source, "calibration_samples": 1, "rounds": 1}
    files, _ = export_precisions(synthetic_model, tmp_path / "m.tflite", ["float32", "int8"], source, **options)
    assert [file.path.name for file in files] == ["m-float32.tflite", "m-int8.rejected.tflite"]
    assert (tmp_path / "m-int8.tflite").read_bytes() == b"what was here before"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_a_file_that_lost_too_much_at_one_of_its_sizes_is_refused(synthetic_model, source, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "peak_memory", lambda file, num_threads, input_size: None)
    small = (SIZE[0] - 8, SIZE[1] - 8)

    def scores(files, model, source, *, input_size, **options):
        return [compare.Verification(1, 0.7, 0.5 if input_size == small else 0.69, 0.9, 10, 0.1) for _ in files]

    monkeypatch.setattr(compare, "verify_all", scores)
    options = {"input_size": [SIZE, small], "rounds": 1, "max_miou_drop": 0.1}
    (file,), rows = export_precisions(synthetic_model, tmp_path / "m.tflite", ["float32"], source, **options)
    assert file.path.name == "m.rejected.tflite"
    assert [(row.size, row.rejected, row.path) for row in rows] == [(SIZE, False, file.path), (small, True, file.path)]
    del options["rounds"]
    with pytest.raises(RejectedFile, match=r"loss 20\.00 points"):
        export_verified(synthetic_model, tmp_path / "m.tflite", source, progress=False, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.rejected.tflite"]


@pytest.mark.slow
def test_an_error_while_verifying_leaves_no_file(synthetic_model, source, tmp_path):
    with pytest.raises(ValueError, match=r"larger than the input size"):
        export_verified(synthetic_model, tmp_path / "model.tflite", source, progress=False, input_size=32)
    assert not list(tmp_path.iterdir())


def test_a_score_that_is_no_number_never_passes():
    nothing = compare.Verification(0, float("nan"), float("nan"), 1.0, 0, 0.5)
    assert not nothing.passed
    assert compare.Verification(1, 0.7, 0.68, 0.98, 10, None).passed
    assert compare.Verification(1, 0.7, 0.68, 0.98, 10, 0.025).passed
    assert not compare.Verification(1, 0.7, 0.67, 0.98, 10, 0.025).passed


# What the documentation promises ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_in_the_tutorial_runs_a_file(integer_file, model, tmp_path):
    pytest.importorskip("ai_edge_litert")
    page = pathlib.Path(__file__).parents[1] / "docs" / "tutorial.md"
    (script,) = re.findall(r"```python\n(\"\"\"python segment.py.*?)```", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / "segment.py").write_text(script)
    picture = photograph(50, 70, 100)
    np.save(tmp_path / "pixels.npy", picture)
    arguments = ["segment.py", str(integer_file.path), "pixels.npy", "labels.npy"]
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    padded = np.full((*SIZE, 3), 128, np.uint8)
    padded[:50, :70] = picture
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), run(integer_file.path, padded)[:50, :70])


@pytest.mark.slow
def test_the_official_model_exports_within_its_bounds(shared, tmp_path):
    import keras_deeplab
    from keras_deeplab.export.saved_model import export_saved_model

    photographs = shared / "data" / "voc_person"
    official = keras_deeplab.load(shared / "weights" / "deeplabv3_mnv2_pascal_trainval" / "model.ckpt-30000")
    validation = data.load(photographs, "val")

    exact = export_tflite(official, tmp_path / "float32.tflite", input_size=513)
    result = verify(exact.path, official, validation, limit=1, progress=False)
    assert result.equal_labels >= 0.9999

    options = {"precision": "int8", "input_size": 513, "calibration": photographs, "calibration_samples": 4}
    small = export_tflite(official, tmp_path / "int8.tflite", **options)
    assert small.bytes <= 2_600_000
    assert small.operators["DEPTHWISE_CONV_2D"] == 18  # 17 of the network and the normalisation
    assert verify(small.path, official, validation, limit=3, progress=False).equal_labels >= 0.97

    signature = tf.saved_model.load(str(export_saved_model(official, tmp_path / "1"))).signatures["serving_default"]
    (sample,) = validation.dataset().take(1).as_numpy_iterator()
    labels = signature(images=tf.constant(sample["image"][None]))["labels"].numpy()[0]
    assert np.mean(labels == keras_logits(official, sample["image"]).argmax(-1)) >= 0.9999
