"""A path, or the name of published weights, to what is there: arrays, and in files of Keras their network."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from keras_deeplab.metadata.tflite import read_classes
from keras_deeplab.specs import Classes
from keras_deeplab.weights import handles, named, onnx, own, readers, tf1, tflite
from keras_deeplab.weights.names import unwrap
from keras_deeplab.weights.own import Stored
from keras_deeplab.weights.places import Place, located
from keras_deeplab.weights.readers.files import kind_of


@contextlib.contextmanager
def opened(checkpoint: Any) -> Iterator[Stored]:
    """A path, or the name of published weights, to what is there, for as long as the block lasts.

    `keras_deeplab.load` and `describe.text` take it as often as needed; the file is read once.

    Args:
        checkpoint: a path; a name of published weights; a mapping from names to arrays; or what this gave before,
            which is given back.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is nothing that is read here, or damaged.
    """
    if isinstance(checkpoint, Stored):
        yield checkpoint
        return
    if isinstance(checkpoint, Mapping):
        notes = readers.torch.notes_in(checkpoint)
        yield Stored("the given mapping", "mapping", _check(unwrap(checkpoint), "the given mapping"), configs=notes)
        return
    path, classes = resolve(checkpoint)
    label = os.fspath(path)
    if label.startswith(handles.SCHEME):
        snapshot = handles.fetch(label)
        path, label = snapshot.folder, snapshot.handle  # which tells the exact revision
    with located(path) as place, _stored(place) as stored:
        arrays = _check(unwrap(stored.arrays), label)
        if stored.kind == "tflite" and classes == Classes():
            classes = _named_in(place.path, stored.arrays)
        configs = {**place.configs, **stored.configs}
        yield replace(stored, path=label, arrays=arrays, classes=classes, configs=configs)


@contextlib.contextmanager
def _stored(place: Place) -> Iterator[Stored]:
    if place.kind in ("keras", "h5"):
        with own.opened(place.path, place.kind) as stored:
            network = own.network_beside(place.configs)
            if stored.network is None and network is not None:
                stored = replace(stored, network=network)
            if place.head is not None:
                stored = replace(stored, arrays={**stored.arrays, **readers.read(place.head)[1]})
            yield stored
    elif place.kind == "torch":
        arrays, notes = readers.torch.read_with_notes(place.path)
        yield Stored(os.fspath(place.path), place.kind, arrays, configs=notes)
    elif place.kind == "onnx":
        named_arrays, graph = onnx.read(place.path)
        yield Stored(os.fspath(place.path), place.kind, named_arrays, graph=graph)
    else:
        yield Stored(os.fspath(place.path), place.kind, read(place.path))


def _named_in(path: Any, network: Any) -> Classes:
    """The classes in a TFLite file's metadata, if they are as many as its network's."""
    found = read_classes(path) or Classes()
    # Names may be for another output than the scores.
    return found if len(found.names or ()) == network.plan.spec.num_labels else Classes()


def resolve(checkpoint: Any, family: str | None = None, backbone: Any = None) -> tuple[Any, Classes]:
    """A path, or the name of published weights, to (a path that exists, what its row says of the classes)."""
    path = os.fspath(checkpoint)
    if path in named.NAMES and not os.path.exists(path):
        file = named.fetch(path, family=family, backbone=backbone)
        return file, named.find(path, family, backbone).classes
    return path, Classes()


def read(path: Any) -> Mapping[str, np.ndarray]:
    """`{name: array}` of a checkpoint of another package."""
    kind = kind_of(path)
    if kind == "tf1":
        return tf1.read(path)
    if kind == "onnx":
        return onnx.read(path)[0]
    return tflite.read(path) if kind == "tflite" else readers.read(path)[1]


def _check(arrays, label):
    """The arrays, if they are all arrays of numbers that hold something."""
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise ValueError(f"{label}: names must be strings; received {name!r}.")
        if not np.issubdtype(np.asarray(array).dtype, np.number) or np.size(array) == 0:
            raise ValueError(
                f"{label}: {name!r} must be an array of numbers; received {type(array).__name__} of type "
                f"{np.asarray(array).dtype} and shape {np.shape(array)}."
            )
    return arrays
