"""Going back: a model's weights under the names, and with the axes, of the code that other people run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.models.build import build
from keras_deeplab.specs.model import spec_of
from keras_deeplab.weights import SOURCES, recognise
from keras_deeplab.weights.names import their_name
from keras_deeplab.weights.plan import Plan, all_layers
from keras_deeplab.weights.writers import write_hub_folder, write_pickle, write_safetensors, write_tf1, write_torch

# what a source's training script puts the weights under
_WRAPPERS = {"vainf": "model_state", "jfzhang95": "state_dict", "mmsegmentation": "state_dict", "detectron2": "model"}
# Layers that a model may have or lack without being another network.
_ROUND = ("images", "preprocessing", "upsample_", "classifier_activation", "auxiliary_upsample")


def export_weights(model: keras.Model, path: str | os.PathLike, source: str) -> dict[str, np.ndarray]:
    """Writes a model's weights as a checkpoint that other code loads: what `load` reads, the other way.

    Args:
        model: a DeepLab of this package, built, loaded or trained, whose network is one of the source's: built with
            its `flavour=` (and, where the backbones differ, its backbone, such as `"mobilenet_v2_vainf"`).
        path: the file to write. For `"tf1"` the prefix of a checkpoint (`model.ckpt-30000`), of which `.index` and
            `.data-00000-of-00001` are written; for `"transformers"` and `"keras_hub"` a new folder, for
            `from_pretrained` and `from_preset`; for `"paddleseg"` a `.pdparams`, for all others a `.pth` or `.pt` file,
            or for both a `.safetensors` file.
        source: whose names and layouts, a key of `keras_deeplab.weights.SOURCES` that can be written:
            `"torchvision"`, `"vainf"` and the like, `"tf1"`, `"transformers"`, `"keras_hub"`.

    Returns:
        `{name: array}`, what was written.

    Raises:
        ValueError: the source has no such network (the message names the layers), or another kind of file; for
            `"keras_hub"` keras-hub isn't installed.

    A file for PyTorch is what `torch.save` writes: `torch.load(path, weights_only=True)` gives the state dict, and
    `load_state_dict` takes it strictly. VainF's and jfzhang95's scripts expect it wrapped, under `"model_state"` and
    `"state_dict"`, and get it so; a `.safetensors` file holds the plain names. Batch norm's counters, which Keras
    doesn't have, are zero; `global_step`, which TensorFlow's scripts look for, too.

    Example:

    >>> import tempfile, keras_deeplab
    >>> model = keras_deeplab.DeepLabV3("mobilenet_v2_vainf", num_classes=3, flavour="vainf")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     state = keras_deeplab.export_weights(model, f"{folder}/model.pth", "vainf")
    ...     again = keras_deeplab.load(f"{folder}/model.pth")
    >>> state["classifier.classifier.4.bias"].shape, again.output_shape
    ((3,), (None, None, None, 3))
    """
    write = _writer(path, source)
    arrays, configs = _written(model, source)
    write(path, arrays, configs)
    return arrays


def _writer(path, source):
    """The function that writes a checkpoint of `source` at `path`, once the names are known to fit."""
    suffix = Path(path).suffix
    if hasattr(SOURCES.get(source), "export_configs"):
        if suffix in (".pth", ".pt", ".safetensors", ".bin", ".keras", ".h5", ".zip"):
            raise ValueError(
                f"A checkpoint of {source!r} is a folder of several files, such as 'my-model'; received "
                f"{os.fspath(path)!r}."
            )
        return getattr(SOURCES[source], "write_folder", write_hub_folder)
    if source == "tf1":
        if suffix in (".pth", ".pt", ".safetensors", ".keras", ".h5", ".index"):
            raise ValueError(
                f"A checkpoint of 'tf1' is the prefix of two files, such as 'model.ckpt'; received {os.fspath(path)!r}."
            )
        return lambda path, arrays, _: write_tf1(path, {"global_step": np.zeros((), "int64"), **arrays})
    if suffix == ".safetensors":
        return lambda path, arrays, _: write_safetensors(path, arrays)
    if source == "paddleseg":
        if suffix == ".pdparams":
            return lambda path, arrays, _: write_pickle(path, arrays)
        raise ValueError(f"A checkpoint of 'paddleseg' is written as .pdparams; received {os.fspath(path)!r}.")
    if suffix in (".pth", ".pt"):
        return lambda path, arrays, _: write_torch(path, arrays, _WRAPPERS.get(source))
    raise ValueError(
        f"A checkpoint of {source!r} is written as .pth, .pt or .safetensors; received {os.fspath(path)!r}."
    )


def state_dict(model: keras.Model, source: str) -> dict[str, np.ndarray]:
    """Maps a model of this package to `{name: array}` as a checkpoint of `source` holds them: `load` the other way.

    Args:
        model: a DeepLab of this package, built, loaded or trained, of the source's flavour.
        source: `"torchvision"`, `"vainf"` or another of PyTorch's (convolutions (out, in, h, w), with the counters of
            batch norm), or `"tf1"`, Google's names.

    Returns:
        A `dict` of NumPy arrays that `load` reads back into the same weights, and the source's own code as well:
        `model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})`.

    Raises:
        ValueError: another source, or a model that isn't this source's network: the message says what it lacks.

    Example (needs PyTorch)::

        state = keras_deeplab.export.weights.state_dict(model, "vainf")
        torch.save({"model_state": {name: torch.from_numpy(array) for name, array in state.items()}}, "model.pth")
    """
    return _written(model, source)[0]


def _written(model, source):
    """(`{name: array}`, `{file name: JSON}` that has to lie beside them) of a model as a source has it."""
    able = [name for name, module in SOURCES.items() if hasattr(module, "export_rows")]
    if source not in able:
        raise ValueError(f"source must be one of {', '.join(map(repr, able))}; received {source!r}.")
    title, variables = SOURCES[source].TITLE, {variable.path: variable for variable in model.weights}
    layers = {layer.name: layer for layer in all_layers(model)}
    rows, dialect, constants = SOURCES[source].export_rows(variables, layers)
    names = {path: their_name(path, rows, dialect, **constants) for path in variables}
    nameless = [path for path, name in names.items() if name is None]
    if nameless:
        raise ValueError(f"{model.name!r} is no network of {title}, which has no {', '.join(nameless[:6])}.")
    other_names = getattr(SOURCES[source], "other_names", lambda name: ())
    unused: Callable[[Any], dict[str, Any]] = getattr(SOURCES[source], "unused", lambda state: {})

    def arrays(plan):
        state = {
            names[path]: np.ascontiguousarray(plan.arrange(variable.numpy(), variable, layers, back=True))
            for path, variable in variables.items()
        }
        if dialect.counter is not None:
            means = [name for path, name in names.items() if path.endswith("_BN/moving_mean")]
            state.update({name.rpartition(".")[0] + dialect.counter: np.zeros((), "int64") for name in means})
        state |= unused(state)
        return state | {other: array for name, array in state.items() for other in other_names(name)}

    unordered = Plan(source, None, rows, dialect)
    configs = {}
    if hasattr(SOURCES[source], "export_configs"):
        configs = SOURCES[source].export_configs(spec_of(model), variables)
    plan = recognise(arrays(unordered), repr(model.name), source, configs)
    if spec_of(model).backbone in [each.get("backbone") for each in plan.undecided]:
        plan = plan.chosen(backbone=spec_of(model).backbone)
    _compare(model, layers, plan, title)
    fillers = getattr(SOURCES[source], "fillers", lambda configs: {})
    return {name: np.asarray(array) for name, array in (arrays(plan) | fillers(configs)).items()}, configs


def _compare(model, layers, plan, title):
    """Raises ValueError unless a model has the layers of one that the source's checkpoint would become."""
    settings = {"auxiliary_head": True} if "auxiliary_logits" in layers else {}
    if "aspp0_relu6" in layers:  # an option of research/deeplab, which names don't tell
        settings.update(backbone="xception_65_bounded", flavour="tf_bounded")
    # Settings that a source keeps in a configuration beside the arrays.
    record = spec_of(model)
    free = getattr(SOURCES[plan.source], "FREE", ())
    settings |= {name: record.settings[name] for name in free if record.settings.get(name) is not None}
    own = _network(layers.values())
    # Where the network isn't rewritten, its layers depend on the output stride.
    for output_stride in BACKBONES[plan.spec.backbone].output_strides or [plan.spec.output_stride]:
        with unallocated():
            twin = build(plan.at(output_stride), include_preprocessing=False, **settings)
        theirs = _network(all_layers(twin))
        if own == theirs:
            _compare_windows(model, record, plan, settings, title)
            return
    lacks, extra = ([name for name, *_ in sorted(each, key=str)] for each in (theirs - own, own - theirs))
    raise ValueError(
        f"{model.name!r} has the variables of {title}'s {twin.name!r} and is another network. Without their match are "
        f"there {', '.join(lacks[:6]) or 'none'}, here {', '.join(extra[:6]) or 'none'} (by name, resize convention, "
        f"epsilon of batch norm, shapes).{_records(spec_of(model), twin.spec, title)}"
    )


