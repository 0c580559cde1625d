"""Small files of weights in every format, written without the libraries they come from: valid, damaged or hostile."""

import io
import json
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

from keras_deeplab.weights.readers import hdf5

MAGIC = 0x1950A86A20F9469CFC6C


@dataclass
class Name:
    """A name that a pickle asks for."""

    module: str
    name: str


@dataclass
class Call:
    """What calling something gives."""

    function: object
    arguments: tuple


@dataclass
class Build:
    """A value after its state was set."""

    value: object
    state: object


@dataclass
class Raw:
    """Opcodes as they are."""

    code: bytes


class Persistent(tuple):
    """A persistent id."""


def pickled(value):
    """The pickle (protocol 2) of a value that may have `Name`, `Call`, `Build`, `Persistent` and `Raw` in it."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value):
    match value:
        case Raw(code):
            return code
        case Name(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return _opcodes(function) + _opcodes(arguments) + b"R"
        case Build(built, state):
            return _opcodes(built) + _opcodes(state) + b"b"
        case Persistent():
            return _opcodes(tuple(value)) + b"Q"
        case None | bool():
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(raw)]) + raw
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(_opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(_opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_opcodes(part) for item in value.items() for part in item) + b"u"
    raise TypeError(value)


KINDS = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage", "uint8": "ByteStorage"}


def storage(key, count, kind="FloatStorage", view=None, legacy=False):
    """What stands for a storage in a pickle; the old format has a view at its end."""
    return Persistent(("storage", Name("torch", kind), key, "cpu", count, *([view] if legacy else [])))


def tensor(row, offset=0, size=(), stride=()):
    """What stands for a tensor in a pickle."""
    arguments = (row, offset, size, stride, False, Call(Name("collections", "OrderedDict"), ()))
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)


def strides(shape):
    """Of an array in C order, in items."""
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


def tensors(arrays, legacy=False):
    """({name: tensor for a pickle}, {key: bytes}) of `{name: array}`, each array in a storage of its own."""
    values, storages = {}, {}
    for index, (name, array) in enumerate(arrays.items()):
        row = storage(str(index), array.size, KINDS[array.dtype.name], legacy=legacy)
        values[name] = tensor(row, 0, array.shape, strides(array.shape))
        storages[str(index)] = array.tobytes()
    return values, storages


def torch_zip(content, storages=(), folder="archive", byteorder="little", compression=zipfile.ZIP_STORED):
    """A file of `torch.save` around a pickle's bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", content)
        if byteorder:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, raw in dict(storages).items():
            archive.writestr(f"{folder}/data/{key}", raw)
        archive.writestr(f"{folder}/version", "3\n")
    return file.getvalue()


def torch_legacy(content, storages=(), counts=None, little=True):
    """A file of `torch.save` before 1.6 around a pickle's bytes."""
    parts = [pickled(MAGIC), pickled(1001), pickled({"protocol_version": 1001, "little_endian": little}), content]
    parts.append(pickled(list(dict(storages))))
    for key, raw in dict(storages).items():
        parts += [(counts or {}).get(key, len(raw) // 4).to_bytes(8, "little" if little else "big"), raw]
    return b"".join(parts)


def safetensors(arrays, dtype="F32", **header):
    """A safetensors file of `{name: array}`."""
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    return safetensors_raw(json.dumps(header).encode(), b"".join(array.tobytes() for array in arrays.values()))


def safetensors_raw(header, body=b""):
    return len(header).to_bytes(8, "little") + header + body


def keras_2_h5(path, layers, group="/", long=False):
    """Writes `{layer: {weight name: array}}` as Keras 2 did."""
    import h5py

    with h5py.File(path, "w") as file:
        root = file.require_group(group)
        names = [name.encode() for name in layers]
        if long:  # Keras splits what is longer than 64 KB
            root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:1], names[1:]
        else:
            root.attrs["layer_names"] = names
        root.attrs["keras_version"] = b"2.2.4"
        for layer, weights in layers.items():
            inner = root.create_group(layer)
            inner.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                inner.create_dataset(name, data=array)


class KeptReader(hdf5.Reader):
    """Reads HDF5 files in a process that is not started anew for each."""

    def __exit__(self, *_):
        pass

    def stop(self):
        super().__exit__()


def frozen_graph(arrays):
    """A frozen graph whose variables are `arrays`, with what reads them and a constant that is no variable."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        image = v1.placeholder("uint8", (1, None, None, 3), name="ImageTensor")
        tf.identity(tf.cast(image, "float32") * 2.0, name="scaled")
        for name, array in arrays.items():
            tf.identity(v1.constant(array, name=name), name=f"{name}/read")
        return graph.as_graph_def().SerializeToString()


def without_record(source, target, **changes):
    """A copy of a .keras file as versions before records wrote it; with `changes` instead one of another record."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                if changes:
                    config["config"]["spec"].update(changes)
                else:
                    del config["config"]["spec"]
                    config |= {
                        "module": "keras.src.models.functional",
                        "class_name": "Functional",
                        "registered_name": "Functional",
                    }
                content = json.dumps(config)
            new.writestr(name, content)
    return target
