"""Print what the page about a model costs beyond the model's own time, and how large it is.

    python benchmarks/report_cost.py DATA [--images 1449] [--side 513]

The images of a data set, repeated as often as it takes and resized to a square, are put to a stand-in for a model: it
gives the labels moved by some pixels, and probabilities of all classes. Its time is told apart. Where other programs
run beside it, the processor time says more than the clock.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from keras_deeplab import data
from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data.source import indexed
from keras_deeplab.inference.answers import Answer
from keras_deeplab.reports.model import write_model_report


def repeated(source, count, side):
    """A source of `count` square images, those of another over and over."""

    def sample(index):
        image, label, name = source.sample(index % len(source))
        if side:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            label = cv2.resize(label, (side, side), interpolation=cv2.INTER_NEAREST)
        return image, label, f"{name} {index // len(source)}"

    return indexed(source.name, source.classes_spec, count, sample, num_classes=source.num_classes)


class StandIn:
    """Answers in the order of a source, as a model would that is off by some pixels and errs in patches.

    Attributes:
        seconds: of processor that it took.
    """

    def __init__(self, source):
        self.source, self.count, self.seconds = source, 0, 0.0

    def answer(self, image):
        start = time.process_time()
        _, truth, _ = self.source.sample(self.count)
        rng = np.random.default_rng(self.count)
        labels = np.roll(np.where(truth == self.source.ignore_label, 0, truth), rng.integers(-4, 5, 2), (0, 1))
        for _ in range(6):
            top, left = rng.integers(0, [max(1, side - 40) for side in labels.shape])
            labels[top : top + 40, left : left + 40] = rng.integers(0, self.source.num_classes)
        classes = np.arange(self.source.num_classes, dtype=labels.dtype)
        sure = rng.uniform(0.4, 1.0, labels.shape).astype(np.float32)[..., None]
        probabilities = np.where(labels[..., None] == classes, sure, (1 - sure) / max(1, len(classes) - 1))
        self.count += 1
        self.seconds += time.process_time() - start
        return Answer(labels, probabilities, None, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=1449)
    parser.add_argument("--side", type=int, default=513, help="0 for the images' own sizes")
    settings = parser.parse_args()
    source = repeated(data.load(settings.data, split="val"), settings.images, settings.side)
    model = StandIn(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        clock, processor = time.perf_counter(), time.process_time()
        (found,) = write_model_report({"stand-in": model}, source, path)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        size = path.stat().st_size
    own = sum(found.seconds)
    print(f"{settings.images} images of {settings.side or 'their own sizes'}, {source.num_classes} classes")
    print(f"beyond the model: {clock - own:.0f} s by the clock, {processor - model.seconds:.0f} s of processor")
    print(f"the stand-in itself: {own:.0f} s by the clock, {model.seconds:.0f} s of processor")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"page: {size / 1e6:.2f} MB; memory at most {memory:.2f} GiB")


if __name__ == "__main__":
    main()
