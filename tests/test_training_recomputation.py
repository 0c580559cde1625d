"""Maps that are computed again on the way back: the same step, with fewer of them kept."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from randomise import randomise
from test_training_trainer import run, tiny
from tiny_backbone import tiny_backbone  # noqa: F401

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.training import recomputation
from keras_deeplab.training.recomputation import recomputing

SIZE = (2, 49, 65, 3)


def step(model, call, images):
    """Scores, loss, gradients and all variables of a step, and how many convolutions its graph has."""

    @tf.function(autograph=False, jit_compile=False)
    def run(images):
        with tf.GradientTape() as tape:
            scores = keras.tree.flatten(call(images))
            loss = tf.add_n([tf.reduce_mean(tf.cast(each, tf.float32) ** 2) for each in scores])
        return scores, loss, tape.gradient(loss, model.trainable_variables)

    scores, loss, gradients = run(images)
    arrays = [[np.asarray(each, "float64") for each in part] for part in (scores, [loss], gradients, model.variables)]
    if not hasattr(run, "get_concrete_function"):
        return arrays, None
    kinds = [operation.type for operation in run.get_concrete_function(images).graph.get_operations()]
    return arrays, sum(kind in ("Conv2D", "DepthwiseConv2dNative") for kind in kinds)


def both(model, images):
    """A step of the model and one that computes its maps again, from the same weights and seeds."""
    model = SegmentationModel(model.inputs[0], model.outputs)
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    found = []
    for call in (None, recomputing(model)):
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
        # As a training has it: within the model's own call.
        model.called_for_training = call
        found.append(step(model, lambda images: model(images, training=True), images))
    return found


def compared(model, images, rtol):
    """Compares the two, each kind of values by the largest of it; returns how many convolutions there are for one."""
    (plain, convolutions), (again, more) = both(model, images)
    for expected, found in zip(plain, again, strict=True):
        atol = rtol * max(np.abs(each).max(initial=0) for each in expected)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=atol)
    return convolutions and more / convolutions


def networks():
    small = {"num_classes": 3, "filters": 16}
    return {
        "v3+": lambda backbone: keras_deeplab.DeepLabV3Plus(backbone, dropout=0.3, **small),
        "v2": lambda backbone: keras_deeplab.DeepLabV2(backbone, num_classes=3),
    }


@pytest.mark.parametrize("name", networks())
def test_a_step_is_the_same(name, tiny_backbone):  # noqa: F811
    model = randomise(networks()[name](tiny_backbone))
    assert any("moving" in variable.path for variable in model.variables)
    images = np.random.default_rng(0).uniform(0, 255, SIZE).astype("float32")
    # Gradients of maps with several readers are added in another order.
    assert compared(model, images, rtol=1e-5) > 1.3  # each convolution behind which a cut is runs twice


@pytest.fixture
def mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


def test_a_step_is_the_same_in_mixed_precision(mixed_precision, monkeypatch):
    """Variables are those that are stored, also where the model reads them in bfloat16, and a layer not."""
    monkeypatch.setattr(recomputation, "_cuts", lambda costs: [len(costs) - 1, len(costs)])
    images = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(6, 3, dtype="float32")(images)
    maps = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(maps)))
    model = randomise(keras.Model(images, keras.layers.Conv2D(3, 1, dtype="float32")(maps)))
    assert model.compute_dtype == "bfloat16"
    # Operator by operator: TensorFlow's graphs leave out roundings, and other ones in each.
    monkeypatch.setattr(tf, "function", lambda **options: lambda function: function)
    assert compared(model, np.random.default_rng(0).normal(size=(2, 9, 11, 3)).astype("float32"), rtol=1e-6) is None


def test_several_outputs_and_maps_that_nothing_reads():
    images = keras.Input((None, None, 3))
    maps = images
    outputs = []
    for _ in range(3):
        for _ in range(2):
            maps = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(maps)))
        outputs.append(keras.layers.Conv2D(2, 1)(maps))
    model = randomise(keras.Model(images, outputs))
    values = np.random.default_rng(0).normal(size=(1, 33, 29, 3)).astype("float32")
    assert compared(model, values, rtol=1e-6) > 1.3
    # Of a part of it, the rest isn't run.
    first = keras.Model(images, outputs[0])
    assert len(recomputation._Graph(first).calls) == 7
    np.testing.assert_array_equal(recomputing(first)(values), first(values, training=True))


def test_frozen_layers_layers_within_layers_and_seeds(monkeypatch):
    # All but the last two calls are one piece, dropout among them.
    monkeypatch.setattr(recomputation, "_cuts", lambda costs: [len(costs) - 2, len(costs)])

    class Twice(keras.layers.Layer):
        """Tells its layers not what it is called for: they know from the call around it."""

        def __init__(self):
            super().__init__()
            self.inner = [keras.layers.Conv2D(8, 3, padding="same"), keras.layers.BatchNormalization()]

        def build(self, shape):
            for layer in self.inner:
                layer.build((*shape[:-1], 8))
            self.built = True

        def call(self, inputs):
            for layer in self.inner:
                inputs = layer(inputs)
            return inputs

    images = keras.Input((None, None, 8))
    part = keras.Sequential([Twice(), keras.layers.ReLU(), keras.layers.BatchNormalization()])
    maps = keras.layers.Conv2D(8, 3, padding="same")(images)
    for layer in (Twice(), keras.layers.Dropout(0.5), keras.layers.BatchNormalization(trainable=False), part, Twice()):
        maps = keras.ops.tanh(layer(maps))
    model = randomise(keras.Model(images, maps))
    values = np.random.default_rng(0).normal(size=(2, 9, 7, 8)).astype("float32")
    assert compared(model, values, rtol=1e-6) > 1.3
    before, frozen = ([variable.numpy() for variable in variables] for variables in (model.variables, part.variables))
    recomputing(model)(values)
    moved = [
        variable.path for variable, old in zip(model.variables, before, strict=True) if (variable.numpy() != old).any()
    ]
    # Two statistics of each of the four layers that aren't frozen, and the seed of dropout.
    assert len(moved) == 2 * 4 + 1, moved
    assert any((new.numpy() != old).any() for new, old in zip(part.variables, frozen, strict=True))


def test_a_layer_that_adds_to_the_loss_is_refused():
    images = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, activity_regularizer="l2")(images)
    model = keras.Model(images, keras.layers.Conv2D(4, 1)(keras.layers.Conv2D(4, 1)(keras.layers.ReLU()(maps))))
    with pytest.raises(ValueError, match="adds to the loss what it made of its maps"):
        recomputing(model)(np.zeros((1, 8, 8, 3), "float32"))


@pytest.mark.slow
def test_a_run_is_the_same_and_goes_on_without(tmp_path):
    source = data.load("synthetic", size=32, num_examples=8)
    weights = []
    for name, recompute in (("kept", (False, False)), ("again", (True, False))):
        keras.utils.set_random_seed(0)
        model = tiny(dropout=0.2)
        for steps, setting in zip((4, 7), recompute, strict=True):
            run(model, source, tmp_path / name, steps=steps, batch_size=4, recompute=setting)
        weights.append(model.get_weights())
    for kept, again in zip(*weights, strict=True):
        np.testing.assert_allclose(again, kept, atol=1e-6)


@pytest.mark.slow
def test_a_run_with_a_teacher_computes_again(tmp_path, monkeypatch):
    called = []
    real = recomputation._Piece._run_again
    monkeypatch.setattr(
        recomputation._Piece, "_run_again", lambda piece, maps: called.append(piece) or real(piece, maps)
    )
    source = data.load("synthetic", size=32, num_examples=4)
    for recompute in (False, True):
        assert not called
        run(tiny(), source, tmp_path / str(recompute), steps=2, batch_size=4, teacher=tiny(), recompute=recompute)
    assert called


def random_costs(seed):
    draw, count = np.random.default_rng(seed), 8
    return [
        [(int(draw.integers(1, 20)), int(draw.integers(place + 1, count + 1))) for _ in range(draw.integers(1, 3))]
        for place in range(count)
    ]


def memory(costs, ends):
    """(bytes kept between pieces, those written in the largest one), straight from their meaning."""
    starts = [0, *ends[:-1]]
    kept = sum(
        size
        for start, end in zip(starts, ends, strict=True)
        for each in costs[start:end]
        for size, last in each
        if last >= end
    )
    within = [
        sum(size for each in costs[start:end] for size, _ in each) for start, end in zip(starts, ends, strict=True)
    ]
    return kept, max(within)


@pytest.mark.parametrize("seed", range(12))
def test_cuts_keep_the_least_of_all_within_a_limit(seed):
    costs = random_costs(seed)
    count = len(costs)
    every = []
    for inner in itertools.product([False, True], repeat=count - 1):
        ends = [*itertools.compress(range(1, count), inner), count]
        every.append(memory(costs, ends))
    for limit in (20, 40, 80, math.inf):
        found = recomputation._cheapest(costs, limit)
        fitting = [kept for kept, within in every if within <= limit]
        assert (found is None) == (not fitting)
        if found is not None:
            kept, within = memory(costs, found[1])
            assert (kept, kept + within) == (min(fitting), found[0])
            assert within <= limit
    ends = recomputation._cuts(costs)
    assert sum(memory(costs, ends)) <= sum(memory(costs, list(range(1, count + 1))))


def test_no_cut_is_worth_it():
    """One call, and a network whose every map is read at the end."""
    assert recomputation._cuts([[(5, 1)]]) == [1]
    assert recomputation._cuts([[(5, 3)], [(5, 3)], [(5, 3)]]) == [1, 2, 3]
