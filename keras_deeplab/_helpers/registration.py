"""Registers this package's classes with Keras as soon as both are imported, in either order.

Keras finds registered classes only: `keras.models.load_model` imports modules of keras, keras_hub, keras_cv and
keras_nlp and of no other package, and has no other door for a package to name its classes. Importing Keras takes
seconds, which `import keras_deeplab` must not. So where Keras isn't there yet, its import is followed.
"""

import contextlib
import sys
from importlib import import_module

from keras_deeplab._helpers.importing import around_import

_MODULES = ("layers", "metrics", "specs.model", "training.losses", "training.schedules")


def register_with_keras() -> None:
    """Imports the modules that hold registered classes: now if Keras is loaded, else once it is."""
    if "keras" in sys.modules:
        _register()
    else:
        around_import("keras", _registering)


@contextlib.contextmanager
def _registering():
    yield
    _register()


def _register():
    for name in _MODULES:
        import_module(f"keras_deeplab.{name}")
