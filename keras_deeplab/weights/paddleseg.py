"""Checkpoints of PaddleSeg: DeepLabV3 and DeepLabV3P on ResNet-D (`ResNet50_vd`, `ResNet101_vd` and the like).

A `.pdparams` file is a pickle of arrays. What they don't tell is read from the configuration (YAML) beside it, where
there is one; else it is that of the published ones: output stride 8, rates 12, 24, 36, multi-grid 1, 2, 4, half-pixel
centres.

Source: paddleseg/models/deeplab.py, layers/{layer_libs,pyramid_pool}.py, backbones/resnet_vd.py.
"""

import re

from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.names import Dialect, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.told import mapping, whole_numbers
from keras_deeplab.weights.torchvision import resnet_name

TITLE = "PaddleSeg's DeepLabV3 and V3P"
# What its configuration says, and arrays alone don't.
FREE = ("align_corners", "multi_grid")
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


def recognise(shapes, label, configs):
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
    output_stride, told = _told(configs, paths, label)
    spec = network(
        V3_PLUS if plus else V3,
        resnet_name(paths, label, "_v1d"),
        num_classes=classes,
        output_stride=output_stride,
        preprocessing="tf",
        flavour="paddleseg",
        **settings,
        **told,
    )
    return Plan("paddleseg", spec, table, DIALECT, blocks=blocks)


def export_rows(paths, layers):
    """The rows, dialect and constants that name a model's variables, given their paths."""
    return rows(_BACKBONE) + rows(_V3_PLUS if "feature_projection0/kernel" in paths else _V3), DIALECT, {}


def _branches(paths):
    return sum(bool(re.fullmatch(r"aspp[1-9](_pointwise)?/kernel", path)) for path in paths)


def _told(configs, paths, label):
    """(output stride, settings of the builder) as the configuration has them."""
    found = (values["model"] for values in configs.values() if isinstance(values, dict) and "model" in values)
    config = next((model for model in found if isinstance(model, dict) and "backbone" in model), {})
    body = mapping(config.get("backbone"))
    output_stride = body.get("output_stride", 8)
    if output_stride not in (8, 16):
        raise ValueError(f"{label} has output_stride={output_stride!r}; PaddleSeg has 8 and 16.")
    branches = _branches(paths)
    published = (1, *(96 // output_stride * factor for factor in (1, 2, 3)))
    rates = whole_numbers(config.get("aspp_ratios", published), "aspp_ratios", label)
    if rates[0] != 1 or len(rates) != branches + 1:
        raise ValueError(f"{label} has {branches} atrous branches beside the 1x1 one; its aspp_ratios are {rates}.")
    # Without a configuration as those published have it; one that leaves it out has none.
    multi_grid = whole_numbers(body.get("multi_grid", (1, 1, 1) if body else (1, 2, 4)), "multi_grid", label)
    settings = {"atrous_rates": rates[1:], "multi_grid": multi_grid}
    return output_stride, settings | ({"align_corners": True} if config.get("align_corners") else {})
