"""Checkpoints of jfzhang95/pytorch-deeplab-xception (modeling/deeplab.py, aspp.py, decoder.py).

Its MobileNetV2 keeps every tensor under two names, since its two halves are slices of `features`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_deeplab.backbones import drn
from keras_deeplab.networks import V3_PLUS, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.torchvision import RESNET, RESNET_UNITS, resnet_name, width_of

TITLE = "jfzhang95's pytorch-deeplab-xception"

# Their convolution, their batch norm, our layer ---------------------------------------------------------------------

_XCEPTION = [
    ("conv{n:1-2}", "bn{n:1-2}", "conv{n}"),
    ("block{block}.skip", "block{block}.skipbn", "block{block}_skip"),
    ("block{block}.rep.{place}.conv1", "block{block}.rep.{place}.bn", "block{block}_rep_{place}_conv1"),
    ("block{block}.rep.{place}.pointwise", "block{block}.rep.{place+1}", "block{block}_rep_{place}_pointwise"),
    ("conv{n:3-5}.conv1", "conv{n:3-5}.bn", "conv{n}_conv1"),
    ("conv{n:3-5}.pointwise", "bn{n:3-5}", "conv{n}_pointwise"),
]
_HALF = "{half:features|low_level_features|high_level_features}."
MOBILENET_V2 = [
    (f"{_HALF}0.0", f"{_HALF}0.1", "Conv1"),
    (f"{_HALF}1.conv.0", f"{_HALF}1.conv.1", "expanded_conv_depthwise"),
    (f"{_HALF}1.conv.3", f"{_HALF}1.conv.4", "expanded_conv_project"),
    (f"{_HALF}{{block}}.conv.0", f"{_HALF}{{block}}.conv.1", "block_{block-1}_expand"),
    (f"{_HALF}{{block}}.conv.3", f"{_HALF}{{block}}.conv.4", "block_{block-1}_depthwise"),
    (f"{_HALF}{{block}}.conv.6", f"{_HALF}{{block}}.conv.7", "block_{block-1}_project"),
]
# Where it has no residual units, convolution, batch norm and ReLU take turns.
DRN_D = [
    *RESNET_UNITS,
    ("layer{layer}.{place:0|3}", "layer{layer}.{place+1:0|3}", "layer{layer}_{place}"),
]
_HEAD = [
    ("aspp.aspp{branch:1-4}.atrous_conv", "aspp.aspp{branch:1-4}.bn", "aspp{branch-1}"),
    ("aspp.global_avg_pool.1", "aspp.global_avg_pool.2", "image_pooling"),
    ("aspp.conv1", "aspp.bn1", "concat_projection"),
    ("decoder.conv1", "decoder.bn1", "feature_projection0"),
    ("decoder.last_conv.0", "decoder.last_conv.1", "decoder_conv0"),
    ("decoder.last_conv.4", "decoder.last_conv.5", "decoder_conv1"),
    ("decoder.last_conv.8", None, "logits"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't jfzhang95's.

    Raises:
        ValueError: it is, on a backbone that isn't built here.
    """
    if "aspp.aspp1.atrous_conv.weight" not in shapes:
        return None
    table, backbone = _backbone(shapes, label)
    table = table + rows(_HEAD)
    classes, settings, blocks = torch_head(renamed(shapes, table, TORCH))
    spec = network(V3_PLUS, num_classes=classes, flavour="jfzhang95", **settings, **backbone)
    return Plan("jfzhang95", spec, table, TORCH, constants={"half": "features"}, blocks=blocks)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    if "block20_rep_1_conv1/kernel" in paths:
        table = _XCEPTION
    elif "block_1_expand/kernel" in paths:
        table = MOBILENET_V2
    else:
        table = DRN_D if "layer0_0/kernel" in paths else RESNET
    return rows(table, "backbone.") + rows(_HEAD), TORCH, {"half": "features"}


def other_names(name: str) -> Any:
    """The other names that the source keeps a tensor under.

    >>> other_names("backbone.features.4.conv.0.weight")
    ['backbone.high_level_features.4.conv.0.weight']
    """
    found = re.fullmatch(r"backbone\.features\.((\d+)\..*)", name)
    if found is None:
        return []
    return [f"backbone.{'low' if int(found[2]) < 4 else 'high'}_level_features.{found[1]}"]


def _backbone(shapes, label):
    """The backbone's table of names, and what the record says of it."""
    if "backbone.block20.rep.1.conv1.weight" in shapes:
        return rows(_XCEPTION, "backbone."), {"backbone": "xception_jfzhang95"}
    if "backbone.low_level_features.0.0.weight" in shapes:
        table = rows(MOBILENET_V2, "backbone.")
        width = width_of(renamed(shapes, table, TORCH), "block_16_project", 320)
        return table, {"backbone": "mobilenet_v2_jfzhang95", "backbone_settings": width}
    if "backbone.layer0.0.weight" in shapes:
        table = rows(DRN_D, "backbone.")
        return table, {"backbone": drn_d_name(renamed(shapes, table, TORCH), label), "output_stride": 8}
    table = rows(RESNET, "backbone.")
    name = resnet_name(renamed(shapes, table, TORCH), label)
    return table, {"backbone": name, "multi_grid": (1, 2, 4)}


def drn_d_name(paths: Iterable[str], label: str) -> Any:
    """The registry key of the DRN-D that `{variable path: shape}` belongs to, from its counts of units."""
    bottlenecks = "layer3_0_conv3/kernel" in paths
    units = [sum(bool(re.fullmatch(rf"layer{n}_\d+(_conv1)?/kernel", path)) for path in paths) for n in range(1, 9)]
    known = {name: row for name, row in drn.TABLE.items() if name.startswith("drn_d")}
    for name, (unit, counts) in known.items():
        if counts == tuple(units) and (unit is drn.bottleneck_unit) == bottlenecks:
            return name
    raise ValueError(
        f"{label} holds a dilated residual network of {units} units {'with' if bottlenecks else 'without'} "
        "bottlenecks, which isn't built here. Units of those that are: "
        + ", ".join(f"{name} {list(counts)}" for name, (_, counts) in known.items())
        + "."
    )
