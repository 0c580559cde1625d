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
EIGHT = 8


class Seconds(float):
    """What a call took, told by itself."""


def cell(name: str) -> Callable:
    def register(function: Callable) -> Callable:
        CELLS[name] = function
        return function

    return register


# A step of training: forward, cross-entropy at full size, backward, SGD with momentum -------------------------------


def _our_step(size, batch, classes, threads, folder, recompute=False, **setting):
    import keras
    import tensorflow as tf

    from keras_deeplab.training.coarse import end_before_resize, resizes
    from keras_deeplab.training.losses import AtLabelSize, SparseCategoricalCrossentropy

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = keras.models.load_model(Path(folder) / "ours.keras")
    # As `train` has it, without the metric, which the peers don't compute either.
    loss = AtLabelSize(SparseCategoricalCrossentropy(), resizes(model)[0])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    end_before_resize(model, recompute)
    pixels = tf.constant(images(batch, size))
    labels = tf.constant(np.random.default_rng(2).integers(0, classes, (batch, size, size), "uint8"))
    model.make_train_function()
    step = iter(tf.data.Dataset.from_tensors((pixels, labels)).repeat())
    return lambda: model.train_function(step)


@cell("train/ours/tensorflow")
def _(**setting):
    return _our_step(**setting)


@cell("train/ours/recompute")
def _(**setting):
    return _our_step(recompute=True, **setting)


def _torch_step(size, batch, classes, threads, channels_last=False, compiled=False, **setting):
    from peers import peer

    torch = peer("torch")
    torch.set_num_threads(threads)
    network = _network(classes=classes, **setting).train()
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


def _network(backbone, classes, stride, weights, **setting):
    return torch_network(backbone, classes, stride, weights)


@cell("train/torch/eager")
def _(**setting):
    return _torch_step(**setting)


@cell("train/torch/channels_last")
def _(**setting):
    return _torch_step(**setting, channels_last=True)


@cell("train/torch/compiled")
def _(**setting):
    return _torch_step(**setting, channels_last=True, compiled=True)


# Labels of images -------------------------------------------------------------------------------------------------


def _ours(runtime: str, ending: str) -> Callable:
    """A file of ours in a runtime, without what a predictor adds."""

    def make(size, folder, threads, **setting):
        from keras_deeplab.export import bare

        return getattr(bare, runtime)(str(Path(folder) / f"ours{ending}"), threads, (size, size))

    return make


@cell("infer/ours/predictor")
def _(size, folder, **setting):
    import keras_deeplab

    predict, (image,) = keras_deeplab.predictor(str(Path(folder) / "ours.keras")), images(1, size)
    return lambda: predict(image)


def _torch_labels(size, threads, way="eager", count=1, **setting):
    from peers import peer

    torch = peer("torch")
    torch.set_num_threads(threads)
    network = _network(**setting).to(memory_format=torch.channels_last)
    pixels = torch.from_numpy(normalised(images(count, size))).to(memory_format=torch.channels_last)
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

    def make(size, folder, threads, **setting):
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
CELLS["int8/torch/openvino_nncf"] = _onnx("torch_int8.xml", "openvino")


# Labels of eight images, as many at a time as there are threads -------------------------------------------------------


def _side_by_side(make: Callable[..., Callable[[], Any]]) -> Callable:
    """Eight calls of a cell, by as many copies of one thread each as there are threads."""

    def made(threads, **setting):
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue

        free: SimpleQueue = SimpleQueue()
        for _ in range(threads):
            free.put(make(threads=1, **setting))
        pool = ThreadPoolExecutor(threads)

        def one(_):
            call = free.get()
            try:
                call()
            finally:
                free.put(call)

        return lambda: list(pool.map(one, range(EIGHT)))

    return made


for _name in ("ours/litert", "ours/onnxruntime", "ours/openvino", "torch/onnxruntime", "torch/openvino"):
    CELLS[f"throughput/{_name}"] = _side_by_side(CELLS[f"infer/{_name}"])


@cell("throughput/torch/eager")
def _(**setting):
    return _torch_labels(**setting, count=EIGHT)


@cell("throughput/ours/predictor")
def _(size, folder, **setting):
    import keras_deeplab

    predict, batch = keras_deeplab.predictor(str(Path(folder) / "ours.keras")), images(EIGHT, size)
    return lambda: predict(batch)


# Files of photographs to files of labels ------------------------------------------------------------------------------


def _segment(name: str) -> Callable:
    """A file of ours as `keras-deeplab predict` uses it."""

    def make(folder, **setting):
        import keras_deeplab
        from keras_deeplab.inference.files import segment_files

        predictor = keras_deeplab.predictor(str(Path(folder) / name))
        photographs = sorted(map(str, (Path(folder) / "data/images").glob("*.jpg")))

        def run():
            quiet = {"progress": False, "log": lambda line: None}
            written, failed = segment_files(predictor, photographs, Path(folder) / "ours", outputs=("labels",), **quiet)
            assert len(written) == len(photographs), failed

        return run

    return make


