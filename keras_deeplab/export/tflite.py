"""A Keras model to a TFLite file for phones, browsers and small computers, and the check of what it lost."""

import collections
import dataclasses
import itertools
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_deeplab import quantize
from keras_deeplab.data.masks import voc_palette, write_whole
from keras_deeplab.data.transforms import size_within
from keras_deeplab.export import compare, flatbuffer, graph
from keras_deeplab.export.compare import LayerError, Verification, verify
from keras_deeplab.export.flatbuffer import operators
from keras_deeplab.metadata import tflite as _tflite_metadata
from keras_deeplab.specs.model import spec_of

__all__ = [
    "OUTPUTS",
    "PRECISIONS",
    "LayerError",
    "RejectedFile",
    "TFLiteFile",
    "Verification",
    "calibration_images",
    "export_precisions",
    "export_tflite",
    "export_verified",
    "operators",
    "verify",
]

# How weights and activations are stored.
PRECISIONS = ("float32", "float16", "dynamic", "int8_weights", "int8", "int16x8")
OUTPUTS = ("labels", "logits", "probabilities")
_TYPES = {"uint8": tf.uint8, "float32": tf.float32, "int8": tf.int8}
_CALIBRATED = ("int8", "int16x8")
# Besides int8, what takes kernels rounded on images, and which of them: the others don't become int8.
_ROUNDED = {
    "int16x8": {},
    "dynamic": {"smallest": flatbuffer.SMALLEST_INT8},
    "int8_weights": {"smallest": flatbuffer.SMALLEST_INT8, "depthwise": False},
}
# Images in a step of fine-tuning.
_BATCH = 4


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
    def input_size(self):
        """The (height, width) of the first size, None where the file takes any."""
        return self.input_sizes[0] if self.input_sizes else None


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
    upsample=True,
    input_type=None,
    output_type=None,
    classes=None,
    palette=None,
    allow_float=False,
    float_tensors=0,
    fine_tune_steps=0,
    layer_errors=0,
):
    """A Keras model to a TFLite file from images (1, H, W, 3) in 0..255 to uint8 labels (1, H, W).

    Normalisation, resize and argmax are inside the file, whatever its precision.

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
        model: keras.Model from images (B, H, W, 3) in 0..255 to logits.
        path: the file to write; it is replaced if it exists, and left as it is if anything fails.
        precision: one of `PRECISIONS`.
        input_size: int or (height, width) of the images; a list of these for one file with a signature for each size
            (named "257x257" and so on) that all share the weights, in int8 those of the largest; `"dynamic"` for a file
            that takes any size, to be set by the interpreter's `resize_tensor_input`; None for a model that was built
            for one size.
        calibration: int8 and int16x8 need it; dynamic and int8_weights may take it to round their kernels better, as
            `keras_deeplab.quantize.round_kernels` does. The path of a data set's folder (its training split) or of a
            folder of images, a `keras_deeplab.data` source, or an iterable of images (H, W, 3) in 0..255.
        calibration_samples: how many images to calibrate on at most.
        output: `"labels"`; `"logits"` or `"probabilities"`, (1, h, w, num_classes).
        upsample: whether logits and probabilities have the images' size; False leaves the last resize to the caller,
            and they have the stride of the model's head.
        input_type: type of the images: `"uint8"`, `"float32"` (in 0..255; GPU delegates take no other) or, where
            precision is int8, `"int8"` (pixels minus 128). None means that of the table.
        output_type: type of an int8 file's logits and probabilities: `"int8"` (None means it) or `"uint8"`, with a
            scale, or `"float32"`.
        classes: names of the classes, for the file's metadata.
        palette: uint8 (N, 3) colours of at least all the classes, for the same; None for PASCAL VOC's.
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
        ValueError: if an argument doesn't fit, or operators of an int8 file stayed in floating point.
        FileNotFoundError: if there is no such calibration folder, or no image in it.
    """
    graph.check(model)
    if input_type is None:
        input_type = "uint8" if precision == "int8" else "float32"
    _check_arguments(precision, output, upsample, input_type, output_type, calibration, calibration_samples)
    if (fine_tune_steps or float_tensors) and precision != "int8":
        raise ValueError(f"fine_tune_steps and float_tensors are for int8; this file is {precision}: leave them out")
    if layer_errors and precision not in _CALIBRATED:
        raise ValueError(f"errors of layers are told of int8 and int16x8 files; this one is {precision}: leave it out")
    sizes = _input_sizes(model, input_size)
    num_classes = model.outputs[0].shape[-1]
    classes, palette = _checked_classes(classes, num_classes), _checked_palette(palette, num_classes)
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of the file to write, such as {path / 'model.tflite'}")
    resize = graph.last_resize(model)
    if not upsample:
        model = graph.without_last_resize(model)
    # Kernels are those of the largest size, so that all sizes share them. It comes first: the others change the ranges.
    largest, *others = compare.largest_first(sizes)
    images = None if calibration is None else calibration_images(calibration, largest, calibration_samples)
    whole, whole_exact = _prepared(model, largest, precision, output, images, float_tensors)
    if fine_tune_steps:
        quantize.fine_tune(whole, whole_exact, _fine_tuning_batches(calibration, images), fine_tune_steps)
    quantised = whole is not whole_exact and quantize.is_quantised(whole)
    options = (precision, output, upsample, input_type, output_type, allow_float)
    files, errors = {}, None
    for size in (largest, *others):
        shape = size or (None, None)
        prepared, exact = (graph.inference_model(each, size) for each in (whole, whole_exact))
        if calibration is not None and size != largest:
            images = calibration_images(calibration, size, calibration_samples)
            if quantised:
                quantize.fit_ranges(prepared, exact, images, for_argmax=output == "labels")
        # With images the converter would find ranges for the tensors that have none on purpose.
        file = flatbuffer.unpacked(_converted(prepared, shape, *options, None if float_tensors else images))
        if output == "labels" and quantised:
            _balance(file, prepared, exact, images)
        if precision == "int8_weights":
            flatbuffer.weights_as_int8(file)
        if precision == "int16x8":
            flatbuffer.own_biases(file)
            flatbuffer.integer_argmax(file)
        flatbuffer.named(file, output, "serving_default" if len(sizes) < 2 else f"{size[0]}x{size[1]}")
        if layer_errors and not files:
            reference = _converted(exact, shape, "float32", output, upsample, "float32", None, False)
            reference = flatbuffer.unpacked(reference)
            flatbuffer.named(reference, output)
            errors = compare.layer_errors(flatbuffer.packed(file), flatbuffer.packed(reference), images[:layer_errors])
        files[size] = file
    file = flatbuffer.merged([files[size] for size in sizes or [None]])
    counts, floating = operators(file)
    if precision == "int8" and floating and not (allow_float or float_tensors):
        raise ValueError(
            f"{len(floating)} operators of the int8 file stayed in floating point: "
            f"{', '.join(f'{name} ({count})' for name, count in collections.Counter(floating).items())}. No file was "
            "written. Replace the layers that need them, allow them (allow_float=True, --allow-float), or choose "
            'precision="dynamic" or "float16"'
        )
    facts = {
        "precision": precision,
        "output": output,
        "input_sizes": [list(size) for size in sizes],
        "num_classes": num_classes,
        "upsampled": upsample,
        "resize": resize,
    }
    about, archive = _tflite_metadata.write(model.name, facts, classes, palette)
    flatbuffer.add_metadata(file, _tflite_metadata.BUFFER, about)
    content = flatbuffer.packed(file) + archive
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return TFLiteFile(path, len(content), precision, tuple(sizes), counts, tuple(floating), errors)


