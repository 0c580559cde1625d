"""Print what exported files take in each program that runs them and is installed, with one thread and with several.

    python benchmarks/runtimes.py FILE.tflite FILE.onnx ... [--threads 1 2] [--rounds 7] [--image PHOTOGRAPH]

Labels are compared first, with those of the file's first program. Then all run by turns, so that other load meets all
alike; where there is much of it, the processor's milliseconds say more than the clock's.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from keras_deeplab.data.images import read_image
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.runtimes import installed


def clocked(run, *arguments, **options):
    began = time.perf_counter(), time.process_time()
    result = run(*arguments, **options)
    return result, (time.perf_counter() - began[0], time.process_time() - began[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--image", help="a photograph; by default large squares")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; ms by the clock (of a processor), medians of {options.rounds} rounds")
    for file in options.files:
        runs, first = {}, {}
        for program in installed(file):
            for threads in options.threads:
                predict, opening = clocked(predictor, file, runtime=program, num_threads=threads)
                height, width = predict.input_size or (513, 513)
                image = picture(options.image, height, width)
                labels, running = clocked(predict, image)
                runs[program, threads] = predict
                first[program, threads] = labels, np.add(opening, running)
        seconds = {each: [] for each in runs}
        for _ in range(options.rounds):
            for each, predict in runs.items():
                seconds[each].append(clocked(predict, image)[1])
        reference = next(iter(first.values()))[0]
        for (program, threads), rows in seconds.items():
            labels, (wall, processor) = first[program, threads]
            clock, used = 1000 * np.median(rows, 0)
            equal = 100 * (labels == reference).mean()
            print(
                f"{Path(file).name:<28} {program:<11} {threads} threads {clock:>7.1f} ({used:>6.1f})  opened and first "
                f"image {wall:>5.2f} s ({processor:.2f})  {equal:.3f} % equal, {len(np.unique(labels))} labels",
                flush=True,
            )
    print(f"load {os.getloadavg()[0]:.1f}")


def picture(path, height, width):
    if path is None:
        small = np.random.default_rng(0).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
        return np.kron(small, np.ones((16, 16, 1), np.uint8))[:height, :width]
    image, found = read_image(path)[:height, :width], np.full((height, width, 3), 128, np.uint8)
    found[: image.shape[0], : image.shape[1]] = image
    return found


if __name__ == "__main__":
    main()
