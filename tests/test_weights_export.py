"""Weights as files of other code: real PyTorch and TensorFlow 1 read them, and compute the same."""

import json
import os
import zipfile

import keras
import numpy as np
import pytest
from randomise import randomise

import keras_deeplab
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2, mobilenet_v2_vainf
from keras_deeplab.backbones.mobilenet_v3 import mobilenet_v3_large
from keras_deeplab.weights import readers, writers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def vainf():
    network = mobilenet_v2_vainf(alpha=0.1)
    settings = {"flavour": "vainf", "filters": 4, "low_level_filters": 3, "include_preprocessing": False}
    return randomise(keras_deeplab.DeepLabV3Plus(network, num_classes=2, **settings))


@pytest.fixture(scope="module")
def google():
    settings = {"filters": 4, "low_level_filters": 3, "include_preprocessing": False}
    return randomise(keras_deeplab.DeepLabV3Plus(mobilenet_v2(alpha=0.1), num_classes=2, **settings))


def assert_equal(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def assert_same_weights(model, other):
    assert [variable.path for variable in model.weights] == [variable.path for variable in other.weights]
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# PyTorch --------------------------------------------------------------------------------------------------------


def test_pytorch_reads_its_file_as_its_own(vainf, torch, tmp_path):
    path = tmp_path / "model.pth"
    state = keras_deeplab.export_weights(vainf, path, "vainf")
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == ["model_state"]
    tensors = loaded["model_state"]
    assert type(tensors) is type(torch.nn.Linear(1, 1).state_dict())
    assert_equal({name: tensor.numpy() for name, tensor in tensors.items()}, state)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    counters = [tensor for name, tensor in tensors.items() if name.endswith(".num_batches_tracked")]
    assert counters
    assert all(counter.shape == () and counter.dtype == torch.int64 and counter == 0 for counter in counters)
    mapped = torch.load(path, weights_only=True, mmap=True)["model_state"]
    assert_equal({name: tensor.numpy() for name, tensor in mapped.items()}, state)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            header = path.read_bytes()[entry.header_offset : entry.header_offset + 30]
            lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            assert (entry.header_offset + 30 + lengths) % 64 == 0, entry.filename


def test_the_file_loads_here_again(vainf, tmp_path):
    state = keras_deeplab.export_weights(vainf, tmp_path / "model.pth", "vainf")
    assert_same_weights(keras_deeplab.load(tmp_path / "model.pth"), vainf)
    assert_equal(readers.read(tmp_path / "model.pth")[1], state)


def test_torchvision_s_auxiliary_head_goes_along(tmp_path):
    settings = {"flavour": "torchvision", "filters": 4, "include_preprocessing": False, "auxiliary_head": True}
    model = keras_deeplab.DeepLabV3(mobilenet_v3_large(alpha=0.35), num_classes=2, **settings)
    randomise(model)
    path = tmp_path / "model.pth"
    state = keras_deeplab.export_weights(model, path, "torchvision")
    assert state["aux_classifier.4.weight"].shape[0] == 2
    assert readers.torch.read_object(path).keys() == state.keys()  # torchvision's own are not wrapped
    assert_same_weights(keras_deeplab.load(path, auxiliary_head=True), model)


def modules(torch, state):
    """A `torch.nn.Module` of the submodules that a state dict of this name belongs to."""
    root, parts = torch.nn.Module(), {}
    for name, array in state.items():
        scope, _, leaf = name.rpartition(".")
        parts.setdefault(scope, {})[leaf] = array
    for scope, arrays in parts.items():
        weight = arrays["weight"]
        if "running_mean" in arrays:
            module = torch.nn.BatchNorm2d(len(weight))
        else:
            module = torch.nn.Conv2d(weight.shape[1], len(weight), weight.shape[2:], bias="bias" in arrays)
        place = root
        *path, last = scope.split(".")
        for step in path:
            if not hasattr(place, step):
                place.add_module(step, torch.nn.Module())
            place = getattr(place, step)
        place.add_module(last, module)
    return root


@pytest.mark.parametrize(
    "name",
    [
        "torchvision__deeplabv3_mobilenet_v3_large__os16",
        "jfzhang95__deeplabv3plus_mobilenet__os16",
        "fregu856__deeplabv3_resnet18__os8",
        "smp__deeplabv3plus_mobilenet_v2__os16",
    ],
)
def test_modules_of_the_source_s_names_take_it_strictly(name, shared, torch, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(shared / "reference"))
    from synth import Fixture

    source = name.partition("__")[0]
    state = Fixture(shared / "reference" / f"{name}.npz").state_dict()
    told = {"output_stride": 16, "atrous_rates": (12, 24, 36), "include_preprocessing": "torch"}  # arrays alone don't
    settings = {"torchvision": {"auxiliary_head": True}, "smp": told}.get(source, {})
    keras_deeplab.export_weights(keras_deeplab.load(state, **settings), tmp_path / "model.pth", source)
    loaded = torch.load(tmp_path / "model.pth", weights_only=True)
    module = modules(torch, state)
    module.load_state_dict(loaded.get("model_state", loaded.get("state_dict", loaded)), strict=True)
    for key, tensor in module.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), state[key], err_msg=key)


