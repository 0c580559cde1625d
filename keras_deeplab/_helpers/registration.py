"""Registers this package's classes with Keras as soon as both are imported, in either order.

Keras finds registered classes only: `keras.models.load_model` imports modules of keras, keras_hub, keras_cv and
keras_nlp and of no other package, and has no other door for a package to name its classes. Importing Keras takes
seconds, which `import keras_deeplab` must not. So where Keras isn't there yet, its import is followed. Where a module
of this package is what imports it, the classes can only be had once that module is whole.
"""

import contextlib
import sys
import threading
from importlib import import_module

from keras_deeplab._helpers.importing import around_import, around_imports_within

_KERAS, _PACKAGE = "keras", "keras_deeplab"
_MODULES = ("layers", "metrics", "specs.model", "training.losses", "training.schedules")


def register_with_keras() -> None:
    """Imports the modules that hold registered classes: now if Keras is loaded, else once it is."""
    if _KERAS in sys.modules:
        _register()
    else:
        _Registration()


class _Registration:
    """Registers once Keras is loaded and no module of this package is half imported in the thread that loaded it."""

    def __init__(self):
        self.open = threading.local()  # .modules: how many of ours the thread is importing, one within another
        self.due = False
        around_import(_KERAS, self.keras)
        self.leave = around_imports_within(_PACKAGE, self.ours)

    @contextlib.contextmanager
    def keras(self):
        yield
        self.due = True
        self.now_or_later()

    @contextlib.contextmanager
    def ours(self):
        self.open.modules = self.depth() + 1
        try:
            yield
        finally:
            self.open.modules -= 1
        self.now_or_later()

    def depth(self):
        return getattr(self.open, "modules", 0)

    def now_or_later(self):
        if self.due and not self.depth():
            self.due = False
            self.leave()
            _register()


def _register():
    for name in _MODULES:
        import_module(f"{_PACKAGE}.{name}")
