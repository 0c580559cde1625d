"""Trains on a data set with batches of 1, 2, 4 and 8, by the statistics of each batch and as the trainer does by
itself, and prints a line with the validation's scores for each.

    python benchmarks/small_batches.py DATA --backbone-weights FILE --crop-size 64x96 --steps 240
"""

import argparse
import tempfile
import time

import keras

import keras_deeplab
from keras_deeplab import data
from keras_deeplab.options import read_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--backbone-weights")
    parser.add_argument("--crop-size", type=read_size, default=65)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--batch-sizes", default="1,2,4,8")
    parser.add_argument("--batch-norms", default="batch,default")
    parser.add_argument("--head-multiplier", type=float, default=10.0)
    arguments = parser.parse_args()
    source, validation = (data.load(arguments.data, split) for split in ("train", "val"))
    print("| batch | batch norm | training mIoU | validation mIoU | IoU of the last class | seconds |")
    print("|---|---|---|---|---|---|")
    for size in map(int, arguments.batch_sizes.split(",")):
        for kind in arguments.batch_norms.split(","):
            keras.utils.set_random_seed(0)
            model = keras_deeplab.DeepLabV3Plus(
                arguments.backbone, num_classes=source.num_classes, backbone_weights=arguments.backbone_weights
            )
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                result = keras_deeplab.train(
                    model,
                    source,
                    folder,
                    validation=validation,
                    steps=arguments.steps,
                    batch_size=size,
                    crop_size=arguments.crop_size,
                    batch_norm=None if kind == "default" else kind,
                    head_multiplier=arguments.head_multiplier,
                    validation_every=arguments.steps,
                    progress=False,
                    log=lambda line: None,
                )
            last = result["history"][-1]
            print(
                f"| {size} | {kind} | {last['mean_iou']:.3f} | {last['validation_mean_iou']:.3f} | "
                f"{last['validation_iou'][-1]:.3f} | {time.monotonic() - began:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
