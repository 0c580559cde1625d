"""TFLite files as tables: names, several sizes in one file, int8 weights for float operators, what a file holds."""

import collections
import copy
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

from keras_deeplab._helpers.private import schema

# The converter's own limit: below it a kernel's int8 scales take what its weights save.
SMALLEST_INT8 = 1024
_BIASES = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}


class _AlignedBuffer(schema.BufferT):
    """A buffer that is written at a multiple of 16, as the schema asks for and the generated Python code doesn't do.

    Processors without unaligned loads fail on anything else.
    """

    def Pack(self, builder: Any) -> Any:
        vector = None
        if self.data is not None and len(self.data):
            content = bytes(self.data)
            builder.StartVector(1, len(content), 16)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def unpacked(content: bytes) -> Any:
    """The content of a TFLite file to a `ModelT` that can be changed."""
    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def packed(file: Any) -> bytes:
    """A `ModelT` to the content of a TFLite file, every constant held once."""
    _share_buffers(file)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _share_buffers(file):
    """Leaves one buffer for each content, and the empty first one for all tensors that aren't constants."""
    places, kept = {b"": 0}, [_AlignedBuffer()]

    def place(index):
        data = file.buffers[index].data
        content = b"" if data is None else bytes(data)
        if content not in places:
            buffer = _AlignedBuffer()
            buffer.data = np.frombuffer(content, np.uint8)
            places[content] = len(kept)
            kept.append(buffer)
        return places[content]

    for subgraph in file.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer = place(tensor.buffer)
    for entry in file.metadata or ():
        entry.buffer = place(entry.buffer)
    file.buffers, file.metadataBuffer = kept, None


