"""A training from logits before their last resize is the training behind it."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab.metrics import MeanIoU
from keras_deeplab.specs import RESIZES
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.training import coarse
from keras_deeplab.training.losses import AtLabelSize, Dice, SparseCategoricalCrossentropy, WeightedSum

# (B, h, w) of logits and (H, W) of labels: finer, as large, coarser, and a single position.
SIZES = [((3, 5, 4), (17, 13)), ((2, 4, 6), (4, 6)), ((1, 9, 9), (5, 4)), ((2, 1, 1), (9, 7))]


def case(classes, size, seed=0):
    (shape, fine), random = size, np.random.default_rng(seed)
    labels = random.integers(0, max(classes, 2), (shape[0], *fine))
    labels[0, 0] = 255
    return labels, tf.constant(random.normal(0, 5, (*shape, classes)).astype("float32"))


def step(loss, logits):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(logits)
    return float(value), tape.gradient(value, logits).numpy()


def behind_resize(loss, resize, labels, logits):
    return loss(labels, layers.resize_bilinear(logits, labels.shape[1:], resize, "float32"))


def losses(classes):
    weights = [0.5] * (max(classes, 2) - 1) + [2.0]
    plain = SparseCategoricalCrossentropy(class_weights=weights)
    return [plain, SparseCategoricalCrossentropy(top_k_fraction=0.3), WeightedSum([plain, Dice()], [1.0, 0.5])]


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("classes", [1, 2, 21])
def test_losses_and_gradients_are_those_behind_the_resize(classes, resize):
    for size in SIZES:
        labels, logits = case(classes, size)
        for loss in losses(classes):
            wanted = step(functools.partial(behind_resize, loss, resize, labels), logits)
            found = step(functools.partial(AtLabelSize(loss, resize), labels), logits)
            for ours, theirs in zip(found, wanted, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_sizes_that_are_unknown_when_it_is_traced():
    labels, logits = case(21, SIZES[0])
    loss = AtLabelSize(SparseCategoricalCrossentropy(), "align_corners")
    specs = [tf.TensorSpec((None, None, None), tf.int32), tf.TensorSpec((None, None, None, 21))]
    traced = tf.function(loss, input_signature=specs)
    for some in (labels, labels[:, ::4, ::4][:, :5, :4]):
        np.testing.assert_allclose(float(traced(some, logits)), float(loss(some, logits)), rtol=1e-6)


def test_nothing_valid_and_stray_labels():
    labels, logits = case(3, SIZES[0])
    loss = AtLabelSize(SparseCategoricalCrossentropy(), "align_corners")
    value, gradient = step(lambda z: loss(np.full_like(labels, 255), z), logits)
    assert value == 0.0
    assert not gradient.any()
    assert np.isnan(float(loss(np.full_like(labels, 7), logits)))
    assert float(loss(labels[..., None], logits)) == float(loss(labels, logits)) > 0


def test_refuses_and_survives_serialisation():
    with pytest.raises(ValueError, match="resize must be one of"):
        AtLabelSize(Dice(), "nearest")
    loss = AtLabelSize(SparseCategoricalCrossentropy(7, label_smoothing=0.1), "asymmetric")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert (again.resize, again.loss.get_config()) == ("asymmetric", loss.loss.get_config())


@pytest.mark.parametrize("classes", [1, 3])
def test_the_metric_counts_labels_of_the_resized_logits(classes):
    for size in SIZES:
        labels, logits = case(classes, size)
        fine, found = MeanIoU(max(classes, 2)), MeanIoU(max(classes, 2), resize="half_pixel_centers")
        fine.update_state(labels, layers.resize_bilinear(logits, labels.shape[1:], "half_pixel_centers", "float32"))
        found.update_state(labels, logits)
        np.testing.assert_array_equal(found.matrix, fine.matrix)
        assert MeanIoU.from_config(found.get_config()).resize == "half_pixel_centers"


def network():
    images = keras.Input((None, None, 3))
    scores = keras.layers.Conv2D(9, 3, 4, padding="same")(images)
    return SegmentationModel(images, layers.ResizeBilinear()([scores, images]))


@pytest.mark.slow
def test_a_step_from_coarse_logits_is_that_behind_the_resize(tmp_path):
    pixels, labels = keras.random.normal((2, 16, 12, 3), seed=1), case(9, ((2, 4, 3), (16, 12)))[0]
    after = []
    for is_coarse in (True, False):
        keras.utils.set_random_seed(0)
        model = network()
        start = model.get_weights()
        loss = AtLabelSize(SparseCategoricalCrossentropy(), "align_corners")
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=[MeanIoU(9, resize="align_corners")])
        if is_coarse:
            assert coarse.resizes(model) == ["align_corners"]
            coarse.end_before_resize(model)
            assert tuple(model(pixels, training=True).shape) == (2, 4, 3, 9)
        model.fit(pixels, labels, epochs=2, verbose=0)
        after.append([*model.get_weights(), model.evaluate(pixels, labels, verbose=0)])
        assert not np.allclose(after[-1][0], start[0])
        assert tuple(model(pixels).shape) == (2, 16, 12, 9)
        # A file of it is one of the plain model, with the loss that it was compiled with.
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert type(again) is SegmentationModel
        assert tuple(again(pixels, training=True).shape) == (2, 16, 12, 9)
        again.fit(pixels, labels, verbose=0)
        # Whoever compiles it anew may have a loss that wants logits at the labels' size.
        model.compile("sgd", SparseCategoricalCrossentropy())
        assert tuple(model(pixels, training=True).shape) == (2, 16, 12, 9)
        model.fit(pixels, labels, verbose=0)
    for ours, theirs in zip(*after, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_outputs_that_are_not_resized_stay():
    images = keras.Input((None, None, 3))
    first, second = (keras.layers.Conv2D(9, 3, 2, padding="same")(images) for _ in range(2))
    model = SegmentationModel(images, [layers.ResizeBilinear(align_corners=False)([first, images]), second])
    assert coarse.resizes(model) == ["half_pixel_centers", None]
    model.compile("sgd", [SparseCategoricalCrossentropy(), SparseCategoricalCrossentropy()])
    coarse.end_before_resize(model)
    assert [tuple(each.shape) for each in model(keras.ops.zeros((1, 8, 8, 3)), training=True)] == [(1, 4, 4, 9)] * 2
