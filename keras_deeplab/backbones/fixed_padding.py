"""Strided convolutions whose padding doesn't depend on the input's size.

TensorFlow's `"same"` at stride 2 pads in front of odd sizes only, so the grid moves by a pixel with the input's size.
slim's `conv2d_same` and its relatives pad as much in front as behind, at every size, which is what keeps the grid of a
network in place when `keras_deeplab.atrous` takes its strides away.
"""

from typing import Any

import keras

from keras_deeplab import blocks


def conv_bn(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int = 1,
    *,
    name: str,
    strides: int = 1,
    activation: str | None = "relu",
    epsilon: float = 1e-5,
    groups: int = 1,
) -> keras.KerasTensor:
    """`blocks.conv_bn`, padded by `kernel_size // 2` on all sides at every stride (odd kernels)."""
    if strides == 1 or kernel_size == 1:
        settings: dict[str, Any] = {"activation": activation, "epsilon": epsilon, "groups": groups}
        return blocks.conv_bn(x, filters, kernel_size, name=name, strides=strides, **settings)
    x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    convolution = blocks.convolution_of(groups)
    x = convolution(filters, kernel_size, strides, groups=groups, use_bias=False, name=name)(x)
    return blocks.batch_norm(x, name, activation, epsilon)


def depthwise_bn(
    x: keras.KerasTensor,
    kernel_size: int = 3,
    *,
    name: str,
    strides: int = 1,
    activation: str | None = "relu",
    epsilon: float = 1e-5,
) -> keras.KerasTensor:
    """`blocks.depthwise_bn`, padded by `kernel_size // 2` on all sides at every stride (odd kernels)."""
    if strides == 1:
        return blocks.depthwise_bn(x, kernel_size, name=name, activation=activation, epsilon=epsilon)
    x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = keras.layers.DepthwiseConv2D(kernel_size, strides, use_bias=False, name=name)(x)
    return blocks.batch_norm(x, name, activation, epsilon)