def add_metadata(file: Any, name: str, content: bytes) -> None:
    """Adds a named buffer to a `ModelT`."""
    buffer, entry = _AlignedBuffer(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    file.buffers.append(buffer)
    entry.name, entry.buffer = name.encode(), len(file.buffers) - 1
    file.metadata = [*(file.metadata or ()), entry]


def code_of(file: Any, operator: Any) -> int:
    """The number of an operator's kind, of `schema.BuiltinOperator`."""
    code = file.operatorCodes[operator.opcodeIndex]
    # Old files have the number in the one field, new ones in the other, and the unused one is 0 or 127.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _opcode(file, number, version):
    """The index of an operator's kind in the file, which gets it if it hasn't."""
    for index, code in enumerate(file.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == number and code.version >= version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    file.operatorCodes.append(code)
    return len(file.operatorCodes) - 1


# Names and sizes --------------------------------------------------------------------------------------------


def named(file: Any, output: str, key: str = "serving_default") -> None:
    """Gives the one graph of a `ModelT` a signature from `images` to `output`, and its tensors short names.

    The converter names a tensor after all the layers it comes from, each with its scopes: more than one percent of a
    small int8 file.
    """
    (subgraph,) = file.subgraphs
    taken: collections.Counter[bytes] = collections.Counter()
    for tensor in subgraph.tensors:
        first = tensor.name.split(b";")[0]
        name = first.split(b"/", 1)[-1]  # without the scope of the model
        taken[name] += 1
        tensor.name = name if taken[name] == 1 else b"%s.%d" % (name, taken[name])
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = key, 0
    signature.inputs = [_signature_entry(subgraph, subgraph.inputs, "images")]
    signature.outputs = [_signature_entry(subgraph, subgraph.outputs, output)]
    file.signatureDefs = [signature]


def _signature_entry(subgraph, indices, name):
    (index,) = indices
    subgraph.tensors[index].name = name
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, int(index)
    return entry


def merged(files: Sequence[Any]) -> Any:
    """Several `ModelT` of one graph to one that has all of them, with their signatures; the first is the main one."""
    first, *others = files
    for file in others:
        base, codes = len(first.buffers), []
        for code in file.operatorCodes:
            number = max(code.builtinCode, code.deprecatedBuiltinCode)
            codes.append(_opcode(first, number, code.version))
        first.buffers += file.buffers
        (subgraph,) = file.subgraphs
        for tensor in subgraph.tensors:
            tensor.buffer += base
        for operator in subgraph.operators:
            operator.opcodeIndex = codes[operator.opcodeIndex]
        for signature in file.signatureDefs:
            signature.subgraphIndex = len(first.subgraphs)
        subgraph.name = file.signatureDefs[0].signatureKey
        first.subgraphs.append(subgraph)
        first.signatureDefs += file.signatureDefs
    return first


# Changes of precision ---------------------------------------------------------------------------------------


def weights_as_int8(file: Any) -> None:
    """Stores the kernels of a float32 `ModelT` in int8 with a scale for each channel; operators compute in float32.

    Interpreters widen them when the file is loaded. Depthwise kernels, and those of fewer than 1,024 weights, become
    float16: nine weights and a scale with its zero point take more in int8, and int8 harms those kernels most.
    """
    kernels = {
        schema.BuiltinOperator.CONV_2D: 0,
        schema.BuiltinOperator.FULLY_CONNECTED: 0,
        schema.BuiltinOperator.TRANSPOSE_CONV: 0,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D: None,
    }
    dequantize = _opcode(file, schema.BuiltinOperator.DEQUANTIZE, 5)
    for subgraph in file.subgraphs:
        operators, widened = [], set()
        for operator in subgraph.operators:
            number = code_of(file, operator)
            index = int(operator.inputs[1]) if number in kernels else None
            if index is not None and index not in widened and _is_float_constant(file, subgraph.tensors[index]):
                widened.add(index)
                operators.append(_widening(file, subgraph, index, kernels[number], dequantize))
            operators.append(operator)
        subgraph.operators = operators


def _is_float_constant(file, tensor):
    return tensor.type == schema.TensorType.FLOAT32 and file.buffers[tensor.buffer].data is not None


def _widening(file, subgraph, index, axis, dequantize):
    """Makes a tensor's constant a smaller one, and the tensor what this operator makes of that."""
    wide = subgraph.tensors[index]
    values = np.frombuffer(bytes(file.buffers[wide.buffer].data), np.float32).reshape(wide.shape)
    narrow, buffer = copy.copy(wide), _AlignedBuffer()
    if axis is None or values.size < SMALLEST_INT8:
        narrow.type, narrow.quantization = schema.TensorType.FLOAT16, None
        limit = np.finfo(np.float16).max
        stored = np.clip(values, -limit, limit).astype(np.float16)
    else:
        narrow.type, narrow.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
        others = tuple(other for other in range(values.ndim) if other != axis)
        scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, np.finfo(np.float32).tiny)
        stored = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
        narrow.quantization.scale = scale.ravel().astype(np.float32)
        narrow.quantization.zeroPoint = np.zeros(scale.size, np.int64)
        narrow.quantization.quantizedDimension = axis
    buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
    file.buffers.append(buffer)
    narrow.buffer, narrow.name, wide.buffer = len(file.buffers) - 1, wide.name + b"/stored", 0
    subgraph.tensors.append(narrow)
    operator = schema.OperatorT()
    operator.opcodeIndex = dequantize
    operator.inputs = np.array([len(subgraph.tensors) - 1], np.int32)
    operator.outputs = np.array([index], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator


def own_biases(file: Any) -> None:
    """Gives each operator of an integer `ModelT` a bias at the scale that it computes with.

    Operators with equal biases share one tensor, and the converter to int16 leaves it at the scale of one of them: the
    others would add another number.
    """
    kinds = {
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
    }
    for subgraph in file.subgraphs:
        for operator in subgraph.operators:
            if code_of(file, operator) not in kinds or len(operator.inputs) < 3 or operator.inputs[2] < 0:
                continue
            bias = subgraph.tensors[int(operator.inputs[2])]
            if bias.type not in _BIASES or bias.quantization is None or bias.quantization.scale is None:
                continue
            held = np.asarray(bias.quantization.scale, np.float64)
            if np.allclose(held, _bias_scale(subgraph, operator), rtol=1e-3):
                continue
            values = np.frombuffer(bytes(file.buffers[bias.buffer].data), _BIASES[bias.type]) * held
            _set_bias(file, subgraph, operator, values)


def set_last_biases(file: Any, biases: np.ndarray) -> None:
    """Gives the last convolution before the argmax of a `ModelT` of one graph other biases (C,)."""
    (subgraph,) = file.subgraphs
    makers = {int(operator.outputs[0]): operator for operator in subgraph.operators}
    operator = makers[int(subgraph.outputs[0])]
    while code_of(file, operator) != schema.BuiltinOperator.CONV_2D:
        operator = makers[int(operator.inputs[0])]
    _set_bias(file, subgraph, operator, np.asarray(biases, np.float64))


def _bias_scale(subgraph, operator):
    """The scale that an integer operator adds its bias at: that of its products."""
    images, kernel = (subgraph.tensors[int(index)].quantization.scale for index in operator.inputs[:2])
    return np.asarray(images, np.float64) * np.asarray(kernel)


def _set_bias(file, subgraph, operator, values):
    """Gives an operator a bias of its own, in the type that it has and at the scale that it computes with."""
    bias = subgraph.tensors[int(operator.inputs[2])]
    taken = sum(int(index) == int(operator.inputs[2]) for other in subgraph.operators for index in other.inputs)
    if taken > 1:
        bias = copy.deepcopy(bias)
        subgraph.tensors.append(bias)
        operator.inputs = np.array([*operator.inputs[:2], len(subgraph.tensors) - 1], np.int32)
    if bias.type == schema.TensorType.FLOAT32:
        stored = values.astype(np.float32)
    else:
        scale = _bias_scale(subgraph, operator)
        dtype = _BIASES[bias.type]
        limits = np.iinfo(dtype)
        stored = np.clip(np.rint(values / scale), limits.min, limits.max).astype(dtype)
        bias.quantization.scale = scale.astype(np.float32)
    buffer = _AlignedBuffer()
    buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
    file.buffers.append(buffer)
    bias.buffer = len(file.buffers) - 1


def integer_argmax(file: Any) -> None:
    """Has the argmax of an int16 `ModelT` compare integers: the converter would have it compare float32 numbers."""
    for subgraph in file.subgraphs:
        makers = {int(operator.outputs[0]): operator for operator in subgraph.operators}
        for operator in subgraph.operators:
            if code_of(file, operator) != schema.BuiltinOperator.ARG_MAX:
                continue
            scores = subgraph.tensors[operator.inputs[0]]
            maker = makers.get(int(operator.inputs[0]))
            if maker is None or code_of(file, maker) != schema.BuiltinOperator.DEQUANTIZE:
                continue
            maker.opcodeIndex = _opcode(file, schema.BuiltinOperator.CAST, 1)
            maker.builtinOptionsType = schema.BuiltinOptions.CastOptions
            maker.builtinOptions = options = schema.CastOptionsT()
            options.inDataType, options.outDataType = subgraph.tensors[maker.inputs[0]].type, schema.TensorType.INT32
            scores.type, scores.quantization = schema.TensorType.INT32, None


# What is in a file ------------------------------------------------------------------------------------------


def _names(enumeration):
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def operators(content: Any) -> tuple[dict[str, int], list[str]]:
    """The content of a TFLite file to its operators and those that compute in floating point.

    Args:
        content: bytes, or a `ModelT`.

    Returns:
        (counts, floating): a dict from operator name to how often it occurs, and the list of the names, in order,
        of operators with a float16 or float32 tensor other than a constant among their inputs and outputs. The
        conversion of the file's input, or to a float output of it, is not counted among the latter.
    """
    operator_names, type_names = _names(schema.BuiltinOperator), _names(schema.TensorType)
    file = content if isinstance(content, schema.ModelT) else unpacked(content)
    counts: collections.Counter[str] = collections.Counter()
    floating: list[str] = []
    for subgraph in file.subgraphs:
        entry = set(map(int, subgraph.inputs))
        for operator in subgraph.operators:
            name = operator_names[code_of(file, operator)]
            counts[name] += 1
            inputs, outputs = (
                [int(index) for index in which if index >= 0] for which in (operator.inputs, operator.outputs)
            )
            if name in ("CAST", "QUANTIZE") and set(inputs) <= entry:
                entry |= set(outputs)  # bytes may become int16 in two steps
                continue
            if name == "DEQUANTIZE" and set(outputs) <= set(map(int, subgraph.outputs)):
                continue
            tensors = [subgraph.tensors[index] for index in inputs + outputs]
            if any(
                type_names[tensor.type] in ("FLOAT16", "FLOAT32") and file.buffers[tensor.buffer].data is None
                for tensor in tensors
            ):
                floating.append(name)
    return dict(counts), floating
