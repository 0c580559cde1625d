"""The config.json that segmentation_models.pytorch's `save_pretrained` writes: what it says beyond the arrays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_deeplab.networks import V3, V3_PLUS

# What `activation` may be: ours.
_ACTIVATIONS = {None: None, "identity": None, "sigmoid": "sigmoid", "softmax": "softmax", "softmax2d": "softmax"}
# What their builders do where a setting isn't given.
_RATES, _DEPTH = (12, 24, 36), 5
# Encoders whose weights its `get_preprocessing_fn` normalises otherwise than their backbone's row has it, by name.
_NORMALISATIONS: list[tuple[str, Any]] = [
    (r"tu-tf_mobilenetv3_.*|(tu|timm)-tf_efficientnet_lite\d.*|tu-.*\.(ap_in1k|ra4_e3600_\w+)", "tf"),
    (
        r"tu-convnext_base\.clip_lai.*",
        ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ),
    (r"tu-mobilenetv3_large_100\.miil_.*", ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
]
# Settings whose meaning lies in the arrays, or which are of training alone. The last is a head for whole images.
_SILENT = ("encoder_weights", "decoder_channels", "decoder_aspp_separable", "aux_params")


@dataclass(frozen=True)
class Config:
    """What a description says of a network.

    Attributes:
        encoder: name of its encoder, such as `"tu-resnet50"`; None where nothing is said.
        output_stride: None likewise.
        activation: behind the logits, one of ours.
        settings: arguments of our builder.
        expected: what the arrays have to be: `num_classes` and `channels`.
        preprocessing: how pixels are normalised, where that isn't the encoder's usual one.
    """

    encoder: str | None = None
    output_stride: int | None = None
    activation: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    preprocessing: Any = None


def read(configs: Mapping[str, Any], builder: str) -> Config:
    """The descriptions beside the arrays of one of our builders' networks to what they say of it.

    Raises:
        ValueError: they are those of another network, or of one that isn't built here; the message names the setting.
    """
    given = configs.get("config.json", {})
    if "encoder_name" not in given:
        return Config()  # some other package's
    given = {name: value for name, value in given.items() if value is not None}
    known = given.pop("_model_class", builder)
    if known != builder:
        raise ValueError(f"config.json says that it is a {known}, and the arrays are a {builder}'s")
    stride = _number(given, "encoder_output_stride", 16 if builder == V3_PLUS else 8)
    rates = given.pop("decoder_atrous_rates", _RATES)
    settings: dict[str, Any] = {}
    if list(rates) != list(_RATES):
        if len(rates) != len(_RATES) or not all(type(rate) is int and rate > 0 for rate in rates):
            raise ValueError(f"config.json has decoder_atrous_rates={rates!r}; a pyramid has three, such as {_RATES}")
        settings["atrous_rates"] = tuple(rates)
    if "decoder_aspp_dropout" in given:
        settings["dropout"] = float(given.pop("decoder_aspp_dropout"))
    depth = _number(given, "encoder_depth", _DEPTH)
    if depth != _DEPTH:
        raise ValueError(_unbuilt("encoder_depth", depth, f"{_DEPTH}, all stages of the encoder"))
    upsampling, whole = _number(given, "upsampling", None), stride if builder == V3 else 4
    if upsampling not in (None, whole):
        raise ValueError(
            _unbuilt("upsampling", upsampling, f"{whole}, which gives logits of the image's size")
            + ". The arrays don't depend on it: take it out of config.json, and load() the network with logits of the "
            "image's size, or with upsample_logits=False for those of the head's"
        )
    activation = given.pop("activation", None)
    if activation not in _ACTIVATIONS:
        raise ValueError(
            _unbuilt("activation", activation, ", ".join(map(repr, _ACTIVATIONS)))
            + ". The arrays don't depend on it: take it out of config.json for the network's logits"
        )
    names = {"classes": "num_classes", "in_channels": "channels"}
    expected = {ours: _number(given, theirs, None) for theirs, ours in names.items() if theirs in given}
    encoder = given.pop("encoder_name")
    usual = next((mode for pattern, mode in _NORMALISATIONS if re.fullmatch(pattern, str(encoder))), None)
    preprocessing = "tf" if given.get("encoder_weights") == "advprop" else usual
    others = sorted(name for name in given if name not in _SILENT and not name.startswith("_"))
    if others:
        told = ", ".join(f"{name}={given[name]!r}" for name in others)
        raise ValueError(f"config.json has {told}, which isn't known here: the network may be another than is built")
    return Config(encoder, stride, _ACTIVATIONS[activation], settings, expected, preprocessing)


def _number(given, name, default):
    value = given.pop(name, default)
    if value is not default and (type(value) is not int or value < 1):
        raise ValueError(f"config.json has {name}={value!r}, which is no positive integer")
    return value


def _unbuilt(name, value, built):
    return f"config.json has {name}={value!r}, which isn't built here; what is: {built}"
