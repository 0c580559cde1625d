"""Models of keras-hub: `DeepLabV3ImageSegmenter` and `DeepLabV3Backbone` on its ResNets.

A preset's folder has the backbone's settings in config.json, the task's in task.json; a `.keras` file has the latter in
itself. What they say is read, no class of theirs is built. There is no dilation in the encoder: the pyramid stands at
stride 32, its rates as they are given. For the other way keras-hub itself is needed: its files name layers by the order
in which it makes them.

Source: keras_hub, models/deeplab_v3/ and models/resnet/.
"""

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import new_folder
from keras_deeplab.backbones import BACKBONES, preprocessing
from keras_deeplab.backbones.resnet_keras_hub import BLOCK_TYPES, resnet_keras_hub
from keras_deeplab.heads.aspp import atrous_rates
from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.hub_configs import Settings
from keras_deeplab.weights.names import KERAS_3, renamed, rows
from keras_deeplab.weights.plan import Plan

TITLE = "keras-hub's DeepLabV3"

_ROWS = tuple(
    rows(
        [
            ("conv{n}_conv", "conv{n}_bn", "conv{n}"),
            ("stack{stack}_block{block}_{n}_conv", "stack{stack}_block{block}_{n}_bn", "stack{stack}_block{block}_{n}"),
            ("aspp_conv_{branch}", "aspp_bn_{branch}", "aspp{branch-1}"),
            ("conv_pooling", "bn_pooling", "image_pooling"),
            ("conv_projection", "bn_projection", "concat_projection"),
            ("decoder_conv", "decoder_norm", "feature_projection0"),
            ("segmentation_output", None, "logits"),
        ]
    )
) + (("stack{stack}_block{block}_pre_activation_bn", "stack{stack}_block{block}_pre_activation_BN"),)
_BEHIND = {
    True: "decoder_conv0",
    False: "head_conv",
}  # whether there is a decoder -> the convolution behind the pyramid
# Behind a ResNet v2's last stack, which no DeepLab sees; the state of an optimizer.
_OPTIONAL = r"post_bn/.*|optimizer/.*"
# Where a variable stands among those of its layer in Keras's files.
_PLACES = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
_BACKBONE = "resnet_keras_hub"
_WIDTH = 256  # of the pyramid's branches there
_RATES, _MODES = ((6, 12, 18), (12, 24, 36)), (False, "torch", "tf")


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a model's arrays to its `Plan`; None where it isn't keras-hub's DeepLab.

    Raises:
        ValueError: it is, on an encoder or with settings that aren't built here.
    """
    if "segmentation_head_conv/vars/0" not in shapes or "aspp_conv_1/vars/0" not in shapes:
        return None
    plus = "decoder_conv/vars/0" in shapes
    table = _table(plus)
    paths = renamed(shapes, table, KERAS_3)
    task, backbone = _configs(configs)
    undecided: tuple[dict[str, Any], ...] = ()
    if backbone is None:
        if not plus:
            raise ValueError(
                f"{label} holds the arrays of {TITLE} without a decoder, and not the factor by which its pyramid is "
                "enlarged: give the preset's folder or the .keras file."
            )
        # Names and shapes tell the rest.
        backbone = {}
        undecided = tuple({"atrous_rates": rates, "include_preprocessing": mode} for rates in _RATES for mode in _MODES)
    settings = Settings(backbone, "configuration of the backbone")
    encoder = _encoder(settings, paths)
    filters, branches = paths["aspp0/kernel"][3], len([path for path in paths if re.fullmatch(r"aspp\d+/kernel", path)])
    spec = network(
        V3_PLUS if plus else V3,
        _BACKBONE,
        num_classes=paths["logits/kernel"][3] if "logits/kernel" in paths else None,
        output_stride=32,
        backbone_settings=encoder,
        flavour="keras_hub",
        atrous_rates=settings.wholes("dilation_rates", _RATES[0][: branches - 1] or None, branches - 1),
        filters=filters,
        **_decoder(settings, encoder, paths, plus),
    )
    spec = replace(spec, preprocessing=_mode(task, configs), activation=_activation(task))
    # The image-level feature comes last there, first here.
    order = (branches, *range(branches))
    blocks = {"concat_projection": ((filters,) * (branches + 1), order)}
    return Plan("keras_hub", spec, table, KERAS_3, blocks=blocks, optional=_OPTIONAL, undecided=undecided)


def _table(plus):
    """The rows of a network with a decoder, or without one."""
    return (*_ROWS, *rows([("segmentation_head_conv", "segmentation_head_norm", _BEHIND[plus])]))


def _configs(configs):
    """(settings of the task, of the backbone), None for what isn't there."""
    task = _of(configs.get("task.json"), "DeepLabV3ImageSegmenter", "task.json")
    inner = configs.get("config.json") if task is None else task.get("backbone")
    return task, _of(inner, "DeepLabV3Backbone", "config.json")


