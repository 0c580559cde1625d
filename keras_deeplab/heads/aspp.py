"""Atrous spatial pyramid pooling of DeepLab v3 and v3+, and the classifier behind every head.

Layer names, concatenation order and batch norm's epsilon are those of research/deeplab, model.py; checkpoints of
sources with another order are permuted when they are loaded.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_deeplab.blocks import conv_bn, separable_conv_bn
from keras_deeplab.heads.flavours import Flavour
from keras_deeplab.layers import ResizeBilinear, conventions


def atrous_rates(output_stride: int) -> tuple[int, ...]:
    """The ASPP rates that go with an output stride: (6, 12, 18) at 16, twice that at 8 (v3, section 3.3).

    At 4, where only HRNet is, those of 8, as in VainF's network/modeling.py.
    """
    return tuple(round(96 / max(output_stride, 8) * factor) for factor in (1, 2, 3))


def head_conv(
    x: keras.KerasTensor,
    filters: int,
    flavour: Flavour,
    *,
    name: str,
    dilation_rate: int = 1,
    separable: bool = False,
    kernel_size: int = 3,
) -> keras.KerasTensor:
    """A head's convolution with batch norm and activation, dense or separable, as the flavour has it."""
    if separable:
        return separable_conv_bn(
            x,
            filters,
            kernel_size,
            dilation_rate=dilation_rate,
            activation=flavour.activation,
            epsilon=flavour.epsilon,
            depthwise_norm=flavour.separable_norm,
            name=name,
        )
    return conv_bn(
        x,
        filters,
        kernel_size,
        dilation_rate=dilation_rate,
        activation=flavour.activation,
        epsilon=flavour.epsilon,
        use_bias=flavour.use_bias,
        name=name,
    )


def aspp(
    x: keras.KerasTensor,
    *,
    rates: Sequence[int],
    flavour: Flavour,
    filters: int = 256,
    separable: bool = False,
    image_pooling: bool = True,
    dropout: float = 0.1,
) -> keras.KerasTensor:
    """Features (B, h, w, C) to (B, h, w, filters): parallel convolutions at several rates and the image's mean.

    Args:
        rates: dilation rates of the 3x3 branches; none for image pooling and the 1x1 branch alone.
        flavour: a row of `heads.flavours.FLAVOURS`.
        separable: whether the 3x3 branches are atrous separable convolutions (v3+).
        image_pooling: whether the image-level feature takes part.

    Source: DeepLab v3, figure 5; the branches are concatenated as in research/deeplab/model.py, image pooling first.
    """
    settings: dict[str, Any] = {
        "activation": flavour.activation,
        "epsilon": flavour.epsilon,
        "use_bias": flavour.use_bias,
    }
    branches = []
    if image_pooling:
        pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="image_pooling_mean")(x)
        pooled = conv_bn(pooled, filters, name="image_pooling", **settings)
        branches.append(ResizeBilinear(**conventions(flavour.resize), name="image_pooling_resize")([pooled, x]))
    branches.append(conv_bn(x, filters, name="aspp0", **settings))
    for index, rate in enumerate(rates, start=1):
        branches.append(head_conv(x, filters, flavour, dilation_rate=rate, separable=separable, name=f"aspp{index}"))
    if len(branches) == 1:
        return branches[0]
    x = keras.layers.Concatenate(name="aspp_concat")(branches)
    x = conv_bn(x, filters, name="concat_projection", **settings)
    return keras.layers.Dropout(dropout, name="concat_projection_dropout")(x)


def classifier(
    x: keras.KerasTensor, num_classes: int, name: str = "logits", use_bias: bool = True
) -> keras.KerasTensor:
    """Features to float32 logits (B, h, w, num_classes) by a 1x1 convolution."""
    initializer = keras.initializers.TruncatedNormal(stddev=0.01)
    layer = keras.layers.Conv2D(
        num_classes, 1, use_bias=use_bias, kernel_initializer=initializer, dtype="float32", name=name
    )
    return layer(x)


def auxiliary(x: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    """An inner feature map (B, h, w, C) to float32 logits (B, h, w, num_classes), for a second loss in training.

    Source: `FCNHead` of torchvision/models/segmentation/fcn.py: a 3x3 convolution to C / 4 channels, dropout,
    classifier.
    """
    x = conv_bn(x, x.shape[-1] // 4, 3, name="auxiliary_conv")
    x = keras.layers.Dropout(0.1, name="auxiliary_dropout")(x)
    return classifier(x, num_classes, name="auxiliary_logits")
