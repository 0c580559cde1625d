"""The parts of quantising by themselves, against what their definitions say: a wrong sign or share shows."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_deeplab.quantize import argmax, equalise, ranges, rounding
from keras_deeplab.quantize.plan import plan
from keras_deeplab.quantize.statistics import observe


def convolution(channels, filters, **settings):
    inputs = keras.Input((8, 8, channels))
    return keras.Model(inputs, keras.layers.Conv2D(filters, 1, name="logits", **settings)(inputs))


@pytest.mark.parametrize("method", ["nearest", "optimal"])
def test_the_mean_of_what_a_rounded_convolution_puts_out_stays(method):
    """What rounding adds on average is taken off by the bias; at these sizes every position is looked at."""
    random = np.random.default_rng(0)
    model = convolution(5, 3)
    model.set_weights([random.normal(size=(1, 1, 5, 3)), random.normal(size=3)])
    images = [random.uniform(5, 9, (1, 8, 8, 5)).astype("float32") for _ in range(2)]
    batch = np.concatenate(images)
    kernel, bias = model.get_weights()
    before = model.predict(batch, verbose=0).mean((0, 1, 2))
    rounding.round_kernels(model, images, method)
    rounded, mended = model.get_weights()
    steps = np.abs(kernel).max((0, 1, 2)) / 127
    np.testing.assert_allclose(rounded / steps, np.round(rounded / steps), atol=1e-3)
    unmended = (batch @ rounded[0, 0]).mean((0, 1, 2)) + bias
    assert np.abs(unmended - before).min() > 1e-3  # there is something to mend
    np.testing.assert_allclose(model.predict(batch, verbose=0).mean((0, 1, 2)), before, atol=1e-5)
    np.testing.assert_allclose(mended - bias, before - unmended, atol=1e-5)


def test_equalising_leaves_room_for_a_fifth_more_below_a_relu6():
    reach = np.array([0.01, 1.0, 3.0, 4.9, 5.1, 6.0, 30.0])
    wanted = np.full(7, 0.001)
    scales = equalise._allowed(wanted, SimpleNamespace(clipped=True), reach)
    assert (reach * 1.2 / scales <= 6 + 1e-9)[:4].all()  # what was below 6 stays so, with a fifth to spare
    np.testing.assert_allclose(scales, [0.002, 0.2, 0.6, 0.98, 1, 1, 1])
    assert equalise._allowed(wanted, SimpleNamespace(clipped=False), reach) is wanted


def test_the_percentile_leaves_a_ten_thousandth_out_on_either_side():
    values = np.linspace(-1, 3, 400_001)
    seen = SimpleNamespace(low=values[:1], high=values[-1:], values=np.random.default_rng(0).permutation(values))
    low, high = ranges.search([seen], "percentile")
    assert high - low == pytest.approx(4 * 0.9998, abs=1e-5)
    assert (low, high) == pytest.approx((-1 + 0.0004, 3 - 0.0004), abs=4 / 255 / 2)
    low, high = ranges.search([seen], "minmax")
    assert high - low == pytest.approx(4)


def test_the_common_part_of_logits_is_fitted_to_channels_that_move_and_to_no_others():
    """Of a channel of noise a fit without a ridge makes much, where it happens to go with what is left over."""
    random = np.random.default_rng(0)
    image = np.zeros((1, 8, 8, 3), "float32")
    image[..., :2] = random.normal(size=(1, 8, 8, 2)) * (10, 1)
    kernel = np.array([[4.0, 4.0], [1.0, -1.0], [0.0, 0.0]], "float32")
    largest = (image[0] @ kernel).max(-1)
    rest = largest - 4 * image[0, ..., 0]  # |second channel|, which no linear function tells
    image[0, ..., 2] = 1e-3 * (rest - rest.mean())
    model = convolution(3, 2)
    model.set_weights([kernel[None, None], np.zeros(2)])
    before = model(image).numpy()
    argmax.shift_logits(model, [image])
    shifted = model.get_weights()[0][0, 0]
    assert np.abs(shifted[0]).max() < 0.02  # of 4
    assert np.abs(shifted[2]).max() < 1  # a fit by least squares alone has 1000 there
    after = model(image).numpy()
    np.testing.assert_array_equal(after.argmax(-1), before.argmax(-1))
    assert np.abs(after.max(-1)).max() < 0.2 * np.abs(before.max(-1)).max()


def test_equalising_looks_at_what_lies_below_zero_as_at_what_lies_above():
    """The first channel reaches to -9, the second to 1."""
    inputs = keras.Input((8, 8, 2), name="images")
    middle = keras.layers.Conv2D(2, 1, name="first")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1, name="logits")(middle))
    random = np.random.default_rng(0)
    model.set_weights([np.diag([-9.0, 1.0])[None, None], np.zeros(2), random.normal(size=(1, 1, 2, 3)), np.zeros(3)])
    layout, images = plan(model), [random.uniform(0, 1, (1, 8, 8, 2)).astype("float32")]
    scales = equalise.equalise(model, layout, observe(model, layout.sites, images))["first"]
    assert scales[0] > 2 * scales[1]


def test_optimal_rounding_makes_up_for_errors_in_what_goes_together():
    """Two inputs that are always equal: what rounding adds to one weight it can take off the other."""
    weights, steps = np.array([[[0.4], [0.4], [127.0]]]), np.array([[1.0]])
    moments = np.array([[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    found = rounding._optimal(weights, steps, moments)
    assert found[0, 2, 0] == 127
    assert sorted(found[0, :2, 0]) == [0, 1]


def test_means_and_moments_are_those_of_a_convolution_s_inputs():
    random = np.random.default_rng(0)
    images = [random.normal(size=(1, 8, 8, 3)).astype("float32") for _ in range(2)]
    ((mean, moments),) = rounding._moments(convolution(3, 2), images, True, 0).values()
    rows = np.concatenate(images).reshape(-1, 3).astype(float)
    np.testing.assert_allclose(mean, rows.mean(0)[None], atol=1e-5)
    np.testing.assert_allclose(moments, (rows.T @ rows / len(rows))[None], atol=1e-5)
    assert rounding._moments(convolution(3, 2), images, False, 0)["logits"][1] is None
