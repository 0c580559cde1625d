"""A network to the TFLite file of one size and precision."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab import quantize
from keras_deeplab.export import compare, flatbuffer, graph
from keras_deeplab.export.calibration import fitted
from keras_deeplab.export.tflite.settings import CALIBRATED, ROUNDED, TYPES
from keras_deeplab.specs import ModelSpec

# Of those the resized scores are float32, 4 bytes each.
_IN_FLOAT = ("float32", "float16", "dynamic", "int8_weights")
# Below it the interpreter is quicker with all of them: docs/export.md.
_WORTH_SLABS = 1 << 26


def takes_largest(spec: ModelSpec, output: str) -> bool:
    """Whether all that counts of a file is which logit of a position is the largest."""
    return output == "labels" and spec.exclusive


def prepared(
    model: keras.Model,
    spec: ModelSpec,
    size: tuple[int, int] | None,
    precision: str,
    output: str,
    images: Sequence[np.ndarray] | None,
    float_tensors: int = 0,
) -> tuple[keras.Model, keras.Model | None]:
    """A model to (model, exact): what is traced for a file of a precision and, where it is an integer one, for the same
    in float32.

    Args:
        model, spec: what `graph.network` gave.
        size: (height, width); None leaves it open.
        precision, output, float_tensors: as in `export_tflite`.
        images: what `Calibration.images` gave, or None.
    """
    model = graph.inference_model(model, size)
    if images is None or quantize.is_quantised(model):
        return model, model
    try:
        # A model of any size is looked at on images of one.
        height, width = np.max([image.shape[1:3] for image in images], 0)
        images = [fitted(image[0], (height, width), spec.channels)[None] for image in images]
        if precision != "int8":
            exact, rounded = quantize.fold(model), quantize.fold(model)
            quantize.round_kernels(rounded, images, **ROUNDED[precision])
            return rounded, exact
        for_argmax = takes_largest(spec, output)
        return quantize.quantize(model, images, for_argmax=for_argmax, float_tensors=float_tensors, with_exact=True)
    except quantize.UnfoldableError as error:
        warnings.warn(f"the model is calibrated as it is, which loses more: {error}", stacklevel=3)
        return model, model


def balance(file: Any, prepared: keras.Model, exact: keras.Model, images: Sequence[np.ndarray]) -> None:
    """Gives the file of a prepared model balanced biases; the model keeps its own, for the files of other sizes."""

    def labels_with(biases):
        flatbuffer.set_last_biases(file, biases)
        return compare.labels_of(flatbuffer.packed(file))

    weights = prepared.get_weights()
    biases = quantize.balance(prepared, exact, images, labels_with)
    prepared.set_weights(weights)
    if biases is not None:
        flatbuffer.set_last_biases(file, biases)


def converted(
    model: keras.Model,
    spec: ModelSpec,
    size: tuple[int, int] | None,
    *,
    precision: str,
    output: str,
    input_type: str,
    output_type: str | None = None,
    allow_float: bool = False,
    images: Sequence[np.ndarray] | None = None,
) -> bytes:
    """What `prepared` gave to the content of a TFLite file, as the converter makes it.

    Args:
        spec: the model's record.
        size: (height, width); None leaves it open.
        images: what `Calibration.images` gave, for a model without ranges; else None.
        precision, output, input_type, output_type, allow_float: as in `export_tflite`.
    """
    logits_of = graph.logits_function(model)
    by_slabs = None
    if output == "labels" and precision in _IN_FLOAT and size is not None:
        by_slabs = graph.labels_by_slabs(model, spec, size, _WORTH_SLABS)
    # The converter turns a float input into the asked integer type where everything is quantised.
    traced_type = tf.float32 if precision == "int8" else TYPES[input_type]
    shape = (1, *(size or (None, None)), spec.channels)

    @tf.function(input_signature=[tf.TensorSpec(shape, traced_type, "images")], autograph=False)
    def segment(images):
        return {output: by_slabs(images) if by_slabs else graph.output_of(logits_of(images), spec, output)}

    # Without the Keras model as a second argument: with it, variables stay variables, which nothing initialises.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([segment.get_concrete_function()])
    if precision not in ("float32", "int8_weights"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in CALIBRATED and images is not None:
        converter.representative_dataset = lambda: ([image.astype(traced_type.as_numpy_dtype)] for image in images)
    if precision == "int8":
        if images is not None:
            kinds = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.target_spec.supported_ops = kinds + [tf.lite.OpsSet.TFLITE_BUILTINS] * allow_float
        converter.inference_input_type = TYPES[input_type]
        if output != "labels":
            converter.inference_output_type = TYPES[output_type or "int8"]
    if precision == "int16x8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,  # argmax knows no int16
        ]
    with warnings.catch_warnings():
        # What it misses are the mean and deviation of TF1's quantised training.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
        return converter.convert()
