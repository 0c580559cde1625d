"""All that this package uses of Keras and TensorFlow and that they keep private, because they offer no public way.

A release of theirs may change it without a word, which is why setup.cfg bounds their versions; a test tells which
version broke what. Names are imported when they are used:

`schema`: the tables of a TFLite file as Python classes (TensorFlow);
`convert_variables_to_constants_v2`: a traced function to one without variables (TensorFlow);
`global_state`: what Keras keeps for each thread;
`AutocastScope`: in which dtype a variable is read (Keras).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

_HOMES = {
    "schema": ("tensorflow.lite.python", "schema_py_generated"),
    "convert_variables_to_constants_v2": (
        "tensorflow.python.framework.convert_to_constants",
        "convert_variables_to_constants_v2",
    ),
    "global_state": ("keras.src.backend.common", "global_state"),
    "AutocastScope": ("keras.src.backend.common.variables", "AutocastScope"),
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    try:
        return getattr(import_module(module), attribute, None) or import_module(f"{module}.{attribute}")
    except ImportError as error:
        package = module.split(".")[0]
        version = import_module(package).__version__
        raise ImportError(f"{package} {version} has no {module}.{attribute}, which keras_deeplab uses") from error


# Keras's graphs. Public `layer.input` and `layer.output` are those of a layer's first call, in whatever model it was.


def producer(tensor: Any) -> Any:
    """The layer, or operation, that a Keras tensor comes from."""
    return tensor._keras_history.operation


def calls(operation: Any) -> Any:
    """The calls of a layer: objects with `input_tensors`, `output_tensors` and `outputs`, the first one first."""
    return operation._inbound_nodes


def is_channel_flip(operation: Any) -> bool:
    """Whether an operation is `keras.ops.flip` along the last of four axes, of which Keras exports no class."""
    axis = getattr(operation, "axis", None)
    return type(operation).__name__ == "Flip" and len(operation.output.shape) == 4 and axis in (-1, 3, (-1,), (3,))


def run_through_graph(model: Any, inputs: Any, operation: Callable[[Any], Any]) -> Any:
    """Runs a functional model on a flat list of values of any kind, with `operation(layer)` in place of each layer."""
    return model._run_through_graph(inputs, operation)


def rename(variable: Any, name: str, path: str) -> None:
    """Gives a variable a name and a path, which Keras otherwise counts up."""
    variable._name, variable._path = name, path


# Keras's `fit`.


def on_several_hosts(kind: Any) -> Any:
    """A class of models to one whose `fit` doesn't end in an error under several hosts of `tf.distribute`."""

    def train_step(self, data):
        logs = super(made, self).train_step(data)
        return {name: value[None] for name, value in logs.items()}

    def build_nothing(self, iterator=None, data_batch=None):
        pass

    made = type(kind.__name__, (kind,), {"train_step": train_step, "_maybe_symbolic_build": build_nothing})
    return made


# Keras's optimizers.


def variable_index(optimizer: Any, variable: Any) -> int:
    """Which of the variables that an optimizer was built with this is; inside `update_step` it may be a replica's."""
    return optimizer._get_variable_index(variable)


def copy_weight_decay_exclusions(source: Any, target: Any) -> None:
    """Leaves the variables that `source.exclude_from_weight_decay` told out of another optimizer's decay too."""
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def averages_of(optimizer: Any) -> Any:
    """The moving averages of the variables that an optimizer with `use_ema` was built with, in their order."""
    return optimizer._model_variables_moving_average


def schedule_of(optimizer: Any) -> Any:
    """The learning-rate schedule of an optimizer, or its variable where it has none."""
    return optimizer._learning_rate


# TensorFlow Lite's interpreters. LiteRT's have the same.


def operators_of(interpreter: Any) -> Any:
    """The operators of a TFLite file as they run: a list of dicts with `op_name`, `inputs`, `outputs`."""
    return interpreter._get_ops_details()


def tensor_of(interpreter: Any, index: int) -> Any:
    """One tensor of a TFLite file as `get_tensor_details()` has it, also where it belongs to no input or output."""
    return interpreter._get_tensor_details(int(index), 0)
