"""Checkpoints of bonlime/keras-deeplab-v3-plus (model.py), which are research/deeplab's in Keras's names.

The names are those of Keras's variables, with or without a `:0` behind them, the layer's name once or twice in front.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.names import KERAS, renamed
from keras_deeplab.weights.plan import Plan
from keras_deeplab.weights.tf1 import mobilenet_v2_width

TITLE = "bonlime's keras-deeplab-v3-plus"

# Their layer, our layer ---------------------------------------------------------------------------------------------

_HEAD = [
    ("{layer:image_pooling|concat_projection|feature_projection0}{norm:(?:_BN)?}", "{layer}{norm}"),
    ("{layer:aspp|decoder_conv}{n}{part:(?:_depthwise|_pointwise)?}{norm:(?:_BN)?}", "{layer}{n}{part}{norm}"),
    ("{custom:(?:custom_)?}logits_semantic", "logits"),
]
_XCEPTION = [
    ("{name:(?:entry|middle|exit)_flow_\\w+}", "{name}"),
]
_MOBILENET_V2 = [
    ("Conv{norm:(?:_BN)?}", "Conv1{norm}"),
    ("expanded_conv_{part:[a-z]+}{norm:(?:_BN)?}", "expanded_conv_{part}{norm}"),
    ("expanded_conv_{block}_{part:[a-z]+}{norm:(?:_BN)?}", "block_{block}_{part}{norm}"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't bonlime's."""
    logits = [name for name in ("custom_logits_semantic", "logits_semantic") if f"{name}/kernel" in shapes]
    if not logits:
        return None
    xception = "entry_flow_conv1_1/kernel" in shapes
    table = (_XCEPTION if xception else _MOBILENET_V2) + _HEAD
    paths = renamed(shapes, table, KERAS)
    plus = "feature_projection0/kernel" in paths
    settings = {
        "flavour": "bonlime",
        "filters": paths["aspp0/kernel"][-1],
        "separable": "aspp1_depthwise/kernel" in paths,
    }
    if plus:
        settings["low_level_filters"] = paths["feature_projection0/kernel"][-1]
    spec = network(
        V3_PLUS if plus else V3,
        "xception_65_bonlime" if xception else "mobilenet_v2",
        backbone_settings={} if xception else mobilenet_v2_width(paths),
        num_classes=paths["logits/kernel"][-1],
        atrous_rates=(6, 12, 18) if "aspp1_depthwise/kernel" in paths else (),
        **settings,
    )
    return Plan("bonlime", spec, tuple(table), KERAS, constants={"custom": logits[0].removesuffix("logits_semantic")})
