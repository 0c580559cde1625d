"""RegNet X and Y (Radosavovic et al. 2020), as timm has them: X without, Y with squeeze and excitation.

Batch norm's epsilon is 1e-5, zeros are added alike on all sides. Layers have timm's names, a full stop being an
underscore here.
"""

from functools import partial
from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.blocks import ImageShape

# name: units and filters of the four stages, filters of a group where a stage has as many
TABLE: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "regnetx_002": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "regnetx_004": ((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "regnetx_006": ((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "regnetx_008": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "regnetx_016": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "regnetx_032": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "regnetx_040": ((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "regnetx_064": ((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "regnetx_080": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "regnetx_120": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "regnetx_160": ((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "regnetx_320": ((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "regnety_002": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "regnety_004": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "regnety_006": ((1, 3, 7, 4), (48, 112, 256, 608), 16),
    "regnety_008": ((1, 3, 8, 2), (64, 128, 320, 768), 16),
    "regnety_016": ((2, 6, 17, 2), (48, 120, 336, 888), 24),
    "regnety_032": ((2, 5, 13, 1), (72, 216, 576, 1512), 24),
    "regnety_040": ((2, 6, 12, 2), (128, 192, 512, 1088), 64),
    "regnety_064": ((2, 7, 14, 2), (144, 288, 576, 1296), 72),
    "regnety_080": ((2, 4, 10, 1), (168, 448, 896, 2016), 56),
    "regnety_120": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "regnety_160": ((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
    "regnety_320": ((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
}
STEM = 32


def regnet(name: str, input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to the last stage's maps at stride 32.

    Args:
        name: a key of `TABLE`.
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` of that name.

    Source: timm/models/regnet.py in huggingface/pytorch-image-models.

    >>> from keras_deeplab.backbones.regnet import regnet
    >>> regnet("regnety_002", (64, 64, 3)).output_shape
    (None, 2, 2, 368)
    """
    units, widths, group = TABLE[name]
    inputs = keras.Input(input_shape)
    x = fixed_padding.conv_bn(inputs, STEM, 3, strides=2, name="stem")
    for stage, (count, filters) in enumerate(zip(units, widths, strict=True), start=1):
        for unit in range(1, count + 1):
            settings: dict[str, Any] = {"groups": filters // min(group, filters), "strides": 2 if unit == 1 else 1}
            x = _unit(x, filters, gated=name.startswith("regnety"), name=f"s{stage}_b{unit}", **settings)
    return keras.Model(inputs, x, name=name)


def _unit(x, filters, *, groups, strides, gated, name):
    beside, width = x, x.shape[-1]
    if strides > 1 or width != filters:
        beside = blocks.conv_bn(x, filters, strides=strides, activation=None, name=f"{name}_downsample")
    x = blocks.conv_bn(x, filters, name=f"{name}_conv1")
    x = fixed_padding.conv_bn(x, filters, 3, strides=strides, groups=groups, name=f"{name}_conv2")
    if gated:
        names = {"squeeze": f"{name}_se_fc1", "excite": f"{name}_se_fc2", "name": f"{name}_se"}
        x = blocks.squeeze_excite(x, round(0.25 * width), **names)
    x = blocks.conv_bn(x, filters, activation=None, name=f"{name}_conv3")
    x = keras.layers.Add(name=f"{name}_add")([x, beside])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)


# registry key -> builder
BUILDERS = {name: partial(regnet, name) for name in TABLE}
