"""What is to happen around the import of a package that isn't loaded yet, without importing it."""

import contextlib
import sys
from collections.abc import Callable


def around_import(name: str, context: Callable[[], contextlib.AbstractContextManager]) -> None:
    """Has the code of package `name`, which isn't loaded yet, run within `context()` when it is first imported."""
    sys.meta_path.insert(0, _Finder(name, context))


def around_imports_within(package: str, context: Callable[[], contextlib.AbstractContextManager]) -> Callable[[], None]:
    """Has the code of each module in `package` run within `context()` from now on, until what is returned is called."""
    finder = _Finder(package, context, within=True)
    sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder:
    """Lets the other finders find a module, and has its loader run the code within a context.

    Args:
        name: that of a package.
        within: whether each module in the package is followed; else the package itself is, once.
    """

    def __init__(self, name, context, within=False):
        self.name, self.context, self.within = name, context, within

    def leave(self):
        # Whoever only looks for the package (find_spec) leaves this in place.
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name, path=None, target=None):
        if not (name.startswith(f"{self.name}.") if self.within else name == self.name):
            return None
        others = (finder for finder in list(sys.meta_path) if not isinstance(finder, _Finder))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_within(module):
                if not self.within:
                    self.leave()
                with self.context():
                    execute(module)

            spec.loader.exec_module = execute_within
        return spec
