"""python benchmarks/tflite_sizes.py CHECKPOINT DATASET: what an int8 file of three sizes loses to one of each size.

Prints the bytes of the file for 257x257, 321x513 and 513x513 and of one for each of the smaller two. Then both are
compared with the Keras model at these on DATASET's val split, its photographs scaled down to fit.
"""

import argparse
import tempfile
from pathlib import Path

SIZES = [(257, 257), (321, 513), (513, 513)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("dataset")
    options = parser.parse_args()

    import keras_deeplab
    from keras_deeplab import data
    from keras_deeplab.export import compare
    from keras_deeplab.export.tflite import export_tflite

    model = keras_deeplab.load(options.checkpoint)
    source = data.load(options.dataset, split="val")
    with tempfile.TemporaryDirectory() as folder:
        settings = {"precision": "int8", "calibration": options.dataset}
        several = export_tflite(model, Path(folder) / "several.tflite", input_size=SIZES, **settings)
        for size in SIZES[:2]:
            own = export_tflite(model, Path(folder) / "own.tflite", input_size=size, **settings)
            pair = {"of three sizes": several.path, "of its own": own.path}
            found = compare.verify_all(pair.values(), model, source, input_size=size, sizes=SIZES, progress=False)
            for name, result in zip(pair, found, strict=True):
                print(f"{size[0]}x{size[1]}, file {name}: {result}", flush=True)


if __name__ == "__main__":
    main()
