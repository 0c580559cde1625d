"""Trains a DeepLabV3+ on MobileNetV2 on a data set, so that what int8 costs can be measured on a network of one's own.

    python benchmarks/int8_idd.py NETWORK DATA BACKBONE_WEIGHTS RUN_DIR [--steps 600]

NETWORK is `tf` (research/deeplab's form) or `vainf` (VainF/DeepLabV3Plus-Pytorch's, whose int8 files another team's
deployment took from 71.1 to 3.6). DATA is a folder of photographs and masks, BACKBONE_WEIGHTS those of
keras.applications.MobileNetV2 without its top. The best model is left as RUN_DIR/best.keras, to be exported with

    keras-deeplab export-tflite RUN_DIR/best.keras OUT.tflite --precision int8 --input-size 256x320 --calibration DATA

The same command continues a run that was stopped.
"""

import argparse

import keras

import keras_deeplab
from keras_deeplab import data

CROP = (225, 321)


def network(form, num_classes, backbone_weights):
    """The DeepLabV3+ of a form, its backbone with ImageNet weights."""
    ours = keras_deeplab.DeepLabV3Plus("mobilenet_v2", num_classes=num_classes, backbone_weights=backbone_weights)
    if form == "tf":
        return ours
    theirs = keras_deeplab.DeepLabV3Plus("mobilenet_v2_vainf", num_classes=num_classes, flavour="vainf")
    # The same network but for its padding and epsilon, so those weights are a start for it too, though no exact one.
    for layer in theirs.layers:
        if layer.weights and layer.name.startswith(("Conv1", "expanded_conv", "block_")):
            layer.set_weights(ours.get_layer(layer.name).get_weights())
    return theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["tf", "vainf"])
    parser.add_argument("data")
    parser.add_argument("backbone_weights")
    parser.add_argument("run_dir")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    train, val = (data.load(options.data, split=split) for split in ("train", "val"))
    keras.utils.set_random_seed(0)
    result = keras_deeplab.train(
        network(options.network, train.num_classes, options.backbone_weights),
        train,
        options.run_dir,
        steps=options.steps,
        crop_size=CROP,
        batch_size=8,
        optimizer="adamw",
        learning_rate=0.0008,
        warmup_steps=50,
        scale_range=(0.75, 1.5),
        scale_step=0.25,
        validation=val,
        validation_every=options.steps // 3,
        checkpoint_every=50,
    )
    print(f"best: mIoU {result['best']['mean_iou']:.4f} at step {result['best']['step']}: {result['best_model']}")


if __name__ == "__main__":
    main()
