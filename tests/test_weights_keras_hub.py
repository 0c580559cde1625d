"""Models of keras-hub: its own networks beside what is loaded from its presets and files, and what is refused."""

import json

import numpy as np
import pytest
from hub_peers import difference, keras_hub_segmenter

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
