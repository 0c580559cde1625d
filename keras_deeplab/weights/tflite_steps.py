"""The operators of a TFLite file as steps of a network: convolutions, resizes, sums and what else they mean."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_deeplab.specs import ALIGN_CORNERS, ASYMMETRIC, HALF_PIXEL_CENTERS

EDGE_TPU = "CUSTOM:edgetpu-custom-op"
# (operator, align_corners, half_pixel_centers) -> our name of it
_CONVENTIONS = {
    ("RESIZE_BILINEAR", True, False): ALIGN_CORNERS,
    ("RESIZE_BILINEAR", False, True): HALF_PIXEL_CENTERS,
    ("RESIZE_BILINEAR", False, False): ASYMMETRIC,
}
# kind of step -> what a message calls it
_WORDS = {
    "input": "the graph's input",
    "affine": "a multiplication or addition by constants",
    "add": "an addition of two maps",
    "concat": "a concatenation",
    "mean": "the mean of the whole map",
    "resize": "a resize",
    "spread": "space to batch",
    "max": "the largest of all channels",
    "behind": "the distance to the largest of all channels",
    "tail": "a softmax or argmax",
}


@dataclass(frozen=True, eq=False)
class Step:
    """What some operators compute together, such as a convolution with its bias and activation.

    `kind` is one of `_WORDS`, `"conv"`, `"depthwise"`, or `"other"`, which `text` describes. Kernels are laid out as
    Keras has them. `channels` are the result's, None for those of the graph's input. `bounds` are the values that a
    quantised result can take. `pads` is what `"spread"` puts in front of a map, and `spread` says that a convolution's
    batch holds the shifted grids still.
    """

    kind: str
    inputs: tuple = ()
    channels: int | None = None
    text: str = ""
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: int = 1
    rate: int = 1
    activation: str | None = None
    bounds: tuple = (-np.inf, np.inf)
    pads: tuple = ()
    spread: bool = False
    resize: str | None = None

    def __str__(self):
        if self.kernel is None:
            return _WORDS.get(self.kind, self.text)
        height, width, channels, filters = self.kernel.shape
        what = f"a depthwise {height}x{width}" if self.kind == "depthwise" else f"a {height}x{width}"
        count = channels if self.kind == "depthwise" else f"{channels} to {filters}"
        then = self.activation or "no activation"
        return f"{what} convolution ({count} channels, stride {self.stride}, rate {self.rate}, {then})"

    @property
    def size(self) -> Any:
        return None if self.kernel is None else self.kernel.shape[:2]


class Steps:
    """Goes through a graph's operators in their order and keeps what each tensor is: a constant or a step's result.

    The method for an operator has its name and returns a `Step`, or None for a use of it that means nothing here.
    """

    def __init__(self, graph: Any, budget: Any) -> None:
        self.graph, self.budget = graph, budget
        self.constants = {i: tensor.array for i, tensor in enumerate(graph.tensors) if tensor.array is not None}
        self.steps = {i: Step("input") for i in graph.inputs}
        for operator in graph.operators:
            handler = getattr(self, f"_{operator.name.lower()}", None)
            step = handler(operator) if handler is not None and operator.inputs else None
            for output in operator.outputs:
                if output not in self.constants:
                    self.steps[output] = step or Step("other", text=_describe(operator))

    def data(self, index: int) -> Any:
        return self.steps.get(index) or Step("other", text="a constant")

    def constant(self, index: int) -> Any:
        return self.constants.get(index)

    def spatial(self, index: int) -> Any:
        """(height, width) of a map; None where they may change."""
        tensor = self.graph.tensors[index]
        sizes = tensor.shape_signature[1:3] if len(tensor.shape_signature) == 4 else ()
        return sizes if sizes and min(sizes) > 0 else None

    # Convolutions

    def _conv_2d(self, operator, kind="conv"):
        x, kernel = self.data(operator.inputs[0]), self.constant(operator.inputs[1])
        options = operator.options
        strides = {options["stride_h"], options["stride_w"]}
        dilations = {options["dilation_h"], options["dilation_w"]}
        if kernel is None or kernel.ndim != 4 or len(strides) > 1 or len(dilations) > 1:
            return None
        if kind == "depthwise" and kernel.shape[0] != 1:
            return None
        kernel = kernel.transpose(1, 2, 3, 0)
        (stride,), (rate,) = strides, dilations
        if x.kind == "spread":
            if options["padding"] != "VALID" or (stride, rate) != (1, 1) or x.pads != _pads(kernel, x.rate):
                return None
            x, rate = x.inputs[0], x.rate
            spread = True
        else:
            spread = False
            if options["padding"] != "SAME" and kernel.shape[:2] != (1, 1):
                return None
        channels = kernel.shape[2] if kind == "depthwise" else kernel.shape[3]
        bias = np.zeros(channels, "float32")
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self.constant(operator.inputs[2])
        if bias is None:
            return None
        bias = np.asarray(bias, "float32")
        # What fits together here has no more values than the file, and so has the model that is built.
        if x.channels not in (None, kernel.shape[2]) or bias.shape != (channels,):
            return None
        step = Step(kind, (x,), channels, kernel=kernel, bias=bias, stride=stride, rate=rate, spread=spread)
        if kind == "depthwise" and kernel.shape[:2] == (1, 1) and x.kind in ("input", "affine") and stride == 1:
            step = _affine(x, kernel.reshape(-1), bias)
        return self._activated(step, options["activation"], operator)

    def _depthwise_conv_2d(self, operator):
        return self._conv_2d(operator, "depthwise")

    def _space_to_batch_nd(self, operator):
        blocks, pads = self.constant(operator.inputs[1]), self.constant(operator.inputs[2])
        if blocks is None or len(set(blocks.tolist())) != 1:
            return None
        rate = int(blocks[0])
        # At sizes that change, the padding behind is computed; that in front is the same for each.
        before = None if pads is None else tuple(pads.reshape(2, 2)[:, 0].tolist())
        x = self.data(operator.inputs[0])
        return Step("spread", (x,), x.channels, rate=rate, pads=before or (rate, rate))

    def _batch_to_space_nd(self, operator):
        x, blocks = self.data(operator.inputs[0]), self.constant(operator.inputs[1])
        if not x.spread or blocks is None or set(blocks.tolist()) != {x.rate}:
            return None
        return replace(x, spread=False)

    # One value at a time

    def _activated(self, step, activation, operator):
        """A step with what its operator does to its result, or None where that can't be told of such a step."""
        bounds = self._bounds(operator.outputs[0])
        if activation is None:
            return replace(step, bounds=bounds)
        if step.kind not in ("conv", "depthwise") or step.activation is not None:
            return None
        return replace(step, activation=activation, bounds=bounds)

    def _bounds(self, index):
        tensor = self.graph.tensors[index]
        if tensor.scale is None or len(tensor.scale) != 1 or tensor.dtype not in ("int8", "uint8", "int16"):
            return (-np.inf, np.inf)
        limits, (scale,), (zero,) = np.iinfo(tensor.dtype), tensor.scale, tensor.zero_point
        return (float(limits.min - zero) * float(scale), float(limits.max - zero) * float(scale))

    def _relu6(self, operator):
        return self._activated(self.data(operator.inputs[0]), "RELU6", operator)

    def _relu(self, operator):
        return self._activated(self.data(operator.inputs[0]), "RELU", operator)

    def _quantize(self, operator):
        (index,), (output,) = operator.inputs[:1], operator.outputs
        if index in self.constants:
            self.budget.spend(4 * self.constants[index].size)
            self.constants[output] = self.constants[index].astype("float32")
            return None
        return self.data(index)

    _dequantize = _cast = _quantize

    def _mul(self, operator):
        return self._arithmetic(operator, lambda value: (value, 0.0))

    def _div(self, operator):
        return self._arithmetic(operator, lambda value: (1.0 / value, 0.0), ordered=True)

    def _add(self, operator):
        return self._arithmetic(operator, lambda value: (1.0, value), "add")

    def _sub(self, operator):
        x, y = (self.data(index) for index in operator.inputs)
        if y.kind == "max" and y.inputs[0] is x:
            return Step("behind", (x,), x.channels)
        return self._arithmetic(operator, lambda value: (1.0, -value), ordered=True)

    def _arithmetic(self, operator, factors, of_two_maps=None, ordered=False):
        """An operation of a map and a constant, or of two maps.

        Args:
            factors: function from the constant to what multiplies and what is added.
            of_two_maps: kind of step where both are maps; None where that means nothing here.
            ordered: whether the constant must come second.
        """
        constants = [index in self.constants for index in operator.inputs]
        if not any(constants):
            x, y = (self.data(index) for index in operator.inputs)
            if of_two_maps is None or x.channels != y.channels:
                return None
            return self._activated(Step(of_two_maps, (x, y), x.channels), operator.options["activation"], operator)
        if (ordered and constants[0]) or all(constants):
            return None
        x = self.data(operator.inputs[1 - constants.index(True)])
        value = np.asarray(self.constant(operator.inputs[constants.index(True)]), "float32")
        if value.size > 1 and value.shape[-1] != value.size:
            return None
        scale, offset = factors(value.reshape(-1))
        if x.kind in ("conv", "depthwise"):
            if x.activation is not None or value.size not in (1, len(x.bias)):
                return None
            self.budget.spend(x.kernel.nbytes)
            along = (-1, 1) if x.kind == "depthwise" else (-1,)
            kernel = x.kernel * np.broadcast_to(scale, x.bias.shape).reshape(along)
            step = replace(x, kernel=kernel.astype("float32"), bias=(x.bias * scale + offset).astype("float32"))
        else:
            step = _affine(x, scale, offset)
        return self._activated(step, operator.options["activation"], operator)

    # Many values at a time

    def _average_pool_2d(self, operator):
        options = operator.options
        window = (options["filter_height"], options["filter_width"])
        if options["padding"] != "VALID" or window != self.spatial(operator.inputs[0]):
            return None
        return self._activated(self._one_to_one("mean", operator), options["activation"], operator)

    def _mean(self, operator):
        axes = self.constant(operator.inputs[1])
        if axes is None or set(axes.reshape(-1).tolist()) != {1, 2}:
            return None
        return self._one_to_one("mean", operator)

    def _one_to_one(self, kind, operator):
        """A step of a map that keeps its channels."""
        x = self.data(operator.inputs[0])
        return Step(kind, (x,), x.channels)

    def _resize_bilinear(self, operator):
        x, options = self.data(operator.inputs[0]), operator.options
        before, after = self.spatial(operator.inputs[0]), self.spatial(operator.outputs[0])
        if before is not None and before == after:
            return x
        # Of one position every convention makes the same; of others no network here has any but these.
        known = _CONVENTIONS.get((operator.name, bool(options["align_corners"]), bool(options["half_pixel_centers"])))
        resize = None if before == (1, 1) else known or _describe(operator)
        return Step("resize", (x,), x.channels, resize=resize)

    _resize_nearest_neighbor = _resize_bilinear

    def _broadcast_to(self, operator):
        if self.spatial(operator.inputs[0]) != (1, 1):
            return None
        return self._one_to_one("resize", operator)

    _tile = _broadcast_to

    def _concatenation(self, operator):
        if operator.options["axis"] not in (3, -1) or operator.options["activation"] is not None:
            return None
        steps = tuple(self.data(index) for index in operator.inputs)
        channels = [step.channels for step in steps]
        return None if None in channels else Step("concat", steps, sum(channels))

    def _reduce_max(self, operator):
        axes = self.constant(operator.inputs[1])
        if axes is None or axes.reshape(-1).tolist() not in ([3], [-1]):
            return None
        return self._one_to_one("max", operator)

    def _maximum(self, operator):
        x, *others = sorted(operator.inputs, key=lambda index: index in self.constants)
        step = self.data(x)
        return step if step.kind == "behind" and all(index in self.constants for index in others) else None

    def _arg_max(self, operator):
        return self._one_to_one("tail", operator)

    _softmax = _arg_max

    def _reshape(self, operator):
        x = self.data(operator.inputs[0])
        before, after = (self.graph.tensors[index].shape for index in (operator.inputs[0], operator.outputs[0]))
        pooled = x.kind == "mean" and before and after and before[-1] == after[-1] == np.prod(after)
        return x if x.kind == "tail" or pooled else None

    _squeeze = _expand_dims = _reshape


def _affine(x, scale, offset):
    """A step that scales and shifts the channels of `x`, merged with another such step before it."""
    before = x if x.kind == "affine" else Step("affine", (x,), x.channels, bias=(1.0, 0.0))
    its_scale, its_offset = before.bias
    return replace(before, bias=(its_scale * scale, its_offset * scale + offset))


def _pads(kernel, rate):
    """What must stand in front of a map for a convolution of this kernel and rate to keep its size."""
    return tuple(rate * (size // 2) for size in kernel.shape[:2])


def _describe(operator):
    """An operator in words, with the options that tell why it is not understood."""
    told = ("padding", "stride_h", "filter_height", "align_corners", "half_pixel_centers", "activation", "axis")
    options = ", ".join(f"{name}={operator.options[name]}" for name in told if operator.options.get(name) is not None)
    return f"{operator.name}({options})"
