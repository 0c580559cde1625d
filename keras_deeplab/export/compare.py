"""What an exported file lost against its model, how fast it is and how much memory it takes, file beside file."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.private import operators_of, tensor_of
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data import pipeline, transforms
from keras_deeplab.data.source import Source
from keras_deeplab.export import bare, read_spec
from keras_deeplab.inference.evaluation import matrix_of
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.runtimes import runtime_of
from keras_deeplab.inference.runtimes.tflite import interpreter, threads

# What files of any size are timed at.
TIMED_SIZE = (513, 513)


@dataclass(frozen=True)
class Verification:
    """What `verify` measured on real images.

    Attributes:
        images: how many images were compared.
        model_miou: mean IoU of the Keras model.
        file_miou: mean IoU of the exported file, on the same images.
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
    def miou_drop(self) -> float:
        """How much mean IoU the file lost; negative where it gained."""
        return self.model_miou - self.file_miou

    @property
    def passed(self) -> bool:
        """Whether the loss is within `max_miou_drop`; never where mean IoU can't be computed."""
        return self.max_miou_drop is None or self.miou_drop <= self.max_miou_drop

    def __str__(self):
        allowed = "" if self.max_miou_drop is None else f" (allowed: {100 * self.max_miou_drop:.2f})"
        return (
            f"mIoU on {self.images} images: Keras model {self.model_miou:.4f}, exported file {self.file_miou:.4f}, "
            f"loss {100 * self.miou_drop:.2f} points{allowed}; equal labels {100 * self.equal_labels:.3f} %; "
            f"{self.bytes:,} bytes"
        )


def verify(
    path: str | os.PathLike,
    model: Any,
    source: Source,
    *,
    limit: int | None = None,
    max_miou_drop: float | None = None,
    input_size: tuple[int, int] | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    progress: bool = True,
) -> Verification:
    """Compares an exported file with the Keras model it came from on the labelled images of a data set.

    Images are padded to the file's input size with 127.5 and the labels cropped again, for both.

    Args:
        path: the .tflite or .onnx file.
        model: the keras.Model, or whatever `keras_deeplab.predictor` takes.
        source: a `keras_deeplab.data` source.
        limit: number of images, from the beginning; None for all.
        max_miou_drop: how much mean IoU the file may lose, as a share (0.025 is 2.5 points); None for any.
        input_size: what images are padded to; None for the file's own size, of several the largest.
        class_map: for data with other classes than the model's, as in `keras_deeplab.evaluate`.
        progress: whether to show how far it is.

    Returns:
        `Verification`; its `passed` says whether the loss is within `max_miou_drop`.

    Raises:
        ValueError: if an image is larger than the file's input size (the message begins with the image's name), or the
            data has other classes.
    """
    return verify_all(
        [path],
        model,
        source,
        limit=limit,
        max_miou_drop=max_miou_drop,
        input_size=input_size,
        class_map=class_map,
        progress=progress,
    )[0]


