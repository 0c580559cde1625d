"""MobileViT (Mehta and Rastegari 2022, arXiv 2110.02178), with the strides of its DeepLab v3.

Inverted residuals as MobileNetV2 has them, and from stride 8 on blocks that look at the whole image: a transformer sees
the patches of a map, once for each position in a patch. A stage that lost its stride dilates the one depthwise
convolution that had it, at the rate before, and nothing else: not the rewrite of its classifier, so the strides are
made here.
"""

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.blocks import ImageShape
from keras_deeplab.layers import FoldPatches, PatchAttention, UnfoldPatches

# size: widths inside the transformers, of stem and stages, expansion of the inverted residuals (paper, table 4)
SIZES = {
    "small": ((144, 192, 240), (16, 32, 64, 96, 128, 160), 4.0),
    "x_small": ((96, 120, 144), (16, 32, 48, 64, 80, 96), 4.0),
    "xx_small": ((64, 80, 96), (16, 16, 24, 48, 64, 80), 2.0),
}
# inverted residuals of the first two stages, transformer layers of the other three
RESIDUALS, TRANSFORMERS = (1, 3), (2, 4, 3)


def mobilevit(
    input_shape: ImageShape = (None, None, 3),
    output_stride: int = 32,
    hidden_sizes: tuple[int, ...] = SIZES["small"][0],
    neck_hidden_sizes: tuple[int, ...] = SIZES["small"][1],
    expand_ratio: float = SIZES["small"][2],
    heads: int = 4,
    mlp_ratio: float = 2.0,
    kernel_size: int = 3,
    patch_size: int = 2,
    activation: str = "silu",
    epsilon: float = 1e-5,
    qkv_bias: bool = True,
    name: str = "mobilevit_small",
) -> keras.Model:
    """Images in [0, 1] with the channels in the order BGR, (B, H, W, C), to feature maps at `output_stride`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        output_stride: 8, 16 or 32.
        hidden_sizes: widths of the three transformers.
        neck_hidden_sizes: filters of the stem and of the five stages.
        expand_ratio: how many times wider an inverted residual is inside.
        heads: of the attention.
        mlp_ratio: how many times wider a transformer's layer is inside.
        kernel_size: of the convolutions before and behind a transformer.
        patch_size: side of the patches; a map that it doesn't divide is resized bilinearly, there and back.
        activation: of all convolutions and transformers, by its name in Keras.
        epsilon: of layer normalisation.
        qkv_bias: whether queries, keys and values have a bias.
        name: of the model.

    Returns:
        A functional `keras.Model`.

    Source: transformers, models/mobilevit/modeling_mobilevit.py, which has it from apple/ml-cvnets.

    >>> from keras_deeplab.backbones.mobilevit import mobilevit
    >>> mobilevit((64, 64, 3), output_stride=16).output_shape
    (None, 4, 4, 160)
    """
    inputs = keras.Input(input_shape)
    stem, *widths = neck_hidden_sizes
    x = fixed_padding.conv_bn(inputs, stem, 3, strides=2, activation=activation, name="conv_stem")
    for stage, (width, count) in enumerate(zip(widths[:2], RESIDUALS, strict=True), start=1):
        for index in range(count):
            strides = 2 if stage == 2 and index == 0 else 1
            scope = f"layer{stage}_{index}"
            x = inverted_residual(x, width, expand_ratio, strides=strides, activation=activation, name=scope)
    rate = 1
    for stage, width, hidden, count in zip((3, 4, 5), widths[2:], hidden_sizes, TRANSFORMERS, strict=True):
        scope, strides = f"layer{stage}", 2
        if 2**stage > output_stride:
            strides, rate = 1, rate * 2
        x = shortcut = inverted_residual(
            x,
            width,
            expand_ratio,
            strides=strides,
            dilation_rate=max(1, rate // 2),
            activation=activation,
            name=f"{scope}_downsample",
        )
        x = blocks.conv_bn(x, width, kernel_size, activation=activation, name=f"{scope}_conv_kxk")
        x = reference = keras.layers.Conv2D(hidden, 1, use_bias=False, name=f"{scope}_conv_1x1")(x)
        x = UnfoldPatches(patch_size, name=f"{scope}_unfold")(x)
        for index in range(count):
            x = _transformer(
                x, heads, int(hidden * mlp_ratio), activation, epsilon, qkv_bias, name=f"{scope}_transformer{index}"
            )
        x = keras.layers.LayerNormalization(epsilon=epsilon, name=f"{scope}_LN")(x)
        x = FoldPatches(patch_size, name=f"{scope}_fold")([x, reference])
        x = blocks.conv_bn(x, width, activation=activation, name=f"{scope}_conv_projection")
        x = keras.layers.Concatenate(name=f"{scope}_concat")([shortcut, x])
        x = blocks.conv_bn(x, width, kernel_size, activation=activation, name=f"{scope}_fusion")
    return keras.Model(inputs, x, name=name)


def inverted_residual(
    x: keras.KerasTensor,
    filters: int,
    expand_ratio: float,
    *,
    name: str,
    activation: str,
    strides: int = 1,
    dilation_rate: int = 1,
) -> keras.KerasTensor:
    """A 1x1 convolution that widens, a depthwise one, a 1x1 one that projects, beside a shortcut where shapes agree."""
    shortcut, expanded = x, rounded(round(x.shape[-1] * expand_ratio), 8)
    x = blocks.conv_bn(x, expanded, activation=activation, name=f"{name}_expand")
    if dilation_rate > 1:
        x = blocks.depthwise_bn(x, 3, dilation_rate=dilation_rate, activation=activation, name=f"{name}_depthwise")
    else:
        x = fixed_padding.depthwise_bn(x, 3, strides=strides, activation=activation, name=f"{name}_depthwise")
    x = blocks.conv_bn(x, filters, activation=None, name=f"{name}_project")
    if strides == 1 and shortcut.shape[-1] == filters:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _transformer(x, heads, inner, activation, epsilon, qkv_bias, *, name):
    """A layer of a transformer, normalised before attention and before the two dense layers: (B, P, N, C) to itself."""
    width = x.shape[-1]
    normed = keras.layers.LayerNormalization(epsilon=epsilon, name=f"{name}_before_LN")(x)
    parts = [
        keras.layers.Dense(width, use_bias=qkv_bias, name=f"{name}_{part}")(normed)
        for part in ("query", "key", "value")
    ]
    attended = PatchAttention(heads, name=f"{name}_attention")(parts)
    attended = keras.layers.Dense(width, name=f"{name}_attention_output")(attended)
    x = keras.layers.Add(name=f"{name}_attention_add")([x, attended])
    y = keras.layers.LayerNormalization(epsilon=epsilon, name=f"{name}_after_LN")(x)
    y = keras.layers.Dense(inner, name=f"{name}_intermediate")(y)
    y = keras.layers.Activation(activation, name=f"{name}_intermediate_{activation}")(y)
    y = keras.layers.Dense(width, name=f"{name}_output")(y)
    return keras.layers.Add(name=f"{name}_output_add")([x, y])