def export_verified(model, path, source, *, limit=None, max_miou_drop=None, progress=True, **options):
    """`export_tflite` and `verify` in one: a file stands under the name `path` only if it passed.

    Args:
        model, path, options: as in `export_tflite`.
        source, limit, max_miou_drop, progress: as in `verify`. Take another split than the one calibrated on.

    Returns:
        (`TFLiteFile`, `Verification`), of a file of several sizes that of the size which lost most.

    Raises:
        RejectedFile: a ValueError, if the loss is larger than `max_miou_drop`. The file is then kept beside `path`
            as NAME.rejected.tflite, and whatever was at `path` before is untouched.
        ValueError: as in `export_tflite` and `verify`; no file is left then.
    """
    path = Path(path).expanduser()
    candidate = path.with_name(f".{path.stem}.unverified.tflite")
    try:
        written = export_tflite(model, candidate, **options)
        options = {"limit": limit, "max_miou_drop": max_miou_drop, "progress": progress}
        found = compare.verify_sizes([candidate], model, source, written.input_sizes, **options)
        verification = max((one for (one,) in found.values()), key=lambda one: (not one.passed, one.miou_drop))
        if not verification.passed:
            rejected = path.with_name(f"{path.stem}.rejected.tflite")
            os.replace(candidate, rejected)
            raise RejectedFile(rejected, verification)
        os.replace(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)
    return dataclasses.replace(written, path=path), verification