def verify_all(
    files: Sequence[Any],
    model: Any,
    source: Source,
    *,
    limit: int | None = None,
    max_miou_drop: float | None = None,
    input_size: tuple[int, int] | None = None,
    sizes: Sequence[tuple[int, int]] = (),
    class_map: Mapping[str, str | None] | str | None = None,
    progress: bool = True,
) -> list[Verification]:
    """`verify` for several files of one model at once, which then runs on each image once.

    Args:
        files: paths, or pairs (path, runtime) with a runtime that `keras_deeplab.predictor` knows.
        model, source, limit, max_miou_drop, input_size, class_map, progress: as in `verify`. All files must take one
            size.
        sizes: all sizes (height, width) that the files take: an image that another of them holds is scaled down, with
            its labels, to fit `input_size`.

    Returns:
        A list of `Verification`, one for each file.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, received {limit}; None compares every image")
    files = [_file_and_runtime(file) for file in files]
    predictors = [predictor(path, input_size or _largest_of(path), runtime=runtime) for path, runtime in files]
    if not input_size:
        own = {predict.input_size for predict in predictors}
        if len(own) != 1:
            raise ValueError(f"the files take different sizes, {own}: compare those of each size by themselves")
        (input_size,) = own
    of_model = predictor(model, input_size=input_size)
    of_data = (source.classes_spec, source.num_classes, class_map, source.name)
    matrices, (table, *_) = zip(*(matrix_of(of_model.spec, *of_data) for _ in range(1 + len(files))), strict=True)
    equal, images, pixels = np.zeros(len(files), np.int64), 0, 0
    total = source.num_examples if limit is None else min(limit, source.num_examples)
    with Progress(total, "verify", enabled=progress) as bar, data.readable_errors():
        for sample in pipeline.evaluation(source, limit).as_numpy_iterator():
            try:
                image, truth = _scaled_down(sample["image"], sample["label"], input_size, sizes)
                truth = truth if table is None else table[truth]
                labels = [predict(image) for predict in (of_model, *predictors)]
                for matrix, prediction in zip(matrices, labels, strict=True):
                    matrix.update(truth, prediction)
            except ValueError as error:
                raise ValueError(f"{sample.get('name', b'an image').decode()}: {error}") from error
            images += 1
            pixels += labels[0].size
            equal += [int(np.sum(labels[0] == other)) for other in labels[1:]]
            if bar.due():
                bar.update(images, "mIoU " + ", ".join(f"{matrix.mean_iou:.4f}" for matrix in matrices))
    reference, *scores = (matrix.mean_iou for matrix in matrices)
    return [
        Verification(images, reference, score, float(same) / pixels, os.path.getsize(path), max_miou_drop)
        for (path, _), score, same in zip(files, scores, equal, strict=True)
    ]


def verify_sizes(
    files: Sequence[Any], model: Any, source: Source, sizes: Sequence[tuple[int, int]], **options: Any
) -> dict[tuple[int, int] | None, list[Verification]]:
    """`verify_all` at each size that the files take, to a dict from the size to its list, the largest first.

    Args:
        sizes: (height, width) of each; empty for files of any size, whose only key is None. Images that no size holds
            are refused; where a smaller one doesn't hold an image, it is compared on the image scaled down to fit.
        files, model, source, options: the others of `verify_all`.
    """
    return {
        size: verify_all(files, model, source, input_size=size, sizes=sizes, **options) for size in largest_first(sizes)
    }


def largest_first(sizes: Sequence[tuple[int, int]]) -> list[Any]:
    """Sizes (height, width) to a list of them, that with the most pixels first; [None] of none, which is any size."""
    return sorted(sizes, key=np.prod, reverse=True) or [None]


def _largest_of(path):
    """The largest of several sizes that a file takes, None where it takes one or any."""
    spec = read_spec(path)
    sizes = () if spec is None else spec.input_sizes
    return largest_first(sizes)[0] if len(sizes) > 1 else None


def _scaled_down(image, label, size, sizes):
    """An image and its label, scaled down to fit `size` where only others of `sizes` hold them."""
    if not any(_holds(other, image) for other in sizes) or _holds(size, image):
        return image, label
    image, label = transforms.resize(image, label, transforms.size_within(image.shape, size), antialias=True)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8), label.numpy()


def _holds(size, image):
    return size[0] >= image.shape[0] and size[1] >= image.shape[1]


def _file_and_runtime(file):
    path, runtime = file if isinstance(file, tuple) else (file, None)
    return Path(path), runtime_of(path, runtime)


# Speed and memory -------------------------------------------------------------------------------------------


def latencies(
    files: Sequence[Any], rounds: int = 20, num_threads: int | None = None, input_size: tuple[int, int] | None = None
) -> list[float]:
    """Milliseconds per image of several files, a list of the least of each: rounds run every file once, in turns.

    Other load on the machine so meets all alike. The images are random; everything that is in the file is timed,
    nothing else.

    Args:
        files: as `verify_all` takes them.
        rounds: how often each file is run and timed, behind two rounds that aren't.
        num_threads: None for all cores.
        input_size: (height, width) of the images of files that take several sizes or any; None for `TIMED_SIZE`.
    """
    num_threads = num_threads or threads()
    pairs = map(_file_and_runtime, files)
    runs = [bare.RUNTIMES[runtime](str(path), num_threads, input_size or TIMED_SIZE) for path, runtime in pairs]
    times = np.empty((rounds + 2, len(runs)))
    for row in times:
        for index, run in enumerate(runs):
            began = time.perf_counter()
            run()
            row[index] = 1000 * (time.perf_counter() - began)
    return times[2:].min(0).tolist()


def peak_memory(file: Any, num_threads: int | None = None, input_size: tuple[int, int] | None = None) -> int | None:
    """Bytes that a process needs to load a file and segment an image with it, None where the system doesn't tell.

    Sizes are those of `latencies`.

    A process of its own imports the runtime, then loads the file and runs it twice: the largest resident memory less
    what there was before, so the file's own pages, the runtime's copies of weights and all buffers count.
    """
    path, runtime = _file_and_runtime(file)
    arguments = [runtime, str(path), str(num_threads or threads()), *map(str, input_size or TIMED_SIZE)]
    # -P: the folder of the script has an onnx.py, which is not what a runtime wants to import under that name.
    command = [sys.executable, "-P", bare.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path} could not be run in a process of its own: {done.stderr.strip()[-500:]}")
    peak = int(done.stdout.split()[-1])
    return peak if peak >= 0 else None


# The table --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A file in the table of `table`.

    Attributes:
        name: what the row is called: a precision, or a runtime.
        path: where the file is.
        size: (height, width) of the images, where the file takes several sizes; else None.
        bytes: size of the file.
        milliseconds: least time for an image.
        memory: bytes, or None.
        float_operators: names of the operators that compute in floating point; None where it can't be told or all do.
        verification: `Verification`, or None.
    """

    name: str
    path: Path
    size: tuple | None
    bytes: int
    milliseconds: float
    memory: int | None
    float_operators: tuple | None
    verification: Verification | None

    @property
    def rejected(self) -> bool:
        """Whether the file lost more than it may."""
        return self.verification is not None and not self.verification.passed


