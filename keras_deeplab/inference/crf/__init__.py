"""The dense CRF of DeepLab v1 and v2: what moves the borders of labels to those of the image."""

from importlib import import_module
from typing import Any

_HOMES = {
    "DenseCRF": "mean_field",
    "PARAMETERS": "settings",
    "Parameters": "settings",
    "Refined": "refined",
    "dense_crf": "dense",
    "parameters": "settings",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
