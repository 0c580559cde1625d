"""The settings of exported files, as `export_tflite`, `export_onnx` and `export_saved_model` take them."""

from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab.data.settings import CLASS_MAP, CLASS_MAP_HELP
from keras_deeplab.export.targets import TARGETS
from keras_deeplab.options import Kind, Names, Options, Size, option, read_size, record, size


def _sizes(value: Any) -> Any:
    if value == "dynamic":
        return value
    return [size(each) for each in value] if isinstance(value, list) else size(value)


def _read_sizes(text: str) -> Any:
    if text == "dynamic":
        return text
    sizes = [read_size(part) for part in text.split(",")]
    return sizes[0] if len(sizes) == 1 else sizes


SIZES = Kind(
    'N or (height, width), a list of these, or "dynamic"',
    _sizes,
    _read_sizes,
    "N or HEIGHTxWIDTH, several with commas, or dynamic",
    "SIZE",
)


@record
class FileOptions(Options):
    """What a TFLite or ONNX file returns."""

    TITLE = "what the file takes and returns"

    output: str = option(
        "labels", "what it returns", flag="--output-kind", choices=("labels", "logits", "probabilities"), metavar="KIND"
    )
    upsample: bool = option(True, "whether logits and probabilities have the images' size")


@record
class TFLiteOptions(FileOptions):
    """What `keras_deeplab.export_tflite` takes beside model, path and precision."""

    target: str | None = option(
        None,
        "what runs the file, which decides what isn't given; by default nothing in particular",
        flag="--for",
        choices=TARGETS,
        metavar="TARGET",
    )
    output: str | None = option(
        None,
        "what it returns; by default labels, or what --for takes",
        flag="--output-kind",
        choices=("labels", "logits", "probabilities"),
        metavar="KIND",
    )
    upsample: bool | None = option(
        None, "whether logits and probabilities have the images' size; by default they do, for the Edge TPU not"
    )
    input_size: Any = option(
        None,
        "of the images on the device; several with commas for one file that takes each; or dynamic for a file that "
        "takes any",
        kind=SIZES,
    )
    calibration: str | None = option(
        None,
        "a data set (its training split) or a folder of photographs: int8 and int16x8 need it, dynamic and "
        "int8_weights lose less with it",
        metavar="FOLDER",
    )
    calibration_samples: int = option(100, "images to calibrate on", minimum=1)
    input_type: str | None = option(
        None,
        "type of its input; by default uint8 for int8, else float32",
        choices=("uint8", "float32", "int8"),
        metavar="TYPE",
    )
    output_type: str | None = option(
        None,
        "type of an int8 file's logits or probabilities",
        choices=("int8", "uint8", "float32"),
        metavar="TYPE",
    )
    allow_float: bool = option(False, "whether an int8 file may have operators in floating point")
    float_tensors: int = option(0, "tensors of an int8 file, the most sensitive, that stay in float", minimum=0)
    fine_tune_steps: int = option(0, "steps that an int8 file's kernels are trained for; needs no labels", minimum=0)
    layer_errors: int = option(
        0,
        "the error of each layer of an int8 or int16x8 file on so many calibration images",
        minimum=0,
        nargs="?",
        const="4",
        metavar="IMAGES",
    )


@record
class ONNXOptions(FileOptions):
    """What `keras_deeplab.export.onnx.export_onnx` takes beside model and path."""

    input_size: Size | None = option(None, "of the images; by default any")
    input_type: str = option("float32", "type of its input", choices=("float32", "uint8"), metavar="TYPE")


@record
class SavedModelOptions(Options):
    """What `keras_deeplab.export_saved_model` takes beside model and path."""

    overwrite: bool = option(False, "whether a SavedModel of that version is replaced")
    portable: bool = option(False, "whether it is for GPUs and processors other than x86 too; slower")
    max_pixels: int = option(limits.SERVED_PIXELS, "larger images are refused unread", minimum=1)
    warmup_size: Size | None = option(513, "of the images in the warm-up requests")
    batch_requests: int | None = option(
        None, "let the server compute so many images of several calls at once", minimum=1
    )


@record
class ComparisonOptions(Options):
    """How `export_precisions` and `export_compared` compare files with their model."""

    TITLE = "comparison with the model"

    limit: int | None = option(None, "images to compare on; by default all", minimum=1)
    max_miou_drop: float | None = option(
        None, "refuse a file that loses more mIoU, e.g. 0.003", metavar="SHARE", maximum=1
    )
    class_map: Any = option(None, CLASS_MAP_HELP, kind=CLASS_MAP)
    rounds: int = option(20, "how often each file is timed; the least counts", minimum=1)
    num_threads: int | None = option(None, "threads of the runtimes; by default all cores", flag="--threads", minimum=1)
    runtimes: Names | None = option(None, "runtimes of ONNX files to compare: onnxruntime, openvino")
