"""Modules that are called like the one function they are named after."""

import sys
from types import ModuleType


class _CallableModule(ModuleType):
    def __call__(self, *args, **kwargs):
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


def make_callable(module_name):
    """Makes `keras_deeplab.atrous(...)` call `keras_deeplab.atrous.atrous(...)`.

    The module and its function share a name; Python binds whichever was touched last, so let both be right.
    """
    sys.modules[module_name].__class__ = _CallableModule
