"""ResNet, ResNeXt and SENet 154 with squeeze and excitation (Hu et al. 2018), as the authors' Caffe networks are.

SE-ResNet has the stride of a stage in the first 1x1 convolution of its first unit, the others in the 3x3 one; the
pooling isn't padded in front and rounds sizes up. Batch norm's epsilon is 1e-5. Layers have the names of
pretrained-models.pytorch, which segmentation_models.pytorch has them from.
"""

from functools import partial
from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding, resnet
from keras_deeplab.blocks import ImageShape

# name: layers, groups, filters of a unit's 1x1 and 3x3 convolution in the first stage, where its stride is (the number
# of the convolution), size of the shortcut's kernel where it has a stride, filters of the stem's 3x3 convolutions (one
# 7x7 without)
TABLE: dict[str, tuple[int, int, tuple[int, int], int, int, tuple[int, ...]]] = {
    "se_resnet50": (50, 1, (64, 64), 1, 1, ()),
    "se_resnet101": (101, 1, (64, 64), 1, 1, ()),
    "se_resnet152": (152, 1, (64, 64), 1, 1, ()),
    "se_resnext50_32x4d": (50, 32, (128, 128), 2, 1, ()),
    "se_resnext101_32x4d": (101, 32, (128, 128), 2, 1, ()),
    "senet154": (152, 64, (128, 256), 2, 3, (64, 64, 128)),
}
REDUCTION = 16


def se_resnet(name: str, input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32.

    Args:
        name: a key of `TABLE`.
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` of that name.

    Source: pretrainedmodels/models/senet.py in Cadene/pretrained-models.pytorch.

    >>> from keras_deeplab.backbones.se_resnet import se_resnet
    >>> se_resnet("se_resnet50", (64, 64, 3)).output_shape
    (None, 2, 2, 2048)
    """
    layers, groups, widths, place, shortcut_size, stem = TABLE[name]
    inputs = keras.Input(input_shape)
    if stem:
        x = fixed_padding.conv_bn(inputs, stem[0], 3, strides=2, name="layer0_conv1")
        x = blocks.conv_bn(x, stem[1], 3, name="layer0_conv2")
        x = blocks.conv_bn(x, stem[2], 3, name="layer0_conv3")
    else:
        x = fixed_padding.conv_bn(inputs, 64, 7, strides=2, name="layer0_conv1")
    # One row behind is what rounding up reads where the size is even; where it is odd, no window reaches it.
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="layer0_pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="layer0_pool")(x)
    for stage, (filters, first_stride) in enumerate(resnet.STAGES, start=1):
        inner = [width * filters // 64 for width in widths]
        for index in range(resnet.TABLE[layers][stage - 1]):
            strides = first_stride if index == 0 else 1
            unit: dict[str, Any] = {"groups": groups, "strides": strides, "place": place}
            size = shortcut_size if strides > 1 else 1
            x = _unit(x, inner, filters, shortcut_size=size, name=f"layer{stage}_{index}", **unit)
    return keras.Model(inputs, x, name=name)


def _unit(x, inner, filters, *, groups, strides, place, shortcut_size, name):
    outer = resnet.EXPANSION * filters
    beside = x
    if strides > 1 or x.shape[-1] != outer:
        settings = {"strides": strides, "activation": None, "name": f"{name}_downsample"}
        beside = fixed_padding.conv_bn(x, outer, shortcut_size, **settings)
    first, second = (strides, 1) if place == 1 else (1, strides)
    x = blocks.conv_bn(x, inner[0], strides=first, name=f"{name}_conv1")
    x = fixed_padding.conv_bn(x, inner[1], 3, strides=second, groups=groups, name=f"{name}_conv2")
    x = blocks.conv_bn(x, outer, activation=None, name=f"{name}_conv3")
    gate = f"{name}_se_module"
    names = {"squeeze": f"{gate}_fc1", "excite": f"{gate}_fc2", "name": gate}
    x = blocks.squeeze_excite(x, outer // REDUCTION, **names)
    return resnet.join(x, beside, name)


# registry key -> builder
BUILDERS = {name: partial(se_resnet, name) for name in TABLE}
