"""Files of weights are read as they were written, by libraries or by hand, and nothing in them is run."""

import argparse
import json
import os
import pathlib
import pickle
import sys
import time
import tracemalloc
import types
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict

import keras
import numpy as np
import pytest
import tensorflow as tf
import weight_files as files
from weight_files import Build, Call, Name, Raw, pickled, storage, tensor

from keras_deeplab._helpers import limits
from keras_deeplab.weights import readers
from keras_deeplab.weights.readers import frozen_graph, hdf5, pickles, safetensors, tflite
from keras_deeplab.weights.readers import torch as torch_files
from keras_deeplab.weights.readers.files import kind_of

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv1.weight": RNG.standard_normal((4, 3, 3, 2)).astype("float32"),
    "conv1.bias": RNG.standard_normal(4).astype("float32"),
    "bn1.num_batches_tracked": np.array(7, "int64"),
}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert isinstance(found[name], np.ndarray), name
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


@pytest.fixture
def write(tmp_path):
    """Writes bytes to a file of that name; returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


# PyTorch -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(params=["zip", "legacy"])
def save(request, torch, tmp_path):
    """Saves with real PyTorch; returns the path."""

    def save(value, name="model.pth", **settings):
        path = tmp_path / name
        torch.save(value, path, _use_new_zipfile_serialization=request.param == "zip", **settings)
        return path

    return save


def test_a_state_dict_of_pytorch_is_read(torch, save):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 3, groups=4, bias=False)
    )
    state = network.state_dict()
    assert state._metadata  # goes along as an attribute
    kind, arrays = readers.read(save(state))
    assert kind == "torch"
    assert_equal(arrays, {name: value.numpy() for name, value in state.items()})
    assert arrays["1.num_batches_tracked"].shape == ()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_read(torch, save, protocol):
    value = {"weight": torch.arange(6.0).reshape(2, 3), "long/name" * 40: torch.zeros(2)}
    path = save({"model": value, "numbers": [1, -1, 300, 1 << 40, 0.5, True, None, "ü", b"raw", (1,), (1, 2), {}]})
    torch.save(torch.load(path), path, pickle_protocol=protocol)
    found = torch_files.read_object(path)
    assert_equal(found["model"], {name: tensor.numpy() for name, tensor in value.items()})
    assert found["numbers"] == [1, -1, 300, 1 << 40, 0.5, True, None, "ü", b"raw", (1,), (1, 2), {}]


TYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128"]


def test_every_type_is_read(torch, save):
    values = {name: (torch.arange(-3, 3) * 1.5).to(getattr(torch, name)) for name in TYPES}
    brain = torch.tensor([1.0, -2.5, 3e38, float("nan")], dtype=torch.bfloat16)
    found = readers.read(save({**values, "bfloat16": brain}))[1]
    np.testing.assert_array_equal(found.pop("bfloat16"), brain.float().numpy(), strict=True)
    assert_equal(found, {name: value.numpy() for name, value in values.items()})


def test_types_without_a_storage_class_are_read(torch, tmp_path):
    values = {name: torch.tensor([1, 2, 65535], dtype=getattr(torch, name)) for name in ("uint16", "uint32", "uint64")}
    torch.save(values, tmp_path / "model.pt")
    assert_equal(readers.read(tmp_path / "model.pt")[1], {name: value.numpy() for name, value in values.items()})


def test_views_are_read_as_they_are(torch, save):
    base = torch.arange(120.0).reshape(4, 5, 6)
    values = {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1:3, ::2, 3:],
        "column": base[:, 2, 4],
        "scalar": base[3, 4, 5],
        "nothing": base[:0],
        "expanded once": torch.ones(1).expand(1, 1),
        "other": torch.empty((0, 3)),
    }
    path = save(values)
    found = readers.read(path)[1]
    assert_equal(found, {name: value.numpy() for name, value in values.items()})
    assert np.shares_memory(found["base"], found["transposed"])
    assert not found["base"].flags.writeable


@pytest.mark.slow
def test_a_training_checkpoint_gives_its_weights(torch, save):
    """VainF's: the weights beside the optimizer's state and NumPy numbers."""
    network = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    path = save(
        {
            "cur_itrs": 30000,
            "model_state": network.state_dict(),
            "optimizer_state": optimizer.state_dict(),
            "scheduler_state": scheduler.state_dict(),
            "best_score": np.float64(0.7123),
            "device": torch.device("cpu"),
            "size": torch.Size([1, 2]),
            "class_iou": np.arange(6.0).reshape(2, 3).T,
            "confusion": np.array([[1, 2], [3, 4]], ">i4"),
            "flag": np.bool_(True),
        }
    )
    expected = {name.removeprefix("module."): value.numpy() for name, value in network.state_dict().items()}
    assert_equal(readers.read(path)[1], expected)
    assert "0.weight" in expected
    found = torch_files.read_object(path)
    assert found["best_score"] == 0.7123
    assert (found["cur_itrs"], found["device"], found["size"]) == (30000, "cpu", (1, 2))
    assert found["scheduler_state"]["milestones"] == Counter([3, 5])
    assert found["flag"] == np.True_
    np.testing.assert_array_equal(found["class_iou"], np.arange(6.0).reshape(2, 3).T)
    np.testing.assert_array_equal(found["confusion"], [[1, 2], [3, 4]])
    momentum = optimizer.state_dict()["state"][0]["momentum_buffer"]
    np.testing.assert_array_equal(found["optimizer_state"]["state"][0]["momentum_buffer"], momentum)


def test_parameters_are_read(torch, save):
    network = torch.nn.Linear(3, 2)
    found = readers.read(save(dict(network.named_parameters())))[1]
    assert_equal(found, {name: value.detach().numpy() for name, value in network.named_parameters()})


def test_files_without_checksums_are_read(torch, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.ones(3)}, tmp_path / "model.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_equal(readers.read(tmp_path / "model.pth")[1], {"weight": np.ones(3, "float32")})


def test_a_whole_module_is_refused_by_its_class(torch, save):
    with pytest.raises(ValueError, match=r"model\.pth'.* asks for 'torch\.nn\.modules\.linear\.Linear', which is not"):
        readers.read(save(torch.nn.Linear(2, 2)))


def test_a_torchscript_program_is_refused(torch, tmp_path):
    path = tmp_path / "program.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions call it deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match=r"program\.pt'.* is a TorchScript program"):
        readers.read(path)


def containers(value, storages=()):
    """The two containers of `torch.save` around a value for a pickle (or a pickle's bytes)."""
    content = value if isinstance(value, bytes) else pickled(value)
    return {"zip.pth": files.torch_zip(content, storages), "legacy.pth": files.torch_legacy(content, storages)}


def test_files_written_by_hand_are_read_without_pytorch(write):
    for legacy in (False, True):
        values, storages = files.tensors({k: v for k, v in ARRAYS.items() if v.dtype == "float32"}, legacy)
        pack = files.torch_legacy if legacy else files.torch_zip
        found = readers.read(write("model.pth", pack(pickled(values), storages)))[1]
        assert_equal(found, {name: ARRAYS[name] for name in values})


def test_notes_are_what_stands_beside_tensors():
    tensors = {"bias": np.zeros(2)}
    assert torch_files.notes_in({"meta": {"a": 1}, "state_dict": tensors, "epoch": 3}) == {"meta": {"a": 1}}
    for value in (tensors, [tensors], 3):
        assert torch_files.notes_in(value) == {}


def test_big_endian_files_are_read(write):
    values = np.arange(3, dtype="float32")
    raw = {"0": values.astype(">f4").tobytes()}
    for legacy in (False, True):
        content = pickled({"w": tensor(storage("0", 3, legacy=legacy), 0, (3,), (1,))})
        data = (
            files.torch_legacy(content, raw, little=False) if legacy else files.torch_zip(content, raw, byteorder="big")
        )
        assert_equal(readers.read(write("model.pth", data))[1], {"w": values})


def test_the_stride_of_an_axis_of_one_means_nothing(write):
    values = {"w": tensor(storage("0", 4), 1, (1, 3), (1 << 400, 1))}
    found = readers.read(write("model.pth", files.torch_zip(pickled(values), FOUR)))[1]
    assert_equal(found, {"w": np.float32([[1, 2, 3]])})


def test_python_2_files_are_read(write):
    """An OrderedDict made of a list of pairs, names as byte strings, storages that are parts of others."""
    whole = np.arange(6, dtype="float32")
    row = storage("0", 6, view=("0b", 2, 3), legacy=True)
    pairs = [[Raw(b"U\x06conv.w"), tensor(row, 1, (2,), (1,))]]
    content = pickled(Call(Name("collections", "OrderedDict"), (pairs,)))
    found = readers.read(write("model.pth.tar", files.torch_legacy(content, {"0": whole.tobytes()})))[1]
    assert_equal(found, {"conv.w": whole[3:5]})


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a.weight": 1}, "a.weight"),
        ({"epoch": 3, "model_state": {"a.weight": 1}}, "a.weight"),
        ({"state_dict": {"module.a.weight": 1, "module.b": 2}, "state_dict_ema": {"a": 1}}, "a.weight"),
        ({"model": {"state_dict": {"a.weight": 1}}, "optimizer": {"state": {0: {"buffer": 1}}}}, "a.weight"),
        ({"model": {"name": "x"}, "state_dict": {"a.weight": 1}}, "a.weight"),
        ({"model_ema": {"n_averaged": 1, "module._orig_mod.a.weight": 1}, "epoch": 4}, "a.weight"),
        ({"my weights": {"a.weight": 1}, "note": "?"}, "a.weight"),
        ({"module.a.weight": 1, "b.module.c": 1}, "module.a.weight"),
    ],
)
def test_the_state_dict_is_found(value, found):
    def arrays(value, key=None):
        if isinstance(value, dict):
            return {name: arrays(item, name) for name, item in value.items()}
        return value if key in ("epoch", "name", "note") else np.zeros(value)

    assert next(iter(torch_files.tensors_in(arrays(value)))) == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3, "mine": {"a": np.ones(1)}, "yours": {"a": np.ones(1)}}, r"'epoch' \(int\), 'mine' \(dict of 1\)"),
        ({}, "an empty dict"),
        (np.ones((2, 3)), r"a ndarray of shape \(2, 3\)"),
        ({"state": {0: {"buffer": np.ones(1)}}}, r"'state' \(dict of 1\)"),
        ({str(i): i for i in range(20)}, r"'11' \(int\), \.\.\.:"),
    ],
)
def test_no_state_dict_lists_what_there_is(value, message):
    with pytest.raises(ValueError, match=message):
        torch_files.tensors_in(value)


