"""ONNX files: the arrays of their network, by the names that its own code gives them, and how its operators use them.

Exporters fold batch norms into convolutions and may call what comes of it anything (`onnx::Conv_343`). The place of the
operator in its module then tells the name (`/encoder/layer1/layer1.0/conv1/Conv`, or a layer of Keras in tf2onnx's).
"""

import ast
import os
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_deeplab.weights.readers.common import contents, reading

_WHAT = "an ONNX file"
# Names that an exporter made up: torch's of what it folded, tf2onnx's.
_ANONYMOUS = re.compile(r"onnx::.*|[0-9]+|val_[0-9]+|const_.*|.*__[0-9]+(:0)?|/.*")
_SCOPES = "pkg.torch.onnx.name_scopes"
# What TensorFlow calls the operators of a layer of Keras.
_KERAS = "convolution|depthwise|DepthwiseConv2dNative|Conv2D|BiasAdd|MatMul"
_NORMS = {
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "LayerNormalization": ("weight", "bias"),
}
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Operator:
    """A convolution, or another operator with a kernel, as the file has it.

    `output` names its result; `strides` and `rate` are None where it is no convolution.
    """

    kernel: np.ndarray = field(repr=False, compare=False)
    output: str
    strides: tuple[int, ...] | None = None
    rate: tuple[int, ...] | None = None


@dataclass
class Graph:
    """What an ONNX file holds.

    Attributes:
        path: of the file.
        arrays: `{name: array}` by PyTorch's names ("conv.weight") or, of tf2onnx's files, Keras's ("conv/kernel"), and
            convolutions in their layout there, (out, in, h, w).
        operators: by the `id` of the array that is their kernel.
        resizes: the coordinate conventions of the resizes of maps that aren't one pixel.
        first: the name of what the first convolution sees, without padding; None where there is none.
        channels: how many it has.
        proto: the file's message.
    """

    path: str
    proto: Any
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    operators: dict[int, Operator] = field(default_factory=dict)
    resizes: set[str] = field(default_factory=set)
    first: str | None = None
    channels: int = 3


