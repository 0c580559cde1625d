"""Checkpoints of MMSegmentation: DeepLabV3 (`ASPPHead`) and V3+ (`DepthwiseSeparableASPPHead`).

On its ResNets (torchvision's, V1c and V1d) and MobileNetV2. Its own files hold the configuration, as Python text, and
the classes under `meta`. What the arrays don't tell is read there: output stride and rates, multi-grid, the resizes'
convention, the normalisation. Of arrays alone the published files with the same ones are asked about: files of 769x769
align corners, those named d16-mg124 have the multi-grid 1, 2, 4. What all of them share is that of the `_base_`
configurations: output stride 8, rates 12, 24, 36, ImageNet's mean and deviation.

Source: mmseg/models/backbones/{resnet,mobilenet_v2}.py, decode_heads/{aspp_head,sep_aspp_head,fcn_head}.py.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.backbones.preprocessing import MEAN, STD, checked
from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.specs import RESIZES, Classes
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan
from keras_deeplab.weights.readers.literals import assignments
from keras_deeplab.weights.told import mapping, whole_numbers
from keras_deeplab.weights.torchvision import RESNET, resnet_name, width_of

TITLE = "MMSegmentation's DeepLabV3 and V3+"
# What a file of its own says in its configuration, and arrays alone don't.
FREE = ("align_corners",)
# What published files differ in, by the backbones that have them; see `_multi_grid` for the rates.
_PUBLISHED = ({"align_corners": False, "multi_grid": (1, 1)}, {"align_corners": True, "multi_grid": (1, 1)})
_D16 = {"align_corners": False, "multi_grid": (1, 2), "output_stride": 16}
_WITH_D16 = ("resnet50_v1c", "resnet101_v1c")

# Backbones: their convolution, their batch norm, our layer ---------------------------------------------------------

_UNITS = [("layer{stage}.{unit}.conv{n}", "layer{stage}.{unit}.bn{n}", "layer{stage}_{unit}_conv{n}")]
_STEM = [
    ("stem.0", "stem.1", "conv1_1"),
    ("stem.3", "stem.4", "conv1_2"),
    ("stem.6", "stem.7", "conv1_3"),
]
_V1C = [*_STEM, *RESNET[1:]]
_V1D = [
    *_STEM,
    *_UNITS,
    ("layer{stage}.{unit}.downsample.1", "layer{stage}.{unit}.downsample.2", "layer{stage}_{unit}_downsample"),
]


def _mobilenet_v2():
    """The rows of MobileNetV2, whose blocks are counted anew in each of its stages there."""
    table, block = [("conv1.conv", "conv1.bn", "Conv1")], 0
    for stage, repeats in enumerate((1, 2, 3, 4, 3, 3, 1), start=1):
        for unit in range(repeats):
            parts = ("expand", "depthwise", "project") if block else ("depthwise", "project")
            name = f"block_{block}" if block else "expanded_conv"
            for place, part in enumerate(parts):
                scope = f"layer{stage}.{unit}.conv.{place}"
                table.append((f"{scope}.conv", f"{scope}.bn", f"{name}_{part}"))
            block += 1
    return table


_MOBILENET_V2 = _mobilenet_v2()

# Heads ------------------------------------------------------------------------------------------------------------

_COMMON = [
    ("decode_head.image_pool.1.conv", "decode_head.image_pool.1.bn", "image_pooling"),
    ("decode_head.aspp_modules.0.conv", "decode_head.aspp_modules.0.bn", "aspp0"),
    ("decode_head.bottleneck.conv", "decode_head.bottleneck.bn", "concat_projection"),
    ("decode_head.conv_seg", None, "logits"),
    ("auxiliary_head.convs.0.conv", "auxiliary_head.convs.0.bn", "auxiliary_conv"),
    ("auxiliary_head.conv_seg", None, "auxiliary_logits"),
]
_V3 = [*_COMMON, ("decode_head.aspp_modules.{n:1-9}.conv", "decode_head.aspp_modules.{n:1-9}.bn", "aspp{n}")]


def _separable(theirs, ours):
    return [
        (f"{theirs}.{part}_conv.conv", f"{theirs}.{part}_conv.bn", f"{ours}_{part}")
        for part in ("depthwise", "pointwise")
    ]


_V3_PLUS = [
    *_COMMON,
    ("decode_head.c1_bottleneck.conv", "decode_head.c1_bottleneck.bn", "feature_projection0"),
    *_separable("decode_head.aspp_modules.{n:1-9}", "aspp{n}"),
    *_separable("decode_head.sep_bottleneck.{n:0-1}", "decoder_conv{n}"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't MMSegmentation's DeepLab.

    Raises:
        ValueError: it is, on a backbone or with an option that isn't built here.
    """
    if "decode_head.image_pool.1.conv.weight" not in shapes or "decode_head.conv_seg.weight" not in shapes:
        return None
    plus = "decode_head.c1_bottleneck.conv.weight" in shapes
    table, backbone = _backbone(shapes, label)
    table = table + rows(_V3_PLUS if plus else _V3)
    paths = renamed(shapes, table, TORCH)
    config = _config(configs)
    settings = {"filters": paths["aspp0/kernel"][0]}
    if plus:
        settings["low_level_filters"] = paths["feature_projection0/kernel"][0]
    if "auxiliary_conv/kernel" in paths:
        settings["auxiliary_filters"] = paths["auxiliary_conv/kernel"][0]
    undecided, assumed = _open(config, backbone["backbone"])
    output_stride, options = _told(config, backbone["backbone"], _branches(paths), label)
    spec = network(
        V3_PLUS if plus else V3,
        num_classes=shapes["decode_head.conv_seg.weight"][0],
        output_stride=output_stride,
        flavour="mmsegmentation",
        **backbone,
        **settings,
        **options,
    )
    spec = spec.with_classes(_classes(configs, spec.num_labels))
    return Plan(
        "mmsegmentation",
        spec,
        table,
        TORCH,
        optional=r"auxiliary_(conv|conv_BN|logits)/.*",
        told={} if undecided or "align_corners" in assumed else {"resize": RESIZES},
        undecided=undecided,
        assumed=assumed,
    )


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    if "Conv1/kernel" in paths:
        table = _MOBILENET_V2
    elif "conv1_1/kernel" not in paths:
        table = RESNET
    else:
        table = _V1D if "layer2_0_downsample_pool" in layers else _V1C
    return rows(table, "backbone.") + rows(_V3_PLUS if "feature_projection0/kernel" in paths else _V3), TORCH, {}