# Hostile pickles ---------------------------------------------------------------------------------------------------


class Runs:
    """Pickled as a call."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


NAMESPACE = Name("argparse", "Namespace")
OBJECT = pickled(NAMESPACE)[:-1] + b")\x81."  # a Namespace without its attributes


def _hostile(marker):
    """(the name a refusal has to tell, a pickle that would make the file `marker`)."""
    touch = f"open({str(marker)!r}, 'w').close()"
    system = f"{os.system.__module__}.system"
    getattr_chain = Runs(getattr, Runs(__import__, "os"), "system")
    text = str(marker).encode()
    return [
        (system, pickle.dumps(Runs(os.system, f"touch {marker}"))),
        (system, pickle.dumps({"model_state": {"a": Runs(os.system, f"touch {marker}")}}, 4)),
        ("__builtin__.eval", pickle.dumps(Runs(eval, touch), 2)),
        ("builtins.exec", pickle.dumps(Runs(exec, touch), 4)),
        ("builtins.getattr", pickle.dumps(getattr_chain, 4)),
        ("subprocess.Popen", pickle.dumps(Runs(__import__("subprocess").Popen, ["touch", str(marker)]))),
        ("builtins.open", b"cbuiltins\nopen\n(X" + len(text).to_bytes(4, "little") + text + b"X\1\0\0\0wtR."),
        ("posix.system", b"(S'touch " + text + b"'\niposix\nsystem\n."),
        ("posix.system", b"(cposix\nsystem\nS'touch " + text + b"'\no."),
        ("torch.storage._load_from_bytes", pickled(Call(Name("torch.storage", "_load_from_bytes"), ("x",)))),
        ("torch.load", pickled(Call(Name("torch", "load"), (str(marker),)))),
        ("copyreg._reconstructor", pickle.dumps(argparse.Namespace(a=1), 0).replace(b"copy_reg", b"copyreg")),
        ("calls argparse.Namespace", pickled(Call(NAMESPACE, ()))),
        ("calls argparse.Namespace", pickled(Call(NAMESPACE, (1 << 40,)))),
        ("an object of argparse.Namespace", pickled(NAMESPACE)[:-1] + b"(X\1\0\0\0at\x81."),
        ("an object of collections.OrderedDict", b"\x80\x02ccollections\nOrderedDict\n)\x81."),
        ("an object of a str", b"\x80\x02X\1\0\0\0a)\x81."),
        ("an object of argparse.Namespace", OBJECT[:-1] + b")\x81."),
        ("calls argparse.Namespace", OBJECT[:-1] + b")R."),
        ("sets the state of argparse.Namespace", pickled(Build(NAMESPACE, {"__setstate__": 1}))),
        ("sets the state of argparse.Namespace", pickled(Build(Raw(OBJECT[2:-1]), ({"a": 1}, {"__class__": 1})))),
        ("sets the state of argparse.Namespace", pickled(Build(Build(Raw(OBJECT[2:-1]), {"a": 1}), {"a": 2}))),
        ("sets items of argparse.Namespace", OBJECT[:-1] + b"X\1\0\0\0aNs."),
        ("argparse._sys", pickled({"a": Name("argparse", "_sys")})),
        ("argparse.Namespace.__init__", b"\x80\x04\x8c\x08argparse\x8c\x12Namespace.__init__\x93."),
        ("can't be read", pickled(Call(Name("types", "SimpleNamespace"), ({"a": 1},)))),
        ("types.FunctionType", pickled(Call(Name("types", "FunctionType"), (1, 2)))),
        ("calls builtins.list", pickled(Call(Name("builtins", "list"), ([1],)))),
        ("makes a set of a int", pickled(Call(Name("builtins", "set"), (1 << 40,)))),
        ("path of something else than text", pickled(Call(Name("pathlib", "PosixPath"), ("a", 1)))),
        ("pathlib.Path.unlink", b"\x80\x04\x8c\x07pathlib\x8c\x0bPath.unlink\x93."),
        ("can't be read", pickled(Call(Name("collections", "defaultdict"), (Name("os", "system"),)))),
        ("collections.OrderedDict.fromkeys", b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93)R."),
        ("numpy.core.multiarray.fromfile", pickled(Call(Name("numpy.core.multiarray", "fromfile"), (str(marker),)))),
        ("numpy.load", pickled(Call(Name("numpy", "load"), (str(marker),)))),
        ("imported_by_a_pickle.f", pickled(Name("imported_by_a_pickle", "f"))),
        ("EXT1", b"\x80\x02\x82\x01."),
        ("PERSID", b"Pstorage\n."),
        ("sets the state of a dict", pickled(Build({}, {"__class__": 1}))),
        ("sets the state of collections.OrderedDict", pickled(Build(Name("collections", "OrderedDict"), {"a": 1}))),
        ("sets the state of a tuple", pickled(Build((1,), {"__setstate__": 1}))),
        ("calls torch.FloatStorage", pickled(Call(Name("torch", "FloatStorage"), (1 << 40,)))),
        ("calls a str", pickled(Call("system", ("touch",)))),
        ("sets items of torch.Size", pickled(Name("torch", "Size"))[:-1] + b"X\1\0\0\0aNs."),
        ("appends to collections.OrderedDict", pickled(Name("collections", "OrderedDict"))[:-1] + b"Na."),
        ("NumPy values of type 'O'", pickled(Call(Name("numpy", "dtype"), ("O", False, True)))),
        ("NumPy values of type 'V8'", pickled(Call(Name("numpy", "dtype"), ("V8",)))),
    ]  # fmt: skip


def test_objects_of_harmless_classes_are_read_as_what_they_hold(torch, save):
    arguments = argparse.Namespace(lr=0.1, milestones=[1, 2], output=pathlib.Path("/runs/a"), nested=None)
    arguments.nested = argparse.Namespace(size=torch.Size([1]), dtype=torch.float16)
    counts = defaultdict(list, a=[1])
    value = {
        "args": arguments,
        "more": types.SimpleNamespace(name="x", empty=argparse.Namespace()),
        "counts": counts,
        "names": {"b"},
        "nested": OrderedDict(a=defaultdict(OrderedDict)),
        "best": np.float32(0.5),
        "weights": {"w": torch.ones(2)},
    }
    found = torch_files.read_object(save(value))
    assert {type(found[key]) for key in ("args", "more")} == {pickles.Record}
    assert (found["args"].name, found["more"].name) == ("argparse.Namespace", "types.SimpleNamespace")
    state = found["args"].state
    assert (state["lr"], state["milestones"], state["output"]) == (0.1, [1, 2], "/runs/a")
    assert state["nested"].state["size"] == (1,)
    assert found["more"].state["name"] == "x"
    assert found["more"].state["empty"].state == {}
    assert (found["counts"], found["names"], found["best"]) == ({"a": [1]}, ("b",), 0.5)
    assert type(found["counts"]) is dict
    assert_equal(readers.read(save(value))[1], {"w": np.ones(2, "float32")})


def test_records_do_nothing_whatever_their_attributes_are_called(write, tmp_path):
    """Names of methods are plain attributes, and one that holds itself is no trouble."""
    state = {"__class__": "x", "__setstate__": 1, "__reduce__": 2, "__dict__": {"__init__": 3}}
    itself = b"q\x07}(X\2\0\0\0meh\x07ub"
    value = {
        "a": Build(Raw(OBJECT[2:-1]), state),
        "b": Raw(OBJECT[2:-1] + itself),
        "w": {"w": tensor(ROW, 0, (4,), (1,))},
    }
    path = write("model.pth", files.torch_zip(pickled(value), FOUR))
    found = torch_files.read_object(path)
    assert type(found["a"]) is pickles.Record
    assert found["a"].state == state
    assert found["b"].state["me"] is found["b"]
    assert repr(found["b"]) == "argparse.Namespace"
    assert_equal(readers.read(path)[1], {"w": np.arange(4, dtype="float32")})


HOSTILE = [pytest.param(i, id=f"{i} {name}") for i, (name, _) in enumerate(_hostile("m"))]


@pytest.mark.parametrize("index", HOSTILE)
def test_a_hostile_pickle_runs_nothing_and_is_refused_by_name(index, write, tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "imported_by_a_pickle.py").write_text(f"open({str(marker)!r}, 'w').close()\ndef f(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    name, content = _hostile(marker)[index]
    for file, data in containers(content).items():
        path = write(file, data)
        with pytest.raises(ValueError, match="can't be read as a PyTorch checkpoint") as caught:
            readers.read(path)
        assert name in str(caught.value)
        assert file in str(caught.value)
    assert not marker.exists()
    assert "imported_by_a_pickle" not in sys.modules


def test_the_hostile_pickles_are_no_straw_men(tmp_path):
    """The machinery of the test above would notice: Python's own pickle makes the file."""
    pickle.loads(_hostile(tmp_path / "marker")[0][1])
    assert (tmp_path / "marker").exists()


