"""Valid files of every format, changed at random: each is read, or refused with its name, and never takes long.

KERAS_DEEPLAB_FUZZ_MUTATIONS=2000 changes each file so many times instead of as many as a short run has time for.
"""

import functools
import gzip
import io
import os
import pickle
import random
import struct
import tarfile
import time
import zipfile
from collections import Counter

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import weight_files as files
from randomise import randomise
from test_weights_files import bonlime_network
from test_weights_tf1 import write as write_tf1
from weight_files import pickled

import keras_deeplab
from keras_deeplab import loading
from keras_deeplab._helpers import limits
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2, mobilenet_v2_vainf
from keras_deeplab.export import weights as export
from keras_deeplab.weights import readers, writers
from keras_deeplab.weights.names import their_name
from keras_deeplab.weights.plan import all_layers
from keras_deeplab.weights.readers import hdf5

pytestmark = pytest.mark.slow

MUTATIONS = int(os.environ.get("KERAS_DEEPLAB_FUZZ_MUTATIONS", 0))
# format -> number of changed files that are read
CASES = {"zip": 400, "legacy": 400, "pickle": 200, "safetensors": 400, "pb": 400, "tflite": 400, "h5": 200}
# format -> number of changed DeepLabs that are loaded
LOADS = {
    **{"zip": 60, "legacy": 60, "safetensors": 60, "h5": 40, "keras": 60, "weights.h5": 40},
    **{"index": 80, "v1": 60, "tar.gz": 40, "pb": 60, "tflite": 100},
}
if MUTATIONS:
    CASES, LOADS = (dict.fromkeys(cases, MUTATIONS) for cases in (CASES, LOADS))
LONGEST = 60  # seconds for one file, on a machine that is busy with other things
# Long enough for a small file, and a case in which the HDF5 library hangs isn't a long one.
HDF5_SECONDS = 1


EXTENSIONS = {"zip": "pth", "legacy": "pth", "pickle": "pdparams"}


def read(path):
    """(kind, arrays), or ("refused", the message). Anything but a ValueError fails the test."""
    try:
        return readers.read(path)
    except ValueError as error:
        return "refused", str(error)


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


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """{format: bytes of a small valid file}."""
    folder = tmp_path_factory.mktemp("valid")
    arrays = small_arrays()
    files.keras_2_h5(folder / "weights.h5", {"conv": {"conv/kernel:0": arrays["conv1.weight"]}, "relu": {}})
    return {
        "zip": files.torch_zip(*torch_content(legacy=False)),
        "legacy": files.torch_legacy(*torch_content(legacy=True)),
        "pickle": pickle.dumps({**arrays, "StructuredToParameterName@@": dict.fromkeys(arrays, "x")}, 4),
        "safetensors": files.safetensors(arrays, __metadata__={"format": "pt"}),
        "pb": files.frozen_graph({name.replace(".", "/"): array for name, array in arrays.items()}),
        "tflite": small_tflite(arrays),
        "h5": (folder / "weights.h5").read_bytes(),
    }


def small_tflite(arrays):
    @tf.function(input_signature=[tf.TensorSpec((1, 5, 5, 3), "float32")])
    def convolve(image):
        kernel = tf.constant(arrays["conv1.weight"].transpose(1, 2, 0, 3).reshape(3, 3, 2, 2))
        image = tf.nn.conv2d(image[..., :2], kernel, 1, "SAME") + arrays["conv1.bias"]
        return tf.nn.softmax(tf.nn.relu6(image))

    module = tf.Module()
    return tf.lite.TFLiteConverter.from_concrete_functions([convolve.get_concrete_function()], module).convert()


