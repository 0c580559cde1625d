"""python benchmarks/tflite_sizes.py CHECKPOINT DATASET: what an int8 file of three sizes loses to one of each size.

Prints the bytes of the file for 257x257, 321x513 and 513x513 and of one for each of the smaller two, and for those the
share of labels that equal the Keras model's, on every fourth photograph of DATASET's val split, scaled down to fit.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

SIZES = [(257, 257), (321, 513), (513, 513)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("dataset")
    options = parser.parse_args()

    import keras_deeplab
    from keras_deeplab import data
    from keras_deeplab.export.tflite import export_tflite
    from keras_deeplab.predict import predictor

    model = keras_deeplab.load(options.checkpoint)
    images = [
        sample["image"]
        for number, sample in enumerate(data.load(options.dataset, split="val").dataset().as_numpy_iterator())
        if number % 4 == 0
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"precision": "int8", "calibration": options.dataset}
        several = export_tflite(model, Path(folder) / "several.tflite", input_size=SIZES, **settings)
        print(f"three sizes: {several.bytes:,} bytes", flush=True)
        for size in SIZES[:2]:
            own = export_tflite(model, Path(folder) / "own.tflite", input_size=size, **settings)
            wanted = predictor(model, size)
            scaled = [fitted(image, size) for image in images]
            shares = [
                np.mean([np.mean(found(image) == wanted(image)) for image in scaled])
                for found in (predictor(several.path, size), predictor(own.path))
            ]
            print(
                f"{size[0]}x{size[1]}, {len(scaled)} images: {shares[0]:.3%} of the labels are equal; "
                f"of a file of its own, {own.bytes:,} bytes, {shares[1]:.3%}",
                flush=True,
            )


def fitted(image, size):
    from keras_deeplab._opencv import cv2

    scale = min(1, *(side / own for side, own in zip(size, image.shape, strict=False)))
    height, width = (int(side * scale) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
