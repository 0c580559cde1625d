"""What runs a model, one file a runtime: each maps images to scores, or says that it has labels alone."""

from pathlib import Path

from keras_deeplab.inference.runtimes.base import Runtime

__all__ = ["RUNTIMES", "Runtime", "open_file", "runtime_of"]


def _litert(path, *, input_range=None, num_threads=None, safe_mode=True):
    from keras_deeplab.inference.runtimes.tflite import TFLiteRuntime

    return TFLiteRuntime(path, input_range, num_threads, safe_mode)


def _session(runtime):
    def opened(path, *, num_threads=None):
        from keras_deeplab.inference.runtimes.session import SessionRuntime

        return SessionRuntime(path, runtime, num_threads)

    return opened


# Ending of a file -> {name of a program: function from the file's path and options to a `Runtime`}; the first is the
# one that is taken where none is named. Another kind of file, or another program for one, is a row here.
RUNTIMES = {
    ".tflite": {"litert": _litert, "openvino": _session("openvino")},
    ".onnx": {"onnxruntime": _session("onnxruntime"), "openvino": _session("openvino")},
}


def runtime_of(path, runtime=None):
    """What runs an exported file: `runtime` if it does, else the first that fits.

    Raises:
        ValueError: nothing runs such a file, or not `runtime`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in RUNTIMES:
        raise ValueError(f"{path} is no exported file that a runtime runs: its name ends in none of {list(RUNTIMES)}")
    if runtime is None:
        return next(iter(RUNTIMES[suffix]))
    if runtime not in RUNTIMES[suffix]:
        raise ValueError(f"a {suffix} file is run by one of {', '.join(RUNTIMES[suffix])}; received {runtime!r}")
    return runtime


def open_file(path, runtime=None, **options):
    """The path of an exported file to the `Runtime` of it; raises as `runtime_of` and as the runtime does."""
    name = runtime_of(path, runtime)
    return RUNTIMES[Path(path).suffix.lower()][name](path, **options)
