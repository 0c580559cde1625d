"""TFLite files become the Keras models that compute the same, whatever wrote them, and other graphs are refused."""

import io
import sys
import warnings
import zipfile

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from export_models import photograph, small_model
from randomise import randomise

import keras_deeplab
from keras_deeplab import data, layers, quantize
from keras_deeplab._helpers.private import schema
from keras_deeplab.backbones.mobilenet_edgetpu import TABLE as EDGETPU
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2
from keras_deeplab.export import flatbuffer, graph
from keras_deeplab.export.calibration import Calibration
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.export.tflite.conversion import converted
from keras_deeplab.metadata import tables
from keras_deeplab.networks import V3, network
from keras_deeplab.weights import tflite
from keras_deeplab.weights.describe import describe
from keras_deeplab.weights.readers import tflite as reader

pytestmark = pytest.mark.slow

SIZE = (65, 81)
PICTURE = photograph(*SIZE, seed=1)
FILES = "weights/tflite"


def build(plus=True, **settings):
    """A DeepLab on a narrow MobileNetV2 with random weights."""
    if plus:
        settings = {"low_level_filters": 8, **settings}
    builder = keras_deeplab.DeepLabV3Plus if plus else keras_deeplab.DeepLabV3
    return randomise(builder(mobilenet_v2(alpha=0.35), num_classes=5, filters=16, **settings))


