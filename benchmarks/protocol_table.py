#!/usr/bin/env python3
"""Mean IoU of a checkpoint by output stride, scales and dense CRF, of the same images in every cell, as tables.

    python benchmarks/protocol_table.py CHECKPOINT DATA --limit 100 --every 20

The same figures come from `keras-deeplab evaluate` a cell at a time; here the CRF starts from probabilities that are
there already, so that each network runs once. A second table has the mean IoU near the borders of things (the papers'
trimap, around ignored pixels).

Behind several scales the CRF has two rows: on the averaged probabilities as they are, and "sharpened", raised to the
power that gives them the mean entropy of the same image's probabilities at one scale. No label is looked at for that.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from keras_deeplab import data, dense_crf, predictor
from keras_deeplab.data import pipeline
from keras_deeplab.inference.evaluation import matrix_of
from keras_deeplab.inference.protocols import SIX_SCALES
from keras_deeplab.metrics import TrimapCurve
from keras_deeplab.options import read_size

ONE, SIX = "one scale", "six scales, mirrored"
VIEWS = {ONE: {}, SIX: {"scales": SIX_SCALES, "flip": True}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--input-size", type=read_size, default=513)
    parser.add_argument("--strides", type=int, nargs="+", default=[16, 8])
    parser.add_argument("--crf", default="v2_resnet101", help="its parameters; empty for none")
    parser.add_argument("--every", type=int, help="print the tables so far after so many images")
    options = parser.parse_args()

    source = data.load(options.data, split="val")
    networks = {
        (stride, view): predictor(options.checkpoint, options.input_size, stride, **settings)
        for stride in options.strides
        for view, settings in VIEWS.items()
    }
    cells = {}
    for number, sample in enumerate(pipeline.evaluation(source, options.limit).as_numpy_iterator(), 1):
        image, label = sample["image"], sample["label"]
        for stride in options.strides:
            found = {}
            for view in VIEWS:
                begun = time.perf_counter()
                found[view] = networks[stride, view].probabilities(image)
                seconds = time.perf_counter() - begun
                count(cells, source, (stride, view, "-"), label, found[view], seconds)
                for name, beliefs in beginnings(view, found) if options.crf else ():
                    begun = time.perf_counter()
                    marginals = dense_crf(image, beliefs, options.crf)
                    row = (stride, view, f"{options.crf}{name}")
                    count(cells, source, row, label, marginals, seconds + time.perf_counter() - begun)
        if options.every and number % options.every == 0:
            show(cells, number, source, options)
    show(cells, number, source, options)


def beginnings(view, found):
    """Each way the CRF begins behind a view: what its row is called, and probabilities (H, W, C)."""
    yield "", found[view]
    if view != ONE:
        yield ", sharpened", sharpened(found[view], entropy(found[ONE]))


def entropy(beliefs):
    """The mean over pixels of the entropy of probabilities (H, W, C), in nats."""
    floor = np.maximum(beliefs, 1e-12)
    return float(-(floor * np.log(floor)).sum(-1).mean())


def sharpened(beliefs, aim):
    """Probabilities raised to the power that gives them the mean entropy `aim`, float32 (H, W, C)."""
    logs = np.log(np.maximum(beliefs, 1e-12))

    def raised(power):
        values = np.exp(power * (logs - logs.max(-1, keepdims=True)))
        return values / values.sum(-1, keepdims=True)

    low, high = 0.25, 16.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if entropy(raised(middle)) > aim else (low, middle)
    return raised((low * high) ** 0.5).astype(np.float32)


def count(cells, source, row, label, beliefs, seconds):
    if row not in cells:
        matrix = matrix_of(None, source.classes_spec, source.num_classes, None, source.name)[0]
        cells[row] = [matrix, TrimapCurve(source.num_classes, around="ignored"), 0.0]
    labels = beliefs.argmax(-1)
    cells[row][0].update(label, labels)
    cells[row][1].update(label, labels)
    cells[row][2] += seconds


def show(cells, number, source, options):
    print(f"{number} images of {source.name}, padded to {options.input_size}")
    print("| output stride | image | CRF | mIoU | pixel accuracy | seconds an image |\n|---|---|---|---|---|---|")
    for (stride, view, crf), (matrix, _, seconds) in cells.items():
        scores = f"{matrix.mean_iou:.4f} | {matrix.pixel_accuracy:.4f}"
        print(f"| {stride} | {view} | {crf} | {scores} | {seconds / number:.2f} |")
    widths = next(iter(cells.values()))[1].widths
    print(f"\n| output stride | image | CRF | {' | '.join(f'within {width}' for width in widths)} |")
    print("|---" * (3 + len(widths)) + "|")
    for (stride, view, crf), (_, curve, _) in cells.items():
        print(f"| {stride} | {view} | {crf} | {' | '.join(f'{value:.4f}' for value in curve.mean_iou)} |")
    print(flush=True)


if __name__ == "__main__":
    main()