def _backbone(shapes, label):
    """The backbone's table of names, and what the record says of it."""
    if "backbone.conv1.conv.weight" in shapes:
        table = rows(_MOBILENET_V2, "backbone.")
        width = width_of(renamed(shapes, table, TORCH), "block_16_project", 320)
        return table, {"backbone": "mobilenet_v2_mmsegmentation", "backbone_settings": width}
    if "backbone.layer1.0.conv1.weight" not in shapes:
        raise ValueError(
            f"{label} holds a DeepLab of MMSegmentation on a backbone that isn't built here. Those that are: ResNet, "
            "ResNetV1c, ResNetV1d and MobileNetV2."
        )
    if "backbone.stem.0.weight" in shapes:
        pooled = len(shapes.get("backbone.layer2.0.downsample.1.weight", ())) == 4
        table, suffix = (_V1D, "_v1d") if pooled else (_V1C, "_v1c")
    else:
        table, suffix = RESNET, ""
    table = rows(table, "backbone.")
    name = resnet_name(renamed(shapes, table, TORCH), label, suffix)
    basic = "backbone.layer1.0.conv3.weight" not in shapes
    if basic and suffix == "_v1d":
        raise ValueError(f"{label} holds a {name} of MMSegmentation, which isn't built here; V1c is.")
    return table, {"backbone": f"{name}_mmsegmentation" if basic and not suffix else name}


def _branches(paths):
    return sum(bool(re.fullmatch(r"aspp[1-9](_pointwise)?/kernel", path)) for path in paths)


# What the configuration says ----------------------------------------------------------------------------------------


def _config(configs):
    """The `model` of a configuration: of the text in the file's `meta`, or of a Python file beside it."""
    meta = mapping(configs.get("meta"))
    text = next((meta[key] for key in ("cfg", "config") if isinstance(meta.get(key), str)), "")
    candidates = [assignments(text), *configs.values()]
    for values in candidates:
        model = mapping(mapping(values).get("model"))
        if "decode_head" in model or "backbone" in model:
            # One that builds on another has what it changes alone.
            return model if "_base_" not in values else {**model, _BASE: True}
    return {}


_BASE = "_base_"  # in a configuration that says part of a network


def _open(config, backbone):
    """(`Plan.undecided`, `Plan.assumed`) of what a configuration, or none, leaves open."""
    body, head = mapping(config.get("backbone")), mapping(config.get("decode_head"))
    if config and _BASE not in config:
        return (), ()
    known = {"align_corners": head["align_corners"]} if "align_corners" in head else {}
    if "strides" in body or "multi_grid" in body:
        known["multi_grid"] = (1, 2) if body.get("multi_grid") else (1, 1)
    published = (*_PUBLISHED, *([_D16] if backbone in _WITH_D16 else []))
    if backbone == "mobilenet_v2_mmsegmentation":
        published = _PUBLISHED[:1]
    fitting = [each for each in published if all(each[name] == value for name, value in known.items())]
    differing = [
        name
        for name in ("align_corners", "multi_grid", "output_stride")
        if name not in known and len({each.get(name) for each in fitting}) > 1
    ]
    undecided = tuple({name: each[name] for name in differing if name in each} for each in fitting)
    where = {
        "align_corners": head,
        "output_stride": {"output_stride": 0} if "strides" in body else {},
        "atrous_rates": {"atrous_rates": 0} if "dilations" in head else {},
        "multi_grid": known,
        "include_preprocessing": {"include_preprocessing": 0} if "data_preprocessor" in config else {},
    }
    assumed = tuple(name for name, part in where.items() if name not in part and name not in differing)
    return (undecided if differing else ()), assumed


