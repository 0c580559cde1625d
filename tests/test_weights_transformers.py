"""Checkpoints of Hugging Face's transformers: settings of its config.json, and its own networks beside ours."""

import numpy as np
import pytest
from hub_peers import difference, logits, transformers, worst
from peers import peer

import keras_deeplab
from keras_deeplab import export_weights, load
from keras_deeplab.weights.describe import describe
from keras_deeplab.weights.sources import recognise

MOBILENET_V2 = {
    "mobilenet_v2.conv_stem.first_conv.convolution.weight": np.zeros((32, 3, 3, 3), "float32"),
    "segmentation_head.conv_aspp.convolution.weight": np.zeros((256, 320, 1, 1), "float32"),
    "segmentation_head.classifier.convolution.weight": np.zeros((3, 256, 1, 1), "float32"),
}


def _plan(arrays, config=None, processor=None):
    configs = {"config.json": config or {}} | ({"preprocessor_config.json": processor} if processor else {})
    return recognise(arrays, "a folder", configs=configs)


def test_arrays_without_their_config_are_asked_about():
    with pytest.raises(ValueError, match=r"fit several networks.*Give the folder that has the config\.json"):
        recognise(MOBILENET_V2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_act": "leaky_relu"}, r"says hidden_act='leaky_relu'; what can be built: 'relu'"),
        ({"output_stride": 24}, r"says output_stride=24; what can be built: 4, 8, 16 or 32"),
        ({"depth_multiplier": "1"}, r"says depth_multiplier='1'"),
        ({"depth_multiplier": float("nan")}, r"says depth_multiplier=nan"),
        ({"tf_padding": 1}, r"says tf_padding=1; what can be built: true or false"),
        ({"model_type": "mobilevit"}, r"says model_type='mobilevit'; what can be built: 'mobilenet_v2'"),
        ({"id2label": {"0": "a", "1": "b"}}, r"a name for each of the 3 classes"),
        ({"id2label": {"0": "a", "1": "b", "2": "b"}}, r"names that are different"),
    ],
)
def test_settings_that_are_not_built_are_refused_by_name(config, message):
    with pytest.raises(ValueError, match=message):
        _plan(MOBILENET_V2, config)


@pytest.mark.parametrize(
    ("processor", "mode"),
    [
        ({}, "tf"),
        ({"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}, "torch"),
        ({"do_normalize": False, "do_rescale": False}, None),
        ({"image_mean": 0.25, "image_std": 0.5}, ((0.25,) * 3, (0.5,) * 3)),
    ],
)
def test_the_processors_normalisation_is_the_models(processor, mode):
    assert (
        _plan(
            MOBILENET_V2, processor={"image_processor_type": "MobileNetV2ImageProcessorFast", **processor}
        ).spec.preprocessing
        == mode
    )


def test_a_processor_whose_rules_are_not_known_is_refused():
    with pytest.raises(ValueError, match=r"image_processor_type='CLIPImageProcessor'; .* MobileNetV2ImageProcessor"):
        _plan(MOBILENET_V2, processor={"image_processor_type": "CLIPImageProcessor"})


def test_names_of_classes_are_the_records_where_they_are_names():
    named = _plan(MOBILENET_V2, {"id2label": {"0": "sky", "2": "tree", "1": "road"}, "semantic_loss_ignore_index": 9})
    assert named.spec.classes.names == ("sky", "road", "tree")
    assert named.spec.classes.ignore_label == 9
    assert _plan(MOBILENET_V2, {"id2label": {str(i): f"LABEL_{i}" for i in range(3)}}).spec.classes.names is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        # A block that lost its stride has a shortcut at this width.
        {"output_stride": 8, "depth_multiplier": 0.1, "first_layer_is_expansion": False, "hidden_act": "silu"},
        {"depth_multiplier": 0.2, "tf_padding": False, "layer_norm_eps": 0.01, "expand_ratio": 3, "min_depth": 12},
    ],
)
def test_mobilenet_v2_equals_transformers_own(config, tmp_path):
    model = transformers("MobileNetV2ForSemanticSegmentation", num_labels=3, **config)
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert worst(model, tmp_path) <= 1e-5


