"""Print how fast the training pipeline is, and what it costs: images a second, and processor milliseconds an image.

    python benchmarks/input_pipeline.py [--images 400] [--folder DATA_SET]

Photographs of the sizes of IDD-Lite (320x227) and PASCAL VOC (500x375) are drawn and written to a temporary folder as
JPEG files with PNG masks; `--folder` measures one's own data set at a crop of 513 too.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data import pipeline, synthetic

BATCH_SIZE = 8


def write_photographs(root, count, height, width):
    """A folder data set of `count` drawn scenes, in JPEG files of about the bytes a photograph of the size has."""
    for folder in ("images", "masks", "splits"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        image, label = synthetic.draw(np.random.default_rng(number), height, width)
        cv2.imwrite(str(root / "images" / f"{number:04d}.jpg"), image[..., ::-1])
        cv2.imwrite(str(root / "masks" / f"{number:04d}.png"), label)
    (root / "splits" / "train.txt").write_text("\n".join(f"{number:04d}" for number in range(count)))
    (root / "classes.txt").write_text("\n".join(synthetic.CLASSES))
    size = sum(file.stat().st_size for file in (root / "images").iterdir()) / count
    print(f"{count} photographs of {width}x{height}, {size / 1024:.0f} KiB each")


def measure(title, source, crop_size, images):
    steps = images // BATCH_SIZE
    batches = iter(pipeline.training(source, batch_size=BATCH_SIZE, crop_size=crop_size))
    # The first batches start threads and fill the buffers, which must not count for either clock.
    for _ in range(5):
        next(batches)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(batches)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    count = steps * BATCH_SIZE
    print(f"{title:44} {count / wall:7.0f} images/s {1000 * processor / count:7.2f} processor ms an image", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=400, help="how many images to time in each row")
    parser.add_argument("--folder", help="a data set of one's own to time as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch, "small"), Path(scratch, "large")
        write_photographs(small, 200, 227, 320)
        write_photographs(large, 200, 375, 500)
        measure("320x227, crop 225x321", data.load(small), (225, 321), arguments.images)
        measure("500x375, crop 513x513", data.load(large), 513, arguments.images)
        measure("synthetic 128x128, crop 129x129", data.load("synthetic"), 129, arguments.images)
        if arguments.folder:
            measure(f"{arguments.folder}, crop 513x513", data.load(arguments.folder), 513, arguments.images)


if __name__ == "__main__":
    main()