def refused(path, message):
    """Reading is refused with this message and the file's name, soon and without much memory."""
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(ValueError, match=message) as caught:
        readers.read(path)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 3000
    assert seconds < 30
    assert peak < 400e6


ROW = storage("0", 4)
RECONSTRUCT = Name("numpy.core.multiarray", "_reconstruct")
FOUR = {"0": np.arange(4, dtype="float32").tobytes()}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": tensor(ROW, 0, (1 << 20, 1 << 20), (0, 0))}, "doesn't fit its storage of 4 values"),
        ({"w": tensor(ROW, 0, (5,), (1,))}, "doesn't fit"),
        ({"w": tensor(ROW, 0, (5,), (0,))}, "doesn't fit"),
        ({"w": tensor(ROW, 1, (4,), (1,))}, "doesn't fit"),
        ({"w": tensor(ROW, 0, (2, 2), (3, 1))}, "doesn't fit"),
        ({"w": tensor(ROW, 4, (), ())}, "doesn't fit"),
        ({"w": tensor(ROW, 0, (2,), (1 << 400,))}, "doesn't fit"),
        ({"w": tensor(ROW, -1, (1,), (1,))}, "something else than sizes"),
        ({"w": tensor(ROW, 0, (2,), (-1,))}, "something else than sizes"),
        ({"w": tensor(ROW, 0, (2.0,), (1,))}, "something else than sizes"),
        ({"w": tensor(ROW, 0, (2,), ())}, "1 axes and 0 strides"),
        ({"w": tensor(ROW, 0, (1,) * 99, (1,) * 99)}, "99 axes"),
        ({"w": tensor(ROW, 0, (0, 1 << 62), (1, 1))}, "can't be read"),
        ({"w": tensor(storage("0", 1 << 50), 0, (1,), (1,))}, "storage .*1125899906842624 values"),
        ({"w": tensor(storage("0", 4, "QInt8Storage"), 0, (4,), (1,))}, "torch.QInt8Storage"),
        ({"w": tensor("not a storage", 0, (4,), (1,))}, "can't be read"),
        ({"w": files.Persistent(("module", "x"))}, "points to something else than a storage"),
        ({"w": Raw(b"\x8a\xff" + bytes(254) + b"\1")}, "more than 512 bits"),
        ({"w": Raw(b"h\x05")}, "value 5, which was never kept"),
        (Raw(b"}(X\1\0\0\0aNX\1\0\0\0aNu"), "the key 'a' twice"),
        ({(1, 2): 3}, "a tuple as a key"),
        ({1 << 61: 3}, "a int as a key"),
        (Raw(b"(N"), "in the middle of something"),
        (Raw(b"NN"), "in the middle of something"),
        (Raw(b"t"), "no mark"),
        (Raw(b"(R"), "empty stack"),
        (Call(Name("_codecs", "encode"), ("x", "rot13")), "as latin1"),
        (Call(RECONSTRUCT, (Name("collections", "OrderedDict"), (0,), "b")), "unknown kind of array"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(write, value, message):
    for file, data in containers(value, FOUR).items():
        refused(write(file, data), "can't be read" if file.startswith("legacy") else message)


NDARRAY = Call(RECONSTRUCT, (Name("numpy", "ndarray"), (0,), "b"))
F8 = Call(Name("numpy", "dtype"), ("f8", False, True))


@pytest.mark.parametrize("shape", [(1 << 40,), (2, 3), (-1,), (1 << 62, 1 << 62)])
def test_numpy_arrays_larger_than_their_bytes_are_refused(write, shape):
    content = pickled({"a": Build(NDARRAY, (1, shape, F8, False, "x" * 8))})
    message = r"array of shape \(.*\) and 8 bytes|something else than sizes"
    refused(write("a.pth", files.torch_zip(content)), message)


@pytest.mark.slow
def test_pickles_made_to_exhaust_are_refused(write, monkeypatch):
    monkeypatch.setattr(limits, "PICKLE_OPERATIONS", 100_000)

    def build(content):
        return write("bomb.pth", files.torch_zip(b"\x80\x02" + content))

    nested = 40_000
    refused(build(b"]" * nested + b"a" * (nested - 1) + b"."), "holds a list")  # deep, and harmless
    refused(
        build(b"".join(b"]r" + i.to_bytes(4, "little") for i in range(1_100_000)) + b"."), "100,000 pickle operations"
    )
    refused(build(b"]r\xff\xff\xff\xff0N."), "holds a NoneType")  # a list as long as the highest number would not do
    refused(build(b"(" * 100_001 + b"."), "100,000 pickle operations")
    # Nested pairs of the same pair: 2 ** 60 leaves for whoever walks through them, or hashes them.
    pairs = b")q\x000" + b"h\x00h\x00\x86q\x000" * 60
    refused(build(pairs + b"h\x00."), "holds a tuple")
    refused(build(b"}" + pairs + b"h\x00Ns."), "a tuple as a key")
    refused(build(b"X\xff\xff\xff\xffabc."), "can't be read")
    refused(build(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc."), "can't be read")
    refused(build(b"I" + b"9" * 5000 + b"\n."), "can't be read")
    # One large value copied again and again: a dict as the counts of Counters, a list as sets, sizes and paths.
    many = b"".join(b"K" + bytes([i]) for i in range(256)) * 4
    large = (
        b"}("
        + b"".join(b"J" + i.to_bytes(4, "little") + b"N" for i in range(1000))
        + b"uq\x00"
        + b"0]("
        + many
        + b"eq\x010"
    )
    for call, kept in [("collections\nCounter", 0), ("builtins\nset", 1)]:
        copies = f"c{call}\n".encode() + b"q\x020](" + (b"h\x02h" + bytes([kept]) + b"\x85R") * 10_000 + b"e."
        refused(build(large + copies), "far more than weights need")
    refused(build(large + b"ctorch\nSize\nh\x01\x85R."), "1024 sizes")
    # One text of a megabyte made into bytes 1,000 times.
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20) + b"q\x000"
    encode = b"c_codecs\nencode\nq\x010]" + b"h\x01h\x00X\6\0\0\0latin1\x86Ra" * 1000
    refused(build(text + encode + b"."), "far more than weights need")


def test_views_cannot_multiply_a_storage_s_memory(write):
    """Each view of a bfloat16 storage is converted: 1,000 of a megabyte's would be two gigabytes."""
    count = 1 << 19
    values = {
        str(i): tensor(storage("0", count, "BFloat16Storage", (f"v{i}", i, count - i), legacy=True))
        for i in range(1000)
    }
    data = files.torch_legacy(pickled(values), {"0": bytes(2 * count)}, counts={"0": count})
    refused(write("views.pth", data), "far more than weights need")


def test_zip_archives_made_to_exhaust_are_refused(write):
    content = pickled({"w": tensor(storage("0", 1 << 24), 0, (1 << 24,), (1,))})
    raw = {"0": bytes(1 << 26)}
    refused(write("bomb.pth", files.torch_zip(content, raw, compression=zipfile.ZIP_DEFLATED)), "is compressed")
    # Several entries at the same place, each as large as the file.
    raw = {str(i): (b"x" * 100_000 if i == 0 else b"x" * 40) for i in range(50)}
    data = files.torch_zip(pickled({}), raw)
    places = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02" and b"data/" in data[i + 46 : i + 64]]
    data = bytearray(data)
    for place in places[1:]:
        data[place + 16 : place + 28] = data[places[0] + 16 : places[0] + 28]  # checksum and sizes
        data[place + 42 : place + 46] = data[places[0] + 42 : places[0] + 46]  # where it is
    refused(write("overlap.pth", bytes(data)), "larger than the file")


def test_archives_that_contradict_themselves_are_refused(write, tmp_path):
    values, storages = files.tensors({"w": ARRAYS["conv1.weight"]})
    data = files.torch_zip(pickled(values), storages)
    path = tmp_path / "twice.pth"
    path.write_bytes(data)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", storages["0"])
    refused(path, "'archive/data/0' is there twice")
    path.write_bytes(data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", pickled({}))
    refused(path, "has 2 pickles")
    refused(write("lacks.pth", files.torch_zip(pickled(values))), "lacks the data of storage '0'")
    refused(write("order.pth", files.torch_zip(pickled(values), storages, byteorder="middle")), "can't be read")
    place = data.index(ARRAYS["conv1.weight"].tobytes())
    refused(write("changed.pth", data[:place] + b"\0" + data[place + 1 :]), "'archive/data/0' is cut off or damaged")
    half = {"a": tensor(storage("0", 72), 0, (1,), (1,)), "b": tensor(storage("0", 144, "HalfStorage"), 0, (1,), (1,))}
    refused(write("both.pth", files.torch_zip(pickled(half), storages)), "is both float32 and float16")


def test_files_of_before_1_6_that_contradict_themselves_are_refused(write):
    values, storages = files.tensors({"w": ARRAYS["conv1.weight"]}, legacy=True)
    content = pickled(values)
    refused(write("cut.pth", files.torch_legacy(content, storages, counts={"0": 1 << 60})), "storage '0' is cut off")
    refused(write("none.pth", files.torch_legacy(content)), "list of storages is not the one")
    refused(write("more.pth", files.torch_legacy(content, {**storages, "1": b""})), "list of storages is not the one")
    head = pickled(files.MAGIC)
    refused(write("protocol.pth", head + pickled(1002) + pickled({})), "its format is 1002")
    refused(write("pickle.pth", pickled({"a": 1})), "a Python pickle that torch.save did not write")


def test_cut_off_files_are_refused(write):
    for legacy in (False, True):
        values, storages = files.tensors(ARRAYS if not legacy else {"w": ARRAYS["conv1.bias"]}, legacy)
        data = (files.torch_legacy if legacy else files.torch_zip)(pickled(values), storages)
        assert len(readers.read(write("whole.pth", data))[1]) == len(values)
        for size in range(0, len(data) - 1, max(len(data) // 60, 1)):
            with pytest.raises(ValueError, match=r"cut\.pth"):
                readers.read(write("cut.pth", data[:size]))


# Safetensors -------------------------------------------------------------------------------------------------------


def test_safetensors_are_read(write):
    arrays = {
        "b": np.arange(6, dtype="float32").reshape(2, 3),
        "a": np.float32([7]),
        "scalar": np.float32(3)[None][0:1],
    }
    path = write("weights.bin", files.safetensors(arrays, __metadata__={"format": "pt"}))
    kind, found = readers.read(path)
    assert kind == "safetensors"
    assert_equal(found, arrays)
    assert safetensors.parse(files.safetensors({})) == {}


@pytest.mark.parametrize("code", safetensors.DTYPES)
def test_every_safetensors_type_is_read(write, code):
    name = safetensors.DTYPES[code]
    array = np.array([0, 1, 1], "uint16" if name == "bfloat16" else name)
    found = readers.read(write("a.safetensors", files.safetensors({"x": array}, code)))[1]["x"]
    if name == "bfloat16":
        array = np.array([0, 1, 1], "uint32").__lshift__(16).view("float32")
    np.testing.assert_array_equal(found, array, strict=True)


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, "'b' begins at byte 4, the array before ends at 8"),
        ({"a": entry(0, 8), "b": entry(12, 16, (1,))}, "'b' begins at byte 12"),
        ({"a": entry(0, 8)}, "end at byte 8 of 16"),
        ({"a": entry(0, 24, (6,))}, "takes bytes 0 to 24 of 16"),
        ({"a": entry(8, 0)}, "takes bytes 8 to 0"),
        ({"a": entry(0, 16, (1 << 40,))}, r"'a': shape .* takes 4398046511104 bytes, there are 16"),
        ({"a": entry(0, 16, (1 << 62, 1 << 62))}, "'a': shape"),
        ({"a": entry(0, 16, (-2, -2))}, "for sizes or offsets"),
        ({"a": entry(0, 16, (True, 4))}, "for sizes or offsets"),
        ({"a": entry(0, 16, ("4",))}, "for sizes or offsets"),
        ({"a": entry(0.0, 16)}, "for sizes or offsets"),
        ({"a": entry(0, 16, dtype="F8_E4M3")}, "'a' has dtype 'F8_E4M3'; can be read: F64, F32"),
        ({"a": {"shape": [4]}}, "'a' lacks a dtype"),
        ({"a": 3}, "'a' lacks a dtype"),
    ],
)
def test_safetensors_that_cannot_be_are_refused(write, header, message):
    data = files.safetensors_raw(json.dumps(header).encode(), bytes(16))
    refused(write("a.safetensors", data), message)
    theirs = pytest.importorskip("safetensors")
    with pytest.raises(theirs.SafetensorError):  # the package refuses it too, in fewer words
        theirs.deserialize(data)


def test_damaged_safetensors_are_refused(write):
    double = json.dumps({"a": entry(0, 8)})[:-1] + ", " + json.dumps({"a": entry(8, 16)})[1:]
    refused(write("twice.safetensors", files.safetensors_raw(double.encode(), bytes(16))), "the name 'a' twice")
    refused(write("deep.safetensors", files.safetensors_raw(b'{"a": ' + b"[" * 200_000, b"")), "can't be read")
    with pytest.raises(ValueError, match="its header is no JSON object"):
        safetensors.parse(files.safetensors_raw(b"[]"))
    refused(write("text.safetensors", files.safetensors_raw(b"{no JSON", b"")), "can't be read as a safetensors file")
    refused(write("long.safetensors", (1 << 60).to_bytes(8, "little") + b"{}"), "a .safetensors file that begins")


# HDF5 --------------------------------------------------------------------------------------------------------------

LAYERS = {
    "Conv": {"Conv/kernel:0": ARRAYS["conv1.weight"], "Conv/bias:0": ARRAYS["conv1.bias"]},
    "relu": {},
    "Conv_BN": {f"Conv_BN/{name}:0": np.full(2, i, "float32") for i, name in enumerate(["gamma", "beta"])},
}


@pytest.mark.parametrize("settings", [{}, {"group": "model_weights"}, {"long": True}])
def test_keras_2_weights_are_read_by_the_weights_names(tmp_path, settings):
    path = tmp_path / "weights.h5"
    files.keras_2_h5(path, LAYERS, **settings)
    kind, arrays = readers.read(path)
    assert kind == "h5"
    assert_equal(arrays, {name: array for weights in LAYERS.values() for name, array in weights.items()})


def test_weights_that_belong_to_no_layer_are_read(tmp_path):
    import h5py

    path = tmp_path / "weights.h5"
    files.keras_2_h5(path, LAYERS)
    with h5py.File(path, "a") as file:
        file["top_level_model_weights/scale"] = np.ones(1)
        file["top_level_model_weights"].attrs["weight_names"] = ["scale"]
    assert list(readers.read(path)[1])[-1] == "scale"


@pytest.fixture(scope="module")
def network():
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_BN")(x)
    x = layers.SeparableConv2D(2, 3, name="last")(x)
    return keras.Model(inputs, x, name="network")


INDICES = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}


def test_keras_3_weights_are_read_by_layer_and_index(network, tmp_path):
    path = tmp_path / "model.weights.h5"
    network.save_weights(path)
    expected = {}
    for layer in network.layers:
        for index, variable in enumerate(layer.weights):
            expected[f"{layer.name}/vars/{index}"] = variable.numpy()
    found = readers.read(path)[1]
    assert_equal({name: found[name] for name in sorted(found)}, {name: expected[name] for name in sorted(expected)})


def test_keras_3_weights_without_layers_names_are_read_by_path(network, tmp_path):
    import h5py

    path = tmp_path / "model.weights.h5"
    network.save_weights(path)
    with h5py.File(path, "a") as file:
        del file["layers/conv2d/vars"].attrs["name"]
        file["optimizer/vars/0"] = np.ones(3)
    found = readers.read(path)[1]
    np.testing.assert_array_equal(found["layers/conv2d/vars/0"], network.get_layer("stem").kernel.numpy())
    assert not [name for name in found if not name.startswith("layers/")]
    with h5py.File(path, "a") as file:
        file["layers/conv2d/vars"].attrs["name"] = "last"  # as another layer in it
    assert list(readers.read(path)[1]) == list(found)


def test_a_whole_model_that_keras_3_wrote_as_h5_is_read(network, tmp_path):
    path = tmp_path / "model.h5"
    network.save(path)
    expected = {variable.path: variable.numpy() for variable in network.weights}
    found = readers.read(path)[1]
    assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in expected.items()}
    np.testing.assert_array_equal(found["stem/kernel"], expected["stem/kernel"])


