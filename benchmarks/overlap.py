"""Print what an evaluation and a folder of photographs cost beside the bare model, in interleaved rounds.

    python benchmarks/overlap.py MODEL DATA [--images 40] [--rounds 7] [--output-stride 8] [--runtime openvino]

    bare      a predictor called on images that are in memory already
    evaluate  `keras_deeplab.evaluate` of the same images and their masks, from files
    folder    `segment_files` of the same images, from files to label maps in files

A round does each once; what is compared is a round's own seconds. First it is checked that all three have the same
labels: the mask files to the pixel, the evaluation by its confusion matrix.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.data.masks import stored_in_png
from keras_deeplab.inference.files import segment_files
from keras_deeplab.metrics import ConfusionMatrix


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", help="a data set whose samples are files")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runtime", help="of a .tflite or .onnx file")
    parser.add_argument("--output-stride", type=int)
    parser.add_argument("--input-size", type=int)
    options = parser.parse_args()

    source = data.load(options.data, split=options.split)
    predict = keras_deeplab.predictor(options.model, options.input_size, options.output_stride, runtime=options.runtime)
    samples = [source.sample(index) for index in range(min(options.images, len(source)))]
    images, truths = [image for image, _, _ in samples], [truth for _, truth, _ in samples]
    files = [image for _, image, _ in source.files[: len(samples)]]

    def bare():
        return [predict(image) for image in images]

    def evaluate():
        return keras_deeplab.evaluate(predict, source, limit=len(images), progress=False)

    with tempfile.TemporaryDirectory() as out:

        def folder():
            return segment_files(predict, files, out, outputs=("labels",), progress=False)

        labels = bare()
        matrix = ConfusionMatrix(source.num_classes, source.ignore_label)
        for truth, label in zip(truths, labels, strict=True):
            matrix.update(truth, label)
        assert (evaluate().matrix == matrix.matrix).all(), "the evaluation counts other labels"
        written, failures = folder()
        assert not failures, failures
        for (path,), label in zip(written, labels, strict=True):
            assert (stored_in_png(Path(path).read_bytes()).values == label).all(), path
        print(
            f"{len(images)} images, mIoU {matrix.mean_iou:.4f}; files and evaluation have the very labels of the rest"
        )

        ways = {"bare": bare, "evaluate": evaluate, "folder": folder}
        clock, processor, load = ({name: [] for name in ways} for _ in range(3))
        for _ in range(options.rounds):
            for name, way in ways.items():
                load[name].append(os.getloadavg()[0])
                began = time.perf_counter(), time.process_time()
                way()
                clock[name].append((time.perf_counter() - began[0]) / len(images))
                processor[name].append((time.process_time() - began[1]) / len(images))
    runner = f", {predict.runtime.name}" if hasattr(predict, "runtime") else ""
    loads = [each for part in load.values() for each in part]
    print(f"{options.rounds} rounds, load {min(loads):.1f} to {max(loads):.1f}{runner}")
    print(f"{'way':<9} {'ms':>7} {'processor':>9}   {'to bare: median':>15} {'quartiles':>13} {'of processor':>12}")
    for name in ways:
        ratios = np.divide(clock[name], clock["bare"])
        low, middle, high = np.percentile(ratios, (25, 50, 75))
        of_processor = np.median(np.divide(processor[name], processor["bare"]))
        print(
            f"{name:<9} {1000 * np.median(clock[name]):>7.1f} {1000 * np.median(processor[name]):>9.1f}   "
            f"{middle:>15.3f} {low:>6.3f} {high:>6.3f} {of_processor:>12.3f}"
        )


if __name__ == "__main__":
    main()