def _told(config, backbone, branches, label):
    """(output stride, settings of the builder) as the configuration has them."""
    body, head = mapping(config.get("backbone")), mapping(config.get("decode_head"))
    if body.get("style", "pytorch") != "pytorch":
        raise ValueError(f"{label} has a ResNet of style {body['style']!r}, which isn't built here; 'pytorch' is.")
    mobile = backbone == "mobilenet_v2_mmsegmentation"

    def numbers(name, part, default):
        return whole_numbers(part.get(name, default), name, label)

    natural = (1, 2, 2, 2, 1, 2, 1) if mobile else (1, 2, 2, 2)
    # What a whole configuration leaves out is as the code has it, else as the base configurations have.
    if config and _BASE not in config:
        usual = natural, (1,) * len(natural), (1, 6, 12, 18)
    else:
        usual = ((1, 2, 2, 1, 1, 1, 1), (1, 1, 1, 2, 2, 4, 4)) if mobile else ((1, 2, 1, 1), (1, 1, 2, 4))
        usual = *usual, None
    strides = numbers("strides", body, usual[0])
    dilations = numbers("dilations", body, usual[1])
    lost = tuple(math.prod(natural[: i + 1]) // math.prod(strides[: i + 1]) for i in range(len(natural)))
    if dilations != lost or not (mobile or body.get("contract_dilation", True)):
        raise ValueError(
            f"{label} has strides {strides}, dilations {dilations} and contract_dilation="
            f"{body.get('contract_dilation')}, which isn't built here: with these strides dilations {lost} and "
            "contract_dilation=True are."
        )
    output_stride = (2 if mobile else 4) * math.prod(strides)
    base = (1, *(96 // output_stride * factor for factor in (1, 2, 3)))
    rates = numbers("dilations", head, usual[2] or base)
    if rates[0] != 1 or len(rates) != branches + 1:
        raise ValueError(f"{label} has {branches} atrous branches beside the 1x1 one; its dilations are {rates}.")
    settings = {"atrous_rates": rates[1:]}
    if head.get("align_corners"):
        settings["align_corners"] = True
    if body.get("multi_grid"):
        settings["multi_grid"] = _multi_grid(numbers("multi_grid", body, ()), lost, label)
    _check_norm(config, label)
    settings["preprocessing"] = _pixels(config, label)
    return output_stride, settings


def _multi_grid(rates, lost, label):
    """The rates of the last stage's units, which are absolute there, as factors on the stage's own rate.

    The first unit keeps the rate of the stage before, and isn't one of them here.
    """
    if rates[0] != lost[-2] or any(rate % lost[-1] for rate in rates[1:]):
        raise ValueError(
            f"{label} has multi_grid={rates} and dilations {lost}. Built here are rates that begin with "
            f"{lost[-2]} and go on with multiples of {lost[-1]}."
        )
    return tuple(rate // lost[-1] for rate in rates[1:])


def _check_norm(config, label):
    for part in ("backbone", "decode_head"):
        norm = mapping(mapping(config.get(part)).get("norm_cfg"))
        if norm.get("type", "BN") not in ("BN", "SyncBN") or norm.get("eps", 1e-5) != 1e-5:
            raise ValueError(f"{label} has norm_cfg={norm}, which isn't built here; batch norm with eps=1e-5 is.")


def _pixels(config, label):
    """How the pixels are normalised: None for the mean and deviation of ImageNet, as nearly all have it."""
    pixels = mapping(config.get("data_preprocessor"))
    if "mean" not in pixels or "std" not in pixels:
        return None
    if not pixels.get("bgr_to_rgb", False) and len(pixels["mean"]) == 3:
        raise ValueError(
            f"{label} was trained on BGR (bgr_to_rgb=False), MMSegmentation's DeepLabs on RGB: give its state_dict "
            "alone, include_preprocessing=False, and normalise the images yourself."
        )
    means, deviations = (tuple(number / 255 for number in pixels[name]) for name in ("mean", "std"))
    return None if _close(means, MEAN) and _close(deviations, STD) else checked((means, deviations))


def _close(given, value):
    return len(given) == len(value) and all(abs(a - b) < 1e-4 for a, b in zip(given, value, strict=True))


def _classes(configs, count):
    """The names and colours of the classes that a file tells, where there is one for each."""
    meta = mapping(configs.get("meta"))
    data = mapping(meta.get("dataset_meta"))
    names, colors = meta.get("CLASSES") or data.get("classes"), meta.get("PALETTE") or data.get("palette")
    try:
        names = None if names is None or len(names) != count else tuple(names)
        colors = None if colors is None or len(colors) != count else tuple(map(tuple, colors))
        return Classes(names, colors)
    except (TypeError, ValueError):  # whatever somebody's data set calls its classes
        return Classes()
