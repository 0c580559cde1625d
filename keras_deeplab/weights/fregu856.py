"""Checkpoints of fregu856/deeplabv3 (model/deeplabv3.py, resnet.py, aspp.py).

Which stages it has made itself tells its output stride: `layer5` alone is 16, `layer4` beside it 8.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.networks import V3, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.torchvision import resnet_name

TITLE = "fregu856's deeplabv3"

# Their convolution, their batch norm, our layer ---------------------------------------------------------------------

# torchvision's layer1 to layer3 stand in places 4 to 6 of `resnet`; the others are counted as the paper does, from 4.
_RESNET = [
    ("resnet.0", "resnet.1", "conv1"),
    ("resnet.{stage:4-6}.{unit}.conv{n}", "resnet.{stage:4-6}.{unit}.bn{n}", "layer{stage-3}_{unit}_conv{n}"),
    (
        "resnet.{stage:4-6}.{unit}.downsample.0",
        "resnet.{stage:4-6}.{unit}.downsample.1",
        "layer{stage-3}_{unit}_downsample",
    ),
    ("layer{stage:4-5}.{unit}.conv{n}", "layer{stage:4-5}.{unit}.bn{n}", "layer{stage-1}_{unit}_conv{n}"),
    (
        "layer{stage:4-5}.{unit}.downsample.0",
        "layer{stage:4-5}.{unit}.downsample.1",
        "layer{stage-1}_{unit}_downsample",
    ),
]
_ASPP = [
    ("conv_1x1_1", "bn_conv_1x1_1", "aspp0"),
    ("conv_3x3_{branch}", "bn_conv_3x3_{branch}", "aspp{branch}"),
    ("conv_1x1_2", "bn_conv_1x1_2", "image_pooling"),
    ("conv_1x1_3", "bn_conv_1x1_3", "concat_projection"),
    ("conv_1x1_4", None, "logits"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't fregu856's.

    Raises:
        ValueError: it is, on a backbone that isn't built here.
    """
    if "aspp.conv_1x1_1.weight" not in shapes:
        return None
    table = rows(_RESNET, "resnet.") + rows(_ASPP, "aspp.")
    paths = renamed(shapes, table, TORCH)
    classes, settings, blocks = torch_head(paths)
    output_stride = 8 if "resnet.layer4.0.conv1.weight" in shapes else 16
    settings = {"num_classes": classes, "output_stride": output_stride, "flavour": "fregu856", **settings}
    return Plan("fregu856", network(V3, resnet_name(paths, label), **settings), table, TORCH, blocks=blocks)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given the model's layers."""
    # At output stride 8 two stages have names of their own, which are the last rows' then, not the first ones'.
    unit = layers.get("layer3_1_conv1")
    own = unit is not None and unit.dilation_rate[0] > 1
    return rows(_RESNET[::-1] if own else _RESNET, "resnet.") + rows(_ASPP, "aspp."), TORCH, {}
