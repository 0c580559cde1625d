"""Each loss against its definition in float64, with slopes, in every situation that a crop can be in."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import loss_reference as reference
import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.training import losses
from keras_deeplab.training.losses.boundary import border_nearness

WEIGHTS = (0.5, 2.0, 0.0, 1.5)
# name -> (class, arguments, the definition of labels and logits)
CASES = {
    "cross_entropy": ("SparseCategoricalCrossentropy", {}, reference.cross_entropy),
    "smoothed": (
        "SparseCategoricalCrossentropy",
        {"label_smoothing": 0.2},
        functools.partial(reference.cross_entropy, smoothing=0.2),
    ),
    "hard_pixels": (
        "SparseCategoricalCrossentropy",
        {"top_k_fraction": 0.4},
        lambda labels, logits: reference.hardest(
            [-logs[label] for _, label, logs in reference.rows(labels, logits)], labels.size, 0.4
        ),
    ),
    "focal": ("Focal", {"gamma": 2.0}, functools.partial(reference.focal, gamma=2.0)),
    "focal_root": ("Focal", {"gamma": 0.5}, functools.partial(reference.focal, gamma=0.5)),
    "boundary": (
        "BoundaryCrossentropy",
        {"weight": 3.0, "radius": 2},
        functools.partial(reference.boundary, weight=3.0, radius=2),
    ),
    "dice": ("Dice", {}, functools.partial(reference.by_region, reference.dice)),
    "dice_per_image": (
        "Dice",
        {"per_image": True},
        functools.partial(reference.by_region, reference.dice, per_image=True),
    ),
    "jaccard": ("Jaccard", {}, functools.partial(reference.by_region, reference.jaccard)),
    "lovasz": ("LovaszSoftmax", {}, functools.partial(reference.by_region, reference.lovasz)),
    "lovasz_per_image": (
        "LovaszSoftmax",
        {"per_image": True},
        functools.partial(reference.by_region, reference.lovasz, per_image=True),
    ),
}


def made(name):
    kind, arguments, _ = CASES[name]
    return getattr(losses, kind)(**arguments)


def draw(seed, shape, classes, present=None, ignored=0.3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(classes, 2), shape) if present is None else rng.choice(present, shape)
    labels[rng.random(shape) < ignored] = 255
    return labels, rng.normal(0, 2, (*shape, classes)).astype(np.float32)


def situations():
    """{what: (labels, logits)}"""
    only_one = np.full((2, 3, 3), 255)
    only_one[1, 2, 0] = 3
    half_ignored, logits = draw(3, (2, 3, 5), 4)
    half_ignored[0] = 255
    return {
        "ignored pixels": draw(0, (2, 5, 3), 4),
        "one image of one row": draw(1, (1, 1, 7), 4, ignored=0.0),
        "absent classes": draw(2, (2, 3, 3), 4, present=[0, 2]),
        "one class": draw(4, (1, 3, 4), 4, present=[1], ignored=0.2),
        "one valid pixel": (only_one, draw(5, (2, 3, 3), 4)[1]),
        "an ignored image": (half_ignored, logits),
        "one logit": draw(6, (2, 3, 4), 1),
        "300 classes": draw(7, (1, 2, 2), 300, present=[0, 7, 254, 299]),
    }


def gradient(loss, labels, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return float(value), tape.gradient(value, logits).numpy()


@pytest.mark.parametrize("name", CASES)
def test_values_and_slopes_are_the_definitions(name):
    loss, definition = made(name), CASES[name][2]
    for what, (labels, logits) in situations().items():
        value, slope = gradient(loss, labels, logits)
        assert value == pytest.approx(definition(labels, logits), rel=2e-5, abs=1e-6), what
        if what != "300 classes":  # too many for differences
            expected = reference.slopes(lambda moved, labels=labels: definition(labels, moved), logits)
            np.testing.assert_allclose(slope, expected, atol=3e-6, err_msg=what)
        assert np.all(slope[labels == 255] == 0.0), what


@pytest.mark.parametrize("name", CASES)
def test_sizes_may_be_known_only_as_it_runs(name):
    loss = made(name)

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None), tf.int32), tf.TensorSpec((None, None, None, 4), tf.float32)]
    )
    def dynamic(labels, logits):
        value = loss(labels, logits)
        return value, tf.gradients(value, logits)[0]

    for what in ("ignored pixels", "one image of one row", "one valid pixel"):
        labels, logits = situations()[what]
        value, slope = dynamic(labels.astype(np.int32), logits)
        expected, slopes = gradient(loss, labels, logits)
        assert float(value) == pytest.approx(expected, rel=1e-6), what
        np.testing.assert_allclose(slope, slopes, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_all_is_finite_in_half_precision(name):
    loss = made(name)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (2, 5, 7))
    extremes = rng.choice([-65504.0, 65504.0, 0.0, 6e-8], (2, 5, 7, 4)).astype(np.float16)
    for what, logits in (("extreme", extremes), ("one logit", extremes[..., :1]), ("equal", 0 * extremes)):
        truth = labels % 2 if what == "one logit" else labels
        value, slope = gradient(loss, truth, logits)
        assert np.isfinite(value), what
        assert np.isfinite(slope).all(), what
        assert value >= 0
        value, slope = gradient(loss, np.full_like(labels, 255), logits)
        assert value == 0.0
        assert not slope.any()


@pytest.mark.parametrize("name", CASES)
def test_a_label_that_is_no_class_makes_it_nan_and_ignored_pixels_are_as_if_they_were_not(name):
    loss = made(name)
    labels, logits = draw(0, (2, 4, 5), 4, ignored=0.2)
    stray = labels.copy()
    stray[1, 2, 3] = 4
    assert np.isnan(float(loss(stray, logits)))
    changed = np.where((labels == 255)[..., None], 50.0, logits)
    assert float(loss(labels, changed)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_one_logit_is_the_two_of_which_the_first_is_zero(name):
    loss = made(name)
    labels, logits = draw(8, (2, 4, 3), 1)
    assert float(loss(labels, logits)) == pytest.approx(
        float(loss(labels, np.concatenate([np.zeros_like(logits), logits], -1))), rel=1e-6
    )


@pytest.mark.parametrize("name", CASES)
def test_keras_saves_and_loads_it(name):
    loss = made(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    for key, value in CASES[name][1].items():
        assert again.get_config()[key] == value
    labels, logits = draw(0, (1, 4, 5), 4)
    assert float(again(labels, logits)) == float(loss(labels, logits))


def test_class_weights_count_for_each_loss_of_single_pixels():
    labels, logits = draw(1, (2, 3, 4), 4)
    for loss, expected in (
        (losses.Focal(class_weights=WEIGHTS), reference.focal(labels, logits, 2.0, WEIGHTS)),
        (
            losses.SparseCategoricalCrossentropy(class_weights=WEIGHTS, label_smoothing=0.1),
            reference.cross_entropy(labels, logits, WEIGHTS, smoothing=0.1),
        ),
    ):
        assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_a_focal_loss_without_focus_is_the_cross_entropy_and_for_one_logit_it_is_keras_own():
    labels, logits = draw(2, (2, 3, 4), 4)
    plain = losses.SparseCategoricalCrossentropy()
    assert float(losses.Focal(gamma=0.0)(labels, logits)) == pytest.approx(float(plain(labels, logits)), rel=1e-6)
    labels, logits = draw(3, (2, 3, 4), 1, ignored=0.0)
    keras_own = keras.losses.BinaryFocalCrossentropy(gamma=1.5, from_logits=True)(labels[..., None], logits)
    assert float(losses.Focal(gamma=1.5)(labels, logits)) == pytest.approx(float(keras_own), rel=1e-5)


def test_smoothed_labels_are_keras_own():
    labels, logits = draw(4, (2, 3, 4), 4, ignored=0.0)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.15)
    expected = float(theirs(np.eye(4)[labels], logits))
    value = float(losses.SparseCategoricalCrossentropy(label_smoothing=0.15)(labels, logits))
    assert value == pytest.approx(expected, rel=1e-5)


def test_the_lovasz_extension_at_sure_predictions_is_the_intersection_over_union():
    rng = np.random.default_rng(5)
    labels, predicted = rng.integers(0, 3, (2, 2, 6, 7))
    ious = [np.sum((labels == c) & (predicted == c)) / np.sum((labels == c) | (predicted == c)) for c in range(3)]
    value = losses.LovaszSoftmax()(labels, 60.0 * np.eye(3)[predicted])
    assert float(value) == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_nearness_falls_from_a_border_and_no_ignored_pixel_makes_one():
    labels = np.array([[[1, 1, 1, 1, 1, 0, 0, 0, 255, 255, 0]]])
    near = border_nearness(labels, labels != 255, 3).numpy()
    np.testing.assert_allclose(near[0, 0, :8], np.array([0, 0, 1, 2, 3, 3, 2, 1]) / 3, atol=1e-6)
    assert not near[0, 0, 10]


def test_as_hard_pixels_share_the_places_and_the_share_is_exact_at_any_size():
    from keras_deeplab.training.losses.hard_pixels import hardest

    losses_of = np.array([3.0, 1.0, 1.0, 1.0, 0.5, 0.0], np.float32)
    valid = np.array([True] * 5 + [False])
    traced = tf.function(
        hardest,
        input_signature=[tf.TensorSpec((None,)), tf.TensorSpec((None,), tf.bool), tf.TensorSpec((), tf.float32)],
    )
    for fraction, total, kept in ((0.5, 5.0, 3), (0.1, 3.0, 1), (0.01, 3.0, 1), (0.9, 6.5, 5), (1.0, 6.5, 5)):
        for function in (hardest, traced):
            found, count = function(tf.constant(losses_of), tf.constant(valid), tf.constant(fraction))
            assert (float(found), float(count)) == (pytest.approx(total), kept), fraction
    values = tf.constant(losses_of)
    with tf.GradientTape() as tape:
        tape.watch(values)
        found, _ = hardest(values, tf.constant(valid), 0.5)
    np.testing.assert_allclose(tape.gradient(found, values), [1, 2 / 3, 2 / 3, 2 / 3, 0, 0], rtol=1e-6)
    # For every number of pixels, the one that float32 gives, as in the TF1 code.
    for size in range(1, 60):
        one_each = tf.range(1, size + 1, dtype=tf.float32)
        found, count = traced(one_each, tf.fill([size], True), tf.constant(0.29))
        expected = max(1, int(np.float32(0.29) * np.float32(size)))
        assert int(count) == expected
        assert float(found) == sum(range(size, size - expected, -1))


def test_the_share_of_hard_pixels_falls_with_the_step():
    labels, logits = draw(6, (2, 4, 8), 4, ignored=0.0)
    pixels = [-logs[label] for _, label, logs in reference.rows(labels, logits)]
    loss = losses.SparseCategoricalCrossentropy(top_k_fraction=0.25, hard_example_steps=8)
    traced = tf.function(lambda: loss(labels, logits))
    # research/deeplab utils/train_utils.py: ratio * top_k_percent_pixels + (1 - ratio), by the global step
    for step, fraction in ((-1, 0.25), (0, 1), (1, 0.90625), (4, 0.625), (8, 0.25), (9, 0.25), (10**6, 0.25)):
        loss.step.assign(step)
        assert float(traced()) == pytest.approx(reference.hardest(pixels, 64, fraction), rel=1e-5), step


@pytest.mark.slow
def test_a_callback_tells_the_optimizers_step_also_to_a_training_that_goes_on():
    loss = losses.WeightedSum(
        [losses.Dice(), losses.Focal(top_k_fraction=0.5, hard_example_steps=4)],
        [1.0, 1.0],
    )
    (variable,) = losses.step_variables(loss)
    assert losses.step_variables(losses.Distillation(loss)) == [variable]
    assert losses.step_variables(losses.Dice()) == []
    model = keras.Sequential([keras.layers.Conv2D(2, 1)])
    model.compile("sgd", loss, metrics=[losses.LossStep(loss)])
    images, labels = np.ones((6, 2, 2, 3), np.float32), np.zeros((6, 2, 2), np.int32)
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(int(variable.numpy()))

    callbacks = [losses.FollowSteps(loss), Seen()]
    model.fit(images, labels, batch_size=2, epochs=2, verbose=0, validation_data=(images, labels), callbacks=callbacks)
    assert seen == [0, 1, 2, 3, 4, 5]
    model.optimizer.iterations.assign(40)
    assert model.fit(images[:2], labels[:2], verbose=0, callbacks=callbacks).history["loss_step"] == [40]


def test_a_sum_is_the_sum():
    labels, logits = draw(7, (2, 3, 4), 4)
    parts = [losses.SparseCategoricalCrossentropy(), losses.Dice()]
    both = losses.WeightedSum(parts, [1.0, 0.5])
    expected = float(parts[0](labels, logits)) + 0.5 * float(parts[1](labels, logits))
    assert float(both(labels, logits)) == pytest.approx(expected, rel=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(both))
    assert float(again(labels, logits)) == float(both(labels, logits))
    parts.append(losses.Jaccard())  # whoever made it may go on with the list
    assert float(both(labels, logits)) == pytest.approx(expected, rel=1e-6)
    del parts[-1]
    with pytest.raises(ValueError, match="a weight for each; received 2 losses and 1 weights"):
        losses.WeightedSum(parts, [1.0])
    with pytest.raises(ValueError, match=r"weights must be finite and not negative, received \[1\.0, -1\.0\]"):
        losses.WeightedSum(parts, [1.0, -1.0])


@pytest.mark.parametrize("classes", [1, 4])
def test_distillation_is_the_weighted_mean_of_labels_and_teacher(classes):
    labels, logits = draw(8, (2, 3, 3), classes)
    teacher = draw(9, (2, 3, 3), classes)[1]
    hard = losses.SparseCategoricalCrossentropy()
    loss = losses.Distillation(hard, teacher_weight=0.3, temperature=2.5)

    def definition(moved):
        soft = reference.kl(labels, moved.astype(np.float64), teacher.astype(np.float64), 2.5)
        return 0.7 * reference.cross_entropy(labels, moved) + 0.3 * 2.5**2 * soft

    value, slope = gradient(lambda labels, logits: loss(labels, logits, teacher), labels, logits)
    assert value == pytest.approx(definition(logits), rel=1e-5)
    np.testing.assert_allclose(slope, reference.slopes(definition, logits), atol=3e-6)
    teacher = tf.constant(teacher)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        value = loss.call(labels, logits, teacher)
    assert tape.gradient(value, teacher) is None
    nothing, slope = gradient(lambda _, logits: loss(np.full_like(labels, 255), logits, teacher), labels, logits)
    assert nothing == 0.0
    assert not slope.any()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(labels, logits, teacher)) == float(value)
    half = np.random.default_rng(0).choice([-65504.0, 65504.0], logits.shape).astype(np.float16)
    value, slope = gradient(lambda _, moved: loss(labels, moved, -half), labels, half)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_distillation_refuses_another_teacher_and_takes_the_ignored_label_of_its_loss():
    labels, logits = draw(8, (1, 3, 3), 4)
    loss = losses.Distillation(losses.WeightedSum([losses.Dice(7), losses.Jaccard(7)], [1, 1]))
    assert loss.ignore_label == 7
    assert losses.Distillation(keras.losses.MeanSquaredError()).ignore_label == 255
    numbers = losses.Distillation(losses.Dice(), np.float32(0.25), np.float32(2)).get_config()
    assert [type(numbers[name]) for name in ("teacher_weight", "temperature")] == [float, float]
    with pytest.raises(ValueError, match=r"teacher's logits are \(1, 3, 3, 3\) and the model's \(1, 3, 3, 4\)"):
        losses.Distillation(losses.Dice())(labels, logits, logits[..., :3])
    with pytest.raises(ValueError, match=r"ignore different labels: \[7, 255\]"):
        losses.Distillation(losses.WeightedSum([losses.Dice(7), losses.Jaccard()], [1, 1]))
    with pytest.raises(ValueError, match="teacher_weight must be from 0 to 1"):
        losses.Distillation(losses.Dice(), teacher_weight=1.5)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("SparseCategoricalCrossentropy", {"label_smoothing": 1.0}, "label_smoothing must be at least 0 and less than"),
        ("SparseCategoricalCrossentropy", {"hard_example_steps": 5}, "and top_k_fraction below 1; received 5 and 1.0"),
        ("Focal", {"gamma": -1.0}, "gamma must be a finite number of at least 0, received -1"),
        ("BoundaryCrossentropy", {"radius": 0}, "radius at least 1, received 4.0, 0"),
    ],
)
def test_impossible_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(losses, kind)(**arguments)


JAX = """
import sys
import numpy as np
import jax, keras
from pathlib import Path
from keras_deeplab.training import losses

