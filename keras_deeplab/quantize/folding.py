"""A model to the same function made of what an integer file holds: convolutions with biases, activations, sums, maps.

Converters fold batch norm into the convolution before it. Everything here works on the weights as they are after that,
so it is done first.
"""

import collections
from typing import Any

import keras
import numpy as np

from keras_deeplab import layers
from keras_deeplab._helpers.private import calls, producer
from keras_deeplab.quantize.channel_order import in_given_order
from keras_deeplab.summary import run_through

CONVOLUTIONS: tuple[Any, ...] = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
# Of their second input only the size counts.
RESIZES = (layers.ResizeBilinear, layers.UpsampleNearest)
_DROPOUTS = (keras.layers.Dropout, keras.layers.SpatialDropout2D)
_SEPARABLE: dict[Any, Any] = {
    keras.layers.SeparableConv2D: keras.layers.DepthwiseConv2D,
    layers.DilatedSeparableConv2D: layers.DilatedDepthwiseConv2D,
}
_WEIGHTED: Any = (*CONVOLUTIONS, *_SEPARABLE)


class UnfoldableError(ValueError):
    """A model isn't made of layers alone."""


def is_depthwise(layer: Any) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def consumers(model: keras.Model) -> dict[int, list[Any]]:
    """The operations of a functional model that take each tensor's values, by the tensor's id."""
    found: dict[int, list[Any]] = {}
    for operation in model.operations:
        if not isinstance(operation, keras.layers.InputLayer):
            taken = keras.tree.flatten(operation.input)
            for tensor in taken[:1] if isinstance(operation, RESIZES) else taken:
                found.setdefault(id(tensor), []).append(operation)
    return found


def fold(model: keras.Model) -> keras.Model:
    """A functional model to one that computes the same with its batch norm inside the convolutions.

    * Batch norm behind a convolution goes into its kernel and bias; elsewhere on a map, and like everything that
      normalises pixels, it becomes a 1x1 depthwise convolution, which adds before it rounds.
    * A reversal of the channels (BGR) goes into the kernels behind it.
    * A separable convolution becomes its two; the activation inside a layer becomes a layer; dropout goes; the hard
      sigmoid becomes a clipped sum and a scale.

    Every layer of the result has one output that a file stores, or is fused with the next.

    Args:
        model: functional keras.Model of float32 layers, with one input and one output. Models inside it become their
            layers, and a layer that is used more than once becomes as many.

    Returns:
        A keras.Model with copied weights.

    Raises:
        UnfoldableError: a ValueError, if a layer is a model of a class of its own.
    """
    model = in_given_order(_flat(model))
    takers = consumers(model)
    norms, absorbed = {}, set()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            before = producer(layer.input)
            if (
                isinstance(before, _WEIGHTED)
                and keras.activations.serialize(before.activation) == "linear"
                and len(takers[id(layer.input)]) == 1
                and layer.input is not model.outputs[0]
            ):
                norms[before.name] = layer
                absorbed.add(layer.name)
    originals = {layer.name: layer for layer in model.layers}
    values = {}  # name of a layer of the result -> its kernel and bias

    def clone(layer):
        if isinstance(layer, tuple(_SEPARABLE)):
            return _convolution(layer, depthwise_part=True)
        if isinstance(layer, CONVOLUTIONS):
            return _convolution(layer)
        if layer.name not in absorbed and _is_scale(layer):
            values[layer.name] = _scale(layer)
            return keras.layers.DepthwiseConv2D(1, name=layer.name)
        return type(layer).from_config(layer.get_config())

    def call(layer, *args, **kwargs):
        original = originals.get(layer.name.removesuffix("_depthwise_part"))
        if original is None:
            return layer(*args, **kwargs)
        name = original.name
        if name in absorbed or isinstance(original, _DROPOUTS):
            return args[0]
        if isinstance(original, keras.layers.Activation) and _activation(original) == "hard_sigmoid":
            return _hard_sigmoid(args[0], name, values)
        if name in values and not isinstance(original, _WEIGHTED):
            return layer(args[0])
        if not isinstance(original, _WEIGHTED):
            return layer(*args, **kwargs)
        x = layer(*args)
        arrays = original.get_weights()
        if isinstance(original, tuple(_SEPARABLE)):
            values[layer.name] = (arrays[0], np.zeros(arrays[0].shape[2] * arrays[0].shape[3], np.float32))
            arrays = arrays[1:]
            x = keras.layers.Conv2D(original.filters, 1, name=name)(x)
        values[name] = _folded(arrays, norms.get(name), is_depthwise(original))
        function = _activation(original)
        if function == "hard_sigmoid":
            return _hard_sigmoid(x, f"{name}_hard_sigmoid", values)
        return x if function == "linear" else keras.layers.Activation(original.activation, name=f"{name}_activation")(x)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for name, arrays in values.items():
        folded.get_layer(name).set_weights(arrays)
    for layer in folded.layers:
        if layer.weights and layer.name not in values:
            layer.set_weights(originals[layer.name].get_weights())
    return folded


