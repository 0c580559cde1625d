"""The convolution blocks that backbones and heads are written with: tensor in, tensor out."""

from typing import Any, TypeAlias

import keras

from keras_deeplab import layers

# (height, width, channels) of images; None for any.
ImageShape: TypeAlias = tuple[int | None, int | None, int]

# Training only. A window of about 30 steps, so that runs of a few hundred end with settled statistics; the official
# configuration's 0.9997 (research/deeplab/core/feature_extractor.py) wants tens of thousands.
BATCH_NORM_MOMENTUM = 0.97


def batch_norm(
    x: keras.KerasTensor, name: str, activation: str | None = None, epsilon: float = 1e-5
) -> keras.KerasTensor:
    """Normalises `x` over the batch, then applies an activation by name (`"relu"`, `"relu6"` or None)."""
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, name=f"{name}_BN")(x)
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x


def convolution_of(groups: int) -> type[keras.layers.Conv2D]:
    """The class of a convolution with so many groups."""
    return keras.layers.Conv2D if groups == 1 else layers.GroupedConv2D


def conv_bn(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int = 1,
    *,
    name: str,
    strides: int = 1,
    dilation_rate: int = 1,
    activation: str | None = "relu",
    epsilon: float = 1e-5,
    use_bias: bool = False,
    groups: int = 1,
) -> keras.KerasTensor:
    """Convolution, padded as `"same"`, then batch norm, then activation."""
    settings: dict[str, Any] = {"padding": "same", "use_bias": use_bias, "groups": groups, "name": name}
    if dilation_rate == 1:
        x = convolution_of(groups)(filters, kernel_size, strides, **settings)(x)
    else:
        x = layers.DilatedConv2D(filters, kernel_size, dilation_rate=dilation_rate, **settings)(x)
    return batch_norm(x, name, activation, epsilon)


def squeeze_excite(
    x: keras.KerasTensor, filters: int, *, squeeze: str, excite: str, name: str, activation: str = "relu"
) -> keras.KerasTensor:
    """The map times a gate in 0..1 for each channel, made from the channels' means (Hu et al. 2018).

    Args:
        filters: of the first 1x1 convolution.
        squeeze, excite: names of the two convolutions.
        name: what stands before the names of the layers around them.
        activation: between the two.
    """
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    gate = keras.layers.Conv2D(filters, 1, activation=activation, name=squeeze)(gate)
    gate = keras.layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=excite)(gate)
    return keras.layers.Multiply(name=f"{name}_gate")([x, gate])


def depthwise_conv(
    x: keras.KerasTensor,
    kernel_size: int = 3,
    *,
    name: str,
    strides: int = 1,
    dilation_rate: int = 1,
    use_bias: bool = False,
) -> keras.KerasTensor:
    """Depthwise convolution, padded as `"same"`."""
    settings: dict[str, Any] = {"padding": "same", "use_bias": use_bias, "name": name}
    if dilation_rate == 1:
        return keras.layers.DepthwiseConv2D(kernel_size, strides, **settings)(x)
    return layers.DilatedDepthwiseConv2D(kernel_size, dilation_rate=dilation_rate, **settings)(x)


def depthwise_bn(
    x: keras.KerasTensor,
    kernel_size: int = 3,
    *,
    name: str,
    strides: int = 1,
    dilation_rate: int = 1,
    activation: str | None = "relu",
    epsilon: float = 1e-5,
    use_bias: bool = False,
) -> keras.KerasTensor:
    """Depthwise convolution, padded as `"same"`, then batch norm, then activation."""
    x = depthwise_conv(x, kernel_size, name=name, strides=strides, dilation_rate=dilation_rate, use_bias=use_bias)
    return batch_norm(x, name, activation, epsilon)


def separable_conv_bn(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int = 3,
    *,
    name: str,
    dilation_rate: int = 1,
    activation: str | None = "relu",
    epsilon: float = 1e-5,
    depthwise_norm: bool = True,
    depthwise_activation: bool = True,
    use_bias: bool = False,
) -> keras.KerasTensor:
    """Atrous separable convolution of v3+: depthwise and pointwise, each with batch norm and activation.

    With `depthwise_norm=False` only the pointwise one has them, with `depthwise_activation=False` the activation.

    Source: DeepLab v3+, section 3.1; `split_separable_conv2d` in research/deeplab/model.py.
    """
    settings: dict[str, Any] = {"epsilon": epsilon, "use_bias": use_bias}
    depthwise: dict[str, Any] = {"dilation_rate": dilation_rate, "name": f"{name}_depthwise"}
    if depthwise_norm:
        between = activation if depthwise_activation else None
        x = depthwise_bn(x, kernel_size, activation=between, **depthwise, **settings)
    else:
        x = depthwise_conv(x, kernel_size, use_bias=use_bias, **depthwise)
    return conv_bn(x, filters, name=f"{name}_pointwise", activation=activation, **settings)