def _of(value, name, file):
    """The settings in a serialised object of a class of keras-hub."""
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("config"), dict):
        raise ValueError(f"its {file} is no configuration of a {name}")
    if value.get("registered_name") != f"keras_hub>{name}":
        raise ValueError(f"its {file} is the configuration of {value.get('class_name')!r}; what can be built: {name!r}")
    return value["config"]


def _encoder(settings, paths):
    """The settings of the backbone, a ResNet: those that are told, else what names and shapes tell."""
    told = settings.value("image_encoder", None)
    if told is not None:
        inner = Settings(_of(told, "ResNetBackbone", "image_encoder"), "configuration of the image_encoder")
        stacks = len(inner.value("stackwise_num_filters", ()) or ())
        stem = len(inner.value("input_conv_filters", ()) or ())
        values = {
            "input_conv_filters": inner.wholes("input_conv_filters", None, stem),
            "input_conv_kernel_sizes": inner.wholes("input_conv_kernel_sizes", None, stem, most=31),
            "stackwise_num_filters": inner.wholes("stackwise_num_filters", None, stacks),
            "stackwise_num_blocks": inner.wholes("stackwise_num_blocks", None, stacks, most=1024),
            "stackwise_num_strides": inner.wholes("stackwise_num_strides", None, stacks, most=2),
            "block_type": inner.text("block_type", None, {kind: kind for kind in BLOCK_TYPES}),
            "use_pre_activation": inner.switch("use_pre_activation", False),
        }
        inner.fixed(stackwise_num_strides=[1, 2, 2, 2])
        if values["use_pre_activation"] and values["block_type"].endswith("_vd"):
            raise inner.refused("block_type", "one without _vd where use_pre_activation is true")
        return values
    stem = sorted((path, shape) for path, shape in paths.items() if re.fullmatch(r"conv\d+/kernel", path))
    stacks = [0] * 4
    for path in paths:
        found = re.fullmatch(r"stack(\d)_block(\d+)_1/kernel", path)
        if found:
            stacks[int(found[1])] = max(stacks[int(found[1])], int(found[2]) + 1)
    bottleneck = "stack0_block0_3/kernel" in paths
    # A vd network has three convolutions in front, and no other of the published ones has.
    vd = "_vd" if len(stem) == 3 else ""
    return {
        "input_conv_filters": tuple(shape[3] for _, shape in stem),
        "input_conv_kernel_sizes": tuple(shape[0] for _, shape in stem),
        "stackwise_num_filters": tuple(paths[f"stack{stack}_block0_1/kernel"][3] for stack in range(4)),
        "stackwise_num_blocks": tuple(stacks),
        "stackwise_num_strides": (1, 2, 2, 2),
        "block_type": ("bottleneck_block" if bottleneck else "basic_block") + vd,
        "use_pre_activation": "stack0_block0_pre_activation_BN/gamma" in paths,
    }


def _decoder(settings, encoder, paths, plus):
    """The settings of a record that say what stands behind the pyramid."""
    settings.fixed(spatial_pyramid_pooling_key="P5")
    size = settings.value("upsampling_size", 8)
    size = size[0] if isinstance(size, list) and len(set(size)) == 1 else size
    key = settings.value("low_level_feature_key", "P2" if plus else None)
    if not plus:
        if key is not None:
            raise settings.refused("low_level_feature_key", "null, for arrays without a decoder")
        if size != 8:
            raise settings.refused("upsampling_size", "8")
        return {}
    stacks = {f"P{stack + 2}": stack for stack in range(3)}
    stack = settings.text("low_level_feature_key", "P2", stacks)
    if size != 2 ** (3 - stack):
        raise settings.refused("upsampling_size", f"{2 ** (3 - stack)}, which brings P5 to {key}")
    last = encoder["stackwise_num_blocks"][stack] - 1
    return {
        "low_level": f"stack{stack}_block{last}_out",
        "low_level_filters": paths["feature_projection0/kernel"][3],
        "separable": False,
    }


def _activation(task):
    if task is None:
        return None
    activations = {"linear": None, "softmax": "softmax", "sigmoid": "sigmoid"}
    told = Settings({"activation": task.get("activation") or "linear"}, "task.json")
    return told.text("activation", "linear", activations)


def _mode(task, configs):
    """How the preprocessor scales pixels; None where there is none, and the network takes what it is given."""
    written = (task or {}).get("preprocessor") or configs.get("preprocessor.json")
    if written is None:
        return None
    converter = (written.get("config") or {}).get("image_converter") if isinstance(written, dict) else None
    settings = Settings((converter or {}).get("config") or {}, "image_converter")
    scale, offset = (_three(settings, name, default) for name, default in (("scale", 1.0), ("offset", 0.0)))
    return preprocessing.mode_of(scale, offset)


def _three(settings, name, default):
    """A number for each channel: none, one or three may stand there."""
    value = settings.value(name, None)
    numbers = value if isinstance(value, list) else [default if value is None else value] * 3
    if len(numbers) != 3 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise settings.refused(name, "null, a number, or one for each of three channels")
    return [float(number) for number in numbers]


