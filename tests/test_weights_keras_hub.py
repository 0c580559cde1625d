"""Models of keras-hub: its own networks beside what is loaded from its presets and files, and what is refused."""

import json
import sys

import numpy as np
import pytest
from hub_peers import difference, keras_hub_segmenter
from peers import peer
from randomise import randomise

import keras_deeplab
from keras_deeplab import load

SIZES = ((96, 160), (64, 64))  # keras-hub's own adds up at multiples of 32 alone
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _worst(theirs, ours):
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, *size, 3)).astype("float32") for size in SIZES]
    return max(difference(np.asarray(theirs(image, training=False)), ours(image)) for image in images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plus", "settings"),
    [
        (True, {"block_type": "basic_block"}),
        (True, {"block_type": "bottleneck_block_vd", "stem": (8, 8, 16), "rates": (2,)}),
        (False, {"block_type": "basic_block", "use_pre_activation": True, "stem": (8, 64)}),
    ],
)
def test_a_preset_and_a_keras_file_compute_what_keras_hub_does(plus, settings, tmp_path):
    theirs = keras_hub_segmenter(plus, **settings)
    theirs.save_to_preset(tmp_path / "preset")
    theirs.save(tmp_path / "model.keras")
    for path in (tmp_path / "preset", tmp_path / "model.keras"):
        ours = load(path, include_preprocessing=False)
        assert _worst(theirs, ours) <= 1e-5
    assert load(path).spec.preprocessing == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plus", "settings"),
    [
        (True, {"block_type": "bottleneck_block_vd", "stem": (8, 8, 16), "rates": (2,)}),
        (False, {"block_type": "basic_block", "use_pre_activation": True, "stem": (8, 64)}),
    ],
)
def test_what_was_loaded_goes_back_as_a_preset_of_the_same_values(plus, settings, tmp_path):
    theirs = keras_hub_segmenter(plus, **settings)
    theirs.save_to_preset(tmp_path / "preset")
    ours = load(tmp_path / "preset")
    keras_deeplab.export_weights(ours, tmp_path / "back", "keras_hub")
    again = peer("keras_hub").models.ImageSegmenter.from_preset(str(tmp_path / "back"))
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype("float32")
    assert np.array_equal(again(images, training=False), theirs(images, training=False))
    # With its preprocessor, which `predict` goes through: the model that was written, pixels and all.
    assert difference(np.asarray(ours(images)), again.predict(images, verbose=0)) <= 1e-5


@pytest.mark.slow
def test_a_model_that_was_built_here_is_one_of_keras_hub(tmp_path):
    settings = {"flavour": "keras_hub", "output_stride": 32, "num_classes": 4, "classifier_activation": "softmax"}
    model = keras_deeplab.DeepLabV3Plus("resnet_keras_hub", low_level="stack1_block3_out", **settings)
    randomise(model)
    kernel = model.get_layer("logits").kernel
    kernel.assign(kernel / 1000)  # scores of thousands would leave softmax nothing but zeros and ones
    keras_deeplab.export_weights(model, tmp_path / "preset", "keras_hub")
    theirs = peer("keras_hub").models.ImageSegmenter.from_preset(str(tmp_path / "preset"))
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype("float32")
    assert difference(np.asarray(model(images)), theirs.predict(images, verbose=0)) <= 1e-5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"output_stride": 16}, r"at output_stride=32.*received .* at output_stride=16, multi_grid=None"),
        ({"multi_grid": (1, 2)}, r"multi_grid=\(1, 2\)"),
        ({"filters": 64}, r"has 256 filters in its pyramid, whatever is asked for; received \{'aspp1': 64"),
        ({"builder": "DeepLabV3", "head": "image_pooling"}, "has a pyramid with atrous branches; the model has none"),
        ({"low_level": "stack0_block1_out"}, r"from stack0_block2_out, stack1_block3_out, .*'stack0_block1_out'"),
        ({"include_preprocessing": "caffe"}, r"scales three channels in their order; the model has 3 and .* caffe"),
        ({"input_shape": (None, None, 4)}, r"the model has 4 and normalises by torch.*include_preprocessing=False"),
    ],
)
def test_what_keras_hub_has_not_is_refused_and_nothing_is_written(settings, told, tmp_path):
    asked = {"flavour": "keras_hub", "output_stride": 32, "num_classes": 4, **settings}
    builder = getattr(keras_deeplab, asked.pop("builder", "DeepLabV3Plus"))
    model = builder("resnet_keras_hub", **asked)
    with pytest.raises(ValueError, match=told):
        keras_deeplab.export_weights(model, tmp_path / "preset", "keras_hub")
    assert not list(tmp_path.iterdir())


def test_without_keras_hub_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    model = keras_deeplab.DeepLabV3Plus("resnet_keras_hub", flavour="keras_hub", output_stride=32, num_classes=4)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ValueError, match=r"pip install keras-hub"):
        keras_deeplab.export_weights(model, tmp_path / "preset", "keras_hub")
    with pytest.raises(ValueError, match=r"is a folder of several files"):
        keras_deeplab.export_weights(model, tmp_path / "preset.keras", "keras_hub")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_weights_alone_are_asked_about(tmp_path):
    theirs = keras_hub_segmenter(rates=(6, 12, 18))
    path = tmp_path / "model.weights.h5"
    theirs.save_weights(path)
    with pytest.raises(ValueError, match=r"fit 6 networks.*atrous_rates=\(6, 12, 18\), include_preprocessing=False or"):
        load(path)
    ours = load(path, atrous_rates=(6, 12, 18), include_preprocessing=False)
    assert _worst(theirs, ours) <= 1e-5
    # A backbone's preset has no classifier, and other encoders are refused by their names.
    theirs.backbone.save_to_preset(tmp_path / "backbone")
    with pytest.raises(ValueError, match=r"has no classifier\. Give num_classes="):
        load(tmp_path / "backbone")
    config = json.loads((tmp_path / "backbone/config.json").read_text())
    config["config"]["image_encoder"]["registered_name"] = "keras_hub>EfficientNetBackbone"
    (tmp_path / "backbone/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"what can be built: 'ResNetBackbone'"):
        load(tmp_path / "backbone", num_classes=2)


def test_vd_blocks_with_pre_activation_are_refused():
    with pytest.raises(ValueError, match="with use_pre_activation one of the first two"):
        keras_deeplab.BACKBONES["resnet_keras_hub"].build(
            (None, None, 3), block_type="basic_block_vd", use_pre_activation=True
        )