def test_bfloat16_and_packed_weights_are_read(tmp_path):
    import h5py

    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        brain = np.array([1.0, -2.5], tf.bfloat16.as_numpy_dtype)
        file["layers/dense/vars/0"] = brain
        file["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
        file.create_dataset("layers/dense/vars/1", data=np.arange(500.0), compression="gzip", shuffle=True)
    found = readers.read(path)[1]
    np.testing.assert_array_equal(found["layers/dense/vars/0"], np.float32([1, -2.5]), strict=True)
    np.testing.assert_array_equal(found["layers/dense/vars/1"], np.arange(500.0), strict=True)


def test_h5_files_that_point_elsewhere_or_cannot_be_are_refused(tmp_path, monkeypatch):
    import h5py

    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["layers/a/vars/0"] = np.ones(3)
    (tmp_path / "raw").write_bytes(bytes(64))

    def external(file):
        file["layers"] = h5py.ExternalLink(str(secret), "/layers")

    def soft(file):
        file["layers/a/vars/0"] = np.ones(2)
        file["layers/a/vars/1"] = h5py.SoftLink("/layers/a/vars/0")

    def virtual(file):
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "layers/a/vars/0", (3,))
        file.create_virtual_dataset("layers/a/vars/0", layout)

    def outside(file):
        file.create_dataset("layers/a/vars/0", (16,), "f4", external=[(str(tmp_path / "raw"), 0, 64)])

    def huge(file):
        file.create_dataset("layers/a/vars/0", (1 << 40,), "f4")

    def packed(file):
        file.create_dataset("layers/a/vars/0", data=np.zeros(1 << 24), compression="gzip")

    def circle(file):
        file["layers/a/vars/0"] = np.ones(2)
        file["layers/a/again"] = file["layers"]

    def ways(file):  # to the deepest group: 2 ** 30
        group = file.create_group("layers")
        for _ in range(30):
            group["left"] = group["right"] = group = group.create_group("once")

    def text(file):
        file["layers/a/vars/0"] = "a text"

    def filtered(file):
        file.create_dataset("layers/a/vars/0", data=np.zeros(99, "i4"), scaleoffset=True)

    def other(file):
        file["images"] = np.ones(3)

    def missing(file):
        file.attrs["layer_names"] = [b"conv"]

    def twice(file):
        file.attrs["layer_names"] = [b"a", b"b"]
        for layer in "ab":
            file[f"{layer}/w:0"] = np.ones(2)
            file[layer].attrs["weight_names"] = [b"w:0"]

    reader = files.KeptReader()
    monkeypatch.setattr(hdf5, "Reader", lambda: reader)
    for make, message in [
        (external, "'layers' is a link"),
        (soft, "'1' is a link"),
        (virtual, "is in other files"),
        (outside, "is in other files"),
        (huge, "far more than weights need"),
        (packed, "far more than weights need"),
        (filtered, r"is packed with filters \[6\]"),
        (circle, "in circles"),
        (ways, "in circles"),
        (text, "values of type object"),
        (other, "no weights of Keras: it holds images"),
        (missing, "lacks 'conv'"),
        (twice, "two arrays 'w:0'"),
    ]:
        path = tmp_path / f"{make.__name__}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        refused(path, message)
    reader.stop()


