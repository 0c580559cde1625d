"""ConvNeXt (Liu et al. 2022), the four of the paper, XLarge, and timm's smaller ones.

A stage begins with a 2x2 convolution of stride 2, the stem is a 4x4 one of stride 4, and neither pads. Layer
normalisation's epsilon is 1e-6. Layers have timm's names, a full stop being an underscore here.
"""

from functools import partial

import keras

from keras_deeplab.blocks import ImageShape
from keras_deeplab.layers import LayerScale

# variant: units of each stage, filters of the first; each stage doubles them (ConvNeXt, section 3)
VARIANTS = {
    "atto": ((2, 2, 6, 2), 40),
    "femto": ((2, 2, 6, 2), 48),
    "pico": ((2, 2, 6, 2), 64),
    "nano": ((2, 2, 8, 2), 80),
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
    "large": ((3, 3, 27, 3), 192),
    "xlarge": ((3, 3, 27, 3), 256),
}
EPSILON = 1e-6


def convnext(variant: str, input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 320 (Atto) to 2048 feature maps at stride 32.

    Args:
        variant: a key of `VARIANTS`.
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` named such as `convnext_tiny`.

    Source: timm/models/convnext.py.

    >>> from keras_deeplab.backbones.convnext import convnext
    >>> convnext("atto", (64, 64, 3)).output_shape
    (None, 2, 2, 320)
    """
    units, filters = VARIANTS[variant]
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(filters, 4, 4, name="stem_0")(inputs)
    x = _norm(x, "stem_1")
    for stage, count in enumerate(units):
        if stage:
            filters *= 2
            x = _norm(x, f"stages_{stage}_downsample_0")
            x = keras.layers.Conv2D(filters, 2, 2, name=f"stages_{stage}_downsample_1")(x)
        for unit in range(count):
            x = _unit(x, filters, f"stages_{stage}_blocks_{unit}")
    return keras.Model(inputs, x, name=f"convnext_{variant}")


def _unit(x, filters, name):
    """A 7x7 depthwise convolution and two 1x1 ones, of which the first widens fourfold, beside the input."""
    y = keras.layers.DepthwiseConv2D(7, padding="same", name=f"{name}_conv_dw")(x)
    y = _norm(y, f"{name}_norm")
    y = keras.layers.Conv2D(4 * filters, 1, name=f"{name}_mlp_fc1")(y)
    y = keras.layers.Activation("gelu", name=f"{name}_mlp_gelu")(y)
    y = keras.layers.Conv2D(filters, 1, name=f"{name}_mlp_fc2")(y)
    y = LayerScale(name=f"{name}_scale")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def _norm(x, name):
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_LN")(x)


def low_level(variant: str) -> str:
    """The layer with the last map at stride 4, which DeepLab v3+ decodes with."""
    return f"stages_0_blocks_{VARIANTS[variant][0][0] - 1}_add"


# registry key -> variant, builder
BUILDERS = {f"convnext_{variant}": (variant, partial(convnext, variant)) for variant in VARIANTS}
