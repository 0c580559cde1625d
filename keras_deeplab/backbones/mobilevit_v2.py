"""MobileViTv2 (Mehta and Rastegari 2022, arXiv 2206.02680), with the strides of its DeepLab v3.

As `mobilevit`, with attention whose cost grows with the number of patches and not with its square, normalisation over a
whole image, and neither a shortcut around a transformer nor a convolution that joins the two.
"""

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.backbones.mobilevit import inverted_residual
from keras_deeplab.blocks import ImageShape
from keras_deeplab.layers import FoldPatches, LinearPatchAttention, UnfoldPatches

# filters of the five stages and what they are rounded to, at width 1
STAGES = [(64, 16), (128, 8), (256, 8), (384, 8), (512, 8)]
RESIDUALS = (1, 2)


def mobilevit_v2(
    input_shape: ImageShape = (None, None, 3),
    output_stride: int = 32,
    alpha: float = 1.0,
    attention_widths: tuple[int, ...] = (128, 192, 256),
    transformers: tuple[int, ...] = (2, 4, 3),
    expand_ratio: float = 2.0,
    ffn_multiplier: int = 2,
    kernel_size: int = 3,
    patch_size: int = 2,
    activation: str = "silu",
    epsilon: float = 1e-5,
) -> keras.Model:
    """Images in [0, 1] with the channels in the order BGR, (B, H, W, C), to feature maps at `output_stride`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        output_stride: 8, 16 or 32.
        alpha: width multiplier on every layer's filters.
        attention_widths: widths of the three transformers, at width 1.
        transformers: how many layers each of them has.
        expand_ratio: how many times wider an inverted residual is inside.
        ffn_multiplier: how many times wider a transformer's layer is inside, rounded down to a multiple of 16.
        kernel_size: of the depthwise convolutions before the transformers.
        patch_size: side of the patches; rows and columns of a map that it doesn't divide go without, they are zero.
        activation: of all convolutions and transformers, by its name in Keras.
        epsilon: of the normalisation in transformers.

    Returns:
        A functional `keras.Model` named `mobilevit_v2`.

    Source: transformers, models/mobilevitv2/modeling_mobilevitv2.py, which has it from apple/ml-cvnets.

    >>> from keras_deeplab.backbones.mobilevit_v2 import mobilevit_v2
    >>> mobilevit_v2((64, 64, 3), output_stride=8, alpha=0.5).output_shape
    (None, 8, 8, 256)
    """
    inputs = keras.Input(input_shape)
    stem = rounded(max(16, min(64, 32 * alpha)), 8)
    widths = [rounded(filters * alpha, divisor) for filters, divisor in STAGES]
    x = fixed_padding.conv_bn(inputs, stem, 3, strides=2, activation=activation, name="conv_stem")
    for stage, (width, count) in enumerate(zip(widths[:2], RESIDUALS, strict=True), start=1):
        for index in range(count):
            strides = 2 if stage == 2 and index == 0 else 1
            name = f"layer{stage}_{index}"
            x = inverted_residual(x, width, expand_ratio, strides=strides, activation=activation, name=name)
    rate = 1
    for stage, width, attention, count in zip((3, 4, 5), widths[2:], attention_widths, transformers, strict=True):
        name, strides, hidden = f"layer{stage}", 2, rounded(attention * alpha, 8)
        if 2**stage > output_stride:
            strides, rate = 1, rate * 2
        x = inverted_residual(
            x,
            width,
            expand_ratio,
            strides=strides,
            dilation_rate=max(1, rate // 2),
            activation=activation,
            name=f"{name}_downsample",
        )
        x = blocks.depthwise_bn(x, kernel_size, activation=activation, name=f"{name}_conv_kxk_depthwise")
        x = reference = keras.layers.Conv2D(hidden, 1, use_bias=False, name=f"{name}_conv_1x1")(x)
        x = UnfoldPatches(patch_size, remainder="crop", name=f"{name}_unfold")(x)
        for index in range(count):
            inner = ffn_multiplier * hidden // 16 * 16
            x = _transformer(x, inner, activation, epsilon, name=f"{name}_transformer{index}")
        x = keras.layers.GroupNormalization(1, epsilon=epsilon, name=f"{name}_LN")(x)
        x = FoldPatches(patch_size, remainder="crop", name=f"{name}_fold")([x, reference])
        x = blocks.conv_bn(x, width, activation=None, name=f"{name}_conv_projection")
    return keras.Model(inputs, x, name="mobilevit_v2")


def _transformer(x, inner, activation, epsilon, *, name):
    """A layer of a transformer, normalised before attention and before the two 1x1 convolutions."""
    width = x.shape[-1]
    normed = keras.layers.GroupNormalization(1, epsilon=epsilon, name=f"{name}_before_LN")(x)
    attended = LinearPatchAttention(name=f"{name}_attention")(
        keras.layers.Conv2D(1 + 2 * width, 1, name=f"{name}_qkv")(normed)
    )
    attended = keras.layers.Conv2D(width, 1, name=f"{name}_attention_output")(attended)
    x = keras.layers.Add(name=f"{name}_attention_add")([attended, x])
    y = keras.layers.GroupNormalization(1, epsilon=epsilon, name=f"{name}_after_LN")(x)
    y = keras.layers.Conv2D(inner, 1, name=f"{name}_intermediate")(y)
    y = keras.layers.Activation(activation, name=f"{name}_intermediate_{activation}")(y)
    y = keras.layers.Conv2D(width, 1, name=f"{name}_output")(y)
    return keras.layers.Add(name=f"{name}_output_add")([y, x])
