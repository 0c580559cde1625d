"""ResNet as keras-hub builds it: v1, v2 (batch norm and ReLU before the convolutions) and vd, of any widths.

Layers have keras-hub's names, with "_BN" for a batch norm's "_bn" and nothing for a convolution's "_conv".
"""

from collections.abc import Sequence

import keras
from keras import ops

from keras_deeplab import blocks
from keras_deeplab.blocks import ImageShape

BLOCK_TYPES = ("basic_block", "bottleneck_block", "basic_block_vd", "bottleneck_block_vd")


def resnet_keras_hub(
    input_shape: ImageShape = (None, None, 3),
    input_conv_filters: Sequence[int] = (64,),
    input_conv_kernel_sizes: Sequence[int] = (7,),
    stackwise_num_filters: Sequence[int] = (64, 128, 256, 512),
    stackwise_num_blocks: Sequence[int] = (3, 4, 6, 3),
    stackwise_num_strides: Sequence[int] = (1, 2, 2, 2),
    block_type: str = "bottleneck_block",
    use_pre_activation: bool = False,
) -> keras.Model:
    """Normalised images (B, H, W, C) to the last stack's feature maps, at stride 32: by default ResNet-50.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        input_conv_filters, input_conv_kernel_sizes: of the convolutions before the first pooling.
        stackwise_num_filters, stackwise_num_blocks, stackwise_num_strides: of the stacks of blocks.
        block_type: one of `BLOCK_TYPES`.
        use_pre_activation: whether batch norm and ReLU stand before a block's convolutions (ResNet v2). What v2 has
            behind its last stack, a classifier sees and a DeepLab doesn't.

    Returns:
        A functional `keras.Model` named `resnet_keras_hub`.

    Raises:
        ValueError: `block_type` is none of them, or a vd block with pre-activation, whose halves have other sizes in
            keras-hub.

    Source: keras_hub, models/resnet/resnet_backbone.py (`ResNetBackbone`).

    >>> from keras_deeplab.backbones.resnet_keras_hub import resnet_keras_hub
    >>> resnet_keras_hub((64, 64, 3), block_type="basic_block_vd").output_shape
    (None, 2, 2, 512)
    """
    if block_type not in BLOCK_TYPES or (use_pre_activation and block_type.endswith("_vd")):
        raise ValueError(
            f"block_type must be one of {', '.join(BLOCK_TYPES)}, with use_pre_activation one of the first two; "
            f"received {block_type!r} with use_pre_activation={use_pre_activation}."
        )
    inputs = keras.Input(input_shape)
    x = _conv(inputs, input_conv_filters[0], input_conv_kernel_sizes[0], 2, name="conv1")
    count = len(input_conv_filters)
    for n, (filters, kernel_size) in enumerate(zip(input_conv_filters, input_conv_kernel_sizes, strict=True), start=1):
        if n > 1:
            x = _conv(x, filters, kernel_size, name=f"conv{n}")
        if n < count or not use_pre_activation:
            x = blocks.batch_norm(x, f"conv{n}", "relu")
    if use_pre_activation:
        # No ReLU was before: zeros could be the largest values.
        x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=float("-inf"))
    else:
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="pool1_pool")(x)
    stacks = zip(stackwise_num_filters, stackwise_num_blocks, stackwise_num_strides, strict=True)
    for stack, (filters, repeats, strides) in enumerate(stacks):
        for index in range(repeats):
            shortcut = index == 0 and (stack > 0 or block_type != "basic_block")
            name = f"stack{stack}_block{index}"
            x = _block(x, filters, strides if index == 0 else 1, block_type, use_pre_activation, shortcut, name)
    return keras.Model(inputs, x, name="resnet_keras_hub")


def _block(x, filters, strides, block_type, pre, convolved_shortcut, name):
    """A residual block, (B, H, W, any) to (B, H / strides, W / strides, filters or four times as many)."""
    bottleneck, outer = block_type.startswith("bottleneck"), filters
    layers = [(3, strides, filters), (3, 1, filters)]
    if bottleneck:
        outer = 4 * filters
        layers = [(1, 1, filters), (3, strides, filters), (1, 1, outer)]
    y = blocks.batch_norm(x, f"{name}_pre_activation", "relu") if pre else x
    shortcut = x
    if convolved_shortcut:
        shortcut, shortcut_strides = y, strides
        if block_type.endswith("_vd"):
            if strides > 1:
                shortcut = keras.layers.AveragePooling2D(2, strides, padding="same", name=f"{name}_0_pool")(shortcut)
            shortcut_strides = 1
        shortcut = _conv(shortcut, outer, 1, shortcut_strides, name=f"{name}_0")
        if not pre:
            shortcut = blocks.batch_norm(shortcut, f"{name}_0")
    for n, (kernel_size, step, width) in enumerate(layers, start=1):
        y = _conv(y, width, kernel_size, step, name=f"{name}_{n}")
        last = n == len(layers)
        if not (last and pre):
            y = blocks.batch_norm(y, f"{name}_{n}", None if last else "relu")
    if pre:
        return keras.layers.Add(name=f"{name}_out")([shortcut, y])
    return keras.layers.Activation("relu", name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([shortcut, y]))


def _conv(x, filters, kernel_size, strides=1, *, name):
    """A convolution without bias; where it has a stride, padded alike on all sides."""
    if strides > 1 and kernel_size > 1:
        x = keras.layers.ZeroPadding2D((kernel_size - 1) // 2, name=f"{name}_pad")(x)
    padding = "valid" if strides > 1 else "same"
    return keras.layers.Conv2D(filters, kernel_size, strides, padding=padding, use_bias=False, name=name)(x)
