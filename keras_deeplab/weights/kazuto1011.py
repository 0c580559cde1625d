"""Checkpoints of kazuto1011/deeplab-pytorch (libs/models/): DeepLab v1, v2, v3 and v3+ on the Caffe ResNets.

A model that was made for several scales (libs/models/msc.py) has `base.` before its names.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab._helpers.warning import warn
from keras_deeplab.networks import V1, V2, V3, V3_PLUS, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.torchvision import resnet_name

TITLE = "kazuto1011's deeplab-pytorch"

# Their convolution, their batch norm, our layer ---------------------------------------------------------------------

# Stages are counted as the paper does: `layer1` is the stem.
RESNET = [
    ("layer1.conv1.conv", "layer1.conv1.bn", "conv1"),
    *(
        (
            f"layer{{stage}}.block{{unit}}.{part}.conv",
            f"layer{{stage}}.block{{unit}}.{part}.bn",
            f"layer{{stage-1}}_{{unit-1}}_{name}",
        )
        for part, name in [
            ("reduce", "conv1"),
            ("conv3x3", "conv2"),
            ("increase", "conv3"),
            ("shortcut", "downsample"),
        ]
    ),
]
_V1 = [("fc", None, "logits")]
_V2 = [("aspp.c{branch}", None, "logits_{branch+1}")]
_ASPP = [
    ("aspp.stages.c0.conv", "aspp.stages.c0.bn", "aspp0"),
    ("aspp.stages.c{branch}.conv", "aspp.stages.c{branch}.bn", "aspp{branch}"),
    ("aspp.stages.imagepool.conv.conv", "aspp.stages.imagepool.conv.bn", "image_pooling"),
    ("fc1.conv", "fc1.bn", "concat_projection"),
]
_V3 = [
    *_ASPP,
    ("fc2", None, "logits"),
]
_V3_PLUS = [
    *_ASPP,
    ("reduce.conv", "reduce.bn", "feature_projection0"),
    ("fc2.conv1.conv", "fc2.conv1.bn", "decoder_conv0"),
    ("fc2.conv2.conv", "fc2.conv2.bn", "decoder_conv1"),
    ("fc2.conv3", None, "logits"),
]
# an array that only this one has -> its table, builder, output stride, settings
_MODELS: dict[str, tuple[Any, str, int, dict[str, Any]]] = {
    "fc.weight": (_V1, V1, 8, {"variant": None, "align_corners": False}),
    "aspp.c0.weight": (_V2, V2, 8, {"align_corners": False}),
    "fc2.weight": (_V3, V3, 16, {"flavour": "kazuto1011"}),
    "fc2.conv3.weight": (_V3_PLUS, V3_PLUS, 16, {"flavour": "kazuto1011"}),
}


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't kazuto1011's.

    Raises:
        ValueError: it is, on a backbone or with a head that isn't built here.
    """
    scope = next((s for s in ("", "base.", "scale.") if f"{s}layer1.conv1.conv.weight" in shapes), None)
    if scope is None:
        return None
    found = [array for array in _MODELS if scope + array in shapes]
    if len(found) != 1:
        raise ValueError(
            f"{label} holds a ResNet of {TITLE} and {'no head' if not found else 'several heads'}: of "
            f"{', '.join(scope + array for array in _MODELS)} it has {', '.join(found) or 'none'}."
        )
    head, builder, output_stride, settings = _MODELS[found[0]]
    table = rows(RESNET, scope) + rows(head, scope)
    paths = renamed(shapes, table, TORCH)
    blocks = {}
    if builder in (V3, V3_PLUS):
        classes, head_settings, blocks = torch_head(paths)
        settings = {**settings, **head_settings}
        if scope:
            warn(
                f"{label} was made for several scales of the image at once. The model that is built sees one; its "
                "weights are the same."
            )
    else:
        classes = paths["logits/kernel" if builder == V1 else "logits_1/kernel"][0]
        if builder == V2:
            settings = {**settings, "multi_scale": bool(scope)}
    backbone = resnet_name(paths, label, suffix="_caffe")
    spec = network(builder, backbone, num_classes=classes, output_stride=output_stride, **settings)
    return Plan("kazuto1011", spec, table, TORCH, blocks=blocks)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths and the model's layers."""
    if "feature_projection0/kernel" in paths:
        head: Any = _V3_PLUS
    elif "aspp0/kernel" in paths:
        head = _V3
    else:
        head = _V2 if "logits_1/kernel" in paths else _V1
    scope = "base." if "network" in layers else ""  # of all scales
    return rows(RESNET, scope) + rows(head, scope), TORCH, {}
