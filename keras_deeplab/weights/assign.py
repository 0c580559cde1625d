"""Arrays into a model's variables: all of them, each exactly once, or an error that lists what doesn't fit."""

from collections.abc import Iterable
from typing import Any

import keras  # ADDED
import numpy as np


def assign(
    model: keras.Model, arrays: Any, label: str, fresh_layers: Iterable[str] = (), names: Any = None, dry: bool = False
) -> Any:
    """Fills `model` from `{variable path: array}` and returns it; nothing is changed unless everything fits.

    Args:
        model: a built `keras.Model`.
        arrays: mapping from variable paths (`"logits/kernel"`) to arrays of the variables' shapes.
        label: what the arrays came from, for messages.
        fresh_layers: names of layers whose variables keep their values; arrays for them are left aside.
        names: what a path is called where the arrays come from, for messages.
        dry: whether nothing is assigned, and only what doesn't fit is told.

    Raises:
        ValueError: variables without an array, arrays without a variable, other shapes, values that aren't finite.
    """
    arrays = {path: array for path, array in arrays.items() if path.rpartition("/")[0] not in fresh_layers}
    variables = {v.path: v for v in model.weights if v.path.rpartition("/")[0] not in fresh_layers}

    def line(path, rest):
        name = (names or {}).get(path)
        return f"  {path}{rest}" + (f", there {name!r}" if name not in (None, path) else "")

    missing = [line(path, f" {tuple(v.shape)}") for path, v in variables.items() if path not in arrays]
    left_over = [line(path, f" {np.shape(array)}") for path, array in arrays.items() if path not in variables]
    both = [(path, v, np.asarray(arrays[path])) for path, v in variables.items() if path in arrays]
    wrong = [
        line(path, f": {array.shape}, the model has {tuple(v.shape)}")
        for path, v, array in both
        if array.shape != v.shape
    ]
    broken = [line(path, "") for path, _, array in both if not np.isfinite(array).all()]
    problems = [
        f"{title} ({len(lines)}):\n" + "\n".join(lines)
        for title, lines in [
            ("Missing from the file", missing),
            ("Left over in the file", left_over),
            ("Of another shape", wrong),
            ("Holding values that are not finite", broken),
        ]
        if lines
    ]
    if problems:
        raise ValueError(f"The weights in {label} don't fit the model {model.name!r}.\n" + "\n".join(problems))
    for _, variable, array in [] if dry else both:
        variable.assign(array)
    return model
