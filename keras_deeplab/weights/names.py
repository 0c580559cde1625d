"""Checkpoints of other code: their names beside ours in one table, read in both directions, and their axes.

A source is a file of rules, one row a kind of layer. Names in the rows have fields for what varies::

    ("backbone.layer{stage}.{unit}.conv{n}", "layer{stage}_{unit}_conv{n}")
    ("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")

`{unit}` is a number, `{block:2-17}` one of that range, `{block-1}` one less, `{part:expand|project}` what the regular
expression behind the colon matches; what a field may be is written down on one side. Reading a checkpoint takes a row
from left to right, writing one from right to left.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_deeplab.weights.readers.torch import alike, without_wrappers

_FIELD = re.compile(r"\{([a-z]+)([+-]\d+)?(?::([^}]+))?\}")


def rename(name: str, rows: Any, back: bool = False, **constants: Any) -> str | None:
    """A name of the left column to that of the right one, or None where no row fits; `back` the other way.

    Args:
        rows: pairs of names with fields. The first that fits counts.
        constants: values of fields that stand on one side only.

    >>> rename("features.3.conv.0.0", [("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")])
    'block_2_expand'
    >>> rename("block_2_expand", [("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")], back=True)
    'features.3.conv.0.0'
    >>> rename("block_17_expand", [("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")], back=True)
    """
    for theirs, ours in rows:
        source, target = (ours, theirs) if back else (theirs, ours)
        pattern, shifts = _compile(source, target)
        found = pattern.fullmatch(name)
        if found is None:
            continue
        fields = dict(constants)
        for key, value in found.groupdict().items():
            fields[key] = str(int(value) - shifts[key]) if shifts[key] else value
        return _fill(target, fields)
    return None


def _fill(template, fields):
    def value(found):
        key, shift, _ = found.groups()
        return str(int(fields[key]) + int(shift)) if shift else fields[key]

    return _FIELD.sub(value, template)


@functools.cache
def _compile(template, other):
    """A regular expression for names of a template, and its fields' shifts; what a field may be, one side tells."""
    kinds = {found[1]: found[3] for found in (*_FIELD.finditer(other), *_FIELD.finditer(template)) if found[3]}
    pattern, shifts, start = "", {}, 0
    for found in _FIELD.finditer(template):
        key, shift = found[1], int(found[2] or 0)
        literal = re.escape(template[start : found.start()])
        pattern += literal + (f"(?P={key})" if key in shifts else f"(?P<{key}>{_kind(kinds.get(key), shift)})")
        shifts[key] = shift
        start = found.end()
    return re.compile(pattern + re.escape(template[start:])), shifts


def _kind(kind, shift):
    if kind is None:
        return "[0-9]+"
    span = re.fullmatch(r"(\d+)-(\d+)", kind)
    if span:
        return "|".join(str(value + shift) for value in range(int(span[1]), int(span[2]) + 1))
    if re.fullmatch(r"\d+(\|\d+)*", kind):
        return "|".join(str(int(value) + shift) for value in kind.split("|"))
    return kind


def rows(table: Any, theirs: Any = "", ours: Any = "") -> Any:
    """A table of (their convolution, their batch norm or None, our layer) to pairs of names.

    Args:
        theirs: what stands before the names of the first two columns.
        ours: what stands before those of the third.
    """
    pairs = []
    for convolution, batch_norm, layer in table:
        pairs.append((theirs + convolution, ours + layer))
        if batch_norm is not None:
            pairs.append((theirs + batch_norm, f"{ours}{layer}_BN"))
    return pairs


@dataclass(frozen=True)
class Dialect:
    """How a framework names the variables of a layer, and orders their axes.

    `leaves` are triples: the end of their name, the end of a Keras variable's path, and what the layer's name ends
    with in between (`""` for anything but the `_BN` of a batch norm and the `_LN` of a layer norm). `ignored` matches
    names that belong to the training. `axes` are those of their convolution kernels, of their depthwise kernels, as the
    positions of ours in theirs; None where they are Keras's own.
    """

    leaves: tuple
    ignored: str
    axes: tuple | None = None
    counter: str | None = None


TORCH = Dialect(
    leaves=(
        (".weight", "/gamma", "_LN"),
        (".bias", "/beta", "_LN"),
        (".gamma", "/gamma", "_scale"),
        (".weight", "/kernel", ""),
        (".bias", "/bias", ""),
        (".weight", "/gamma", "_BN"),
        (".bias", "/beta", "_BN"),
        (".running_mean", "/moving_mean", "_BN"),
        (".running_var", "/moving_variance", "_BN"),
        (".weight", "/gamma", "_LN"),
        (".bias", "/beta", "_LN"),
    ),
    ignored=r".*\.num_batches_tracked",
    axes=((2, 3, 1, 0), (2, 3, 0, 1)),
    counter=".num_batches_tracked",
)


