"""Batch normalisation by one operator computes what Keras's own layer does, and leaves to it what it can't compute."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deeplab
from keras_deeplab import layers
from keras_deeplab.specs.model import inner_layers

PLAIN = keras.layers.BatchNormalization

SHAPES = [(2, 5, 7, 3), (1, 1, 1, 4), (3, 8, 8, 16), (1, 9, 1, 21)]
CLOSE = {"float32": 3e-6, "mixed_float16": 1e-3, "mixed_bfloat16": 8e-3}


def step(cls, shape, by_batch=True, training=True, **settings):
    """The outputs, the gradients of the inputs, gamma and beta, and the statistics after a step."""
    layer, random = cls(**settings), np.random.default_rng(0)
    layer.build(shape)
    for variable in layer.weights:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    layer.trainable = by_batch
    factors = [variable for variable in (layer.gamma, layer.beta) if variable is not None]
    for variable in factors:
        variable.trainable = True
    inputs, gradients = (tf.cast(random.normal(1, 2, shape), layer.compute_dtype) for _ in range(2))

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=training)
        return [outputs, *tape.gradient(outputs, [inputs, *(each.value for each in factors)], gradients)]

    return [tf.cast(each, tf.float32).numpy() for each in (*run(), layer.moving_mean, layer.moving_variance)]


def assert_same(shape, close=3e-6, **settings):
    wanted = step(PLAIN, shape, **settings)
    found = step(layers.BatchNormalization, shape, **settings)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=close * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize(
    ("by_batch", "training"), [(True, True), (False, True), (True, False)], ids=["batch", "fixed", "inference"]
)
@pytest.mark.parametrize(("dtype", "shape"), list(itertools.product(CLOSE, SHAPES)))
def test_a_step_is_that_of_keras(dtype, shape, by_batch, training):
    assert_same(shape, CLOSE[dtype], by_batch=by_batch, training=training, dtype=dtype)


@pytest.mark.parametrize(
    "settings",
    [{"scale": False}, {"center": False}, {"epsilon": 0.5, "momentum": 0.3}, {"axis": 1}, {"axis": 3}],
    ids=str,
)
def test_settings_are_those_of_keras(settings):
    for training in (True, False):
        assert_same((2, 5, 7, 3), training=training, **settings)


def test_maps_without_positions_stay_so():
    layer = layers.BatchNormalization()
    layer.build((None, None, None, 3))
    for shape in ((0, 4, 4, 3), (1, 0, 4, 3)):
        assert layer(np.zeros(shape, "float32"), training=False).shape == shape


def test_other_ranks_are_those_of_keras():
    assert_same((6, 3))
    assert_same((2, 3, 4, 2, 3))


def test_a_step_is_one_operator_each_way():
    layer = layers.BatchNormalization()
    layer.build((None, None, None, 3))

    for training in (True, False):

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
        def run(inputs, training=training):
            return tf.gradients(layer(inputs, training=training), inputs)

        kinds = {operator.type for operator in run.get_concrete_function().graph.get_operations()}
        assert {"FusedBatchNormV3", "FusedBatchNormGradV3"} <= kinds
        assert not kinds & {"SquaredDifference", "Rsqrt"}


def test_a_mask_counts():
    inputs = keras.random.normal((2, 4, 4, 3), seed=1)
    mask = keras.ops.cast(keras.random.uniform((2, 4, 4), seed=2) > 0.5, "bool")
    found = [
        cls()(inputs, training=True, mask=mask) for cls in (keras.layers.BatchNormalization, layers.BatchNormalization)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_networks_have_it_from_builders_and_from_classifiers(tmp_path):
    classifier = keras.applications.MobileNetV2(
        include_top=False, weights=None, alpha=0.35, input_shape=(None, None, 3)
    )
    models = [keras_deeplab.DeepLabV3Plus("xception_41", num_classes=3), keras_deeplab.atrous(classifier, 8)]
    for model in models:
        kinds = {type(layer) for layer in inner_layers(model, PLAIN)}
        assert kinds == {layers.BatchNormalization}
    models[1].save(tmp_path / "dense.keras")
    loaded = keras.models.load_model(tmp_path / "dense.keras")
    assert {type(layer) for layer in inner_layers(loaded, PLAIN)} == {layers.BatchNormalization}


def test_files_of_variables_fit_both(tmp_path):
    theirs, ours = (keras.Sequential([keras.Input((4, 4, 3)), cls()]) for cls in (PLAIN, layers.BatchNormalization))
    theirs.layers[0].moving_mean.assign([1.0, 2.0, 3.0])
    theirs.save_weights(tmp_path / "plain.weights.h5")
    ours.load_weights(tmp_path / "plain.weights.h5")
    assert ours.layers[0].moving_mean.numpy().tolist() == [1.0, 2.0, 3.0]
