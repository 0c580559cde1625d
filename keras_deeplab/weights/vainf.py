"""Checkpoints of VainF/DeepLabV3Plus-Pytorch (network/modeling.py, network/_deeplab.py).

Its `.pth` files hold the model under `model_state`. A head that went through `convert_to_separable_conv` has other
names and is recognised by them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.torchvision import (
    ASPP,
    MOBILENET_V2,
    RESNET,
    RESNET_UNITS,
    resnet_name,
    width_of,
)

TITLE = "VainF's DeepLabV3Plus-Pytorch"

# Backbones: their convolution, their batch norm, our layer ---------------------------------------------------------

_MOBILENET_V2 = [
    (scope + convolution.replace("{block}", blocks), scope + batch_norm.replace("{block}", blocks), layer)
    for scope, blocks in [("low_level_features.", "{block:1-3}"), ("high_level_features.", "{block:4-17}")]
    for convolution, batch_norm, layer in MOBILENET_V2
]
_XCEPTION = [
    ("conv{n:1-2}", "bn{n:1-2}", "conv{n}"),
    ("block{block}.skip", "block{block}.skipbn", "block{block}_skip"),
    ("block{block}.rep.{place}.conv1", None, "block{block}_rep_{place}_conv1"),
    ("block{block}.rep.{place}.pointwise", "block{block}.rep.{place+1}", "block{block}_rep_{place}_pointwise"),
    ("conv{n:3-4}.conv1", None, "conv{n}_conv1"),
    ("conv{n:3-4}.pointwise", "bn{n:3-4}", "conv{n}_pointwise"),
]
_HRNET = [
    ("conv{n:1-2}", "bn{n:1-2}", "conv{n}"),
    *RESNET_UNITS,
    ("transition{n}.0.0", "transition{n}.0.1", "transition{n}_0_0"),
    ("transition{n}.1.0.0", "transition{n}.1.0.1", "transition{n}_1_0_0"),
    ("transition{n}.0", "transition{n}.1", "transition{n}_0"),
    (
        "stage{stage}.{module}.branches.{branch}.{block}.conv{n}",
        "stage{stage}.{module}.branches.{branch}.{block}.bn{n}",
        "stage{stage}_{module}_branches_{branch}_{block}_conv{n}",
    ),
    (
        "stage{stage}.{module}.fuse_layers.{to}.{source}.0",
        "stage{stage}.{module}.fuse_layers.{to}.{source}.1",
        "stage{stage}_{module}_fuse_layers_{to}_{source}_0",
    ),
    (
        "stage{stage}.{module}.fuse_layers.{to}.{source}.{step}.0",
        "stage{stage}.{module}.fuse_layers.{to}.{source}.{step}.1",
        "stage{stage}_{module}_fuse_layers_{to}_{source}_{step}_0",
    ),
]

# Heads, also after convert_to_separable_conv ------------------------------------------------------------------------

_ASPP_SEPARABLE = [
    ("convs.0.0", "convs.0.1", "aspp0"),
    ("convs.{branch:1-3}.0.body.0", None, "aspp{branch}_depthwise"),
    ("convs.{branch:1-3}.0.body.1", "convs.{branch:1-3}.1", "aspp{branch}_pointwise"),
    ("convs.4.1", "convs.4.2", "image_pooling"),
    ("project.0", "project.1", "concat_projection"),
]
_V3 = [
    ("1", "2", "head_conv"),
    ("4", None, "logits"),
]
_V3_SEPARABLE = [
    ("1.body.0", None, "head_conv_depthwise"),
    ("1.body.1", "2", "head_conv_pointwise"),
    ("4", None, "logits"),
]
_V3_PLUS = [
    ("project.0", "project.1", "feature_projection0"),
    ("classifier.0", "classifier.1", "decoder_conv0"),
    ("classifier.3", None, "logits"),
]
_V3_PLUS_SEPARABLE = [
    ("project.0", "project.1", "feature_projection0"),
    ("classifier.0.body.0", None, "decoder_conv0_depthwise"),
    ("classifier.0.body.1", "classifier.1", "decoder_conv0_pointwise"),
    ("classifier.3", None, "logits"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't VainF's.

    Raises:
        ValueError: it is, on a backbone that isn't built here.
    """
    plus = "classifier.aspp.convs.0.0.weight" in shapes
    if not plus and "classifier.classifier.0.convs.0.0.weight" not in shapes:
        return None
    pyramid = "classifier.aspp." if plus else "classifier.classifier.0."
    separable = f"{pyramid}convs.1.0.body.0.weight" in shapes
    table, backbone = _backbone(shapes, label)
    table = table + _head(plus, separable)
    classes, settings, blocks = torch_head(renamed(shapes, table, TORCH), low_level_first=True)
    flavour = "vainf_separable" if separable else "vainf"
    builder = V3_PLUS if plus else V3
    spec = network(builder, **backbone, num_classes=classes, flavour=flavour, separable=separable, **settings)
    return Plan("vainf", spec, table, TORCH, blocks=blocks)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    if "stage4_0_branches_0_0_conv1/kernel" in paths:
        table: Any = _HRNET
    elif "block12_rep_1_conv1/kernel" in paths:
        table = _XCEPTION
    else:
        table = _MOBILENET_V2 if "Conv1/kernel" in paths else RESNET
    head = _head("feature_projection0/kernel" in paths, "aspp1_depthwise/kernel" in paths)
    return rows(table, "backbone.") + head, TORCH, {}


def _head(plus, separable):
    """The rows of a head of v3 or, with `plus`, v3+."""
    if plus:
        scope, pyramid = "classifier.", "classifier.aspp."
        table = _V3_PLUS_SEPARABLE if separable else _V3_PLUS
    else:
        scope, pyramid = "classifier.classifier.", "classifier.classifier.0."
        table = _V3_SEPARABLE if separable else _V3
    return rows(_ASPP_SEPARABLE if separable else ASPP, pyramid) + rows(table, scope)


def _backbone(shapes, label):
    """The backbone's table of names, and what the record says of it."""
    width = shapes.get("backbone.stage4.0.branches.0.0.conv1.weight")
    if width is not None:
        if width[0] not in (32, 48):
            raise ValueError(f"{label} holds an HRNetV2 of width {width[0]}; those of 32 and 48 are built here.")
        return rows(_HRNET, "backbone."), {
            "backbone": f"hrnetv2_{width[0]}",
            "output_stride": 4,
            "atrous_rates": (12, 24, 36),
        }
    if "backbone.block12.rep.1.conv1.weight" in shapes:
        return rows(_XCEPTION, "backbone."), {"backbone": "xception_vainf"}
    if "backbone.low_level_features.0.0.weight" in shapes:
        table = rows(_MOBILENET_V2, "backbone.")
        width = width_of(renamed(shapes, table, TORCH), "block_16_project", 320)
        return table, {"backbone": "mobilenet_v2_vainf", "backbone_settings": width}
    table = rows(RESNET, "backbone.")
    return table, {"backbone": resnet_name(renamed(shapes, table, TORCH), label)}
