"""What a file of weights holds, in words; nothing in it is run."""

import json
import os
import re
import shutil
import tempfile
import textwrap
import zipfile

import numpy as np

from keras_deeplab.weights import SOURCES, applications, named, readers, recognise, tf1, tflite
from keras_deeplab.weights.files import kind_of
from keras_deeplab.weights.state_dict import renamed, unwrap

# what `kind_of` says -> in words
_KINDS = {
    "keras": "a .keras file",
    "tf1": "a TensorFlow 1 checkpoint",
    "torch": "a PyTorch checkpoint",
    "safetensors": "a safetensors file",
    "h5": "HDF5 weights of Keras",
    "pb": "a frozen TensorFlow graph",
    "tflite": "a TFLite file",
}
_MAX_CONFIG = 1 << 26  # bytes; a DeepLab's takes some 300 KB
# the first layer of a head: v3 and v3+, v1, v2 on VGG and on ResNet
_HEADS = ("aspp0", "image_pooling_mean", "fc6", "fc6_1", "logits_1")


def describe(path, source="auto", names=False):
    """A file of weights to a text: its kind, the network that `load` would make of it, how many arrays it has.

    Args:
        path: whatever `load` takes, but a mapping.
        source: as `load` takes it.
        names: whether the names, shapes and types of all arrays follow.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read. A file that is read and isn't a DeepLab is described, with the reason why `load`
            refuses it.
    """
    path = os.fspath(path)
    if path in named.NAMES and not os.path.exists(path):
        path = os.fspath(named.fetch(path))
    kind = kind_of(path)
    if kind == "keras":
        arrays, facts = _keras_file(path)
    else:
        arrays = _read(path, kind)
        facts = _network(arrays, source)
    parameters, size = (sum(getattr(array, count) for array in arrays.values()) for count in ("size", "nbytes"))
    facts.append(("arrays", f"{len(arrays)} of {parameters:,} values, {size / 1e6:,.1f} MB"))
    lines = [f"{path}: {_KINDS[kind]}"]
    width = max(len(title) for title, _ in facts)
    columns = shutil.get_terminal_size().columns
    for title, text in facts:
        first, *others = textwrap.wrap(str(text), max(columns - width - 4, 40))
        lines.append(f"  {title.ljust(width)}  {first}")
        lines += [" " * (width + 4) + line for line in others]
    if names:
        lines += ["", *_table(arrays, columns)]
    return "\n".join(lines)


def _read(path, kind):
    """`{name: array}`, also of a TFLite file that is no DeepLab."""
    if kind == "tf1":
        return tf1.read(path)
    if kind == "tflite":
        try:
            return tflite.read(path)
        except ValueError:
            return readers.read(path)[1]
    return {str(name): np.asarray(array) for name, array in unwrap(readers.read(path)[1]).items()}


def _network(arrays, source):
    """(title, text) of what `load` would build, or of why it doesn't."""
    try:
        plan = recognise(arrays, "the file", source)
    except ValueError as error:
        return [("does not load", str(error)), ("holds", _scopes(arrays)), *_hint(arrays)]
    facts = [
        ("source", f"{plan.source}: {SOURCES[plan.source].TITLE}"),
        ("architecture", _call(plan.builder.__name__, plan.settings)),
        ("backbone", _call(plan.backbone, plan.backbone_settings)),
        ("classes", plan.num_classes or "none: give load() num_classes="),
        ("output stride", f"{plan.output_stride}, or what load() is asked for"),
    ]
    left_out = [name for name, array in arrays.items() if _is_optional(name, array, plan)]
    if left_out:
        scopes = ", ".join(sorted({re.split(r"[./]", name)[0] for name in left_out}))
        facts.append(("optional", f"{len(left_out)} arrays of {scopes}, which a model may go without"))
    return facts


def _is_optional(name, array, plan):
    path = next(iter(renamed({name: array.shape}, plan.rows, plan.dialect)), name)
    return bool(plan.optional and re.fullmatch(plan.optional, path))


def _call(name, settings):
    arguments = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return f"{name}({arguments})" if arguments else name


