"""A graph run through on values of any kind: views of pixels, shapes."""

from collections.abc import Callable
from typing import Any

import keras

from keras_deeplab import rewrite
from keras_deeplab._helpers.private import run_through_graph


def run_through(model: keras.Model, inputs: Any, step: Callable[..., Any], prefix: str = "") -> Any:
    """Runs a graph on values of any kind: `step(layer, path, args, kwargs)` for every call of every layer in it.

    Nested models are run through, and a layer that is called twice is met twice.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)

    def operation(layer):
        path = prefix + layer.name

        def call(*args, **kwargs):
            if rewrite._is_graph(layer):
                return run_through(layer, args[0], step, f"{path}/")
            return step(layer, path, args, kwargs)

        return call

    return run_through_graph(model, keras.tree.flatten(inputs), operation)