CELLS["folder/ours/keras"] = _segment("ours.keras")
CELLS["folder/ours/tflite"] = _segment("ours.tflite")


@cell("folder/torch/vainf")
def _(threads, folder, **setting):
    """As the loop of VainF's predict.py: Pillow, one image after the other, the network in eager mode."""
    from peers import peer
    from PIL import Image

    torch = peer("torch")
    torch.set_num_threads(threads)
    network = _network(**setting)
    target = Path(folder) / "theirs"
    target.mkdir(exist_ok=True)

    def run():
        with torch.no_grad():
            for path in sorted((Path(folder) / "data/images").glob("*.jpg")):
                pixels = normalised(np.asarray(Image.open(path).convert("RGB"))[None])
                labels = network(torch.from_numpy(pixels)).max(1)[1].cpu().numpy()[0]
                Image.fromarray(labels.astype("uint8")).save(target / f"{path.stem}.png")

    return run


# An evaluation, and the same images through the bare model ----------------------------------------------------------


def _evaluated(name: str, whole: bool) -> Callable:
    def make(folder, **setting):
        import keras_deeplab
        from keras_deeplab import data

        predict = keras_deeplab.predictor(str(Path(folder) / name))
        source = data.load(str(Path(folder) / "data"), split="val")
        if whole:
            return lambda: keras_deeplab.evaluate(predict, source, progress=False)
        pictures = [source.sample(index)[0] for index in range(len(source))]
        return lambda: [predict(picture) for picture in pictures]

    return make


CELLS["evaluate/ours/evaluate_tflite"] = _evaluated("ours.tflite", whole=True)
CELLS["evaluate/bare/tflite"] = _evaluated("ours.tflite", whole=False)


# A batch of crops for training, out of files, by two workers ----------------------------------------------------------


@cell("pipeline/ours/tf_data")
def _(size, batch, folder, **setting):
    from keras_deeplab import data
    from keras_deeplab.data import pipeline

    source = data.load(str(Path(folder) / "data"), split="train")
    batches = iter(pipeline.training(source, batch_size=batch, crop_size=size))
    return lambda: next(batches)


@cell("pipeline/torch/dataloader")
def _(size, batch, classes, threads, folder, **setting):
    """OpenCV in a DataLoader's workers: decode, scale, pad, crop, mirror, normalise, as VainF and jfzhang95 do."""
    import cv2
    from peers import peer

    torch = peer("torch")
    paths = sorted((Path(folder) / "data/images").glob("*.jpg"))

    class Crops(torch.utils.data.Dataset):
        def __len__(self):
            return 1_000_000

        def __getitem__(self, index):
            random = np.random.default_rng(index)
            path = paths[int(random.integers(len(paths)))]
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(str(path.parents[1] / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
            scale = random.uniform(0.5, 2.0)
            image = cv2.resize(image, None, fx=scale, fy=scale)
            mask = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
            down, right = (max(0, size - side) for side in mask.shape)
            image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=(127, 127, 127))
            mask = cv2.copyMakeBorder(mask, 0, down, 0, right, cv2.BORDER_CONSTANT, value=255)
            top, left = (int(random.integers(side - size + 1)) for side in mask.shape)
            image, mask = (each[top : top + size, left : left + size] for each in (image, mask))
            if random.random() < 0.5:
                image, mask = image[:, ::-1], mask[:, ::-1]
            mean, deviation = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
            pixels = (image.astype("float32") / 255.0 - mean) / deviation
            return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), torch.from_numpy(mask.copy())

    cv2.setNumThreads(0)
    loader = iter(torch.utils.data.DataLoader(Crops(), batch_size=batch, num_workers=threads))
    return lambda: next(loader)


# A process from its start ---------------------------------------------------------------------------------------------


def _process(code: str, told: bool = False) -> Callable:
    """A process that runs code; of one that says what a part of it took, its last line counts."""

    def make(folder, size, **setting):
        command = [sys.executable, "-c", code, str(folder), str(size)]

        def call():
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            return Seconds(done.stdout.split()[-1]) if told else None

        return call

    return make


FIRST = """
import sys, time
import numpy as np, keras_deeplab
folder, size = sys.argv[1], int(sys.argv[2])
predict = keras_deeplab.predictor(f"{folder}/NAME")
image = np.random.default_rng(0).integers(0, 256, (size, size, 3), "uint8")
began = time.perf_counter()
predict(image)
print(time.perf_counter() - began)
"""


CELLS["startup/keras/keras"] = _process("import keras")
CELLS["startup/ours/keras_deeplab"] = _process("import keras_deeplab")
CELLS["startup/ours/keras_and_a_builder"] = _process("import keras, keras_deeplab; keras_deeplab.DeepLabV3Plus")
CELLS["startup/ours/first_keras"] = _process(FIRST.replace("NAME", "ours.keras"), told=True)
CELLS["startup/ours/first_tflite"] = _process(FIRST.replace("NAME", "ours.tflite"), told=True)
