"""Loads an exported file in its runtime and segments random pictures; as a script it prints the memory that this took.

Nothing of Keras, TensorFlow or this package is imported, so that a process of its own holds the runtime alone.
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np


def litert(path: str, num_threads: int, free_size: tuple[int, int]) -> Callable[[], Any]:
    """A .tflite file to a function without arguments that segments a random picture.

    `free_size` is the picture's where the file takes any size, or has a signature for it.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # loaded on demand, which `from tensorflow.lite import` doesn't find
    with warnings.catch_warnings():
        # TensorFlow's interpreter announces its removal.
        warnings.simplefilter("ignore")
        interpreter = Interpreter(path, num_threads=num_threads)
    key = "{}x{}".format(*free_size)
    if key in interpreter.get_signature_list():  # one of the file's several sizes
        runner = interpreter.get_signature_runner(key)
        ((name, source),) = runner.get_input_details().items()
        feed = {name: _fed(source, source["shape"])}
        return lambda: runner(**feed)
    (source,) = interpreter.get_input_details()
    shape = _shape([None if side < 0 else int(side) for side in source["shape_signature"]], free_size)
    if -1 in source["shape_signature"]:
        interpreter.resize_tensor_input(source["index"], shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], _fed(source, shape))
    return interpreter.invoke


def onnxruntime(path: str, num_threads: int, free_size: tuple[int, int]) -> Callable[[], Any]:
    """An .onnx file to the same."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    shape = _shape([side if isinstance(side, int) else None for side in source.shape], free_size)
    feed = {source.name: _picture(shape).astype(np.uint8 if "uint8" in source.type else np.float32)}
    return lambda: session.run(None, feed)


def openvino(path: str, num_threads: int, free_size: tuple[int, int]) -> Callable[[], Any]:
    """An .onnx or .tflite file to the same."""
    import openvino as runtime

    core = runtime.Core()
    # Left alone, it computes in bfloat16 where the processor has it.
    options = {"INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    (source,) = compiled.inputs
    sides = [side.get_length() if side.is_static else None for side in source.partial_shape]
    feed = [_picture(_shape(sides, free_size)).astype(source.element_type.to_dtype())]
    request = compiled.create_infer_request()
    return lambda: request.infer(feed)


RUNTIMES = {"litert": litert, "onnxruntime": onnxruntime, "openvino": openvino}


def _shape(sides, free_size):
    return tuple(side or free for side, free in zip(sides, (1, *free_size, 3), strict=True))


def _fed(source, shape):
    """A random picture as the input of a .tflite file takes it."""
    return (_picture(shape) - 128 * (source["dtype"] == np.int8)).astype(source["dtype"])


def _picture(shape):
    return np.random.default_rng(0).integers(0, 256, shape)


def _memory(name):
    """Bytes of a line of Linux's account of this process, None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None


def main(runtime: str, path: str, num_threads: str, height: str, width: str) -> None:
    load, size = RUNTIMES[runtime], (int(height), int(width))
    with contextlib.suppress(ImportError):
        importlib.import_module({"litert": "ai_edge_litert.interpreter"}.get(runtime, runtime))
    before = _memory("VmRSS")
    run = load(path, int(num_threads), size)
    run()
    run()
    print(-1 if before is None else _memory("VmHWM") - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
