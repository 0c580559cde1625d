"""Networks out of ONNX files: PyTorch's own exporters of packages' networks, and this package's."""

import contextlib
import io
import os

import numpy as np
import pytest
import smp_peer
from peers import peer, randomised
from randomise import randomise

import keras_deeplab
from keras_deeplab.cli import main
from keras_deeplab.export.onnx import export_onnx
from keras_deeplab.weights.readers import onnx as reader

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:Constant folding"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export"),
]
SIZE = (64, 96)


def exported(network, path, way="script", size=SIZE):
    """A network of PyTorch as an ONNX file, by the exporter that traces or by the one behind torch.export."""
    torch = peer("torch")
    settings = {"dynamo": False, "opset_version": 17}
    if way == "dynamo":
        peer("onnxscript")
        settings = {"dynamo": True}
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, *size),), path, **settings)
    return path


def smp(encoder, architecture="DeepLabV3Plus", **settings):
    return smp_peer.network(architecture, encoder, **settings)


def outcome(network, images):
    torch = peer("torch")
    with torch.no_grad():
        scores = network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    scores = scores["out"] if isinstance(scores, dict) else scores
    return scores.numpy().transpose(0, 2, 3, 1) if scores.ndim == 4 else scores.numpy()


def noise():
    return np.random.default_rng(1).standard_normal((1, *SIZE, 3)).astype("float32")


def share(theirs, ours):
    return float(np.abs(theirs - np.asarray(ours)).max() / np.ptp(theirs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "encoder", "backbone", "stride", "rates"),
    [
        # What config.json would tell, the graph does.
        ("script", "resnet18", "resnet18", 8, (5, 11, 17)),
        ("dynamo", "resnet18", "resnet18", 8, (5, 11, 17)),
        # The two whose arrays are alike.
        ("script", "tu-mobilenetv3_small_100", "mobilenet_v3_small_timm_symmetric", 16, (12, 24, 36)),
        ("script", "timm-mobilenetv3_small_100", "mobilenet_v3_small_timm", 16, (12, 24, 36)),
        ("script", "tu-convnext_atto", "convnext_atto", 16, (12, 24, 36)),
        ("dynamo", "tu-convnext_atto", "convnext_atto", 16, (12, 24, 36)),
        ("script", "tu-resnet18d", "resnet18d", 16, (12, 24, 36)),
    ],
)
def test_pytorchs_exports_are_networks_again(way, encoder, backbone, stride, rates, tmp_path):
    network = smp(encoder, encoder_output_stride=stride, decoder_atrous_rates=rates)
    path = exported(network, tmp_path / "a.onnx", way)
    model = keras_deeplab.load(path, include_preprocessing=False)
    assert (model.spec.backbone, model.spec.output_stride) == (backbone, stride)
    assert model.spec.settings["atrous_rates"] == rates
    assert model.spec.resize == "align_corners"
    assert share(outcome(network, noise()), model(noise())) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_torchvisions_are(name, tmp_path):
    settings = {"aux_loss": True} if name.startswith("deeplab") else {}
    network = getattr(peer("torchvision").models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=5, **settings
    )
    randomised(network)
    model = keras_deeplab.load(exported(network, tmp_path / "a.onnx"), include_preprocessing=False)
    assert model.spec.resize == "half_pixel_centers"
    assert share(outcome(network, noise()), model(noise())) <= 1e-5


@pytest.mark.slow
def test_a_folder_of_transformers_with_an_onnx_file_is_read_with_its_config(tmp_path):
    from hub_peers import transformers

    torch = peer("torch")
    network = transformers("MobileNetV2ForSemanticSegmentation", output_stride=8, num_labels=5, depth_multiplier=0.35)
    network.save_pretrained(tmp_path)
    os.remove(tmp_path / "model.safetensors")

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, pixels):
            return self.inner(pixels).logits

    path = exported(Logits(), tmp_path / "model.onnx")
    settings = {"include_preprocessing": False, "upsample_logits": False}
    model = keras_deeplab.load(tmp_path, **settings)
    assert share(outcome(Logits().eval(), noise()), model(noise())) <= 1e-5
    # The file alone is as little as the arrays alone, and the folder's safetensors come first.
    os.remove(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"which fit several networks.*predictor runs an ONNX file as it is"):
        keras_deeplab.load(path, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1, 255])
def test_a_normalisation_in_the_file_becomes_the_models(unit, tmp_path, recwarn):
    torch = peer("torch")

    class Wrapped(torch.nn.Module):
        """From pixels in 0..1 or 0..255 to labels."""

        def __init__(self, network):
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

        def forward(self, pixels):
            return self.network((pixels / unit - self.mean) / self.std).argmax(1)

    wrapped = Wrapped(smp("resnet18")).eval()
    model = keras_deeplab.load(exported(wrapped, tmp_path / "a.onnx"))
    assert not [each for each in recwarn if "include_preprocessing" in str(each.message)]
    assert model.spec.preprocessing == "torch"
    pixels = np.random.default_rng(1).integers(0, 256, (1, *SIZE, 3)).astype("float32")
    wanted = outcome(wrapped, pixels * np.float32(unit / 255))
    assert np.mean(wanted == np.argmax(model(pixels), -1)) > 0.999
    assert len(np.unique(wanted)) > 2

    class Odd(Wrapped):
        def forward(self, pixels):
            return self.network(torch.sqrt(pixels / unit))

    with pytest.raises(ValueError, match="changes its images before the first convolution, by more than a scale"):
        keras_deeplab.load(exported(Odd(smp("resnet18")), tmp_path / "b.onnx"))


