"""Checkpoints of PaddleSeg: DeepLabV3 and DeepLabV3P on ResNet-D (`ResNet50_vd`, `ResNet101_vd` and the like).

A `.pdparams` file is a pickle of arrays. What they don't tell is read from the configuration (YAML) beside it, where
there is one; else it is what the published ones share: output stride 8, rates 12, 24, 36, multi-grid 1, 2, 4, pixels to
[-1, 1]. V3P on ResNet101_vd was published with half-pixel centres and, for 769x769, with corners aligned.

Source: paddleseg/models/deeplab.py, layers/{layer_libs,pyramid_pool}.py, backbones/resnet_vd.py; configs/deeplabv3,
configs/deeplabv3p.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.backbones.preprocessing import checked
from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.specs import RESIZES
from keras_deeplab.weights.names import Dialect, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.told import mapping, whole_numbers
from keras_deeplab.weights.torchvision import resnet_name

TITLE = "PaddleSeg's DeepLabV3 and V3P"
# What its configuration says, and arrays alone don't.
FREE = ("align_corners", "multi_grid")
_ASSUMED = ("align_corners", "output_stride", "atrous_rates", "multi_grid", "include_preprocessing")
_CORNERS = ({"align_corners": False}, {"align_corners": True})
DIALECT = Dialect(
    leaves=(
        (".weight", "/kernel", ""),
        (".bias", "/bias", ""),
        (".weight", "/gamma", "_BN"),
        (".bias", "/beta", "_BN"),
        ("._mean", "/moving_mean", "_BN"),
        ("._variance", "/moving_variance", "_BN"),
    ),
    ignored=r"StructuredToParameterName@@",
    axes=((2, 3, 1, 0), (2, 3, 0, 1)),
)


def _layers(*pairs):
    """Rows of its layers of a convolution and batch norm, and ours."""
    return [(f"{theirs}._conv", f"{theirs}._batch_norm", ours) for theirs, ours in pairs]


def _separable(theirs, ours):
    # So it is written there.
    return _layers((f"{theirs}.depthwise_conv", f"{ours}_depthwise"), (f"{theirs}.piontwise_conv", f"{ours}_pointwise"))


_BACKBONE = _layers(
    ("backbone.conv1_{n:1-3}", "conv1_{n}"),
    ("backbone.bb_{stage:0-3}_{unit}.conv{n:0-2}", "layer{stage+1}_{unit}_conv{n+1}"),
    ("backbone.bb_{stage:0-3}_{unit}.short", "layer{stage+1}_{unit}_downsample"),
)
_PYRAMID = _layers(
    ("head.aspp.aspp_blocks.0", "aspp0"),
    ("head.aspp.global_avg_pool.1", "image_pooling"),
    ("head.aspp.conv_bn_relu", "concat_projection"),
)
_V3 = [*_PYRAMID, *_layers(("head.aspp.aspp_blocks.{n:1-9}", "aspp{n}")), ("head.cls", None, "logits")]
_V3_PLUS = [
    *_PYRAMID,
    *_separable("head.aspp.aspp_blocks.{n:1-9}", "aspp{n}"),
    *_layers(("head.decoder.conv_bn_relu1", "feature_projection0")),
    *_separable("head.decoder.conv_bn_relu2", "decoder_conv0"),
    *_separable("head.decoder.conv_bn_relu3", "decoder_conv1"),
    ("head.decoder.conv", None, "logits"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't PaddleSeg's DeepLab.

    Raises:
        ValueError: it is, on a backbone or with an option that isn't built here.
    """
    if "head.aspp.aspp_blocks.0._conv.weight" not in shapes:
        return None
    if "backbone.conv1_1._conv.weight" not in shapes:
        raise ValueError(f"{label} holds a DeepLab of {TITLE} on a backbone that isn't built here; ResNet_vd is.")
    plus = "head.decoder.conv_bn_relu1._conv.weight" in shapes
    table = rows(_BACKBONE) + rows(_V3_PLUS if plus else _V3)
    paths = renamed(shapes, table, DIALECT)
    if "layer1_0_conv3/kernel" not in paths:
        raise ValueError(f"{label} holds a DeepLab on ResNet18_vd or 34_vd, which isn't built here; from 50 on it is.")
    classes, settings, blocks = torch_head(paths)
    name, config = resnet_name(paths, label, "_v1d"), _config(configs)
    output_stride, told = _told(config, paths, label)
    pixels = _pixels(configs, label)
    spec = network(
        V3_PLUS if plus else V3,
        name,
        num_classes=classes,
        output_stride=output_stride,
        preprocessing=pixels or "tf",
        flavour="paddleseg",
        **settings,
        **told,
    )
    assumed = tuple(each for each in _ASSUMED if not config or (each == "include_preprocessing" and pixels is None))
    undecided = _CORNERS if not config and (plus, name) == (True, "resnet101_v1d") else ()
    if undecided:
        assumed = assumed[1:]
    return Plan(
        "paddleseg",
        spec,
        table,
        DIALECT,
        blocks=blocks,
        undecided=undecided,
        assumed=assumed,
        told={"resize": RESIZES} if config else {},
    )


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    return rows(_BACKBONE) + rows(_V3_PLUS if "feature_projection0/kernel" in paths else _V3), DIALECT, {}


def _branches(paths):
    return sum(bool(re.fullmatch(r"aspp[1-9](_pointwise)?/kernel", path)) for path in paths)


def _config(configs):
    """The `model` of a configuration, {} without one; one that says part of a network builds on another one."""
    found = (mapping(values.get("model")) for values in configs.values() if isinstance(values, dict))
    return next((model for model in found if "backbone" in model and "type" in model), {})


def _pixels(configs, label):
    """How pixels are normalised, where a configuration says it; its code's own way is to [-1, 1]."""
    for values in configs.values():
        for data in ("val_dataset", "train_dataset"):
            transforms = mapping(mapping(values).get(data)).get("transforms")
            for each in transforms if isinstance(transforms, list) else ():
                if mapping(each).get("type") == "Normalize":
                    mean, std = (_numbers(each.get(name, (0.5,) * 3), name, label) for name in ("mean", "std"))
                    return "tf" if set(mean + std) == {0.5} else checked((mean, std))
    return None


def _numbers(value, what, label):
    if not isinstance(value, (list, tuple)) or not all(type(number) in (int, float) for number in value):
        raise ValueError(f"{label} has {what}={str(value)[:60]!r} in its configuration; expected a number a channel.")
    return tuple(float(number) for number in value)


def _told(config, paths, label):
    """(output stride, settings of the builder) as a configuration has them, or those published where there is none."""
    body = mapping(config.get("backbone"))
    output_stride = body.get("output_stride", 8)
    if output_stride not in (8, 16):
        raise ValueError(f"{label} has output_stride={output_stride!r}; PaddleSeg has 8 and 16.")
    branches = _branches(paths)
    usual = ((1, 6, 12, 18), (1, 1, 1)) if config else ((1, 12, 24, 36), (1, 2, 4))
    rates = whole_numbers(config.get("aspp_ratios", usual[0]), "aspp_ratios", label)
    if rates[0] != 1 or len(rates) != branches + 1:
        raise ValueError(f"{label} has {branches} atrous branches beside the 1x1 one; its aspp_ratios are {rates}.")
    settings = {
        "atrous_rates": rates[1:],
        "multi_grid": whole_numbers(body.get("multi_grid", usual[1]), "multi_grid", label),
    }
    return output_stride, settings | ({"align_corners": True} if config.get("align_corners") else {})
