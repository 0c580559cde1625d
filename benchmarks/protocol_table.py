#!/usr/bin/env python3
"""Mean IoU of a checkpoint by output stride, scales and dense CRF, of the same images in every cell, as a table.

The same figures come from `keras-deeplab evaluate` a cell at a time; here the CRF starts from probabilities that are
there already, so that each network runs once.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from keras_deeplab import data, dense_crf, predictor
from keras_deeplab.data import pipeline
from keras_deeplab.inference.evaluation import matrix_of
from keras_deeplab.inference.protocols import SIX_SCALES
from keras_deeplab.options import read_size

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("checkpoint")
parser.add_argument("data")
parser.add_argument("--limit", type=int, default=20)
parser.add_argument("--input-size", type=read_size, default=513)
parser.add_argument("--strides", type=int, nargs="+", default=[16, 8])
parser.add_argument("--crf", default="v2_resnet101", help="its parameters; empty for none")
options = parser.parse_args()

source = data.load(options.data, split="val")
views = {"one scale": {}, "six scales, mirrored": {"scales": SIX_SCALES, "flip": True}}
rows = {
    (stride, name): predictor(options.checkpoint, options.input_size, stride, **settings)
    for stride in options.strides
    for name, settings in views.items()
}
cells = {
    (row, crf): matrix_of(None, source.classes_spec, source.num_classes, None, source.name)[0]
    for row in rows
    for crf in (False, True)[: 1 + bool(options.crf)]
}
seconds = dict.fromkeys(cells, 0.0)
for number, sample in enumerate(pipeline.evaluation(source, options.limit).as_numpy_iterator(), 1):
    for row, predict in rows.items():
        begun = time.perf_counter()
        found = predict.probabilities(sample["image"])
        for crf in (False, True)[: 1 + bool(options.crf)]:
            if crf:
                found = dense_crf(sample["image"], found, options.crf)
            seconds[row, crf] += time.perf_counter() - begun
            cells[row, crf].update(sample["label"], found.argmax(-1))
    print(f"{number} images", file=sys.stderr, flush=True)

print(f"{options.limit} images of {source.name}, padded to {options.input_size}")
print("| output stride | image | CRF | mIoU | pixel accuracy | seconds an image |\n|---|---|---|---|---|---|")
for ((stride, name), crf), matrix in cells.items():
    time_each = seconds[(stride, name), crf] / options.limit
    told = options.crf if crf else "-"
    print(f"| {stride} | {name} | {told} | {matrix.mean_iou:.4f} | {matrix.pixel_accuracy:.4f} | {time_each:.2f} |")
