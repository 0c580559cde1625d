"""DeepLab semantic segmentation for Keras 3.

Importing this package imports nothing heavy: each name below brings its module when it is first used, and so does
each of its parts, such as `keras_deeplab.layers`.
"""

from importlib import import_module
from importlib.util import find_spec

from keras_deeplab._helpers.registration import register_with_keras
from keras_deeplab._version import __version__

_HOMES = {
    "BACKBONES": "backbones",
    "Classes": "specs",
    "ModelSpec": "specs",
    "DeepLabV1": "models",
    "DeepLabV2": "models",
    "DeepLabV3": "models",
    "DeepLabV3Plus": "models",
    "Card": "hubs.card",
    "FLAVOURS": "heads.flavours",
    "MODELS": "published",
    "atrous": "rewrite",
    "build": "models.build",
    "convert_fully_connected": "heads.large_fov",
    "count_parameters": "summary",
    "dense_crf": "inference.crf.dense",
    "evaluate": "inference.evaluation",
    "export_saved_model": "export.saved_model",
    "export_tflite": "export.tflite",
    "export_weights": "export.weights",
    "from_preset": "hubs.presets",
    "load": "loading",
    "multiply_adds": "summary",
    "predictor": "inference.predictor",
    "receptive_field": "summary",
    "save_to_preset": "hubs.presets",
    "summary_table": "summary",
    "spec_of": "specs.model",
    "train": "training.trainer",
    "upload": "hubs.presets",
    "with_spec": "specs.model",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name):
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return __all__


register_with_keras()