cases, situations = np.load(sys.argv[1], allow_pickle=True)
for name, (kind, arguments, expected) in cases.items():
    loss = getattr(losses, kind)(**arguments)
    for what, (value, slope) in expected.items():
        labels, logits = situations[what]
        found, slopes = jax.jit(jax.value_and_grad(lambda logits, labels: loss(labels, logits)))(logits, labels)
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6, err_msg=f"{name} {what}")
        np.testing.assert_allclose(slopes, slope, atol=1e-6, err_msg=f"{name} {what}")

loss = losses.SparseCategoricalCrossentropy(top_k_fraction=0.25, hard_example_steps=4)
model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Conv2D(2, 1, kernel_initializer="ones")])
images = np.random.default_rng(0).normal(size=(2, 2, 2, 3)).astype("float32")
labels = np.arange(8).reshape(2, 2, 2) % 2
model.compile(keras.optimizers.SGD(0.0), loss)
try:
    model.fit(images, labels, verbose=0, callbacks=[losses.FollowSteps(loss)])
except ValueError as error:
    assert "give metrics=[LossStep(loss)]" in str(error)
else:
    raise AssertionError
model.compile(keras.optimizers.SGD(0.0), loss, metrics=[losses.LossStep(loss)])
options = {"validation_data": (images, labels), "verbose": 0, "callbacks": [losses.FollowSteps(loss)]}
history = model.fit(images, labels, epochs=6, **options).history
assert history["loss_step"] == [0, 1, 2, 3, 4, 5], history
pixels = np.sort(np.asarray(keras.ops.sparse_categorical_crossentropy(
    labels, model(images), from_logits=True)).ravel())[::-1]
