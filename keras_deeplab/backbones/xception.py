"""Xception as Google's DeepLab modified it (v3+, figure 4; research/deeplab/core/xception.py).

Every max-pooling of the original became a strided separable convolution, batch norm follows each depthwise
convolution, and strided convolutions pad alike in front and behind. Batch norm's epsilon is 1e-3.
"""

import keras

from keras_deeplab import blocks, layers
from keras_deeplab.backbones.fixed_padding import conv_bn, depthwise_bn
from keras_deeplab.blocks import ImageShape

# block, filters of its three separable convolutions, shortcut, stride of the last of them
_EXIT = [
    ("exit_flow_block1", (728, 1024, 1024), "conv", 2),
    ("exit_flow_block2", (1536, 1536, 2048), None, 1),
]
TABLE_41 = [
    ("entry_flow_block1", (128, 128, 128), "conv", 2),
    ("entry_flow_block2", (256, 256, 256), "conv", 2),
    ("entry_flow_block3", (728, 728, 728), "conv", 2),
    *((f"middle_flow_unit_{unit}", (728, 728, 728), "sum", 1) for unit in range(1, 9)),
    *_EXIT,
]
TABLE_65 = [
    ("entry_flow_block1", (128, 128, 128), "conv", 2),
    ("entry_flow_block2", (256, 256, 256), "conv", 2),
    ("entry_flow_block3", (728, 728, 728), "conv", 2),
    *((f"middle_flow_unit_{unit}", (728, 728, 728), "sum", 1) for unit in range(1, 17)),
    *_EXIT,
]
TABLE_71 = [
    ("entry_flow_block1", (128, 128, 128), "conv", 2),
    ("entry_flow_block2", (256, 256, 256), "conv", 1),
    ("entry_flow_block3", (256, 256, 256), "conv", 2),
    ("entry_flow_block4", (728, 728, 728), "conv", 1),
    ("entry_flow_block5", (728, 728, 728), "conv", 2),
    *((f"middle_flow_unit_{unit}", (728, 728, 728), "sum", 1) for unit in range(1, 17)),
    *_EXIT,
]
EPSILON = 1e-3
_CLIP = (-6.0, 6.0)


def xception_41(input_shape: ImageShape = (None, None, 3), bounded: bool = False) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 2048 feature maps at stride 32: modified aligned Xception, 41 layers."""
    return _xception(TABLE_41, input_shape, bounded, "xception_41")


def xception_65(input_shape: ImageShape = (None, None, 3), bounded: bool = False) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 2048 feature maps at stride 32: modified aligned Xception, 65 layers.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        bounded: whether activations stay within [-6, 6] (`--use_bounded_activation` of research/deeplab, meant for
            quantised inference): ReLU6 for ReLU, everything else clipped, and strided modules padded as `"same"`.
            The weights are the same, so a checkpoint doesn't tell. The decoder then taps
            `entry_flow_block2_separable_conv2_pointwise_clip`.

    Returns:
        A functional `keras.Model` named `xception_65`, or `xception_65_bounded`.
    """
    return _xception(TABLE_65, input_shape, bounded, "xception_65")


def xception_65_bonlime(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """`xception_65` as bonlime's keras-deeplab-v3-plus has it (model.py): its first convolution is padded as `"same"`.

    So it is the same network at odd sizes, and at even ones its input stands a pixel elsewhere.

    Returns:
        A functional `keras.Model` named `xception_65_bonlime`.
    """
    return _xception(TABLE_65, input_shape, False, "xception_65_bonlime", stem=blocks.conv_bn)


def xception_71(input_shape: ImageShape = (None, None, 3), bounded: bool = False) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 2048 feature maps at stride 32: modified aligned Xception, 71 layers."""
    return _xception(TABLE_71, input_shape, bounded, "xception_71")


def _xception(table, input_shape, bounded, name, stem=conv_bn):
    relu = "relu6" if bounded else "relu"
    inputs = keras.Input(input_shape)
    x = stem(inputs, 32, 3, strides=2, activation=relu, epsilon=EPSILON, name="entry_flow_conv1_1")
    x = conv_bn(x, 64, 3, activation=relu, epsilon=EPSILON, name="entry_flow_conv1_2")
    for block, filters, shortcut, stride in table:
        x = _module(x, filters, shortcut, stride, relu, name=block)
    return keras.Model(inputs, x, name=f"{name}_bounded" if bounded else name)


def _module(x, filters, shortcut, stride, relu, name):
    """Three separable convolutions; the last of them takes the stride.

    ReLU stands before each, and nothing between or behind; in a module without shortcut it stands behind every
    depthwise and pointwise convolution instead.
    """
    bounded = relu == "relu6"
    inputs = x
    for index, width in enumerate(filters, start=1):
        separable = f"{name}_separable_conv{index}"
        settings = {"activation": None if shortcut else relu, "epsilon": EPSILON}
        if shortcut:
            x = keras.layers.Activation(relu, name=f"{separable}_{relu}")(x)
        depthwise = blocks.depthwise_bn if bounded else depthwise_bn
        x = depthwise(x, strides=stride if index == 3 else 1, name=f"{separable}_depthwise", **settings)
        if shortcut and bounded:
            x = layers.Clip(*_CLIP, name=f"{separable}_depthwise_clip")(x)
        x = conv_bn(x, width, name=f"{separable}_pointwise", **settings)
        if shortcut and bounded:
            x = layers.Clip(*_CLIP, name=f"{separable}_pointwise_clip")(x)
    if shortcut is None:
        return x
    if shortcut == "conv":
        inputs = conv_bn(inputs, filters[-1], strides=stride, activation=None, epsilon=EPSILON, name=f"{name}_shortcut")
    if bounded:
        inputs = layers.Clip(*_CLIP, name=f"{name}_shortcut_clip")(inputs)
    x = keras.layers.Add(name=f"{name}_add")([x, inputs])
    return keras.layers.Activation(relu, name=f"{name}_{relu}")(x) if bounded else x
