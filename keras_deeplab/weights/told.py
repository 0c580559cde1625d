"""What a configuration beside the arrays says, checked: it comes with a file and is trusted no further than that."""

import ast
from typing import Any

_LARGEST = 4096  # rates, strides and sides of windows in positions; real ones have two digits


def mapping(value: Any) -> dict:
    """`value` if it is a mapping, else an empty one: a part that a configuration leaves out, or writes otherwise."""
    return value if isinstance(value, dict) else {}


def whole_numbers(value: Any, what: str, label: str) -> tuple[int, ...]:
    """A list of whole numbers from 1, which YAML may hold as a text.

    Args:
        what: its name in the configuration.
        label: what it came with, for messages.

    Raises:
        ValueError: it is something else.

    >>> whole_numbers("(512, 1024)", "CROP.SIZE", "x.pth")
    (512, 1024)
    """
    numbers = value
    if isinstance(value, str):
        try:
            numbers = ast.literal_eval(value[:1000])
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            numbers = None
    if isinstance(numbers, (list, tuple)) and numbers and all(_whole(number) for number in numbers):
        return tuple(numbers)
    raise ValueError(f"{label} has {what}={str(value)[:60]!r} in its configuration; expected whole numbers from 1.")


def _whole(number: Any) -> bool:
    return type(number) is int and 1 <= number <= _LARGEST