def interpreter(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        loaded = tf.lite.Interpreter(model_path=str(path), num_threads=2)
    loaded.allocate_tensors()
    return loaded


def run(path, image=PICTURE, loaded=None):
    """The one output of a file for one image (H, W, 3)."""
    loaded = loaded or interpreter(path)
    (source,), (target,) = loaded.get_input_details(), loaded.get_output_details()
    loaded.set_tensor(source["index"], image[None].astype(source["dtype"]))
    loaded.invoke()
    return loaded.get_tensor(target["index"])[0]


def logits_of(model, image=PICTURE):
    return keras.ops.convert_to_numpy(model(image[None].astype("float32"), training=False))[0]


def assert_close(got, expected, tolerance=1e-4):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "model.tflite"
    export_tflite(model, path, input_size=SIZE, output="logits")
    return path


@pytest.fixture
def edited(file, tmp_path):
    """Writes a file's graph after a function changed it, with its operators by name."""

    def write(change, source=file):
        content = schema.ModelT.InitFromPackedBuf(bytearray(source.read_bytes()), 0)
        (graph,) = content.subgraphs
        names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
        operators = {}
        for operator in graph.operators:
            code = content.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            operators.setdefault(name, []).append(operator)
        given = (content, graph, operators)
        change(*given[-change.__code__.co_argcount :])
        builder = flatbuffers.Builder(0)
        builder.Finish(content.Pack(builder), b"TFL3")
        path = tmp_path / "edited.tflite"
        path.write_bytes(bytes(builder.Output()))
        return path

    return write


# Float files ----------------------------------------------------------------------------------------------------------

NETWORKS = [
    {"plus": False},
    {"plus": False, "head": "aspp", "output_stride": 8, "flavour": "torchvision", "include_preprocessing": "torch"},
    {"plus": False, "image_pooling": False, "flavour": "bonlime"},
    {"separable": False, "output_stride": 32, "low_level": "block_1_project_BN", "flavour": "tf_bounded"},
    {"flavour": "smp", "output_stride": 8, "atrous_rates": (3, 7)},
    {"flavour": "vainf", "low_level": "block_2_add"},
]


@pytest.mark.parametrize("settings", NETWORKS)
def test_every_form_of_the_network_is_found_in_its_file(settings, tmp_path):
    original = build(**settings)
    path = tmp_path / "model.tflite"
    export_tflite(original, path, input_size=SIZE, output="logits")
    got = keras_deeplab.load(path)
    assert [(v.path, v.shape) for v in got.weights] == [(v.path, v.shape) for v in original.weights]
    assert_close(logits_of(got), run(path))
    other = photograph(50, 97)
    assert_close(logits_of(got, other), logits_of(original, other))


def test_a_batch_norm_only_adds_the_folded_bias(file):
    arrays = tflite.read(file)
    for name, epsilon in [("block_3_depthwise", 1e-3), ("concat_projection", 1e-5)]:
        norm = keras.layers.BatchNormalization(epsilon=epsilon)
        norm.build((None, None, None, len(arrays[f"{name}_BN/beta"])))
        norm.set_weights([arrays[f"{name}_BN/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")])
        x = np.random.default_rng(0).standard_normal((1, 3, 3, norm.beta.shape[0])).astype("float32")
        np.testing.assert_array_equal(norm(x), x + arrays[f"{name}_BN/beta"])


def test_a_file_loads_at_another_stride_with_other_classes_and_into_a_built_model(file, model):
    with pytest.warns(UserWarning, match="5 classes and 3 were asked for"):
        finer = keras_deeplab.load(file, output_stride=8, num_classes=3, include_preprocessing=False)
    assert finer.output_shape[-1] == 3
    assert finer.get_layer("aspp1_depthwise").dilation_rate == (12, 12)
    built = keras_deeplab.DeepLabV3Plus(
        mobilenet_v2(alpha=0.35), num_classes=5, filters=16, low_level_filters=8, weights=file
    )
    assert_close(logits_of(built), logits_of(model))
    for layer in ("Conv1", "decoder_conv1_pointwise"):
        np.testing.assert_array_equal(finer.get_layer(layer).kernel, built.get_layer(layer).kernel)


def test_dilated_convolutions_between_space_to_batch_and_back_are_found(model, file, tmp_path):
    """As converters write them where sizes may change, with their batch norms left as multiplications."""

    def plain(layer):
        kind = keras.layers.DepthwiseConv2D if isinstance(layer, layers.DilatedDepthwiseConv2D) else type(layer)
        return kind.from_config(layer.get_config())

    slow = keras.models.clone_model(model, clone_function=plain)
    slow.set_weights(model.get_weights())
    function = tf.function(lambda x: slow(x, training=False), input_signature=[tf.TensorSpec((1, None, None, 3))])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    path = tmp_path / "dynamic.tflite"
    path.write_bytes(converter.convert())
    assert b"SpaceToBatch" in path.read_bytes()
    got, expected = tflite.read(path), tflite.read(file)
    assert got.plan == expected.plan
    assert list(got) == list(expected)
    for name, array in got.items():
        assert_close(array, expected[name], 1e-6)


# Quantised files ------------------------------------------------------------------------------------------------------


def folded(model):
    """{name of a convolution: its kernel times what its batch norm multiplies}, {name: what is added after}."""
    kernels, biases = {}, {}
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            kernels[layer.name] = np.asarray(layer.kernel)
            biases[layer.name] = 0.0 if layer.bias is None else np.asarray(layer.bias)
    for name in kernels:
        try:
            norm = model.get_layer(f"{name}_BN")
        except ValueError:
            continue
        scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
        along = (-1, 1) if name.endswith("depthwise") else (-1,)
        kernels[name] = kernels[name] * scale.reshape(along)
        biases[name] = np.asarray(norm.beta) - np.asarray(norm.moving_mean) * scale
    return kernels, biases


@pytest.fixture(scope="module")
def int8_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "int8.tflite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # As other teams' files are: converted without this package's own quantisation, which changes the kernels.
        network, spec = graph.network(model)
        plain = quantize.fold(graph.inference_model(network, SIZE))
        images = Calibration([PICTURE, PICTURE[::-1]], 2, spec).images(SIZE)
        options = {"precision": "int8", "output": "labels", "input_type": "uint8", "images": images}
        path.write_bytes(converted(plain, spec, SIZE, **options))
    return path


@pytest.mark.parametrize(("precision", "steps"), [("int8", 127), ("float16", 1024), ("dynamic", 127)])
def test_quantised_weights_come_back_within_half_a_step(precision, steps, model, int8_file, tmp_path):
    path = int8_file
    if precision != "int8":
        path = tmp_path / "model.tflite"
        export_tflite(model, path, input_size=SIZE, precision=precision)
    arrays = tflite.read(path)
    kernels, biases = folded(model)
    assert {name.rpartition("/")[0] for name in arrays if name.endswith("kernel")} == set(kernels)
    for name, kernel in kernels.items():
        # Each filter has a scale of its own, but for those of a dynamic file that share one.
        shared = (0, 1, 2, 3) if precision == "dynamic" else (0, 1, 3) if name.endswith("depthwise") else (0, 1, 2)
        step = np.abs(kernel).max(axis=shared, keepdims=True) / steps
        assert (np.abs(arrays[f"{name}/kernel"] - kernel) <= 0.501 * step).all(), name
        bias = arrays[f"{name}_BN/beta" if f"{name}_BN/beta" in arrays else f"{name}/bias"]
        np.testing.assert_allclose(bias, biases[name], atol=0.01 * np.abs(biases[name]).max())


def test_an_activation_that_a_quantised_range_implies_may_be_absent(int8_file, file, edited):
    def without(graph, operators):
        for operator in operators["CONV_2D"] + operators["DEPTHWISE_CONV_2D"]:
            operator.builtinOptions.fusedActivationFunction = 0

    expected, got = tflite.read(int8_file), tflite.read(edited(without, int8_file))
    assert got.plan == expected.plan
    with pytest.raises(ValueError, match=r"activations are neither all ReLU nor all ReLU6: .*aspp0 None"):
        tflite.read(edited(without))


# Other graphs ---------------------------------------------------------------------------------------------------------


def test_concatenations_in_any_order_give_our_own(edited, file):
    """A file of the same operators whose maps are concatenated the other way round computes something else."""

    def swap(graph, operators):
        for operator in operators["CONCATENATION"]:
            operator.inputs = operator.inputs[::-1]

    path = edited(swap)
    expected = run(path)
    assert np.abs(expected - run(file)).max() > 0.1 * np.abs(expected).max()
    assert_close(logits_of(keras_deeplab.load(path)), expected)


def set_options(name, index, **options):
    def change(graph, operators):
        for key, value in options.items():
            setattr(operators[name][index].builtinOptions, key, value)

    return change


def two_outputs(graph, operators):
    graph.outputs = [*graph.outputs, graph.inputs[0]]


def computed_bias(graph, operators):
    (*inputs, _) = operators["CONV_2D"][-1].inputs
    operators["CONV_2D"][-1].inputs = [*inputs, operators["CONV_2D"][-2].outputs[0]]


def no_shortcut(graph, operators):
    other, operator = operators["ADD"][2:4]  # of block_4 and block_5
    operator.inputs = [other.inputs[0] if index == other.outputs[0] else index for index in operator.inputs]


def nearest(content, graph, operators):
    """The decoder's resize repeats the nearest position."""
    operator, code = operators["RESIZE_BILINEAR"][-2], schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
    code.version = 3
    operator.opcodeIndex = len(content.operatorCodes)
    content.operatorCodes.append(code)
    operator.builtinOptionsType = schema.BuiltinOptions.ResizeNearestNeighborOptions
    operator.builtinOptions = schema.ResizeNearestNeighborOptionsT()
    operator.builtinOptions.halfPixelCenters = True


def compiled_for_the_edge_tpu(content, graph, operators):
    """One operator of the chip's own in place of all."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"edgetpu-custom-op"
    content.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = (
        len(content.operatorCodes) - 1,
        graph.inputs,
        graph.outputs,
    )
    operator.customOptions = np.arange(64, dtype=np.uint8)
    graph.operators = [operator]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_options("RESIZE_BILINEAR", -1, alignCorners=False), "it has resizes by align_corners and asymmetric, whi"),
        (
            set_options("RESIZE_BILINEAR", -1, alignCorners=False, halfPixelCenters=True),
            "it has resizes by align_corners and half_pixel_centers, which no DeepLab here mixes",
        ),
        (
            set_options("RESIZE_BILINEAR", -2, halfPixelCenters=True),
            r"enlarges a map by RESIZE_BILINEAR\(align_corners=True, half_pixel_centers=True\), which no DeepLab here",
        ),
        (nearest, r"enlarges a map by RESIZE_NEAREST_NEIGHBOR\(align_corners=\w+, half_pixel_centers=True\), which"),
        (set_options("DEPTHWISE_CONV_2D", 5, dilationHFactor=2, dilationWFactor=2), "its blocks have the strides"),
        (set_options("DEPTHWISE_CONV_2D", 5, dilationHFactor=2), "DEPTHWISE_CONV_2D"),
        (set_options("DEPTHWISE_CONV_2D", 1, padding=1), r"DEPTHWISE_CONV_2D\(padding=VALID"),
        (set_options("CONV_2D", 0, strideH=1, strideW=1), "its first one hasn't 2"),
        (set_options("CONV_2D", -1, fusedActivationFunction=1), "as its classifier, .*, RELU"),
        (set_options("CONV_2D", 5, fusedActivationFunction=1), "block_2_project, .* with no activation"),
        (set_options("CONCATENATION", 0, axis=2), r"CONCATENATION\(axis=2"),
        (no_shortcut, "shortcut of its block_5 does not start at the block's input"),
        (computed_bias, "as its classifier, .*CONV_2D"),
        (two_outputs, "1 inputs and 2 outputs"),
    ],
)
def test_graphs_that_differ_from_the_network_are_refused_with_what_was_found(change, message, edited):
    path = edited(change)
    with pytest.raises(ValueError, match=message) as caught:
        keras_deeplab.load(path)
    assert str(path) in str(caught.value)
    assert "CONV_2D" in str(caught.value)


@pytest.mark.parametrize(("flavour", "plus"), [("tf_asymmetric", True), ("tf_bounded_asymmetric", False)])
def test_resizes_of_neither_convention_are_a_third(flavour, plus, tmp_path):
    """TensorFlow 1's own default, and the only one of Android's NNAPI before 1.3; the others are in NETWORKS."""
    path, size = tmp_path / "m.tflite", (64, 80)  # an even size, where the conventions are farthest apart
    original, picture = build(plus, flavour=flavour), photograph(*size)
    export_tflite(original, path, input_size=size, output="logits")
    resizes = [operator.options for operator in reader.read_graph(path).operators if operator.name == "RESIZE_BILINEAR"]
    assert resizes
    assert not any(options["align_corners"] or options["half_pixel_centers"] for options in resizes)
    got, expected = keras_deeplab.load(path), run(path, picture)
    assert (got.spec.resize, got.spec.flavour) == ("asymmetric", flavour)
    assert_close(logits_of(got, picture), expected)
    assert_close(logits_of(original, picture), expected)
    other = build(plus, flavour=flavour.removesuffix("_asymmetric"))
    other.set_weights(original.get_weights())
    assert np.abs(logits_of(other, picture) - expected).max() > 0.01 * np.abs(expected).max()


def test_an_integer_file_of_the_third_convention_loads_with_its_labels(tmp_path):
    """As MLPerf Mobile's files of ADE20K are: 8 bits, 512x512 there, argmax inside, resizes with neither flag."""
    original = build(flavour="tf_bounded_asymmetric")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network, spec = graph.network(original)
        plain = quantize.fold(graph.inference_model(network, (64, 64)))
        pictures = [photograph(64, 64, seed) for seed in range(3)]
        options = {"precision": "int8", "output": "labels", "input_type": "uint8"}
        images = Calibration(pictures, 3, spec).images((64, 64))
        (tmp_path / "m.tflite").write_bytes(converted(plain, spec, (64, 64), images=images, **options))
    got = keras_deeplab.load(tmp_path / "m.tflite")
    assert (got.spec.resize, got.spec.flavour) == ("asymmetric", "tf_bounded_asymmetric")
    # The rounding of random features costs labels; another convention costs more.
    other = build(flavour="tf_bounded")
    other.set_weights(got.get_weights())
    labels = [run(tmp_path / "m.tflite", picture) for picture in pictures]
    found = [[logits_of(each, picture).argmax(-1) for picture in pictures] for each in (got, other)]
    equal, unequal = (np.mean(np.array(each) == np.array(labels)) for each in found)
    assert equal > 0.7
    assert equal > unequal + 0.02


def test_a_file_compiled_for_the_edge_tpu_is_refused_with_what_to_take(edited, int8_file):
    path = edited(compiled_for_the_edge_tpu, int8_file)
    with pytest.raises(ValueError, match=r"compiled for the Edge TPU.*take the file that it was compiled from"):
        keras_deeplab.load(path)
    with pytest.raises(ValueError, match=r"edited.tflite is compiled for the Edge TPU and runs there alone"):
        keras_deeplab.predictor(path)
    assert "compiled for the Edge TPU" in " ".join(describe(path).split())


def test_class_names_in_the_metadata_are_the_models(edited, file, tmp_path):
    """Of our own record, and of any program's file of labels, whatever its name."""
    names = ("background", "sky", "road", "car", "tree")
    own = tmp_path / "own.tflite"
    own.write_bytes(file.read_bytes())
    assert keras_deeplab.load(own).spec.classes.names is None
    content = flatbuffer.unpacked(file.read_bytes())
    content.metadata, bare = None, None
    labels = [(0, "string", "labelmap.txt"), (2, "int8", 2)]
    subgraph = [(3, "tables", [[(0, "string", "scores"), (6, "tables", [labels])]])]
    flatbuffer.add_metadata(content, "TFLITE_METADATA", tables.packed([(3, "tables", [subgraph])], b"M001"))
    for text, expected in (("\n".join(names) + "\n", names), ("\r\n".join(names), names), ("one\ntwo\n", None)):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as files:
            files.writestr("labelmap.txt", text)
            files.writestr("labels.txt", "other\n" * 5)
        bare = tmp_path / "other.tflite"
        bare.write_bytes(flatbuffer.packed(content) + archive.getvalue())
        assert keras_deeplab.load(bare).spec.classes.names == expected
        if expected:
            assert keras_deeplab.predictor(bare).spec.classes.names == expected


def test_other_networks_are_refused(tmp_path):
    path = tmp_path / "other.tflite"
    export_tflite(small_model(), path, input_size=33)
    with pytest.raises(ValueError, match=r"a DeepLab on MobileNetV2.*it has a concatenation.*\d CONV_2D"):
        keras_deeplab.load(path)


def test_what_a_graph_makes_of_its_constants_is_bounded(edited):
    """A multiplication by constants is folded into a copy of the kernel: many of them must not fill the memory."""

    def many(graph, operators):
        (scale,) = operators["MUL"]
        large = operators["CONV_2D"][33]  # block_16_project
        for _ in range(400):
            copy = schema.OperatorT()
            copy.opcodeIndex, copy.builtinOptionsType = scale.opcodeIndex, scale.builtinOptionsType
            copy.builtinOptions = scale.builtinOptions
            copy.inputs, copy.outputs = [large.outputs[0], scale.inputs[1]], large.outputs
            graph.operators.insert(graph.operators.index(large) + 1, copy)

    with pytest.raises(ValueError, match="far more than weights need"):
        tflite.read(edited(many))


# Published files ------------------------------------------------------------------------------------------------------


def photographs(shared, count):
    folder = shared / "data" / "voc_person"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return data.load(folder, "val").dataset().take(count).as_numpy_iterator()


def published(shared, name):
    path = shared / FILES / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    return path


def test_the_published_float_file_computes_the_same_on_photographs(shared):
    path = published(shared, "deeplabv3_257_mv_gpu.tflite")
    model, loaded, equal = keras_deeplab.load(path), interpreter(path), []
    for sample in photographs(shared, 20):
        image = np.full((257, 257, 3), 127.5, "float32")
        height, width = (min(side, 257) for side in sample["image"].shape[:2])
        image[:height, :width] = sample["image"][:height, :width]
        expected, got = run(path, image / 127.5 - 1, loaded), logits_of(model, image)
        assert np.abs(got - expected).max() <= 1e-3
        equal.append(got.argmax(-1) == expected.argmax(-1))
    assert np.mean(equal) >= 0.999


def test_the_published_float_file_sees_more_at_another_size_and_stride(shared):
    path = published(shared, "deeplabv3_257_mv_gpu.tflite")
    source = data.load(shared / "data" / "voc_person", "val")
    scores = {}
    for stride in (16, 8):
        predictor = keras_deeplab.predictor(keras_deeplab.load(path, output_stride=stride), input_size=513)
        scores[stride] = keras_deeplab.evaluate(predictor, source, limit=6, progress=False)
    assert scores[8].iou[15] >= 0.8  # a person is in every picture
    assert scores[16].iou[15] >= 0.8


def test_the_published_integer_file_gives_nearly_the_same_labels(shared):
    path = published(shared, "deeplabv3_mnv2_pascal_quant.tflite")
    predictor = keras_deeplab.predictor(keras_deeplab.load(path), input_size=513)
    of_file = keras_deeplab.predictor(path)
    equal = [np.mean(predictor(s["image"]) == of_file(s["image"])) for s in photographs(shared, 4)]
    assert np.mean(equal) >= 0.98


def edgetpu_network(output_stride=16, **settings):
    spec = network(
        V3,
        "mobilenet_edgetpu",
        backbone_settings={"alpha": 0.25},
        num_classes=5,
        output_stride=output_stride,
        filters=8,
        **settings,
    )
    return randomise(keras_deeplab.build(spec))


@pytest.mark.parametrize(("output_stride", "rates"), [(16, ()), (8, (2, 4, 6))])
def test_deeplabs_on_mobilenet_edgetpu_come_back_from_files_and_checkpoints(output_stride, rates, tmp_path):
    model = edgetpu_network(output_stride, head="aspp" if rates else None, atrous_rates=rates or None)
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3)).astype("float32")
    wanted = np.asarray(model(image))
    keras_deeplab.export_tflite(model, tmp_path / "a.tflite", input_size=(65, 97), output="logits")
    found = keras_deeplab.load(tmp_path / "a.tflite")
    assert (found.spec.backbone, found.spec.output_stride) == ("mobilenet_edgetpu", output_stride)
    assert found.spec.backbone_settings == {"alpha": 0.25}
    assert tuple(found.spec.settings["atrous_rates"]) == rates
    assert np.abs(np.asarray(found(image)) - wanted).max() / np.ptp(wanted) <= 1e-5
    if not rates:  # Google's atrous branches are separable
        keras_deeplab.export_weights(model, tmp_path / "model.ckpt", "tf1")
        found = keras_deeplab.load(tmp_path / "model.ckpt")
        assert np.array_equal(found(image), wanted)


