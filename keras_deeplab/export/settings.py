"""The settings of exported files, as `export_tflite`, `export_onnx` and `export_saved_model` take them."""

from typing import Any

from keras_deeplab._helpers import limits
from keras_deeplab.data.settings import CLASS_MAP, CLASS_MAP_HELP
from keras_deeplab.export.targets import TARGETS
from keras_deeplab.options import (
    Integers,
    Kind,
    Names,
    Numbers,
    OptionError,
    Options,
    Size,
    option,
    read_size,
    record,
    size,
)


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


_KINDS = ("labels", "logits", "probabilities")
_TITLE = "what the file takes and returns"


@record
class TFLiteOptions(Options):
    """What `keras_deeplab.export_tflite` takes beside model, path and precision."""

    TITLE = _TITLE

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
        choices=_KINDS,
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
class ONNXOptions(Options):
    """What `keras_deeplab.export.onnx.export_onnx` takes beside model and path."""

    TITLE = _TITLE

    output: str = option("labels", "what it returns", flag="--output-kind", choices=_KINDS, metavar="KIND")
    upsample: bool = option(True, "whether logits and probabilities have the images' size")
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


def _size_list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(value)
    # (321, 513) is one size; what is kept here is a tuple of such.
    several = isinstance(value, list) or (isinstance(value, tuple) and any(isinstance(each, tuple) for each in value))
    return tuple(size(each) for each in (value if several else [value]))


SIZE_LIST = Kind(
    "N or (height, width), or a list of these",
    _size_list,
    _read_sizes,
    "N or HEIGHTxWIDTH, several with commas",
    "SIZE",
)


@record
class ShrinkOptions(Options):
    """What `keras_deeplab.export.shrinking.shrink` tries, and how it measures."""

    TITLE = "search"

    target_latency: float | None = option(None, "milliseconds that an image may take on this machine", above=0)
    max_miou_drop: float | None = option(
        None, "mIoU that may be lost against MODEL, e.g. 0.01", metavar="SHARE", maximum=1
    )
    sizes: Any = option(help="of the images to try, such as 257,385x513", flag="--input-sizes", kind=SIZE_LIST)
    precisions: Names = option(("float32", "float16", "int8"), "to try; int8 needs calibration images")
    multiply_adds: Numbers = option(
        (1.0, 0.75, 0.5),
        "to try: shares of the multiply-adds that pruned networks keep; 1 is the network as it is",
        above=0,
        maximum=1,
    )
    output_strides: Integers | None = option(
        None, "to try, of models that tell how they are built; by default the model's own", minimum=1
    )
    float_tensors: Integers = option(
        (2, 8),
        "of an int8 file that loses more than the allowed mIoU: how many tensors to leave in float, tried in turn "
        "until it doesn't; 0 for none",
        minimum=0,
    )
    shares: Numbers = option((0.25, 0.5, 0.75), "of a group's channels to try without", above=0, below=1)
    samples: int = option(32, "photographs of the training split that channels are looked at on", minimum=1)
    sensitivity_limit: int = option(
        16, "labelled photographs of the training split that each group is tried on", minimum=1
    )
    limit: int | None = option(None, "images to score on; by default all of the split", minimum=1)
    class_map: Any = option(None, CLASS_MAP_HELP, kind=CLASS_MAP)
    target: str | None = option(
        None,
        "what runs the file; it decides what the file returns, and which precisions there are",
        flag="--for",
        choices=TARGETS,
        metavar="TARGET",
    )
    calibration: str | None = option(
        None, "a data set or a folder of photographs for int8; by default DATA's training split", metavar="FOLDER"
    )
    calibration_samples: int = option(100, "images to calibrate on", minimum=1)
    rounds: int = option(20, "how often each file is timed; the least counts", minimum=1)
    num_threads: int | None = option(None, "threads of the runtime; by default all cores", flag="--threads", minimum=1)

    def checked(self) -> None:
        if self.target_latency is None and self.max_miou_drop is None:
            raise OptionError("what is looked for? Give {target_latency}, {max_miou_drop}, or both")
        for name in ("sizes", "precisions", "multiply_adds", "output_strides"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise OptionError(f"{{{name}}} must have each value once; received {values}")