def _flat(model):
    """A model to one without models inside, whose layers are each used once; the model itself if that is what it is."""
    plain = all(len(calls(layer)) == 1 and not isinstance(layer, keras.Model) for layer in model.layers)
    if plain and not isinstance(model, keras.Sequential):
        return model
    copies, taken = [], collections.Counter()

    def step(layer, path, args, kwargs):
        if not isinstance(layer, keras.layers.Layer):
            return layer(*args, **kwargs)
        if isinstance(layer, keras.Model):
            raise UnfoldableError(
                f"the layer {path!r} of {model.name!r} is a model of a class of its own, {type(layer).__name__}: build "
                "the network from its layers"
            )
        name = path.replace("/", "_")
        taken[name] += 1
        config = {**layer.get_config(), "name": name if taken[name] == 1 else f"{name}_{taken[name]}"}
        copy = type(layer).from_config(config)
        copies.append((copy, layer))
        return copy(*args, **kwargs)

    (source,) = model.inputs
    images = keras.Input(source.shape[1:], dtype=source.dtype, name=source.name)
    (outputs,) = keras.tree.flatten(run_through(model, images, step))
    flat = keras.Model(images, outputs, name=model.name)
    for copy, layer in copies:
        copy.set_weights(layer.get_weights())
    return flat


def _activation(layer):
    return keras.activations.serialize(layer.activation)


def _convolution(layer, depthwise_part=False):
    """A convolution's layer without its activation and with a bias; of a separable one its first half."""
    config = layer.get_config()
    config.update(activation=None, use_bias=True)
    kind = type(layer)
    if depthwise_part:
        kept = ("kernel_size", "strides", "padding", "depth_multiplier", "data_format", "dilation_rate", "dtype")
        config = {key: config[key] for key in kept} | {"name": f"{layer.name}_depthwise_part"}
        kind = next(half for whole, half in _SEPARABLE.items() if type(layer) is whole)
    return kind.from_config(config)


def _folded(arrays, norm, depthwise):
    kernel = arrays[0].astype(np.float64)
    channels = kernel.shape[2] * kernel.shape[3] if depthwise else kernel.shape[3]
    bias = arrays[1].astype(np.float64) if len(arrays) > 1 else np.zeros(channels)
    if norm is not None:
        scale, offset = _norm_scale(norm)
        kernel *= scale.reshape(kernel.shape[2:]) if depthwise else scale
        bias = bias * scale + offset
    return kernel.astype(np.float32), bias.astype(np.float32)


def _norm_scale(norm):
    def array(variable, default):
        return default if variable is None else np.asarray(variable, np.float64)

    mean, variance = np.asarray(norm.moving_mean, np.float64), np.asarray(norm.moving_variance, np.float64)
    scale = array(norm.gamma, 1.0) / np.sqrt(variance + norm.epsilon)
    return scale, array(norm.beta, 0.0) - mean * scale


def _is_scale(layer):
    if isinstance(layer, keras.layers.BatchNormalization):
        return len(layer.output.shape) == 4 and layer.axis in (-1, 3)
    return isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)) and len(layer.output.shape) == 4


def _scale(layer):
    """The kernel (1, 1, C, 1) and bias (C,) of a layer that scales and shifts channels."""
    channels = layer.output.shape[-1]
    if isinstance(layer, keras.layers.BatchNormalization):
        scale, offset = _norm_scale(layer)
    else:
        offset = np.asarray(layer(np.zeros((1, 1, 1, channels), np.float32)), np.float64)[0, 0, 0]
        # Over the whole range, so that little is lost in the difference.
        scale = (np.asarray(layer(np.full((1, 1, 1, channels), 255, np.float32)), np.float64)[0, 0, 0] - offset) / 255
    scale, offset = (np.broadcast_to(value, (channels,)).astype(np.float32) for value in (scale, offset))
    return scale.reshape(1, 1, channels, 1), offset


def _hard_sigmoid(x, name, values):
    """relu6(x + 3) / 6 as two scales around a clip, each of which has a range that an integer tensor can take."""
    channels = x.shape[-1]
    if len(x.shape) != 4:
        return keras.layers.Activation("hard_sigmoid", name=name)(x)
    ones = np.ones((1, 1, channels, 1), np.float32)
    values[f"{name}_shift"] = (ones, np.full(channels, 3, np.float32))
    values[f"{name}_scale"] = (ones / 6, np.zeros(channels, np.float32))
    x = keras.layers.DepthwiseConv2D(1, name=f"{name}_shift")(x)
    x = keras.layers.Activation("relu6", name=f"{name}_relu6")(x)
    return keras.layers.DepthwiseConv2D(1, name=f"{name}_scale")(x)
