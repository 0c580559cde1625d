"""DeepLabs on MobileNetV2 and MobileNet EdgeTPU in TFLite files: from the operators back to the network.

Converters leave no names to go by and fold batch norms into convolutions, so the network is found by following the
operators, and its batch norms are filled as identities that only add the folded bias.
"""

import collections
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_deeplab.backbones import BACKBONES, preprocessing
from keras_deeplab.backbones.mobilenet_edgetpu import TABLE as EDGETPU
from keras_deeplab.backbones.mobilenet_edgetpu import block_name
from keras_deeplab.backbones.mobilenet_v2 import TABLE
from keras_deeplab.heads.flavours import FLAVOURS
from keras_deeplab.metadata import tflite as metadata
from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.specs import RESIZES
from keras_deeplab.weights.names import Dialect
from keras_deeplab.weights.plan import Network, Plan
from keras_deeplab.weights.readers import tflite as reader
from keras_deeplab.weights.readers.common import Budget, contents, reading
from keras_deeplab.weights.tf1 import WIDTHS
from keras_deeplab.weights.tflite_steps import EDGE_TPU, Step, Steps

TITLE = "a DeepLab on MobileNetV2 or MobileNet EdgeTPU in a TFLite file"

_WHAT = "a DeepLab on MobileNetV2 or MobileNet EdgeTPU"
# The arrays have the names of our variables already.
_DIALECT = Dialect(leaves=(), ignored="")
BODY_EPSILON, HEAD_EPSILON = 1e-3, 1e-5
_WIDEST = 4  # width multiplier; published are up to 1.4


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Any:
    """None for every checkpoint: a TFLite file has no names to go by, `read` finds its `Plan` from the operators."""


def read(path: str | os.PathLike[str]) -> Any:
    """A TFLite file to the `Network` that its operators compute, weights dequantised.

    Understood are DeepLab v3 and v3+ on MobileNetV2 and MobileNet EdgeTPU as TensorFlow pads them, of any width, output
    stride, pyramid and number of classes, in floating point or quantised, with or without normalisation, resize,
    softmax or argmax inside. The model that `keras_deeplab.load` makes of it computes logits and takes pixels in
    0..255: what the file's user would do to the pixels first, it does itself. The range of its images is that of the
    file's metadata.

    A batch norm that was folded is not there to be unfolded. Ours has scale 1, mean 0 and variance 1 - epsilon, so
    that it adds the folded bias and nothing else: inference is that of the file. Before training on, know that these
    are not the statistics of its activations.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or another network; the message says what was found where.
    """
    data = contents(path)
    with reading(path, "a TFLite file"):
        graph = reader.parse(data)
    with reading(path, _WHAT):
        found = _network(graph, Budget.of(len(data)))
    found.plan = replace(found.plan, spec=_with_range(found.plan.spec, path))
    return found


def _with_range(spec, path):
    """A record read off a graph, with the range of images that the file's own record tells."""
    file = metadata.read_spec(path)
    return spec if file is None else replace(spec, image_range=file.model.image_range)


def _network(graph, budget):
    """The `Network` that a graph computes; the arrays that are made on the way stay within a budget."""
    try:
        return _matched(Steps(graph, budget), graph)
    except ValueError as error:
        counts = collections.Counter(operator.name for operator in graph.operators)
        found = ", ".join(f"{count} {name}" for name, count in counts.most_common(10))
        raise ValueError(f"{error}. Its operators: {found or 'none'}") from error


