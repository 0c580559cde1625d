"""Photographs to labels by way of a server: `Client` speaks to TensorFlow Serving, `config` writes what it reads.

Importing this imports neither TensorFlow nor gRPC; a client over gRPC does.
"""

from importlib import import_module

__all__ = ["Client", "config"]

_HOMES = {"Client": "client"}


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
