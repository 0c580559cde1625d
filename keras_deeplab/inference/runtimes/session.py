"""An ONNX or TFLite file, run by ONNX Runtime or OpenVINO."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab.inference.runtimes.base import Runtime, check_images, spec_of_file
from keras_deeplab.inference.runtimes.tflite import threads
from keras_deeplab.metadata import onnx as onnx_metadata
from keras_deeplab.metadata import tflite as tflite_metadata

# Left alone, it computes in bfloat16 where the processor has it.
OPENVINO_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}


class SessionRuntime(Runtime):
    """A file of images to scores or labels in a session of another program.

    Args:
        path: the file.
        runtime: `"onnxruntime"` or `"openvino"`.
        num_threads: None for all cores.

    Raises:
        ImportError: the runtime isn't installed.
        ValueError: it can't run the file, or the file takes something else than images.
    """

    def __init__(self, path: str | os.PathLike[str], runtime: Any, num_threads: int | None = None) -> None:
        self.name, self.program = f"{path} ({runtime})", runtime
        load = {"onnxruntime": _onnxruntime, "openvino": _openvino}[runtime]
        try:
            shape, self._dtype, output_shape, self._infer, known = load(path, threads(num_threads))
        except ImportError as error:
            raise ImportError(
                f"{self.name} needs a package that isn't installed: pip install {runtime} ({error})"
            ) from error
        self.channels = check_images(shape, self.name)
        if self._dtype not in (np.uint8, np.float32):
            raise ValueError(
                f"{self.name} takes {np.dtype(self._dtype).name} {shape}; expected images (B, H, W, 3), uint8 or "
                "float32"
            )
        self._one_by_one = shape[0] == 1
        self.sizes = () if tuple(shape[1:3]) == (None, None) else (tuple(shape[1:3]),)
        self.spec, self.returns = spec_of_file(known, output_shape, self.channels, self.name)

    def scores(self, images: np.ndarray) -> Any:
        fed = images if self._dtype == np.float32 else np.rint(images).astype(np.uint8)
        groups = [fed[index : index + 1] for index in range(len(fed))] if self._one_by_one else [fed]
        return np.concatenate([self._infer(group) for group in groups])


def _onnxruntime(path, num_threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()
        notes = session.get_modelmeta().custom_metadata_map.get(onnx_metadata.KEY)
    except Exception as error:  # its own classes, which derive from Exception alone; UnicodeDecodeError of names
        raise ValueError(f"{path} is not an ONNX file that can be run: {error}") from error
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed")
    (source,), (target,) = inputs, outputs
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    shapes = [[side if isinstance(side, int) else None for side in entry.shape] for entry in (source, target)]
    known = onnx_metadata.spec_from(notes, str(path)) if notes else None

    def infer(fed):
        try:
            return session.run(None, {source.name: fed})[0]
        except Exception as error:
            raise ValueError(f"{path} can't be run on an image of shape {fed.shape}: {error}") from error

    return tuple(shapes[0]), kinds.get(source.type), shapes[1], infer, known


def _openvino(path, num_threads):
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        compiled = core.compile_model(model, "CPU", OPENVINO_OPTIONS | {"INFERENCE_NUM_THREADS": num_threads})
    except RuntimeError as error:
        raise ValueError(f"{path} is not a file that OpenVINO can run: {error}") from error
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise ValueError(
            f"{path} has {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs; one of each is needed"
        )
    request = compiled.create_infer_request()
    shapes = [
        [side.get_length() if side.is_static else None for side in port.partial_shape]
        for port in (compiled.inputs[0], compiled.outputs[0])
    ]
    if Path(path).suffix.lower() == ".tflite":
        known = tflite_metadata.read_spec(path)
    else:
        known = onnx_metadata.read_spec(path)
    dtype = compiled.inputs[0].element_type.to_dtype().type

    def infer(fed):
        try:
            return request.infer([fed])[0].copy()
        except RuntimeError as error:
            raise ValueError(f"{path} can't be run on an image of shape {fed.shape}: {error}") from error

    return tuple(shapes[0]), dtype, shapes[1], infer, known
