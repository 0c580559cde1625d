"""Receptive fields against perturbed pixels and the published ones, counts against the formulas, the two commands."""

import keras
import numpy as np
import pytest

from keras_deeplab import layers, published, summary
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.cli import main
from keras_deeplab.models import DeepLabV1, DeepLabV3
from keras_deeplab.summary import count_parameters, field_table, multiply_adds, open_network, receptive_field

ONES = {"kernel_initializer": "ones", "use_bias": False}
ONES_DEPTHWISE = {"depthwise_initializer": "ones", "use_bias": False}
ONES_SEPARABLE = {"depthwise_initializer": "ones", "pointwise_initializer": "ones", "use_bias": False}


def fields(model):
    return {row.layer: row for row in receptive_field(model)}


# Receptive fields -------------------------------------------------------------------------------------------


def vgg16(pool_size=2, strides=1):
    """VGG16 whose last two poolings are changed and whose convolutions behind them aren't dilated."""

    def clone(layer):
        config = layer.get_config()
        if layer.name in ("block4_pool", "block5_pool"):
            config.update(pool_size=(pool_size, pool_size), strides=(strides, strides))
        return type(layer).from_config(config)

    with unallocated():
        model = keras.applications.VGG16(weights=None, include_top=False)
        return keras.models.clone_model(model, clone_function=clone)


@pytest.mark.parametrize(
    ("model", "conv5_3", "pool5"),
    [
        (lambda: vgg16(pool_size=2, strides=2), 196, 212),  # the classifier
        (lambda: vgg16(pool_size=2, strides=1), 148, 156),  # poolings that lost their stride, nothing dilated
        (lambda: vgg16(pool_size=1, strides=1), 140, 140),  # poolings taken out, nothing dilated
    ],
)
def test_the_view_of_vgg16_with_and_without_its_last_poolings(model, conv5_3, pool5):
    rows = fields(model())
    assert rows["block5_conv3"].receptive_field == (conv5_3, conv5_3)
    assert rows["block5_pool"].receptive_field == (pool5, pool5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "output_stride", "pool4", "conv5_3", "pool5"),
    [
        ("vgg16", None, 100, 196, 212),
        ("vgg16", 8, 100, 196, 212),  # the dense network sees what the classifier does
        ("vgg16_caffe", None, 115, 211, 243),
        ("vgg16_caffe", 8, 115, 211, 227),  # but for pool5, which looks at neighbours
    ],
)
def test_the_view_of_the_vgg_backbones(backbone, output_stride, pool4, conv5_3, pool5):
    rows = fields(open_network(backbone, output_stride))
    sizes = [rows[name].receptive_field for name in ("pool4", "conv5_3", "pool5")]
    assert sizes == [(pool4, pool4), (conv5_3, conv5_3), (pool5, pool5)]
    assert rows["pool5"].output_stride == ((8, 8) if output_stride else (32, 32))


# DeepLab v1, table of fc6: the kernel's own view, its taps' cells of 32 pixels included, is 224, 128, 224 and 224.
@pytest.mark.parametrize(
    ("variant", "own", "behind"),
    [("7x7", 224, 404), ("4x4", 128, 308), ("4x4_large", 224, 404), ("large_fov", 224, 420)],
)
def test_the_view_of_fc6(variant, own, behind):
    with unallocated():
        rows = fields(DeepLabV1("vgg16", variant=variant))
    fc6 = rows["fc6"]
    (taps, _), (rate, _) = fc6.kernel_size, fc6.dilation_rate
    assert (taps - 1) * rate * 8 + 32 == own
    assert fc6.receptive_field == (behind, behind)
    assert behind == 212 + own - 32 + (16 if "pool5a" in rows else 0)


