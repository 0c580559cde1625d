"""A TFLite file, run by LiteRT where it is installed, else by TensorFlow's copy of it."""

import contextlib
import math
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.private import operators_of
from keras_deeplab.inference.runtimes import operators
from keras_deeplab.inference.runtimes.base import Runtime, check_images, spec_of_file
from keras_deeplab.metadata import tflite as metadata
from keras_deeplab.specs import ModelSpec

# Whether files are mapped into memory; Windows lets nobody replace or remove a file that is.
_MAPPED = sys.platform != "win32"


def threads(num_threads: int | None = None) -> int:
    """The number of threads that is asked for, or all cores that this process may use."""
    if num_threads is not None:
        return num_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def interpreter(
    path: str | os.PathLike[str] | None,
    num_threads: int | None = None,
    *,
    content: bytes | None = None,
    keep_all: bool = False,
) -> Any:
    """A TFLite file's path, or its content, to an interpreter: LiteRT's where it is installed, else TensorFlow's.

    Args:
        path: the file; None where `content` is given.
        num_threads: None for all cores.
        content: the bytes of the file.
        keep_all: whether to run without delegates and keep every tensor, for a look at them.

    Raises:
        ValueError: if it isn't a TFLite file that can be read.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        import tensorflow as tf

        # Attributes that are loaded on demand, which `from tensorflow.lite import` doesn't find.
        Interpreter, OpResolverType = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    options: dict[str, Any] = {"num_threads": threads(num_threads)}
    if content is None and path is not None and not _MAPPED:
        content = Path(path).read_bytes()
    options |= {"model_path": str(path)} if content is None else {"model_content": content}
    if keep_all:
        options["experimental_preserve_all_tensors"] = True
        options["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        # TensorFlow's interpreter announces its removal; until then it reads the same files.
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        try:
            loaded = Interpreter(**options)
            found = operators_of(loaded)
        except ValueError as error:  # of names that are no UTF-8 too
            raise ValueError(f"{path or 'this'} is not a TFLite file that can be read: {error}") from error
    if any(operator["op_name"] == "edgetpu-custom-op" for operator in found):
        raise ValueError(
            f"{path or 'this'} is compiled for the Edge TPU and runs there alone: take the file that it was compiled "
            "from, whose name is mostly the same without _edgetpu"
        )
    return loaded


class TFLiteRuntime(Runtime):
    """A file of one image (1, H, W, channels) to scores or labels; of several sizes it has a signature for each.

    Args:
        path: the file.
        input_range: (low, high) that 0..255 is mapped to, for files that don't normalise themselves; None for (0, 255),
            or what a quantised input stands for.
        num_threads: None for all cores.
        safe_mode: whether one with operators of TensorFlow's that reach files, the network or Python is refused.

    Raises:
        ValueError: it is no such file, holds operators that nothing here runs, or those.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        input_range: Any = None,
        num_threads: int | None = None,
        safe_mode: bool = True,
    ) -> None:
        from keras_deeplab.weights.readers.tflite import custom_operators

        self.name = f"the TFLite file {path}"
        loaded = interpreter(path, num_threads)
        self.program = "litert" if type(loaded).__module__.startswith("ai_edge_litert") else "tensorflow's tflite"
        self._foreign = custom_operators(path)
        if safe_mode:
            names = [name.removeprefix("Flex") for name in self._foreign if name.startswith("Flex")]
            operators.refuse(self.name, filter(operators.is_outside, names))
        signatures = sorted(loaded.get_signature_list())
        if len(signatures) > 1:
            self._runs: dict[Any, Any] = self._by_size(loaded, signatures, input_range)
            sizes: list[tuple[int, int]] = sorted(self._runs, key=math.prod)
            self.sizes = tuple(sizes)
        else:
            self._runs = {None: self._single(loaded, input_range)}
        if self._foreign:
            with self._telling():  # now, and not at the first image
                loaded.allocate_tensors()
        known = metadata.read_spec(path)
        self.spec, self.returns = spec_of_file(known, self._output_shape, self.channels, self.name)
        classes = metadata.read_classes(path) if known is None else None
        if classes is not None:
            # Of another program, that names its labels; it may be for another output than this one.
            count = len(classes.names or ())
            spec = self.spec or ModelSpec(count, self.channels)
            self.spec = spec.with_classes(classes) if count == spec.num_labels else self.spec

    def scores(self, images: np.ndarray) -> Any:
        run = self._runs[images.shape[1:3] if None not in self._runs else None]
        with self._telling():
            return np.concatenate([run(image[None]) for image in images])

    @contextlib.contextmanager
    def _telling(self):
        """Within it, what keeps the file from running is a ValueError that names the file and its own operators."""
        try:
            yield
        except RuntimeError as error:
            foreign = f" It has operators that are not TFLite's own: {', '.join(self._foreign)}." * bool(self._foreign)
            raise ValueError(f"{self.name} can't be run:{foreign} {error}") from error

    def _single(self, loaded, input_range):
        inputs, outputs = loaded.get_input_details(), loaded.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
            raise ValueError(
                f"{self.name} has {len(inputs)} inputs (the first of shape {inputs[0]['shape']}) and {len(outputs)} "
                "outputs; expected images (1, H, W, 3) and one output"
            )
        shape, prepare = self._images(inputs[0], input_range)
        index, output = inputs[0]["index"], outputs[0]["index"]
        self.sizes = () if shape[1:3] == (None, None) else (shape[1:3],)
        self._output_shape = outputs[0]["shape"]
        allocated = None

        def run(image):
            nonlocal allocated
            if allocated != image.shape[1:3]:
                if None in shape:
                    loaded.resize_tensor_input(index, image.shape, strict=True)
                loaded.allocate_tensors()
                allocated = image.shape[1:3]
            loaded.set_tensor(index, prepare(image))
            loaded.invoke()
            return loaded.get_tensor(output)

        return run

    def _by_size(self, loaded, keys, input_range):
        runs = {}
        for key in keys:
            runner = loaded.get_signature_runner(key)
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
            if len(inputs) != 1 or len(outputs) != 1:
                raise ValueError(
                    f"the signature {key!r} of {self.name} has {len(inputs)} inputs and {len(outputs)} outputs"
                )
            ((word, source),), (target,) = inputs.items(), outputs.values()
            shape, prepare = self._images(source, input_range)
            if None in shape[1:3] or shape[1:3] in runs:
                raise ValueError(
                    f"{self.name} has several signatures, {', '.join(keys)}, which don't differ by the size of their "
                    "images"
                )
            self._output_shape = target["shape"]
            runs[shape[1:3]] = lambda image, runner=runner, word=word, prepare=prepare: next(
                iter(runner(**{word: prepare(image)}).values())
            )
        return runs

    def _images(self, details, input_range):
        """The details of an input to its shape, None where it is free, and the function that images are fed through."""
        shape = tuple(None if side < 0 else int(side) for side in details["shape_signature"])
        self.channels = check_images(shape, self.name)
        return shape, feed(details, input_range, self.name)


