"""What runs a model, one file a runtime: each maps images to scores, or says that it has labels alone."""

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime

__all__ = ["FASTEST", "RUNTIMES", "Runtime", "installed", "open_file", "runtime_of"]


def _litert(path, *, input_range=None, num_threads=None, safe_mode=True):
    from keras_deeplab.inference.runtimes.tflite import TFLiteRuntime

    return TFLiteRuntime(path, input_range, num_threads, safe_mode)


def _session(runtime):
    def opened(path, *, num_threads=None, safe_mode=True):  # neither has operators that reach beyond tensors
        from keras_deeplab.inference.runtimes.session import SessionRuntime

        return SessionRuntime(path, runtime, num_threads)

    return opened


# Ending of a file -> {name of a program: function from the file's path and options to a `Runtime`}; where none is named
# the first is taken that is installed, so the faster one stands first: docs/export.md has the figures. Another kind of
# file, or another program for one, is a row here.
RUNTIMES = {
    ".tflite": {"litert": _litert, "openvino": _session("openvino")},
    ".onnx": {"onnxruntime": _session("onnxruntime"), "openvino": _session("openvino")},
}
# Program -> packages of which one has it; that of another name is taken to be there.
_PACKAGES = {
    "litert": ("ai_edge_litert", "tensorflow"),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
}
# In place of a program's name: that which turns out to be the fastest on the file.
FASTEST = "fastest"
_TRIED = (513, 513)  # (height, width) of the image that a file of any size is tried with
_ROUNDS = 3


def runtime_of(path: str | os.PathLike[str], runtime: Any = None) -> Any:
    """What runs an exported file: `runtime` if it does, else the first that fits and is installed.

    Raises:
        ValueError: nothing runs such a file, or not `runtime`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in RUNTIMES:
        raise ValueError(f"{path} is no exported file that a runtime runs: its name ends in none of {list(RUNTIMES)}")
    if runtime is None:
        # Where none is installed the first one says what to install.
        return next(iter([*installed(path), *RUNTIMES[suffix]]))
    if runtime not in RUNTIMES[suffix]:
        raise ValueError(f"a {suffix} file is run by one of {', '.join(RUNTIMES[suffix])}; received {runtime!r}")
    return runtime


def installed(path: str | os.PathLike[str]) -> Any:
    """The programs that run an exported file and are installed here, the one that is taken first."""
    return [
        name
        for name in RUNTIMES[Path(path).suffix.lower()]
        if name not in _PACKAGES or any(_is_there(package) for package in _PACKAGES[name])
    ]


def open_file(path: str | os.PathLike[str], runtime: Any = None, **options: Any) -> Any:
    """The path of an exported file to the `Runtime` of it; raises as `runtime_of` and as the runtime does.

    `"fastest"` in place of a runtime's name opens it in all that are installed and keeps the one that runs it fastest.
    """
    if runtime == FASTEST:
        runtime_of(path)  # refuses what nothing runs
        return _fastest(path, options)
    name = runtime_of(path, runtime)
    return RUNTIMES[Path(path).suffix.lower()][name](path, **options)


def _fastest(path, options):
    found, refused = {}, []
    for name in installed(path):
        try:
            found[name] = open_file(path, name, **options)
        except ValueError as error:
            refused.append(error)
    if not found:
        if refused:
            raise refused[0]
        return open_file(path, **options)  # says what to install
    if len(found) == 1:
        return next(iter(found.values()))
    first = next(iter(found.values()))
    size = [side or usual for side, usual in zip(first.sizes[0] if first.sizes else _TRIED, _TRIED, strict=True)]
    images = np.random.default_rng(0).integers(0, 256, (1, *size, first.channels)).astype(np.float32)
    seconds = {name: [] for name in found}
    for _ in range(1 + _ROUNDS):  # by turns, so that other load on the machine meets all alike
        for name, opened in found.items():
            began = time.perf_counter()
            opened.scores(images)
            seconds[name].append(time.perf_counter() - began)
    # The first round allocates; of the others the least counts.
    return found[min(found, key=lambda name: min(seconds[name][1:]))]


def _is_there(package):
    try:
        return sys.modules[package] is not None if package in sys.modules else find_spec(package) is not None
    except (ImportError, ValueError):
        return False
