"""Checkpoints of torchvision: its DeepLab v3, its lite R-ASPP, and the classifiers whose names serve others as well.

Source: torchvision/models/segmentation/deeplabv3.py, lraspp.py and fcn.py; models/resnet.py, vgg.py, mobilenetv2.py,
mobilenetv3.py.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.backbones import BACKBONES, resnet, vgg
from keras_deeplab.networks import V3, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head

TITLE = "torchvision's DeepLabV3 and LRASPP"

# Backbones: their convolution, their batch norm, our layer ---------------------------------------------------------

RESNET_UNITS = [
    ("layer{stage}.{unit}.conv{n}", "layer{stage}.{unit}.bn{n}", "layer{stage}_{unit}_conv{n}"),
    ("layer{stage}.{unit}.downsample.0", "layer{stage}.{unit}.downsample.1", "layer{stage}_{unit}_downsample"),
]
RESNET = [("conv1", "bn1", "conv1"), *RESNET_UNITS]
MOBILENET_V2 = [
    ("0.0", "0.1", "Conv1"),
    ("1.conv.0.0", "1.conv.0.1", "expanded_conv_depthwise"),
    ("1.conv.1", "1.conv.2", "expanded_conv_project"),
    ("{block}.conv.0.0", "{block}.conv.0.1", "block_{block-1}_expand"),
    ("{block}.conv.1.0", "{block}.conv.1.1", "block_{block-1}_depthwise"),
    ("{block}.conv.2", "{block}.conv.3", "block_{block-1}_project"),
    ("18.0", "18.1", "Conv_1"),
]
MOBILENET_V3 = [
    ("{block}.0", "{block}.1", "features_{block}_0"),
    ("{block}.block.{place}.0", "{block}.block.{place}.1", "features_{block}_block_{place}_0"),
    ("{block}.block.{place}.fc{n}", None, "features_{block}_block_{place}_fc{n}"),
]

# Heads ------------------------------------------------------------------------------------------------------------

# The pyramid; segmentation_models.pytorch and VainF have the same names in it.
ASPP = [
    ("convs.0.0", "convs.0.1", "aspp0"),
    ("convs.{branch:1-3}.0", "convs.{branch:1-3}.1", "aspp{branch}"),
    ("convs.4.1", "convs.4.2", "image_pooling"),
    ("project.0", "project.1", "concat_projection"),
]
_HEAD = [
    ("classifier.1", "classifier.2", "head_conv"),
    ("classifier.4", None, "logits"),
    ("aux_classifier.0", "aux_classifier.1", "auxiliary_conv"),
    ("aux_classifier.4", None, "auxiliary_logits"),
]
_LITE = [
    ("classifier.cbr.0", "classifier.cbr.1", "aspp0"),
    ("classifier.scale.1", None, "image_pooling"),
    ("classifier.low_classifier", None, "feature_projection0"),
    ("classifier.high_classifier", None, "decoder_conv0"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it is neither of torchvision's.

    Raises:
        ValueError: it is, on a backbone that isn't built here.
    """
    if "classifier.cbr.0.weight" in shapes:
        return _lite(shapes, label)
    if "classifier.0.convs.0.0.weight" not in shapes:
        return None
    mobilenet = "backbone.0.0.weight" in shapes
    table = _rows(mobilenet)
    paths = renamed(shapes, table, TORCH)
    classes, settings, blocks = torch_head(paths)
    spec = network(
        V3,
        **(_mobilenet_v3(paths, label) if mobilenet else {"backbone": resnet_name(paths, label)}),
        num_classes=classes,
        output_stride=16 if mobilenet else 8,
        flavour="torchvision",
        atrous_rates=(12, 24, 36),  # at either stride
        **settings,
    )
    return Plan("torchvision", spec, table, TORCH, blocks=blocks, optional=r"auxiliary_(conv|conv_BN|logits)/.*")


