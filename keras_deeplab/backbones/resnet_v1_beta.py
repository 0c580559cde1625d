"""ResNet v1 "beta" of Google's DeepLab (research/deeplab/core/resnet_v1_beta.py).

ResNet v1 with three 3x3 convolutions as its stem, its strides in the last unit of a block and as much padding in front
of a strided convolution as behind. Batch norm's epsilon is 1e-5.
"""

import keras

from keras_deeplab.backbones.fixed_padding import conv_bn
from keras_deeplab.backbones.resnet import check_cascade_blocks
from keras_deeplab.blocks import ImageShape

# filters inside the block's units, out of them, number of units, stride of the last unit
TABLE_50 = [
    (64, 256, 3, 2),
    (128, 512, 4, 2),
    (256, 1024, 6, 2),
    (512, 2048, 3, 1),
]
TABLE_101 = [
    (64, 256, 3, 2),
    (128, 512, 4, 2),
    (256, 1024, 23, 2),
    (512, 2048, 3, 1),
]


def resnet_v1_50_beta(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 2048 feature maps at stride 32: a `keras.Model` `resnet_v1_50_beta`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        cascade_blocks: 0 to 3 replicas of the last block behind it, `block5` to `block7` (DeepLab v3, section 3.2).
            All blocks but the last then end with a stride of 2, so that the natural stride is 64, 128 or 256.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: `cascade_blocks` is none of 0, 1, 2 and 3.
    """
    return _resnet(TABLE_50, input_shape, cascade_blocks, "resnet_v1_50_beta")


def resnet_v1_101_beta(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 2048 feature maps at stride 32; see `resnet_v1_50_beta`."""
    return _resnet(TABLE_101, input_shape, cascade_blocks, "resnet_v1_101_beta")


def _resnet(table, input_shape, cascade_blocks, name):
    check_cascade_blocks(cascade_blocks)
    *blocks, last = table
    blocks += [(*last[:3], 2)] * cascade_blocks
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, 64, 3, strides=2, name="conv1_1")
    x = conv_bn(x, 64, 3, name="conv1_2")
    x = conv_bn(x, 128, 3, name="conv1_3")
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    for block, (inner, outer, units, last_stride) in enumerate([*blocks, last], start=1):
        for unit in range(1, units + 1):
            x = _unit(x, inner, outer, last_stride if unit == units else 1, name=f"block{block}_unit_{unit}")
    return keras.Model(inputs, x, name=name)


def _unit(x, inner, outer, stride, name):
    """A bottleneck with its stride in the 3x3 convolution; an identity shortcut takes every stride-th position."""
    if x.shape[-1] != outer:
        shortcut = conv_bn(x, outer, strides=stride, activation=None, name=f"{name}_shortcut")
    elif stride > 1:
        shortcut = keras.layers.MaxPooling2D(1, stride, name=f"{name}_shortcut")(x)
    else:
        shortcut = x
    x = conv_bn(x, inner, name=f"{name}_conv1")
    x = conv_bn(x, inner, 3, strides=stride, name=f"{name}_conv2")
    x = conv_bn(x, outer, activation=None, name=f"{name}_conv3")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)