def _compare_windows(model, record, plan, settings, title):
    """Raises ValueError where a backbone that isn't the plan's, of the same names and shapes, steps otherwise."""
    if record.backbone in (None, plan.spec.backbone) or record.backbone not in BACKBONES:
        return
    with unallocated():
        twin = build(plan.at(record.output_stride), include_preprocessing=False, **settings)
    here, there = ({layer.name: _window(layer) for layer in all_layers(each)} for each in (model, twin))
    differing = [name for name in here if name in there and here[name] != there[name]]
    missing = sorted(name for name in set(here) ^ set(there) if any((here | there)[name]))
    if differing or missing:
        raise ValueError(
            f"{model.name!r} has the variables of {title}'s {twin.name!r} and is another network, which would compute "
            f"something else there: strides, rates, paddings or poolings of {', '.join([*differing, *missing][:6])} "
            f"differ.{_records(record, twin.spec, title)}"
        )


def _window(layer):
    """The steps, rates, size and padding of a layer that looks at more than a pixel."""
    looks = ("strides", "dilation_rate", "kernel_size", "pool_size", "padding", "cropping")
    return tuple((name, str(getattr(layer, name))) for name in looks if hasattr(layer, name))


def _records(own, theirs, title):
    """What a model's record tells otherwise than that of the source's network, as a sentence; `""` for nothing."""
    differing = [name for name in ("flavour", "backbone") if getattr(own, name) not in (None, getattr(theirs, name))]
    if not differing:
        return ""
    told = " and ".join(f"{name} {getattr(own, name)!r}, {title} has {getattr(theirs, name)!r}" for name in differing)
    return f" Its record tells: {told}."


def _network(layers):
    return {
        (
            layer.name,
            getattr(layer, "resize", None),
            getattr(layer, "epsilon", None),
            tuple(tuple(variable.shape) for variable in layer.weights),
        )
        for layer in layers
        if not (layer.name.startswith(_ROUND) or "dropout" in layer.name)
    }
