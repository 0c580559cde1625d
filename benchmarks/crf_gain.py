#!/usr/bin/env python3
"""What a dense CRF gains behind a model: mean IoU without and with it, at published parameters or others.

    python benchmarks/crf_gain.py MODEL DATA --limit 60

The model runs once an image. Each row is one set of parameters: a published name, numbers, or a file of tune-crf. Those
that were searched on the first images are judged on others by `--skip`.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.data import pipeline
from keras_deeplab.inference.crf import PARAMETERS, parameters, search
from keras_deeplab.inference.evaluation import matrix_of


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--skip", type=int, default=0, help="images to leave out before")
    parser.add_argument("--input-size", type=int, default=513)
    parser.add_argument("--output-stride", type=int)
    parser.add_argument("--scales", default="1")
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--crf", nargs="+", default=list(PARAMETERS))
    parser.add_argument("--every", type=int, help="print the table so far after so many images")
    given = parser.parse_args()
    scales = tuple(float(scale) for scale in given.scales.split(","))
    predict = keras_deeplab.predictor(
        given.model, given.input_size, given.output_stride, scales=scales, flip=given.flip
    )
    source = data.load(given.data, split=given.split)
    limit = None if given.limit is None else given.skip + given.limit
    samples = (
        {"image": sample["image"], "label": sample["label"], "name": sample["name"].decode()}
        for sample in pipeline.evaluation(source, limit).skip(given.skip).as_numpy_iterator()
    )
    candidates = [None, *map(parameters, given.crf)]

    def matrix():
        return matrix_of(predict.spec, source.classes_spec, source.num_classes, None, source.name)[0]

    def table(done, matrices, seconds):
        print(f"{done} images of {source.name} behind the first {given.skip}, scales {given.scales}, flip {given.flip}")
        print(f"{'parameters':<20}{'':<18}{'mean IoU':>9}{'gain':>8}{'pixels right':>14}")
        for name, candidate, found in zip(["none", *given.crf], candidates, matrices, strict=True):
            text = "" if candidate is None else candidate.text()
            gain = 100 * (found.mean_iou - matrices[0].mean_iou)
            print(f"{name:<20}{text:<18}{100 * found.mean_iou:9.2f}{gain:+8.2f}{100 * found.pixel_accuracy:14.2f}")
        print(f"{seconds / (done * len(given.crf)):.2f} s of processor time an image and set of parameters", flush=True)

    matrices, seconds, done = [matrix() for _ in candidates], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for sample in samples:
            stored = search.gathered([sample], predict.probabilities, folder)
            before = time.process_time()
            found = search.scored(stored, candidates, matrix)
            seconds += time.process_time() - before
            matrices, done = [one + other for one, other in zip(matrices, found, strict=True)], done + 1
            if given.every and done % given.every == 0:
                table(done, matrices, seconds)
    table(done, matrices, seconds)


if __name__ == "__main__":
    main()
