"""What is to happen around the import of a package that isn't loaded yet, without importing it."""

import contextlib
import sys
from collections.abc import Callable


def around_import(name: str, context: Callable[[], contextlib.AbstractContextManager]) -> None:
    """Has the code of package `name`, which isn't loaded yet, run within `context()` when it is first imported."""
    sys.meta_path.insert(0, _Finder(name, context))


class _Finder:
    """Lets the other finders find a package, and has its loader run the code within a context."""

    def __init__(self, name, context):
        self.name, self.context = name, context

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        others = (finder for finder in list(sys.meta_path) if not isinstance(finder, _Finder))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_within(module):
                if self in sys.meta_path:  # whoever only looks for the package (find_spec) leaves this in place
                    sys.meta_path.remove(self)
                with self.context():
                    execute(module)

            spec.loader.exec_module = execute_within
        return spec
