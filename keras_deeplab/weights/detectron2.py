"""Checkpoints of Detectron2's project DeepLab: `DeepLabV3Head` and `DeepLabV3PlusHead` on its ResNets.

`.pth` files, and pickles of arrays (`.pkl`) as its zoo has them. What the arrays don't tell is read from the
configuration (YAML) beside them; without one it is that of the published networks: output stride 16, rates 6, 12, 18,
multi-grid 1, 2, 4, crops of 512x1024, whose size the window of the image pooling has.

Source: projects/DeepLab/deeplab/{semantic_seg,resnet}.py; detectron2/layers/aspp.py; modeling/backbone/resnet.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.told import mapping, whole_numbers
from keras_deeplab.weights.torchvision import resnet_name

TITLE = "Detectron2's DeepLabV3 and V3Plus"
# What its configuration says, and arrays alone don't.
FREE = ("multi_grid", "pooling_window")
DIALECT = replace(TORCH, ignored=rf"{TORCH.ignored}|pixel_mean|pixel_std")
CROP_SIZE = (512, 1024)
# FORMAT, PIXEL_MEAN and PIXEL_STD -> how the pixels are normalised
PIXELS = {
    ("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)): "torch",
    ("BGR", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)): "torch_bgr",
    ("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)): "detectron2",
}


def _layers(*pairs):
    """Rows of its convolutions, which have their batch norm inside, and ours."""
    return [(theirs, f"{theirs}.norm", ours) for theirs, ours in pairs]


_BACKBONE = _layers(
    ("backbone.res{stage:2-5}.{unit}.conv{n}", "layer{stage-1}_{unit}_conv{n}"),
    ("backbone.res{stage:2-5}.{unit}.shortcut", "layer{stage-1}_{unit}_downsample"),
)
_BASIC_STEM = _layers(("backbone.stem.conv1", "conv1"))
_DEEPLAB_STEM = _layers(("backbone.stem.conv{n:1-3}", "conv1_{n}"))
_PYRAMID = [
    *_layers(("convs.{n:0-3}", "aspp{n}"), ("project", "concat_projection")),
    ("convs.4.1", None, "image_pooling"),
]
_PREDICTOR = [("sem_seg_head.predictor", None, "logits")]
_DECODER = _layers(
    ("sem_seg_head.decoder.res2.project_conv", "feature_projection0"),
    ("sem_seg_head.decoder.res2.fuse_conv.{n:0-1}", "decoder_conv{n}"),
)
_SCOPES = {True: "sem_seg_head.decoder.res5.project_conv.", False: "sem_seg_head.aspp."}


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't Detectron2's DeepLab.

    Raises:
        ValueError: it is, with an option that isn't built here.
    """
    plus = f"{_SCOPES[True]}convs.0.weight" in shapes
    if not plus and f"{_SCOPES[False]}convs.0.weight" not in shapes:
        return None
    if any(".depthwise." in name or ".decoder.res3." in name for name in shapes):
        raise ValueError(
            f"{label} holds a DeepLab of Detectron2 with separable convolutions or a third map in its decoder, as "
            "Panoptic-DeepLab has them, which isn't built here."
        )
    deep = "backbone.stem.conv3.weight" in shapes
    table = _table(plus, deep)
    paths = renamed(shapes, table, DIALECT)
    classes, settings, blocks = torch_head(paths, low_level_first=True)
    found: dict[str, Any] = next(
        (values for values in configs.values() if isinstance(mapping(values).get("MODEL"), dict)), {}
    )
    config, inputs = mapping(found.get("MODEL")), mapping(found.get("INPUT"))
    output_stride, told = _told(config, inputs, label)
    name = resnet_name(paths, label, "_deeplab" if deep else "")
    first = mapping(config.get("RESNETS")).get("STRIDE_IN_1X1")
    either = () if deep else (name, f"{name}_msra")
    if not deep and first:
        name += "_msra"
    elif deep and first:
        raise ValueError(f"{label} has STRIDE_IN_1X1 with DeepLab's stem, which isn't built here.")
    spec = network(
        V3_PLUS if plus else V3,
        name,
        num_classes=classes,
        output_stride=output_stride,
        preprocessing=_pixels(config, inputs, name, label),
        flavour="detectron2",
        **settings,
        **told,
    )
    open_ = first is None
    return Plan(
        "detectron2",
        spec,
        tuple(table),
        DIALECT,
        blocks=blocks,
        undecided=tuple({"backbone": each} for each in either) if open_ else (),
        told={"backbone": either} if either and not open_ else {},
        assumed=_assumed(config, inputs),
    )


