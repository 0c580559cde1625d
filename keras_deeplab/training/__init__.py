"""Training: losses, schedules, recipes, the loop, and the folder of a run."""

from importlib import import_module

_HOMES = {"find_learning_rate": "range_test", "recipe": "recipes"}
__all__ = [*_HOMES]


def __getattr__(name):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
