#!/usr/bin/env python3
"""Prints how far a model's exported files agree with it: share of equal labels and both mean IoUs, on real images.

    python benchmarks/export_agreement.py MODEL DATA --input-size 513 [--limit N]

Writes the SavedModel and the float32 TFLite file to a temporary folder; what `keras-deeplab export-tflite` says of the
other precisions is in docs/export.md.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.export.saved_model import export_saved_model
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.metrics import ConfusionMatrix


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--input-size", type=int, default=513)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()

    source = data.load(options.data, split=options.split)
    model = keras_deeplab.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        saved_model = export_saved_model(model, Path(folder) / "1")
        tflite = export_tflite(model, Path(folder) / "model.tflite", input_size=options.input_size).path
        predictors = {
            "Keras": predictor(model, options.input_size),
            "SavedModel": predictor(saved_model, options.input_size),
            "TFLite float32": predictor(tflite),
        }
        matrices = {name: ConfusionMatrix(source.num_classes, source.ignore_label) for name in predictors}
        equal, pixels, images = dict.fromkeys(predictors, 0), 0, 0
        for sample in source.dataset().take(options.limit or -1).as_numpy_iterator():
            # The same bytes for all: padded with 128 here, where Keras models would have 127.5, bytes can't be.
            padded = np.full((options.input_size, options.input_size, 3), 128, np.uint8)
            height, width = sample["label"].shape
            padded[:height, :width] = sample["image"]
            labels = {name: np.asarray(predict(padded))[:height, :width] for name, predict in predictors.items()}
            for name, prediction in labels.items():
                matrices[name].update(sample["label"], prediction)
                equal[name] += int((prediction == labels["Keras"]).sum())
            pixels += sample["label"].size
            images += 1
    print(f"{images} images, {pixels} pixels")
    for name, matrix in matrices.items():
        print(f"{name:15} mIoU {matrix.mean_iou:.4f}  equal labels {100 * equal[name] / pixels:.4f} %")


if __name__ == "__main__":
    main()
