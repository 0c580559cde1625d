"""segmentation_models.pytorch: its own networks run beside ours, and what config.json says is asked or honoured."""

import json
import re
import warnings
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_deeplab
from keras_deeplab.backbones.mobilenet_v3 import mobilenet_v3_small_timm, mobilenet_v3_small_timm_symmetric
from keras_deeplab.cli import main
from keras_deeplab.cli.shared import AnyModel, StoredModel
from keras_deeplab.export.weights import state_dict
from keras_deeplab.weights import recognise
from keras_deeplab.weights.describe import describe
from keras_deeplab.weights.writers import write_torch

SIZES = [(48, 80), (80, 32)]
V3, PLUS = "DeepLabV3", "DeepLabV3Plus"
# architecture, encoder, settings, our backbone
PEERS = [
    (PLUS, "tu-mobilenetv3_small_100", {}, "mobilenet_v3_small_timm_symmetric"),
    (
        V3,
        "timm-mobilenetv3_small_minimal_100",
        {"encoder_output_stride": 16, "decoder_atrous_rates": (2, 5, 9), "decoder_aspp_separable": True},
        "mobilenet_v3_small_timm",
    ),
    (
        PLUS,
        "resnet18",
        {
            "encoder_output_stride": 8,
            "decoder_aspp_separable": False,
            "decoder_channels": 32,
            "activation": "sigmoid",
            "in_channels": 4,
            "aux_params": {"classes": 3},
        },
        "resnet18",
    ),
    (PLUS, "tu-resnet18", {"encoder_output_stride": 8}, "resnet18"),
    (PLUS, "se_resnext50_32x4d", {}, "se_resnext50_32x4d"),
    (V3, "efficientnet-b0", {}, "efficientnet_b0"),
    (V3, "tu-tf_efficientnet_b0", {"encoder_output_stride": 16}, "efficientnet_b0_timm_same"),
    (PLUS, "timm-tf_efficientnet_lite0", {"encoder_output_stride": 8}, "efficientnet_lite0_timm"),
    (PLUS, "mobileone_s1", {}, "mobileone_s1"),
    (V3, "mobileone_s4", {"reparameterized": True}, "mobileone_s4"),
    (PLUS, "tu-convnext_atto", {"encoder_output_stride": 8}, "convnext_atto"),
    (V3, "tu-seresnet18", {}, "seresnet18"),
    (PLUS, "tu-regnety_002", {"encoder_output_stride": 8}, "regnety_002"),
    (V3, "tu-resnet18d", {}, "resnet18d"),
    (V3, "timm-resnest14d", {}, "resnest14d"),
    (V3, "timm-res2net50_48w_2s", {"encoder_output_stride": 16}, "res2net50_48w_2s"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder", "settings", "backbone"), PEERS, ids=[f"{row[0]}-{row[1]}" for row in PEERS]
)
def test_its_own_network_computes_the_same_and_takes_the_weights_back(
    architecture, encoder, settings, backbone, tmp_path
):
    import smp_peer

    theirs = smp_peer.network(architecture, encoder, **settings)
    ours = smp_peer.loaded(theirs, tmp_path)
    assert ours.spec.backbone == backbone
    assert smp_peer.difference(theirs, ours, SIZES) < 1e-5
    if architecture == V3:
        assert smp_peer.inner_difference(theirs, ours, [(65, 97)]) < 1e-5
    smp_peer.written_back(ours, theirs)
    assert smp_peer.difference(theirs, ours, SIZES[:1]) < 1e-5


def test_a_resnet_of_timm_is_told_by_its_stem_and_shortcut_and_antialiased_relatives_are_refused_by_name():
    model = keras_deeplab.DeepLabV3("resnet10t", num_classes=2, filters=8, flavour="smp_tu", output_stride=8)
    arrays = state_dict(model, "smp")
    assert {"encoder.model.conv1.6.weight", "encoder.model.layer2.0.downsample.1.weight"} <= set(arrays)
    assert recognise(arrays, configs={"config.json": {"encoder_name": "tu-resnet10t"}}).spec.backbone == "resnet10t"
    with pytest.raises(ValueError, match="'tu-resnetaa10t', and the arrays are those of resnet10t"):
        recognise(arrays, configs={"config.json": {"encoder_name": "tu-resnetaa10t"}})
    unpooled = {}
    for name, array in arrays.items():
        unpooled[re.sub(r"downsample\.(\d)", lambda found: f"downsample.{int(found[1]) - 1}", name)] = array
    with pytest.raises(ValueError, match="on an encoder that isn't built here"):
        recognise(unpooled)


@pytest.mark.slow
def test_relatives_of_encoders_are_refused_by_name():
    model = keras_deeplab.DeepLabV3("resnet18", num_classes=2, filters=8, flavour="smp_tu", output_stride=8)
    arrays = state_dict(model, "smp")
    assert "encoder.model.layer1.0.conv1.weight" in arrays
    for name, message in [
        (None, None),
        ("tu-resnet18.a1_in1k", None),
        ("tu-resnetblur18", "names the encoder 'tu-resnetblur18', and the arrays are those of resnet18"),
        ("resnet18", "names the encoder 'resnet18', and the arrays are those of resnet18"),
    ]:
        configs = {} if name is None else {"config.json": {"encoder_name": name}}
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            spec = recognise(arrays, configs=configs).spec
            assert (spec.backbone, spec.flavour) == ("resnet18", "smp_tu")
    gated = {"encoder.model.layer1.0.se.fc1.weight": np.zeros((4, 64, 1, 1), "float32")}
    with pytest.raises(ValueError, match="on an encoder that isn't built here"):
        recognise(arrays | gated)


# Two networks of the same arrays -----------------------------------------------------------------------------------

SYMMETRIC, SAME = "mobilenet_v3_small_timm_symmetric", "mobilenet_v3_small_timm"


def small(build):
    return keras_deeplab.DeepLabV3(
        build(alpha=0.25), num_classes=2, filters=8, flavour="smp", include_preprocessing=False, output_stride=8
    )


@pytest.fixture(scope="module")
def arrays():
    return state_dict(small(mobilenet_v3_small_timm_symmetric), "smp")


def folder(path, arrays, **config):
    path.mkdir()
    save_file(arrays, path / "model.safetensors")
    if config:
        (path / "config.json").write_text(json.dumps(config))
    return path


CONFIG = {"_model_class": V3, "encoder_name": "tu-mobilenetv3_small_025", "classes": 2, "in_channels": 3}


@pytest.mark.slow
def test_arrays_of_two_networks_are_asked_about(arrays, tmp_path):
    asked = rf"backbone='{SAME}' or backbone='{SYMMETRIC}' \(keras-deeplab convert --backbone\)"
    with pytest.raises(ValueError, match=asked):
        keras_deeplab.load(arrays)
    path = folder(tmp_path / "bare", arrays)
    text = " ".join(describe(path).split())
    assert "undecided" in text
    assert f"backbone='{SAME}' or backbone='{SYMMETRIC}'" in text
    assert "atrous_rates=(12, 24, 36), include_preprocessing='torch', which nothing tells" in text
    with pytest.raises(ValueError, match=r"received backbone='resnet18'"):
        keras_deeplab.load(path, backbone="resnet18")
    out = tmp_path / "out.keras"
    told = ["--output-stride", "8", "--atrous-rates", "12,24,36", "--normalisation", "torch"]
    assert main(["convert", str(path), str(out), "--backbone", SAME, *told]) == 0
    assert keras_deeplab.load(out).spec.backbone == SAME
    # Every command that takes a model is told it in the same words.
    words = {"output_stride": 8, "atrous_rates": (12, 24, 36), "normalisation": "torch", "backbone": SYMMETRIC}
    for kind in (StoredModel, AnyModel):
        subject = kind.of(model=str(path), **words)
        model = subject.load() if kind is StoredModel else subject.predictor()
        assert model.spec.backbone == SYMMETRIC
    (tmp_path / "x.tflite").touch()
    with pytest.raises(ValueError, match=r"backbone can't be chosen for a TFLite file"):
        AnyModel.of(model=str(tmp_path / "x.tflite"), backbone=SAME).predictor()
    with pytest.warns(UserWarning, match=r"nothing tells output_stride, atrous_rates, .*=\(12, 24, 36\), .*='torch'"):
        keras_deeplab.load(path, backbone=SAME)


@pytest.mark.slow
def test_the_config_or_an_argument_decides_and_the_two_differ(arrays, tmp_path):
    told = keras_deeplab.load(folder(tmp_path / "told", arrays, **CONFIG), include_preprocessing=False)
    bare = {"include_preprocessing": False, "output_stride": 8, "atrous_rates": (12, 24, 36)}
    given = {name: keras_deeplab.load(arrays, backbone=name, **bare) for name in (SYMMETRIC, SAME)}
    images = np.random.default_rng(0).uniform(-1, 1, (1, 33, 48, 3)).astype("float32")
    scores = {name: keras.ops.convert_to_numpy(model(images)) for name, model in given.items()}
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(told(images)), scores[SYMMETRIC])
    assert np.abs(scores[SYMMETRIC] - scores[SAME]).max() > 1e-3 * np.ptp(scores[SAME])
    asked = keras_deeplab.load(tmp_path / "told", backbone=SAME)
    assert (asked.spec.backbone, asked.spec.backbone_settings) == (SAME, {"alpha": 0.25})
    for name, model in given.items():
        assert (model.spec.backbone, model.spec.backbone_settings) == (name, {"alpha": 0.25})
        written = state_dict(model, "smp")
        assert all(np.array_equal(written[each], arrays[each]) for each in arrays)


