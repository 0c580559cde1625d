"""Milliseconds of processor time that a polygon takes to become pixels: `python benchmarks/polygons.py`."""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from keras_deeplab.data.annotations.regions import Canvas, polygon

for size in ((60, 60), (640, 480)):
    ring = np.random.default_rng(0).uniform(0, size, (40, 2))
    times = []
    for _ in range(300):
        start = time.process_time()
        polygon(Canvas(480, 640), [ring])
        times.append(time.process_time() - start)
    print(f"40 points within {size[0]}x{size[1]} pixels: {1e3 * np.median(times):.2f} ms")
