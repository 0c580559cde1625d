"""Checkpoints of segmentation_models.pytorch: DeepLabV3 and DeepLabV3Plus (decoders/deeplabv3/).

The file of weights alone, or what `save_pretrained` writes, whose config.json says what arrays don't: the encoder's
name, strides and rates. The head for whole images that `aux_params` adds is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights import smp_config, smp_encoders
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.torchvision import ASPP

TITLE = "segmentation_models.pytorch"

# Heads ------------------------------------------------------------------------------------------------------------

_V3 = [
    ("decoder.conv", "decoder.bn", "head_conv"),
    ("segmentation_head.0", None, "logits"),
]
# Before version 0.4 the decoder was one sequence: pyramid, convolution, batch norm.
_V3_SEQUENCE = [
    ("decoder.1", "decoder.2", "head_conv"),
    ("segmentation_head.0", None, "logits"),
]
_ASPP_SEPARABLE = [
    ("convs.0.0", "convs.0.1", "aspp0"),
    ("convs.{branch:1-3}.0.0", None, "aspp{branch}_depthwise"),
    ("convs.{branch:1-3}.0.1", "convs.{branch:1-3}.1", "aspp{branch}_pointwise"),
    ("convs.4.1", "convs.4.2", "image_pooling"),
    ("project.0", "project.1", "concat_projection"),
]
_V3_PLUS = [
    ("decoder.aspp.1.0", None, "aspp_conv_depthwise"),
    ("decoder.aspp.1.1", "decoder.aspp.2", "aspp_conv_pointwise"),
    ("decoder.block1.0", "decoder.block1.1", "feature_projection0"),
    ("decoder.block2.0.0", None, "decoder_conv0_depthwise"),
    ("decoder.block2.0.1", "decoder.block2.1", "decoder_conv0_pointwise"),
    ("segmentation_head.0", None, "logits"),
]
# an array that only this one has -> scope of the pyramid, the rest, builder
_HEADS = {
    "decoder.aspp.0.convs.0.0.weight": ("decoder.aspp.0.", _V3_PLUS, V3_PLUS),
    "decoder.aspp.convs.0.0.weight": ("decoder.aspp.", _V3, V3),
    "decoder.0.convs.0.0.weight": ("decoder.0.", _V3_SEQUENCE, V3),
}

# What config.json says, and arrays alone don't.
_ASSUMED = ("output_stride", "atrous_rates", "include_preprocessing")


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't segmentation_models.pytorch's.

    Raises:
        ValueError: it is, on an encoder that isn't built here, or config.json says that it is another network.
    """
    found = [array for array in _HEADS if array in shapes]
    if not found or "segmentation_head.0.weight" not in shapes:
        return None
    scope, head, builder = _HEADS[found[0]]
    config = smp_config.read(configs, builder)
    encoder = smp_encoders.recognise(shapes, label, TITLE)
    separable = f"{scope}convs.1.0.0.weight" in shapes
    table = encoder.table + rows(_ASPP_SEPARABLE if separable else ASPP, scope) + rows(head)
    classes, settings, blocks = torch_head(renamed(shapes, table, TORCH))
    if separable != (builder == V3_PLUS):
        settings["pyramid_separable"] = separable
    candidates = tuple(smp_encoders.chosen(encoder, config.encoder))
    spec = network(
        builder,
        candidates[0],
        num_classes=classes,
        output_stride=config.output_stride or (16 if builder == V3_PLUS else 8),
        preprocessing=config.preprocessing,
        backbone_settings=encoder.backbone_settings,
        **{"flavour": "smp", **settings, **encoder.settings, **config.settings},
    )
    plan = Plan(
        "smp",
        replace(spec, activation=config.activation),
        table,
        TORCH,
        blocks=blocks,
        optional="|".join(filter(None, (r"classification_head\..*", encoder.unused))),
        undecided=tuple({"backbone": each} for each in candidates) if len(candidates) > 1 else (),
        assumed=_assumed(encoder, candidates) if config.encoder is None else (),
        flat=encoder.flat,
        rates_told="atrous_rates" in config.settings,
        told={"backbone": tuple(encoder.networks)} if config.encoder is not None else {},
    )
    own = plan.with_channels(shapes).spec
    for name, value in config.expected.items():
        if getattr(own, name) != value:
            raise ValueError(
                f"config.json says that {name} is {value}, and the arrays are those of {getattr(own, name)}"
            )
    return plan


def _assumed(encoder, candidates):
    # timm names the arrays of its ResNets alike (tu-resnetaa50's are tu-resnet50's): the network itself is a guess.
    alike = len(candidates) == 1 and "resne" in candidates[0] and "tu-" in encoder.networks[candidates[0]]
    return (*_ASSUMED, "backbone") if alike else _ASSUMED


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths; as of version 0.4."""
    plus, separable = "feature_projection0/kernel" in paths, "aspp1_depthwise/kernel" in paths
    scope, head, _ = _HEADS[f"decoder.aspp.{'0.' if plus else ''}convs.0.0.weight"]
    table = smp_encoders.export_table(paths, layers) + rows(_ASPP_SEPARABLE if separable else ASPP, scope)
    return table + rows(head), TORCH, {}


def unused(state: Any) -> Any:
    """Arrays that it keeps beside those of `{name: array}` and doesn't compute with, so that its own code loads it."""
    return smp_encoders.unused(state)
