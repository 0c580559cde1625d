"""Plain values, as JSON holds them."""

import json
from collections.abc import Mapping
from typing import Any


def from_json(text: str | bytes) -> Any:
    """The value of a JSON text of others, as `json.loads`; ValueError too where it is nested without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in value]
    return value
