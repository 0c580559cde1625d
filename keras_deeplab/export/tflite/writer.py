"""A Keras model to a TFLite file."""

import collections
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_deeplab import quantize
from keras_deeplab._helpers.files import write_whole
from keras_deeplab.export import arguments, compare, flatbuffer, graph
from keras_deeplab.export.calibration import Calibration
from keras_deeplab.export.targets import TARGETS, settled
from keras_deeplab.export.tflite.conversion import balance, converted, prepared, takes_largest
from keras_deeplab.export.tflite.settings import check, input_sizes
from keras_deeplab.metadata import tflite as _tflite_metadata
from keras_deeplab.specs import Classes


@dataclass(frozen=True)
class TFLiteFile:
    """What `export_tflite` wrote.

    Attributes:
        path: pathlib.Path of the file.
        bytes: its size.
        precision: one of `PRECISIONS`.
        input_sizes: (height, width) of each size of images that it takes; () where it takes any.
        operators: dict from the names of TFLite's operators to how many of each the file has.
        float_operators: names of the operators that compute in floating point between input and output, in order.
        layer_errors: tuple of `LayerError`, the largest first, where they were asked for; else None.
    """

    path: Path
    bytes: int
    precision: str
    input_sizes: tuple
    operators: dict
    float_operators: tuple
    layer_errors: tuple | None = None

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The (height, width) of the first size, None where the file takes any."""
        return self.input_sizes[0] if self.input_sizes else None


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    precision: str | None = None,
    target: str | None = None,
    input_size: Any = None,
    calibration: Any = None,
    calibration_samples: int = 100,
    output: str | None = None,
    upsample: bool | None = None,
    input_type: str | None = None,
    output_type: str | None = None,
    classes: Classes | Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    allow_float: bool = False,
    float_tensors: int = 0,
    fine_tune_steps: int = 0,
    layer_errors: int = 0,
) -> TFLiteFile:
    """A Keras model to a TFLite file from images (1, H, W, channels) in 0..255 to uint8 labels (1, H, W).

    Normalisation, resize and argmax are inside the file, whatever its precision, and so is the model's record
    (`keras_deeplab.metadata.tflite.read_spec`). A binary model's labels are 1 where its one logit is above 0 (the
    probability above 0.5); a multi-label model's are its likeliest class where that is above a probability of 0.5, else
    255, and its probabilities are those of each class by itself. An auxiliary output is left out.

    | precision | weights | activations | images |
    |---|---|---|---|
    | `"float32"` | float32 | float32 | float32 |
    | `"float16"` | float16, widened when loaded | float32, or float16 on devices that prefer it | float32 |
    | `"dynamic"` | int8 | float32, made int8 for each multiplication | float32 |
    | `"int8_weights"` | int8 and float16, widened when loaded | float32 | float32 |
    | `"int8"` | int8, a scale for each channel | int8, with ranges found on the calibration images | uint8 |
    | `"int16x8"` | int8, a scale for each channel | int16, likewise | float32 |

    Calibration images stand for what the model will be fed. They are padded to the input size with mid-grey at the
    bottom and right, as evaluation does it; larger ones are first scaled down to fit. Take them from the training
    split, never from the one that scores the file.

    Args:
        model: keras.Model from images (B, H, W, channels) in 0..255 to logits.
        path: the file to write; it is replaced if it exists, and left as it is if anything fails.
        precision: one of `PRECISIONS`; None for `"float32"`, or the target's own.
        target: what will run the file, a key of `keras_deeplab.export.targets.TARGETS`: `"mediapipe"`, `"android"`,
            `"ios"`, `"edgetpu"` or `"gpu"`. It decides what is left None of precision, output, upsample and types, and
            the file is refused where it wouldn't be run as it is.
        input_size: int or (height, width) of the images; a list of these for one file with a signature for each size
            (named "257x257" and so on) that all share the weights, in int8 those of the largest; `"dynamic"` for a file
            that takes any size, to be set by the interpreter's `resize_tensor_input`; None for a model that was built
            for one size.
        calibration: int8 and int16x8 need it; dynamic and int8_weights may take it to round their kernels better, as
            `keras_deeplab.quantize.round_kernels` does. The name or path of a data set (its training split), the path
            of a folder of images, a `keras_deeplab.data` source, or an iterable of images (H, W, channels) in 0..255.
        calibration_samples: how many images to calibrate on at most.
        output: `"labels"`; `"logits"` or `"probabilities"`, (1, h, w, num_classes). None for labels, or the target's
            own.
        upsample: whether logits and probabilities have the images' size; False leaves the last resize to the caller,
            and they have the stride of the model's head. None for True, or the target's own.
        input_type: type of the images: `"uint8"`, `"float32"` (in 0..255; GPU delegates take no other) or, where
            precision is int8, `"int8"` (pixels minus 128). None means that of the table.
        output_type: type of an int8 file's logits and probabilities: `"int8"` (None means it) or `"uint8"`, with a
            scale, or `"float32"`.
        classes: names of the labels or a `keras_deeplab.specs.Classes`, for the file's record; None for those in the
            model's.
        palette: uint8 (N, 3) colours of at least all labels, likewise.
        allow_float: whether an int8 file may have operators that compute in floating point.
        float_tensors: how many tensors of an int8 file stay in floating point, those whose rounding costs most, with
            the operators at both ends.
        fine_tune_steps: how many steps an int8 file's kernels are trained to put out what the model does, rounding
            included (`keras_deeplab.quantize.fine_tune`): on random crops of a data set's training split, or on the
            calibration images themselves, four at a time.
        layer_errors: on how many of the calibration images to compare each layer of an int8 or int16x8 file with the
            same in float32, at the largest of several sizes; 0 leaves it out.

    Returns:
        `TFLiteFile`.

    Raises:
        ValueError: if an argument doesn't fit, operators of an int8 file stayed in floating point, or the target has
            no such operators.
        FileNotFoundError: if there is no such calibration folder, or no image in it.
    """
    chosen = settled(
        target, precision=precision, output=output, upsample=upsample, input_type=input_type, output_type=output_type
    )
    precision, output, upsample, input_type, output_type = chosen.values()
    if input_type is None:
        input_type = "uint8" if precision == "int8" else "float32"
    check(
        precision=precision,
        output=output,
        upsample=upsample,
        input_type=input_type,
        output_type=output_type,
        calibration=calibration,
        calibration_samples=calibration_samples,
        fine_tune_steps=fine_tune_steps,
        float_tensors=float_tensors,
        layer_errors=layer_errors,
    )
    name = getattr(model, "name", "")
    model, spec = graph.network(model, upsample)
    spec = arguments.with_given_classes(spec, classes, palette)
    sizes: list[Any] = input_sizes(model, input_size)
    runs = None if target is None else TARGETS[target]
    written = spec
    if runs is not None:
        runs.check_sizes(sizes)
        written = runs.spec(spec)
    path = arguments.file_path(path, "model.tflite")
    images: Any = None
    given: Calibration | None = None
    if calibration is not None:
        given = Calibration(calibration, calibration_samples, spec)
    # Kernels are those of the largest size, so that all sizes share them. It comes first: the others change the ranges.
    largest, *others = compare.largest_first(sizes)
    if given:
        images = given.images(largest)
    whole, whole_exact = prepared(model, spec, largest, precision, output, images, float_tensors)
    if fine_tune_steps and given:
        batches = given.batches(images)
        quantize.fine_tune(whole, whole_exact, batches, fine_tune_steps, multi_label=spec.multi_label)
    quantised = whole is not whole_exact and quantize.is_quantised(whole)
    for_argmax = takes_largest(spec, output)
    options: dict[str, Any] = {
        "precision": precision,
        "input_type": input_type,
        "output_type": output_type,
        "allow_float": allow_float,
    }
    files: dict[Any, Any] = {}
    errors = None
    for size in (largest, *others):
        network, exact = (graph.inference_model(each, size) for each in (whole, whole_exact))
        if given and size != largest:
            images = given.images(size)
            if quantised:
                quantize.fit_ranges(network, exact, images, for_argmax=for_argmax)
        # With images the converter would find ranges for the tensors that have none on purpose.
        found = None if float_tensors else images
        file = flatbuffer.unpacked(converted(network, written, size, output=output, images=found, **options))
        if quantised and for_argmax:
            balance(file, network, exact, images)
        if precision == "int8_weights":
            flatbuffer.weights_as_int8(file)
        if precision == "int16x8":
            flatbuffer.own_biases(file)
            flatbuffer.integer_argmax(file)
        flatbuffer.named(file, output, "serving_default" if len(sizes) < 2 else f"{size[0]}x{size[1]}")
        if layer_errors and not files:
            reference = flatbuffer.unpacked(
                converted(exact, written, size, precision="float32", output=output, input_type="float32")
            )
            flatbuffer.named(reference, output)
            errors = compare.layer_errors(flatbuffer.packed(file), flatbuffer.packed(reference), images[:layer_errors])
        files[size] = file
    file = flatbuffer.merged([files[size] for size in sizes or [None]])
    counts, floating = flatbuffer.operators(file)
    if precision == "int8" and floating and not (allow_float or float_tensors):
        raise ValueError(
            f"{len(floating)} operators of the int8 file stayed in floating point: "
            f"{', '.join(f'{name} ({count})' for name, count in collections.Counter(floating).items())}. No file was "
            "written. Replace the layers that need them, allow them (allow_float=True, --allow-float), or choose "
            'precision="dynamic" or "float16"'
        )
    record = graph.file_spec(written, output, upsample, sizes, precision)
    if runs is not None:
        runs.check_file(record, counts, tuple(floating))
    about, archive = _tflite_metadata.write(name, record)
    flatbuffer.add_metadata(file, _tflite_metadata.BUFFER, about)
    content = flatbuffer.packed(file) + archive
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return TFLiteFile(path, len(content), precision, tuple(sizes), counts, tuple(floating), errors)