@pytest.mark.parametrize(
    ("code", "wait"),
    [
        ("import os; os.abort()", 20),
        ("import time; time.sleep(60)", 1),
        ("import sys; sys.stdout.write('+' + chr(255) * 8)", 20),
        ("import sys; sys.stdout.write('+')", 20),
    ],
)
def test_a_failing_hdf5_library_is_an_error(tmp_path, monkeypatch, code, wait):
    """The library crashes, hangs, or answers nonsense."""
    files.keras_2_h5(tmp_path / "a.h5", LAYERS)
    child = tmp_path / "child.py"
    child.write_text(code)
    monkeypatch.setattr(hdf5, "_CHILD", child)
    monkeypatch.setattr(limits, "HDF5_WAIT", wait)
    monkeypatch.setattr(limits, "HDF5_SECONDS", 1)
    refused(tmp_path / "a.h5", "crashed or went on without end")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits on processor time and memory are Linux's")
@pytest.mark.parametrize("code", ["while True: pass", "import mmap; x = mmap.mmap(-1, 8 << 30)"])
def test_the_process_that_reads_hdf5_has_limits(tmp_path, monkeypatch, code):
    files.keras_2_h5(tmp_path / "a.h5", LAYERS)
    child = tmp_path / "child.py"
    text = hdf5._CHILD.read_text().replace("    import h5py\n", f"    import h5py\n    {code}\n", 1)
    child.write_text(text)
    monkeypatch.setattr(hdf5, "_CHILD", child)
    monkeypatch.setattr(limits, "HDF5_SECONDS", 1)
    start = time.perf_counter()
    refused(tmp_path / "a.h5", "crashed or went on without end|Cannot allocate memory")
    assert time.perf_counter() - start < limits.HDF5_WAIT  # it ended by itself


