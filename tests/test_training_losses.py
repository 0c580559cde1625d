import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.training.losses import SparseCategoricalCrossentropy

CLASSES = 4


def draw(seed=0, shape=(2, 5, 3), ignored=0.3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, shape)
    labels[rng.random(shape) < ignored] = 255
    return labels, rng.normal(0, 2, (*shape, CLASSES))


def reference(labels, logits, weights=None, ignore_label=255):
    """The definition, pixel by pixel in float64."""
    total, count = 0.0, 0
    for index in np.ndindex(labels.shape):
        label = labels[index]
        if label == ignore_label:
            continue
        row = logits[index].astype(np.float64)
        count += 1
        cross_entropy = np.log(np.sum(np.exp(row - row.max()))) + row.max() - row[label]
        total += cross_entropy * (1.0 if weights is None else weights[label])
    return total / count


def gradient(loss, labels, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return float(value), tape.gradient(value, logits).numpy()


@pytest.mark.parametrize("weights", [None, [0.2, 3.0, 0.0, 1.5]])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_equals_the_definition_in_float64(weights, dtype):
    labels, logits = draw()
    value = SparseCategoricalCrossentropy(class_weights=weights)(labels.astype(dtype), logits.astype("float32"))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert float(value) == pytest.approx(reference(labels, logits, weights), rel=1e-6)


def test_the_mean_is_over_the_valid_pixels_of_the_whole_batch_not_of_each_image():
    labels, logits = draw(seed=1)
    labels[0] = 255
    labels[0, 0, 0] = 2
    each = [reference(labels[index : index + 1], logits[index : index + 1]) for index in range(2)]
    value = float(SparseCategoricalCrossentropy()(labels, logits))
    assert value == pytest.approx(reference(labels, logits), rel=1e-6)
    assert abs(value - np.mean(each)) > 1e-3


def test_weights_stay_out_of_the_denominator():
    labels, logits = draw(seed=2)
    plain = float(SparseCategoricalCrossentropy()(labels, logits))
    assert float(SparseCategoricalCrossentropy(class_weights=[3.0] * CLASSES)(labels, logits)) == pytest.approx(
        3 * plain
    )


def test_labels_may_have_a_channel_and_the_ignored_label_may_be_a_class():
    labels, logits = draw(seed=3, ignored=0.0)
    loss = SparseCategoricalCrossentropy(ignore_label=0)
    expected = reference(labels, logits, ignore_label=0)
    assert float(loss(labels[..., None], logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("top_k_fraction", [1.0, 0.5])
def test_gradient_equals_finite_differences_and_is_zero_at_ignored_pixels(top_k_fraction):
    labels, logits = draw(seed=4, shape=(1, 3, 4))
    weights = [0.5, 2.0, 1.0, 1.5]
    loss = SparseCategoricalCrossentropy(class_weights=weights, top_k_fraction=top_k_fraction)
    _, computed = gradient(loss, labels, logits.astype("float32"))
    step = 1e-2
    for index in itertools.islice(np.ndindex(logits.shape), 0, None, 3):
        above, below = logits.copy(), logits.copy()
        above[index] += step
        below[index] -= step
        slope = (float(loss(labels, above)) - float(loss(labels, below))) / (2 * step)
        assert computed[index] == pytest.approx(slope, abs=2e-4)
    assert np.all(computed[labels == 255] == 0.0)
    assert np.any(computed[labels != 255] != 0.0)


@pytest.mark.parametrize("top_k_fraction", [1.0, 0.3])
def test_nothing_valid_gives_zero_and_a_zero_gradient(top_k_fraction):
    labels, logits = draw()
    loss = SparseCategoricalCrossentropy(top_k_fraction=top_k_fraction)
    value, computed = gradient(loss, np.full_like(labels, 255), logits.astype("float32"))
    assert value == 0.0
    assert np.all(computed == 0.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_logits_are_summed_in_float32(dtype):
    # 200 * 200 pixels of loss log(4): a float16 sum overflows, a bfloat16 one is off by per cents.
    labels = np.zeros((1, 200, 200), np.uint8)
    logits = tf.zeros((1, 200, 200, CLASSES), dtype)
    assert float(SparseCategoricalCrossentropy()(labels, logits)) == pytest.approx(np.log(CLASSES), rel=1e-5)


@pytest.mark.parametrize("stray", [CLASSES, 200, -1])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_label_that_is_no_class_makes_the_loss_nan(stray, compiled):
    labels, logits = draw()
    loss = SparseCategoricalCrossentropy()
    call = tf.function(loss) if compiled else loss
    assert np.isfinite(float(call(labels, logits)))
    labels[1, 2, 0] = stray
    assert np.isnan(float(call(labels, logits)))


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.8])
def test_top_k_averages_the_hardest_share_of_all_pixels(fraction):
    labels, logits = draw(seed=5, shape=(2, 6, 7), ignored=0.4)
    pixels = []
    for index in np.ndindex(labels.shape):
        if labels[index] != 255:
            pixels.append(reference(labels[index].reshape(1, 1, 1), logits[index].reshape(1, 1, 1, CLASSES)))
    kept = sorted(pixels)[::-1][: int(fraction * labels.size)]
    loss = SparseCategoricalCrossentropy(top_k_fraction=fraction)
    assert float(loss(labels, logits)) == pytest.approx(np.mean(kept), rel=1e-6)
    dynamic = tf.function(
        loss, input_signature=[tf.TensorSpec((None, None, None), tf.int64), tf.TensorSpec((None,) * 3 + (CLASSES,))]
    )
    assert float(dynamic(labels, tf.constant(logits, tf.float32))) == pytest.approx(np.mean(kept), rel=1e-6)


def test_top_k_prefers_valid_pixels_of_no_weight_to_ignored_ones():
    labels = np.array([[[255, 255, 0, 0, 1]]])
    logits = np.random.default_rng(6).normal(size=(1, 1, 5, CLASSES))
    loss = SparseCategoricalCrossentropy(class_weights=[0.0, 1.0, 1.0, 1.0], top_k_fraction=0.6)
    assert float(loss(labels, logits)) == pytest.approx(reference(labels[..., 4:], logits[..., 4:, :]) / 3, rel=1e-6)


def test_weights_of_an_array_are_written_as_numbers():
    loss = SparseCategoricalCrossentropy(class_weights=np.array([1, 2, 3, 4], np.float32))
    assert json.loads(json.dumps(loss.get_config()))["class_weights"] == [1.0, 2.0, 3.0, 4.0]


def test_survives_serialisation():
    loss = SparseCategoricalCrossentropy(ignore_label=7, class_weights=[1, 2, 3, 4], top_k_fraction=0.5, name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    labels, logits = draw()
    labels[labels == 255] = 7
    assert float(again(labels, logits)) == float(loss(labels, logits))


@pytest.mark.parametrize(
    ("labels", "logits", "options", "message"),
    [
        ((1, 4, 4), (1, 2, 2, CLASSES), {}, r"labels are \(4, 4\) but logits are \(2, 2\).*at the size of its input"),
        ((1, 4, 4), (1, 4, CLASSES), {}, r"logits must have shape \(B, H, W, classes\)"),
        ((1, 4, 4, 3), (1, 4, 4, CLASSES), {}, r"labels must have shape \(B, H, W\)"),
        ((1, 4, 4), (1, 4, 4, CLASSES), {"class_weights": [1.0, 2.0]}, "2 entries but the logits have 4 classes"),
    ],
)
def test_refuses_what_does_not_fit(labels, logits, options, message):
    with pytest.raises(ValueError, match=message):
        SparseCategoricalCrossentropy(**options)(np.zeros(labels, np.int32), np.zeros(logits, np.float32))


def test_refuses_impossible_options_and_sample_weights():
    with pytest.raises(ValueError, match=r"top_k_fraction must be .* received 0"):
        SparseCategoricalCrossentropy(top_k_fraction=0)
    with pytest.raises(ValueError, match="finite and not negative"):
        SparseCategoricalCrossentropy(class_weights=[1.0, -1.0])
    labels, logits = draw()
    with pytest.raises(ValueError, match="use class_weights"):
        SparseCategoricalCrossentropy()(labels, logits, sample_weight=np.ones(2))


@pytest.mark.parametrize("fraction", [1.0, 0.4])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_one_logit_is_the_two_of_which_the_first_is_zero(weights, fraction):
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, 2, (2, 5, 3)), rng.normal(0, 3, (2, 5, 3, 1)).astype("float32")
    labels[rng.random(labels.shape) < 0.3] = 255
    loss = SparseCategoricalCrossentropy(class_weights=weights, top_k_fraction=fraction)
    value, slope = gradient(loss, labels, logits)
    both, slopes = gradient(loss, labels, np.concatenate([np.zeros_like(logits), logits], -1))
    assert value == pytest.approx(both, rel=1e-6)
    np.testing.assert_allclose(slope, slopes[..., 1:], atol=1e-7)
    assert not slope[labels == 255].any()


def test_one_logit_has_the_binary_cross_entropy_of_the_valid_pixels():
    rng = np.random.default_rng(4)
    labels, logits = rng.integers(0, 2, (2, 5, 3)), rng.normal(0, 3, (2, 5, 3, 1)).astype("float32")
    labels[rng.random(labels.shape) < 0.3] = 255
    valid = labels != 255
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(labels[valid][:, None], logits[valid])
    assert float(SparseCategoricalCrossentropy()(labels, logits)) == pytest.approx(float(expected), rel=1e-6)
    # No overflow where the logarithm of a sigmoid would have one.
    far = SparseCategoricalCrossentropy()(np.ones((1, 1, 1)), np.full((1, 1, 1, 1), -200.0))
    assert float(far) == pytest.approx(200)
    labels[0, 0, 0] = 2
    assert np.isnan(float(SparseCategoricalCrossentropy()(labels, logits)))
    with pytest.raises(ValueError, match="1 entries but the logits have 2 classes"):
        SparseCategoricalCrossentropy(class_weights=[1.0])(labels, logits)


@pytest.mark.parametrize("scale", [1, 30, 3000])
@pytest.mark.parametrize("classes", [2, 9, 300])
def test_many_classes_and_improbable_labels_have_the_exact_loss_and_gradient(classes, scale):
    random, weights = np.random.default_rng(3), np.linspace(0.5, 2.0, classes)
    logits = (scale * random.normal(size=(2, 3, 4, classes))).astype("float32")
    labels = random.integers(0, classes, (2, 3, 4))
    labels[0, 1] = 255
    value, found = gradient(SparseCategoricalCrossentropy(class_weights=list(weights)), labels, logits)
    np.testing.assert_allclose(value, reference(labels, logits, weights), rtol=1e-5)
    exact = np.exp(logits.astype("float64") - logits.max(-1, keepdims=True))
    truth, valid = np.where(labels == 255, 0, labels), labels != 255
    exact = exact / exact.sum(-1, keepdims=True) - np.eye(classes)[truth]
    np.testing.assert_allclose(found, exact * (weights[truth] * valid / valid.sum())[..., None], atol=1e-6)
