"""The commands that take checkpoints: what a file holds, into Keras's form, and back."""

import os
import re

import keras
import numpy as np
import pytest
from randomise import randomise
from weight_files import Call, Name, pickled, torch_zip, without_record

import keras_deeplab
import keras_deeplab.layers
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2, mobilenet_v2_vainf
from keras_deeplab.cli import main
from keras_deeplab.cli.shared import AnyModel, StoredModel
from keras_deeplab.specs import Classes
from keras_deeplab.weights import readers, writers
from keras_deeplab.weights.describe import describe
from keras_deeplab.weights.own import stride_of_head

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def vainf(tmp_path_factory):
    """A small model of VainF's flavour, and its checkpoint."""
    network = mobilenet_v2_vainf(alpha=0.25)
    settings = {"flavour": "vainf", "filters": 4, "low_level_filters": 3, "include_preprocessing": False}
    model = randomise(keras_deeplab.DeepLabV3Plus(network, num_classes=5, **settings))
    path = tmp_path_factory.mktemp("vainf") / "best.pth"
    keras_deeplab.export_weights(model, path, "vainf")
    return model, path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model on Google's MobileNetV2, and its .keras file."""
    classes = Classes(("ground", "leaf", "stem"), ((0, 0, 0), (0, 255, 0), (10, 11, 12)))
    settings = {"num_classes": 3, "filters": 4, "output_stride": 8, "classes": classes}
    model = randomise(keras_deeplab.DeepLabV3(mobilenet_v2(alpha=0.1), **settings))
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return model, path


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")


def facts(text):
    """`{title: text}` of what `inspect` prints, after its first line."""
    return dict(re.findall(r"^  (\S.*?)  +(\S.*)$", text, re.MULTILINE))


def test_a_file_of_keras_is_built_anew_at_another_output_stride(vainf, tmp_path):
    path = tmp_path / "model.keras"
    own = keras_deeplab.load(vainf[1])
    own.save(path)
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 97, 3)).astype("float32")
    expected = keras_deeplab.load(vainf[1], output_stride=8)
    found = StoredModel.of(model=str(path), output_stride=8).load()
    assert found.spec == expected.spec
    np.testing.assert_array_equal(found(image), expected(image))
    assert np.abs(np.asarray(own(image)) - np.asarray(found(image))).max() > 1e-3
    predict = AnyModel.of(model=str(path), output_stride=8).predictor()
    np.testing.assert_array_equal(predict(image[0]), np.argmax(expected(image), -1)[0])
    with pytest.raises(ValueError, match=r"align_corners can't be given"):
        StoredModel.of(model=str(path), align_corners=True).load()


# inspect --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_described(vainf, capsys, wide):
    _, path = vainf
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path}: a PyTorch checkpoint\n")
    arrays = readers.read(path)[1]
    assert facts(out) == {
        "source": "vainf: VainF's DeepLabV3Plus-Pytorch",
        "architecture": "DeepLabV3Plus(flavour='vainf', separable=False, filters=4, low_level_filters=3)",
        "backbone": "mobilenet_v2_vainf(alpha=0.25)",
        "classes": "5, of no known names; 255 is ignored",
        "output stride": "16, or what load() is asked for",
        "channels": "3",
        "preprocessing": "torch",
        "resize": "half_pixel_centers",
        "arrays": f"{len(arrays)} of {sum(a.size for a in arrays.values()):,} values, "
        f"{sum(a.nbytes for a in arrays.values()) / 1e6:.1f} MB",
    }


def test_all_names_are_listed_and_fit_the_terminal(vainf, capsys, monkeypatch):
    _, path = vainf
    monkeypatch.setenv("COLUMNS", "64")
    assert main(["inspect", str(path), "--names"]) == 0
    head, _, table = capsys.readouterr().out.partition("\n\n")
    rows = table.splitlines()
    assert len(rows) == len(readers.read(path)[1])
    assert max(map(len, rows)) <= 64
    assert max(map(len, head.splitlines()[1:])) <= 64
    assert any(re.fullmatch(r"classifier\.classifier\.3\.weight +5x4x1x1  float32", row) for row in rows)
    assert any(re.fullmatch(r"backbone\.\S+\.\.\.\S+num_batches_tracked +scalar  int64", row) for row in rows)