def export_precisions(
    model,
    path,
    precisions,
    source=None,
    *,
    limit=None,
    max_miou_drop=None,
    rounds=20,
    num_threads=None,
    runtimes=(),
    progress=True,
    **options,
):
    """A Keras model to a TFLite file of each of several precisions, and the table that compares them.

    Args:
        model: as in `export_tflite`.
        path: the file to write where there is one precision; with several, OUT.tflite stands for OUT-float32.tflite and
            so on.
        precisions: some of `PRECISIONS`.
        source: labelled images to score the files on, as in `verify`; None for no scores. Take another split than the
            one calibrated on.
        limit, max_miou_drop: as in `verify`.
        rounds: how often each file is timed, as in `keras_deeplab.export.compare.latencies`.
        num_threads: of the runtimes; None for all cores.
        runtimes: further rows: `"onnxruntime"` and `"openvino"` run an ONNX file of the model, made for the purpose.
        progress: whether to show how far it is.
        options: the others of `export_tflite`, which a single precision has to take all. Of several,
            `calibration`, `calibration_samples` and `layer_errors` go to those that take them, `allow_float`,
            `float_tensors` and `fine_tune_steps` to int8.

    Returns:
        (files, rows): a list of `TFLiteFile`, one for each precision, and the `compare.Row`s that `compare.table`
        prints, one for each file and size. A file that lost more than `max_miou_drop` at one of its sizes has a path
        NAME.rejected.tflite, and nothing was written under its own name.

    Raises:
        ValueError: as in `export_tflite` and `verify`; no file is left then.
    """
    path = Path(path).expanduser()
    if not precisions or len(set(precisions)) != len(precisions):
        raise ValueError(f"precisions must be some of {', '.join(PRECISIONS)}, each once; received {precisions!r}")
    for runtime in runtimes:
        if runtime not in ("onnxruntime", "openvino"):
            raise ValueError(f"runtimes must be some of onnxruntime, openvino; received {runtime!r}")
    several = len(precisions) > 1
    targets = [path.with_name(f"{path.stem}-{name}{path.suffix}") if several else path for name in precisions]
    candidates = [target.with_name(f".{target.stem}.unverified.tflite") for target in targets]
    onnx_file = path.with_name(f".{path.stem}.unverified.onnx")
    try:
        files = [
            export_tflite(
                model, candidate, precision=precision, **(_fitting(precision, options) if several else options)
            )
            for precision, candidate in zip(precisions, candidates, strict=True)
        ]
        compared = [
            (file.precision, file.path, "litert", file.float_operators if file.precision in _CALIBRATED else None)
            for file in files
        ]
        if runtimes:
            sizes = files[0].input_sizes
            _export_onnx(model, onnx_file, sizes[0] if len(sizes) == 1 else None, options)
            compared += [(f"ONNX, {runtime}", onnx_file, runtime, None) for runtime in runtimes]
        rows = compare.measured(
            compared,
            model,
            source,
            files[0].input_sizes,
            limit=limit,
            max_miou_drop=max_miou_drop,
            rounds=rounds,
            num_threads=num_threads,
            progress=progress,
        )
        rejected = {row.path for row in rows if row.rejected}
        final = {
            file.path: target.with_name(f"{target.stem}.rejected.tflite") if file.path in rejected else target
            for file, target in zip(files, targets, strict=True)
        }
        for candidate, target in final.items():
            os.replace(candidate, target)
        files = [dataclasses.replace(file, path=final[file.path]) for file in files]
        rows = [dataclasses.replace(row, path=final.get(row.path, row.path)) for row in rows]
    finally:
        for candidate in (*candidates, onnx_file):
            candidate.unlink(missing_ok=True)
    return files, rows


def _fitting(precision, options):
    """The options of `export_tflite` that a precision has."""
    without = set()
    if precision not in _CALIBRATED:
        without = {"layer_errors"}
    if precision not in ("int8", *_ROUNDED):
        without |= {"calibration", "calibration_samples"}
    if precision != "int8":
        without |= {"allow_float", "output_type", "float_tensors", "fine_tune_steps"}
    return {name: value for name, value in options.items() if name not in without}


