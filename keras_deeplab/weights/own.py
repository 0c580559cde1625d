"""Files of this package: `.keras`, and `.weights.h5` with the network beside the weights. No code in them is run."""

import contextlib
import json
import math
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.readers import hdf5
from keras_deeplab.weights.readers.common import EXPANSION, reading

_MAX_CONFIG = 1 << 26  # bytes; a DeepLab's takes some 300 KB
_WEIGHTS = "model.weights.h5"  # in a .keras file, and how Keras knows one by its name
# Classes of Keras that bring code or whole programs along. Keras refuses them as well, unless it was told not to.
_CODE = {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
# the first layer of a head: v3 and v3+, v1, v2 on VGG and on ResNet
_HEADS = ("aspp0", "image_pooling_mean", "fc6", "fc6_1", "logits_1")
_CLASS_LAYERS = r"(auxiliary_)?logits(_\d+)?"
_LITE_CLASS_LAYERS = r"decoder_conv0|feature_projection0"  # lite R-ASPP's scores, which it adds up


@dataclass(frozen=True)
class Stored:
    """What is in a file of weights, and what kind of file it is.

    `network` is the text of the network in a file of Keras, None where the file has weights alone; `weights` the path
    of the HDF5 file in it.
    """

    path: str
    kind: str
    arrays: dict
    network: str | None = None
    weights: Path | None = None


@contextlib.contextmanager
def opened(path, kind):
    """A file of Keras to what it holds, for as long as the block lasts.

    Everything in the HDF5 file has been read by then, in a process of its own: what Keras reads afterwards is known to
    be whole.

    Args:
        kind: `"keras"` or `"h5"`, as `kind_of` says.

    Raises:
        ValueError: it is damaged, or asks for more than weights need.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kind == "h5":
            network, arrays = hdf5.read_network(path)
            weights = Path(path)
            if not weights.name.endswith(".weights.h5"):
                weights = Path(shutil.copyfile(path, Path(folder) / _WEIGHTS))
        else:
            with reading(path, "a .keras file"):
                network, weights = _unpack(path, folder)
                arrays = hdf5.read(weights)
        yield Stored(os.fspath(path), kind, arrays, network, weights)


def _unpack(path, folder):
    """The text of the network and the path of the weights of a .keras file; checksums are compared."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _MAX_CONFIG:
            raise ValueError("its config.json is far larger than a network's")
        member = archive.getinfo(_WEIGHTS)
        if member.file_size > EXPANSION * os.path.getsize(path):
            raise ValueError("its weights are far larger than the file")
        return archive.read("config.json").decode(), Path(archive.extract(member, folder))


def load(stored, num_classes=None, output_stride=None):
    """A file that holds a network to a `keras.Model` with its weights.

    Args:
        stored: what `opened` gave.
        num_classes: None, or another number, for which the last layer starts from fresh values.
        output_stride: None, or what the network's own has to be.

    Returns:
        (model, names of the layers that start afresh, number of classes in the file)

    Raises:
        ValueError: the network isn't one of registered layers, has code in it, or isn't what the weights belong to.
    """
    with reading(stored.path, "a network of Keras"):
        layers = _layers(_config(stored.network))
        own = output_stride is not None and stride_of_head(layers)
        if own not in (False, output_stride):
            raise ValueError(
                f"its network has the output stride {own}, {output_stride} was asked for. A file of Keras keeps its "
                "own: build the network with that stride and give the file as weights= instead"
            )
        scores = class_layers(layers)
        has = scores[0]["config"]["filters"] if scores else None
        others = num_classes is not None and num_classes != has
        if others and not scores:
            raise ValueError(f"{num_classes} classes were asked for, and which layer holds its own isn't known")
        model = _filled(stored)
    if not others:
        return model, [], has
    with reading(stored.path, "a network of Keras"):
        config = _config(stored.network)
        for layer in _layers(config):
            layer.pop("build_config", None)  # shapes of the other number
        for layer in class_layers(_layers(config)):
            layer["config"]["filters"] = num_classes
        if "spec" in config["config"]:
            config["config"]["spec"] |= {"num_classes": num_classes, "classes": {}}
        fresh = [layer["config"]["name"] for layer in scores]
        arrays = {variable.path: variable.numpy() for variable in model.weights}
        return assign(_built(config), arrays, stored.path, fresh_layers=fresh), fresh, has


def _filled(stored):
    """The network with its weights. Before any memory is taken the file is known to hold as much as it needs."""
    with unallocated():
        twin = _built(_config(stored.network))
    check_fits(twin, stored)
    model = _built(_config(stored.network))
    model.load_weights(stored.weights)
    return model


def fill(model, path, kind):
    """Puts the weights in a file of Keras into the model that they belong to, and returns it."""
    with opened(path, kind) as stored:
        if kind == "keras":
            other = load(stored)[0]
            return assign(model, {variable.path: variable.numpy() for variable in other.weights}, stored.path)
        with reading(path, f"the weights of {model.name!r}"):
            check_fits(model, stored)
            model.load_weights(stored.weights)
        return model


def check_fits(model, stored):
    """Raises ValueError unless the file has as many arrays and values as the model, all of them finite."""
    arrays = {name: array for name, array in stored.arrays.items() if "seed_generator" not in name}
    counts = len(arrays), sum(array.size for array in arrays.values())
    needs = len(model.weights), sum(math.prod(variable.shape) for variable in model.weights)
    if counts != needs:
        raise ValueError(
            f"it has {counts[0]} arrays of {counts[1]:,} values, and the network {model.name!r} has {needs[0]} of "
            f"{needs[1]:,}"
        )
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise ValueError(f"it holds values that are not finite, in {', '.join(broken[:6])}")


# Configurations ---------------------------------------------------------------------------------------------------


def _config(text):
    config = json.loads(text)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError("its configuration is no network's")
    code = sorted({name for name in _class_names(config) if name in _CODE})
    if code:
        raise ValueError(f"it has layers that run code of their own ({', '.join(code)}), which are not built")
    config["compile_config"] = None
    return config


def _class_names(value):
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value["class_name"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _class_names(item)


def _built(config):
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise ValueError(f"its configuration is that of a {type(model).__name__}, not of a network")
    return model


def _layers(config):
    layers = config["config"].get("layers", [])
    if not all(isinstance(layer, dict) and isinstance(layer.get("config"), dict) for layer in layers):
        raise ValueError("its configuration is no network's")
    return layers


def class_layers(layers):
    """The configurations of the layers whose filters are the classes, of those of all layers."""
    convolutions = [layer for layer in layers if "filters" in layer["config"]]
    for pattern in (_CLASS_LAYERS, _LITE_CLASS_LAYERS):
        found = [layer for layer in convolutions if re.fullmatch(pattern, str(layer["config"].get("name")))]
        if found:
            return found
    return []


def stride_of_head(layers):
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