def measured(
    files: Sequence[Any],
    model: Any,
    source: Source | None,
    sizes: Sequence[tuple[int, int]],
    *,
    limit: int | None,
    max_miou_drop: float | None,
    rounds: int,
    num_threads: int | None,
    progress: bool,
    class_map: Mapping[str, str | None] | str | None = None,
) -> list[Row]:
    """Files of one model to their `Row`s, those of the largest size first.

    Args:
        files: tuples (name, path, runtime, float operators).
        sizes: those that the files take, a row for each; empty for files of any size, which are timed at `TIMED_SIZE`.
        model, source, limit, max_miou_drop, progress, class_map: as in `verify`; no scores where `source` is None.
        rounds, num_threads: as in `latencies`.
    """
    pairs = [(path, runtime) for _, path, runtime, _ in files]
    found: dict[Any, Any] = dict.fromkeys(largest_first(sizes), [None] * len(files))
    if source is not None:
        options = {"limit": limit, "max_miou_drop": max_miou_drop, "progress": progress, "class_map": class_map}
        found = verify_sizes(pairs, model, source, sizes, **options)
    return [
        Row(
            name=name,
            path=path,
            size=size if len(sizes) > 1 else None,
            bytes=os.path.getsize(path),
            milliseconds=milliseconds,
            memory=peak_memory((path, runtime), num_threads, size),
            float_operators=operators,
            verification=verification,
        )
        for size, verifications in found.items()
        for (name, path, runtime, operators), milliseconds, verification in zip(
            files, latencies(pairs, rounds, num_threads, size), verifications, strict=True
        )
    ]


