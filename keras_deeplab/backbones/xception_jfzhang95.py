"""Aligned Xception as jfzhang95's DeepLab has it (pytorch-deeplab-xception, modeling/backbone/xception.py).

Nearly the layers of `xception.xception_65`, and another network: ReLU stands behind every block, so the shortcuts pass
on rectified features; the exit's three separable convolutions have none between their halves; batch norm's epsilon is
1e-5. The shortcuts' ReLU isn't written down in the source: the first layer of a block there is a ReLU that works in
place, on the block's input.

At output stride 8 or 16 the source's `block20` runs its last convolution, whose stride is gone, undilated
(`contracted` of `keras_deeplab.atrous`).
"""

import keras

from keras_deeplab.backbones.fixed_padding import conv_bn, depthwise_bn
from keras_deeplab.blocks import ImageShape

# block, filters of its separable convolutions, place of the first of them in the source's `rep`, shortcut, stride of
# the last of them
TABLE = [
    ("block1", (128, 128, 128), 0, "conv", 2),
    ("block2", (256, 256, 256), 0, "conv", 2),
    ("block3", (728, 728, 728), 1, "conv", 2),
    *((f"block{block}", (728, 728, 728), 1, "sum", 1) for block in range(4, 20)),
    ("block20", (728, 1024, 1024), 1, "conv", 2),
]
EXIT = [("conv3", 1536), ("conv4", 1536), ("conv5", 2048)]


def xception_jfzhang95(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Normalised images, (B, H, W, C), to 2048 feature maps at stride 32: jfzhang95's Xception.

    The source itself has output strides 8 and 16 only.

    Returns:
        A functional `keras.Model` named `xception_jfzhang95`.

    Example:

    >>> from keras_deeplab.backbones.xception_jfzhang95 import xception_jfzhang95
    >>> xception_jfzhang95((128, 161, 3)).output_shape
    (None, 4, 6, 2048)
    """
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, 32, 3, strides=2, name="conv1")
    x = conv_bn(x, 64, 3, name="conv2")
    for block, filters, first, shortcut, stride in TABLE:
        x = _block(x, filters, first, shortcut, stride, name=block)
    for name, width in EXIT:
        x = depthwise_bn(x, activation=None, name=f"{name}_conv1")
        x = conv_bn(x, width, name=f"{name}_pointwise")
    return keras.Model(inputs, x, name="xception_jfzhang95")


def _block(x, filters, first, shortcut, stride, name):
    """Rectified features to rectified features: three separable convolutions with ReLU between them, and a shortcut."""
    inputs = x
    for index, width in enumerate(filters):
        place = first + 3 * index
        if index > 0:
            x = keras.layers.Activation("relu", name=f"{name}_rep_{place - 1}")(x)
        last = index == len(filters) - 1
        x = depthwise_bn(x, strides=stride if last else 1, activation=None, name=f"{name}_rep_{place}_conv1")
        x = conv_bn(x, width, activation=None, name=f"{name}_rep_{place}_pointwise")
    if shortcut == "conv":
        inputs = conv_bn(inputs, filters[-1], strides=stride, activation=None, name=f"{name}_skip")
    x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)