def _assumed(config, inputs):
    """What a configuration, or none, leaves to the published ones. One that builds on another (`_BASE_`) has few."""
    body, head = mapping(config.get("RESNETS")), mapping(config.get("SEM_SEG_HEAD"))
    told = {
        "output_stride": "RES5_DILATION" in body,
        "atrous_rates": "ASPP_DILATIONS" in head,
        "multi_grid": "RES5_MULTI_GRID" in body,
        "pooling_window": "CROP" in inputs,
        "include_preprocessing": "PIXEL_MEAN" in config,
    }
    return tuple(name for name, known in told.items() if not known)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    return _table("feature_projection0/kernel" in paths, "conv1_1/kernel" in paths), DIALECT, {}


def _table(plus, deep):
    table = rows(_BACKBONE + (_DEEPLAB_STEM if deep else _BASIC_STEM) + _PREDICTOR + (_DECODER if plus else []))
    return table + rows(_PYRAMID, _SCOPES[plus])


def _told(config, inputs, label):
    """(output stride, settings of the builder) as the configuration has them."""
    body, head = mapping(config.get("RESNETS")), mapping(config.get("SEM_SEG_HEAD"))
    dilations = body.get("RES4_DILATION", 1), body.get("RES5_DILATION", 2)
    strides = {(1, 1): 32, (1, 2): 16, (2, 4): 8}
    if dilations not in strides or body.get("NUM_GROUPS", 1) != 1 or any(body.get("DEFORM_ON_PER_STAGE") or []):
        raise ValueError(
            f"{label} has RES4_DILATION and RES5_DILATION {dilations}, groups or deformable convolutions that aren't "
            f"built here; dilations {', '.join(map(str, strides))} without these are."
        )
    output_stride = strides[dilations]
    settings = {
        "atrous_rates": whole_numbers(head.get("ASPP_DILATIONS", (6, 12, 18)), "ASPP_DILATIONS", label),
        "multi_grid": whole_numbers(body.get("RES5_MULTI_GRID", (1, 2, 4)), "RES5_MULTI_GRID", label),
    }
    crop = mapping(inputs.get("CROP"))
    if crop.get("ENABLED", True):
        size = whole_numbers(crop.get("SIZE", CROP_SIZE), "CROP.SIZE", label)
        settings["pooling_window"] = tuple(math.ceil(side / output_stride) for side in size)
    return output_stride, settings


def _pixels(config, inputs, name, label):
    """How the pixels are normalised, as the published configurations have it where nothing tells."""
    if not config:
        return None  # as its backbone's row says
    msra = name.endswith("_msra")
    mean = config.get("PIXEL_MEAN", (103.53, 116.28, 123.675) if msra else (123.675, 116.28, 103.53))
    std = config.get("PIXEL_STD", (1.0, 1.0, 1.0) if msra else (58.395, 57.12, 57.375))
    key = str(inputs.get("FORMAT", "BGR")), tuple(mean), tuple(std)
    if key not in PIXELS:
        raise ValueError(
            f"{label} was trained with FORMAT, PIXEL_MEAN and PIXEL_STD {key}; those known are "
            f"{'; '.join(map(str, PIXELS))}. Give the file alone, include_preprocessing=False, and normalise the "
            "images yourself."
        )
    return PIXELS[key]
