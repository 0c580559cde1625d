"""Batch normalisation in trainings with small batches: the statistics of data, before the first step, and kept."""

import keras
import numpy as np
import pytest
from test_training_trainer import Killed, assert_equal_weights, killer, run, tiny

from keras_deeplab import data
from keras_deeplab.training import batch_norm
from keras_deeplab.training.settings import TrainSettings


@pytest.fixture(scope="module")
def source():
    return data.load("synthetic", size=32, num_examples=12)


def fresh():
    """Batch normalisation behind the kinds of convolutions whose kernels are scaled, and behind something else."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="conv_bn", epsilon=1e-5)(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", bias_initializer="ones", name="depthwise")(x)
    x = keras.layers.BatchNormalization(name="depthwise_bn")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.BatchNormalization(name="after_relu_bn")(x)
    return keras.Model(inputs, keras.layers.Conv2D(3, 1, name="logits")(x))


def test_new_layers_get_the_statistics_of_the_data_and_trained_ones_keep_theirs():
    model, images = fresh(), np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype("float32")
    trained = model.get_layer("conv_bn")
    trained.moving_variance.assign(np.full(6, 0.25))
    kept = [variable.numpy() for variable in (*trained.variables, model.get_layer("conv").kernel)]
    batch_norm.prepare(model, TrainSettings(steps=1, batch_norm="calibrated"))
    assert [variable.path for variable in model.trainable_variables if "moving" in variable.path] == []
    assert {"conv_bn/gamma", "after_relu_bn/beta"} <= {variable.path for variable in model.trainable_variables}
    assert batch_norm.calibrate(model, [images]) == 2
    now = (*trained.variables, model.get_layer("conv").kernel)
    assert all((variable.numpy() == before).all() for variable, before in zip(now, kept, strict=True))
    for name, scaled in (("depthwise_bn", True), ("after_relu_bn", False)):
        layer = model.get_layer(name)
        # By the layers as they are now: the kernel before is another one.
        features = keras.Model(model.input, layer.input)(images).numpy()
        np.testing.assert_allclose(layer.moving_mean, features.mean((0, 1, 2)), atol=1e-4)
        np.testing.assert_allclose(layer.moving_variance, features.var((0, 1, 2)), rtol=1e-3, atol=1e-6)
        assert np.allclose(layer.moving_variance, 1, atol=0.01) == scaled
    # In training it is the network that it is in inference.
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))
    assert not model.get_layer("depthwise_bn").trainable
    with batch_norm.as_built(model):
        assert all(layer.trainable for layer in model.layers)
    assert not model.get_layer("depthwise_bn").trainable


def test_statistics_are_those_of_all_batches_together():
    images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype("float32")
    images[4:] *= 0.2
    found = []
    for parts in ([images], np.split(images, 4)):
        inputs = keras.Input((None, None, 3))
        model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
        batch_norm.prepare(model, TrainSettings(steps=1, batch_norm="calibrated"))
        batch_norm.calibrate(model, parts)
        found.append([variable.numpy() for variable in model.layers[-1].non_trainable_variables])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "kind", "clip"),
    [
        ({"batch_size": 8}, "batch", None),
        ({"batch_size": 7}, "calibrated", 1.0),
        ({"batch_size": 2, "global_clipnorm": 5.0}, "calibrated", 5.0),
        ({"batch_size": 2, "batch_norm": "batch"}, "batch", None),
        ({"batch_size": 2, "optimizer": keras.optimizers.SGD(0.1)}, "calibrated", None),
    ],
)
def test_what_is_chosen_below_eight_crops(options, kind, clip):
    settings = batch_norm.resolved(TrainSettings.of(steps=1, **options), tiny())
    assert (settings.batch_norm, settings.optimization.global_clipnorm) == (kind, clip)
    inputs = keras.Input((None, None, 3))
    without = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    settings = batch_norm.resolved(TrainSettings.of(steps=1, batch_size=2), without)
    assert (settings.batch_norm, settings.optimization.global_clipnorm) == ("batch", None)


@pytest.mark.slow
def test_a_calibrated_run_says_so_resumes_to_the_bit_and_leaves_layers_that_can_learn(tmp_path, source):
    lines = []
    whole, first, second = tiny(), tiny(), tiny(seed=1)
    run(whole, source, tmp_path / "whole", batch_norm=None, log=lines.append)
    assert "batch normalisation is calibrated (by default below 8 crops a step): new layers" in lines[0]
    assert "clipped to a norm of 1" in lines[0]
    with pytest.raises(Killed):
        run(first, source, tmp_path / "parts", batch_norm=None, log=killer(3))
    run(second, source, tmp_path / "parts", batch_norm=None)
    assert_equal_weights(whole, second, 0)
    assert whole.get_layer("backbone_bn").trainable
    saved = keras.saving.load_model(tmp_path / "whole" / "last.keras")
    assert saved.get_layer("backbone_bn").trainable
    assert (saved.get_layer("backbone_bn").moving_mean.numpy() != 0).any()


def pixelwise():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 1)(keras.layers.Rescaling(1 / 127.5, -1)(inputs))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Conv2D(2, 1)(x))


@pytest.mark.slow
def test_batches_of_one_learn_what_they_predict(tmp_path):
    """By its own statistics an image's colour is no evidence: with batches of one such a model can't use it."""
    from keras_deeplab.data.source import indexed
    from keras_deeplab.inference.evaluation import evaluate

    def read(index):
        label = np.full((16, 16), index % 2, np.uint8)
        noise = np.random.default_rng(index).integers(0, 60, (16, 16, 3), np.uint8)
        return noise + 180 * label[..., None], label, str(index)

    source, scores = indexed("drawn", ["dark", "bright"], 8, read), {}
    for kind in ("batch", None):
        model = pixelwise()
        options = {"steps": 40, "batch_size": 1, "crop_size": 16, "batch_norm": kind, "checkpoint_every": 40}
        options |= {"scale_range": (1, 1)}  # padding would tell of an image how bright it is
        result = run(model, source, tmp_path / str(kind), **options)
        scores[kind] = (result["history"][-1]["mean_iou"], evaluate(model, source, progress=False).mean_iou)
    assert scores["batch"][0] < 0.6
    assert min(scores[None]) > 0.9
