"""Print milliseconds and memory of labels with and without the resized scores of all classes, in interleaved rounds.

    python benchmarks/resized_argmax.py [--classes 21 150 1000] [--size 513] [--networks small mobilenet_v2]

    scores      the operator alone, on scores at stride 4 as a trained model has them: few labels, in large regions
    noise       the same on noise, where each position has another label: the worst case
    small       a network of three convolutions with a head at stride 4, as a SavedModel's frozen graph
    NAME        DeepLabv3+ with that backbone, likewise

"before" is a resize of all scores and an argmax, "after" `keras_deeplab.layers.resized_argmax`. Networks have random
weights and a photograph (or, without `--image`, a drawn scene) to look at. First the labels of both are compared.
Memory is the peak of a process of its own beyond what it has before it runs.
"""

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_deeplab
from keras_deeplab.data import synthetic
from keras_deeplab.data.images import read_image
from keras_deeplab.export import graph
from keras_deeplab.export.saved_model import _frozen
from keras_deeplab.layers import resized_argmax

WAYS = ("before", "after")


def resized(scores, size):
    return tf.raw_ops.ResizeBilinear(images=scores, size=size, align_corners=True)


def labels_of(scores, size, way):
    if way == "after":
        return resized_argmax(scores, size, True)
    return tf.argmax(resized(scores, size), -1, output_type=tf.int32)


def prepared(name, classes, size, image):
    """{way: function without arguments to labels}"""
    if name in ("scores", "noise"):
        random, side = np.random.default_rng(0), (size - 1) // 4 + 1
        scores = random.normal(size=(1, side, side, classes)).astype(np.float32)
        if name == "scores":
            scores = 0.05 * scores + tf.image.resize(5 * scores[:, :6, :6], (side, side))
        given, network = tf.constant(scores), None
    else:
        keras.utils.set_random_seed(0)
        if name == "small":
            x = images = keras.Input((None, None, 3))
            x = keras.layers.Rescaling(1 / 127.5, -1)(x)
            for filters, stride in ((16, 2), (32, 2), (32, 1)):
                x = keras.layers.Conv2D(filters, 3, stride, padding="same", activation="relu")(x)
            model = keras.Model(images, keras.layers.Conv2D(classes, 1)(x))
        else:
            model = keras_deeplab.DeepLabV3Plus(name, num_classes=classes, upsample_logits=False)
        spec = tf.TensorSpec((1, None, None, 3), tf.float32)
        network = _frozen(graph.logits_function(model, native=None), spec)
        picture = synthetic.draw(np.random.default_rng(0), size, size)[0] if image is None else read_image(image)
        given = tf.image.resize(picture[None].astype(np.float32), (size, size))

    def traced(way):
        @tf.function(input_signature=[tf.TensorSpec((1, None, None, None)), tf.TensorSpec((2,), tf.int32)])
        def run(given, target):
            return labels_of(given if network is None else network(given), target, way)

        return lambda: run(given, (size, size)).numpy()

    return {way: traced(way) for way in WAYS}


def peak_mb(options, name, classes, way):
    words = [sys.executable, __file__, "--one", name, str(classes), way, "--size", str(options.size)]
    words += ["--image", options.image] if options.image else []
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_one(name, classes, way, options):
    run = prepared(name, int(classes), options.size, options.image)[way]
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # starts the peak anew
    before = rss("VmRSS")
    for _ in range(3):
        run()
    print(rss("VmHWM") - before)


def rss(which):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith(which))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 150, 1000])
    parser.add_argument("--networks", nargs="+", default=["scores", "noise", "small", "mobilenet_v2"])
    parser.add_argument("--size", type=int, default=513)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--image", help="a photograph")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure_one(*options.one, options)
    else:
        compare(options)


def compare(options):
    print(f"load {os.getloadavg()[0]:.1f}; ms are medians of {options.rounds} rounds, those of a processor beside them")
    print(
        f"{'what':<13} {'classes':>7}  {'before':>15} {'after':>15}  {'ratio':>5} {'quartiles':>11}  {'MB':>13}  labels"
    )
    for name in options.networks:
        for classes in options.classes:
            runs = prepared(name, classes, options.size, options.image)
            one, other = (runs[way]() for way in WAYS)
            equal = 100 * (one == other).mean()
            times = np.array([[clocked(runs[way]) for way in WAYS] for _ in range(options.rounds)])
            wall, processor = 1000 * np.median(times, 0).T
            low, middle, high = np.percentile(times[:, 1, 0] / times[:, 0, 0], (25, 50, 75))
            memory = [peak_mb(options, name, classes, way) for way in WAYS]
            shown = [f"{each:.1f} ({of:.1f})" for each, of in zip(wall, processor, strict=True)]
            print(
                f"{name:<13} {classes:>7}  {shown[0]:>15} {shown[1]:>15}  {middle:>5.2f} {low:>5.2f} {high:>5.2f}  "
                f"{memory[0]:>5.0f} to {memory[1]:>4.0f}  {equal:.4f} % equal, {len(np.unique(other))} different",
                flush=True,
            )
    print(f"load {os.getloadavg()[0]:.1f}")


def clocked(run):
    began = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began[0], time.process_time() - began[1]


if __name__ == "__main__":
    main()
