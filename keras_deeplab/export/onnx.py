"""A Keras model to an ONNX file for ONNX Runtime, OpenVINO and whatever else reads that, and the check of it."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab._helpers.files import replacing, unverified
from keras_deeplab.data.source import Source
from keras_deeplab.export import arguments, compare, graph, trial
from keras_deeplab.inference.runtimes.session import SessionRuntime
from keras_deeplab.metadata import KEY
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import spec_of

__all__ = ["OPSET", "ONNXFile", "export_compared", "export_onnx"]

# The last that tf2onnx 1.17 writes.
OPSET = 18
# Bytes of the resized scores of an image from which on labels are made row by row: below it ONNX Runtime takes longer
# for that (docs/export.md).
_WORTH_SLABS = 1 << 29
_TYPES = {"float32": tf.float32, "uint8": tf.uint8}


@dataclass(frozen=True)
class ONNXFile:
    """What `export_onnx` wrote.

    Attributes:
        path: pathlib.Path of the file.
        bytes: its size.
        input_size: (height, width) of the images it takes, None for any.
        operators: dict from the names of ONNX's operators to how many of each the file has.
        difference: how far it is from the model, as `keras_deeplab.export.trial.largest_difference` found it in ONNX
            Runtime.
    """

    path: Path
    bytes: int
    input_size: tuple | None
    operators: dict
    difference: float


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    input_size: int | Sequence[int] | None = None,
    output: str = "labels",
    upsample: bool = True,
    input_type: str = "float32",
    classes: Classes | Sequence[str] | None = None,
    palette: np.ndarray | None = None,
) -> ONNXFile:
    """A Keras model to an ONNX file from images (B, H, W, channels) in 0..255 to uint8 labels (B, H, W).

    Labels, probabilities and the file's record are as in `export_tflite`; the record is the entry "keras_deeplab" of
    its metadata_props (`keras_deeplab.metadata.onnx.read_spec`). The batch is free; free sides are named "batch",
    "height" and "width". tf2onnx converts (`pip install keras_deeplab[onnx]`); weights are float32. Before the file
    gets its name, ONNX Runtime runs it on random pictures, and it has to give what the model gives.

    Args:
        model: keras.Model from images (B, H, W, channels) in 0..255 to logits.
        path: the file to write; it is replaced if it exists, and left as it is if anything fails.
        input_size: int or (height, width) of the images; None for what the model was built for, any size most often.
        output: `"labels"`; `"logits"` or `"probabilities"`, (B, h, w, num_classes).
        upsample: whether logits and probabilities have the images' size; False leaves the last resize to the caller.
        input_type: `"float32"` (in 0..255) or `"uint8"`.
        classes: names of the labels or a `keras_deeplab.specs.Classes`, for the file's record; None for those in the
            model's.
        palette: uint8 (N, 3) colours of at least all labels, likewise.

    Returns:
        `ONNXFile`.

    Raises:
        ImportError: tf2onnx or onnxruntime is not installed.
        ValueError: if an argument doesn't fit, the model has operators that tf2onnx can't convert, or the file gives
            something else than the model.
    """
    arguments.one_of("input_type", input_type, tuple(_TYPES))
    arguments.check_output(output, upsample)
    model, spec = graph.network(model, upsample)
    size = graph.static_size(model) if input_size is None else arguments.one_size(input_size)
    path = arguments.file_path(path, "model.onnx")
    spec = arguments.with_given_classes(spec, classes, palette)
    file = _converted(graph.inference_model(model, None if None in size else size), spec, size, output, input_type)
    _name_sides(file.graph.input[0], ("batch", "height", "width"))
    _name_sides(file.graph.output[0], ("batch", "height", "width") if upsample else ("batch", "rows", "columns"))
    entry = file.metadata_props.add()
    entry.key = KEY
    entry.value = graph.file_spec(spec, output, upsample, () if None in size else (size,)).to_json()
    counts: dict[str, int] = {}
    for node in file.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as candidate:
        content = file.SerializeToString()
        candidate.write_bytes(content)
        difference = _tried(candidate, model, spec)
    return ONNXFile(path, len(content), None if None in size else tuple(size), counts, difference)


def export_scores(model: keras.Model, path: str | os.PathLike) -> ONNXFile:
    """What `model.export(path, format="onnx")` writes: `export_onnx` of images to what the model itself returns.

    Raises:
        ValueError: as `export_onnx`, or the model has several outputs.
    """
    if len(model.outputs) > 1:
        raise ValueError(
            f"{model.name!r} has {len(model.outputs)} outputs, and an ONNX file has one here: "
            'keras_deeplab.export.onnx.export_onnx(model, path, output="logits") writes the first of them'
        )
    output = "logits" if spec_of(model).activation is None else "probabilities"
    return export_onnx(model, path, output=output, upsample=graph.keeps_size(model))


def _tried(candidate, model, spec):
    """`trial.largest_difference` of a file in ONNX Runtime, which also takes several pictures at once."""
    try:
        runtime = SessionRuntime(candidate, "onnxruntime")
    except ValueError as error:
        raise ValueError(
            f"the converted file can't be loaded: {error}. No file was written. This is a fault of the conversion of "
            f"{model.name!r}: please report it"
        ) from error
    return trial.largest_difference(runtime, model, spec, batches=(2, 1))


def _name_sides(entry, names):
    """Gives an input or output names for the sides that are free."""
    for side, name in zip(entry.type.tensor_type.shape.dim, names, strict=False):
        if not side.HasField("dim_value"):
            side.dim_param = name


def _converted(model, spec, size, output, input_type):
    """The `onnx.ModelProto`."""
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError(f"ONNX files are made with tf2onnx: pip install tf2onnx onnxruntime ({error})") from error
    shape = (None, *size, spec.channels)

    def traced(function):
        return graph.frozen(function, tf.TensorSpec(shape, tf.float32, "images"))

    by_slabs = graph.labels_by_slabs(model, spec, size, _WORTH_SLABS, traced) if output == "labels" else None
    logits_of = None if by_slabs else traced(graph.logits_function(model))
    signature = [tf.TensorSpec(shape, _TYPES[input_type], "images")]

    @tf.function(input_signature=signature, autograph=False)
    def segment(images):
        images = tf.cast(images, tf.float32)
        return {output: by_slabs(images) if by_slabs else graph.output_of(logits_of(images), spec, output)}

    resizes = ("ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor")
    handlers = {
        # What `layers.export_ops` guards native operators with has nothing to do at inference.
        "PreventGradient": (_as_identity, []),
        "Erfc": (_as_erf, []),
        **{name: (_resized_to_size, []) for name in resizes},
    }
    file, _ = tf2onnx.convert.from_function(segment, signature, opset=OPSET, custom_op_handlers=handlers)
    # It leaves operators that it doesn't know as they are, and says so in its log alone.
    unknown = sorted({node.op_type for node in file.graph.node if not onnx.defs.has(node.op_type, node.domain)})
    if unknown:
        raise ValueError(f"tf2onnx can't convert the operators {', '.join(unknown)}: no file was written")
    for node in file.graph.node:
        if node.op_type == "Conv":
            _write_out_pads(node, onnx.helper)
    return file


def _write_out_pads(node, helper):
    """Has a dilated Conv at stride 1 say its pads in numbers, which are the same at every size.

    ONNX Runtime refuses to work them out for dilated ones.
    """
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    rates, sides = values.get("dilations", [1]), values.get("kernel_shape")
    if values.get("auto_pad") != b"SAME_UPPER" or set(rates) == {1} or set(values.get("strides", [1])) != {1}:
        return
    extents = [rate * (side - 1) for rate, side in zip(rates, sides, strict=True)]
    pads = [extent // 2 for extent in extents] + [extent - extent // 2 for extent in extents]
    kept = [attribute for attribute in node.attribute if attribute.name != "auto_pad"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _as_identity(context, node, name, args):
    node.type = "Identity"
    return node


def _as_erf(context, node, name, args):
    """1 - erf(x): ONNX has no erfc."""
    (x,), output = node.input, node.output
    one = context.make_const(f"{name}_one", np.ones((), np.float32)).output[0]
    shapes, dtypes = node.output_shapes, node.output_dtypes
    context.remove_node(name)
    erf = context.make_node("Erf", [x], shapes=shapes, dtypes=dtypes).output[0]
    context.make_node("Sub", [one, erf], name=name, outputs=output, shapes=shapes, dtypes=dtypes)


def _resized_to_size(context, node, name, args):
    """A resize to its size. tf2onnx takes a scale where sizes are known, and 57 / 15 in float32 times 15 is 56."""
    from tf2onnx.onnx_opset.nn import Resize

    context.insert_new_node_on_input(node, "Identity", node.input[1])  # it looks whether the size is a constant
    Resize.version_11(context, node)


def export_compared(
    model: keras.Model,
    path: str | os.PathLike,
    source: Source | None = None,
    *,
    runtimes: Sequence[str] = ("onnxruntime",),
    limit: int | None = None,
    max_miou_drop: float | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    rounds: int = 20,
    num_threads: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Any:
    """`export_onnx`, and the table of what the file gives in the runtimes; it stands under `path` only if it passed.

    Args:
        model, path, options: as in `export_onnx`.
        source: labelled images to score the file on, as in `keras_deeplab.export.compare.verify`; None for no scores.
        runtimes: `"onnxruntime"`, `"openvino"` or both.
        limit, max_miou_drop, class_map, progress: as in `verify`.
        rounds, num_threads: as in `keras_deeplab.export.compare.latencies`.

    Returns:
        (file, rows): the `ONNXFile` and a `compare.Row` for each runtime. A file that lost more than `max_miou_drop` in
        one of them has the path NAME.rejected.onnx, and nothing was written under its own name.

    Raises:
        ValueError: as in `export_onnx` and `verify`; no file is left then.
    """
    path = Path(path).expanduser()
    if not runtimes or not set(runtimes) <= {"onnxruntime", "openvino"}:
        raise ValueError(f"runtimes must be some of onnxruntime, openvino; received {', '.join(runtimes)!r}")
    candidate = unverified(path, ".onnx")
    try:
        file = export_onnx(model, candidate, **options)
        rows = compare.measured(
            [(f"ONNX, {runtime}", candidate, runtime, None) for runtime in runtimes],
            model,
            source,
            (file.input_size,) if file.input_size else (),
            limit=limit,
            max_miou_drop=max_miou_drop,
            class_map=class_map,
            rounds=rounds,
            num_threads=num_threads,
            progress=progress,
        )
        target = path.with_name(f"{path.stem}.rejected.onnx") if any(row.rejected for row in rows) else path
        os.replace(candidate, target)
    finally:
        candidate.unlink(missing_ok=True)
    return dataclasses.replace(file, path=target), [dataclasses.replace(row, path=target) for row in rows]