@pytest.mark.slow
def test_transformers_loads_what_is_exported_and_sees_the_same_pixels(tmp_path):
    package = peer("transformers")
    names = {0: "background", 1: "cat", 2: "dog"}
    config = {"output_stride": 16, "depth_multiplier": 0.2, "id2label": names}
    transformers("MobileNetV2ForSemanticSegmentation", **config).save_pretrained(tmp_path / "theirs")
    package.MobileNetV2ImageProcessor(image_mean=[0.4, 0.5, 0.6]).save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs")
    assert ours.spec.classes.names == tuple(names.values())
    assert "background, cat, dog" in describe(tmp_path / "theirs")
    export_weights(ours, tmp_path / "back", "transformers")
    again, told = package.MobileNetV2ForSemanticSegmentation.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not any(told.values())
    assert again.config.id2label == names
    images = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3)).astype("uint8")
    processor = package.MobileNetV2ImageProcessor.from_pretrained(
        tmp_path / "back", do_resize=False, do_center_crop=False
    )
    pixels = processor(images[0], return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    coarse = keras_deeplab.build(ours.spec, upsample_logits=False)
    coarse.set_weights(ours.get_weights())
    assert difference(logits(again.eval(), pixels), coarse(images)) <= 1e-5
    with pytest.raises(FileExistsError, match="is there already"):
        export_weights(ours, tmp_path / "back", "transformers")
    with pytest.raises(ValueError, match="is a folder of several files"):
        export_weights(ours, tmp_path / "back.safetensors", "transformers")


NARROW = {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [16, 16, 24, 32, 40, 48, 64], "aspp_out_channels": 16}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        (
            "MobileViTForSemanticSegmentation",
            {"output_stride": 8, "patch_size": 3, "qkv_bias": False, "hidden_act": "relu", **NARROW},
        ),
        (
            "MobileViTV2ForSemanticSegmentation",
            {"output_stride": 16, "width_multiplier": 0.25, "aspp_out_channels": 16},
        ),
        (
            "MobileViTV2ForSemanticSegmentation",
            {"output_stride": 16, "width_multiplier": 0.25, "aspp_out_channels": 16, "n_attn_blocks": [1, 2, 1]},
        ),
    ],
)
def test_mobilevit_equals_transformers_own_there_and_back(architecture, config, tmp_path):
    model = transformers(architecture, num_labels=3, **config)
    model.save_pretrained(tmp_path / "theirs")
    assert worst(model, tmp_path / "theirs") <= 1e-5
    export_weights(load(tmp_path / "theirs"), tmp_path / "back", "transformers")
    again, told = getattr(peer("transformers"), architecture).from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not any(told.values())
    images = np.random.default_rng(0).standard_normal((1, 65, 97, 3)).astype("float32")
    assert difference(logits(model, images), logits(again.eval(), images)) <= 1e-6


@pytest.mark.slow
def test_mobilevit_sees_the_pixels_that_its_processor_makes(tmp_path):
    package = peer("transformers")
    model = transformers("MobileViTForSemanticSegmentation", num_labels=3, output_stride=16, **NARROW)
    model.save_pretrained(tmp_path)
    package.MobileViTImageProcessor().save_pretrained(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3)).astype("uint8")
    processor = package.MobileViTImageProcessor.from_pretrained(tmp_path, do_resize=False, do_center_crop=False)
    pixels = processor(images[0], return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    assert difference(logits(model, pixels), load(tmp_path, upsample_logits=False)(images)) <= 1e-5


@pytest.mark.slow
def test_another_width_than_the_config_would_tell_is_no_network_of_transformers(tmp_path):
    model = keras_deeplab.DeepLabV3("mobilenet_v2_dm05", flavour="transformers", num_classes=2, filters=16)
    with pytest.raises(ValueError, match="is another network"):
        export_weights(model, tmp_path / "folder", "transformers")
    assert not list(tmp_path.iterdir())
