"""A table of named things that, asked for a name it lacks, says which it has."""

import difflib
from typing import Any, NoReturn, TypeVar

Value = TypeVar("Value")


class Registry(dict[str, Value]):
    """A `dict` from names to values whose look-up error lists the names and the nearest one.

    >>> Registry("backbone", mobilenet_v2=1, xception=2)["mobilnet_v2"]
    Traceback (most recent call last):
    ...
    ValueError: Unknown backbone 'mobilnet_v2': did you mean 'mobilenet_v2'? Known: mobilenet_v2, xception.
    """

    def __init__(self, kind: str, /, *args: Any, **entries: Any) -> None:
        super().__init__(*args, **entries)
        self.kind = kind

    def __missing__(self, name: str) -> NoReturn:
        near = difflib.get_close_matches(str(name), self, n=1)
        hint = f": did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"Unknown {self.kind} {name!r}{hint} Known: {', '.join(sorted(self))}.")
