"""Which channels of a network may go: made by convolutions, taken by convolutions, and nobody else's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_deeplab import layers
from keras_deeplab._helpers.private import calls

# Their output's channels are functions of the same channel of their first input.
_CHANNELWISE: tuple[Any, ...] = (
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.UpSampling2D,
    keras.layers.Identity,
    layers.Clip,
    layers.DilatedMaxPooling2D,
    layers.DilatedAveragePooling2D,
    layers.WindowedAveragePooling2D,
    layers.ResizeBilinear,
    layers.ScaleBilinear,
    layers.UpsampleNearest,
)
# Of their second input only the size counts.
_SIZED: tuple[Any, ...] = (layers.ResizeBilinear, layers.UpsampleNearest)


@dataclass(eq=False)
class Group:
    """Channels that go together.

    Attributes:
        name: of the first convolution that makes them.
        size: how many there are.
        makers: names of the convolutions that make them; several where a gate is multiplied onto a map.
        carriers: names of layers with weights of their own for each channel: batch norm, depthwise convolutions.
        takers: {name of a convolution that takes them: first of its input channels that is one of them}.
    """

    name: str
    size: int
    makers: list[str] = field(default_factory=list)
    carriers: list[str] = field(default_factory=list)
    takers: dict[str, int] = field(default_factory=dict)


@dataclass
class _Segment:
    """A stretch of a tensor's channels while the graph is walked."""

    size: int
    fixed: bool = False
    makers: list[str] = field(default_factory=list)
    carriers: list[str] = field(default_factory=list)
    takers: dict[str, int] = field(default_factory=dict)
    into: "_Segment | None" = None

    def found(self) -> "_Segment":
        return self if self.into is None else self.into.found()


@dataclass
class Channels:
    """A network's channels.

    Attributes:
        groups: those that may go, by name, in the order in which they are made.
        inputs: {layer with weights: the names and sizes of the groups that its input's channels are of, in order}; the
            name is None where they stay.
        outputs: {convolution: name of the group that it makes}.
    """

    groups: dict[str, Group]
    inputs: dict[str, list[tuple[str | None, int]]]
    outputs: dict[str, str]


def channels(model: keras.Model) -> Channels:
    """A functional model to its `Channels`.

    Channels may go where whole convolutions make them and whole convolutions are all that takes them in the end, with
    batch norm, activations, depthwise convolutions, poolings, gates and concatenation between. Those of sums (residual
    connections), of the images and of the scores stay.

    Raises:
        ValueError: the model has models inside it or layers that are used more than once.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model) or len(calls(layer)) != 1:
            what = "is a model itself" if isinstance(layer, keras.Model) else "is used more than once"
            raise ValueError(
                f"the channels of {model.name!r} can't be told apart: its layer {layer.name!r} {what}. Build it "
                "of layers that are used once each, as networks of this package are"
            )
    segments: dict[int, list[_Segment]] = {}
    inputs: dict[str, list[_Segment]] = {}
    outputs: dict[str, _Segment] = {}
    for layer in model.operations:
        sources, results = keras.tree.flatten(layer.input), keras.tree.flatten(layer.output)
        if isinstance(layer, keras.layers.InputLayer):
            sources = []
        found = _step(layer, [segments[id(tensor)] for tensor in sources], results, inputs, outputs)
        for tensor in results:
            segments[id(tensor)] = found
    _fix([segments[id(tensor)] for tensor in model.outputs])
    groups: dict[str, Group] = {}
    named: dict[int, str] = {}
    for segment in outputs.values():
        root = segment.found()
        if id(root) in named or root.fixed or not root.takers or root.size < 2:
            continue
        name = root.makers[0]
        named[id(root)] = name
        groups[name] = Group(name, root.size, root.makers, root.carriers, root.takers)
    return Channels(
        groups,
        {name: [(named.get(id(part.found())), part.size) for part in parts] for name, parts in inputs.items()},
        {name: named[id(segment.found())] for name, segment in outputs.items() if id(segment.found()) in named},
    )


def _step(layer, sources, results, inputs, outputs):
    """The segments of a layer's output. Notes who makes, carries and takes."""
    shape = results[0].shape
    known = len(results) == 1 and len(shape) == 4 and shape[-1] is not None
    if known and isinstance(layer, keras.layers.Conv2D) and not isinstance(layer, keras.layers.DepthwiseConv2D):
        if layer.groups == 1 and layer.data_format == "channels_last" and _is_elementwise(layer.activation):
            inputs[layer.name] = sources[0]
            _note(sources[0], "takers", layer.name)
            outputs[layer.name] = _Segment(layer.filters, makers=[layer.name])
            return [outputs[layer.name]]
    elif known and isinstance(layer, keras.layers.DepthwiseConv2D):
        if layer.depth_multiplier == 1 and layer.data_format == "channels_last" and _is_elementwise(layer.activation):
            inputs[layer.name] = sources[0]
            _note(sources[0], "carriers", layer.name)
            return sources[0]
    elif known and isinstance(layer, keras.layers.BatchNormalization):
        if layer.axis in (-1, 3):
            inputs[layer.name] = sources[0]
            _note(sources[0], "carriers", layer.name)
            return sources[0]
    elif known and isinstance(layer, keras.layers.Multiply):
        return _joined(sources)
    elif known and isinstance(layer, keras.layers.Concatenate) and layer.axis in (-1, 3):
        return [part for source in sources for part in source]
    elif (
        known
        and (
            isinstance(layer, _CHANNELWISE)
            or (isinstance(layer, keras.layers.Activation) and _is_elementwise(layer.activation))
        )
        and (isinstance(layer, _SIZED) or len(sources) == 1)
    ):
        return sources[0]
    _fix(sources)
    return [_Segment(shape[-1] if len(shape) and shape[-1] is not None else 1, fixed=True)]


