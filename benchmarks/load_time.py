"""python benchmarks/load_time.py [FILE ...]: how long `keras_deeplab.load` takes, and building and reading alone.

Without files it writes three with random weights: VainF's DeepLab v3+ on ResNet-101 as a .pth, Google's on Xception-65
and on MobileNetV2 as TensorFlow 1 checkpoints. Each round reads, builds and loads every file once, in turns, so that
other load on the machine meets all alike. The ratio is load / (build + read), of the same round.
"""

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_deeplab
from keras_deeplab import weights
from keras_deeplab.weights import readers
from keras_deeplab.weights.names import unwrap
from keras_deeplab.weights.readers.files import kind_of

# name of the file, source, settings of the network
NETWORKS = [
    ("vainf_resnet101.pth", "vainf", {"backbone": "resnet101", "flavour": "vainf"}),
    ("xception_65/model.ckpt", "tf1", {"backbone": "xception_65"}),
    ("mobilenet_v2/model.ckpt", "tf1", {"backbone": "mobilenet_v2"}),
]
STEPS = ("read", "build", "load")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="checkpoints; by default three are written")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or [write(Path(folder), *network) for network in NETWORKS]
        plans = [weights.recognise(read(file), os.fspath(file)) for file in files]
        seconds = np.empty((options.rounds + 1, len(files), len(STEPS)))
        for row in seconds:
            for file, plan, times in zip(files, plans, row, strict=True):
                for index, step in enumerate(STEPS):
                    times[index] = timed({"read": read, "build": build, "load": keras_deeplab.load}[step], file, plan)
    seconds = seconds[1:]  # the first round also imports and fills caches
    width = max(len(os.fspath(file)) for file in files)
    print(
        f"{'file':<{width}}  {'read s':>7}  {'build s':>7}  {'load s':>7}  {'ratio':>5}  {'lowest':>6}  {'highest':>7}"
    )
    for index, file in enumerate(files):
        read_s, build_s, load_s = np.median(seconds[:, index], axis=0)
        ratios = seconds[:, index, 2] / seconds[:, index, :2].sum(axis=1)
        print(
            f"{os.fspath(file):<{width}}  {read_s:>7.3f}  {build_s:>7.3f}  {load_s:>7.3f}  {np.median(ratios):>5.2f}  "
            f"{ratios.min():>6.2f}  {ratios.max():>7.2f}"
        )


def write(folder, name, source, settings):
    """A checkpoint with random weights; returns its path."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    keras_deeplab.export_weights(keras_deeplab.DeepLabV3Plus(**settings), path, source)
    return path


def timed(step, file, plan):
    keras.backend.clear_session()
    gc.collect()
    began = time.perf_counter()
    step(file) if step is keras_deeplab.load else step(file, plan)
    return time.perf_counter() - began


def read(file, plan=None):
    """`{name: array}`, nothing done with it."""
    kind = kind_of(file)
    return weights.SOURCES[kind].read(file) if kind in ("tf1", "tflite") else unwrap(readers.read(file)[1])


def build(file, plan):
    keras_deeplab.build(plan.spec)


if __name__ == "__main__":
    main()
