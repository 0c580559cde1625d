"""ResNet and ResNeXt with squeeze and excitation as timm has them: torchvision's networks, a gate ends each branch.

The gate's first convolution has a sixteenth of the channels, rounded to multiples of 8. Layers have timm's names, a
full stop being an underscore here. The authors' own networks are in `se_resnet`.
"""

from functools import partial
from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding, resnet
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.blocks import ImageShape

# name: layers, groups and filters of a group in the first stage
TABLE: dict[str, tuple[int, int, int]] = {
    **{f"seresnet{layers}": (layers, 1, 64) for layers in resnet.TABLE},
    "seresnext50_32x4d": (50, 32, 4),
    "seresnext101_32x4d": (101, 32, 4),
    "seresnext101_32x8d": (101, 32, 8),
    "seresnext101_64x4d": (101, 64, 4),
}
REDUCTION, DIVISOR = 16, 8


def se_resnet_timm(name: str, input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 (18 and 34 layers) or 2048 feature maps at stride 32.

    Args:
        name: a key of `TABLE`.
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` of that name.

    Source: timm/models/resnet.py in huggingface/pytorch-image-models.

    >>> from keras_deeplab.backbones.se_resnet_timm import se_resnet_timm
    >>> se_resnet_timm("seresnet18", (64, 64, 3)).output_shape
    (None, 2, 2, 512)
    """
    layers, groups, width = TABLE[name]
    inputs = keras.Input(input_shape)
    x = resnet.stem(inputs)
    for stage, (filters, first_stride) in enumerate(resnet.STAGES, start=1):
        for index in range(resnet.TABLE[layers][stage - 1]):
            settings: dict[str, Any] = {"strides": first_stride if index == 0 else 1, "name": f"layer{stage}_{index}"}
            if layers < 50:
                x = _basic_unit(x, filters, **settings)
            else:
                x = _bottleneck_unit(x, filters, groups, filters * width // 64 * groups, **settings)
    return keras.Model(inputs, x, name=name)


def _basic_unit(x, filters, *, strides, name):
    beside = resnet.shortcut(x, filters, strides, name)
    x = resnet.conv3x3(x, filters, strides=strides, name=f"{name}_conv1")
    x = resnet.conv3x3(x, filters, activation=None, name=f"{name}_conv2")
    return resnet.join(gated(x, name), beside, name)


def _bottleneck_unit(x, filters, groups, inner, *, strides, name):
    outer = resnet.EXPANSION * filters
    beside = resnet.shortcut(x, outer, strides, name)
    x = blocks.conv_bn(x, inner, name=f"{name}_conv1")
    x = fixed_padding.conv_bn(x, inner, 3, strides=strides, groups=groups, name=f"{name}_conv2")
    x = blocks.conv_bn(x, outer, activation=None, name=f"{name}_conv3")
    return resnet.join(gated(x, name), beside, name)


def gated(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """A branch times the gate that ends it in timm's networks."""
    names = {"squeeze": f"{name}_se_fc1", "excite": f"{name}_se_fc2", "name": f"{name}_se"}
    return blocks.squeeze_excite(x, rounded(x.shape[-1] / REDUCTION, DIVISOR), **names)


# registry key -> builder
BUILDERS = {name: partial(se_resnet_timm, name) for name in TABLE}
