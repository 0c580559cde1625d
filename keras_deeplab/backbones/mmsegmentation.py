"""The networks of MMSegmentation that others have as well, and dilate otherwise.

A ResNet's unit of two 3x3 convolutions has its rate in the first of them alone, and a stage of MobileNetV2 in its first
block alone. They are torchvision's networks but for that.

Source: mmseg/models/backbones/resnet.py and mobilenet_v2.py.
"""

import keras

from keras_deeplab.backbones.mobilenet_v2 import TABLE as MOBILENET_TABLE
from keras_deeplab.backbones.mobilenet_v2 import inverted_residuals
from keras_deeplab.backbones.resnet import TABLE, basic_unit, stacked, stem
from keras_deeplab.blocks import ImageShape
from keras_deeplab.rewrite import UNDILATED


def resnet18_mmsegmentation(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: `resnet18` under another name.

    Args:
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` named `resnet18_mmsegmentation`.
    """
    return stacked(18, basic_unit, input_shape, 0, "resnet18_mmsegmentation", stem, {})


def resnet34_mmsegmentation(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: `resnet34` under another name."""
    return stacked(34, basic_unit, input_shape, 0, "resnet34_mmsegmentation", stem, {})


def mobilenet_v2_mmsegmentation(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 320 feature maps at stride 32: torchvision's MobileNetV2, less its last layer.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; filters are rounded to multiples of 8.

    Returns:
        A functional `keras.Model` named `mobilenet_v2_mmsegmentation`.
    """
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, inverted_residuals(inputs, alpha), name="mobilenet_v2_mmsegmentation")


def undilated_units(layers: int) -> dict[str, int]:
    """What `keras_deeplab.atrous` takes as `contracted` for a ResNet of units of two convolutions."""
    units = enumerate(TABLE[layers], start=1)
    return {f"layer{stage}_{unit}_conv2": UNDILATED for stage, count in units for unit in range(count)}


def undilated_blocks() -> dict[str, int]:
    """What `keras_deeplab.atrous` takes as `contracted` for MobileNetV2: all blocks but the first of each stage."""
    repeats = [first for _, _, count, _ in MOBILENET_TABLE for first in [True] + [False] * (count - 1)]
    return {f"block_{block}_depthwise": UNDILATED for block, first in enumerate(repeats) if not first}