def _export_onnx(model, path, size, options):
    from keras_deeplab.export.onnx import export_onnx

    kept = ("output", "upsample", "classes", "palette")
    export_onnx(model, path, input_size=size, **{name: options[name] for name in kept if name in options})


# Arguments --------------------------------------------------------------------------------------------------


def _check_arguments(precision, output, upsample, input_type, output_type, calibration, calibration_samples):
    for name, value, allowed in (
        ("precision", precision, PRECISIONS),
        ("output", output, OUTPUTS),
        ("input_type", input_type, tuple(_TYPES)),
        ("output_type", output_type, (None, *_TYPES)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(filter(None, allowed))}; received {value!r}")
    if precision in _CALIBRATED and calibration is None:
        raise ValueError(
            f"{precision} needs images to find the ranges of the activations on: pass calibration= (--calibration), a "
            "folder of about 100 typical photographs or a data set's folder, whose training split is taken. "
            'precision="dynamic" and "int8_weights" need none'
        )
    if precision not in ("int8", *_ROUNDED) and calibration is not None:
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
    if output == "labels" and not upsample:
        raise ValueError(
            'labels can\'t be enlarged well by the caller: take the logits of that size (output="logits", '
            "--output logits), resize them and take the argmax, or leave the resize in the file (upsample=True)"
        )
    if calibration_samples < 1:
        raise ValueError(f"calibration_samples must be at least 1, received {calibration_samples}")


def _input_sizes(model, input_size):
    """The argument to a list of (height, width), empty for any size."""
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
                "build it with input_shape=(None, None, 3), or give an input_size (--input-size)"
            )
        return []
    sizes = [_one_size(size) for size in (input_size if isinstance(input_size, list) else [input_size])]
    if not sizes or len(set(sizes)) != len(sizes):
        raise ValueError(f"input_size must have at least one size, and each once; received {input_size!r}")
    return sizes


def _one_size(value):
    size = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(size, (tuple, list))
        or len(size) != 2
        or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in size)
    ):
        raise ValueError(f"input_size must be an int or (height, width) of at least 1, received {value!r}")
    return tuple(int(side) for side in size)


def _checked_classes(classes, num_classes):
    if classes is None:
        return None
    classes = [str(name) for name in classes]
    if len(classes) != num_classes or any("\n" in name for name in classes):
        raise ValueError(
            f"classes must be {num_classes} names of a line each, as many as the model has classes; received "
            f"{len(classes)}: {classes}"
        )
    return classes


def _checked_palette(palette, num_classes):
    if palette is None:
        palette = voc_palette() if num_classes <= 256 else np.zeros((0, 3), np.uint8)
    palette = np.asarray(palette)
    if palette.ndim != 2 or palette.shape[1] != 3 or palette.dtype != np.uint8:
        raise ValueError(f"palette must be uint8 (N, 3), received {palette.dtype} {palette.shape}")
    if 0 < len(palette) < num_classes:
        raise ValueError(f"the palette has {len(palette)} colours for {num_classes} classes")
    return palette[:num_classes] if len(palette) else None


# Calibration ------------------------------------------------------------------------------------------------


def calibration_images(calibration, input_size, samples=100):
    """What `export_tflite` calibrates on: at most `samples` images, each float32 (1, height, width, 3) in 0..255.

    A folder of images gives evenly spaced ones in the order of their names, a source randomly chosen ones (always the
    same), any other iterable its first.

    Args:
        calibration: as in `export_tflite`.
        input_size: (height, width), or None to leave each image at its own.
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
            from keras_deeplab.inference.files import image_files

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


def _fine_tuning_batches(calibration, images):
    """Endless batches of four images (4, H, W, 3) of the calibration images' size."""
    from keras_deeplab import data
    from keras_deeplab.data import pipeline

    if isinstance(calibration, (str, os.PathLike)) and _is_data_set(Path(calibration).expanduser()):
        calibration = data.load(calibration, split="train")
    height, width = np.max([image.shape[1:3] for image in images], 0)
    if hasattr(calibration, "num_examples"):
        source = pipeline.training(
            calibration, batch_size=_BATCH, crop_size=(int(height), int(width)), scale_range=(0.75, 1.25)
        )
        yield from (batch for batch, _ in source)
    random = np.random.default_rng(0)
    fitted = [_fitted(image[0], (height, width)) for image in images]
    while True:
        chosen = random.integers(len(fitted), size=_BATCH)
        flipped = random.integers(2, size=_BATCH)
        yield np.stack([fitted[i][:, ::-1] if flip else fitted[i] for i, flip in zip(chosen, flipped, strict=True)])