KERAS = Dialect(
    leaves=(
        ("/depthwise_kernel", "/kernel", "depthwise"),
        ("/kernel", "/kernel", ""),
        ("/bias", "/bias", ""),
        ("/gamma", "/gamma", "_BN"),
        ("/beta", "/beta", "_BN"),
        ("/moving_mean", "/moving_mean", "_BN"),
        ("/moving_variance", "/moving_variance", "_BN"),
    ),
    ignored=r"(training|optimizer_weights)/.*|.*/(iteration|learning_rate)",
)


# Keras 3 files count a layer's variables.
KERAS_3 = Dialect(
    leaves=(
        ("/vars/0", "/kernel", ""),
        ("/vars/1", "/bias", ""),
        ("/vars/0", "/gamma", "_BN"),
        ("/vars/1", "/beta", "_BN"),
        ("/vars/2", "/moving_mean", "_BN"),
        ("/vars/3", "/moving_variance", "_BN"),
    ),
    ignored=KERAS.ignored,
)


def translate(arrays: Any, rows: Any, dialect: Any) -> Any:
    """`{their name: array}` to `({variable path: array}, {variable path: their name})`, axes as they are.

    Names that follow no row stay as they are, names that belong to the training are left out.

    Raises:
        ValueError: two names stand for one variable and their arrays differ.
    """
    translated: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, array in arrays.items():
        if re.fullmatch(dialect.ignored, name):
            continue
        path = _path(name, rows, dialect) or name
        array = np.asarray(array)
        if path in translated and not (
            array.shape == translated[path].shape and np.array_equal(array, translated[path], equal_nan=True)
        ):
            raise ValueError(
                f"{origins[path]!r} and {name!r} are two names of one tensor, and their values differ. A file that "
                "its own code wrote holds the same values under both."
            )
        translated[path] = array
        origins.setdefault(path, name)
    return translated, origins


def _path(name, rows, dialect):
    for theirs, ours, ending in dialect.leaves:
        if name.endswith(theirs):
            layer = rename(name.removesuffix(theirs), rows)
            if layer is not None and _ends(layer, ending):
                return layer + ours
    return None


def renamed(shapes: Any, rows: Any, dialect: Any) -> Any:
    """`{their name: shape}` to `{variable path: shape}`, axes as they are; without the names that follow no row."""
    paths = {_path(name, rows, dialect): shape for name, shape in shapes.items()}
    paths.pop(None, None)
    return paths


def their_name(path: str, rows: Any, dialect: Any, **constants: Any) -> Any:
    """The name that a variable of this path has in a checkpoint; None where no row fits."""
    for theirs, ours, ending in dialect.leaves:
        layer = path.removesuffix(ours)
        if layer != path and _ends(layer, ending):
            scope = rename(layer, rows, back=True, **constants)
            if scope is not None:
                return scope + theirs
    return None


def _ends(layer, ending):
    return layer.endswith(ending) if ending else not layer.endswith(("_BN", "_LN"))


# What training scripts put a model's state under.
_WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model", "net")


def unwrap(mapping: Any) -> Any:
    """The names and arrays inside of what a training script saved, the names as the model's own code gives them.

    Without the `module.` of a model that was trained on several devices and the `_orig_mod.` of a compiled one, and in
    Keras's files without `:0` and a layer's name that stands there twice.

    >>> import numpy as np
    >>> list(unwrap({"epoch": 3, "state_dict": {"module.conv1.weight": np.zeros(2)}}))
    ['conv1.weight']
    >>> list(unwrap({"Conv/Conv/kernel:0": np.zeros(2)}))
    ['Conv/kernel']
    """
    for key in _WRAPPERS:
        if isinstance(mapping.get(key), Mapping):
            several = [key, *alike(mapping, key)]
            if len(several) > 1:  # which is meant, nothing tells
                return {f"{each}.{name}": array for each in several for name, array in unwrap(mapping[each]).items()}
            return unwrap(mapping[key])
    mapping = without_wrappers(mapping)
    if any(str(name).endswith(":0") for name in mapping):
        mapping = {re.sub(r"^([^/]+)/\1/", r"\1/", name.removesuffix(":0")): array for name, array in mapping.items()}
    return mapping