# Frozen graphs -----------------------------------------------------------------------------------------------------

VARIABLES = {
    "MobilenetV2/Conv/weights": ARRAYS["conv1.weight"],
    "MobilenetV2/Conv/BatchNorm/beta": np.zeros(300, "float32"),
    "logits/semantic/biases": ARRAYS["conv1.bias"],
    "global_step": np.array(-7, "int64"),
    **{name: np.array([0, 1, 2], name) for name in ("float64", "float16", "int32", "uint8", "int8", "int16", "bool")},
}


def test_a_frozen_graph_gives_its_variables(write):
    kind, arrays = readers.read(write("frozen_inference_graph.pb", files.frozen_graph(VARIABLES)))
    assert kind == "pb"
    assert_equal(arrays, VARIABLES)


def test_a_graph_frozen_by_tensorflow_gives_its_variables(tmp_path):
    v1 = tf.compat.v1
    values = {"scope/Conv/weights": ARRAYS["conv1.weight"], "scope/Conv/biases": ARRAYS["conv1.bias"]}
    with tf.Graph().as_default() as graph, v1.Session() as session:
        made = [v1.Variable(value, name=name, use_resource=False) for name, value in values.items()]
        output = tf.add(made[0][0, 0, 0, 0], made[1], name="output")
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), [output.op.name])
    (tmp_path / "graph.pb").write_bytes(frozen.SerializeToString())
    found = readers.read(tmp_path / "graph.pb")[1]
    assert_equal({name: found[name] for name in values}, values)
    assert set(found) == set(values)


def test_constants_are_read_however_they_stand():
    """A value for all, the first ones and the last for the rest, packed or not, in the lists of each type."""
    types = tf.dtypes
    graph = tf.compat.v1.GraphDef()
    rows = {
        "all": ("float_val", [2.5], types.float32, (2, 3), np.full((2, 3), 2.5, "float32")),
        "first": ("int_val", [3, -4], types.int32, (4,), np.array([3, -4, -4, -4], "int32")),
        "long": ("int64_val", [-(1 << 40)], types.int64, (), np.array(-(1 << 40))),
        "half": ("half_val", [15360, 49152], types.float16, (2,), np.float16([1, -2])),
        "brain": ("half_val", [16256], types.bfloat16, (1,), np.float32([1])),
        "bool": ("bool_val", [True, False], types.bool, (2,), np.array([True, False])),
        "none": ("float_val", [], types.float32, (2,), np.zeros(2, "float32")),
        "empty": ("float_val", [], types.float32, (0, 3), np.zeros((0, 3), "float32")),
    }
    for name, (field, items, dtype, shape, _) in rows.items():
        node = graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.dtype = dtype.as_datatype_enum
        node.attr["value"].tensor.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
        getattr(node.attr["value"].tensor, field).extend(items)
    text = graph.node.add(name="text", op="Const")
    text.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("text"))
    assert_equal(frozen_graph.parse(graph.SerializeToString()), {k: row[-1] for k, row in rows.items()})


def test_constants_that_folding_made_of_variables_are_read():
    graph = tf.compat.v1.GraphDef()
    for name in ("a/weights/read/_6__cf__6", "b/kernel/Conv2D/ReadVariableOp/resource", "axis"):
        node = graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0))
    assert list(frozen_graph.parse(graph.SerializeToString())) == ["a/weights", "b/kernel/Conv2D"]
    node.name = "a/weights"
    graph.node.add(name="a/weights/read", op="Identity", input=["a/weights"])
    with pytest.raises(ValueError, match="two constants for 'a/weights'"):
        frozen_graph.parse(graph.SerializeToString())