def table(rows: Sequence[Row]) -> str:
    """`Row`s to the text of a Markdown table; before those of a size is a line with the Keras model's mIoU at it."""
    titles = ["precision", "bytes", "mIoU", "loss, points", "equal labels", "ms", "memory, MB", "float operators"]
    cells, scored = [], set()
    for row in rows:
        at = f", {row.size[0]}x{row.size[1]}" if row.size else ""
        result = row.verification
        scores = ["", "", ""]
        if result:
            if row.size not in scored:
                cells.append([f"Keras model{at}", "", f"{result.model_miou:.4f}", "", "", "", "", ""])
                scored.add(row.size)
            scores = [f"{result.file_miou:.4f}", f"{100 * result.miou_drop:.2f}", f"{100 * result.equal_labels:.3f} %"]
        memory = "" if row.memory is None else f"{row.memory / 1e6:.0f}"
        cells.append([row.name + at, f"{row.bytes:,}", *scores, f"{row.milliseconds:.1f}", memory, _floating(row)])
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = [titles, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _floating(row):
    if row.float_operators is None:
        return "all"
    counts = {name: row.float_operators.count(name) for name in dict.fromkeys(row.float_operators)}
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"


# Errors of layers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerError:
    """How far an operator's output in an int8 file is from the same in float32.

    Attributes:
        name: of the output, after the layer it comes from.
        operator: the operator's kind.
        error: root mean square of the difference over that of the float32 output, all layers before included.
        scale: the step of the int8 output, 0 where it has none.
        lowest, highest: the ends of what the int8 output can hold.
    """

    name: str
    operator: str
    error: float
    scale: float
    lowest: float
    highest: float


def labels_of(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """The content of a TFLite file that returns labels, to a function from an image (1, H, W, 3) to labels (H, W)."""
    run = interpreter(None, content=content)
    (target,) = run.get_output_details()

    def labels(image):
        _feed(run, image)
        return run.get_tensor(target["index"])[0]

    return labels


def _feed(run, image):
    """Runs an interpreter on an image (1, H, W, 3) in 0..255, of the file's size if it has one."""
    (source,) = run.get_input_details()
    if -1 in source["shape_signature"]:
        run.resize_tensor_input(source["index"], image.shape)
    run.allocate_tensors()
    shifted = image - 128 * (source["dtype"] == np.int8)
    run.set_tensor(source["index"], shifted.astype(source["dtype"]))
    run.invoke()


def layer_errors(content: bytes, reference: bytes, images: Sequence[np.ndarray]) -> tuple[LayerError, ...]:
    """Two contents of TFLite files, integer and float32, of one prepared model to a tuple of `LayerError`.

    Args:
        content: bytes of the integer file.
        reference: bytes of the float32 file, with the same names.
        images: float32 (1, H, W, 3) each, in 0..255; all of them are run.

    Returns:
        The largest error first.
    """
    integer, exact = (interpreter(None, 1, content=file, keep_all=True) for file in (content, reference))
    details = {entry["name"]: entry for entry in exact.get_tensor_details()}
    outputs = [
        (operator["op_name"], integer_entry, details[integer_entry["name"]])
        for operator in operators_of(integer)
        for integer_entry in (tensor_of(integer, index) for index in operator["outputs"])
        if integer_entry["name"] in details and details[integer_entry["name"]]["dtype"] == np.float32
    ]
    squares = np.zeros((2, len(outputs)))
    for image in images:
        for run in (integer, exact):
            _feed(run, image)
        for number, (_, entry, twin) in enumerate(outputs):
            expected = exact.get_tensor(twin["index"]).astype(np.float64)
            scale, zero_point = entry["quantization"]
            found = integer.get_tensor(entry["index"]).astype(np.float64)
            found = (found - zero_point) * scale if scale else found
            squares[0, number] += np.square(found - expected).sum()
            squares[1, number] += np.square(expected).sum()
    errors = []
    for (operator, entry, _), (difference, size) in zip(outputs, squares.T, strict=True):
        scale, zero_point = entry["quantization"]
        kind = np.iinfo(entry["dtype"]) if np.issubdtype(entry["dtype"], np.integer) else None
        ends = [(limit - zero_point) * scale for limit in (kind.min, kind.max)] if kind else [-np.inf, np.inf]
        error = float(np.sqrt(difference / size)) if size else float(difference > 0)
        errors.append(LayerError(entry["name"], operator, error, float(scale), *map(float, ends)))
    return tuple(sorted(errors, key=lambda entry: -entry.error))


def layer_table(errors: Sequence[LayerError], count: int | None = None) -> str:
    """`LayerError`s to the text of a table, the first `count` of them."""
    shown = errors[:count]
    width = max([len(entry.name) for entry in shown] + [5])
    kinds = max([len(entry.operator) for entry in shown] + [8])
    lines = [f"{'layer':{width}}  {'operator':{kinds}}    error  range"]
    lines += [
        f"{entry.name:{width}}  {entry.operator:{kinds}}  {100 * entry.error:5.2f} %  "
        f"{entry.lowest:.4g} to {entry.highest:.4g}"
        for entry in shown
    ]
    return "\n".join(lines)
