"""MediaPipe Tasks' category masks beside the labels of LiteRT, on photographs, and the names of the classes.

    python benchmarks/mediapipe_masks.py MODEL DATA --python PYTHON

Writes two files of the model at each precision, the usual one of labels and that of `--for mediapipe`, pads the
photographs of the data set's val split to the files' size, and runs the one in LiteRT and the other in MediaPipe, which
needs `pip install mediapipe` in the interpreter PYTHON and nothing of this package.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.export.tflite import export_tflite
from keras_deeplab.inference.predictor import predictor

PADDING = 128


def padded(image, size):
    canvas = np.full((*size, 3), PADDING, np.uint8)
    image = image[: size[0], : size[1]]
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--python", required=True, help="interpreter that has mediapipe")
    parser.add_argument("--limit", type=int, default=100, help="photographs")
    parser.add_argument("--input-size", type=int, default=513)
    parser.add_argument("--precisions", default="float32,float16")
    arguments = parser.parse_args()
    model, source = keras_deeplab.load(arguments.model), data.load(arguments.data, split="val")
    size = (arguments.input_size,) * 2
    samples = source.dataset().take(arguments.limit).as_numpy_iterator()
    images = {str(index): padded(sample["image"], size) for index, sample in enumerate(samples)}
    reader = Path(__file__).with_name("mediapipe_reader.py")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        np.savez(folder / "images.npz", **images)
        for precision in arguments.precisions.split(","):
            settings = {"precision": precision, "input_size": size, "classes": source.classes}
            usual = export_tflite(model, folder / f"{precision}-labels.tflite", **settings)
            scores = export_tflite(model, folder / f"{precision}.tflite", target="mediapipe", **settings)
            command = [arguments.python, reader, folder / "images.npz", folder, scores.path, usual.path, "--masks"]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            label = predictor(usual.path)
            with np.load(folder / f"{precision}.npz") as found:
                names = found["labels"].tolist()
                other = sum(int((label(image) != found[f"mask {key}"]).sum()) for key, image in images.items())
            with np.load(folder / f"{precision}-labels.npz") as found:
                refused = "error" in found.files
            pixels = len(images) * size[0] * size[1]
            print(
                f"{precision}: {len(images)} photographs, {other} of {pixels:,} pixels differ, "
                f"{100 * (1 - other / pixels):.4f} % equal; {len(names)} names: {', '.join(names[:3])}, ...; "
                f"the file of labels is {'refused' if refused else 'OPENED'}"
            )


if __name__ == "__main__":
    main()
