#!/usr/bin/env python3
"""How long a dense CRF takes, what it needs of memory, and what else could run its filters.

    python benchmarks/crf.py                        # sizes: wall and processor seconds, peak memory
    python benchmarks/crf.py --mechanisms           # the filter by TensorFlow, SciPy, Numba and NumPy
    python benchmarks/crf.py --sizes 3000x4000 --repeat 1

Images are rectangles of random colours with noise, or --image FILE resized. The machine's load is printed, because wall
times on a busy machine say little. SciPy and Numba are only needed for their rows.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from keras_deeplab.inference.crf import DenseCRF, dense_crf
from keras_deeplab.inference.crf import lattice as lattice_module


def picture(height, width, file=None):
    """Uint8 (H, W, 3)."""
    if file is not None:
        from keras_deeplab._helpers.opencv import cv2

        found = cv2.imread(file)[..., ::-1]
        return np.ascontiguousarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA))
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 128)
    for _ in range(8):
        top, left = rng.integers(0, height), rng.integers(0, width)
        image[top : top + height // 3, left : left + width // 3] = rng.integers(20, 236, 3)
    return np.clip(image + rng.integers(-10, 11, image.shape), 0, 255).astype(np.uint8)


def beliefs(height, width, classes):
    rng = np.random.default_rng(1)
    found = np.exp(rng.standard_normal((height, width, classes), np.float32))
    found /= found.sum(-1, keepdims=True)
    return found


def timed(function, repeat):
    """Median and least wall seconds, median processor seconds."""
    walls, spent = [], []
    for _ in range(repeat):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        spent.append(time.process_time() - processor)
    return statistics.median(walls), min(walls), statistics.median(spent)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def one(given):
    """A size and set of parameters in this process, as a line of JSON."""
    height, width = (int(side) for side in given.sizes[0].split("x"))
    image, probabilities = picture(height, width, given.image), beliefs(height, width, given.classes)
    dense_crf(image[:9, :9], probabilities[:9, :9])  # TensorFlow's own start
    before = peak()
    dense_crf(image, probabilities, given.crf[0])
    memory = peak() - before
    wall, least, spent = timed(lambda: dense_crf(image, probabilities, given.crf[0]), given.repeat)
    made = timed(lambda: DenseCRF(image, given.crf[0]), given.repeat)[2]
    print(json.dumps([wall, least, spent, made, memory]))


def sizes(given):
    print(f"{given.classes} classes, 10 iterations, median of {given.repeat}")
    heads = ("wall s", "least", "CPU s", "lattices", "GiB", "load")
    print(f"{'size':<11}{'parameters':<17}" + "".join(f"{head:>9}" for head in heads))
    for size in given.sizes:
        for crf in given.crf:
            words = [sys.executable, __file__, "--one", "--sizes", size, "--crf", crf, "--repeat", str(given.repeat)]
            words += ["--classes", str(given.classes), *(["--image", given.image] if given.image else [])]
            printed = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
            figures = [*json.loads(printed.splitlines()[-1]), os.getloadavg()[0]]
            print(f"{size:<11}{crf:<17}" + "".join(f"{figure:9.2f}" for figure in figures), flush=True)


# What else could filter -------------------------------------------------------------------------------------------


def mechanisms(given):
    height, width = (int(side) for side in given.sizes[-1].split("x"))
    image = picture(height, width, given.image)
    features = np.concatenate(
        [
            np.indices((height, width), np.float32)[::-1].reshape(2, -1).T / 67,
            image.reshape(-1, 3).astype(np.float32) / 3,
        ],
        axis=1,
    )
    keys, shares, steps = lattice_module._simplices(features)
    corners, index = lattice_module.numbered(keys)
    neighbours = [lattice_module._neighbours(corners, step) for step in steps]
    values = beliefs(height, width, given.classes).reshape(-1, given.classes)
    print(f"{height}x{width}, {given.classes} classes, {len(corners)} corners, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<26}{'wall ms':>9}{'CPU ms':>9}")
    reference = None
    for name, make in MECHANISMS.items():
        try:
            function = make(index, shares, neighbours, values)
        except ImportError as error:
            print(f"{name:<26}{error}")
            continue
        found = np.asarray(function())
        reference = found if reference is None else reference
        assert np.abs(found - reference).max() < 1e-3 * np.abs(reference).max(), name
        wall, _, spent = timed(function, given.repeat)
        print(f"{name:<26}{1000 * wall:9.1f}{1000 * spent:9.1f}", flush=True)


def by_tensorflow(index, shares, neighbours, values):
    shape = (len(index), len(neighbours[0][0]))
    last = lattice_module._csr(index, shares, shape)
    chain = [lattice_module._transposed(last), *(lattice_module._blur(*both) for both in neighbours), last]

    def run():
        found = values
        for matrix in chain:
            found = lattice_module._product(matrix, found)
        return found

    return run


def by_segments(index, shares, neighbours, values):
    import tensorflow as tf

    size = len(neighbours[0][0])
    values, columns, weights = tf.constant(values), tf.constant(index), tf.constant(shares)
    corners = range(index.shape[1])

    def run():
        found = 0.0
        for at in corners:
            found += tf.math.unsorted_segment_sum(values * weights[:, at, None], columns[:, at], size)
        for before, after in neighbours:
            found += 0.5 * (tf.gather(found, before) + tf.gather(found, after))
        return sum(tf.gather(found, columns[:, at]) * weights[:, at, None] for at in corners)

    return run


def by_scipy(index, shares, neighbours, values):
    from scipy import sparse

    rows, count = index.shape
    bounds = np.arange(0, rows * count + 1, count)
    last = sparse.csr_array((shares.ravel(), index.ravel(), bounds), (rows, len(neighbours[0][0])))
    chain = [last.T]
    for before, after in neighbours:
        size = len(before)
        columns = np.stack([before, np.arange(size), after], 1).ravel()
        entries = np.tile(np.array([0.5, 1, 0.5], np.float32), size)
        chain.append(sparse.csr_array((entries, columns, np.arange(0, 3 * size + 1, 3)), (size, size)))
    chain.append(last)

    def run():
        found = values
        for matrix in chain:
            found = matrix @ found
        return found

    return run


def by_numba(index, shares, neighbours, values):
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def gathered(bounds, columns, entries, values, found):
        for row in numba.prange(len(bounds) - 1):
            for label in range(values.shape[1]):
                found[row, label] = 0
            for at in range(bounds[row], bounds[row + 1]):
                for label in range(values.shape[1]):
                    found[row, label] += entries[at] * values[columns[at], label]

    rows, count = index.shape
    size = len(neighbours[0][0])
    order = np.argsort(index.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(index.ravel(), minlength=size))
    chain = [(np.append(0, ends), (order // count).astype(np.int32), shares.ravel()[order], size)]
    for before, after in neighbours:
        columns = np.stack([before, np.arange(size), after], 1).ravel().astype(np.int32)
        entries = np.tile(np.array([0.5, 1, 0.5], np.float32), size)
        chain.append((np.arange(0, 3 * size + 1, 3), columns, entries, size))
    chain.append((np.arange(0, rows * count + 1, count), index.ravel(), shares.ravel(), rows))

    def run():
        found = values
        for bounds, columns, entries, height in chain:
            into = np.empty((height, values.shape[1]), np.float32)
            gathered(bounds, columns, entries, found, into)
            found = into
        return found

    started = time.perf_counter()
    run()
    print(f"{'  Numba compiles':<26}{1000 * (time.perf_counter() - started):9.1f}")
    return run


def by_numpy(index, shares, neighbours, values):
    size = len(neighbours[0][0])
    order = np.argsort(index.ravel(), kind="stable")
    pixels, entries = order // index.shape[1], shares.ravel()[order][:, None]
    starts = np.searchsorted(index.ravel()[order], np.arange(size - 1))

    def run():
        found = np.zeros((size, values.shape[1]), np.float32)
        found[:-1] = np.add.reduceat(values[pixels] * entries, starts, axis=0)
        for before, after in neighbours:
            found = found + np.float32(0.5) * (found[before] + found[after])
        return sum(found[index[:, corner]] * shares[:, corner, None] for corner in range(index.shape[1]))

    return run


MECHANISMS = {
    "TensorFlow, rows": by_tensorflow,
    "TensorFlow, segments": by_segments,
    "SciPy": by_scipy,
    "Numba, all cores": by_numba,
    "NumPy": by_numpy,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["241x321", "513x513"])
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--crf", nargs="+", default=["v1_largefov_121", "v2_vgg16", "v2_resnet101"])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--image")
    parser.add_argument("--mechanisms", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    one(given) if given.one else mechanisms(given) if given.mechanisms else sizes(given)


if __name__ == "__main__":
    main()