def test_an_older_folder_holds_a_file_of_pytorch(arrays, tmp_path):
    path = folder(tmp_path / "old", arrays, **CONFIG)
    (path / "model.safetensors").unlink()
    write_torch(path / "pytorch_model.bin", arrays)
    assert keras_deeplab.load(path).spec.backbone == SYMMETRIC


@pytest.mark.slow
def test_weights_are_refused_for_the_other_network_of_the_same_arrays(arrays, tmp_path):
    path = folder(tmp_path / "told", arrays, **CONFIG)
    build = {"num_classes": 2, "filters": 8, "flavour": "smp", "weights": path}
    with pytest.raises(ValueError, match=f"weights of backbone='{SYMMETRIC}', as its description says"):
        keras_deeplab.DeepLabV3(mobilenet_v3_small_timm(alpha=0.25), **build)
    keras_deeplab.DeepLabV3(mobilenet_v3_small_timm_symmetric(alpha=0.25), **build)


@pytest.mark.slow
def test_weights_are_refused_for_a_network_of_other_rates(arrays, tmp_path):
    path = folder(tmp_path / "told", arrays, **CONFIG, decoder_atrous_rates=[2, 5, 9])
    build = {"num_classes": 2, "filters": 8, "flavour": "smp", "weights": path}
    for rates in (None, (2, 5, 8)):
        with pytest.raises(ValueError, match=r"weights of atrous_rates=\(2, 5, 9\), as its description says"):
            keras_deeplab.DeepLabV3(mobilenet_v3_small_timm_symmetric(alpha=0.25), atrous_rates=rates, **build)
    keras_deeplab.DeepLabV3(mobilenet_v3_small_timm_symmetric(alpha=0.25), atrous_rates=(2, 5, 9), **build)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder_name": "tu-mobilenetv3_rw"}, "names the encoder 'tu-mobilenetv3_rw', and the arrays are those of"),
        ({"_model_class": PLUS}, "says that it is a DeepLabV3Plus, and the arrays are a DeepLabV3's"),
        ({"encoder_depth": 4}, "has encoder_depth=4, which isn't built here"),
        ({"upsampling": 1}, "has upsampling=1, which isn't built here; .*take it out of config.json"),
        ({"activation": "tanh"}, "has activation='tanh', which isn't built here"),
        ({"decoder_atrous_rates": [1, 2]}, r"has decoder_atrous_rates=\[1, 2\]"),
        ({"encoder_output_stride": "16"}, "has encoder_output_stride='16', which is no positive integer"),
        ({"classes": 3}, "says that num_classes is 3, and the arrays are those of 2"),
        ({"in_channels": 4}, "says that channels is 4, and the arrays are those of 3"),
        ({"act_layer": "silu"}, "has act_layer='silu', which isn't known here"),
    ],
)
def test_what_is_not_built_is_refused_by_name(arrays, tmp_path, config, message):
    path = folder(tmp_path / "told", arrays, **(CONFIG | config))
    with pytest.raises(ValueError, match=message):
        keras_deeplab.load(path)
    assert "does not load" in describe(path)