def experimental_model():
    """A network of all kinds of layers, its weights positive, so that no change of a pixel is lost."""
    inputs = keras.Input((None, None, 1))
    x = keras.layers.ZeroPadding2D(((2, 1), (0, 3)))(inputs)
    x = keras.layers.Conv2D(1, (5, 3), 2, name="strided", **ONES)(x)
    left = keras.layers.SeparableConv2D(1, 3, padding="same", name="separable", **ONES_SEPARABLE)(x)
    right = layers.DilatedDepthwiseConv2D(
        3, dilation_rate=3, padding=((6, 0), (0, 6)), name="shifted", **ONES_DEPTHWISE
    )(x)
    x = keras.layers.Add(name="joined")([left, right])
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Cropping2D(((1, 0), (0, 2)))(x)
    x = keras.layers.AveragePooling2D(3, 2, name="pooled")(x)
    x = layers.DilatedConv2D(1, 3, dilation_rate=2, padding="same", name="dilated", **ONES)(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("name", ["strided", "separable", "shifted", "joined", "pooled", "dilated"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_row_says_what_pixels_change_the_output(name, axis):
    size = 97
    model = experimental_model()
    row = fields(model)[name]
    function = keras.Model(model.input, model.get_layer(name).output)
    images = np.ones((size + 1, size, size, 1), "float32")
    for pixel in range(size):
        images[(pixel, slice(None), pixel) if axis else (pixel, pixel)] += 1.0
    outputs = function.predict(images, batch_size=49, verbose=0)
    middle = outputs.shape[1 + axis] // 2
    line = np.take(outputs, middle, axis=1 + axis)[:, outputs.shape[2 - axis] // 2, 0]
    changed = np.flatnonzero(line[:-1] != line[-1])
    assert changed.size > 1
    assert changed[-1] - changed[0] + 1 == row.receptive_field[axis]
    assert (changed[0] + changed[-1]) / 2 == row.centre[axis] + middle * row.output_stride[axis]


def test_enlarged_maps_see_at_most_what_the_row_says():
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(1, 3, 4, padding="same", **ONES)(inputs)
    nearest = keras.layers.UpSampling2D(2, name="nearest")(x)
    bilinear = layers.ResizeBilinear(align_corners=False, name="bilinear")([x, inputs])
    transposed = keras.layers.Conv2DTranspose(1, 4, 2, name="transposed", **ONES)(x)
    scaled = layers.ScaleBilinear(0.75, name="scaled")(inputs)
    model = keras.Model(inputs, [nearest, bilinear, transposed, scaled])
    rows = fields(model)
    size = 33
    images = np.ones((size + 1, size, size, 1), "float32")
    images[np.arange(size), np.arange(size)] += 1.0
    found = {}
    for name, outputs in zip(
        ("nearest", "bilinear", "transposed", "scaled"), model.predict(images, verbose=0), strict=True
    ):
        changed = outputs[:-1, :, outputs.shape[2] // 2, 0] != outputs[-1, :, outputs.shape[2] // 2, 0]
        inner = changed[:, outputs.shape[1] // 4 : -outputs.shape[1] // 4]
        widths = [np.ptp(np.flatnonzero(column)) + 1 for column in inner.T if column.any()]
        found[name] = max(widths)
    assert found == {name: rows[name].receptive_field[0] for name in found}
    strides = {name: rows[name].output_stride[0] for name in found}
    assert strides == {"nearest": 2, "bilinear": 1, "transposed": 2, "scaled": 4 / 3}
    assert rows["bilinear"].centre is None


def test_a_global_pooling_sees_the_image_and_the_row_still_says_what_it_sees_beside():
    with unallocated():
        model = DeepLabV3("mobilenet_v2", num_classes=2, atrous_rates=(6,), upsample_logits=False)
    rows = fields(model)
    assert not rows["aspp1"].global_context
    assert rows["aspp1"].receptive_field == (491 + 2 * 6 * 16,) * 2
    assert rows["image_pooling"].global_context
    assert rows["image_pooling"].receptive_field is None
    assert rows["logits"].global_context
    assert rows["logits"].receptive_field == rows["aspp1"].receptive_field
    text = field_table(receptive_field(model)).splitlines()
    assert text[-1].split("  ")[0] == "logits"
    assert "image, 683 beside it" in text[-1]
    (pooling,) = (line for line in text if line.startswith("image_pooling_mean"))
    assert pooling.split()[-2:] == ["image", "-"]


def test_an_image_through_a_dense_layer_is_seen_as_a_whole():
    with unallocated():
        model = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3))
    rows = receptive_field(model)
    assert rows[-1].layer == "logits"
    assert rows[-1].global_context
    assert rows[0].receptive_field == (3, 3)


def test_nested_models_and_layers_that_are_called_twice_have_a_row_for_each_call():
    inner_inputs = keras.Input((None, None, 3))
    inner = keras.Model(
        inner_inputs, keras.layers.Conv2D(3, 3, padding="same", name="conv")(inner_inputs), name="inner"
    )
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, inner(inner(inputs)))
    rows = receptive_field(model)
    assert [(row.layer, row.receptive_field) for row in rows] == [("inner/conv", (3, 3)), ("inner/conv", (5, 5))]
    sequential = keras.Sequential([keras.Input((9, 9, 3)), inner, keras.layers.MaxPooling2D(2, name="pool")])
    assert fields(sequential)["pool"].receptive_field == (4, 4)


def test_what_it_cannot_know_is_refused_by_name():
    inputs = keras.Input((32, 32, 3))
    with pytest.raises(ValueError, match=r"behind the layer 'squeezed' \(Resizing\) is not known: it changes the size"):
        receptive_field(keras.Model(inputs, keras.layers.Resizing(7, 7, name="squeezed")(inputs)))
    first = keras.layers.ZeroPadding2D(1, data_format="channels_first", name="first")(inputs)
    with pytest.raises(ValueError, match="'first' is channels_first"):
        receptive_field(keras.Model(inputs, first))
    pooled = keras.layers.MaxPooling2D(1, 2)(inputs)
    cut = keras.layers.ZeroPadding2D(((0, 16), (0, 16)))(pooled)
    with pytest.raises(ValueError, match="'sum' joins maps whose positions are 1, 2 pixels apart"):
        receptive_field(keras.Model(inputs, keras.layers.Add(name="sum")([inputs, cut])))
    with pytest.raises(ValueError, match=r"receptive_field\(\) takes functional keras.Models; received Dense"):
        receptive_field(keras.layers.Dense(3, name="dense"))


# Counts -----------------------------------------------------------------------------------------------------


def cost(layer, size=(8, 12), channels=6, **settings):
    inputs = keras.Input((None, None, channels))
    return multiply_adds(keras.Model(inputs, layer(inputs)), size, **settings)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: keras.layers.Conv2D(4, 3, padding="same"), 8 * 12 * 4 * 3 * 3 * 6),
        (lambda: keras.layers.Conv2D(4, (3, 1), 2, padding="same"), 4 * 6 * 4 * 3 * 6),
        (lambda: keras.layers.Conv2D(4, 3), 6 * 10 * 4 * 3 * 3 * 6),
        (lambda: keras.layers.Conv2D(4, 3, padding="same", groups=2), 8 * 12 * 4 * 3 * 3 * 3),
        (lambda: keras.layers.Conv2D(4, 3, padding="same", dilation_rate=3), 8 * 12 * 4 * 3 * 3 * 6),
        (lambda: layers.DilatedConv2D(4, 3, padding=((1, 1), (0, 0)), dilation_rate=2), 6 * 8 * 4 * 3 * 3 * 6),
        (lambda: keras.layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2), 8 * 12 * 12 * 5 * 5),
        (lambda: keras.layers.SeparableConv2D(4, 3, 2, padding="same"), 4 * 6 * (6 * 9 + 6 * 4)),
        (lambda: keras.layers.Conv2DTranspose(4, 3, 2, padding="same"), 8 * 12 * 6 * 3 * 3 * 4),
        (lambda: keras.layers.Dense(5), 8 * 12 * 6 * 5),
        (lambda: keras.layers.PReLU(shared_axes=(1, 2)), 0),
        (lambda: keras.layers.BatchNormalization(), 0),
        (lambda: keras.layers.MaxPooling2D(2), 0),
    ],
)
def test_a_layer_costs_its_formula(layer, expected):
    assert cost(layer()) == expected


