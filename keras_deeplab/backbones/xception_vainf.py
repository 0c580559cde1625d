"""Xception as VainF's DeepLab has it (DeepLabV3Plus-Pytorch, network/backbone/xception.py).

Chollet's Xception with its max-poolings, not the modified one of `xception.py`. What this source does and others don't:
the stem's convolutions are not padded; a block that loses its stride loses its pooling and is dilated as a whole, its
first convolution included; the last two convolutions pad by one position at whatever rate, so the map shrinks by 4
positions at output stride 16 and by 12 at 8; and the features are linear, the last convolution's output without batch
norm. This is no network at a coarser stride computed densely, so `keras_deeplab.atrous` doesn't make it.
"""

import keras

from keras_deeplab import layers
from keras_deeplab.blocks import ImageShape, batch_norm, conv_bn, depthwise_conv

# block, filters of its separable convolutions, place of the first of them in the source's `rep`, stride
TABLE = [
    ("block1", (128, 128), 0, 2),
    ("block2", (256, 256), 1, 2),
    ("block3", (728, 728), 1, 2),
    *((f"block{block}", (728, 728, 728), 1, 1) for block in range(4, 12)),
    ("block12", (728, 1024), 1, 2),
]
OUTPUT_STRIDES = (8, 16)


def xception_vainf(input_shape: ImageShape = (None, None, 3), output_stride: int = 16) -> keras.Model:
    """Normalised images, (B, H, W, C), to 2048 linear feature maps at stride 8 or 16: VainF's Xception.

    Args:
        input_shape: (height, width, channels); None for any height and width from 71 on (103 at output stride 8), as
            the last convolutions eat the border.
        output_stride: 8 or 16.

    Returns:
        A functional `keras.Model` named `xception_vainf`, dense already.

    Raises:
        ValueError: another output stride, or a given height or width that leaves no map.

    Example:

    >>> from keras_deeplab.backbones.xception_vainf import xception_vainf
    >>> xception_vainf((129, 161, 3), output_stride=16).output_shape
    (None, 4, 6, 2048)
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(
            f"xception_vainf has output stride 8 or 16; received {output_stride!r}. xception_41, xception_65 and "
            "xception_71 have 32, too."
        )
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(32, 3, 2, use_bias=False, name="conv1")(inputs)
    x = batch_norm(x, "conv1", "relu")
    x = keras.layers.Conv2D(64, 3, use_bias=False, name="conv2")(x)
    x = batch_norm(x, "conv2", "relu")
    reached, rate = 2, 1
    for block, filters, first, stride in TABLE:
        if reached == output_stride:
            rate, stride = rate * stride, 1
        reached *= stride
        x = _block(x, filters, first, stride, rate, name=block)
    x = _shrinking_conv(x, 1536, rate, name="conv3")
    x = batch_norm(x, "conv3_pointwise", "relu")
    x = _shrinking_conv(x, 2048, rate, name="conv4")
    return keras.Model(inputs, x, name="xception_vainf")


def _block(x, filters, first, stride, rate, name):
    """Separable convolutions, ReLU before each (but the network's first), then max-pooling; a shortcut where it fits.

    The output is linear, and so is what the shortcut passes on.
    """
    shortcut = x
    if stride > 1 or x.shape[-1] != filters[-1]:
        shortcut = conv_bn(x, filters[-1], strides=stride, activation=None, name=f"{name}_skip")
    for index, width in enumerate(filters):
        place = first + 3 * index
        if place > 0:
            x = keras.layers.Activation("relu", name=f"{name}_rep_{place - 1}")(x)
        x = depthwise_conv(x, dilation_rate=rate, name=f"{name}_rep_{place}_conv1")
        x = conv_bn(x, width, activation=None, name=f"{name}_rep_{place}_pointwise")
    if stride > 1:
        # Padded by one position in front at every size, and never with zeros, which could be the maximum of what no
        # ReLU has seen: at stride 1 "same" is just that, and every second position of it is the strided pooling.
        x = keras.layers.MaxPooling2D(3, 1, "same", name=f"{name}_maxpool")(x)
        x = keras.layers.MaxPooling2D(1, stride, name=f"{name}_maxpool_stride")(x)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


def _shrinking_conv(x, filters, rate, name):
    """Separable convolution without batch norm whose padding of one position ignores its dilation rate."""
    depthwise = layers.DilatedDepthwiseConv2D(
        3, padding=((1, 1), (1, 1)), dilation_rate=rate, use_bias=False, name=f"{name}_conv1"
    )
    return keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(depthwise(x))
