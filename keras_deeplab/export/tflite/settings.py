"""What a TFLite file may be: its precisions, and which arguments fit each other."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_deeplab.export import arguments, flatbuffer, graph

# How weights and activations are stored.
PRECISIONS = ("float32", "float16", "dynamic", "int8_weights", "int8", "int16x8")
TYPES = {"uint8": tf.uint8, "float32": tf.float32, "int8": tf.int8}
# What the converter needs ranges of activations for.
CALIBRATED = ("int8", "int16x8")
# Besides int8, what takes kernels rounded on images, and which of them: the others don't become int8.
ROUNDED: dict[str, dict[str, Any]] = {
    "int16x8": {},
    "dynamic": {"smallest": flatbuffer.SMALLEST_INT8},
    "int8_weights": {"smallest": flatbuffer.SMALLEST_INT8, "depthwise": False},
}


def check(
    *,
    precision: str,
    output: str,
    upsample: bool,
    input_type: str | None,
    output_type: str | None,
    calibration: Any,
    calibration_samples: int,
    fine_tune_steps: int,
    float_tensors: int,
    layer_errors: int,
) -> None:
    """Raises ValueError unless the arguments of `export_tflite`, by their names, fit each other."""
    arguments.one_of("precision", precision, PRECISIONS)
    arguments.one_of("input_type", input_type, tuple(TYPES))
    arguments.one_of("output_type", output_type, (None, *TYPES))
    arguments.check_output(output, upsample)
    if precision in CALIBRATED and calibration is None:
        raise ValueError(
            f"{precision} needs images to find the ranges of the activations on: pass calibration= (--calibration), a "
            "folder of about 100 typical photographs or a data set's folder, whose training split is taken. "
            'precision="dynamic" and "int8_weights" need none'
        )
    if precision not in ("int8", *ROUNDED) and calibration is not None:
        raise ValueError(
            "calibration= or --calibration is for files with int8 in them; "
            f"{precision} has nothing to round: leave it out"
        )
    if precision != "int8" and input_type == "int8":
        raise ValueError(f'input_type "int8" needs precision="int8", received {precision!r}: choose "uint8"')
    if output_type is not None and output == "labels":
        raise ValueError("output_type is for logits and probabilities; labels are uint8: leave it out")
    if output_type not in (None, "float32") and precision != "int8":
        raise ValueError(f'output_type {output_type!r} needs precision="int8", received {precision!r}: leave it out')
    if calibration_samples < 1:
        raise ValueError(f"calibration_samples must be at least 1, received {calibration_samples}")
    if (fine_tune_steps or float_tensors) and precision != "int8":
        raise ValueError(f"fine_tune_steps and float_tensors are for int8; this file is {precision}: leave them out")
    if layer_errors and precision not in CALIBRATED:
        raise ValueError(f"errors of layers are told of int8 and int16x8 files; this one is {precision}: leave it out")


def input_sizes(model: keras.Model, input_size: Any) -> list[tuple[int, int]]:
    """`export_tflite`'s input_size to a list of (height, width), empty for any size."""
    own = graph.static_size(model)
    if input_size is None:
        if None in own:
            raise ValueError(
                f"the model {model.name!r} takes any size: pass input_size= (--input-size), the size of the images on "
                'the device, such as 513 or (321, 513), a list of sizes, or "dynamic" for a file that takes any'
            )
        return [own]
    if isinstance(input_size, str):
        if input_size != "dynamic":
            raise ValueError(f'input_size must be "dynamic" or numbers, received {input_size!r}')
        if own != (None, None):
            raise ValueError(
                f"the model {model.name!r} was built for {own[0]}x{own[1]} images, so no file of it takes any size: "
                f"build it with input_shape=(None, None, {model.inputs[0].shape[-1]}), or give an input_size "
                "(--input-size)"
            )
        return []
    sizes = [arguments.one_size(size) for size in (input_size if isinstance(input_size, list) else [input_size])]
    if not sizes or len(set(sizes)) != len(sizes):
        raise ValueError(f"input_size must have at least one size, and each once; received {input_size!r}")
    return sizes


def fitting(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `export_tflite` that a precision has."""
    without = set()
    if precision not in CALIBRATED:
        without = {"layer_errors"}
    if precision not in ("int8", *ROUNDED):
        without |= {"calibration", "calibration_samples"}
    if precision != "int8":
        without |= {"allow_float", "output_type", "float_tensors", "fine_tune_steps"}
    return {name: value for name, value in options.items() if name not in without}
