"""How arrays of a source become those of a model: layouts and rates, where symmetry would hide a mistake."""

import numpy as np
import pytest

from keras_deeplab.networks import network
from keras_deeplab.weights.plan import Plan, _unflatten, says


def test_a_fully_connected_layer_is_the_convolution_over_its_map():
    """Over a map that is no square: a kernel of 7x7 is the same whichever of height and width comes first."""
    height, width, channels, filters = 2, 3, 4, 5
    random = np.random.default_rng(0)
    weights = random.normal(size=(filters, channels * height * width))
    image = random.normal(size=(height, width, channels))
    kernel = _unflatten(weights, (height, width, channels, filters)).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(
        np.einsum("hwc,hwco->o", image, kernel), weights @ image.transpose(2, 0, 1).reshape(-1), atol=1e-12
    )
    other = random.normal(size=(filters, 7))
    assert _unflatten(other, (height, width, channels, filters)) is other


@pytest.mark.parametrize(("own", "asked", "rates"), [(16, 8, (12, 24, 36)), (8, 16, (3, 6, 9)), (16, 32, (3, 6, 9))])
def test_rates_reach_as_many_pixels_at_another_output_stride(own, asked, rates):
    spec = network("DeepLabV3", "resnet18", num_classes=2, output_stride=own, atrous_rates=(6, 12, 18))
    assert Plan("mine", spec, (), None).at(asked).settings["atrous_rates"] == rates
    assert Plan("mine", spec, (), None).at(None).settings["atrous_rates"] == (6, 12, 18)


def test_settings_of_the_record_are_taken_over_and_the_resize_is_its_own():
    spec = network("DeepLabV3", "resnet18", num_classes=2, output_stride=16)
    chosen = Plan("mine", spec, (), None).chosen(resize="asymmetric", atrous_rates=(1, 2, 3)).spec
    assert chosen.settings["atrous_rates"] == (1, 2, 3)
    assert "resize" not in chosen.settings
    assert chosen.resize == spec.resize


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("output_stride", None, False),
        ("output_stride", 8, True),
        ("align_corners", False, True),
        ("include_preprocessing", True, False),
        ("include_preprocessing", False, True),
        ("include_preprocessing", None, False),
    ],
)
def test_which_settings_say_something(name, value, answer):
    assert says(name, value) is answer
