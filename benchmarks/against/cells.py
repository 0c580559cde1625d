"""What is timed: each cell is a function that prepares and gives what is to be called, run in a process of its own.

A cell's name is "part/side/way": `train/ours/tensorflow`. Peers get pixels as they want them, normalised, float32,
channels first; ours takes uint8 and normalises in the file. All give labels (or take a step of training).
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from network import images, normalised, torch_network

CELLS: dict[str, Callable[..., Callable[[], Any]]] = {}


def cell(name: str) -> Callable:
    def register(function: Callable) -> Callable:
        CELLS[name] = function
        return function

    return register


# A step of training: forward, cross-entropy at full size, backward, SGD with momentum -------------------------------


@cell("train/ours/tensorflow")
def _(backbone, size, batch, classes, stride, threads, folder):
    import keras
    import tensorflow as tf

    from keras_deeplab.training.coarse import end_before_resize, resizes
    from keras_deeplab.training.losses import AtLabelSize, SparseCategoricalCrossentropy

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = keras.models.load_model(Path(folder) / "ours.keras")
    # As `train` has it, without the metric, which the peers don't compute either.
    loss = AtLabelSize(SparseCategoricalCrossentropy(), resizes(model)[0])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    end_before_resize(model)
    pixels = tf.constant(images(batch, size))
    labels = tf.constant(np.random.default_rng(2).integers(0, classes, (batch, size, size), "uint8"))
    model.make_train_function()
    step = iter(tf.data.Dataset.from_tensors((pixels, labels)).repeat())
    return lambda: model.train_function(step)


def _torch_step(backbone, size, batch, classes, stride, threads, channels_last=False, compiled=False):
    from peers import peer

    torch = peer("torch")
    torch.set_num_threads(threads)
    network = torch_network(backbone, classes, stride).train()
    pixels = torch.from_numpy(normalised(images(batch, size)))
    if channels_last:
        network, pixels = network.to(memory_format=torch.channels_last), pixels.to(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.random.default_rng(2).integers(0, classes, (batch, size, size)))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    forward = torch.compile(network) if compiled else network

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(forward(pixels), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


@cell("train/torch/eager")
def _(folder, **setting):
    return _torch_step(**setting)


@cell("train/torch/channels_last")
def _(folder, **setting):
    return _torch_step(**setting, channels_last=True)


@cell("train/torch/compiled")
def _(folder, **setting):
    return _torch_step(**setting, channels_last=True, compiled=True)


# Labels of images -------------------------------------------------------------------------------------------------


def _ours(runtime: str, ending: str) -> Callable:
    """A file of ours in a runtime, without what a predictor adds."""

    def make(backbone, size, batch, classes, stride, threads, folder):
        from keras_deeplab.export import bare

        return getattr(bare, runtime)(str(Path(folder) / f"ours{ending}"), threads, (size, size))

    return make


@cell("infer/ours/predictor")
def _(backbone, size, batch, classes, stride, threads, folder):
    import keras_deeplab

    predict, (image,) = keras_deeplab.predictor(str(Path(folder) / "ours.keras")), images(1, size)
    return lambda: predict(image)


def _torch_labels(backbone, size, batch, classes, stride, threads, folder, way="eager"):
    from peers import peer

    torch = peer("torch")
    torch.set_num_threads(threads)
    network = torch_network(backbone, classes, stride).to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(normalised(images(1, size))).to(memory_format=torch.channels_last)
    if way == "compiled":
        network = torch.compile(network)

    def labels():
        with torch.inference_mode():
            return network(pixels).argmax(1).to(torch.uint8).numpy()

    return labels


@cell("infer/torch/eager")
def _(**setting):
    return _torch_labels(**setting)


@cell("infer/torch/compiled")
def _(**setting):
    return _torch_labels(**setting, way="compiled")


def _session(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnx(name: str, runtime: str) -> Callable:
    """A file of the peer's, from normalised pixels to labels, in a runtime."""

    def make(backbone, size, batch, classes, stride, threads, folder):
        path, pixels = str(Path(folder) / name), normalised(images(1, size))
        if runtime == "onnxruntime":
            session = _session(path, threads)
            (source,) = session.get_inputs()
            return lambda: session.run(None, {source.name: pixels})[0]
        import openvino

        core = openvino.Core()
        model = core.compile_model(
            core.read_model(path),
            "CPU",
            {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"},
        )
        return lambda: model(pixels)[0]

    return make


CELLS["infer/ours/litert"] = _ours("litert", ".tflite")
CELLS["infer/ours/openvino"] = _ours("openvino", ".tflite")
CELLS["infer/ours/onnxruntime"] = _ours("onnxruntime", ".onnx")
CELLS["infer/torch/onnxruntime"] = _onnx("torch.onnx", "onnxruntime")
CELLS["infer/torch/openvino"] = _onnx("torch.onnx", "openvino")
CELLS["int8/ours/litert"] = _ours("litert", "_int8.tflite")
CELLS["int8/ours/openvino"] = _ours("openvino", "_int8.tflite")
CELLS["int8/torch/onnxruntime"] = _onnx("torch_int8.onnx", "onnxruntime")


# Files of photographs to files of labels ------------------------------------------------------------------------------


def _segment(name: str) -> Callable:
    """A file of ours as `keras-deeplab predict` uses it."""

    def make(backbone, size, batch, classes, stride, threads, folder):
        import keras_deeplab
        from keras_deeplab.inference.files import segment_files

        predictor = keras_deeplab.predictor(str(Path(folder) / name))
        photographs = sorted(map(str, (Path(folder) / "photographs").glob("*.jpg")))

        def run():
            quiet = {"progress": False, "log": lambda line: None}
            written, failed = segment_files(predictor, photographs, Path(folder) / "ours", outputs=("labels",), **quiet)
            assert len(written) == len(photographs), failed

        return run

    return make


CELLS["folder/ours/keras"] = _segment("ours.keras")
CELLS["folder/ours/tflite"] = _segment("ours.tflite")


@cell("folder/torch/vainf")
def _(backbone, size, batch, classes, stride, threads, folder):
    """As the loop of VainF's predict.py: Pillow, one image after the other, the network in eager mode."""
    from peers import peer
    from PIL import Image

    torch = peer("torch")
    torch.set_num_threads(threads)
    network = torch_network(backbone, classes, stride)
    target = Path(folder) / "theirs"
    target.mkdir(exist_ok=True)

    def run():
        with torch.no_grad():
            for path in sorted((Path(folder) / "photographs").glob("*.jpg")):
                pixels = normalised(np.asarray(Image.open(path).convert("RGB"))[None])
                labels = network(torch.from_numpy(pixels)).max(1)[1].cpu().numpy()[0]
                Image.fromarray(labels.astype("uint8")).save(target / f"{path.stem}.png")

    return run


# A process from its start ---------------------------------------------------------------------------------------------


def _process(code: str) -> Callable:
    def make(backbone, size, batch, classes, stride, threads, folder):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    return make


CELLS["startup/keras/keras"] = _process("import keras")
CELLS["startup/ours/keras_deeplab"] = _process("import keras_deeplab")
CELLS["startup/ours/keras_and_a_builder"] = _process("import keras, keras_deeplab; keras_deeplab.DeepLabV3Plus")
