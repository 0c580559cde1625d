"""ResNeXt (Xie et al. 2017) as torchvision builds it: ResNet's bottlenecks, wider, with grouped 3x3 convolutions.

Layers have ResNet's names; batch norm's epsilon is 1e-5. A registry key tells depth, groups and the width of a group:
`resnext101_32x8d`.
"""

from functools import partial

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding, resnet
from keras_deeplab.blocks import ImageShape

# layers, groups, filters of a group in the first stage: those with published weights
VARIANTS = [(50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 32, 16), (101, 32, 32), (101, 32, 48), (101, 64, 4)]


def resnext(
    input_shape: ImageShape = (None, None, 3), layers: int = 50, groups: int = 32, group_width: int = 4
) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        layers: 50, 101 or 152.
        groups: of each 3x3 convolution.
        group_width: filters of a group in the first stage; each stage doubles them.

    Returns:
        A functional `keras.Model` named such as `resnext50_32x4d`.

    Source: `resnext50_32x4d` in torchvision/models/resnet.py.

    >>> from keras_deeplab.backbones.resnext import resnext
    >>> resnext((64, 64, 3)).name
    'resnext50_32x4d'
    """
    inputs = keras.Input(input_shape)
    x = resnet.stem(inputs)
    for stage, (filters, first_stride) in enumerate(resnet.STAGES, start=1):
        width = filters * group_width // 64 * groups
        for index in range(resnet.TABLE[layers][stage - 1]):
            strides = first_stride if index == 0 else 1
            x = _unit(x, filters, width, groups, strides, name=f"layer{stage}_{index}")
    return keras.Model(inputs, x, name=f"resnext{layers}_{groups}x{group_width}d")


def _unit(x, filters, width, groups, strides, name):
    shortcut = resnet.shortcut(x, resnet.EXPANSION * filters, strides, name)
    x = blocks.conv_bn(x, width, name=f"{name}_conv1")
    x = fixed_padding.conv_bn(x, width, 3, strides=strides, groups=groups, name=f"{name}_conv2")
    x = blocks.conv_bn(x, resnet.EXPANSION * filters, activation=None, name=f"{name}_conv3")
    return resnet.join(x, shortcut, name)


# registry key -> builder
BUILDERS = {
    f"resnext{layers}_{groups}x{width}d": partial(resnext, layers=layers, groups=groups, group_width=width)
    for layers, groups, width in VARIANTS
}