def test_a_keras_file_is_described_without_being_built(saved, capsys, wide, monkeypatch):
    model, path = saved
    monkeypatch.setattr(keras.models, "load_model", None)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    told = facts(out)
    assert f"{path}: a .keras file" in out
    assert told["source"] == "keras: this package"
    assert told["network"] == f"deeplabv3_mobilenet_v2, SegmentationModel of {len(model.layers)} layers"
    assert told["architecture"].startswith("DeepLabV3(flavour='tf', separable=False, image_pooling=True, filters=4")
    assert told["classes"] == "3, ground, leaf, stem; 255 is ignored"
    assert told["colours"] == "#000000, #00ff00, #0a0b0c"
    assert (told["backbone"], told["output stride"], told["channels"]) == ("mobilenet_v2", "8", "3")
    assert (told["preprocessing"], told["resize"]) == ("tf", "align_corners")
    assert told["outputs"] == "logits at stride 1"
    assert told["arrays"].startswith(f"{len(model.weights)} of {model.count_params():,} values")


def test_a_keras_file_without_a_record_is_described_by_its_layers(saved, tmp_path, wide):
    without_record(saved[1], tmp_path / "old.keras")
    told = facts(describe(tmp_path / "old.keras"))
    assert (told["source"], told["classes"]) == ("keras: this package", "3, of no known names")
    assert told["output stride"] == "8"
    assert "architecture" not in told


@pytest.mark.parametrize(
    ("builder", "backbone", "stride", "settings"),
    [
        ("DeepLabV3Plus", "mobilenet_v2", 16, {}),
        ("DeepLabV3", "mobilenet_v3_small_seg", 32, {}),
        ("DeepLabV3", "resnet18", 32, {"flavour": "torchvision"}),
        ("DeepLabV1", "vgg11", 8, {}),
        ("DeepLabV2", "vgg11", 8, {}),
    ],
)
def test_output_strides_are_read_off_configurations(builder, backbone, stride, settings):
    with unallocated():
        model = getattr(keras_deeplab, builder)(backbone, output_stride=stride, **settings)
        assert stride_of_head(model.get_config()["layers"]) == stride


def test_the_output_stride_is_that_of_the_map_that_the_head_sees():
    """Not that of the deepest one, which goes back up in HRNet."""
    inputs = x = keras.Input((None, None, 3))
    for _ in range(3):
        finer, x = x, keras.layers.Conv2D(4, 3, 2, padding="same")(x)
    x = keras_deeplab.layers.UpsampleNearest(2)([x, finer])
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1, name="aspp0")(x))
    assert stride_of_head(model.get_config()["layers"]) == 4


@pytest.mark.parametrize(
    ("arrays", "scopes", "perhaps"),
    [
        ({"conv1.weight": (64, 3, 7, 7), "fc.weight": (10, 512), "fc.bias": (10,)}, "conv1 (1), fc (2)", "resnet18, "),
        ({"block1_conv1/kernel": (3, 3, 3, 64)}, "block1_conv1 (1)", "vgg16, vgg16_caffe, vgg19, vgg19_caffe"),
        ({f"encoder{n}.weight": (2,) for n in range(20)}, "encoder11 (1), 8 more", None),
    ],
)
def test_what_is_no_deeplab_is_described_with_the_reason(arrays, scopes, perhaps, tmp_path, capsys, wide):
    path = tmp_path / "other.safetensors"
    writers.write_safetensors(path, {name: np.zeros(shape, "float32") for name, shape in arrays.items()})
    assert main(["inspect", str(path)]) == 0
    told = facts(capsys.readouterr().out)
    assert told["does not load"].startswith(f"{path} holds no DeepLab that can be rebuilt: its arrays are in ")
    assert told["holds"].endswith(scopes)
    assert ("perhaps" in told) == (perhaps is not None)
    assert perhaps is None or perhaps in told["perhaps"]
    assert told["arrays"].startswith(f"{len(arrays)} of ")