def test_space_to_batch_counts_maps_padded_to_the_rate():
    dilated = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=5)
    assert cost(dilated, (33, 34), space_to_batch=True) == 35 * 35 * 4 * 3 * 3 * 6
    assert cost(keras.layers.Conv2D(4, 3, padding="same"), (33, 34), space_to_batch=True) == 33 * 34 * 4 * 3 * 3 * 6
    separable = layers.DilatedSeparableConv2D(4, 3, padding="same", dilation_rate=5)
    assert cost(separable, (33, 34), space_to_batch=True) == 35 * 35 * 6 * 9 + 33 * 34 * 6 * 4


def test_a_shared_layer_costs_every_time_and_has_its_parameters_once():
    inputs = keras.Input((None, None, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same")
    block = keras.Sequential([keras.Input((None, None, 3)), shared, keras.layers.ReLU()])
    model = keras.Model(inputs, shared(block(block(inputs))))
    assert multiply_adds(model, 10) == 3 * 10 * 10 * 3 * 3 * 3 * 3
    assert count_parameters(model) == (84, 84)


def test_frozen_parameters_are_not_trainable():
    with unallocated():
        model = keras.applications.MobileNet(weights=None, include_top=False)
    trainable, total = count_parameters(model)
    assert (trainable, total) == (3_206_976, 3_228_864)
    model.get_layer("conv1").trainable = False
    assert count_parameters(model) == (trainable - 3 * 3 * 3 * 32, total)


def test_models_of_vectors_are_counted_by_their_shape():
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5), keras.layers.Dense(2)])
    assert multiply_adds(model, (7,)) == 7 * 5 + 5 * 2