def test_graphs_that_cannot_be_are_refused(write, monkeypatch):
    def graph(**fields):
        made = tf.compat.v1.GraphDef()
        node = made.node.add(name="w", op="Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = 1
        tensor.tensor_shape.dim.add(size=fields.get("size", 2))
        tensor.tensor_content = fields.get("content", b"")
        tensor.float_val.extend(fields.get("values", []))
        return made

    refused(write("a.pb", graph(size=1 << 50, values=[1.0]).SerializeToString()), "far more than weights need")
    refused(write("a.pb", graph(size=-1, values=[1.0]).SerializeToString()), "unknown size")
    refused(write("a.pb", graph(content=bytes(12)).SerializeToString()), r"'w' has shape \[2\] and 3 values")
    refused(write("a.pb", graph(values=[1.0, 2.0, 3.0]).SerializeToString()), r"'w' has shape \[2\] and 3 values")
    double = graph(values=[1.0])
    double.node.add().CopyFrom(double.node[0])
    refused(write("a.pb", double.SerializeToString()), "two nodes 'w'")
    refused(write("a.pb", tf.compat.v1.GraphDef().SerializeToString() or b"\n\x00"), "holds no constants")
    monkeypatch.setattr(limits, "GRAPH_FIELDS", 1000)
    refused(write("a.pb", b"\x22\x00" * 1001), "more than 1,000 fields")
    monkeypatch.undo()
    whole = files.frozen_graph(VARIABLES)
    for size in range(1, len(whole) - 40, 97):  # the last bytes are the version
        with pytest.raises(ValueError, match=r"cut\.pb"):
            readers.read(write("cut.pb", whole[:size]))


# TFLite ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["float", "int8"])
def small_tflite(request, tmp_path_factory):
    """A small converted model."""
    from randomise import randomise

    layers = keras.layers
    inputs = keras.Input((9, 9, 3), batch_size=1)
    x = layers.Conv2D(8, 3, 2, "same", activation="relu6")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=1)(x)
    x = layers.Resizing(17, 17)(layers.Conv2D(4, 1)(x))
    model = randomise(keras.Model(inputs, x))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if request.param == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: [[RNG.standard_normal((1, 9, 9, 3)).astype("float32")]]
    path = tmp_path_factory.mktemp("tflite") / f"{request.param}.tflite"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
        path.write_bytes(converter.convert())
    return path


def interpreter_constants(path):
    """{index: (name, dequantised array)} as TensorFlow's interpreter sees them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        interpreter = tf.lite.Interpreter(model_path=str(path))
    constants = {}
    for details in interpreter.get_tensor_details():
        try:
            array = interpreter.get_tensor(details["index"])
        except ValueError:  # values that flow have no memory before it is allocated
            continue
        quantisation = details["quantization_parameters"]
        scales, zeros = quantisation["scales"], quantisation["zero_points"]
        if len(scales):
            shape = [1] * array.ndim
            if len(scales) > 1:
                shape[quantisation["quantized_dimension"]] = -1
            array = (array.astype("float64") - zeros.reshape(shape)) * scales.reshape(shape)
        constants[details["index"]] = (details["name"], array)
    return constants


def assert_constants_agree(path):
    graph = tflite.read_graph(path)
    found = {i: tensor for i, tensor in enumerate(graph.tensors) if tensor.array is not None}
    expected = interpreter_constants(path)
    assert len(found) > 5
    assert set(found) <= set(expected)
    for index, constant in found.items():
        name, array = expected[index]
        assert (constant.name, constant.shape) == (name, array.shape)
        np.testing.assert_allclose(constant.array, array, rtol=1e-6, atol=0, err_msg=name)
    return graph


def test_constants_of_a_converted_model_are_what_the_interpreter_has(small_tflite):
    graph = assert_constants_agree(small_tflite)
    kind, arrays = readers.read(small_tflite)
    assert kind == "tflite"
    constants = [tensor for tensor in graph.tensors if tensor.array is not None]
    assert_equal(arrays, {tensor.name: tensor.array for tensor in constants})
    kernel = next(tensor for tensor in constants if tensor.shape == (8, 3, 3, 3))
    if small_tflite.stem == "int8":
        assert kernel.dtype == "int8"
        assert kernel.scale.shape == (8,)
        assert kernel.array.dtype == "float32"
    else:
        assert (kernel.dtype, kernel.scale) == ("float32", None)


def test_operators_of_a_converted_model_are_listed(small_tflite):
    graph = tflite.read_graph(small_tflite)
    operators = {operator.name: operator for operator in graph.operators}
    convolution = operators["CONV_2D"]
    first = next(operator for operator in graph.operators if operator.name == "CONV_2D")
    assert graph.tensors[first.outputs[0]].shape == (1, 5, 5, 8)
    assert first.options == {
        "padding": "SAME",
        "stride_w": 2,
        "stride_h": 2,
        "activation": "RELU6",
        "dilation_w": 1,
        "dilation_h": 1,
    }
    assert convolution.options["activation"] is None
    assert operators["DEPTHWISE_CONV_2D"].options["depth_multiplier"] == 1
    assert operators["RESIZE_BILINEAR"].options == {"align_corners": False, "half_pixel_centers": True}
    assert [graph.tensors[index].shape for index in graph.inputs + graph.outputs] == [(1, 9, 9, 3), (1, 17, 17, 4)]


@pytest.mark.parametrize(
    ("name", "operators"),
    [("deeplabv3_257_mv_gpu", 70), ("deeplabv3_mnv2_pascal_quant", 72)],
)
def test_published_tflite_files_are_read(shared, name, operators):
    graph = assert_constants_agree(shared / f"weights/tflite/{name}.tflite")
    assert len(graph.operators) == operators
    names = Counter(operator.name for operator in graph.operators)
    assert (names["CONV_2D"], names["DEPTHWISE_CONV_2D"], names["RESIZE_BILINEAR"]) == (38, 17, 3)
    assert all(o.options["align_corners"] for o in graph.operators if o.name == "RESIZE_BILINEAR")
    assert len(readers.read(shared / f"weights/tflite/{name}.tflite")[1]) == 113


def test_damaged_tflite_files_are_refused(small_tflite, write):
    data = small_tflite.read_bytes()
    for size in range(8, len(data), len(data) // 20):
        with pytest.raises(ValueError, match=r"cut\.tflite"):
            readers.read(write("cut.tflite", data[:size]))


def edited(path, edit):
    """The bytes of a TFLite file after `edit(model, schema)`, by TensorFlow's own schema."""
    import flatbuffers

    from keras_deeplab._helpers.private import schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    edit(model, schema)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _constants(model):
    return [t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None]


def _two_names(model, schema):
    for constant in _constants(model)[:2]:
        constant.name = "one"


def _sparse(model, schema):
    _constants(model)[0].sparsity = schema.SparsityParametersT()


def _four_bits(model, schema):
    _constants(model)[0].type = schema.TensorType.INT4


def _no_buffer(model, schema):
    _constants(model)[0].buffer = 999


def _no_graph(model, schema):
    model.subgraphs = []


def _no_code(model, schema):
    model.subgraphs[0].operators[0].opcodeIndex = 99


def _no_tensor(model, schema):
    model.subgraphs[0].operators[0].inputs = [0, 999, 1]