def test_a_quantised_file_on_mobilenet_edgetpu_is_read(tmp_path):
    model = edgetpu_network()
    graph_of_it, spec = graph.network(model)
    plain = quantize.fold(graph.inference_model(graph_of_it, SIZE))
    images = Calibration([PICTURE, PICTURE[::-1]], 2, spec).images(SIZE)
    options = {"precision": "int8", "output": "labels", "input_type": "uint8", "images": images}
    (tmp_path / "a.tflite").write_bytes(converted(plain, spec, SIZE, **options))
    arrays = tflite.read(tmp_path / "a.tflite")
    kernels, _ = folded(model)
    assert {name.rpartition("/")[0] for name in arrays if name.endswith("kernel")} == set(kernels)
    for name, kernel in kernels.items():
        axes = (0, 1, 3) if name.endswith("depthwise") else (0, 1, 2)
        step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
        assert (np.abs(arrays[f"{name}/kernel"] - kernel) <= 0.501 * step).all(), name
    assert keras_deeplab.load(tmp_path / "a.tflite").spec.backbone == "mobilenet_edgetpu"


def test_a_shortcut_where_mobilenet_edgetpu_has_none_is_refused(tmp_path, monkeypatch):
    table = [(*row[:5], True) for row in EDGETPU]
    monkeypatch.setattr(sys.modules["keras_deeplab.backbones.mobilenet_edgetpu"], "TABLE", table)
    keras_deeplab.export_tflite(edgetpu_network(), tmp_path / "a.tflite", input_size=65, output="logits")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="expanded_conv_13 has a shortcut, unlike MobileNet EdgeTPU's"):
        keras_deeplab.load(tmp_path / "a.tflite")
