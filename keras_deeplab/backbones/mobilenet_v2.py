"""MobileNetV2 in four forms: Google's DeepLab, torchvision, VainF and jfzhang95.

They have the same convolutions. They differ in where zeros are added, in batch norm's epsilon, in how a width
multiplier rounds, and in whether the classifier's last convolution takes part. Layers have the names of
`keras.applications.MobileNetV2`, which has the weights of the first.
"""

from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.blocks import ImageShape, batch_norm

# expansion, filters, repeats, stride of the first repeat (MobileNetV2, table 2)
TABLE = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
LAST_FILTERS = 1280

# The stages of 64 and 160 filters. jfzhang95 keeps one rate throughout a stage: one that lost its stride runs at the
# rate of the stage before it, all its blocks, and only the next stage at the new rate.
JFZHANG95_CONTRACTED = tuple(f"block_{block}_depthwise" for block in (6, 7, 8, 9, 13, 14, 15))


def mobilenet_v2(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0, divisible_by: int = 8) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 320 feature maps at stride 32: MobileNetV2 without its last convolution.

    The form of Google's DeepLab (slim/nets/mobilenet/mobilenet_v2.py, `V2_DEF`): paddings are TensorFlow's "same" and
    batch norm's epsilon is 1e-3.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier on every layer's filters.
        divisible_by: filters are rounded to a multiple of this: 8 as in `keras.applications`, 1 as in the official
            DeepLab checkpoints with width 0.5 (24 filters become 12, not 16).

    Returns:
        A functional `keras.Model` named `mobilenet_v2`.
    """
    inputs = keras.Input(input_shape)
    settings: dict[str, Any] = {"activation": "relu6", "epsilon": 1e-3}
    x = blocks.conv_bn(inputs, rounded(32 * alpha, divisible_by), 3, strides=2, name="Conv1", **settings)

    def expand_and_filter(x, name, expanded, stride):
        x = _expand(x, name, rounded(expanded, 8), settings)
        return blocks.depthwise_bn(x, 3, strides=stride, name=f"{name}_depthwise", **settings)

    x = _blocks(x, lambda filters: rounded(filters * alpha, divisible_by), expand_and_filter, settings)
    return keras.Model(inputs, x, name="mobilenet_v2")


def mobilenet_v2_torchvision(
    input_shape: ImageShape = (None, None, 3), alpha: float = 1.0, divisible_by: int = 8
) -> keras.Model:
    """Normalised images (B, H, W, C) to 1280 feature maps at stride 32: torchvision's MobileNetV2, less its top.

    As segmentation_models.pytorch takes it for its encoder `mobilenet_v2`. One row or column of zeros stands on each
    side of every 3x3 convolution; epsilon is 1e-5.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; one below 1 leaves the last convolution's 1280 filters.
        divisible_by: filters are rounded to a multiple of this.

    Returns:
        A functional `keras.Model` named `mobilenet_v2_torchvision`.

    Source: torchvision/models/mobilenetv2.py.
    """
    inputs = keras.Input(input_shape)
    x = inverted_residuals(inputs, alpha, divisible_by)
    last_filters = rounded(LAST_FILTERS * max(1.0, alpha), divisible_by)
    x = blocks.conv_bn(x, last_filters, name="Conv_1", activation="relu6", epsilon=1e-5)
    return keras.Model(inputs, x, name="mobilenet_v2_torchvision")


def inverted_residuals(x: keras.KerasTensor, alpha: float, divisible_by: int = 8) -> keras.KerasTensor:
    """Normalised images to the 320 maps of torchvision's last block, before its last convolution."""
    settings: dict[str, Any] = {"activation": "relu6", "epsilon": 1e-5}
    x = fixed_padding.conv_bn(x, rounded(32 * alpha, divisible_by), 3, strides=2, name="Conv1", **settings)

    def expand_and_filter(x, name, expanded, stride):
        x = _expand(x, name, expanded, settings)
        return fixed_padding.depthwise_bn(x, 3, strides=stride, name=f"{name}_depthwise", **settings)

    return _blocks(x, lambda filters: rounded(filters * alpha, divisible_by), expand_and_filter, settings)


def mobilenet_v2_vainf(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 320 feature maps: the MobileNetV2 of VainF/DeepLabV3Plus-Pytorch.

    The zeros of a block stand before its 1x1 expansion, which makes relu6 of its batch norm's shift of them, and the
    stem has none: an image of 513 pixels becomes maps of 256, 128, 64, 32 and 16.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; the fraction of a filter is cut off, and the stem's rounded to a multiple of 8.

    Returns:
        A functional `keras.Model` named `mobilenet_v2_vainf`.

    Source: network/backbone/mobilenetv2.py.
    """
    inputs = keras.Input(input_shape)
    settings: dict[str, Any] = {"activation": "relu6", "epsilon": 1e-5}
    x = keras.layers.Conv2D(rounded(32 * alpha, 8), 3, strides=2, use_bias=False, name="Conv1")(inputs)
    x = batch_norm(x, "Conv1", **settings)
    x = _blocks(x, lambda filters: int(filters * alpha), _pad_first(settings), settings)
    return keras.Model(inputs, x, name="mobilenet_v2_vainf")


def mobilenet_v2_jfzhang95(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 320 feature maps: the MobileNetV2 of jfzhang95/pytorch-deeplab-xception.

    Blocks pad as VainF's do, before their 1x1 expansion; the stem pads by one on each side.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; the fraction of a filter is cut off.

    Returns:
        A functional `keras.Model` named `mobilenet_v2_jfzhang95`.

    Source: modeling/backbone/mobilenet.py.
    """
    inputs = keras.Input(input_shape)
    settings: dict[str, Any] = {"activation": "relu6", "epsilon": 1e-5}
    x = fixed_padding.conv_bn(inputs, int(32 * alpha), 3, strides=2, name="Conv1", **settings)
    x = _blocks(x, lambda filters: int(filters * alpha), _pad_first(settings), settings)
    return keras.Model(inputs, x, name="mobilenet_v2_jfzhang95")


def _blocks(x, width, expand_and_filter, settings):
    """The inverted residuals of `TABLE`.

    Args:
        width: the filters of a row to those that are built.
        expand_and_filter: (map, block's name, expanded channels, stride) to the map behind the depthwise convolution.
    """
    block = 0
    for expansion, filters, repeats, first_stride in TABLE:
        for repeat in range(repeats):
            name = f"block_{block}" if block else "expanded_conv"
            stride = first_stride if repeat == 0 else 1
            shortcut = x
            x = expand_and_filter(x, name, expansion * x.shape[-1], stride)
            x = blocks.conv_bn(x, width(filters), name=f"{name}_project", **{**settings, "activation": None})
            if stride == 1 and shortcut.shape[-1] == x.shape[-1]:
                x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
            block += 1
    return x


def _expand(x, name, expanded, settings):
    """The 1x1 convolution that widens a block; the first block has none."""
    if name == "expanded_conv":
        return x
    return blocks.conv_bn(x, expanded, name=f"{name}_expand", **settings)


def _pad_first(settings):
    """A block's `expand_and_filter` for the sources whose zeros go through the expansion."""

    def expand_and_filter(x, name, expanded, stride):
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        x = _expand(x, name, expanded, settings)
        x = keras.layers.DepthwiseConv2D(3, stride, use_bias=False, name=f"{name}_depthwise")(x)
        return batch_norm(x, f"{name}_depthwise", **settings)

    return expand_and_filter


def rounded(filters: float, divisor: int) -> int:
    """The nearest multiple of `divisor`, or the next where that takes away more than a tenth."""
    nearest = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * filters else nearest + divisor
