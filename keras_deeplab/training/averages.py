"""The moving average of a model's weights that Keras's optimizers keep (`use_ema`), in the place of the weights."""

import contextlib
from collections.abc import Iterator

import keras

from keras_deeplab._helpers.private import averages_of
from keras_deeplab.training.optimizers import unscaled


@contextlib.contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """A context in which the trainable weights of a compiled model are their averages; nothing where there are none."""
    pairs = _pairs(model)
    kept = [keras.ops.convert_to_numpy(variable) for variable, _ in pairs]
    try:
        use_averages(model)
        yield
    finally:
        for (variable, _), value in zip(pairs, kept, strict=True):
            variable.assign(value)


def use_averages(model: keras.Model) -> None:
    """Gives a compiled model's trainable weights the values of their averages, where its optimizer keeps them."""
    for variable, average in _pairs(model):
        # A copy: on JAX both would hold one array, which a step with the one would free under the other.
        variable.assign(keras.ops.copy(average))


def _pairs(model):
    optimizer = unscaled(model.optimizer)
    if optimizer is None or not optimizer.use_ema or int(keras.ops.convert_to_numpy(optimizer.iterations)) == 0:
        return []
    averages = zip(model.trainable_variables, averages_of(optimizer), strict=True)
    return [(variable, average) for variable, average in averages if average is not None]
