import math

import keras
import numpy as np
import pytest

from keras_deeplab.training.choices import SCHEDULES
from keras_deeplab.training.schedules import Constant, Cosine, Poly, Step
from keras_deeplab.training.settings import Schedule


def test_equals_the_formula():
    schedule = Poly(0.01, 200, power=0.7, end_learning_rate=0.001, warmup_steps=20)
    for step in range(0, 260, 7):
        expected = 0.001 + 0.009 * (1 - min(step, 200) / 200) ** 0.7
        expected *= min(1.0, (step + 1) / 20)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


def test_without_end_rate_equals_keras_polynomial_decay():
    theirs = keras.optimizers.schedules.PolynomialDecay(0.007, 30000, end_learning_rate=0.0, power=0.9)
    ours = Poly(0.007, 30000)
    steps = np.array([0, 1, 500, 15000, 29999, 30000, 40000])
    np.testing.assert_allclose([float(ours(s)) for s in steps], [float(theirs(s)) for s in steps], rtol=2e-6, atol=1e-9)


def test_warm_up_rises_and_ends_where_the_decay_is():
    warm, plain = Poly(1.0, 100, warmup_steps=10), Poly(1.0, 100)
    rates = [float(warm(step)) for step in range(10)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.1)
    assert float(warm(9)) == float(plain(9))


def test_drives_an_optimizer_and_survives_serialisation():
    optimizer = keras.optimizers.SGD(Poly(0.5, 4, warmup_steps=2))
    optimizer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    variable = keras.Variable([0.0])
    positions = []
    for _ in range(4):
        optimizer.apply([keras.ops.ones(1)], [variable])
        positions.append(float(variable[0]))
    rates = [0.5 * (1 - step / 4) ** 0.9 * min(1, (step + 1) / 2) for step in range(4)]
    np.testing.assert_allclose(positions, -np.cumsum(rates), rtol=1e-5)


def test_refuses_impossible_lengths():
    with pytest.raises(ValueError, match="decay_steps must be positive, received 0"):
        Poly(0.1, 0)
    with pytest.raises(ValueError, match="warmup_steps must lie between 0 and decay_steps"):
        Poly(0.1, 10, warmup_steps=11)
    with pytest.raises(ValueError, match="warmup_factor must lie between 0 and 1, received 2"):
        Cosine(0.1, 10, warmup_factor=2)
    with pytest.raises(ValueError, match="decay_every must be positive, received 0"):
        Step(0.1, 0)


def test_a_warm_up_starts_from_its_factor_whatever_the_decay():
    kinds = (Poly(1.0, 100), Cosine(1.0, 100), Step(1.0, 30), Constant(1.0))
    for plain in kinds:
        warm = type(plain).from_config(plain.get_config() | {"warmup_steps": 8, "warmup_factor": 0.2})
        for step in (0, 3, 7, 8, 90):
            factor = 0.2 + 0.8 * min(1.0, (step + 1) / 8)
            assert float(warm(step)) == pytest.approx(factor * float(plain(step)), rel=1e-6)


def test_step_falls_at_its_steps_and_cosine_is_keras_own():
    """At multiples of `decay_every` that float32 can't divide exactly, too."""
    for every in (7, 49, 2000):
        schedule = Step(0.5, every, 0.1)
        for multiple in (1, 2, 3):
            assert float(schedule(every * multiple - 1)) == pytest.approx(0.5 * 0.1 ** (multiple - 1), rel=1e-5)
            assert float(schedule(every * multiple)) == pytest.approx(0.5 * 0.1**multiple, rel=1e-5)
    theirs = keras.optimizers.schedules.CosineDecay(0.02, 400, alpha=0.01)
    ours = Cosine(0.02, 400, end_learning_rate=0.0002)
    for step in (0, 1, 100, 399, 400, 500):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=1e-5)


@pytest.mark.parametrize("name", ["poly", "cosine", "step", "constant"])
def test_settings_reach_every_schedule_which_survives_serialisation(name):
    settings = Schedule(
        name=name, power=0.5, end_learning_rate=0.1, decay_every=10, decay_factor=0.5, warmup_steps=5, warmup_factor=0.5
    )
    schedule = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(SCHEDULES[name](settings, 1.0, 40))
    )
    remaining = 27 / 40
    expected = {
        "poly": 0.1 + 0.9 * remaining**0.5,
        "cosine": 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (1 - remaining))),
        "step": 0.5,
        "constant": 1.0,
    }[name]
    assert float(schedule(13)) == pytest.approx(expected, rel=1e-5)
    assert float(schedule(0)) == pytest.approx(0.6, rel=1e-5)


def test_step_has_three_rates_in_a_run_by_default():
    schedule = SCHEDULES["step"](Schedule(name="step"), 1.0, 10)
    assert [round(float(schedule(step)), 4) for step in (0, 3, 4, 7, 8, 9)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
