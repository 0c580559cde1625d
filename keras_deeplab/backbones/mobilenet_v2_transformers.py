"""MobileNetV2 as Hugging Face's transformers builds it: slim's, with its settings free, dilated by rules of its own.

Layers have the names of the other forms in `mobilenet_v2`. A block that lost its stride gets a shortcut where it has as
many channels behind as before, which no other form has, so the strides are made here.
"""

from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.backbones.mobilenet_v2 import TABLE
from keras_deeplab.blocks import ImageShape


def mobilenet_v2_transformers(
    input_shape: ImageShape = (None, None, 3),
    output_stride: int = 32,
    alpha: float = 1.0,
    divisible_by: int = 8,
    min_depth: int = 8,
    expand_ratio: float = 6.0,
    first_layer_is_expansion: bool = True,
    activation: str = "relu6",
    epsilon: float = 1e-3,
    tf_padding: bool = True,
) -> keras.Model:
    """Normalised images (B, H, W, C) to 320 feature maps (at width 1) at `output_stride`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        output_stride: 4, 8, 16 or 32; where it is reached, strides become dilation rates from the next block on.
        alpha: width multiplier on every layer's filters.
        divisible_by, min_depth: filters are rounded to a multiple of the one and are at least the other.
        expand_ratio: how many times wider a block is inside.
        first_layer_is_expansion: whether the stem's first block goes without a 1x1 convolution that widens it.
        activation: of the backbone's convolutions, by its name in Keras.
        epsilon: of batch norm.
        tf_padding: whether paddings are TensorFlow's "same"; else a row or column of zeros stands on each side of 3x3
            convolutions.

    Returns:
        A functional `keras.Model` named `mobilenet_v2_transformers`.

    Source: transformers, models/mobilenet_v2/modeling_mobilenet_v2.py (`MobileNetV2Model`).

    >>> from keras_deeplab.backbones.mobilenet_v2_transformers import mobilenet_v2_transformers
    >>> mobilenet_v2_transformers((64, 64, 3), output_stride=8, alpha=0.35).output_shape
    (None, 8, 8, 112)
    """
    settings: dict[str, Any] = {"activation": activation, "epsilon": epsilon}
    forms: Any = blocks if tf_padding else fixed_padding

    def width(filters):
        return rounded(filters, divisible_by, min_depth)

    inputs = keras.Input(input_shape)
    x = forms.conv_bn(inputs, width(32 * alpha), 3, strides=2, name="Conv1", **settings)
    stride, rate, block = 2, 1, 0
    for _, filters, repeats, first_stride in TABLE:
        for repeat in range(repeats):
            name, strides = (f"block_{block}" if block else "expanded_conv"), first_stride if repeat == 0 else 1
            shortcut, block_rate = x, 1
            if stride == output_stride:
                block_rate, rate, strides = rate, rate * strides, 1
            stride *= strides
            expanded = width(x.shape[-1] * expand_ratio) if block else x.shape[-1]
            if block or not first_layer_is_expansion:
                x = blocks.conv_bn(x, expanded, name=f"{name}_expand", **settings)
            depthwise = f"{name}_depthwise"
            if block_rate > 1:
                x = blocks.depthwise_bn(x, 3, dilation_rate=block_rate, name=depthwise, **settings)
            else:
                x = forms.depthwise_bn(x, 3, strides=strides, name=depthwise, **settings)
            x = blocks.conv_bn(x, width(filters * alpha), name=f"{name}_project", **{**settings, "activation": None})
            if block and strides == 1 and shortcut.shape[-1] == x.shape[-1]:
                x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
            block += 1
    return keras.Model(inputs, x, name="mobilenet_v2_transformers")


def rounded(filters: float, divisor: int, least: int) -> int:
    """The nearest multiple of `divisor`, at least `least`; the next where that takes away more than a tenth."""
    filters = round(filters)
    nearest = max(least, int(filters + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * filters else nearest + divisor