def package(name: str = "onnx") -> Any:
    """The package of this name, which the extra `onnx` brings.

    Raises:
        ValueError: it isn't there.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f'an ONNX file needs {name}: pip install "keras_deeplab[onnx]" ({error})') from error


def read(path: str | os.PathLike[str]) -> Graph:
    """An ONNX file, with the data beside it that it names, to its `Graph`; nothing is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or the package `onnx` isn't there.
    """
    contents(path, 1)  # a regular file, and one that is there
    with reading(path, _WHAT):
        proto = package().load(os.fspath(path))
        return _Reader(os.fspath(path), proto).graph


class _Reader:
    """Follows the nodes of a graph in their order and collects the kernels, biases and scales that they take."""

    def __init__(self, path, proto):
        self._numpy = package().numpy_helper
        self._helper = package().helper
        self.graph = Graph(path, proto)
        nodes = proto.graph.node
        self._constants = {each.name: each for each in proto.graph.initializer}
        for node in nodes:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = node
            elif node.op_type == "Identity" and node.input[0] in self._constants:
                self._constants[node.output[0]] = self._constants[node.input[0]]
        self._made = {output: node for node in nodes for output in node.output}
        self._users: dict[str, list] = {}
        for node in nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        # Group norm is written as an instance norm with a scale and a shift behind it.
        self._group_norms = {_scope(node) for node in nodes if node.op_type == "InstanceNormalization"} - {None}
        self._folded: set[int] = set()  # ids of nodes whose constants went into the convolution before them
        for node in nodes:
            self._node(node)

    def _array(self, name):
        """The constant of this name; None where it is none."""
        found = self._constants.get(name)
        if found is None:
            return None
        if hasattr(found, "op_type"):
            values = self._attributes(found)
            found = values.get("value")
            if found is None:
                return None
        array = self._numpy.to_array(found)
        return array.astype("float32") if array.dtype in (np.float16, np.float64) else array

    def _attributes(self, node):
        return {each.name: self._helper.get_attribute_value(each) for each in node.attribute}

    def _node(self, node):
        if node.op_type == "Resize":
            self._resize(node)
        if id(node) in self._folded or node.op_type in ("Constant", "Identity"):
            return
        if node.op_type in _WEIGHTED and len(node.input) > 1 and self._array(node.input[1]) is not None:
            self._kernel(node)
            return
        if node.op_type in ("Mul", "Add"):
            self._scale(node)
        for name in node.input:
            if _is_name(name):
                self._keep(name, self._array(name))
        if node.op_type in _NORMS and _scope(node):
            # Of equal constants an exporter keeps one, by the name of the first.
            for leaf, name in zip(_NORMS[node.op_type], node.input[1:], strict=False):
                self._keep(f"{_scope(node)}.{leaf}", self._array(name))

    def _keep(self, name, array):
        if array is not None and array.size:
            self.graph.arrays[name] = array

    def _scale(self, node):
        """Takes down a constant that lost its name and scales a map's channels, or shifts them behind a group norm."""
        module = _scope(node)
        normed = module in self._group_norms
        if node.op_type == "Add" and not normed:
            return
        leaf = "gamma" if not normed else "weight" if node.op_type == "Mul" else "bias"
        for name in node.input:
            array = None if _is_name(name) else self._array(name)
            if module and array is not None and array.ndim in (1, 3, 4) and array.size == max(array.shape) > 1:
                self._keep(f"{module}.{leaf}", array.reshape(-1))

    def _kernel(self, node):
        """Takes down a convolution or a product with a constant, and the scale and shift that follow it."""
        name, values = node.input[1], self._attributes(node)
        kernel = self._array(name)
        bias = self._array(node.input[2]) if len(node.input) > 2 else None
        plain = _is_name(name) and name.endswith(".weight")
        module = name.removesuffix(".weight") if plain else _scope(node) or _layer(node.name, name)
        if module is None or not kernel.size:
            return
        if self.graph.first is None and node.op_type == "Conv" and kernel.ndim == 4:
            self.graph.first = self._seen(node.input[0])
            self.graph.channels = kernel.shape[1] * values.get("group", 1)
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not values.get("transB", 0)):
            kernel = kernel.T
        end = node.output[0]
        if node.op_type == "Conv" and module.startswith("/"):
            kernel, bias, end = self._affine(node, kernel, bias)
        keras = "/" in module
        module = module.removeprefix("/")
        self._keep(f"{module}/kernel" if keras else f"{module}.weight", kernel)
        if bias is not None:
            self._keep(f"{module}/bias" if keras else f"{module}.bias", bias)
        strides, rate = (
            tuple(values.get(key, (1, 1))) if node.op_type == "Conv" else None for key in ("strides", "dilations")
        )
        self.graph.operators[id(kernel)] = Operator(kernel, end, strides, rate)

    def _seen(self, name):
        """What a convolution sees, without what pads it or only moves its axes."""
        while name in self._made and self._made[name].op_type in ("Pad", "Identity", "Transpose", "Cast"):
            name = self._made[name].input[0]
        return name

    def _affine(self, node, kernel, bias):
        """A kernel and a bias with the constants that scale and shift a convolution's channels, and the last result."""
        end = node.output[0]
        while len(self._users.get(end, ())) == 1:
            (user,) = self._users[end]
            others = [self._array(name) for name in user.input if name != end]
            if user.op_type not in ("Mul", "Add") or len(others) != 1 or others[0] is None:
                break
            name = next(name for name in user.input if name != end)
            each = others[0]
            fits = each.ndim in (3, 4) and each.size == len(kernel) == each.shape[-3]
            if not fits or (_is_name(name) and "batchnorm" not in name):
                break
            each = each.reshape(-1)
            bias = np.zeros(len(kernel), "float32") if bias is None else bias
            if user.op_type == "Mul":
                kernel, bias = kernel * each.reshape(-1, 1, 1, 1), bias * each
            else:
                bias = bias + each
            self._folded.add(id(user))
            end = user.output[0]
        return kernel, bias, end

    def _resize(self, node):
        values = self._attributes(node)
        mode = values.get("mode", b"nearest").decode()
        if not self._is_pixel(node.input[0]):
            convention = values.get("coordinate_transformation_mode", b"half_pixel").decode()
            self.graph.resizes.add(convention if mode == "linear" else mode)

    def _is_pixel(self, name):
        """Whether a map is made of one mean of the whole."""
        for _ in range(8):
            node = self._made.get(name)
            if node is None or node.op_type in ("Concat", "Add"):
                return False
            if node.op_type in ("GlobalAveragePool", "ReduceMean"):
                return True
            name = node.input[0]
        return False


def _is_name(name):
    """Whether a constant has the name that a module of PyTorch gives it."""
    return "." in name and not _ANONYMOUS.fullmatch(name)


def _scope(node):
    """The name of the module of PyTorch that an operator is in, such as "encoder.conv1"; None where nothing tells."""
    scopes = next((each.value for each in node.metadata_props if each.key == _SCOPES), None)
    if scopes is not None:  # of the exporter that torch.export is behind
        names = ast.literal_eval(scopes)
        return names[-2] if len(names) > 1 else None
    return _dotted(node.name) if node.name.startswith("/") else None


def _dotted(path):
    """The module in the name of an operator of the older exporter.

    >>> _dotted("/encoder/layer1/layer1.0/conv1/Conv")
    'encoder.layer1.0.conv1'
    """
    parts: list[str] = []
    for part in path.strip("/").split("/")[:-1]:
        # A module in a list is called by the list's name and its number.
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts) or None


def _layer(node, name):
    """ "/" and the name of a layer of Keras, from those of an operator and its kernel; None where nothing tells.

    >>> _layer("Conv__449", "PartitionedCall/net_1/Conv1_1/convolution/merged_input:0")
    '/Conv1'
    """
    for text in (name, node):
        found = re.search(rf"([^/]+?)(_\d+)?/({_KERAS})\b", text)
        if found is not None:
            return f"/{found[1]}"
    return None