def feed(details: Any, input_range: Any, name: Any) -> Any:
    """The function that brings float32 images in 0..255 to the range and dtype of a TFLite file's input."""
    dtype = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    if dtype not in (np.float32, np.uint8, np.int8):
        raise ValueError(f"{name} takes {dtype} images; float32, uint8 and int8 can be fed")
    factor, offset = 1.0, 0.0
    if input_range is not None:
        low, high = (float(bound) for bound in input_range)
        factor, offset = (high - low) / 255.0, low
    if dtype != np.float32:
        limits = np.iinfo(dtype)
        if input_range is None and not (scale > 0 and _represents_pixels(limits, scale, zero_point, name)):
            # The usual contract of such files: bytes go in as they are, signed ones less 128.
            factor, offset = 1.0, float(limits.min)
        elif scale > 0:
            factor, offset = factor / scale, offset / scale + zero_point

    def prepare(image):
        values = image * np.float32(factor) + np.float32(offset)
        return values if dtype == np.float32 else np.clip(np.rint(values), limits.min, limits.max).astype(dtype)

    return prepare


def _represents_pixels(limits, scale, zero_point, name):
    """Whether a quantised input stands for values in 0..255, rather than for normalised ones."""
    represented = (limits.min - zero_point) * scale, (limits.max - zero_point) * scale
    for low, high in ((0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)):
        if max(abs(low - represented[0]), abs(high - represented[1])) < 0.1 * (high - low):
            return high == 255.0
    raise ValueError(
        f"the quantised input of {name} stands for values from {represented[0]:.3g} to {represented[1]:.3g}, which is "
        f"none of the usual ranges 0..255, -1..1 and 0..1: give input_range, the values that 0 and 255 are mapped to"
    )