def test_a_tflite_file_that_is_no_deeplab_is_described(tmp_path):
    network = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3)])
    keras_deeplab.export_tflite(network, tmp_path / "m.tflite", input_size=4, output="logits")
    text = describe(tmp_path / "m.tflite", names=True)
    assert "a TFLite file" in text
    assert "does not load" in text
    assert "2x3x3x3  float32" in text


def test_what_can_not_be_read_is_an_error(tmp_path, capsys):
    (tmp_path / "cut.pth").write_bytes(torch_zip(pickled({"a": 1}))[:100])
    ran = tmp_path / "ran"
    (tmp_path / "hostile.pth").write_bytes(torch_zip(pickled(Call(Name("os", "mkdir"), (str(ran),)))))
    for name, message in [("cut.pth", "cut.pth"), ("hostile.pth", "'os.mkdir'"), ("none.pth", "no checkpoint")]:
        for command in (["inspect"], ["convert", "OUT"]):
            arguments = [command[0], str(tmp_path / name), *[str(tmp_path / "out.keras") for _ in command[1:]]]
            assert main(arguments) == 1
            error = capsys.readouterr().err
            assert error.startswith(f"keras-deeplab {command[0]}: error: ")
            assert message in error
    assert not ran.exists()
    assert sorted(os.listdir(tmp_path)) == ["cut.pth", "hostile.pth"]


# convert --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_becomes_a_keras_file(vainf, tmp_path, capsys, wide):
    model, path = vainf
    target = tmp_path / "model.keras"
    assert main(["convert", str(path), str(target), "--no-preprocessing"]) == 0
    out = capsys.readouterr().out
    assert facts(out)["source"] == "vainf: VainF's DeepLabV3Plus-Pytorch"
    assert out.splitlines()[-1].startswith(
        f"{target}: {model.name}, {model.count_params():,} parameters, {target.stat().st_size:,} bytes"
    )
    image = np.random.default_rng(0).standard_normal((1, 65, 97, 3), "float32")
    np.testing.assert_allclose(keras.models.load_model(target)(image), model(image), atol=1e-5)
    assert os.listdir(tmp_path) == ["model.keras"]


def test_options_reach_the_model(vainf, tmp_path, recwarn):
    model, path = vainf
    target = tmp_path / "model.weights.h5"
    options = ["--output-stride", "8", "--num-classes", "2", "--source", "vainf"]
    assert main(["convert", str(path), str(target), *options]) == 0
    assert any("5 classes and 2 were asked for" in str(warning.message) for warning in recwarn)
    settings = {"flavour": "vainf", "filters": 4, "low_level_filters": 3, "output_stride": 8}
    other = keras_deeplab.DeepLabV3Plus(mobilenet_v2_vainf(alpha=0.25), num_classes=2, weights=target, **settings)
    kernels = (network.get_layer("decoder_conv0").get_weights()[0] for network in (model, other))
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("model.h5", [], "end in .keras or .weights.h5"),
        ("none/model.keras", [], "There is no folder"),
        ("model.keras", ["--source", "smp"], "segmentation_models.pytorch"),
        ("model.keras", ["--source", "nobody"], "source must be one of 'auto'"),
    ],
)
def test_what_can_not_be_converted_is_told(output, options, message, vainf, tmp_path, capsys):
    assert main(["convert", str(vainf[1]), str(tmp_path / output), *options]) == 1
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


# export-weights -------------------------------------------------------------------------------------------------


def test_a_model_goes_back_to_the_names_of_its_source(saved, tmp_path, capsys):
    model, path = saved
    prefix = tmp_path / "model.ckpt"
    assert main(["export-weights", str(path), str(prefix), "--source", "tf1"]) == 0
    assert f"{prefix}: {len(model.weights)} arrays with the names of tf1" in capsys.readouterr().out
    again = keras_deeplab.load(prefix)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert main(["export-weights", str(path), str(tmp_path / "m.pth"), "--source", "vainf"]) == 1
    assert "VainF's DeepLabV3Plus-Pytorch" in capsys.readouterr().err