def _scopes(arrays):
    """The first parts of the names, with the number of arrays under each."""
    counts = {}
    for name in arrays:
        scope = re.split(r"[./]", name)[0]
        counts[scope] = counts.get(scope, 0) + 1
    listed = [f"{scope} ({count})" for scope, count in counts.items()]
    return ", ".join(listed[:12] + [f"{len(listed) - 12} more"] * (len(listed) > 12))


def _hint(arrays):
    """What the arrays may be instead: a backbone's, if all of them have names of one."""
    shapes = {name: array.shape for name, array in arrays.items()}
    fits = []
    for backbone, ways in applications.WAYS.items():
        for table, dialect, left_out, _ in ways:
            ignored = f"{dialect.ignored}|{left_out}"
            names = {name: shape for name, shape in shapes.items() if not re.fullmatch(ignored, name)}
            if names and len(renamed(names, table, dialect)) == len(names):
                fits.append(backbone)
                break
    if not fits:
        return []
    return [("perhaps", f"weights of a backbone, which backbone_weights= takes; so are called {', '.join(fits)}")]


# .keras files ---------------------------------------------------------------------------------------------------


def _keras_file(path):
    """({name: array}, [(title, text)]) of a .keras file: its configuration is read, not built."""
    with readers.common.reading(path, "a .keras file"), zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _MAX_CONFIG:
            raise ValueError("its config.json is far larger than a network's")
        config = json.loads(archive.read("config.json"))
        with tempfile.TemporaryDirectory() as folder:
            member = archive.getinfo("model.weights.h5")
            if member.file_size > readers.common.EXPANSION * os.path.getsize(path):
                raise ValueError("its weights are far larger than the file")
            arrays = readers.hdf5.read(archive.extract(member, folder))
        network = config["config"]
        layers = {layer["config"]["name"]: layer for layer in network.get("layers", [])}
        facts = [
            ("source", "keras: this package" if "ResizeBilinear" in _classes(layers) else "keras"),
            ("architecture", f"{network.get('name')}, {config['class_name']} of {len(layers)} layers"),
        ]
        scores = [name for name in layers if re.fullmatch(r"logits(_\d+)?", name)]
        if scores:
            facts.append(("classes", layers[scores[0]]["config"]["filters"]))
            facts.append(("output stride", output_stride(network["layers"])))
    return arrays, facts


def _classes(layers):
    return {layer["class_name"] for layer in layers.values()}


def output_stride(layers):
    """The stride of the map that a DeepLab's head sees, from the configurations of its layers."""
    strides = {}
    for layer in layers:
        name, kind = layer["config"]["name"], layer["class_name"]
        inputs = [strides[before] for before in _inputs(layer["inbound_nodes"])]
        if name in _HEADS:
            return inputs[0]
        step = layer["config"].get("strides") or 1
        strides[name] = max(inputs, default=1) * int(np.max(step))
        if kind == "ResizeBilinear":
            strides[name] = inputs[-1]
        elif kind == "UpsampleNearest":
            strides[name] = inputs[0] // int(np.max(layer["config"]["factor"]))
        elif kind.startswith("Windowed"):
            strides[name] = inputs[0]  # a pooled map on its way back
    return max(strides.values(), default=1)


def _inputs(nodes):
    """The names of the layers that the tensors in a layer's arguments come from."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            return [nodes["config"]["keras_history"][0]]
        nodes = list(nodes.values())
    if isinstance(nodes, (list, tuple)):
        return [name for node in nodes for name in _inputs(node)]
    return []


# The list of arrays -----------------------------------------------------------------------------------------------


def _table(arrays, columns):
    """Lines of names, shapes and types, no wider than the terminal; names are shortened in their middle."""
    rows = [(name, "x".join(map(str, array.shape)) or "scalar", str(array.dtype)) for name, array in arrays.items()]
    shape, dtype = (max((len(row[i]) for row in rows), default=0) for i in (1, 2))
    room = max(columns - shape - dtype - 4, 16)
    width = min(room, max((len(name) for name, *_ in rows), default=0))
    return [f"{_shorten(name, width).ljust(width)}  {size.rjust(shape)}  {kind}" for name, size, kind in rows]


def _shorten(text, width):
    """
    >>> _shorten("backbone.layer1.0.conv1.weight", 20)
    'backbone....1.weight'
    """
    if len(text) <= width:
        return text
    half = (width - 3) // 2
    return f"{text[: width - 3 - half]}...{text[-half:]}"
