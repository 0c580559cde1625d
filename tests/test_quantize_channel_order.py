"""Networks that take BGR are exported with the order of the channels inside their kernels."""

import warnings

import keras
import numpy as np
import pytest
from export_models import photograph
from randomise import randomise

import keras_deeplab
from keras_deeplab import quantize
from keras_deeplab._helpers.private import is_channel_flip
from keras_deeplab.backbones import preprocessing
from keras_deeplab.export import graph
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.quantize.channel_order import in_given_order

SIZE = (33, 49)
MODES = (None, *preprocessing.MODES)


def tiny(input_shape=(None, None, 3)):
    """A backbone whose first convolution stands behind a pad, as ResNet's does."""
    x = inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 3, 2, activation="relu")(keras.layers.ZeroPadding2D(1)(x))
    for filters in (10, 12):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    return keras.Model(inputs, x, name="tiny")


def build(mode):
    settings = {"num_classes": 4, "output_stride": 8, "filters": 8, "include_preprocessing": mode or False}
    return randomise(keras_deeplab.DeepLabV3(tiny(), **settings))


def logits(model, image):
    return np.asarray(model(image[None].astype("float32"), training=False))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_no_file_reverses_channels_and_labels_stay(mode, tmp_path):
    model, pictures = build(mode), [photograph(*SIZE, seed) for seed in range(3)]
    before = logits(model, pictures[0])
    assert len(np.unique(before.argmax(-1))) > 1
    network, spec = graph.network(model)
    assert not any(is_channel_flip(operation) for operation in network.operations)
    assert (network is model) == (mode not in preprocessing.FLIPPED)
    after = logits(network, pictures[0])
    assert np.abs(after - before).max() <= 2e-6 * np.abs(before).max()
    assert spec.preprocessing == mode
    # The other modes in int8 are test_export_tflite's.
    for precision, share in (("float32", 0.9999), ("int8", 0.95))[: 2 if network is not model else 1]:
        options = {"calibration": pictures} if precision == "int8" else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="the model is calibrated as it is")
            file = export_tflite(model, tmp_path / "m.tflite", input_size=SIZE, precision=precision, **options)
        assert not [name for name in file.operators if "REVERSE" in name or "GATHER" in name]
        labels = predictor(file.path)(pictures[0])
        assert np.mean(labels == before[0].argmax(-1)) >= share
    np.testing.assert_array_equal(logits(model, pictures[0]), before)


def test_what_follows_a_reversal_decides_how_it_is_taken_away():
    """Several convolutions take it inside; what can't has its channels reversed by a convolution of zeros and ones."""
    inputs = keras.Input((8, 9, 3))
    flipped = keras.ops.flip(inputs, -1)
    x = keras.layers.Rescaling([1.0, 2.0, 3.0], [0.5, -0.5, 0.25])(flipped)
    both = [keras.layers.Conv2D(4, 3, name="one")(x), keras.layers.Conv2D(4, 3, name="two")(x)]
    inside = keras.Model(inputs, both)
    beside = keras.Model(inputs, keras.layers.Concatenate()([flipped, inputs]))
    shared = keras.layers.Conv2D(4, 3, name="shared")
    twice = keras.Model(inputs, [shared(flipped), shared(inputs)])
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 9, 3)).astype("float32")
    for model, convolutions in ((inside, 2), (beside, 1), (twice, 2)):
        changed = in_given_order(model)
        assert not any(is_channel_flip(operation) for operation in changed.operations)
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in changed.layers) == convolutions
        pairs = zip(*(keras.tree.flatten(each(images)) for each in (model, changed)), strict=True)
        assert all(np.abs(np.asarray(a) - np.asarray(b)).max() <= 1e-5 * np.abs(a).max() for a, b in pairs)
    plain = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))
    assert in_given_order(plain) is plain
    layers = keras.Sequential([inputs, keras.layers.Conv2D(4, 3)])
    assert in_given_order(layers) is layers


def test_folding_takes_a_reversal_inside_as_well():
    folded = quantize.fold(build("caffe"))
    assert not any(is_channel_flip(operation) for operation in folded.operations)
