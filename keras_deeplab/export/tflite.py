"""A Keras model to a TFLite file for phones, browsers and small computers, and the check of what it lost."""

import collections
import itertools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from keras_deeplab import layers
from keras_deeplab.data.masks import write_whole
from keras_deeplab.export import graph

# How weights and activations are stored.
PRECISIONS = ("float32", "float16", "dynamic", "int8")
OUTPUTS = ("labels", "logits")
_INPUT_TYPES = {"uint8": tf.uint8, "float32": tf.float32, "int8": tf.int8}


@dataclass(frozen=True)
class TFLiteFile:
    """What `export_tflite` wrote.

    Attributes:
        path: pathlib.Path of the file.
        bytes: its size.
        precision: one of `PRECISIONS`.
        input_size: (height, width) of the images it takes.
        operators: dict from the names of TFLite's operators to how many of each the file has.
        float_operators: names of the operators that compute in floating point between input and output, in order.
    """

    path: Path
    bytes: int
    precision: str
    input_size: tuple
    operators: dict
    float_operators: tuple


@dataclass(frozen=True)
class Verification:
    """What `verify` measured on real images.

    Attributes:
        images: how many images were compared.
        model_miou: mean IoU of the Keras model.
        file_miou: mean IoU of the TFLite file, on the same images.
        equal_labels: share of all pixels, ignored ones too, on which the two agree.
        bytes: size of the file.
        max_miou_drop: the loss allowed, None for any.
    """

    images: int
    model_miou: float
    file_miou: float
    equal_labels: float
    bytes: int
    max_miou_drop: float | None

    @property
    def miou_drop(self):
        """How much mean IoU the file lost; negative where it gained."""
        return self.model_miou - self.file_miou

    @property
    def passed(self):
        """Whether the loss is within `max_miou_drop`; never where mean IoU can't be computed."""
        return self.max_miou_drop is None or self.miou_drop <= self.max_miou_drop

    def __str__(self):
        allowed = "" if self.max_miou_drop is None else f" (allowed: {100 * self.max_miou_drop:.2f})"
        return (
            f"mIoU on {self.images} images: Keras model {self.model_miou:.4f}, TFLite file {self.file_miou:.4f}, "
            f"loss {100 * self.miou_drop:.2f} points{allowed}; equal labels {100 * self.equal_labels:.3f} %; "
            f"{self.bytes:,} bytes"
        )


class RejectedFile(ValueError):
    """A converted file lost more than was allowed.

    Attributes:
        path: where the file was left for inspection.
        verification: the `Verification`.
    """

    def __init__(self, path, verification):
        super().__init__(
            f"the converted file is no good: {verification}. It was left as {path} for inspection; nothing was "
            "written under the name asked for. Calibrate on more, or more typical, training images, choose another "
            "precision, or allow more (--max-miou-drop)"
        )
        self.path = path
        self.verification = verification