def test_sizes_that_do_not_fit_and_layers_that_hide_kernels_are_told():
    fixed = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match=r"takes inputs of shape \(None, 8, 8, 3\); received input_size=\(9, 9, 3\)"):
        multiply_adds(fixed, 9)
    inputs = keras.Input((4, 6))
    attention = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs))
    with pytest.raises(ValueError, match=r"layer 'attention' \(MultiHeadAttention\) are not known"):
        multiply_adds(attention, (4, 6))
    inputs = keras.Input((8, 8, 3))
    operation = keras.Model(inputs, keras.ops.conv(inputs, np.ones((3, 3, 3, 2), "float32")))
    with pytest.raises(ValueError, match=r"\(Conv\) are not known"):
        multiply_adds(operation, 8)


def test_unallocated_models_stay_so_and_others_are_not_touched():
    with unallocated():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10**6)])
    assert count_parameters(model).total == 5 * 10**6
    with keras.StatelessScope():
        later = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="ones")])
    assert float(keras.ops.sum(later.weights[0])) == 12.0
    assert [weight._value for weight in model.weights] == [None, None]


# Tables and commands ----------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Two published models, so that a table takes no minute."""
    names = ("slim_deeplabv3_mobilenet_v2", "bonlime_deeplabv3_mobilenetv2")
    rows = {name: published.MODELS[name] for name in names}
    monkeypatch.setattr(summary.tables, "MODELS", rows)
    monkeypatch.setattr(summary.networks, "MODELS", rows)


@pytest.mark.slow
def test_the_command_models_prints_text_and_markdown(few, capsys):
    assert main(["models"]) == 0
    header, rule, slim, bonlime = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["model", "backbone"]
    assert set(rule) == {"-", " "}
    assert slim.split()[:7] == ["slim_deeplabv3_mobilenet_v2", "mobilenet_v2", "16", "2.114", "M", "2.741", "B"]
    assert "75.32 VOC 2012 val and 3 more" in slim
    assert "8.826 B" in bonlime
    assert main(["models", "--markdown", "slim"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == "|---|---|---|---|---|---|---|"
    assert "77.33 VOC 2012 val (output stride 8, multi-scale, flip)" in lines[2]


@pytest.mark.slow
def test_the_command_models_compares_published_counts(few, capsys):
    assert main(["models", "--counts", "slim"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "2.75B" in lines[2]
    assert "-0.338 %" in lines[2]
    assert "multiply-adds, 513x513, output stride 8, scales 0.5 to 1.75, flip" in lines[3]


def test_the_command_models_says_which_models_there_are(few, capsys):
    assert main(["models", "transformer"]) == 1
    assert "'transformer' in its name or backbone: slim_deeplabv3_mobilenet_v2, bonl" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_receptive_field_takes_backbones_published_models_and_files(few, capsys, tmp_path):
    assert main(["receptive-field", "vgg16", "--output-stride", "16"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["pool5", "MaxPooling2D", "2", "1", "1", "16", "212", "15.5"]
    assert main(["receptive-field", "bonlime_deeplabv3_mobilenetv2", "--output-stride", "32", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| image_pooling_mean | GlobalAveragePooling2D | - | - | - | - | image | - |" in lines
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="conv")])
    model.save(tmp_path / "model.keras")
    assert main(["receptive-field", str(tmp_path / "model.keras")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["conv", "Conv2D", "3", "1", "1", "1", "3", "1"]
    assert main(["receptive-field", str(tmp_path / "model.keras"), "--output-stride", "8"]) == 1
    assert "a .keras file has its own" in capsys.readouterr().err
    assert main(["receptive-field", "vgg17"]) == 1
    assert "'vgg17' is no .keras file, no published model" in capsys.readouterr().err


@pytest.mark.slow
def test_backbones_that_make_their_strides_themselves_are_opened_at_theirs():
    rows = receptive_field(open_network("xception_vainf", 8))
    assert rows[-1].output_stride == (8, 8)
    assert receptive_field(open_network("xception_vainf"))[-1].output_stride == (16, 16)
