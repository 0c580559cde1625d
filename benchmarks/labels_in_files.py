"""Print milliseconds and memory of exported files whose labels are made row by row, and of the same files without that.

    python benchmarks/labels_in_files.py [--classes 21 150 1000] [--formats tflite onnx] [--size 513] [--network small]

A network with random weights (`small`, three convolutions, or DeepLabv3+ with a backbone of that name) is exported with
labels out, "after" as it is and "before" with the scores of all pixels resized first. Each file runs in a process of
its own, in turns. First the labels are compared. Memory is the peak of the process beyond what it has before it opens
the file; milliseconds are medians, those of a processor in brackets.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np


def export(network, classes, size, kind, folder):
    import keras
    from resized_argmax import small_network

    import keras_deeplab
    from keras_deeplab import layers
    from keras_deeplab.export import graph, onnx
    from keras_deeplab.export.onnx import export_onnx
    from keras_deeplab.export.tflite import conversion, export_tflite

    keras.utils.set_random_seed(0)
    if network == "small":
        coarse = small_network(classes)
        logits = layers.ResizeBilinear()([coarse.output, coarse.input])
        model = keras.Model(coarse.input, logits)
    else:
        model = keras_deeplab.DeepLabV3Plus(network, num_classes=classes)
    write = {"tflite": export_tflite, "onnx": export_onnx}[kind]
    conversion._WORTH_SLABS = onnx._WORTH_SLABS = 0  # also where it is known to gain nothing
    after = write(model, folder / f"after.{kind}", input_size=size).path
    graph.labels_by_slabs = lambda *arguments, **options: None
    return {"before": write(model, folder / f"before.{kind}", input_size=size).path, "after": after}


def rss(which):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith(which))


def run_one(path, size, threads):
    from keras_deeplab.inference.predictor import predictor

    random = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = np.kron(random, np.ones((-(-size // 6), -(-size // 6), 1), np.uint8))[:size, :size]
    if path.endswith("onnx"):
        import onnxruntime  # noqa: F401, no part of what the file takes
    else:
        import ai_edge_litert.interpreter  # noqa: F401
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # starts the peak anew
    before = rss("VmRSS")
    predict = predictor(path, num_threads=threads)
    labels, times = predict(image), []
    for _ in range(3):
        began = time.perf_counter(), time.process_time()
        predict(image)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    np.save(f"{path}.npy", labels)
    print("measured", *1000 * np.median(times, 0), rss("VmHWM") - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 150, 1000])
    parser.add_argument("--formats", nargs="+", default=["tflite", "onnx"])
    parser.add_argument("--size", type=int, default=513)
    parser.add_argument("--network", default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--export", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    words = [sys.executable, __file__, "--size", str(options.size), "--threads", str(options.threads)]
    words += ["--network", options.network]
    if options.one:
        run_one(options.one, options.size, options.threads)
    elif options.export:
        kind, classes, folder = options.export
        export(options.network, int(classes), options.size, kind, Path(folder))
    else:
        compare(options, words)


def compare(options, words):
    print(f"load {os.getloadavg()[0]:.1f}, {options.network}, {options.size}x{options.size}, {options.threads} threads")
    for kind in options.formats:
        for classes in options.classes:
            with tempfile.TemporaryDirectory() as folder:
                exporting = [*words, "--export", kind, str(classes), folder]
                subprocess.run(exporting, check=True, stdout=subprocess.DEVNULL)
                paths = {way: f"{folder}/{way}.{kind}" for way in ("before", "after")}
                found = {way: [] for way in paths}
                for _ in range(options.rounds):
                    for way, path in paths.items():
                        done = subprocess.run([*words, "--one", path], check=True, capture_output=True, text=True)
                        line = next(line for line in done.stdout.splitlines() if line.startswith("measured"))
                        found[way].append([float(each) for each in line.split()[1:]])
                one, other = (np.load(f"{path}.npy") for path in paths.values())
            shown = []
            for way in paths:
                wall, processor, memory = np.median(found[way], 0)
                shown.append(f"{way} {wall:.1f} ms ({processor:.1f}), {memory:.0f} MB")
            ratio = np.median(np.array(found["after"]) / np.array(found["before"]), 0)
            equal = 100 * (one == other).mean()
            told = f"{ratio[0]:.2f} of the time, {ratio[1]:.2f} of processor; {equal:.4f} % equal labels"
            print(
                f"{kind:6} {classes:>4} classes: {'; '.join(shown)}; {told}, {len(np.unique(other))} different",
                flush=True,
            )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
