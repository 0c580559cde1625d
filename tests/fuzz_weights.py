"""A small DeepLab's files in every format of weights, and how each is changed."""

import functools
import gzip
import io
import tarfile
import zipfile

import h5py
import keras
import numpy as np
import weight_files as files
from mutations import Files, changed, changed_table
from randomise import randomise
from test_weights_files import bonlime_network
from test_weights_tf1 import write as write_tf1
from weight_files import pickled

import keras_deeplab
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2, mobilenet_v2_vainf
from keras_deeplab.export import weights as export
from keras_deeplab.export.onnx import export_onnx
from keras_deeplab.weights import writers
from keras_deeplab.weights.names import their_name
from keras_deeplab.weights.plan import all_layers
from keras_deeplab.weights.readers import hdf5


def small_arrays():
    rng = np.random.default_rng(0)
    return {
        "conv1.weight": rng.standard_normal((2, 3, 3, 2)).astype("float32"),
        "conv1.bias": rng.standard_normal(2).astype("float32"),
        "bn1.running_var": np.ones(2, "float32"),
    }


def torch_content(legacy):
    """(pickle, storages) of a training checkpoint, with NumPy's numbers in it."""
    values, storages = files.tensors(small_arrays(), legacy)
    double = files.Call(files.Name("numpy", "dtype"), ("f8", False, True))
    score = files.Call(files.Name("numpy.core.multiarray", "scalar"), (double, "\0" * 7 + "?"))
    return pickled({"epoch": 3, "model_state": values, "best_score": score, "lr": [0.1, (1, None)]}), storages


def torch_files(format, folder):
    network = mobilenet_v2_vainf(alpha=0.1)
    settings = {"flavour": "vainf", "num_classes": 3, "filters": 4, "low_level_filters": 3}
    arrays = export.state_dict(randomise(keras_deeplab.DeepLabV3Plus(network, **settings)), "vainf")
    if format == "safetensors":
        writers.write_safetensors(folder / "model.safetensors", arrays)
        data = (folder / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, body = data[8 : 8 + length], data[8 + length :]
        return Files(
            {"a.safetensors": data}, lambda r: {"a.safetensors": files.safetensors_raw(changed(header, r), body)}
        )
    values, storages = files.tensors(arrays, legacy=format == "legacy")
    content = pickled({"model_state": values, "epoch": 3})
    pack = functools.partial(files.torch_zip, storages=storages)
    if format == "legacy":
        counts = {str(index): array.size for index, array in enumerate(arrays.values())}
        pack = functools.partial(files.torch_legacy, storages=storages, counts=counts)
    return Files({"a.pth": pack(content)}, lambda random: {"a.pth": pack(changed(content, random))})


def google_files(format, folder):
    model = randomise(keras_deeplab.DeepLabV3(mobilenet_v2(alpha=0.1), num_classes=3, filters=4))
    arrays = export.state_dict(model, "tf1")
    if format == "pb":
        return Files({"a.pb": files.frozen_graph(arrays)})
    prefix = write_tf1(arrays, folder / format, version="V1" if format == "v1" else "V2")
    if format == "v1":
        data = prefix.read_bytes()
        return Files({"a.ckpt": data}, lambda random: {"a.ckpt": changed_table(data, random)})
    index, data = (prefix.with_name(prefix.name + end).read_bytes() for end in (".index", ".data-00000-of-00001"))
    if format == "index":
        content = {"a.ckpt.index": index, "a.ckpt.data-00000-of-00001": data}
        return Files(content, lambda random: {"a.ckpt.index": changed_table(index, random)})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, raw in [("a/model.ckpt.index", index), ("a/model.ckpt.data-00000-of-00001", data)]:
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    plain = archive.getvalue()

    def pack(raw):
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
            file.write(raw)
        return {"a.tar.gz": packed.getvalue()}

    return Files(pack(plain), lambda random: pack(changed(plain, random)))


def bonlime_files(format, folder):
    model, naming, constants = bonlime_network()
    layers, groups = {layer.name: layer for layer in all_layers(randomise(model))}, {}
    for variable in model.weights:
        name = their_name(variable.path, naming.rows, naming.dialect, **constants)
        array = naming.arrange(variable.numpy(), variable, layers, back=True)
        groups.setdefault(name.rpartition("/")[0], {})[f"{name}:0"] = array
    files.keras_2_h5(folder / "a.h5", groups)
    return Files({"a.h5": (folder / "a.h5").read_bytes()})


def own_files(format, folder):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 4, padding="same", name="one")(inputs)
    x = keras.layers.BatchNormalization(name="two")(keras.layers.Conv2D(4, 3, 2, padding="same", name="three")(x))
    network = keras.Model(inputs, x, name="small")
    name = f"a.{format}"
    writers.save_keras(
        randomise(keras_deeplab.DeepLabV3(network, num_classes=3, filters=4, output_stride=8)), folder / name
    )
    data = (folder / name).read_bytes()
    if format == "keras":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}

        def inside(random):
            member, packed = random.choice(["config.json", "model.weights.h5"]), io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for key, raw in {**members, member: changed(members[member], random)}.items():
                    archive.writestr(key, raw)
            return {name: packed.getvalue()}
    else:

        def inside(random):
            with h5py.File(io.BytesIO(data)) as old, h5py.File(file := io.BytesIO(), "w") as new:
                for key in old:
                    old.copy(key, new)
                text = changed(old[hdf5.NETWORK][()].tobytes(), random)
                del new[hdf5.NETWORK]
                new[hdf5.NETWORK] = np.frombuffer(text, "uint8")
            return {name: file.getvalue()}

    return Files({name: data}, inside)


def tflite_files(format, folder):
    model = randomise(keras_deeplab.DeepLabV3(mobilenet_v2(alpha=0.1), num_classes=3, filters=4))
    keras_deeplab.export_tflite(model, folder / "a.tflite", input_size=65, output="logits")
    return Files({"a.tflite": (folder / "a.tflite").read_bytes()})


def onnx_files(format, folder):
    model = randomise(keras_deeplab.DeepLabV3("resnet18", num_classes=3, filters=4))
    export_onnx(model, folder / "a.onnx", input_size=65, output="logits")
    return Files({"a.onnx": (folder / "a.onnx").read_bytes()})


# format -> function from it and a folder to write into to its `Files`
MAKERS = {
    **dict.fromkeys(("zip", "legacy", "safetensors"), torch_files),
    **dict.fromkeys(("index", "v1", "tar.gz", "pb"), google_files),
    **{"h5": bonlime_files, "keras": own_files, "weights.h5": own_files, "tflite": tflite_files},
    "onnx": onnx_files,
}


def once(build):
    """Builds each network once: a changed file's is nearly always the same."""
    built = {}

    def wrapped(spec, **settings):
        key = repr((spec, settings))
        if key in built:
            return built[key]
        model = build(spec, **settings)
        if model.weights[0]._value is not None:  # one without memory is of no use to the next
            built[key] = model
        return model

    return wrapped
