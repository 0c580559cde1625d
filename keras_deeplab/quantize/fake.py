"""A folded network with the rounding of int8 in it, computed in floating point: to measure, to train, to convert."""

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from keras_deeplab._helpers.private import producer
from keras_deeplab.layers import FakeQuantization
from keras_deeplab.quantize.folding import CONVOLUTIONS, is_depthwise
from keras_deeplab.quantize.plan import Plan, activation_of
from keras_deeplab.quantize.ranges import Ends

# Of the weights' steps, one less than there are, so that they are symmetric.
_STEPS = 127


def quantised(
    model: keras.Model, plan: Plan, ranges: Mapping[str, Ends], keep_float: Iterable[str] = ()
) -> keras.Model:
    """A folded model to the same with every stored tensor rounded to its range.

    Args:
        model: a folded keras.Model.
        plan: its `Plan`.
        ranges: (low, high) by name of the range.
        keep_float: sites that aren't rounded.

    Returns:
        A keras.Model with copied weights and a `FakeQuantization` layer behind each site, named SITE_range.
    """
    sites = set(plan.sites) - set(keep_float)
    # Behind a tensor that isn't stored a range cuts what a clip would. Of two ranges in a row the converter drops one.
    cut = {
        name
        for name in sites
        if activation_of(layer := model.get_layer(name)) == "clip" and producer(layer.input).name not in plan.sites
    }

    def rounded(name, outputs):
        if name not in sites:
            return outputs
        return FakeQuantization(*ranges[plan.ranges[name]], name=f"{name}_range", dtype="float32")(outputs)

    (source,) = model.inputs
    images = keras.Input(source.shape[1:], dtype=source.dtype, name=source.name)
    entered = rounded(producer(source).name, images)

    def call(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(lambda x: entered if x is images else x, (args, kwargs))
        return rounded(layer.name, args[0] if layer.name in cut else layer(*args, **kwargs))

    structure = keras.tree.pack_sequence_as(model.input, [images])
    result = keras.models.clone_model(model, input_tensors=structure, call_function=call)
    for layer in model.layers:
        if layer.weights:
            result.get_layer(layer.name).set_weights(layer.get_weights())
    return result


def kernel_steps(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """The scale of each output channel of a convolution's kernel, shaped to divide it."""
    axes = (0, 1) if is_depthwise(layer) else (0, 1, 2)
    return np.maximum(np.abs(kernel).max(axes, keepdims=True) / _STEPS, 1e-12)


def rounded_kernel(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """A convolution's kernel to the nearest that int8 holds. The largest weight of each channel stays, and with it the
    scale that a converter finds."""
    steps = kernel_steps(layer, kernel)
    return np.round(kernel / steps) * steps


def convolutions(model: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, CONVOLUTIONS)]