def export_tflite(
    model,
    path,
    *,
    precision="float32",
    input_size=None,
    calibration=None,
    calibration_samples=100,
    output="labels",
    input_type=None,
):
    """A Keras model to a TFLite file from images (1, H, W, 3) in 0..255 to uint8 labels (1, H, W).

    Normalisation, resize and argmax are inside the file, whatever its precision.

    | precision | weights | activations | images |
    |---|---|---|---|
    | `"float32"` | float32 | float32 | float32 |
    | `"float16"` | float16, widened when loaded | float32, or float16 on devices that prefer it | float32 |
    | `"dynamic"` | int8 | float32 | float32 |
    | `"int8"` | int8, a scale for each channel | int8, with ranges found on the calibration images | uint8 |

    Calibration images stand for what the model will be fed. They are padded to the input size with mid-grey at the
    bottom and right, as evaluation does it; larger ones are first scaled down to fit. Take them from the training
    split, never from the one that scores the file.

    Args:
        model: keras.Model from images (B, H, W, 3) in 0..255 to logits.
        path: the file to write; it is replaced if it exists, and left as it is if anything fails.
        precision: one of `PRECISIONS`.
        input_size: int or (height, width) of the images; None for a model that was built for one size.
        calibration: for int8. The path of a data set's folder (its training split) or of a folder of images, a
            `keras_deeplab.data` source, or an iterable of images (H, W, 3) in 0..255.
        calibration_samples: how many images to calibrate on at most.
        output: `"labels"`, or `"logits"`: (1, H, W, num_classes), float32, or int8 with a scale where precision is
            int8.
        input_type: type of the images: `"uint8"`, `"float32"` (in 0..255; GPU delegates take no other) or, where
            precision is int8, `"int8"` (pixels minus 128). None means that of the table.

    Returns:
        `TFLiteFile`.

    Raises:
        ValueError: if an argument doesn't fit, or operators of an int8 file stayed in floating point.
        FileNotFoundError: if there is no such calibration folder, or no image in it.
    """
    graph.check(model)
    if input_type is None:
        input_type = "uint8" if precision == "int8" else "float32"
    _check_arguments(precision, output, input_type, calibration, calibration_samples)
    size = _input_size(model, input_size)
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of the file to write, such as {path / 'model.tflite'}")
    if precision == "int8":
        images = calibration_images(calibration, size, calibration_samples)
        prepared = graph.inference_model(model, size, replace=_integer_layers(model, output, images))
        content = _converted(prepared, size, precision, output, input_type, images)
    else:
        content = _converted(graph.inference_model(model, size), size, precision, output, input_type)
    content = _named(content, output)
    counts, floating = operators(content)
    if precision == "int8" and floating:
        raise ValueError(
            f"{len(floating)} operators of the int8 file stayed in floating point: "
            f"{', '.join(f'{name} ({count})' for name, count in collections.Counter(floating).items())}. No file was "
            'written. Replace the layers that need them, or choose precision="dynamic" or "float16"'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return TFLiteFile(path, len(content), precision, size, counts, tuple(floating))


def verify(path, model, source, *, limit=None, max_miou_drop=None, input_size=None, progress=True):
    """Compares a TFLite file with the Keras model it came from on the labelled images of a data set.

    Images are padded to the file's input size with 127.5 and the labels cropped again, for both.

    Args:
        path: the .tflite file.
        model: the keras.Model, or whatever `keras_deeplab.predict.predictor` takes.
        source: a `keras_deeplab.data` source.
        limit: number of images, from the beginning; None for all.
        max_miou_drop: how much mean IoU the file may lose, as a share (0.025 is 2.5 points); None for any.
        input_size: what the Keras model's images are padded to; None for the file's own size.
        progress: whether to show how far it is.

    Returns:
        `Verification`; its `passed` says whether the loss is within `max_miou_drop`.

    Raises:
        ValueError: if an image is larger than the file's input size; the message begins with the image's name.
    """
    from keras_deeplab import data
    from keras_deeplab._progress import Progress
    from keras_deeplab.data import pipeline
    from keras_deeplab.metrics import ConfusionMatrix
    from keras_deeplab.predict import predictor

    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, received {limit}; None compares every image")
    of_file = predictor(path)
    of_model = predictor(model, input_size=input_size or of_file.input_size)
    matrices = [ConfusionMatrix(source.num_classes, source.ignore_label) for _ in range(2)]
    images = pixels = equal = 0
    total = source.num_examples if limit is None else min(limit, source.num_examples)
    with Progress(total, "verify", enabled=progress) as bar, data.readable_errors():
        for sample in pipeline.evaluation(source, limit).as_numpy_iterator():
            try:
                labels = [predict(sample["image"]) for predict in (of_model, of_file)]
                for matrix, prediction in zip(matrices, labels, strict=True):
                    matrix.update(sample["label"], prediction)
            except ValueError as error:
                raise ValueError(f"{sample.get('name', b'an image').decode()}: {error}") from error
            images += 1
            pixels += labels[0].size
            equal += int(np.sum(labels[0] == labels[1]))
            if bar.due():
                bar.update(images, f"mIoU {matrices[0].mean_iou:.4f} and {matrices[1].mean_iou:.4f}")
    scores = [matrix.mean_iou for matrix in matrices]
    return Verification(images, *scores, equal / pixels, os.path.getsize(path), max_miou_drop)


def export_verified(model, path, source, *, limit=None, max_miou_drop=None, progress=True, **options):
    """`export_tflite` and `verify` in one: a file stands under the name `path` only if it passed.

    Args:
        model, path, options: as in `export_tflite`.
        source, limit, max_miou_drop, progress: as in `verify`. Take another split than the one calibrated on.

    Returns:
        (`TFLiteFile`, `Verification`).

    Raises:
        RejectedFile: a ValueError, if the loss is larger than `max_miou_drop`. The file is then kept beside `path`
            as NAME.rejected.tflite, and whatever was at `path` before is untouched.
        ValueError: as in `export_tflite` and `verify`; no file is left then.
    """
    path = Path(path).expanduser()
    candidate = path.with_name(f".{path.stem}.unverified.tflite")
    try:
        written = export_tflite(model, candidate, **options)
        verification = verify(candidate, model, source, limit=limit, max_miou_drop=max_miou_drop, progress=progress)
        if not verification.passed:
            rejected = path.with_name(f"{path.stem}.rejected.tflite")
            os.replace(candidate, rejected)
            raise RejectedFile(rejected, verification)
        os.replace(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)
    return TFLiteFile(**{**vars(written), "path": path}), verification


# Arguments --------------------------------------------------------------------------------------------------


def _check_arguments(precision, output, input_type, calibration, calibration_samples):
    for name, value, allowed in (
        ("precision", precision, PRECISIONS),
        ("output", output, OUTPUTS),
        ("input_type", input_type, tuple(_INPUT_TYPES)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; received {value!r}")
    if precision == "int8" and calibration is None:
        raise ValueError(
            "int8 needs images to find the ranges of the activations on: pass calibration= (--calibration), a folder "
            "of about 100 typical photographs or a data set's folder, whose training split is taken. "
            'precision="dynamic" needs none'
        )
    if precision != "int8" and calibration is not None:
        raise ValueError(f'calibration is for precision="int8"; {precision} has no ranges to find: leave it out')
    if precision != "int8" and input_type == "int8":
        raise ValueError(f'input_type "int8" needs precision="int8", received {precision!r}: choose "uint8"')
    if calibration_samples < 1:
        raise ValueError(f"calibration_samples must be at least 1, received {calibration_samples}")


def _input_size(model, input_size):
    own = graph.static_size(model)
    if input_size is None:
        if None in own:
            raise ValueError(
                f"the model {model.name!r} takes any size, a TFLite file only one: pass input_size= (--input-size), "
                "the size of the images on the device, such as 513 or (321, 513)"
            )
        return own
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in size):
        raise ValueError(f"input_size must be an int or (height, width) of at least 1, received {input_size!r}")
    return tuple(int(side) for side in size)


# Calibration ------------------------------------------------------------------------------------------------


def calibration_images(calibration, input_size, samples=100):
    """What `export_tflite` calibrates on: at most `samples` images, each float32 (1, height, width, 3) in 0..255.

    A folder of images gives evenly spaced ones in the order of their names, a source randomly chosen ones (always the
    same), any other iterable its first.

    Args:
        calibration: as in `export_tflite`.
        input_size: (height, width).
        samples: how many at most.

    Raises:
        ValueError: if there is none, or one isn't (H, W, 3).
        FileNotFoundError: if there is no such folder, or no image in it.
    """
    images = [_fitted(image, input_size)[None] for image in _raw_images(calibration, samples)]
    if not images:
        raise ValueError("calibration has no images: the iterable ended before the first one")
    # The input's scale becomes exactly 1 and its zero point 0, so that a file's uint8 input is the pixels themselves.
    images[0][0, -1, -1] = (0.0, 255.0, 0.0)
    return images


def _raw_images(calibration, samples):
    if isinstance(calibration, (str, os.PathLike)):
        calibration = Path(calibration).expanduser()
        if not calibration.is_dir():
            raise FileNotFoundError(f"the calibration folder {calibration} does not exist")
        if _is_data_set(calibration):
            from keras_deeplab import data

            calibration = data.load(calibration, split="train")
        else:
            from keras_deeplab.data.images import read_image
            from keras_deeplab.predict import image_files

            files = image_files(calibration)
            count = min(samples, len(files))
            return (read_image(files[index * len(files) // count]) for index in range(count))
    if hasattr(calibration, "num_examples"):
        calibration = calibration.dataset(shuffle_seed=0)
    if isinstance(calibration, tf.data.Dataset):
        calibration = calibration.take(samples).as_numpy_iterator()
    return (
        sample["image"] if isinstance(sample, dict) else sample for sample in itertools.islice(calibration, samples)
    )


def _is_data_set(folder):
    """Whether a folder has a training split that `data.load` finds."""
    if (folder / "images").is_dir():
        return (folder / "splits" / "train.txt").is_file()
    return any((folder / name).is_dir() for name in ("JPEGImages", "VOC2012", "VOCdevkit"))


def _fitted(image, size):
    """An image (H, W, 3) to float32 (*size, 3), scaled down if it is larger and padded at the bottom and right."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"calibration images must have shape (H, W, 3), received {image.shape}")
    image = image.astype(np.float32)
    scale = min(side / own for side, own in zip(size, image.shape, strict=False))
    if scale < 1:
        smaller = [max(1, min(side, round(own * scale))) for side, own in zip(size, image.shape, strict=False)]
        image = np.clip(tf.image.resize(image, smaller, antialias=True).numpy(), 0, 255)
    # The grey that a uint8 image can hold, which is what the file will be fed.
    padded = np.full((*size, 3), 128.0, np.float32)
    padded[: image.shape[0], : image.shape[1]] = np.rint(image)
    return padded


# Conversion -------------------------------------------------------------------------------------------------


def _integer_layers(model, output, images):
    """The function from a layer of `model` to one that loses less in int8, or to None where there is none."""
    last = None
    if output == "labels":
        resizes = (layer for layer in model.layers if isinstance(layer, layers.ResizeBilinear))
        last = next((layer for layer in resizes if layer.output is model.outputs[0]), None)
    if last is not None:
        same_size = graph.inference_model(model, images[0].shape[1:3])
        spreads = [np.ptp(same_size(image, training=False), axis=-1).max() for image in images[:8]]
        cut = float(max(spreads)) / 3

    def replace(layer):
        if layer is last:
            return _ResizeForArgmax(layer.align_corners, cut, name=layer.name, dtype="float32")
        return _as_convolution(layer)

    return replace


class _ResizeForArgmax(layers.ResizeBilinear):
    """Maps logits to others with the same argmax, resized, that take a smaller range.

    One scale holds all classes wherever they are, so int8 logits that reach from -7 to 50 become equal where classes
    are 0.2 apart, and argmax takes the first. Taking the largest off at every point before interpolating changes no
    argmax, as interpolation weights add up to 1, and what is far below it can be cut: a class that is `cut` behind is
    as good as out.
    """

    def __init__(self, align_corners, cut, **kwargs):
        super().__init__(align_corners, **kwargs)
        self.cut = cut

    def call(self, inputs):
        logits, reference = inputs
        behind = logits - keras.ops.max(logits, axis=-1, keepdims=True)
        return super().call([keras.ops.maximum(behind, -self.cut), reference])


def _as_convolution(layer):
    """A layer that normalises pixels to a 1x1 depthwise convolution that does the same, any other layer to None.

    The converter makes a multiplication and an addition of it, rounds between them, and gives both one range that is
    wider than either needs. A convolution adds before it rounds.
    """
    if not isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
        return None
    shape = layer.input.shape
    if len(shape) != 4 or shape[-1] != 3:
        return None
    offset = np.asarray(layer(np.zeros((1, 1, 1, 3), np.float32)), np.float32)
    # Over the whole range, so that little is lost in the difference.
    scale = (np.asarray(layer(np.full((1, 1, 1, 3), 255, np.float32)), np.float32) - offset) / 255
    return keras.layers.DepthwiseConv2D(
        1,
        depthwise_initializer=keras.initializers.Constant(scale.reshape(1, 1, 3, 1)),
        bias_initializer=keras.initializers.Constant(offset.reshape(3)),
        name=layer.name,
        dtype="float32",
    )


def _converted(model, size, precision, output, input_type, images=None):
    """The content of the TFLite file."""
    logits_of = graph.logits_function(model)
    # The converter turns a float input into the asked integer type where everything is quantised.
    traced_type = tf.float32 if precision == "int8" else _INPUT_TYPES[input_type]

    @tf.function(input_signature=[tf.TensorSpec((1, *size, 3), traced_type, "images")], autograph=False)
    def segment(images):
        logits = logits_of(images)
        return {output: graph.labels_of(logits) if output == "labels" else logits}

    # Without the Keras model as a second argument: with it, variables stay variables, which nothing initialises.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([segment.get_concrete_function()])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = _INPUT_TYPES[input_type]
        if output == "logits":
            converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        # What it misses are the mean and deviation of TF1's quantised training.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
        return converter.convert()


def _named(content, output):
    """The content of a TFLite file to the same with a signature "serving_default" and short names of tensors.

    The converter names a tensor after all the layers it comes from, each with its scopes: more than one percent of a
    small int8 file.
    """
    file = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    (subgraph,) = file.subgraphs
    taken = collections.Counter()
    for tensor in subgraph.tensors:
        first = tensor.name.split(b";")[0]
        name = first.split(b"/", 1)[-1]  # without the scope of the model
        taken[name] += 1
        tensor.name = name if taken[name] == 1 else b"%s.%d" % (name, taken[name])
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_signature_entry(subgraph, subgraph.inputs, "images")]
    signature.outputs = [_signature_entry(subgraph, subgraph.outputs, output)]
    file.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _signature_entry(subgraph, indices, name):
    (index,) = indices
    subgraph.tensors[index].name = name
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, int(index)
    return entry


def operators(content):
    """The content of a TFLite file to its operators and those that compute in floating point.

    Args:
        content: bytes.

    Returns:
        (counts, floating): a dict from operator name to how often it occurs, and the list of the names, in order,
        of operators with a float16 or float32 tensor other than a constant among their inputs and outputs. The
        conversion of a float input or to a float output of the file is not counted among the latter.
    """

    def names(enumeration):
        return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}

    operator_names, type_names = names(schema.BuiltinOperator), names(schema.TensorType)
    file = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    counts, floating = collections.Counter(), []
    for subgraph in file.subgraphs:
        for operator in subgraph.operators:
            code = file.operatorCodes[operator.opcodeIndex]
            # Old files have the number in the one field, new ones in the other, and the unused one is 0 or 127.
            name = operator_names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            counts[name] += 1
            inputs, outputs = (
                [int(index) for index in which if index >= 0] for which in (operator.inputs, operator.outputs)
            )
            if name == "QUANTIZE" and set(inputs) <= set(subgraph.inputs):
                continue
            if name == "DEQUANTIZE" and set(outputs) <= set(subgraph.outputs):
                continue
            tensors = [subgraph.tensors[index] for index in inputs + outputs]
            if any(
                type_names[tensor.type] in ("FLOAT16", "FLOAT32") and file.buffers[tensor.buffer].data is None
                for tensor in tensors
            ):
                floating.append(name)
    return dict(counts), floating
