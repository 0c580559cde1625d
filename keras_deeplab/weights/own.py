"""Files of this package: `.keras`, and `.weights.h5` with the network beside the weights. No code in them is run."""

import contextlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import temporary_folder
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.specs import Classes, ModelSpec
from keras_deeplab.specs.model import spec_of, with_spec
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.classes import settle
from keras_deeplab.weights.plan import class_layers
from keras_deeplab.weights.readers import hdf5
from keras_deeplab.weights.readers.common import reading

_WEIGHTS = "model.weights.h5"  # in a .keras file, and how Keras knows one by its name
# Classes of Keras that bring code or whole programs along. Keras refuses them as well, unless it was told not to.
_CODE = {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_KERAS_HUB = "keras_hub>"  # what the names of keras-hub's classes begin with
# the first layer of a head: v3 and v3+, v1, v2 on VGG and on ResNet
_HEADS = ("aspp0", "image_pooling_mean", "fc6", "fc6_1", "logits_1")


@dataclass(frozen=True)
class Stored:
    """What is in a file of weights, and what kind of file it is.

    `network` is the text of the network in a file of Keras, None where the file has weights alone; `weights` the path
    of the HDF5 file in it; `classes` what is known of the classes without a record, of published weights; `configs`
    what the JSON files beside it say, by their names, and what a PyTorch file says beside its tensors, by its keys;
    `graph` the operators of an ONNX file, which tell what names don't.
    """

    path: str
    kind: str
    arrays: Mapping[str, Any]
    network: str | None = None
    weights: Path | None = None
    classes: Classes = field(default_factory=Classes)
    configs: dict = field(default_factory=dict)
    graph: Any = None


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], kind: str) -> Iterator[Stored]:
    """A file of Keras to what it holds, for as long as the block lasts.

    Everything in the HDF5 file has been read by then, in a process of its own: what Keras reads afterwards is known to
    be whole.

    Args:
        kind: `"keras"` or `"h5"`, as `kind_of` says.

    Raises:
        ValueError: it is damaged, or asks for more than weights need.
    """
    with temporary_folder() as folder:
        if kind == "h5":
            network, arrays = hdf5.read_network(path)
            weights = Path(path)
            if not weights.name.endswith(".weights.h5"):
                weights = Path(shutil.copyfile(path, folder / _WEIGHTS))
        else:
            with reading(path, "a .keras file"):
                network, weights = _unpack(path, folder)
                arrays = hdf5.read(weights)
            config = json.loads(network) if _KERAS_HUB in network else {}
            if isinstance(config, dict) and str(config.get("registered_name")).startswith(_KERAS_HUB):
                # Its classes aren't ours to build; the source of that name reads what it says.
                yield Stored(os.fspath(path), kind, arrays, configs={"task.json": config})
                return
        yield Stored(os.fspath(path), kind, arrays, network, weights)


def network_beside(configs: Mapping[str, Any]) -> str | None:
    """The text of the network that Keras wrote beside its weights as `config.json`; None where it isn't one of ours.

    Args:
        configs: `{file name: parsed JSON}` of the files beside the weights.
    """
    config = configs.get("config.json", {})
    ours = isinstance(config.get("config"), dict) and "layers" in config["config"]
    return json.dumps(config) if ours and not str(config.get("registered_name")).startswith(_KERAS_HUB) else None


def _unpack(path, folder):
    """The text of the network and the path of the weights of a .keras file; checksums are compared."""
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > limits.CONFIG_BYTES:
            raise ValueError("its config.json is far larger than a network's")
        member = archive.getinfo(_WEIGHTS)
        if member.file_size > limits.EXPANSION * os.path.getsize(path):
            raise ValueError("its weights are far larger than the file")
        return archive.read("config.json").decode(), Path(archive.extract(member, folder))


def record(stored: Stored) -> Any:
    """The record in a file's network, as it stands there; None where it has none, as in files of earlier versions.

    Raises:
        ValueError: it can't be read.
    """
    with reading(stored.path, "a network of Keras"):
        spec = _config(stored.network)["config"].get("spec")
        return None if spec is None else ModelSpec.from_dict(spec, "its configuration")


