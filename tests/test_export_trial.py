"""What the run before a file's name counts as a difference."""

import keras
import numpy as np
import pytest

from keras_deeplab.export import trial
from keras_deeplab.inference.runtimes import Runtime
from keras_deeplab.specs import ModelSpec


class Fake(Runtime):
    """A file that gives what a function makes of the model's own logits."""

    def __init__(self, model, returns, function, sizes=()):
        self.model, self.returns, self.function, self.sizes, self.seen = model, returns, function, sizes, []

    def scores(self, images):
        self.seen.append(images.shape)
        return self.function(self.model(images).numpy())


@pytest.fixture(scope="module")
def model():
    """Three classes whose logits are the channels."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, keras.layers.Rescaling(1 / 255)(images))


def difference(model, returns, function, sizes=(), spec=None, **options):
    return trial.largest_difference(Fake(model, returns, function, sizes), model, spec or ModelSpec(3, 3), **options)


def test_logits_and_probabilities(model):
    assert difference(model, "logits", lambda logits: logits) == 0
    assert difference(model, "logits", lambda logits: logits + 2e-4) == pytest.approx(2e-4, rel=1e-2)
    assert difference(model, "probabilities", lambda logits: keras.ops.softmax(logits).numpy()) < 1e-6
    with pytest.raises(ValueError, match=r"differs by 0.01 of the range of the scores, and 0.001 is the most"):
        difference(model, "logits", lambda logits: logits + 0.01)
    assert difference(model, "logits", lambda logits: logits + 0.01, limit=None) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits: logits[:, 1:],
        lambda logits: logits * np.nan,
        lambda logits: logits[..., :2],
    ],
)
def test_other_shapes_and_what_is_not_finite_is_wrong_at_any_limit(wrong, model):
    with pytest.raises(ValueError, match="differs by inf of the range"):
        difference(model, "logits", wrong, limit=0.5)


def test_labels_may_differ_where_scores_are_equal(model):
    assert difference(model, "labels", lambda logits: (logits + [1e-5, 0, 0]).argmax(-1)) <= 1e-5
    with pytest.raises(ValueError, match="differs by 1 of the range"):
        difference(model, "labels", lambda logits: logits.argmin(-1))
    with pytest.raises(ValueError, match="differs by inf"):
        difference(model, "labels", lambda logits: 3 + logits.argmax(-1))


def test_labels_of_models_that_may_say_nothing(model):
    shifted = keras.Model(model.inputs[0], keras.layers.Rescaling(1.0, -0.9)(model.outputs[0]))
    several = ModelSpec(3, 3, activation="sigmoid")
    right = lambda logits: np.where(logits.max(-1) > 0, logits.argmax(-1), 255)  # noqa: E731
    assert difference(shifted, "labels", right, spec=several) == 0
    with pytest.raises(ValueError, match=r"differs by 0\.87"):  # a score of -0.87 is called a class
        difference(shifted, "labels", lambda logits: logits.argmax(-1), spec=several)
    start = {
        "kernel_initializer": keras.initializers.Constant(1 / 3),
        "bias_initializer": keras.initializers.Constant(-0.5),
    }
    binary = keras.Model(model.inputs[0], keras.layers.Conv2D(1, 1, **start)(model.outputs[0]))
    spec = ModelSpec(1, 3)
    assert difference(binary, "labels", lambda logits: (logits[..., 0] > 0).astype("uint8"), spec=spec) == 0
    with pytest.raises(ValueError, match=r"differs by 0\.\d"):
        difference(binary, "labels", lambda logits: np.ones(logits.shape[:3], "uint8"), spec=spec)


def test_sizes(model):
    free = Fake(model, "logits", lambda logits: logits)
    trial.largest_difference(free, model, ModelSpec(3, 3), batches=(2, 1))
    assert free.seen == [(2, 97, 129, 3), (1, 128, 96, 3)]
    fixed = Fake(model, "logits", lambda logits: logits, sizes=((40, 33), (20, None)))
    trial.largest_difference(fixed, model, ModelSpec(3, 3))
    assert fixed.seen == [(1, 40, 33, 3), (1, 20, 129, 3)]
    images = keras.Input((None, None, 3))
    hungry = keras.Model(images, keras.layers.AveragePooling2D(150, 1)(images))
    found = Fake(hungry, "logits", lambda logits: logits)
    trial.largest_difference(found, hungry, ModelSpec(3, 3))
    assert found.seen == [(1, 193, 257, 3), (1, 256, 192, 3)]


def test_a_model_that_is_not_finite_can_not_be_compared(model):
    broken = keras.Model(model.inputs[0], keras.layers.Rescaling(float("nan"))(model.outputs[0]))
    with pytest.raises(ValueError, match=r"gives scores that are not finite on a random picture of 97x129"):
        difference(broken, "logits", lambda logits: logits)