EXTREMES = [b"\x00" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x01" + b"\x00" * 7, b"\x00\x00\x00\x80" * 2]


def changed(data, random):
    """A copy with one to eight random changes: bits, bytes, lengths and offsets, parts taken out, doubled, put in."""
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 1, 1, 2, 4, 8])):
        place = random.randrange(len(data) or 1)
        size = random.choice([1, 2, 4, 8])
        kind = random.randrange(8)
        if kind == 0:
            data[place : place + 1] = bytes([(data[place : place + 1] or b"\0")[0] ^ 1 << random.randrange(8)])
        elif kind == 1:
            data[place : place + size] = random.randbytes(size)
        elif kind == 2:
            data[place : place + size] = random.choice(EXTREMES)[-size:]
        elif kind == 3:  # a length or an offset that is a little or entirely another
            place -= place % size
            number = int.from_bytes(data[place : place + size], "little")
            number = random.choice([number + 1, number - 1, 2 * number, len(data), random.randrange(len(data) or 1)])
            data[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 4:
            del data[place : place + random.randrange(1, 64)]
        elif kind == 5:
            data[place:place] = random.randbytes(random.randrange(1, 64))
        elif kind == 6:
            data[place:place] = data[random.randrange(len(data) or 1) :][: random.randrange(1, 200)]
        else:
            del data[random.choice([place, len(data) - size, len(data) // 2]) :]
    return bytes(data)


def changed_inside(format, data, random):
    """A change below what a checksum or a header would notice: the pickle in an archive, the JSON of a header."""
    if format == "zip":
        content, storages = torch_content(legacy=False)
        return files.torch_zip(changed(content, random), storages, folder=random.choice(["archive", "a"]))
    if format == "legacy":
        content, storages = torch_content(legacy=True)
        return files.torch_legacy(changed(content, random), storages)
    if format == "safetensors":
        length = int.from_bytes(data[:8], "little")
        return files.safetensors_raw(changed(data[8 : 8 + length], random), data[8 + length :])
    return changed(data, random)


@pytest.mark.parametrize("format", CASES)
def test_changed_files_are_read_or_refused(format, valid, tmp_path, monkeypatch):
    reader = files.KeptReader()
    monkeypatch.setattr(hdf5, "Reader", lambda: reader)
    monkeypatch.setattr(limits, "HDF5_SECONDS", HDF5_SECONDS)
    outcomes = Counter()
    path = tmp_path / f"changed.{EXTENSIONS.get(format, format)}"
    path.write_bytes(valid[format])
    assert len(readers.read(path)[1]) > 0
    for seed in range(CASES[format]):
        shuffle = random.Random(f"{format} {seed}")
        change = changed_inside if seed % 2 else lambda _, *arguments: changed(*arguments)
        path.write_bytes(change(format, valid[format], shuffle))
        start = time.perf_counter()
        kind, found = read(path)
        assert time.perf_counter() - start < LONGEST, seed
        outcomes[kind] += 1
        if kind == "refused":
            assert path.name in found, seed
        else:
            assert all(isinstance(array, np.ndarray) for array in found.values()), seed
            assert sum(array.nbytes for array in found.values()) < 2e6, seed
    reader.stop()
    assert outcomes["refused"] > CASES[format] / 20
    assert sum(outcomes.values()) - outcomes["refused"] > CASES[format] / 50  # not all of it is noticed at the door


def test_there_are_enough_cases():
    assert sum([*CASES.values(), *LOADS.values()]) >= 2000


@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_no_changed_pickle_imports_or_calls_anything(format, valid, tmp_path, monkeypatch):
    """Names in the pickle become the names of things that would be noticed."""
    called = []
    monkeypatch.setattr("builtins.__import__", _watch(__import__, called))
    path = tmp_path / "changed.pth"
    content, storages = torch_content(format == "legacy")
    pack = files.torch_legacy if format == "legacy" else files.torch_zip
    for module, name in [("antigravity", "fly"), ("this", "s"), ("torch._utils", "imported"), ("numpy", "imported")]:
        for old in (b"torch._utils\n_rebuild_tensor_v2", b"torch\nFloatStorage", b"collections\nOrderedDict"):
            path.write_bytes(pack(content.replace(old, f"{module}\n{name}".encode()), storages))
            with pytest.raises(ValueError, match=f"asks for '{module}.{name}'"):
                readers.read(path)
    assert not {"antigravity", "this", "torch"} & set(called)


def _watch(function, called):
    def watched(name, *arguments, **settings):
        called.append(name)
        return function(name, *arguments, **settings)

    return watched


def test_changed_archives_with_right_checksums_are_read_or_refused(tmp_path):
    """Directory entries that lie about names and places, in an archive that is well formed otherwise."""
    content, storages = torch_content(legacy=False)
    data = files.torch_zip(content, storages)
    places = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    assert len(places) == len(zipfile.ZipFile(_written(tmp_path, data)).infolist())
    for place in places:
        for offset, size in [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)]:
            for value in (0, 1, 8, 0x7FFF, 0xFFFF, 0xFFFFFFFF, len(data)):
                broken = bytearray(data)
                struct.pack_into("<H" if size == 2 else "<I", broken, place + offset, value & (1 << 8 * size) - 1)
                path = _written(tmp_path, broken)
                kind, found = read(path)
                assert (path.name in found) if kind == "refused" else (len(found) == 3)


def _written(folder, data):
    path = folder / "archive.pth"
    path.write_bytes(data)
    return path


# DeepLabs, to models ------------------------------------------------------------------------------------------------


class Files:
    """A small DeepLab's files in one format, and what becomes of them: `{name: bytes}`; the first is what is loaded."""

    def __init__(self, content, inside=None):
        self.content, self.inside = content, inside

    def changed(self, random, below):
        """One file changed as it is, or, `below`, under what checksums and headers would notice."""
        if below and self.inside is not None:
            return {**self.content, **self.inside(random)}
        name = random.choice(list(self.content))
        return {**self.content, name: changed(self.content[name], random)}


@pytest.fixture(scope="module")
def deeplabs(tmp_path_factory):
    """Function from a format to the `Files` of a small DeepLab, made once."""
    folder = tmp_path_factory.mktemp("deeplabs")
    makers = {**dict.fromkeys(("zip", "legacy", "safetensors"), torch_files), **dict.fromkeys(LOADS, google_files)}
    makers |= {"h5": bonlime_files, "keras": own_files, "weights.h5": own_files, "tflite": tflite_files}
    yield functools.cache(lambda format: makers[format](format, folder))
    keras.backend.clear_session()


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
    pack = functools.partial(files.torch_zip if format == "zip" else files.torch_legacy, storages=storages)
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


def load(path):
    """A model, or the message of a ValueError. Anything else fails the test."""
    try:
        return keras_deeplab.load(path)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("format", LOADS)
@pytest.mark.filterwarnings("ignore")
def test_changed_deeplabs_are_loaded_or_refused(format, deeplabs, tmp_path, monkeypatch):
    reader = files.KeptReader()
    monkeypatch.setattr(hdf5, "Reader", lambda: reader)
    monkeypatch.setattr(limits, "HDF5_SECONDS", HDF5_SECONDS)
    monkeypatch.setattr(loading, "build", _once(loading.build))
    made, longest, outcomes = deeplabs(format), 0, Counter()
    for seed in range(-1, LOADS[format]):
        content = made.content if seed < 0 else made.changed(random.Random(f"{format} {seed}"), below=seed % 2)
        for name, raw in content.items():
            (tmp_path / name).write_bytes(raw)
        path = tmp_path / next(iter(content))
        start = time.perf_counter()
        found = load(path)
        longest = max(longest, time.perf_counter() - start)
        outcomes[type(found) is str] += 1
        if type(found) is str:
            assert path.name.removesuffix(".index") in found, seed
            assert seed >= 0, found
        else:
            assert found.output_shape[-1] == 3 or seed >= 0
            assert all(np.isfinite(array).all() for array in found.get_weights()), seed
    reader.stop()
    print(f"{format}: {outcomes[False]} models, {outcomes[True]} refused, at most {longest:.1f} s")
    assert longest < LONGEST
    assert outcomes[True] > LOADS[format] / 20


def _once(build):
    """Builds each network once: a changed file's is nearly always the same."""
    built = {}

    def wrapped(spec, **settings):
        key = repr((spec, settings))
        if key not in built:
            built[key] = build(spec, **settings)
        return built[key]

    return wrapped


# TensorFlow's tables of names have a checksum for each block. --------------------------------------------------------


def changed_table(data, random):
    """A table with some bytes of a block changed and its checksums right."""
    blocks, data = table_blocks(data), bytearray(data)
    begin, size = random.choice(blocks)
    block = changed(bytes(data[begin : begin + size]), random)
    data[begin : begin + size] = (block + bytes(size))[:size]
    for begin, size in blocks:
        checksum = crc32c(data[begin : begin + size + 1])
        masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
        struct.pack_into("<I", data, begin + size + 1, masked)
    return bytes(data)


def table_blocks(data):
    """(place, size) of the blocks of a table: those of its rows, and the one that lists them."""
    place = len(data) - 48
    _, place = varint(data, place)
    _, place = varint(data, place)
    begin, place = varint(data, place)
    size, place = varint(data, place)
    blocks, place = [(begin, size)], begin
    restarts = int.from_bytes(data[begin + size - 4 : begin + size], "little")
    while place < begin + size - 4 * (restarts + 1):
        _, place = varint(data, place)
        unshared, place = varint(data, place)
        length, place = varint(data, place)
        first, rest = varint(data, place + unshared)
        count, _ = varint(data, rest)
        if first + count + 5 <= len(data) - 48:
            blocks.append((first, count))
        place += unshared + length
    return blocks


def varint(data, place):
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        shift += 7
        place += 1
        if data[place - 1] < 128:
            return value, place


_CRC = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC.append(_byte)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF
