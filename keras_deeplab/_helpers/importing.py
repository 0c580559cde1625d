"""What is to happen around the import of a package that isn't loaded yet, without importing it."""

import contextlib
import sys
from collections.abc import Callable


def around_import(name: str, context: Callable[[], contextlib.AbstractContextManager]) -> None:
    """Has the code of package `name`, which isn't loaded yet, run within `context()` when it is first imported."""
    sys.meta_path.insert(0, _Finder(name, context))


def around_imports_within(package: str, context: Callable[[], contextlib.AbstractContextManager]) -> Callable[[], None]:
    """Has the code of each module in `package` run within `context()` from now on, until what is returned is called."""
    finder = _Finder(f"{package}.", context)
    sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder:
    """Lets the other finders find a module, and has its loader run the code within a context.

    Args:
        name: that of a package, whose import is followed once, or the beginning of names, with a dot at its end.
    """

    def __init__(self, name, context):
        self.name, self.context = name, context

    def leave(self):
        # Whoever only looks for the package (find_spec) leaves this in place.
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name, path=None, target=None):
        several = self.name.endswith(".")
        if not (name.startswith(self.name) if several else name == self.name):
            return None
        others = (finder for finder in list(sys.meta_path) if not isinstance(finder, _Finder))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_within(module):
                if not several:
                    self.leave()
                with self.context():
                    execute(module)

            spec.loader.exec_module = execute_within
        return spec