def _is_elementwise(activation):
    return keras.activations.serialize(activation) not in ("softmax", "log_softmax")


def _note(parts, what, name):
    first = 0
    for part in parts:
        root = part.found()
        if what == "takers":
            root.fixed |= name in root.takers  # the same channels twice in one input
            root.takers[name] = first
        else:
            root.carriers.append(name)
        first += part.size


def _fix(sources):
    for source in sources:
        for part in source:
            part.found().fixed = True


def _joined(sources):
    """Of maps that are multiplied: channels of one are those of the other."""
    if any([part.size for part in source] != [part.size for part in sources[0]] for source in sources):
        _fix(sources)
        return max(sources, key=lambda source: sum(part.size for part in source))
    for parts in zip(*sources, strict=True):
        first, *others = _distinct(parts)
        for other in others:
            first.fixed |= other.fixed
            first.makers += other.makers
            first.carriers += other.carriers
            for name, place in other.takers.items():
                first.fixed |= name in first.takers
                first.takers[name] = place
            other.into = first
    return sources[0]


def _distinct(parts):
    roots: list[_Segment] = []
    for part in parts:
        if not any(part.found() is root for root in roots):
            roots.append(part.found())
    return roots


# Cutting ----------------------------------------------------------------------------------------------------------


def kept_inputs(found: Channels, layer: str, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which of a layer's input channels are left, as indices, where of each group named in `kept` those are."""
    parts, first = [], 0
    for name, size in found.inputs[layer]:
        own = kept.get(name) if name is not None else None
        parts.append(first + (np.arange(size) if own is None else np.asarray(own)))
        first += size
    return np.concatenate(parts)


def cut(
    arrays: Sequence[np.ndarray], kind: str, inner: np.ndarray | None, outer: np.ndarray | None
) -> list[np.ndarray]:
    """The arrays of a layer to those of its input and output channels that are left.

    Args:
        kind: `"convolution"` (kernel, perhaps bias), `"depthwise"` (likewise) or `"norm"` (one number a channel each).
        inner, outer: indices of the input and of the output channels; None for all.
    """
    if kind == "norm":
        return [array[inner] for array in arrays]
    kernel, *bias = arrays
    if kind == "depthwise":
        return [kernel[:, :, inner], *(array[inner] for array in bias)]
    if inner is not None:
        kernel = kernel[:, :, inner]
    if outer is not None:
        kernel, bias = kernel[..., outer], [array[outer] for array in bias]
    return [kernel, *bias]
