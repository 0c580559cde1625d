"""The learning-rate finder: its rule on losses that the tests make, and its fit on a network of two layers."""

import keras
import numpy as np
import pytest

from keras_deeplab import data
from keras_deeplab.cli import main
from keras_deeplab.data import pipeline
from keras_deeplab.reports.charts import svg
from keras_deeplab.training import find_learning_rate
from keras_deeplab.training.losses import SparseCategoricalCrossentropy
from keras_deeplab.training.range_test import Growing, LearningRates, explodes, smooth
from keras_deeplab.training.settings import RangeTest, TrainSettings


def valley(best, steps=120, noise=0.0, until=10.0):
    """A loss of 2 that is lowest, 1, at a rate of `best`, over rates from 1e-6 on."""
    rates = 1e-6 * (until / 1e-6) ** (np.arange(steps) / (steps - 1))
    away = np.log10(rates / best)
    losses = 2.0 - np.exp(-(away**2)) + np.maximum(0.0, away - 1.0) ** 2
    losses += np.random.default_rng(0).normal(0.0, noise, steps)
    return LearningRates(tuple(rates.tolist()), tuple(losses.tolist()), exploded=until < 10)


@pytest.mark.parametrize("best", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_rate_is_a_tenth_of_that_of_the_lowest_loss(best, noise):
    found = valley(best, noise=noise)
    assert found.problem is None
    assert found.suggestion == pytest.approx(best / 10, rel=0.1 if not noise else 1.0)
    assert f"suggested: learning_rate={found.suggestion:g}, a tenth of" in found.told()
    assert svg(found.chart()).count("<polyline") > 4


def test_what_cannot_be_told_is_not_suggested():
    flat = LearningRates((0.01, 0.1, 1.0), (1.0, 0.99, 1.0), exploded=False)
    assert flat.suggestion is None
    assert "no learning rate can be suggested: the loss hardly fell: from 1 to 0.99" in flat.told()
    for seed in range(20):  # chance is no fall
        losses = np.random.default_rng(seed).normal(2.0, 0.3, 100).tolist()
        assert LearningRates(tuple(np.geomspace(1e-6, 1, 100)), tuple(losses), exploded=False).suggestion is None
    falling = valley(0.5, until=0.05)
    assert LearningRates(falling.rates, falling.losses, exploded=False).suggestion is None
    assert "still falling at the highest rate, 0.05" in LearningRates(falling.rates, falling.losses, False).told()


def test_smoothing_lags_behind_nothing_and_keeps_lines_straight():
    line = np.linspace(3.0, 1.0, 96)
    assert smooth(line)[10:-10] == pytest.approx(line[10:-10].tolist())
    peak = np.zeros(96)
    peak[48] = 1.0
    smoothed = smooth(peak)
    assert int(np.argmax(smoothed)) == 48
    assert smoothed[44:53] == pytest.approx(smoothed[44:53][::-1])
    assert sum(smoothed) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("losses", "end"),
    [
        ([2.0] * 5 + [1.0] * 5 + [2.5] * 20, None),
        ([2.0] * 5 + [1.0] * 5 + [9.0] * 20, 11),
        ([2.0] * 5 + [1.0] * 5 + [5.0] + [1.0] * 20, None),  # a single one
        ([2.0] * 5 + [0.01] * 5 + [0.5] * 20, None),  # above the lowest, below the beginning
    ],
)
def test_it_stops_where_the_loss_explodes(losses, end):
    found = next((count - 1 for count in range(1, len(losses) + 1) if explodes(losses[:count])), None)
    assert found == end


def tiny():
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.Rescaling(1 / 255)(x))
    x = keras.layers.BatchNormalization(momentum=0.99)(x)
    return keras.Model(inputs, keras.layers.Conv2D(6, 1)(keras.layers.Dropout(0.1)(x)))


@pytest.mark.slow
def test_a_model_is_tried_and_gets_back_what_it_had():
    source, model = data.load("synthetic", size=24, num_examples=8), tiny()
    before = [np.array(variable) for variable in model.variables]
    settings = TrainSettings.of(steps=50, batch_size=2, crop_size=16, weight_decay=0.0, batch_norm="batch")
    found = find_learning_rate(
        model, source, settings, RangeTest(lowest=1e-12, highest=1e-9, test_steps=10), progress=False
    )
    # Rates that change nothing: the losses of the batches that a training would see.
    loss, expected = SparseCategoricalCrossentropy(), []
    for images, labels in pipeline.training(source, batch_size=2, crop_size=16).take(10):
        expected.append(float(loss(labels, model(images, training=True))))
    assert found.losses == pytest.approx(expected, rel=0.1)  # dropout differs
    assert found.rates == pytest.approx(np.geomspace(1e-12, 1e-9, 10).tolist())
    assert found.suggestion is None
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)

    found = find_learning_rate(
        model, source, settings, RangeTest(lowest=1e-3, highest=1e6, test_steps=40), progress=False
    )
    assert min(found.losses) < 0.97 * found.losses[0]  # rates that do
    assert found.exploded
    assert len(found.losses) < 40
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    assert model.layers[3].momentum == 0.99
    assert not model.compiled


def test_the_rates_reach_the_last_of_them():
    rates = [float(Growing(1e-6, 10, 100)(step)) for step in range(100)]
    assert rates == pytest.approx(np.geomspace(1e-6, 10, 100).tolist(), rel=1e-4)
    growing = Growing(1e-6, 10, 100)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(growing)).highest == 10


def test_nonsense_is_refused_before_any_work(capsys):
    for words, message in [
        (["--lowest", "1", "--highest", "0.1"], "--lowest must be less than --highest; received 1 and 0.1"),
        (["--test-steps", "3"], "--test-steps must be a whole number, at least 10; received 3"),
        (["--patience", "0"], "--patience must be a whole number, at least 1; received 0"),
    ]:
        with pytest.raises(SystemExit):
            main(["find-learning-rate", "synthetic", "--steps", "9", *words])
        assert message in capsys.readouterr().err
    assert main(["find-learning-rate", "synthetic", "--steps", "9", "--output", "/no/such/folder/x.png"]) == 1
    assert "There is no folder '/no/such/folder'" in capsys.readouterr().err