def load(stored: Stored, num_classes: int | None = None, classes: Any = None) -> Any:
    """A file that holds a network to a `SegmentationModel` with its weights.

    Its record is the file's, or where it has none what the layers tell.

    Args:
        stored: what `opened` gave.
        num_classes: None, or another number, for which the last layer starts from fresh values.
        classes: None, or names of classes or a `Classes`; where the file's record has others, the last layer starts
            from fresh values, too.

    Returns:
        (model, None or the names of the layers that start afresh and why)

    Raises:
        ValueError: the network isn't one of registered layers, has code in it, isn't what the weights belong to, or
            isn't what its record says.
    """
    with reading(stored.path, "a network of Keras"):
        model = with_spec(network(stored))
        _check_record(model)
    spec = spec_of(model)
    number, known, why = settle(stored.path, spec.num_classes, spec.classes, num_classes, classes)
    if why is None:
        return with_spec(model, classes=known), None
    with reading(stored.path, "a network of Keras"):
        config = _config(stored.network)
        convolutions = {layer["config"]["name"]: layer for layer in _layers(config) if "filters" in layer["config"]}
        fresh = class_layers(convolutions)
        if not fresh:
            raise ValueError(f"{number} classes were asked for, and which layer holds its own isn't known")
        if number == 1 and spec.activation == "softmax":
            raise ValueError("the softmax of one class is 1 everywhere: give two classes, or build the network anew")
        for layer in _layers(config):
            layer.pop("build_config", None)  # shapes of the other number
        for name in fresh:
            convolutions[name]["config"]["filters"] = number
        config["config"].pop("spec", None)
        other = with_spec(_built(config), spec, num_classes=number, classes=known)
        arrays = {variable.path: variable.numpy() for variable in model.weights}
        return assign(other, arrays, stored.path, fresh_layers=fresh), (fresh, why)


def _check_record(model):
    """Raises ValueError where a model's record says other of its last layers than they do themselves."""
    told, found = model.spec, spec_of(keras.Model(model.inputs, model.outputs))
    last = [layer for layer in model.layers if layer.name == "upsample_logits" and hasattr(layer, "resize")]
    wrong = []
    if found.activation not in (None, told.activation):
        wrong.append(f"activation {told.activation}, the model has {found.activation}")
    if last and last[0].resize != told.resize:
        wrong.append(f"resize {told.resize}, the model has {last[0].resize}")
    if wrong:
        raise ValueError(f"the record of {model.name!r} is not its own: {'; '.join(wrong)}")


def network(stored: Stored) -> Any:
    """The network with its weights. Before any memory is taken the file is known to hold as much as it needs."""
    with unallocated():
        twin = _built(_config(stored.network))
    check_fits(twin, stored)
    model = _built(_config(stored.network))
    model.load_weights(stored.weights)
    return model


def fill(model: keras.Model, stored: Stored) -> None:
    """Puts the weights in a file of Keras into the model that they belong to, and returns it."""
    if stored.kind == "keras":
        other = load(stored)[0]
        return assign(model, {variable.path: variable.numpy() for variable in other.weights}, stored.path)
    with reading(stored.path, f"the weights of {model.name!r}"):
        check_fits(model, stored)
        model.load_weights(stored.weights)
    return model


def check_fits(model: keras.Model, stored: Stored) -> Any:
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
    if len(text) > limits.CONFIG_BYTES:
        raise ValueError(f"its configuration takes {len(text):,} bytes, far more than a network's")
    config = json.loads(text)
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ValueError("its configuration is no network's")
    code = sorted({name for name in _class_names(config) if name in _CODE})
    if code:
        raise ValueError(f"it has layers that run code of their own ({', '.join(code)}), which are not built")
    count = _count_layers(config)
    if count > limits.LAYERS:
        raise ValueError(f"it asks for {count:,} layers; networks of up to {limits.LAYERS:,} are built")
    config["compile_config"] = None
    return config


def _count_layers(value):
    """The layers in a configuration, those of models in it included."""
    if isinstance(value, dict):
        own = value.get("layers")
        return len(own if isinstance(own, (dict, list)) else ()) + sum(map(_count_layers, value.values()))
    return sum(map(_count_layers, value)) if isinstance(value, list) else 0


def _class_names(value):
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value["class_name"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _class_names(item)


def _built(config):
    try:
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except TypeError as error:
        # Of a registered class Keras tells the whole configuration first, then what was wrong.
        raise error.__context__ or error from None
    if not isinstance(model, keras.Model):
        raise ValueError(f"its configuration is that of a {type(model).__name__}, not of a network")
    return model


def _layers(config):
    layers = config["config"].get("layers", [])
    if not all(isinstance(layer, dict) and isinstance(layer.get("config"), dict) for layer in layers):
        raise ValueError("its configuration is no network's")
    return layers


def output_stride(stored: Stored) -> Any:
    """The stride of the map that the head of a file's network sees, by its layers."""
    with reading(stored.path, "a network of Keras"):
        return stride_of_head(_layers(_config(stored.network)))


def stride_of_head(layers: Any) -> Any:
    """The stride of the map that a DeepLab's head sees, from the configurations of its layers."""
    strides: dict[str, Any] = {}
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
