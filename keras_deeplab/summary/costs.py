"""What a model costs: its parameters and the multiply-adds of an image, without running it."""

import collections
import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from keras_deeplab import rewrite
from keras_deeplab.summary.graph import run_through

_COUNTED = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_UNCOUNTED = (keras.layers.PReLU, keras.layers.Embedding)
_OPERATIONS = ("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "Matmul", "Dot", "Tensordot", "Einsum")


class Parameters(NamedTuple):
    """Numbers in a model's weights: those that training changes, and all."""

    trainable: int
    total: int


def count_parameters(model: keras.Model) -> Parameters:
    """The number of a model's parameters: `(trainable, total)`; batch norm's statistics are in the total alone.

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1), keras.layers.BatchNormalization()])
    >>> count_parameters(model)
    Parameters(trainable=24, total=32)
    """
    trainable, total = (
        sum(math.prod(weight.shape) for weight in weights) for weights in (model.trainable_weights, model.weights)
    )
    return Parameters(trainable, total)


def multiply_adds(
    model: keras.Model, input_size: int | Sequence[int] = (513, 513), space_to_batch: bool = False
) -> int:
    """The multiply-adds of a model's convolutions and dense layers for one image of a given size.

    A convolution costs, for each number that it puts out, one for each weight that this number is made of: kernel
    height x kernel width x input channels / groups, at the border as elsewhere. A transposed one costs the same for
    each number that goes in. Biases, normalisation, activations, poolings and resizes count nothing. Nothing is run:
    the sizes of the maps come from the layers' own shape rules.

    Args:
        model: functional `keras.Model`, nested models and layers called several times included.
        input_size: height and width of the image, one int for both; or the shape of one input without its batch axis,
            for models of vectors.
        space_to_batch: whether to count dilated convolutions as TensorFlow 1 ran them and the papers counted them: as
            many small convolutions as there are positions in a cell of the rate, so that the map is padded to a
            multiple of it. At rate 6 a map of 33x33 then costs what one of 36x36 would.

    Returns:
        int

    Raises:
        ValueError: no functional model, a size that it doesn't take, or a layer whose kernels can't be counted.

    Example:

    >>> import keras
    >>> inputs = keras.Input((None, None, 3))
    >>> model = keras.Model(inputs, keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs))
    >>> multiply_adds(model, 64), 32 * 32 * 8 * 3 * 3 * 3
    (221184, 221184)
    """
    return sum(layer_multiply_adds(model, input_size, space_to_batch).values())


def layer_multiply_adds(
    model: keras.Model, input_size: int | Sequence[int] = (513, 513), space_to_batch: bool = False
) -> dict[str, int]:
    """`multiply_adds` of each layer by its path: `{path: int}`, where a layer that is used twice counts twice."""
    found: collections.Counter[str] = collections.Counter()

    def step(layer, path, args, kwargs):
        outputs = layer.compute_output_spec(*args, **kwargs)
        found[path] += _cost(layer, path, args[0] if args else None, outputs, space_to_batch)
        return outputs

    graph = rewrite._graph(model, "multiply_adds")
    run_through(graph, [keras.KerasTensor(_shape(x, input_size), x.dtype) for x in graph.inputs], step)
    return dict(found)


def _shape(tensor, size):
    if isinstance(size, int):
        size = (size, size)
    size = tuple(size)
    if len(tensor.shape) == 4 and len(size) == 2:
        size = (*size, tensor.shape[-1])
    fits = len(size) == len(tensor.shape) - 1 and None not in size
    if not fits or any(own not in (None, given) for own, given in zip(tensor.shape[1:], size, strict=True)):
        raise ValueError(f"The model takes inputs of shape {tuple(tensor.shape)}; received input_size={size}.")
    return (1, *size)


def _cost(layer, path, inputs, outputs, space_to_batch):
    if isinstance(layer, (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)):
        return math.prod(inputs.shape) * math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, keras.layers.Dense):
        return math.prod(outputs.shape) * layer.kernel.shape[0]
    if isinstance(layer, _COUNTED):
        positions = _positions(layer, outputs.shape, space_to_batch)
        if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
            pointwise = _positions(layer, outputs.shape, False) * math.prod(layer.pointwise_kernel.shape)
            return positions * math.prod(layer.depthwise_kernel.shape) + pointwise
        return positions * math.prod(layer.kernel.shape)
    sealed = any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ()))
    if (sealed and not isinstance(layer, _UNCOUNTED)) or type(layer).__name__ in _OPERATIONS:
        raise ValueError(
            f"The multiply-adds of the layer {path!r} ({type(layer).__name__}) are not known. Write the model with "
            "convolutions and dense layers that stand in the graph themselves."
        )
    return 0


def _positions(layer, shape, space_to_batch):
    """How many positions of a map of this shape a convolution computes."""
    height_width = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
    if space_to_batch:
        height_width = (
            math.ceil(size / rate) * rate for size, rate in zip(height_width, layer.dilation_rate, strict=True)
        )
    return math.prod(height_width)