def _lite(shapes, label):
    """The plan of a lite R-ASPP, of which torchvision publishes one on MobileNetV3 large."""
    table = rows(MOBILENET_V3, "backbone.") + rows(_LITE)
    paths = renamed(shapes, table, TORCH)
    spec = network(
        V3,
        **_mobilenet_v3(paths, label),
        num_classes=shapes.get("classifier.low_classifier.weight", (None,))[0],
        flavour="torchvision",
        head="lite_raspp",
        filters=shapes["classifier.cbr.0.weight"][0],
    )
    return Plan("torchvision", spec, table, TORCH)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    if "feature_projection0/kernel" in paths:
        return rows(MOBILENET_V3, "backbone.") + rows(_LITE), TORCH, {}
    return _rows(mobilenet="features_0_0/kernel" in paths), TORCH, {}


def _rows(mobilenet):
    return rows(MOBILENET_V3 if mobilenet else RESNET, "backbone.") + rows(ASPP, "classifier.0.") + rows(_HEAD)


def resnet_name(paths: Any, label: str, suffix: str = "") -> Any:
    """The registry key of the ResNet that `{variable path: shape}` belongs to.

    Raises:
        ValueError: there is no such ResNet or ResNeXt, or it is a wide one.
    """
    units = []
    for stage in range(1, 5):
        found = [re.fullmatch(rf"layer{stage}_(\d+)_conv1/kernel", path) for path in paths]
        units.append(1 + max((int(match[1]) for match in found if match), default=-1))
    bottlenecks = "layer1_0_conv3/kernel" in paths
    second = paths.get("layer1_0_conv2/kernel")
    for depth, counts in resnet.TABLE.items():
        if counts == tuple(units) and (depth >= 50) == bottlenecks:
            if second is not None and tuple(second) != (64, 64, 3, 3):
                grouped = f"resnext{depth}_{second[0] // max(second[1], 1)}x{second[1]}d{suffix}"
                if grouped in BACKBONES:
                    return grouped
                raise ValueError(
                    f"{label} holds a wide or grouped ResNet (wide_resnet, resnext), which isn't built here: its "
                    f"first 3x3 convolution has the shape {tuple(second)}, not (64, 64, 3, 3)."
                )
            return f"resnet{depth}{suffix}"
    raise ValueError(
        f"{label} holds a ResNet of {units} units {'with' if bottlenecks else 'without'} bottlenecks, which isn't "
        "built here. Units of those that are: "
        + ", ".join(f"{depth} {list(counts)}" for depth, counts in resnet.TABLE.items())
        + "; from 50 on they are bottlenecks."
    )


def _mobilenet_v3(paths, label):
    """What the record says of torchvision's MobileNetV3 that `{variable path: shape}` belongs to."""
    for size, last, project, filters in [("large", 16, 15, 160), ("small", 12, 11, 96)]:
        if f"features_{last}_0/kernel" in paths:
            width = width_of(paths, f"features_{project}_block_3_0", filters)
            return {"backbone": f"mobilenet_v3_{size}", "backbone_settings": width}
    raise ValueError(f"{label} holds a MobileNetV3 that is neither torchvision's large nor its small one.")


def width_of(paths: Any, layer: str, filters: Any) -> Any:
    """The `backbone_settings` of a MobileNet: none at width 1, else its multiplier.

    Args:
        paths: `{variable path: shape of the array}`.
        layer: a convolution near the network's end, which has `filters` filters at width 1.

    Raises:
        ValueError: a multiplier that no network has.
    """
    width = paths.get(f"{layer}/kernel", (filters,))[0] / filters
    if not 0 < width <= 4:
        raise ValueError(f"the convolution {layer!r} has {width:g} times the {filters} filters that it has at width 1")
    return {} if width == 1 else {"alpha": width}


def vgg_table(depth: int, norm: bool = False) -> Any:
    """The convolutions of a VGG in torchvision's sequence, where ReLU, pooling and batch norm count as places, too."""
    table, place = [], 0
    for stage, count in enumerate(vgg.TABLE[depth], start=1):
        for n in range(1, count + 1):
            table.append((f"{place}", f"{place + 1}" if norm else None, f"conv{stage}_{n}"))
            place += 3 if norm else 2
        place += 1
    return table
