import keras
import numpy as np
import pytest

from keras_deeplab.training.schedules import Poly


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
