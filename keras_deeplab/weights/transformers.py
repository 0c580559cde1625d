"""Checkpoints of Hugging Face's transformers: its networks of DeepLab, as `save_pretrained` writes them.

Names and shapes don't tell strides, rates, paddings and activations: `config.json` does, and has to lie beside the
weights. `preprocessor_config.json` tells how pixels are normalised; the size that it scales images to is the caller's
matter.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_deeplab.specs import Classes
from keras_deeplab.weights import transformers_mobilenet_v2, transformers_mobilevit
from keras_deeplab.weights.hub_configs import Settings, mode_of_processor, processor_of_mode
from keras_deeplab.weights.names import TORCH, renamed
from keras_deeplab.weights.plan import Plan

TITLE = "Hugging Face's transformers"

# `model_type` of a config.json -> its module or the like: ROWS, their names beside ours; OPTIONAL, what a model may go
# without; PROCESSOR, what its images go through; `network_of(settings, paths, num_classes)` to (record, blocks); for
# the other way `config_of(spec, paths)` and `fillers(config)`, arrays that its code expects and no score depends on.
FAMILIES: dict[str, Any] = {
    "mobilenet_v2": transformers_mobilenet_v2,
    "mobilevit": transformers_mobilevit.MOBILEVIT,
    "mobilevitv2": transformers_mobilevit.MOBILEVIT_V2,
}
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it is no DeepLab of transformers.

    Raises:
        ValueError: it is, and its `config.json` isn't there or asks for what isn't built here.
    """
    family = _family(shapes)
    if family is None:
        return None
    if _CONFIG not in configs:
        raise ValueError(
            f"{label} holds arrays of {TITLE}'s {family}, which fit several networks: strides, rates, paddings and "
            "activations aren't in them. Give the folder that has the config.json which was saved beside the weights, "
            "not the file or the arrays alone."
        )
    module, settings = FAMILIES[family], Settings(configs[_CONFIG], _CONFIG)
    settings.text("model_type", family, {family: family})
    paths = renamed(shapes, module.ROWS, TORCH)
    num_classes = paths["logits/kernel"][0]
    spec, blocks = module.network_of(settings, paths, num_classes)
    mode = mode_of_processor(Settings(configs.get(_PROCESSOR, {}), _PROCESSOR), module.PROCESSOR)
    spec = replace(spec, preprocessing=mode, classes=_classes(settings, num_classes))
    return Plan("transformers", spec, module.ROWS, TORCH, blocks=blocks, optional=module.OPTIONAL)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    return FAMILIES[_family_of_paths(paths)].ROWS, TORCH, {}


def export_configs(spec: Any, paths: Any) -> Any:
    """What has to lie beside a model's weights, `{file name: JSON}`.

    Args:
        spec: the model's record.
        paths: its variables by their paths.
    """
    family = _family_of_paths(paths)
    module = FAMILIES[family]
    config = module.config_of(spec, paths)
    names = spec.classes.labels(spec.num_classes)
    if spec.classes.names is None:
        names = [f"LABEL_{label}" for label in range(spec.num_classes)]
    config |= {
        "architectures": [module.ARCHITECTURE],
        "model_type": family,
        "num_channels": spec.channels,
        "id2label": {str(label): name for label, name in enumerate(names)},
        "label2id": {name: label for label, name in enumerate(names)},
        "semantic_loss_ignore_index": spec.classes.ignore_label,
        "dtype": "float32",
    }
    return {_CONFIG: config, _PROCESSOR: processor_of_mode(spec.preprocessing, module.PROCESSOR)}


def fillers(configs: Mapping[str, Any]) -> Any:
    """`{name: array}` that its code expects beside a model's own and that no score depends on."""
    config = configs[_CONFIG]
    return FAMILIES[config["model_type"]].fillers(config)


def _family(shapes):
    if not any(name.startswith("segmentation_head.") for name in shapes):
        return None
    return next((key for key, module in FAMILIES.items() if f"{module.FIRST}.weight" in shapes), None)


def _family_of_paths(paths):
    for key, module in FAMILIES.items():
        if all(f"{layer}/kernel" in paths for layer in module.TELLING):
            return key
    telling = "; ".join(f"{key} has {', '.join(module.TELLING)}" for key, module in FAMILIES.items())
    raise ValueError(f"the model is no network of {TITLE}: {telling}")


def _classes(settings, num_classes):
    """What `id2label` tells: names where they are more than numbers."""
    ignored = settings.whole("semantic_loss_ignore_index", 255, least=-(1 << 31))
    told = settings.value("id2label", None)
    if told is None:
        names = None
    elif isinstance(told, dict) and set(told) == {str(label) for label in range(num_classes)}:
        names = tuple(str(told[str(label)]) for label in range(num_classes))
    else:
        raise settings.refused("id2label", f"a name for each of the {num_classes} classes that the arrays have")
    if names is not None and all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        names = None
    if names is not None and (len(set(names)) < len(names) or not all(name.strip() for name in names)):
        raise settings.refused("id2label", "names that are different, and none that is empty")
    return Classes(names, ignore_label=ignored if 0 <= ignored <= 255 else 255)
