"""Res2Net and Res2NeXt (Gao et al. 2019) as timm has them: a bottleneck's 3x3 convolution is a row of narrow ones.

The channels are cut into parts. Each of a unit's narrow convolutions reads its part and, but in a stage's first unit,
the result before; the last part is passed on, in a first unit as means of 3x3 windows. Layers have timm's names, a full
stop being an underscore here.
"""

from functools import partial

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import resnet
from keras_deeplab.backbones.resnet_timm import DEEP, Form, convolution, padded_mean, staged
from keras_deeplab.blocks import ImageShape
from keras_deeplab.layers import ChannelSlice

_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)
# name: the network, parts
TABLE = {
    "res2net50_26w_4s": (Form(_50, width=26), 4),
    "res2net50_26w_6s": (Form(_50, width=26), 6),
    "res2net50_26w_8s": (Form(_50, width=26), 8),
    "res2net50_48w_2s": (Form(_50, width=48), 2),
    "res2net50_14w_8s": (Form(_50, width=14), 8),
    "res2net101_26w_4s": (Form(_101, width=26), 4),
    "res2next50": (Form(_50, width=4, groups=8), 4),
    "res2net50d": (Form(_50, True, DEEP, True, 26), 4),
    "res2net101d": (Form(_101, True, DEEP, True, 26), 4),
}


def res2net(name: str, input_shape: ImageShape = (None, None, 3), output_stride: int = 32) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at `output_stride`, 8, 16 or 32.

    Args:
        name: a key of `TABLE`.
        input_shape: (height, width, channels); None for any height and width.
        output_stride: 8, 16 or 32.

    Returns:
        A functional `keras.Model` of that name.

    Raises:
        ValueError: another output stride.

    Source: timm/models/res2net.py in huggingface/pytorch-image-models.

    >>> from keras_deeplab.backbones.res2net import res2net
    >>> res2net("res2net50_48w_2s", (64, 64, 3)).output_shape
    (None, 2, 2, 2048)
    """
    form, parts = TABLE[name]
    return staged(name, form, partial(_branch, form, parts), input_shape, output_stride)


def _branch(form, parts, x, place):
    name, width = place.name, place.filters * form.width // 64 * form.groups
    x = blocks.conv_bn(x, width * parts, name=f"{name}_conv1")
    results = []
    for part in range(parts):
        y = ChannelSlice(width * part, width * (part + 1), name=f"{name}_part{part}")(x)
        if part == parts - 1:
            results.append(padded_mean(y, place.strides, f"{name}_pool") if place.first else y)
            break
        if results and not place.first:
            y = keras.layers.Add(name=f"{name}_sum{part}")([results[-1], y])
        results.append(convolution(y, width, place, f"{name}_convs_{part}", form.groups))
    x = keras.layers.Concatenate(name=f"{name}_concat")(results)
    return blocks.conv_bn(x, resnet.EXPANSION * place.filters, activation=None, name=f"{name}_conv3")


# registry key -> builder
BUILDERS = {name: partial(res2net, name) for name in TABLE}