def _other_options(model, schema):
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()


def _other_padding(model, schema):
    model.subgraphs[0].operators[0].builtinOptions.padding = 7


def _shape(model, schema):
    _constants(model)[0].shape = [1 << 30, 1 << 30]


def _scales(model, schema):
    kernel = next(constant for constant in _constants(model) if len(constant.shape) == 4)
    kernel.type, kernel.quantization = schema.TensorType.INT32, schema.QuantizationParametersT()
    kernel.quantization.scale, kernel.quantization.zeroPoint = [1.0, 2.0], [0, 0]


@pytest.mark.parametrize("small_tflite", ["float"], indirect=True)
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_two_names, "two constants 'one'"),
        (_sparse, "is sparse or of float32"),
        (_four_bits, "is sparse or of TensorType 17"),
        (_no_buffer, "is in buffer 999"),
        (_no_graph, "has no graph"),
        (_no_code, "has code 99"),
        (_no_tensor, "beyond the"),
        (_other_options, "CONV_2D has options of type AddOptions, not Conv2DOptions"),
        (_other_padding, r"padding 7; known: SAME \(0\), VALID \(1\)"),
        (_shape, "takes 4611686018427387904 bytes"),
        (_scales, "has 2 scales along axis 0"),
    ],
)
def test_tflite_files_that_cannot_be_are_refused(small_tflite, write, edit, message):
    refused(write("edited.tflite", edited(small_tflite, edit)), message)


def test_constants_behind_the_tables_of_a_large_tflite_file_are_read(small_tflite, write):
    """Files of more than 2 GB keep them there."""
    places = {}

    def point(model, schema):
        for buffer, (place, size) in places.items():
            model.buffers[buffer].data, model.buffers[buffer].offset, model.buffers[buffer].size = None, place, size

    values = {}
    edited(small_tflite, lambda model, _: values.update(enumerate(buffer.data for buffer in model.buffers)))
    values = {index: data.tobytes() for index, data in values.items() if data is not None}
    places = dict.fromkeys(values, (2, 1))
    length = len(edited(small_tflite, point))
    behind = b""
    for index, raw in values.items():
        places[index] = (length + len(behind), len(raw))
        behind += raw
    path = write("large.tflite", edited(small_tflite, point) + behind)
    assert_equal(readers.read(path)[1], readers.read(small_tflite)[1])


@pytest.mark.slow
def test_a_tflite_file_whose_tensors_are_one_over_and_over_is_refused(write, monkeypatch):
    """In a list as long as the file: work for minutes, were it not counted."""
    import flatbuffers

    from keras_deeplab._helpers.private import schema

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for offset in offsets:
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    builder = flatbuffers.Builder()
    schema.BufferStart(builder)
    buffers = vector([schema.BufferEnd(builder)])
    schema.TensorStart(builder)
    tensors = vector([schema.TensorEnd(builder)] * 20_000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = vector([schema.SubGraphEnd(builder)])
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    monkeypatch.setattr(limits, "TFLITE_VALUES", 100_000)
    before = b"\x08\0\0\0TFL3" + b"\x10\0\0\0" + bytes(8)  # its list of fields would be before the file
    refused(write("before.tflite", before), "it points to byte -6")
    refused(write("again.tflite", bytes(builder.Output())), "more than 100,000 values in its tables")


# All ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_are_known_by_their_content(write, tmp_path, network):
    values, storages = files.tensors({"w": ARRAYS["conv1.bias"]})
    old_values, _ = files.tensors({"w": ARRAYS["conv1.bias"]}, legacy=True)
    files.keras_2_h5(tmp_path / "keras2.h5", LAYERS)
    kinds = {
        "torch": [files.torch_zip(pickled(values), storages), files.torch_legacy(pickled(old_values), storages)],
        "safetensors": [files.safetensors({"w": ARRAYS["conv1.bias"]})],
        "h5": [(tmp_path / "keras2.h5").read_bytes()],
        "pb": [files.frozen_graph(VARIABLES)],
    }
    for kind, contents in kinds.items():
        for content in contents:
            for name in ("model.pth.tar", "model.keras", "model.h5", "model.pb", "model.ckpt", "model", "model.tflite"):
                path = write(name, content)
                assert kind_of(path) == kind, name
                assert readers.read(path)[0] == kind
                path.unlink()
    network.save(tmp_path / "model.keras")
    assert kind_of(tmp_path / "model.keras") == "keras"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("any name", b"any bytes" + bytes.fromhex("57fb808b247547db"), "tf1"),  # the V1 format's one file
        ("model.ckpt-7.data-00000-of-00001", b"\x80\x02}.", "tf1"),
        ("model.ckpt", b"damaged", "tf1"),
        ("model.tar", b"damaged", "tf1"),
        ("model.tgz", b"\x1f\x8bdamaged", "tf1"),
        ("cut.pth", b"PK\x03\x04cut off", "torch"),
        ("cut.pth.tar", b"PK\x03\x04cut off", "torch"),
        ("cut.keras", b"PK\x03\x04cut off", "keras"),
        ("graph.pb", b"\n\xff\xff\xffdamaged", "pb"),
    ],
)
def test_the_name_tells_where_the_content_does_not(write, name, content, kind):
    assert kind_of(write(name, content)) == kind


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth.tar", b"\x80\x02}.", "a Python pickle"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("a.pth", b"<!DOCTYPE html><html>", "a web page"),
        ("a.pickle", b"\x80\x04\x95abc", "a Python pickle"),
        ("a.npz", b"PK\x03\x04abc", "a NumPy archive"),
        ("a.jar", b"PK\x03\x04abc", "a zip archive with neither"),
        ("a.h5", b"no HDF5", r"a \.h5 file that begins with b'no H'"),
        ("a", b"", "an empty file"),
    ],
)
def test_other_files_are_refused_by_what_they_are(write, name, content, message):
    with pytest.raises(
        ValueError, match=f"is no checkpoint that can be read: it is {message}.* What can: .*safetensors"
    ):
        readers.read(write(name, content))


def test_kinds_that_are_read_elsewhere_are_named(tmp_path, network):
    network.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"model\.keras' is a \.keras file .*keras_deeplab\.load"):
        readers.read(tmp_path / "model.keras")


@pytest.mark.parametrize("kind", readers.READERS)
def test_a_missing_file_or_a_folder_is_told(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*missing\.bin"):
        readers.READERS[kind](tmp_path / "missing.bin")
    with pytest.raises(ValueError, match="is a folder, and a regular file is expected"):
        readers.READERS[kind](tmp_path)


@pytest.mark.slow
def test_imagenet_weights_of_keras_applications_are_read(shared):
    path = shared / "weights/mobilenet_v2_imagenet/mobilenet_v2_1.0_224_imagenet_notop_kerasapp.weights.h5"
    arrays = readers.read(path)[1]
    assert len(arrays) == 260
    assert arrays["Conv1/vars/0"].shape == (3, 3, 3, 32)
    network = keras.applications.MobileNetV2(include_top=False, weights=None)
    network.load_weights(path)
    for layer in network.layers:
        for index, variable in enumerate(layer.weights):
            np.testing.assert_array_equal(arrays[f"{layer.name}/vars/{index}"], variable.numpy())


def test_an_ordered_dict_stays_one(write):
    value = Build(Call(Name("collections", "OrderedDict"), ()), {"_metadata": {}})
    assert type(torch_files.read_object(write("a.pth", files.torch_zip(pickled(value))))) is OrderedDict
