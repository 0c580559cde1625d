"""Valid files of every format, changed at random: each is read, or refused with its name, and never takes long.

`benchmarks/fuzz.py` changes each of them as often as one likes.
"""

import functools
import pickle
import random
import struct
import time
import zipfile
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
import weight_files as files
from fuzz_weights import MAKERS, once, small_arrays, torch_content
from mutations import changed

import keras_deeplab
from keras_deeplab import loading
from keras_deeplab._helpers import limits
from keras_deeplab.weights import readers
from keras_deeplab.weights.readers import hdf5

pytestmark = pytest.mark.slow

# format -> number of changed files that are read
CASES = {"zip": 400, "legacy": 400, "pickle": 200, "safetensors": 400, "pb": 400, "tflite": 400, "h5": 200}
# format -> number of changed DeepLabs that are loaded
LOADS = {
    **{"zip": 60, "legacy": 60, "safetensors": 60, "h5": 40, "keras": 60, "weights.h5": 40},
    **{"index": 80, "v1": 60, "tar.gz": 40, "pb": 60, "tflite": 100, "onnx": 40},
}
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


@pytest.fixture(scope="module")
def deeplabs(tmp_path_factory):
    """Function from a format to the `Files` of a small DeepLab, made once."""
    folder = tmp_path_factory.mktemp("deeplabs")
    yield functools.cache(lambda format: MAKERS[format](format, folder))
    keras.backend.clear_session()


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
    monkeypatch.setattr(loading, "build", once(loading.build))
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
