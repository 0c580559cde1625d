"""TFLite files: their constants, and the operators that an importer makes a model of."""

import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab.weights.readers.common import Budget, contents, reading, shaped

_WHAT = "a TFLite file"
_CUSTOM = 32  # BuiltinOperator

# TensorType -> type. Source: schema.fbs of TensorFlow Lite.
_DTYPES = {
    **{0: "float32", 1: "float16", 10: "float64", 18: "bfloat16", 6: "bool"},
    **{9: "int8", 7: "int16", 2: "int32", 4: "int64"},
    **{3: "uint8", 16: "uint16", 15: "uint32", 12: "uint64"},
}
_PADDINGS = ("SAME", "VALID")
_ACTIVATIONS = (None, "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")

# operator -> (table of its options, [(option, field, how it is stored, its default)])
_STRIDES = [("padding", 0, _PADDINGS, 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0)]
_POOL = ("Pool2DOptions", [*_STRIDES, ("filter_width", 3, "i", 0), ("filter_height", 4, "i", 0),
                           ("activation", 5, _ACTIVATIONS, 0)])  # fmt: skip
_REDUCE = ("ReducerOptions", [("keep_dims", 0, "?", 0)])
_OPTIONS = {
    "CONV_2D": ("Conv2DOptions", [*_STRIDES, ("activation", 3, _ACTIVATIONS, 0), ("dilation_w", 4, "i", 1),
                                  ("dilation_h", 5, "i", 1)]),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", [*_STRIDES, ("depth_multiplier", 3, "i", 0),
                                                     ("activation", 4, _ACTIVATIONS, 0), ("dilation_w", 5, "i", 1),
                                                     ("dilation_h", 6, "i", 1)]),
    "TRANSPOSE_CONV": ("TransposeConvOptions", [*_STRIDES, ("activation", 3, _ACTIVATIONS, 0)]),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "ADD": ("AddOptions", [("activation", 0, _ACTIVATIONS, 0)]),
    "SUB": ("SubOptions", [("activation", 0, _ACTIVATIONS, 0)]),
    "MUL": ("MulOptions", [("activation", 0, _ACTIVATIONS, 0)]),
    "DIV": ("DivOptions", [("activation", 0, _ACTIVATIONS, 0)]),
    "CONCATENATION": ("ConcatenationOptions", [("axis", 0, "i", 0), ("activation", 1, _ACTIVATIONS, 0)]),
    "FULLY_CONNECTED": ("FullyConnectedOptions", [("activation", 0, _ACTIVATIONS, 0), ("keep_num_dims", 2, "?", 0)]),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", [("align_corners", 2, "?", 0), ("half_pixel_centers", 3, "?", 0)]),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", [("align_corners", 0, "?", 0),
                                                                 ("half_pixel_centers", 1, "?", 0)]),
    "SOFTMAX": ("SoftmaxOptions", [("beta", 0, "f", 0.0)]),
    "LEAKY_RELU": ("LeakyReluOptions", [("alpha", 0, "f", 0.0)]),
    "MEAN": _REDUCE,
    "SUM": _REDUCE,
    "REDUCE_MAX": _REDUCE,
    "ARG_MAX": ("ArgMaxOptions", [("output_type", 0, _DTYPES, 0)]),
    "CAST": ("CastOptions", [("in_data_type", 0, _DTYPES, 0), ("out_data_type", 1, _DTYPES, 0)]),
    "PACK": ("PackOptions", [("values_count", 0, "i", 0), ("axis", 1, "i", 0)]),
    "SPLIT": ("SplitOptions", [("num_splits", 0, "i", 0)]),
    "GATHER": ("GatherOptions", [("axis", 0, "i", 0), ("batch_dims", 1, "i", 0)]),
    "STRIDED_SLICE": ("StridedSliceOptions", [("begin_mask", 0, "i", 0), ("end_mask", 1, "i", 0),
                                              ("ellipsis_mask", 2, "i", 0), ("new_axis_mask", 3, "i", 0),
                                              ("shrink_axis_mask", 4, "i", 0)]),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph.

    Attributes:
        name: as the converter called it; not necessarily unique.
        shape: as in the file; a size that may change is -1 in `shape_signature`.
        shape_signature: the shape with -1 for sizes that may change.
        dtype: `"float32"`, `"int8"`, ...; `"TensorType 5"` for a type without arrays.
        array: a constant's values, dequantised: `scale * (stored - zero_point)`, float32; None where values flow.
        scale, zero_point: arrays of one value, or one for each index of `axis`; None where nothing is quantised.
        axis: the axis they go along.
    """

    name: str
    shape: tuple
    shape_signature: tuple
    dtype: str
    array: np.ndarray | None
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    axis: int


@dataclass(frozen=True)
class Operator:
    """A step of the graph.

    Attributes:
        name: of TFLite's builtin operators, `"CONV_2D"`; `"CUSTOM:..."` for others.
        inputs: indices of tensors; -1 for one left out.
        outputs: indices of tensors.
        options: `{"padding": "SAME", "stride_h": 2, "activation": "RELU6", ...}`, those that DeepLabs' operators have.
    """

    name: str
    inputs: tuple
    outputs: tuple
    options: dict


@dataclass(frozen=True, eq=False)
class Graph:
    """The main graph of a TFLite file: its tensors, its operators in order, indices of what goes in and out."""

    tensors: tuple
    operators: tuple
    inputs: tuple
    outputs: tuple
    description: str


def read(path: str | os.PathLike[str]) -> Any:
    """A `.tflite` file to `{tensor name: array}` of its constants, dequantised.

    Convolutions' kernels stand as TFLite has them: (out, height, width, in), depthwise (1, height, width, out).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds values of types that aren't read, or two constants of one name.
    """
    graph = read_graph(path)
    with reading(path, _WHAT):
        arrays = {}
        for tensor in graph.tensors:
            if tensor.array is not None:
                if tensor.name in arrays:
                    raise ValueError(f"it has two constants {tensor.name!r}")
                arrays[tensor.name] = tensor.array
        return arrays


def read_graph(path: str | os.PathLike[str]) -> Any:
    """A `.tflite` file to its `Graph`: tensors with the constants' values, and the operators between them.

    Args and Raises as for `read`; several constants may have one name.
    """
    data = contents(path)
    with reading(path, _WHAT):
        return parse(data)


def parse(data: Any) -> Any:
    """The bytes of a TFLite file to its `Graph`; ValueError where they aren't one."""
    # Field numbers below are those of the tables of TensorFlow Lite's schema.fbs.
    model = _model(data)
    file = model.file
    names, option_types = _enumerations()
    codes = [
        f"CUSTOM:{text}" if number == _CUSTOM else names.get(number, f"operator {number}")
        for number, text in _codes(model)
    ]
    buffers = [_buffer(file, table) for table in model.tables(4)]
    graphs = model.tables(2)
    if not graphs:
        raise ValueError("it has no graph")
    main = graphs[0]
    tensors = tuple(_tensor(table, buffers, file.budget) for table in main.tables(0))
    operators = tuple(_operator(table, codes, option_types, len(tensors)) for table in main.tables(3))
    inputs, outputs = (_indices(main, field, len(tensors)) for field in (1, 2))
    return Graph(tensors, operators, inputs, outputs, model.text(3))


def custom_operators(path: str | os.PathLike[str]) -> Any:
    """The names of the operators in a `.tflite` file that are none of TFLite's own, in any of its graphs.

    Those of TensorFlow begin with "Flex". Raises as `read`.
    """
    data = contents(path)
    with reading(path, _WHAT):
        return [text for number, text in _codes(_model(data)) if number == _CUSTOM]


def _model(data):
    if data[4:8] != b"TFL3":
        raise ValueError(f"it begins with {data[:8]!r}; a TFLite file has 'TFL3' in bytes 4 to 8")
    return _File(data).table(0)


def _codes(model):
    """(number, name of one that isn't TFLite's own) of the operators that the graphs of a file choose from."""
    for code in model.tables(1):
        number = max(code.number(0, "b"), code.number(3, "i"))  # one byte was enough once
        yield number, code.text(1) if number == _CUSTOM else ""


def _enumerations():
    """{number: name} of the builtin operators and of the tables of their options."""
    from keras_deeplab._helpers.private import schema

    return tuple(
        {number: name for name, number in vars(kind).items() if isinstance(number, int)}
        for kind in (schema.BuiltinOperator, schema.BuiltinOptions)
    )


def _buffer(file, table):
    offset, size = table.number(1, "Q"), table.number(2, "Q")
    if offset > 1:  # in files of more than 2 GB the values stand behind all tables
        return file.slice(offset, size)
    return table.bytes(0)


def _tensor(table, buffers, budget):
    shape = tuple(table.numbers(0, "i"))
    name, kind, index = table.text(3), table.number(1, "b"), table.number(2, "I")
    if index >= len(buffers):
        raise ValueError(f"tensor {name!r} is in buffer {index} of {len(buffers)}")
    scale = zero_point = None
    axis = 0
    quantisation = table.child(4)
    if quantisation is not None and len(quantisation.numbers(2, "f")):
        scale = np.array(quantisation.numbers(2, "f"), "float32")
        zero_point = np.array(quantisation.numbers(3, "q") or [0], "int64")
        axis = quantisation.number(6, "i")
    dtype = _DTYPES.get(kind, f"TensorType {kind}")
    array = None
    if index and len(buffers[index]) and kind != 5:  # 5 is text
        if kind not in _DTYPES or table.child(6) is not None:
            raise ValueError(f"constant {name!r} is sparse or of {dtype}, neither of which is read")
        budget.spend(4 * len(buffers[index]))
        array = shaped(buffers[index], dtype, shape)
        if scale is not None:
            array = _dequantise(array, scale, zero_point, axis, name)
    signature = tuple(table.numbers(7, "i")) or shape
    return Tensor(name, shape, signature, dtype, array, scale, zero_point, axis)


def _dequantise(array, scale, zero_point, axis, name):
    if array.dtype.kind == "f":
        return array
    along = [1] * array.ndim
    if len(scale) > 1:
        if not 0 <= axis < array.ndim or array.shape[axis] != len(scale):
            raise ValueError(f"constant {name!r} of shape {array.shape} has {len(scale)} scales along axis {axis}")
        along[axis] = len(scale)
    if len(zero_point) not in (1, len(scale)):
        raise ValueError(f"constant {name!r} has {len(scale)} scales and {len(zero_point)} zero points")
    zero_point = np.broadcast_to(zero_point, scale.shape)
    return ((array - zero_point.reshape(along)) * scale.reshape(along).astype("float64")).astype("float32")


def _operator(table, codes, option_types, tensors):
    index = table.number(0, "I")
    if index >= len(codes):
        raise ValueError(f"an operator has code {index} of {len(codes)}")
    options = {}
    if codes[index] in _OPTIONS:
        expected, rows = _OPTIONS[codes[index]]
        kind, child = option_types.get(table.number(3, "B")), table.child(4)
        if child is not None and kind != expected:
            raise ValueError(f"{codes[index]} has options of type {kind}, not {expected}")
        for name, field, stored, default in rows:
            code = stored if isinstance(stored, str) else "b"
            value = default if child is None else child.number(field, code, default)
            options[name] = value if isinstance(stored, str) else _choice(stored, value, name)
    return Operator(codes[index], _indices(table, 1, tensors, -1), _indices(table, 2, tensors), options)


def _choice(choices, value, name):
    known = choices if isinstance(choices, dict) else dict(enumerate(choices))
    if value not in known:
        listed = ", ".join(f"{word} ({number})" for number, word in known.items())
        raise ValueError(f"an operator has {name} {value}; known: {listed}")
    return known[value]


def _indices(table, field, tensors, lowest=0):
    indices = tuple(table.numbers(field, "i"))
    if any(not lowest <= index < tensors for index in indices):
        raise ValueError(f"an index of {indices[:8]} is beyond the {tensors} tensors")
    return indices


# FlatBuffers -----------------------------------------------------------------------------------------------------


class _File:
    """Bytes in the FlatBuffers format; every access is checked, and all of them together are counted."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.budget = Budget.of(len(data))
        self.steps = Budget(limits.TFLITE_VALUES, "values in its tables")

    def number(self, position, code):
        return self.row(position, 1, code)[0]

    def row(self, position, count, code):
        size = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{count}{code}", self.slice(position, count * size))

    def slice(self, position, size):
        if position < 0 or size > len(self.data) - position:
            raise ValueError(f"it is cut off or damaged: it points to byte {position + size} of {len(self.data)}")
        self.budget.spend(size)
        self.steps.spend(1)
        return self.data[position : position + size]

    def table(self, position):
        return _Table(self, position + self.number(position, "I"))


class _Table:
    """A table of a FlatBuffers file, whose fields have numbers; an absent field has its default."""

    def __init__(self, file, position):
        self.file, self._position = file, position
        self._fields = position - file.number(position, "i")
        self._size = file.number(self._fields, "H")

    def _place(self, field):
        """Where a field's value is, or None."""
        entry = 4 + 2 * field
        offset = self.file.number(self._fields + entry, "H") if entry + 2 <= self._size else 0
        return self._position + offset if offset else None

    def number(self, field, code, default=0):
        place = self._place(field)
        return default if place is None else self.file.number(place, code)

    def child(self, field):
        place = self._place(field)
        return None if place is None else self.file.table(place)

    def _vector(self, field):
        """(place of the first item, their number) of a vector."""
        place = self._place(field)
        if place is None:
            return 0, 0
        place += self.file.number(place, "I")
        return place + 4, self.file.number(place, "I")

    def numbers(self, field, code):
        place, count = self._vector(field)
        return self.file.row(place, count, code)

    def bytes(self, field):
        place, count = self._vector(field)
        return self.file.slice(place, count)

    def text(self, field):
        return bytes(self.bytes(field)).decode()

    def tables(self, field):
        place, count = self._vector(field)
        offsets = self.file.row(place, count, "I")
        return [_Table(self.file, place + 4 * i + offset) for i, offset in enumerate(offsets)]