@pytest.mark.slow
def test_a_file_that_computes_something_else_is_refused(tmp_path):
    network = smp("resnet18")
    # The names of a ResNet, and another function: nothing but running it tells.
    network.encoder.layer4[0].relu = peer("torch").nn.ReLU6()
    with pytest.raises(ValueError, match=r"no network of theirs that is built here computes .* its scores are other"):
        keras_deeplab.load(exported(network, tmp_path / "a.onnx"))
    network = smp("resnet18")
    network.encoder.layer2[0].conv2.dilation = network.encoder.layer2[0].conv2.padding = (3, 3)
    with pytest.raises(ValueError, match=r"layer2_0_conv2 has strides and rates \[\(1, 1\), \(3, 3\)\] in the file"):
        keras_deeplab.load(exported(network, tmp_path / "b.onnx"))


@pytest.mark.slow
def test_two_networks_that_give_the_same_at_the_files_size_are_asked_about(tmp_path):
    network = smp("tu-mobilenetv3_small_100", "DeepLabV3", encoder_output_stride=16)
    network.check_input_shape = lambda x: None
    # At odd sizes "same" pads as the other does, on all sides alike.
    path = exported(network, tmp_path / "a.onnx", size=(65, 97))
    with pytest.raises(ValueError, match=r"fit 2 networks.*mobilenet_v3_small_timm.*mobilenet_v3_small_timm_symmetric"):
        keras_deeplab.load(path, include_preprocessing=False)
    model = keras_deeplab.load(path, include_preprocessing=False, backbone="mobilenet_v3_small_timm_symmetric")
    assert model.spec.backbone == "mobilenet_v3_small_timm_symmetric"
    network = network.eval()
    wanted, found = outcome(network, noise()), model(noise())
    assert share(wanted, found) <= 1e-5


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    for package in ("tf2onnx", "onnxruntime"):
        peer(package)
    model = keras_deeplab.DeepLabV3Plus("mobilenet_v2", num_classes=5, classes=list("abcde"), filters=16)
    randomise(model)
    path = tmp_path_factory.mktemp("own") / "own.onnx"
    export_onnx(model, path, input_size=SIZE)
    return model, path


@pytest.mark.slow
def test_an_own_file_becomes_the_model_that_it_was_made_of(own, tmp_path, capsys):
    model, path = own
    again = keras_deeplab.load(path)
    assert again.spec == model.spec
    pixels = np.random.default_rng(1).integers(0, 256, (1, 65, 97, 3)).astype("float32")  # not the file's size
    assert share(np.asarray(model(pixels)), again(pixels)) <= 1e-5
    # As any other checkpoint: denser, with other classes, on the command line.
    assert keras_deeplab.load(path, output_stride=8).spec.output_stride == 8
    with pytest.warns(UserWarning, match="starts from fresh values"):
        assert keras_deeplab.load(path, num_classes=7).output_shape[-1] == 7
    with pytest.raises(ValueError, match=r"an ONNX file, whose weights .* keras-deeplab convert writes it"):
        keras_deeplab.DeepLabV3Plus("mobilenet_v2", num_classes=5, filters=16, weights=str(path))
    assert main(["inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert "an ONNX file" in told
    assert "DeepLabV3Plus" in told
    assert "does not load" not in told
    assert main(["convert", str(path), str(tmp_path / "a.keras")]) == 0
    assert keras_deeplab.load(tmp_path / "a.keras").spec == model.spec


def test_damage_and_strangers_are_refused(own, tmp_path, monkeypatch):
    import onnx

    _, path = own
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:10000])
    with pytest.raises(ValueError, match=r"cut\.onnx' can't be read as an ONNX file"):
        keras_deeplab.load(tmp_path / "cut.onnx")
    # All its weights fit the network of its record, and it computes something else.
    changed = onnx.load(path)
    activation = next(node for node in changed.graph.node if node.op_type == "Clip")
    activation.op_type = "Neg"
    del activation.input[1:]
    onnx.save(changed, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no network of theirs that is built here computes what the file does"):
        keras_deeplab.load(tmp_path / "other.onnx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    sides = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", *[[s] for s in sides])), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="no convolution whose name tells where it belongs"):
        keras_deeplab.load(tmp_path / "x.onnx")
    monkeypatch.setattr(reader, "package", lambda name="onnx": _missing(name))
    with pytest.raises(ValueError, match=r"pip install \"keras_deeplab\[onnx\]\""):
        keras_deeplab.load(path)


def _missing(name):
    raise ValueError(f'an ONNX file needs {name}: pip install "keras_deeplab[onnx]"')
