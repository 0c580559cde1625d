"""ResNeSt (Zhang et al. 2020) as timm has it: bottlenecks whose 3x3 convolution has two parts that attention weighs.

A ResNet-D otherwise; a unit's stride is in a 3x3 mean behind that convolution. Layers have timm's names, a full stop
being an underscore here.
"""

from dataclasses import replace
from functools import partial

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import resnet
from keras_deeplab.backbones.resnet_timm import DEEP, WIDE, Form, convolution, padded_mean, staged
from keras_deeplab.blocks import ImageShape
from keras_deeplab.layers import ChannelSlice

TABLE = {
    "resnest14d": Form((1, 1, 1, 1), True, DEEP, True),
    "resnest26d": Form((2, 2, 2, 2), True, DEEP, True),
    "resnest50d": Form((3, 4, 6, 3), True, DEEP, True),
    "resnest101e": Form((3, 4, 23, 3), True, WIDE, True),
    "resnest200e": Form((3, 24, 36, 3), True, WIDE, True),
}
RADIX = 2


def resnest(name: str, input_shape: ImageShape = (None, None, 3), output_stride: int = 32) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at `output_stride`, 8, 16 or 32.

    Args:
        name: a key of `TABLE`.
        input_shape: (height, width, channels); None for any height and width.
        output_stride: 8, 16 or 32.

    Returns:
        A functional `keras.Model` of that name.

    Raises:
        ValueError: another output stride.

    Source: timm/models/resnest.py and timm/layers/split_attn.py in huggingface/pytorch-image-models.

    >>> from keras_deeplab.backbones.resnest import resnest
    >>> resnest("resnest14d", (64, 64, 3)).output_shape
    (None, 2, 2, 2048)
    """
    return staged(name, TABLE[name], _branch, input_shape, output_stride)


def _branch(x, place):
    x = blocks.conv_bn(x, place.filters, name=f"{place.name}_conv1")
    x = _split_attention(x, replace(place, strides=1), f"{place.name}_conv2")
    if place.strides > 1:
        x = padded_mean(x, place.strides, f"{place.name}_avd_last")
    return blocks.conv_bn(x, resnet.EXPANSION * place.filters, activation=None, name=f"{place.name}_conv3")


def _split_attention(x, place, name):
    """The sum of a grouped convolution's two halves, weighed channel by channel; the weights' softmax sums to one."""
    filters = place.filters
    x = convolution(x, RADIX * filters, place, f"{name}_conv", groups=RADIX)
    means = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    weights = _sum_of_parts(means, filters, f"{name}_mean")
    weights = blocks.conv_bn(weights, max(32, filters // 2), use_bias=True, name=f"{name}_fc1")
    weights = keras.layers.Conv2D(RADIX * filters, 1, name=f"{name}_fc2")(weights)
    weights = keras.layers.Reshape((1, RADIX, filters), name=f"{name}_parts")(weights)
    weights = keras.layers.Softmax(axis=2, name=f"{name}_rsoftmax")(weights)
    weights = keras.layers.Reshape((1, 1, RADIX * filters), name=f"{name}_weights")(weights)
    return _sum_of_parts(keras.layers.Multiply(name=f"{name}_weighed")([x, weights]), filters, name)


def _sum_of_parts(x, filters, name):
    parts = [ChannelSlice(filters * part, filters * (part + 1), name=f"{name}_part{part}")(x) for part in range(RADIX)]
    return keras.layers.Add(name=f"{name}_sum")(parts)


# registry key -> builder
BUILDERS = {name: partial(resnest, name) for name in TABLE}