def _is_data_set(folder):
    """Whether a folder has a training split that `data.load` finds."""
    if (folder / "images").is_dir():
        return (folder / "splits" / "train.txt").is_file()
    return any((folder / name).is_dir() for name in ("JPEGImages", "VOC2012", "VOCdevkit"))


def _fitted(image, size):
    """An image (H, W, 3) to float32 (*size, 3), scaled down if it is larger and padded at the bottom and right.

    Where `size` is None it keeps its own.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"calibration images must have shape (H, W, 3), received {image.shape}")
    image = image.astype(np.float32)
    if size is None:
        return np.rint(image)
    smaller = size_within(image.shape, size)
    if smaller != image.shape[:2]:
        image = np.clip(tf.image.resize(image, smaller, antialias=True).numpy(), 0, 255)
    # The grey that a uint8 image can hold, which is what the file will be fed.
    padded = np.full((*size, 3), quantize.PADDING, np.float32)
    padded[: image.shape[0], : image.shape[1]] = np.rint(image)
    return padded


# Conversion -------------------------------------------------------------------------------------------------


def _prepared(model, size, precision, output, images, float_tensors=0):
    """A model to those that are traced for a file of this precision and, where it is an integer one, for the same in
    float32; size None leaves it open."""
    model = graph.inference_model(model, size)
    if images is None or quantize.is_quantised(model):
        return model, model
    try:
        # A model of any size is looked at on images of one.
        height, width = np.max([image.shape[1:3] for image in images], 0)
        images = [_fitted(image[0], (height, width))[None] for image in images]
        if precision != "int8":
            exact, rounded = quantize.fold(model), quantize.fold(model)
            quantize.round_kernels(rounded, images, **_ROUNDED[precision])
            return rounded, exact
        return quantize.quantize(
            model, images, for_argmax=output == "labels", float_tensors=float_tensors, with_exact=True
        )
    except quantize.UnfoldableError as error:
        warnings.warn(f"the model is calibrated as it is, which loses more: {error}", stacklevel=3)
        return model, model


def _balance(file, prepared, exact, images):
    """Gives the file of a prepared model balanced biases; the model keeps its own, for the files of other sizes."""

    def labels_with(biases):
        flatbuffer.set_last_biases(file, biases)
        return compare.labels_of(flatbuffer.packed(file))

    weights = prepared.get_weights()
    biases = quantize.balance(prepared, exact, images, labels_with)
    prepared.set_weights(weights)
    if biases is not None:
        flatbuffer.set_last_biases(file, biases)


def _converted(model, size, precision, output, upsample, input_type, output_type, allow_float, images=None):
    """The content of the TFLite file, as the converter makes it; a size of None is left open."""
    logits_of = graph.logits_function(model, resize=upsample)
    # The converter turns a float input into the asked integer type where everything is quantised.
    traced_type = tf.float32 if precision == "int8" else _TYPES[input_type]
    softmax = tf.nn.softmax if spec_of(model).activation is None else tf.identity

    @tf.function(input_signature=[tf.TensorSpec((1, *size, 3), traced_type, "images")], autograph=False)
    def segment(images):
        logits = logits_of(images)
        if output == "labels":
            return {output: graph.labels_of(logits)}
        return {output: softmax(logits) if output == "probabilities" else logits}

    # Without the Keras model as a second argument: with it, variables stay variables, which nothing initialises.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([segment.get_concrete_function()])
    if precision not in ("float32", "int8_weights"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in _CALIBRATED and images is not None:
        converter.representative_dataset = lambda: ([image.astype(traced_type.as_numpy_dtype)] for image in images)
    if precision == "int8":
        if images is not None:
            kinds = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.target_spec.supported_ops = kinds + [tf.lite.OpsSet.TFLITE_BUILTINS] * allow_float
        converter.inference_input_type = _TYPES[input_type]
        if output != "labels":
            converter.inference_output_type = _TYPES[output_type or "int8"]
    if precision == "int16x8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,  # argmax knows no int16
        ]
    with warnings.catch_warnings():
        # What it misses are the mean and deviation of TF1's quantised training.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
        return converter.convert()