@pytest.mark.parametrize(
    ("source", "builder", "backbone", "settings", "name"),
    [
        ("kazuto1011", "DeepLabV2", "resnet50_caffe", {"multi_scale": True}, "base.aspp.c3.bias"),
        ("fregu856", "DeepLabV3", "resnet18", {"flavour": "fregu856"}, "resnet.resnet.6.1.conv2.weight"),
        ("coincheung", "DeepLabV1", "vgg16_coincheung", {"filters": 4}, "classifier.6.bias"),
        ("tf1", "DeepLabV3", "mobilenet_v3_small_seg", {"output_stride": 32}, "decoder/decoder_conv0/biases"),
    ],
)
def test_other_networks_come_back(source, builder, backbone, settings, name, tmp_path):
    if source == "kazuto1011":
        settings = {**settings, "align_corners": False}
    model = getattr(keras_deeplab, builder)(backbone, num_classes=2, include_preprocessing=False, **settings)
    path = tmp_path / ("model.ckpt" if source == "tf1" else "model.pth")
    assert name in keras_deeplab.export_weights(model, path, source)
    again = keras_deeplab.load(path, output_stride=settings.get("output_stride"), include_preprocessing=False)
    assert_same_weights(again, model)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


def torch_deeplab(torch, filters, classes):
    """torchvision's DeepLab v3 on ResNet-18 at output stride 32, in as few lines as it takes."""
    nn = torch.nn

    def convolution(inputs, outputs, size=1, stride=1, rate=1):
        return nn.Conv2d(inputs, outputs, size, stride, size // 2 * rate, rate, bias=False)

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1, self.bn1 = convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
            self.conv2, self.bn2 = convolution(outputs, outputs, 3), nn.BatchNorm2d(outputs)
            if stride > 1:
                self.downsample = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

        def forward(self, x):
            shortcut = self.downsample(x) if hasattr(self, "downsample") else x
            x = self.bn1(self.conv1(x)).relu()
            return (self.bn2(self.conv2(x)) + shortcut).relu()

    def norm(*layers):
        return nn.Sequential(*layers, nn.BatchNorm2d(layers[-1].out_channels), nn.ReLU())

    class Pooling(nn.Sequential):
        def forward(self, x):
            return nn.functional.interpolate(super().forward(x), x.shape[-2:], mode="bilinear", align_corners=False)

    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            branches = [norm(convolution(512, filters, 3, rate=rate)) for rate in (12, 24, 36)]
            pooling = Pooling(nn.AdaptiveAvgPool2d(1), *norm(convolution(512, filters)))
            self.convs = nn.ModuleList([norm(convolution(512, filters)), *branches, pooling])
            self.project = norm(convolution(5 * filters, filters))

        def forward(self, x):
            return self.project(torch.cat([branch(x) for branch in self.convs], 1))

    class Backbone(nn.Sequential):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = convolution(3, 64, 7, 2), nn.BatchNorm2d(64)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            widths = (64, 64, 128, 256, 512)
            for stage in range(1, 5):
                first = Block(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
                self.add_module(f"layer{stage}", nn.Sequential(first, Block(widths[stage], widths[stage], 1)))

    class DeepLab(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Backbone()
            head = [*norm(convolution(filters, filters, 3)), nn.Conv2d(filters, classes, 1)]
            self.classifier = nn.Sequential(Pyramid(), *head)

        def forward(self, x):
            logits = self.classifier(self.backbone(x))
            return nn.functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)

    return DeepLab()


def test_a_model_of_here_computes_the_same_in_pytorch(torch, tmp_path):
    settings = {"flavour": "torchvision", "filters": 8, "include_preprocessing": False}
    model = randomise(keras_deeplab.DeepLabV3("resnet18", num_classes=3, output_stride=32, **settings))
    keras_deeplab.export_weights(model, tmp_path / "model.pth", "torchvision")
    network = torch_deeplab(torch, 8, 3)
    network.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True), strict=True)
    image = np.random.default_rng(0).standard_normal((1, 97, 129, 3), "float32")
    with torch.no_grad():
        theirs = network.eval()(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    ours = keras.ops.convert_to_numpy(model(image))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_an_array_of_two_names_is_stored_once(torch, tmp_path):
    array = np.arange(60, dtype="float32").reshape(3, 4, 5).transpose(2, 0, 1)
    arrays = {"a": array, "b": array, "half": np.ones((2, 0, 3), "float16"), "count": np.array(7, "int64")}
    writers.write_torch(tmp_path / "m.pth", arrays)
    loaded = torch.load(tmp_path / "m.pth", weights_only=True)
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
    assert_equal({name: tensor.numpy() for name, tensor in loaded.items()}, arrays)


# Safetensors ----------------------------------------------------------------------------------------------------


def test_safetensors_are_laid_out_as_specified(vainf, tmp_path):
    state = keras_deeplab.export_weights(vainf, tmp_path / "m.safetensors", "vainf")
    data = (tmp_path / "m.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    assert header.keys() == state.keys()
    name = "classifier.classifier.3.weight"
    begin, end = header[name]["data_offsets"]
    assert (header[name]["dtype"], header[name]["shape"]) == ("F32", [2, 4, 1, 1])
    assert data[8 + length :][begin:end] == state[name].tobytes()
    kind, arrays = readers.read(tmp_path / "m.safetensors")
    assert kind == "safetensors"
    assert_equal(arrays, state)


def test_the_package_safetensors_reads_what_is_written_and_is_read(tmp_path):
    theirs = pytest.importorskip("safetensors.numpy")
    arrays = {
        "b": np.arange(6, dtype="float32").reshape(2, 3),
        "turned": np.arange(6, dtype="float64").reshape(2, 3).T,
        "a": np.zeros((0, 3), "float16"),
        "counter": np.int64(7)[None].reshape(()),
        "bytes": np.uint8([1, 2, 255]),
    }
    writers.write_safetensors(tmp_path / "ours.safetensors", arrays)
    assert_equal(dict(sorted(theirs.load_file(tmp_path / "ours.safetensors").items())), dict(sorted(arrays.items())))
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    theirs.save_file(contiguous, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    found = readers.read(tmp_path / "theirs.safetensors")[1]  # in the package's own order
    assert_equal(dict(sorted(found.items())), dict(sorted(arrays.items())))


# TensorFlow 1 ---------------------------------------------------------------------------------------------------


def test_tensorflow_1_restores_its_checkpoint(google, tmp_path):
    import tensorflow as tf

    prefix = tmp_path / "model.ckpt-30000"
    state = keras_deeplab.export_weights(google, prefix, "tf1")
    assert sorted(os.listdir(tmp_path)) == ["model.ckpt-30000.data-00000-of-00001", "model.ckpt-30000.index"]
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        variables = {name: v1.get_variable(name, array.shape) for name, array in state.items()}
        v1.train.Saver().restore(session, str(prefix))  # of every variable of the graph, as its export script does
        assert session.run(step) == 0
        assert_equal(session.run(variables), state)
    assert "MobilenetV2/expanded_conv_16/project/BatchNorm/moving_variance" in state
    assert_same_weights(keras_deeplab.load(prefix), google)


def test_the_official_checkpoint_comes_back_whole(shared, tmp_path):
    import tensorflow as tf

    path = shared / "weights/deeplabv3_mnv2_pascal_trainval/model.ckpt-30000"
    if not path.with_name(f"{path.name}.index").exists():
        pytest.skip(f"needs {path}")
    keras_deeplab.export_weights(keras_deeplab.load(path), tmp_path / "model.ckpt", "tf1")
    official, written = (tf.train.load_checkpoint(str(prefix)) for prefix in (path, tmp_path / "model.ckpt"))
    names = official.get_variable_to_shape_map().keys()
    assert written.get_variable_to_shape_map().keys() - names <= {"global_step"}
    for name in names - {"global_step"}:
        np.testing.assert_array_equal(written.get_tensor(name), official.get_tensor(name), err_msg=name)


# Whole or not at all --------------------------------------------------------------------------------------------


def tiny():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("name", "write", "broken"),
    [
        ("m.pth", writers.write_torch, "_store"),
        ("m.safetensors", writers.write_safetensors, "_bytes"),
        ("model.ckpt", writers.write_tf1, "os.replace"),
        ("m.keras", lambda path, arrays: writers.save_keras(tiny(), path), "os.replace"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file(name, write, broken, tmp_path, monkeypatch):
    write(tmp_path / name, {"a": np.ones(3, "float32")})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        raise OSError("No space left on device")

    monkeypatch.setattr(f"keras_deeplab.weights.writers.{broken}", fail)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / name, {"a": np.zeros(3, "float32")})
    assert calls
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_index_never_stands_beside_other_data(tmp_path, monkeypatch):
    prefix = tmp_path / "model.ckpt"
    writers.write_tf1(prefix, {"a": np.ones(3, "float32")})
    replace = os.replace

    def fail(source, target):
        if str(target).endswith(".index"):
            raise OSError("No space left on device")
        replace(source, target)

    monkeypatch.setattr(writers.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        writers.write_tf1(prefix, {"a": np.zeros(3, "float32")})
    assert os.listdir(tmp_path) == ["model.ckpt.data-00000-of-00001"]


@pytest.mark.parametrize(
    ("name", "source", "error", "message"),
    [
        ("m.onnx", "vainf", ValueError, "written as .pth, .pt or .safetensors; received"),
        ("model.ckpt", "vainf", ValueError, "written as .pth, .pt or .safetensors"),
        ("m.pth", "tf1", ValueError, "prefix of two files"),
        ("m.pth", "torch", ValueError, "source must be one of 'tf1', 'vainf', 'torchvision'"),
        ("m.pth", "torchvision", ValueError, "no network of torchvision's DeepLabV3 and LRASPP, which has no "),
        ("none/m.pth", "vainf", FileNotFoundError, "There is no folder '.*none' to write 'm.pth' into"),
    ],
)
def test_what_can_not_be_written_is_told(name, source, error, message, vainf, tmp_path):
    with pytest.raises(error, match=message):
        keras_deeplab.export_weights(vainf, tmp_path / name, source)
    assert os.listdir(tmp_path) == []


def test_arrays_of_types_that_are_not_written_are_told(tmp_path):
    for write in (writers.write_torch, writers.write_safetensors):
        with pytest.raises(ValueError, match="'a' has the type complex64; those that are written: float64"):
            write(tmp_path / "m", {"a": np.zeros(2, "complex64")})
    assert os.listdir(tmp_path) == []


def test_keras_s_files_are_told_by_their_names(tmp_path):
    model, fresh = tiny(), tiny()
    for name in ("m.keras", "m.weights.h5"):
        writers.save_keras(model, tmp_path / name)
    fresh.load_weights(tmp_path / "m.weights.h5")
    for other in (fresh, keras.models.load_model(tmp_path / "m.keras")):
        for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"end in .keras or .weights.h5; received 'm.h5'"):
        writers.save_keras(vainf, "m.h5")
