"""Registers this package's classes with Keras as soon as both are imported, in either order.

Keras finds registered classes only (`keras.models.load_model` imports no module that a file names), and importing
Keras takes seconds, which `import keras_deeplab` must not. So where Keras isn't there yet, its import is followed.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder

_MODULES = ("layers", "metrics", "specs.model", "training.losses", "training.schedules")


def register_with_keras():
    """Imports the modules that hold registered classes: now if Keras is loaded, else once it is."""
    if "keras" in sys.modules:
        for name in _MODULES:
            import_module(f"keras_deeplab.{name}")
    else:
        sys.meta_path.insert(0, _FollowKeras)


class _FollowKeras:
    """A finder that lets the usual one find Keras, and has `register_with_keras` run after it."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "keras":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                if cls in sys.meta_path:  # whoever only looks for Keras (find_spec) leaves this in place
                    sys.meta_path.remove(cls)
                execute(module)
                register_with_keras()

            spec.loader.exec_module = execute_and_register
        return spec
