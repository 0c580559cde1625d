"""A registered backbone of five convolutions, for tests of everything around a network: it is traced in a moment."""

import keras
import pytest

from keras_deeplab.backbones import BACKBONES, Backbone


def tiny(input_shape=(None, None, 3)):
    """Images to a map at stride 32; its v3+ decoder taps stride 4."""
    x = inputs = keras.Input(input_shape)
    for stage, filters in enumerate((8, 12, 16, 16, 24), start=1):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", use_bias=False, name=f"stage{stage}")(x)
        x = keras.layers.BatchNormalization(name=f"stage{stage}_BN")(x)
        x = keras.layers.ReLU(6.0, name=f"stage{stage}_relu")(x)
    return keras.Model(inputs, x, name="tiny")


@pytest.fixture(scope="module")
def tiny_backbone():
    """Its name in the registry, where it stands as long as the module's tests run."""
    BACKBONES["tiny"] = Backbone(tiny, "stage2_relu", "tf", v3_head="image_pooling")
    yield "tiny"
    del BACKBONES["tiny"]
