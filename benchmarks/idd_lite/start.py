"""Writes the start that both sides of the comparison have: MobileNetV2's ImageNet weights by Keras's layer names.

python benchmarks/idd_lite/start.py MOBILENET_V2_NOTOP.weights.h5 start.npz
"""

import argparse

import keras
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="of keras.applications.MobileNetV2 without its top")
    parser.add_argument("output")
    arguments = parser.parse_args()
    model = keras.applications.MobileNetV2(include_top=False, weights=None)
    model.load_weights(arguments.weights)
    found = {f"{layer.name}/{w.name}": w.numpy() for layer in model.layers for w in layer.weights}
    np.savez(arguments.output, **found)
    print(f"{len(found)} arrays in {arguments.output}")


if __name__ == "__main__":
    main()
