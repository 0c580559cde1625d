"""transformers' `MobileNetV2ForSemanticSegmentation`: DeepLab v3 without atrous branches, on MobileNetV2.

Its code and page call it v3+, as Google's file does whose weights it has; there is no decoder in it.

Source: models/mobilenet_v2/modeling_mobilenet_v2.py and configuration_mobilenet_v2.py.
"""

from typing import Any

import numpy as np

from keras_deeplab.backbones.mobilenet_v2_transformers import rounded
from keras_deeplab.networks import V3, network
from keras_deeplab.weights.hub_configs import ACTIVATIONS, Processor, theirs
from keras_deeplab.weights.names import rows

ARCHITECTURE = "MobileNetV2ForSemanticSegmentation"
FIRST = "mobilenet_v2.conv_stem.first_conv.convolution"
TELLING = ("Conv1", "block_16_project", "image_pooling", "logits")
# The classifier's last convolution, which the head doesn't see.
OPTIONAL = r"mobilenet_v2\.conv_1x1\..*"
PROCESSOR = Processor(
    "MobileNetV2",
    normalises=True,
    flips=None,
    size={"shortest_edge": 513},
    crop={"height": 513, "width": 513},
    resample=2,
)
_PARTS = [("expand_1x1", "expand"), ("conv_3x3", "depthwise"), ("reduce_1x1", "project")]
_LAYERS = [
    ("conv_stem.first_conv", "Conv1"),
    *((f"conv_stem.{part}", f"expanded_conv_{ours}") for part, ours in _PARTS),
    *((f"layer.{{block}}.{part}", f"block_{{block+1}}_{ours}") for part, ours in _PARTS),
]
_HEAD = [
    ("conv_pool.convolution", "conv_pool.normalization", "image_pooling"),
    ("conv_aspp.convolution", "conv_aspp.normalization", "aspp0"),
    ("conv_projection.convolution", "conv_projection.normalization", "concat_projection"),
    ("classifier.convolution", None, "logits"),
]
ROWS = tuple(
    rows([(f"{each}.convolution", f"{each}.normalization", ours) for each, ours in _LAYERS], "mobilenet_v2.")
    + rows(_HEAD, "segmentation_head.")
)
# our setting of the backbone -> theirs
_SETTINGS = {
    "alpha": "depth_multiplier",
    "divisible_by": "depth_divisible_by",
    "min_depth": "min_depth",
    "expand_ratio": "expand_ratio",
    "first_layer_is_expansion": "first_layer_is_expansion",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "tf_padding": "tf_padding",
}


def network_of(settings: Any, paths: Any, num_classes: int | None) -> Any:
    """The settings of a `config.json` and `{variable path: shape}` to (record, blocks of input channels)."""
    values = {
        "alpha": settings.number("depth_multiplier", 1.0, most=4),
        "divisible_by": settings.whole("depth_divisible_by", 8),
        "min_depth": settings.whole("min_depth", 8),
        "expand_ratio": settings.number("expand_ratio", 6.0, most=64),
        "first_layer_is_expansion": settings.switch("first_layer_is_expansion", True),
        "activation": settings.text("hidden_act", "relu6", ACTIVATIONS),
        "epsilon": settings.number("layer_norm_eps", 0.001),
        "tf_padding": settings.switch("tf_padding", True),
    }
    output_stride = settings.whole("output_stride", 32)
    if output_stride not in (4, 8, 16, 32):
        raise settings.refused("output_stride", "4, 8, 16 or 32")
    spec = network(
        V3,
        "mobilenet_v2_transformers",
        num_classes=num_classes,
        output_stride=output_stride,
        backbone_settings=values,
        flavour="transformers",
        head="image_pooling",
        filters=paths["aspp0/kernel"][0],
        dropout=settings.number("classifier_dropout_prob", 0.8, least=-1, most=1),
    )
    return spec, {}


def config_of(spec: Any, paths: Any) -> Any:
    """A model's record to the settings of its `config.json`."""
    ours = {"activation": "relu6", **spec.backbone_settings}
    ours["activation"] = theirs(ours["activation"])
    config = {_SETTINGS[name]: value for name, value in ours.items() if name in _SETTINGS}
    dropout = spec.settings.get("dropout")
    return config | {
        "output_stride": spec.output_stride,
        "finegrained_output": True,
        "classifier_dropout_prob": 0.8 if dropout is None else dropout,
    }


def fillers(config: Any) -> Any:
    """The classifier's last convolution, at zero."""
    alpha, divisor = config.get("depth_multiplier", 1.0), config.get("depth_divisible_by", 8)
    before, behind = (rounded(count * alpha, divisor, config.get("min_depth", 8)) for count in (320, 1280))
    behind = 1280 if alpha < 1 else behind
    zeros, scope = np.zeros(behind, "float32"), "mobilenet_v2.conv_1x1"
    return {
        f"{scope}.convolution.weight": np.zeros((behind, before, 1, 1), "float32"),
        f"{scope}.normalization.weight": zeros + 1,
        f"{scope}.normalization.bias": zeros,
        f"{scope}.normalization.running_mean": zeros,
        f"{scope}.normalization.running_var": zeros + 1,
        f"{scope}.normalization.num_batches_tracked": np.zeros((), "int64"),
    }