def _matched(steps, graph):
    if any(operator.name == EDGE_TPU for operator in graph.operators):
        raise ValueError(
            "it is compiled for the Edge TPU, and its operator edgetpu-custom-op holds the network in that chip's own "
            "code: take the file that it was compiled from, whose name is mostly the same without _edgetpu"
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(f"it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one of each")
    head = _Head(steps.data(graph.outputs[0]))
    body = _body(head.features)
    layers = {**body.layers, **head.layers}
    arrays = {}
    for name, step in layers.items():
        in_body = name in body.layers
        bare = not in_body and head.separable_norm is False and name.endswith("_depthwise")
        arrays |= _arrays(name, step, BODY_EPSILON if in_body else HEAD_EPSILON, norm=not bare)
    width = WIDTHS[body.backbone]({path: array.shape for path, array in arrays.items()})
    if not 0 < width["alpha"] <= _WIDEST:
        raise ValueError(f"its last block has {width['alpha']:g} times the filters of {body.backbone}'s")
    settings = {
        "flavour": _flavour(head, body),
        "separable": head.separable,
        "image_pooling": "image_pooling" in layers,
        "filters": layers["aspp0"].channels,
    }
    if head.low_level is not None:
        settings["low_level_filters"] = layers["feature_projection0"].channels
        settings["low_level"] = body.name_of(head.low_level)
    spec = network(
        V3 if head.low_level is None else V3_PLUS,
        body.backbone,
        backbone_settings=width,
        num_classes=layers["logits"].channels,
        output_stride=body.output_stride,
        preprocessing=_preprocessing(body.pixels),
        atrous_rates=tuple(head.rates),
        **settings,
    )
    return Network(arrays, Plan("tflite", spec, (), _DIALECT))


def _convolution(step, what, size, kind="conv", activation=(None, "RELU", "RELU6")):
    """Returns a step that is a convolution as asked for, and raises ValueError for any other.

    Args:
        what: what the convolution would be, for the message.
        activation: those that it may have.
    """
    fits = step.kind == kind and step.size == size and not step.spread
    if not fits or not any(_acts_as(step, name) for name in activation):
        prefix = "depthwise " if kind == "depthwise" else ""
        wanted = " or ".join(name or "no activation" for name in activation)
        then = f" with {wanted}" if len(activation) < 3 else ""
        raise ValueError(f"as its {what}, a {prefix}{size[0]}x{size[1]} convolution{then}, it has {step}")
    return step


def _acts_as(step, activation):
    """Whether a step's result is as if it ended in an activation: by itself, or by what a quantised one can hold.

    Converters drop an activation that the bounds make superfluous.
    """
    low, high = step.bounds
    cut = step.activation in ("RELU", "RELU6") or low >= 0
    if activation == "RELU6":
        return cut and (step.activation == "RELU6" or high <= 6.01)
    if activation == "RELU":
        return cut and (step.activation != "RELU6" or high < 6)
    return step.activation is None


class _Head:
    """What stands between the deepest features and the output, from behind.

    Attributes:
        layers: {our name of a convolution: its step}.
        features: the step of the deepest features.
        low_level: the step that the decoder taps, None without one.
        rates: dilation rates of the pyramid.
        separable: whether its 3x3 convolutions are; None without any.
        separable_norm: whether something stands between the halves of one; None without any.
        resize: convention of its resizes, of `keras_deeplab.specs.RESIZES`; None without one that would tell.
        activation: `"relu"` or `"relu6"`.
        convs: how many 3x3 convolutions stand before the classifier; `aspp_conv`: whether one is behind the pyramid.
    """

    def __init__(self, output):
        self.layers, self.rates, self._separable, self._conventions = {}, [], set(), set()
        self.low_level = self.separable_norm = None
        x = output
        while x.kind == "tail":
            (x,) = x.inputs
        x = self._behind(self._resized(self._behind(x)))
        self.layers["logits"] = _convolution(x, "classifier", (1, 1), activation=(None,))
        (x,), convs = x.inputs, []
        while _is_spatial(x):
            convs.append(x)
            x = _before(x)
        decoder = x.kind == "concat" and len(x.inputs) == 2 and any(part.kind == "resize" for part in x.inputs)
        self.convs, self.aspp_conv = len(convs), False
        if decoder and convs:
            x = self._decoder(x, convs)
        else:
            for step in convs:
                self._spatial(step, "head_conv")
        self._pyramid(x)
        self.separable = self._agreed(self._separable, "dense and separable 3x3 convolutions") or False
        self.resize = self._agreed(self._conventions, f"resizes by {' and '.join(sorted(self._conventions))}")
        self.activation = self._activation()

    def _behind(self, step):
        return step.inputs[0] if step.kind == "behind" else step

    def _resized(self, step):
        """What a resize is of, its convention taken down; any other step as it is."""
        if step.kind != "resize":
            return step
        if step.resize not in (None, *RESIZES):
            raise ValueError(f"it enlarges a map by {step.resize}, which no DeepLab here does: {', '.join(RESIZES)}")
        if step.resize is not None:
            self._conventions.add(step.resize)
        return step.inputs[0]

    @staticmethod
    def _agreed(values, what):
        if len(values) > 1:
            raise ValueError(f"it has {what}, which no DeepLab here mixes")
        return next(iter(values), None)

    def _spatial(self, step, name, order=None):
        """Takes down a 3x3 convolution, dense or separable.

        Args:
            order: None, or slices of the input channels in the order of ours.
        """
        if step.size == (3, 3):
            self._separable.add(False)
            self.layers[name] = _convolution(_ordered(step, order), name, (3, 3))
            return
        (depthwise,) = step.inputs
        norm = depthwise.activation is not None or bool(depthwise.bias.any())
        self._separable.add(True)
        if self.separable_norm not in (None, norm):
            raise ValueError("it has separable convolutions with and without an activation between their halves")
        self.separable_norm = norm
        self.layers[f"{name}_depthwise"] = _convolution(_ordered(depthwise, order), name, (3, 3), "depthwise")
        self.layers[f"{name}_pointwise"] = _convolution(_ordered(step, order), name, (1, 1))

    def _decoder(self, concat, convs):
        coarse, finer = sorted(concat.inputs, key=lambda part: part.kind != "resize")
        finer = self.layers["feature_projection0"] = _convolution(finer, "projection of a finer map", (1, 1))
        x = self._resized(coarse)
        order = None
        if concat.inputs[0] is finer:
            order = [slice(finer.channels, None), slice(0, finer.channels)]
        for index, step in enumerate(reversed(convs)):
            self._spatial(step, f"decoder_conv{index}", None if index else order)
        (self.low_level,) = finer.inputs
        if _is_spatial(x):
            self._spatial(x, "aspp_conv")
            self.aspp_conv = True
            x = _before(x)
        return x

    def _pyramid(self, x):
        _convolution(x, "projection of the pyramid, or its 1x1 branch", (1, 1))
        (concat,) = x.inputs
        if concat.kind != "concat":
            self.layers["aspp0"] = x
            self.features = concat
            return
        found, start = {}, 0
        for branch in concat.inputs:
            name, features = self._branch(branch)
            if name in found or (found and features is not self.features):
                raise ValueError(f"its pyramid has two branches {name!r}, or branches of different maps")
            self.features = features
            found[name] = slice(start, start + branch.channels)
            start += branch.channels
        if "aspp0" not in found:
            raise ValueError("its pyramid has no 1x1 branch")
        names = sorted(found, key=lambda name: (name != "image_pooling", name))
        self.layers["concat_projection"] = _ordered(x, [found[name] for name in names])

    def _branch(self, step):
        """(name, the features that it sees) of a branch, taken down."""
        if _is_spatial(step):
            self.rates.append(_rate(step))
            name = f"aspp{len(self.rates)}"
            self._spatial(step, name)
            return name, _before(step)
        name = "image_pooling" if step.kind == "resize" else "aspp0"
        x = step.inputs[0] if step.kind == "resize" else step
        self.layers[name] = _convolution(x, "1x1 branch of the pyramid", (1, 1))
        (x,) = x.inputs
        if name == "image_pooling":
            if x.kind != "mean":
                raise ValueError(f"as its image pooling, the mean of the whole map, it has {x}")
            (x,) = x.inputs
        return name, x

    def _activation(self):
        bare = self.separable_norm is False
        steps = [
            step
            for name, step in self.layers.items()
            if name != "logits" and not (bare and name.endswith("_depthwise"))
        ]
        for name in ("RELU", "RELU6"):
            if all(_acts_as(step, name) for step in steps):
                return name.lower()
        raise ValueError(
            "its head's activations are neither all ReLU nor all ReLU6: "
            + ", ".join(f"{name} {step.activation}" for name, step in self.layers.items() if name != "logits")
        )


def _is_spatial(step):
    """Whether a step is a 3x3 convolution, or the 1x1 half of a separable one."""
    if step.kind != "conv":
        return False
    (before,) = step.inputs
    return step.size == (3, 3) or (step.size == (1, 1) and before.kind == "depthwise")


def _before(step):
    """What a 3x3 convolution, dense or separable, sees."""
    (x,) = step.inputs
    return x if step.size == (3, 3) else x.inputs[0]


def _rate(step):
    return step.rate if step.size == (3, 3) else step.inputs[0].rate


def _ordered(step, order):
    """A convolution whose input channels come in another order."""
    if order is None:
        return step
    kernel = np.concatenate([step.kernel[:, :, part] for part in order], axis=2)
    bias = step.bias
    if step.kind == "depthwise":
        bias = np.concatenate([bias[part] for part in order])
    return replace(step, kernel=kernel, bias=bias)


@dataclass(frozen=True)
class _Body:
    """A network's body: `{our name of a convolution: its step}`, `{step: name of the layer with its result}`, and more.

    `backbone` is a key of `BACKBONES`, `pixels` the step that the first convolution sees.
    """

    backbone: str
    layers: dict
    results: dict
    output_stride: int
    strided_rates: tuple
    pixels: Step

    def name_of(self, step):
        """The layer whose map a step is; None for the one that the decoder taps anyway.

        Raises:
            ValueError: it is none of the network.
        """
        name = self.results.get(step)
        if name is None:
            raise ValueError(f"its decoder taps {step}, which is no map of the network")
        return None if name == BACKBONES[self.backbone].low_level else name


@dataclass(frozen=True)
class _Row:
    """A block of a network: its name, whether its expansion is the dense convolution of its kernel, and so on."""

    name: str
    fused: bool
    kernel_size: int
    expansion: int
    stride: int
    shortcut: bool

    @property
    def spatial(self):
        """The part that looks at more than a pixel; the first block of MobileNet EdgeTPU has none."""
        return "expand" if self.fused else "depthwise"


_MOBILENET_V2 = [
    _Row(f"block_{n}" if n else "expanded_conv", False, 3, expansion, stride, True)
    for n, (expansion, stride) in enumerate(
        (expansion, stride if repeat == 0 else 1)
        for expansion, _, repeats, stride in TABLE
        for repeat in range(repeats)
    )
]
_EDGETPU = [
    _Row(block_name(n), fused, kernel_size, expansion, stride, shortcut)
    for n, (fused, kernel_size, expansion, _, stride, shortcut) in enumerate(EDGETPU)
]


def _body(features):
    """The network before a step: MobileNetV2's last block, or the last convolution of MobileNet EdgeTPU."""
    if features.kind == "conv" and features.size == (1, 1) and _acts_as(features, "RELU"):
        (x,) = features.inputs
        return _network_of(x, "mobilenet_edgetpu", "MobileNet EdgeTPU", _EDGETPU, "Conv", "RELU", {"Conv_1": features})
    return _network_of(features, "mobilenet_v2", "MobileNetV2", _MOBILENET_V2, "Conv1", "RELU6", {})


def _network_of(x, backbone, title, rows, stem_name, activation, behind):
    """The network before the result of its last block.

    Args:
        title: what messages call it.
        rows: of its blocks.
        activation: of all but the projections.
        behind: `{name: step}` of the convolutions behind the last block.
    """
    blocks = []
    for row in reversed(rows):
        blocks.append(_block(x, row, activation))
        x = blocks[-1]["input"]
    stem = _convolution(x, "first convolution", (3, 3), activation=(activation,))
    ending = activation.lower()
    layers, results, strides, rates = {stem_name: stem}, {stem: f"{stem_name}_{ending}"}, [], []
    dense = list(behind.values())
    for row, parts in zip(rows, reversed(blocks), strict=True):
        for part in ("expand", "depthwise", "project"):
            if part in parts:
                layers[f"{row.name}_{part}"] = parts[part]
                results[parts[part]] = f"{row.name}_{part}_{'BN' if part == 'project' else ending}"
                dense += [parts[part]] if part != row.spatial else []
        residual = row.shortcut and row.stride == 1 and parts["input"].channels == parts["project"].channels
        if residual != ("add" in parts):
            raise ValueError(f"its {row.name} {'has no' if residual else 'has a'} shortcut, unlike {title}'s")
        if residual:
            results[parts["add"]] = f"{row.name}_add"
        spatial = parts.get(row.spatial)
        strides.append(1 if spatial is None else spatial.stride)
        rates.append(1 if spatial is None else spatial.rate)
    if any((step.stride, step.rate) != (1, 1) for step in dense) or (stem.stride, stem.rate) != (2, 1):
        raise ValueError(f"its 1x1 convolutions have strides or its first one hasn't 2, unlike {title}'s")
    natural, output_stride = [row.stride for row in rows], 2 * int(np.prod(strides))
    known = [name for name in ("old", "new") if _dense_form(natural, output_stride, name) == (strides, rates)]
    if not known:
        raise ValueError(
            f"its blocks have the strides {strides} and rates {rates}; at output stride {output_stride} a "
            f"{title} has {' and '.join(map(str, _dense_form(natural, output_stride, 'old')))}"
        )
    return _Body(backbone, {**layers, **behind}, results, output_stride, tuple(known), stem.inputs[0])


def _block(x, row, activation):
    """The steps of an inverted residual, by their part, and its input."""
    candidates = [(x, None)]
    if x.kind == "add":
        candidates = [x.inputs, x.inputs[::-1]]
    size = (row.kernel_size, row.kernel_size)
    for project, shortcut in candidates:
        parts = {} if shortcut is None else {"add": x}
        try:
            parts["project"] = _convolution(project, f"{row.name}_project", (1, 1), activation=(None,))
            (step,) = project.inputs
            if not row.fused:
                parts["depthwise"] = _convolution(step, f"{row.name}_depthwise", size, "depthwise", (activation,))
                (step,) = step.inputs
            if row.expansion > 1:
                expansion = size if row.fused else (1, 1)
                parts["expand"] = _convolution(step, f"{row.name}_expand", expansion, activation=(activation,))
                (step,) = step.inputs
        except ValueError as error:
            problem = error
            continue
        if shortcut is None or shortcut is step:
            return {**parts, "input": step}
        problem = ValueError(f"the shortcut of its {row.name} does not start at the block's input")
    raise problem


def _dense_form(natural, output_stride, strided_rate):
    """Strides and rates of the blocks at an output stride, by the rule of `keras_deeplab.atrous`."""
    strides, rates, current, rate = [], [], 2, 1
    for stride in natural:
        lost = stride > 1 and current >= output_stride
        old, rate = rate, rate * stride if lost else rate
        strides.append(1 if lost else stride)
        rates.append(old if strided_rate == "old" else rate)
        current *= strides[-1]
    return strides, rates


def _flavour(head, body):
    """The key of the first of `FLAVOURS` that builds such a head."""
    for key, row in FLAVOURS.items():
        same = [
            not row.use_bias,
            row.projection_kernel == 1 and row.pooling_norm and not row.scaled_logits,
            row.activation == head.activation,
            head.resize in (None, row.resize),
            head.separable_norm in (None, row.separable_norm),
            (row.strided_rate or "old") in body.strided_rates,
        ]
        if head.low_level is None:
            same.append(row.head_conv == bool(head.convs) and head.convs < 2)
        else:
            same += [row.decoder_convs == head.convs, row.aspp_conv == head.aspp_conv]
        if all(same):
            return key
    kind = "without a decoder" if head.low_level is None else "with a decoder"
    raise ValueError(
        f"its head {kind} has {head.convs} 3x3 convolutions before the classifier, "
        f"{'one' if head.aspp_conv else 'none'} behind the pyramid, activations {head.activation}, "
        f"resizes by {head.resize} and rates of {' or '.join(body.strided_rates)} kind, which together "
        f"are none of the flavours {', '.join(FLAVOURS)}"
    )


def _preprocessing(step):
    """The mode of `preprocessing.normalise` that a graph has inside; `"tf"` where it takes normalised images."""
    if step.kind == "input":
        return "tf"
    if step.kind != "affine" or step.inputs[0].kind != "input":
        raise ValueError(f"between its input and its first convolution it has {step}")
    channels = max(np.size(part) for part in step.bias)
    channels = 3 if channels == 1 else channels
    scale, offset = (np.broadcast_to(np.asarray(part, "float64").reshape(-1), (channels,)) for part in step.bias)
    ends = np.stack([offset, 255 * scale + offset])
    for mode in ("tf", "torch"):
        normalise = preprocessing.normalise(mode, channels)
        expected = np.stack([normalise(np.full((1, 1, 1, channels), v, "float32")) for v in (0, 255)])
        if np.abs(ends - expected.reshape(2, channels)).max() < 0.02:
            return mode
    if np.allclose(scale, 1):
        raise ValueError(
            "its normalisation is inside its first kernel, as in the int8 files that this package writes: load the "
            "model that it was exported from"
        )
    raise ValueError(
        f"it brings pixels of 0..255 to {np.round(ends[0], 3).tolist()}..{np.round(ends[1], 3).tolist()}, "
        "neither to -1..1 nor to ImageNet's mean and deviation"
    )


# Weights ------------------------------------------------------------------------------------------------------------


def _arrays(name, step, epsilon, norm):
    """`{variable path: array}` of a convolution and, where it has one, the batch norm that was folded into it."""
    if name == "logits":
        return {"logits/kernel": step.kernel, "logits/bias": step.bias}
    arrays = {f"{name}/kernel": step.kernel}
    if not norm:
        return arrays
    ones = np.ones_like(step.bias)
    variance = np.float32(1) - np.float32(epsilon)  # variance + epsilon is 1 exactly
    parts = {"gamma": ones, "beta": step.bias, "moving_mean": 0 * ones, "moving_variance": variance * ones}
    return {**arrays, **{f"{name}_BN/{part}": array for part, array in parts.items()}}
