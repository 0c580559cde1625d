"""Networks that were trained on BGR: the order of the channels inside the first kernel, so that RGB goes into it.

Edge TPUs and phones' GPUs reverse no channels, so a file that begins with that leaves them at its first operator.
"""

from typing import Any

import keras
import numpy as np

from keras_deeplab._helpers.private import calls, is_channel_flip
from keras_deeplab.specs.model import inner_layers

# They treat every channel by itself and alike.
_ALIKE = (keras.layers.ZeroPadding2D, keras.layers.ReLU, keras.layers.Activation)


def in_given_order(model: keras.Model) -> keras.Model:
    """A functional model to one that computes the same and reverses no channels; itself where it doesn't.

    What follows a reversal is reversed instead: the values of a `Rescaling`, and the kernels of the convolutions that
    take the channels together. Sums have the same terms, in another order. Where something else follows, a 1x1
    convolution with a kernel of zeros and ones reverses them.

    Args:
        model: functional keras.Model.

    Returns:
        A keras.Model with copied weights.
    """
    # A Sequential has layers alone.
    flips = [operation for operation in getattr(model, "operations", ()) if is_channel_flip(operation)]
    if not flips:
        return model
    takers = _takers(model)
    reversed_layers: set[str] = set()
    moved = {flip.name: False for flip in flips}
    for flip in flips:
        found = _until_convolutions(flip, takers, model)
        if found is not None:
            moved[flip.name] = True
            reversed_layers |= found

    def clone(operation):
        config = operation.get_config()
        if isinstance(operation, keras.layers.Rescaling) and operation.name in reversed_layers:
            config.update({key: _reversed(config[key]) for key in ("scale", "offset")})
        return type(operation).from_config(config)

    def call(operation, *args, **kwargs):
        if operation.name not in moved:
            return operation(*args, **kwargs)
        if moved[operation.name]:
            return args[0]
        permute = keras.layers.Conv2D(args[0].shape[-1], 1, use_bias=False, name=f"{operation.name}_channels")
        x = permute(args[0])
        permute.set_weights([np.eye(args[0].shape[-1], dtype="float32")[None, None, ::-1]])
        return x

    result = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.weights:
            weights = layer.get_weights()
            if layer.name in reversed_layers:
                weights[0] = weights[0][:, :, ::-1]
            result.get_layer(layer.name).set_weights(weights)
    return result


def _takers(model: keras.Model) -> dict[int, list[Any]]:
    """The operations that take each tensor, by the tensor's id."""
    found: dict[int, list[Any]] = {}
    for operation in model.operations:
        if not isinstance(operation, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                found.setdefault(id(tensor), []).append(operation)
    return found


def _until_convolutions(flip: Any, takers: dict[int, list[Any]], model: keras.Model) -> set[str] | None:
    """The names of the layers behind a reversal up to the convolutions; None where other operations take it."""
    outputs = {id(tensor) for tensor in model.outputs}
    once = {layer.name for layer in inner_layers(model) if len(calls(layer)) == 1}
    found: set[str] = set()
    ahead = [flip.output]
    while ahead:
        tensor = ahead.pop()
        if id(tensor) in outputs:
            return None
        for taker in takers.get(id(tensor), []):
            if taker.name not in once:
                return None
            found.add(taker.name)
            if isinstance(taker, keras.layers.Conv2D) and taker.groups == 1:
                continue
            if not isinstance(taker, (keras.layers.Rescaling, *_ALIKE)):
                return None
            ahead.append(taker.output)
    return found


def _reversed(value: Any) -> Any:
    return list(value)[::-1] if np.ndim(value) else value
