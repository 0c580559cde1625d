"""Where a folded network rounds: its stored tensors, those that share a range, and whose channels they are."""

from dataclasses import dataclass, field
from typing import Any

import keras

from keras_deeplab import layers
from keras_deeplab.quantize.folding import CONVOLUTIONS, consumers, is_depthwise

# TFLite fuses these into the operator before them, or the range behind does it, so what lies between is never stored.
_FUSED = ("relu", "relu6", "clip")
# Their integer operators hand values on in the scale they came in (of a resize the first input's).
_SAME_SCALE = (
    keras.layers.Concatenate,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
    keras.layers.Reshape,
    layers.ResizeBilinear,
    layers.UpsampleNearest,
    layers.DilatedMaxPooling2D,
)
# Every channel of their output is a positively homogeneous function of the same channel of the input.
_CHANNELWISE = (
    *_SAME_SCALE,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    layers.DilatedAveragePooling2D,
    layers.ScaleBilinear,
)


@dataclass
class Channels:
    """A group of channels that may be scaled together.

    Attributes:
        size: how many there are.
        fixed: whether something in between allows no scaling.
        clipped: whether a relu6 is in between: what reaches it then has to stay where it is.
        producers: [(convolution, first of its output channels)].
        consumers: [(convolution, first of its input channels)].
        sites: [(site, first channel of the tensor)].
    """

    size: int
    fixed: bool = False
    clipped: bool = False
    producers: list[tuple[Any, int]] = field(default_factory=list)
    consumers: list[tuple[Any, int]] = field(default_factory=list)
    sites: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Plan:
    """What `plan` found.

    Attributes:
        sites: names of the layers whose outputs are stored, in order; the input is one.
        ranges: site -> name of the range that it shares: the first of its sites.
        channels: list of `Channels`.
    """

    sites: list[str]
    ranges: dict[str, str]
    channels: list[Channels]


def activation_of(layer: Any) -> str | None:
    """Name of the clip that a layer is: "relu", "relu6", "clip", "linear", or None for any other layer."""
    if isinstance(layer, layers.Clip):
        return "clip" if layer.low <= 0 <= layer.high else None
    if isinstance(layer, keras.layers.ReLU):
        if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6.0):
            return None
        return "relu" if layer.max_value is None else "relu6"
    if isinstance(layer, keras.layers.Activation):
        name = keras.activations.serialize(layer.activation)
        return name if name in (*_FUSED, "linear") else None
    return None


def plan(model: keras.Model) -> Plan:
    """A folded model to its `Plan`.

    Args:
        model: what `keras_deeplab.quantize.folding.fold` returns.
    """
    takers = consumers(model)
    found = Plan([], {}, [])
    root = _Union()
    site_of: dict[int, str] = {}  # id of a tensor -> the site that stores it
    # id of a tensor -> [index of a group of channels, one for each stretch of its channels]
    segments: dict[int, list[int]] = {}
    groups: list[Channels] = []
    joined = _Union()

    def new_group(size, fixed=False):
        groups.append(Channels(size, fixed))
        return [len(groups) - 1]

    for layer in model.operations:
        inputs, (output, *others) = keras.tree.flatten(layer.input), keras.tree.flatten(layer.output)
        is_input = isinstance(layer, keras.layers.InputLayer)
        if is_input:
            inputs = []
        # Where it is stored.
        next_layers = takers.get(id(output), [])
        fused = (
            isinstance(layer, (*CONVOLUTIONS, keras.layers.Add))
            and len(next_layers) == 1
            and activation_of(next_layers[0]) in _FUSED
        )
        if not fused:
            found.sites.append(layer.name)
            site_of[id(output)] = layer.name
            if isinstance(layer, _SAME_SCALE) or activation_of(layer) == "linear":
                kept = inputs if isinstance(layer, keras.layers.Concatenate) else inputs[:1]
                for tensor in kept:
                    root.join(site_of[id(tensor)], layer.name)
        # Whose channels they are.
        size = output.shape[-1]
        if is_input or others or len(output.shape) != 4:
            own = new_group(size, fixed=True)
        elif isinstance(layer, CONVOLUTIONS):
            _consume(layer, inputs[0], segments, groups)
            own = new_group(size)
            groups[own[0]].producers.append((layer, 0))
        elif isinstance(layer, keras.layers.Add):
            own = _added([segments[id(tensor)] for tensor in inputs], groups, joined)
        elif isinstance(layer, keras.layers.Concatenate) and layer.axis in (-1, 3):
            own = [index for tensor in inputs for index in segments[id(tensor)]]
        elif isinstance(layer, _CHANNELWISE) or activation_of(layer) is not None:
            own = segments[id(inputs[0])]  # of a resize's reference only the size counts
            for index in own:
                groups[index].clipped |= activation_of(layer) == "relu6"
                groups[index].fixed |= activation_of(layer) == "clip"
        else:
            own = new_group(size, fixed=True)
            _fix(inputs, segments, groups)
        segments[id(output)] = own
        if not fused:
            first = 0
            for index in own:
                groups[index].sites.append((layer.name, first))
                first += groups[index].size
    _fix(model.outputs, segments, groups)
    found.ranges = {site: root.find(site) for site in found.sites}
    found.channels = _merged(groups, joined)
    return found


def _consume(layer, tensor, segments, groups):
    """Notes a convolution as a consumer of its input's channels."""
    first = 0
    for index in segments[id(tensor)]:
        if getattr(layer, "groups", 1) > 1 or (is_depthwise(layer) and layer.depth_multiplier > 1):
            groups[index].fixed = True
        groups[index].consumers.append((layer, first))
        first += groups[index].size


def _fix(tensors, segments, groups):
    for tensor in tensors:
        for index in segments[id(tensor)]:
            groups[index].fixed = True


def _added(terms, groups, joined):
    """The groups of a sum; its terms' are the same from now on."""
    layouts = [[groups[index].size for index in term] for term in terms]
    if any(layout != layouts[0] for layout in layouts):
        for term in terms:
            for index in term:
                groups[index].fixed = True
        return terms[0]
    for term in terms[1:]:
        for first, second in zip(terms[0], term, strict=True):
            joined.join(first, second)
    return terms[0]


def _merged(groups, joined):
    merged = {}
    for index, group in enumerate(groups):
        into = merged.setdefault(joined.find(index), Channels(group.size))
        into.fixed |= group.fixed
        into.clipped |= group.clipped
        into.producers += group.producers
        into.consumers += group.consumers
        into.sites += group.sites
    return list(merged.values())


class _Union:
    """Sets that are joined two at a time; each is named by the member that came first."""

    def __init__(self) -> None:
        self.parent: dict[Any, Any] = {}

    def find(self, member: Any) -> Any:
        while self.parent.get(member, member) != member:
            member = self.parent[member]
        return member

    def join(self, first: Any, second: Any) -> None:
        first, second = self.find(first), self.find(second)
        if first != second:
            self.parent[second] = first