# The other way ----------------------------------------------------------------------------------------------------


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    return _table("feature_projection0/kernel" in paths), KERAS_3, {}


def export_configs(spec: Any, paths: Any) -> Any:
    """The task.json of a model's preset, `{file name: JSON}`, without what keras-hub fills in by itself.

    Args:
        spec: the model's record.
        paths: its variables by their paths.

    Raises:
        ValueError: it is a network that keras-hub has no way to build.
    """
    if spec.backbone != _BACKBONE or spec.output_stride != 32 or spec.settings.get("multi_grid"):
        raise ValueError(
            f"{TITLE} is built on {_BACKBONE!r} at output_stride=32, without rates in its encoder; received a model on "
            f"{spec.backbone!r} at output_stride={spec.output_stride}, multi_grid={spec.settings.get('multi_grid')}."
        )
    layers = ("aspp1", "concat_projection")
    if any(f"{layer}/kernel" not in paths for layer in layers):
        raise ValueError(f"{TITLE} has a pyramid with atrous branches; the model has none.")
    widths = {layer: paths[f"{layer}/kernel"].shape[-1] for layer in layers}
    if set(widths.values()) != {_WIDTH}:
        raise ValueError(f"{TITLE} has {_WIDTH} filters in its pyramid, whatever is asked for; received {widths}.")
    image_shape = [None, None, spec.channels]
    defaults = inspect.signature(resnet_keras_hub).parameters.values()
    encoder = {each.name: each.default for each in defaults if each.name != "input_shape"} | spec.backbone_settings
    encoder = {name: list(value) if isinstance(value, tuple) else value for name, value in encoder.items()}
    plus, stack = "feature_projection0/kernel" in paths, 0
    if plus:
        low_level = spec.settings["low_level"] or BACKBONES[_BACKBONE].low_level
        last = [f"stack{index}_block{count - 1}_out" for index, count in enumerate(encoder["stackwise_num_blocks"][:3])]
        if low_level not in last:
            raise ValueError(f"{TITLE} takes its decoder's features from {', '.join(last)}; received {low_level!r}.")
        stack = last.index(low_level)
    backbone = {
        "image_encoder": _serialised("ResNetBackbone", {**encoder, "image_shape": image_shape}),
        "spatial_pyramid_pooling_key": "P5",
        "upsampling_size": 2 ** (3 - stack),
        "dilation_rates": list(spec.settings["atrous_rates"] or atrous_rates(32)),
        "low_level_feature_key": f"P{stack + 2}" if plus else None,
        "image_shape": image_shape,
    }
    if plus:
        backbone["projection_filters"] = paths["feature_projection0/kernel"].shape[-1]
    task = {
        "backbone": _serialised("DeepLabV3Backbone", backbone),
        "preprocessor": _preprocessor(spec),
        "num_classes": spec.num_classes,
        "activation": spec.activation,
    }
    return {"task.json": _serialised("DeepLabV3ImageSegmenter", task)}


def write_folder(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], configs: Mapping[str, Any]) -> None:
    """Writes `{name: array}` and the task.json as a new folder, a preset, by keras-hub; whole or not at all.

    Raises:
        ValueError: keras-hub isn't installed, or its network has other layers.
    """
    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(
            f"A preset is written by keras-hub itself, which can't be imported ({error}): pip install keras-hub"
        ) from error
    model = keras_hub.models.DeepLabV3ImageSegmenter.from_config(configs["task.json"]["config"])
    left = dict(arrays)
    for variable in model.weights:
        layer, leaf = variable.path.split("/")[-2:]
        name = f"{layer}/vars/{_PLACES.get(leaf, leaf)}"
        array = left.pop(name, None)
        if array is not None:
            variable.assign(array)
        elif not re.fullmatch(_OPTIONAL, name) and leaf in _PLACES:
            raise ValueError(f"{TITLE} has {variable.path} of shape {variable.shape}, and the model has not.")
    if left:
        raise ValueError(f"{TITLE} has no {', '.join(sorted(left)[:6])}.")
    with new_folder(path) as temporary:
        model.save_to_preset(os.fspath(temporary))


def _serialised(name, config):
    """A serialised object of a class of keras-hub, as its JSON files have it."""
    return {
        "module": "keras_hub.models",
        "class_name": name,
        "config": config,
        "registered_name": f"keras_hub>{name}",
    }


def _preprocessor(spec):
    """What scales pixels as the model does, and leaves images at their size; None for nothing."""
    if spec.preprocessing is None:
        return None
    if spec.preprocessing in preprocessing.FLIPPED or spec.channels != 3:
        told = preprocessing.told(spec.preprocessing)
        raise ValueError(
            f"keras-hub's image converter scales three channels in their order; the model has {spec.channels} and "
            f"normalises by {told}. Built with include_preprocessing=False it can be written."
        )
    scale, offset = preprocessing.linear(spec.preprocessing)
    converter = _serialised("DeepLabV3ImageConverter", {"image_size": None, "scale": scale, "offset": offset})
    return _serialised("DeepLabV3ImageSegmenterPreprocessor", {"image_converter": converter})
