"""For the site: the builders' docstrings, which share their arguments and are put together when they are imported."""

from importlib import import_module
from typing import Any

import griffe


class Builders(griffe.Extension):
    """Gives the functions of `keras_deeplab.models` the docstrings that Python sees."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        if func.path.startswith("keras_deeplab.models.") and func.name.startswith("DeepLab"):
            text = getattr(import_module(func.module.path), func.name).__doc__
            func.docstring = griffe.Docstring(text, parent=func, parser="google")