expected = [pixels[: max(1, int(8 * (1 - 0.75 * min(1, step / 4)) + 1e-4))].mean() for step in range(6)]
np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
model.optimizer.iterations.assign(3)
assert model.fit(images, labels, **options).history["loss_step"] == [3]
assert "tensorflow" not in sys.modules
print("agree")
"""


@pytest.mark.slow
def test_jax_has_the_same_values_and_slopes_and_the_same_ramp(tmp_path):
    """JAX may live in another environment, with Keras: name its interpreter in KERAS_DEEPLAB_JAX_PYTHON."""
    python = os.environ.get("KERAS_DEEPLAB_JAX_PYTHON", sys.executable)
    if python == sys.executable and importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    maps = {what: situations()[what] for what in ("ignored pixels", "one logit")}
    maps = {what: (labels.astype(np.int32), logits) for what, (labels, logits) in maps.items()}
    cases = {}
    for name in ("smoothed", "hard_pixels", "focal", "boundary", "dice", "jaccard", "lovasz_per_image"):
        kind, arguments, _ = CASES[name]
        cases[name] = (kind, arguments, {what: gradient(made(name), *each) for what, each in maps.items()})
    np.save(tmp_path / "cases.npy", np.array([cases, maps], dtype=object), allow_pickle=True)
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(losses.__file__).parents[3])}
    environment |= {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling is what takes JAX its time
    result = subprocess.run(
        [python, "-c", JAX, str(tmp_path / "cases.npy")], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["agree"]


PIXELS = {"class_weights": None, "top_k_fraction": 1.0, "hard_example_steps": 0}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "SparseCategoricalCrossentropy",
            {**PIXELS, "label_smoothing": 0.0, "name": "sparse_categorical_crossentropy"},
        ),
        ("Focal", {**PIXELS, "gamma": 2.0, "name": "focal"}),
        (
            "BoundaryCrossentropy",
            {**PIXELS, "label_smoothing": 0.0, "weight": 4.0, "radius": 5, "name": "boundary_crossentropy"},
        ),
        ("Dice", {"per_image": False, "name": "dice"}),
        ("Jaccard", {"per_image": False, "name": "jaccard"}),
        ("LovaszSoftmax", {"per_image": False, "name": "lovasz_softmax"}),
    ],
)
def test_a_loss_without_arguments_is_the_usual_one_and_a_config_holds_plain_values(kind, expected):
    for base in getattr(losses, kind).__mro__:
        if hasattr(base, "of_pixels"):
            assert {"ignore_label": 255, "per_image": False}.items() >= {
                key: value for key, value in base().get_config().items() if key in ("ignore_label", "per_image")
            }.items()
    make = getattr(losses, kind)
    assert make().get_config() == {"ignore_label": 255, **expected}
    narrow = {
        key: np.float32(0.5) if isinstance(value, float) else np.int64(3)
        for key, value in expected.items()
        if key not in ("class_weights", "name")
    }
    config = make(**narrow, ignore_label=np.int64(7)).get_config()
    assert config["ignore_label"] == 7
    assert all(value is None or type(value) in (bool, int, float, str) for value in config.values())


def test_distillation_is_half_and_half_at_the_temperature_of_one():
    loss = losses.Distillation(losses.Dice())
    config = loss.get_config()
    assert (config["teacher_weight"], config["temperature"], config["ignore_label"]) == (0.5, 1.0, 255)
    assert losses.Distillation(losses.Dice(), ignore_label=9).ignore_label == 9
    assert losses.Distillation(losses.Dice(), teacher_weight=0.0, temperature=0.25).temperature == 0.25
    assert losses.Distillation(losses.Dice(), teacher_weight=1.0, temperature=3.0).teacher_weight == 1.0
    for wrong in ({"teacher_weight": -0.1}, {"temperature": 0.0}, {"temperature": np.inf}):
        with pytest.raises(ValueError, match="teacher_weight must be from 0 to 1 and temperature a finite number"):
            losses.Distillation(losses.Dice(), **wrong)


def test_arguments_at_the_ends_of_their_ranges_are_taken():
    losses.SparseCategoricalCrossentropy(label_smoothing=0.99, top_k_fraction=1e-6, hard_example_steps=1)
    losses.SparseCategoricalCrossentropy(class_weights=[0.0, 1.0])
    losses.BoundaryCrossentropy(weight=0.0, radius=1)
    for kind, wrong in (
        ("SparseCategoricalCrossentropy", {"top_k_fraction": 0.0}),
        ("SparseCategoricalCrossentropy", {"top_k_fraction": 1.01}),
        ("SparseCategoricalCrossentropy", {"top_k_fraction": 0.5, "hard_example_steps": -1}),
        ("SparseCategoricalCrossentropy", {"label_smoothing": -0.1}),
        ("SparseCategoricalCrossentropy", {"class_weights": [1.0, -1.0]}),
        ("SparseCategoricalCrossentropy", {"class_weights": [1.0, np.nan]}),
        ("BoundaryCrossentropy", {"weight": np.inf}),
        ("BoundaryCrossentropy", {"weight": -1.0}),
        ("Focal", {"gamma": np.inf}),
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            getattr(losses, kind)(**wrong)
    with pytest.raises(ValueError, match="at least one loss"):
        losses.WeightedSum([], [])
    assert losses.WeightedSum([losses.Dice()], [0.0]).weights == [0.0]
    with pytest.raises(ValueError, match="must be finite"):
        losses.WeightedSum([losses.Dice()], [np.inf])


def test_the_step_of_a_loss_is_none_until_something_counts_and_each_variable_is_followed_once():
    loss = losses.SparseCategoricalCrossentropy(top_k_fraction=0.5, hard_example_steps=3)
    assert int(loss.step) == -1
    assert loss.step.dtype == "int32"
    assert not loss.step.trainable
    both = losses.WeightedSum([loss, losses.Dice()], [1.0, 1.0])
    assert losses.step_variables([loss, both, losses.Focal()]) == [loss.step]
    metric = losses.LossStep(both)
    assert metric.steps == [loss.step]
    assert float(metric.result()) == -1.0
    metric.reset_state()
    loss.step.assign(2)
    assert float(metric.result()) == 2.0
    assert float(losses.LossStep().result()) == -1.0
    assert losses.LossStep(name="mine").name == "mine"
    model = keras.Sequential([keras.Input((1, 1, 2)), keras.layers.Conv2D(2, 1)])
    model.compile("sgd", loss)
    model.optimizer.iterations.assign(17)
    follow = losses.FollowSteps([loss, losses.Dice()])
    follow.set_model(model)
    follow.on_train_batch_begin(0)
    assert int(loss.step) == 17
    losses.FollowSteps(losses.Dice()).on_train_batch_begin(0)  # of no step, without a model
    with pytest.raises(ValueError, match=r"give metrics=\[LossStep\(loss\)\] to model\.compile"):
        follow._check_state()  # of JAX's fit, which would leave the step where it is
    model.compile("sgd", loss, metrics=[losses.LossStep(loss)])
    model(np.zeros((1, 1, 1, 2), np.float32))
    model.evaluate(np.zeros((1, 1, 1, 2), np.float32), np.zeros((1, 1, 1)), verbose=0)
    follow._check_state()


def test_the_configuration_of_a_sum_is_json():
    config = losses.WeightedSum([losses.Dice(), losses.Focal(gamma=1.0)], [1, np.float32(0.5)]).get_config()
    again = losses.WeightedSum.from_config(json.loads(json.dumps(config)))
    assert [type(part).__name__ for part in again.losses] == ["Dice", "Focal"]
    assert (again.losses[1].gamma, again.weights) == (1.0, [1.0, 0.5])


def test_a_border_is_as_near_in_columns_as_in_rows():
    labels = np.zeros((1, 7, 7), int)
    labels[0, 3, 3] = 2
    distance = np.abs(np.arange(7) - 3)
    greater = np.maximum(distance[:, None], distance)
    expected = np.maximum(0, 3 + 1 - np.maximum(greater, 1)) / 3
    np.testing.assert_allclose(border_nearness(labels, labels != 255, 3)[0], expected, atol=1e-6)
