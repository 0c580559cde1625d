"""python benchmarks/tflite_latency.py FILE.tflite ...: milliseconds per image of TFLite files, measured in turns.

Each round runs every file once, so that other load on the machine meets all alike; the minimum is what to compare.
"""

import argparse
import os
import time

import numpy as np


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE.tflite")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    runs = [prepare(file, options.threads) for file in options.files]
    times = np.empty((options.rounds + 2, len(runs)))
    for row in times:
        for index, run in enumerate(runs):
            began = time.perf_counter()
            run()
            row[index] = 1000 * (time.perf_counter() - began)
    times = times[2:]  # the first rounds also fill caches
    width = max(map(len, options.files))
    print(f"{'file':<{width}}  {'bytes':>11}  {'min ms':>7}  {'median':>7}  {'ratio':>5}")
    for file, column in zip(options.files, times.T, strict=True):
        ratio = column.min() / times[:, 0].min()
        size = os.path.getsize(file)
        print(f"{file:<{width}}  {size:>11,}  {column.min():>7.1f}  {np.median(column):>7.1f}  {ratio:>5.2f}")


def prepare(file, threads):
    """A file to a function without arguments that segments one random picture."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(file, num_threads=threads)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    picture = np.random.default_rng(0).integers(0, 256, source["shape"]).astype(source["dtype"])
    interpreter.set_tensor(source["index"], picture)
    return interpreter.invoke


if __name__ == "__main__":
    main()
