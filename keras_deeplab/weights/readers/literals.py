"""Configurations written as Python, read as the values that they write down: parsed, never run."""

import ast
from typing import Any

_MAX_TEXT = 1 << 20  # characters; a network's configuration takes some KB


class Unknown:
    """What stands for an expression that writes no value down, such as a call of a function."""

    def __repr__(self) -> str:
        return "an expression that isn't evaluated"


UNKNOWN = Unknown()


def assignments(text: str) -> dict[str, Any]:
    """`{name: value}` of the assignments at the top of a Python text.

    Values are numbers, texts, None, tuples, lists and dicts, `dict(name=value)` among them, and names assigned before;
    everything else is `UNKNOWN`.

    Raises:
        ValueError: it is no Python, or far larger than a configuration.

    >>> assignments("norm = dict(type='BN')\\nmodel = dict(depth=50, norm=norm, loss=Loss())")["model"]
    {'depth': 50, 'norm': {'type': 'BN'}, 'loss': an expression that isn't evaluated}
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"a configuration of {len(text):,} characters isn't read")
    try:
        tree = ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"its configuration is no Python: {type(error).__name__}: {error}") from error
    known: dict[str, Any] = {}
    for line in tree.body:
        if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
            known[line.targets[0].id] = _value(line.value, known)
    return known


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return -value
        case ast.Tuple(parts):
            return tuple(_value(part, known) for part in parts)
        case ast.List(parts):
            return [_value(part, known) for part in parts]
        case ast.Dict(keys, values):
            pairs = zip(keys, values, strict=True)
            return {key.value: _value(value, known) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.Call(ast.Name("dict"), [], keywords):
            return {word.arg: _value(word.value, known) for word in keywords if word.arg is not None}
        case ast.Name(name):
            return known.get(name, UNKNOWN)
    return UNKNOWN
