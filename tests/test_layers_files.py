"""Files that hold the layers reload, by the names that they were registered under."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from layer_reference import random

from keras_deeplab import layers
from keras_deeplab.layers import (
    DilatedAveragePooling2D,
    DilatedConv2D,
    DilatedDepthwiseConv2D,
    DilatedMaxPooling2D,
    DilatedSeparableConv2D,
    ResizeBilinear,
)


def model_of_all_layers(size=(None, None)):
    inputs = keras.Input((*size, 3))
    x = DilatedConv2D(6, 3, padding=((6, 6), (6, 6)), dilation_rate=6)(inputs)
    x = DilatedDepthwiseConv2D(3, padding=((2, 1), (4, 3)), dilation_rate=(1, 2))(x)
    x = DilatedSeparableConv2D(4, 3, padding="same", dilation_rate=2)(x)
    x = DilatedMaxPooling2D(3, 2, "same")(x)
    x = DilatedAveragePooling2D(2, 2, ((1, 1), (0, 2)))(x)
    x = ResizeBilinear(align_corners=False)([x, inputs])
    return keras.Model(inputs, x)


def test_saved_model_file_reloads(tmp_path):
    model = model_of_all_layers()
    x = random(1, 9, 7, 3).astype("float32")
    expected = model(x).numpy()
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded(x), expected)
    assert [layer.get_config() for layer in reloaded.layers] == [layer.get_config() for layer in model.layers]
    assert reloaded.layers[1].get_config()["padding"] == [[6, 6], [6, 6]]


def in_a_new_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_saved_model_file_reloads_in_a_process_that_imports_the_layers(tmp_path):
    model = model_of_all_layers()
    x = np.ones((1, 9, 7, 3), "float32")
    model.save(tmp_path / "model.keras")
    code = (
        "import keras, numpy, keras_deeplab.layers; "
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r}); "
        f"numpy.save({str(tmp_path / 'y.npy')!r}, model(numpy.ones((1, 9, 7, 3))))"
    )
    result = in_a_new_process(code)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x), rtol=1e-6)


REGISTERED = {
    "BatchNormalization": {"momentum": 0.5},
    "Clip": {"low": 0.0, "high": 6.0},
    "DilatedAveragePooling2D": {"pool_size": 3},
    "DilatedConv2D": {"filters": 2, "kernel_size": 3},
    "DilatedDepthwiseConv2D": {"kernel_size": 3},
    "DilatedMaxPooling2D": {"pool_size": 3},
    "DilatedSeparableConv2D": {"filters": 2, "kernel_size": 3},
    "FakeQuantization": {"low": -1.0, "high": 1.0},
    "FoldPatches": {"patch_size": 2},
    "GroupedConv2D": {"filters": 2, "kernel_size": 3, "groups": 2},
    "ChannelSlice": {"start": 1, "stop": 3},
    "LayerScale": {"initial_value": 0.5},
    "LinearPatchAttention": {},
    "PatchAttention": {"heads": 2},
    "ResizeBilinear": {"align_corners": False, "half_pixel_centers": False},
    "ScaleBilinear": {"scale": 0.5},
    "UnfoldPatches": {"patch_size": 2},
    "UpsampleNearest": {"factor": 2},
    "WindowedAveragePooling2D": {"pool_size": 3},
}


@pytest.mark.parametrize("name", REGISTERED)
def test_the_name_in_a_file_holds_wherever_the_class_lies(name):
    # As files name the classes that were written when keras_deeplab.layers was one module.
    written = {
        "module": "keras_deeplab.layers",
        "class_name": name,
        "config": REGISTERED[name],
        "registered_name": f"keras_deeplab>{name}",
    }
    layer = keras.saving.deserialize_keras_object(written)
    assert type(layer) is getattr(layers, name)
    assert keras.saving.get_registered_name(type(layer)) == f"keras_deeplab>{name}"


def test_every_layer_has_its_name_in_files():
    assert set(REGISTERED) == {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
