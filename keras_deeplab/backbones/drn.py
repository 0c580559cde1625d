"""Dilated residual networks (Yu, Koltun and Funkhouser 2017; fyu/drn, drn.py).

These classifiers are dense from birth: their own stride is 8, and their dilations are part of the network, not what
`keras_deeplab.atrous` would give them. A is ResNet with two strides taken out; C has residual units instead of the
pooling and two stages of falling dilation at the end, which take away the grid that dilation leaves in the features; D
has plain convolutions there. Batch norm's epsilon is 1e-5.
"""

from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones.resnet import basic_unit, bottleneck_unit, conv3x3, stem
from keras_deeplab.blocks import ImageShape

# filters, stride, dilation rate of layer1 to layer8 of C and D (figure 5 of the paper)
LAYERS = [
    (16, 1, 1),
    (32, 2, 1),
    (64, 2, 1),
    (128, 2, 1),
    (256, 1, 2),
    (512, 1, 4),
    (512, 1, 2),
    (512, 1, 1),
]
# unit of layer3 to layer6, units or convolutions in layer1 to layer8
TABLE = {
    "drn_c_26": (basic_unit, (1, 1, 2, 2, 2, 2, 1, 1)),
    "drn_c_42": (basic_unit, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_c_58": (bottleneck_unit, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_d_22": (basic_unit, (1, 1, 2, 2, 2, 2, 1, 1)),
    "drn_d_24": (basic_unit, (1, 1, 2, 2, 2, 2, 2, 2)),
    "drn_d_38": (basic_unit, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_d_40": (basic_unit, (1, 1, 3, 4, 6, 3, 2, 2)),
    "drn_d_54": (bottleneck_unit, (1, 1, 3, 4, 6, 3, 1, 1)),
    "drn_d_56": (bottleneck_unit, (1, 1, 3, 4, 6, 3, 2, 2)),
    "drn_d_105": (bottleneck_unit, (1, 1, 3, 4, 23, 3, 1, 1)),
    "drn_d_107": (bottleneck_unit, (1, 1, 3, 4, 23, 3, 2, 2)),
}
# filters, units, stride, dilation rate of all units but the first in layer1 to layer4 of A-50
TABLE_A_50 = [
    (64, 3, 1, 1),
    (128, 4, 2, 1),
    (256, 6, 1, 2),
    (512, 3, 1, 4),
]


def drn_a_50(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 8: a `keras.Model` `drn_a_50`.

    ResNet-50's variables at other rates than `atrous(resnet50(), 8)`: the first unit of each dilated stage has rate 1,
    which is 2 in layer4 there.
    """
    inputs = keras.Input(input_shape)
    x = stem(inputs)
    for layer, (filters, units, stride, rate) in enumerate(TABLE_A_50, start=1):
        for unit in range(units):
            settings: dict[str, Any] = {"dilation_rate": rate} if unit else {"strides": stride}
            x = bottleneck_unit(x, filters, name=f"layer{layer}_{unit}", **settings)
    return keras.Model(inputs, x, name="drn_a_50")


def drn_c_26(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_c_26`.

    >>> from keras_deeplab.backbones.drn import drn_c_26
    >>> drn_c_26((64, 64, 3)).output_shape
    (None, 8, 8, 512)
    """
    return _drn("drn_c_26", input_shape)


def drn_c_42(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_c_42`."""
    return _drn("drn_c_42", input_shape)


def drn_c_58(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_c_58`.

    Published checkpoints hold one convolution more, `layer7.0.downsample`: the source makes it for a shortcut and
    never adds its result.
    """
    return _drn("drn_c_58", input_shape)


def drn_d_22(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_22`."""
    return _drn("drn_d_22", input_shape)


def drn_d_24(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_24`."""
    return _drn("drn_d_24", input_shape)


def drn_d_38(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_38`."""
    return _drn("drn_d_38", input_shape)


def drn_d_40(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_40`."""
    return _drn("drn_d_40", input_shape)


def drn_d_54(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_54`."""
    return _drn("drn_d_54", input_shape)


def drn_d_56(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_56`."""
    return _drn("drn_d_56", input_shape)


def drn_d_105(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_105`."""
    return _drn("drn_d_105", input_shape)


def drn_d_107(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 8: a `keras.Model` `drn_d_107`."""
    return _drn("drn_d_107", input_shape)


def _drn(name, input_shape):
    unit, counts = TABLE[name]
    plain = name.startswith("drn_d")
    inputs = keras.Input(input_shape)
    x = blocks.conv_bn(inputs, LAYERS[0][0], 7, name="layer0_0" if plain else "conv1")
    for layer, ((filters, stride, rate), count) in enumerate(zip(LAYERS, counts, strict=True), start=1):
        for index in range(count):
            settings = {"strides": stride if index == 0 else 1, "dilation_rate": rate}
            if 3 <= layer <= 6:
                x = unit(x, filters, name=f"layer{layer}_{index}", **settings)
            elif plain:
                x = conv3x3(x, filters, name=f"layer{layer}_{3 * index}", **settings)
            elif layer < 3:
                x = basic_unit(x, filters, name=f"layer{layer}_{index}", **settings)
            else:  # no shortcut: it would carry the grid past these convolutions
                x = conv3x3(x, filters, name=f"layer{layer}_{index}_conv1", **settings)
                x = conv3x3(x, filters, name=f"layer{layer}_{index}_conv2", **settings)
    return keras.Model(inputs, x, name=name)