@pytest.mark.slow
def test_settings_of_the_config_are_in_the_record(arrays, tmp_path):
    config = {
        "encoder_output_stride": 16,
        "decoder_atrous_rates": [2, 4, 6],
        "decoder_aspp_dropout": 0.25,
        "activation": "softmax2d",
        "encoder_weights": "advprop",
    }
    path = folder(tmp_path / "told", arrays, **(CONFIG | config))
    spec = keras_deeplab.load(path).spec
    assert (spec.output_stride, spec.activation, spec.preprocessing) == (16, "softmax", "tf")
    assert (spec.settings["atrous_rates"], spec.settings["dropout"]) == ((2, 4, 6), 0.25)


@pytest.mark.parametrize(
    ("encoder", "mode"),
    [
        ("tu-mobilenetv3_small_025", "torch"),
        ("tu-mobilenetv3_small_025.ra4_e3600_r224_in1k", "tf"),
        ("tu-tf_mobilenetv3_small_025.in1k", "tf"),
        ("timm-mobilenetv3_small_025", "torch"),
    ],
)
def test_pixels_are_normalised_as_its_own_function_does_for_the_encoder(arrays, encoder, mode):
    assert recognise(arrays, configs={"config.json": {"encoder_name": encoder}}).spec.preprocessing == mode


def test_arrays_that_relatives_in_timm_share_are_told_to_be_a_guess(tmp_path):
    """tu-resnetaa18's and tu-resnetblur18's arrays have the names and shapes of tu-resnet18's."""
    model = keras_deeplab.DeepLabV3Plus("resnet18", num_classes=2, flavour="smp_tu", input_shape=(33, 33, 3))
    keras_deeplab.export_weights(model, tmp_path / "bare.pth", "smp")
    with pytest.warns(UserWarning, match=r"nothing tells .*, backbone of its network\. .*, backbone='resnet18'\."):
        keras_deeplab.load(tmp_path / "bare.pth")
    told = {"output_stride": 16, "atrous_rates": (12, 24, 36), "include_preprocessing": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keras_deeplab.load(tmp_path / "bare.pth", backbone="resnet18", **told).spec.backbone == "resnet18"
