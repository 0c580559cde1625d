"""ResNet in the other forms that timm has: deep and tiered stems, pooled shortcuts, wide units, more depths.

The letters of timm's names: `c` has a stem of three 3x3 convolutions, `s` one twice as wide, `d` the stem of `c` and a
mean in front of a strided shortcut's 1x1 convolution ("Bag of Tricks", arXiv 1812.01187), `t` the shortcut of `d` and a
stem that widens step by step. Where timm makes a network dense it doesn't leave those means out: they keep neighbours
of one step, whatever the rate around them, and count the zeros behind the map's end, which they don't with a stride. So
these networks make their output stride themselves. `resnest` and `res2net` are built on the same stages.

Layers have timm's names, a full stop being an underscore here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding, resnet, se_resnet_timm
from keras_deeplab.blocks import ImageShape

OUTPUT_STRIDES = (8, 16, 32)
# Filters of a stem's three convolutions; None for the one of 7x7.
DEEP, WIDE, TIERED = (32, 32, 64), (64, 64, 128), (24, 32, 64)


@dataclass(frozen=True)
class Form:
    """A network: units in each stage, and what differs from torchvision's ResNet.

    `bottlenecks` are units of three convolutions, `stem` as above, `pooled` the shortcut of a ResNet-D; `width` are the
    filters of a group inside the first stage's units, and `gated` units end in squeeze and excitation.
    """

    units: tuple[int, ...]
    bottlenecks: bool = True
    stem: tuple[int, ...] | None = None
    pooled: bool = False
    width: int = 64
    groups: int = 1
    gated: bool = False


_50, _101, _152, _200 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3), (3, 24, 36, 3)
TABLE = {
    "resnet18d": Form((2, 2, 2, 2), False, DEEP, True),
    "resnet34d": Form(_50, False, DEEP, True),
    "resnet26d": Form((2, 2, 2, 2), True, DEEP, True),
    "resnet50d": Form(_50, True, DEEP, True),
    "resnet101d": Form(_101, True, DEEP, True),
    "resnet152d": Form(_152, True, DEEP, True),
    "resnet200d": Form(_200, True, DEEP, True),
    "resnet10t": Form((1, 1, 1, 1), False, TIERED, True),
    "resnet14t": Form((1, 1, 1, 1), True, TIERED, True),
    "resnet26t": Form((2, 2, 2, 2), True, TIERED, True),
    "resnet50t": Form(_50, True, TIERED, True),
    "resnet50c": Form(_50, True, DEEP),
    "resnet101c": Form(_101, True, DEEP),
    "resnet152c": Form(_152, True, DEEP),
    "resnet50s": Form(_50, True, WIDE),
    "resnet101s": Form(_101, True, WIDE),
    "resnet152s": Form(_152, True, WIDE),
    "resnet26": Form((2, 2, 2, 2)),
    "resnet200": Form(_200),
    "wide_resnet50_2": Form(_50, width=128),
    "wide_resnet101_2": Form(_101, width=128),
    "seresnet50t": Form(_50, True, TIERED, True, gated=True),
    "seresnet152d": Form(_152, True, DEEP, True, gated=True),
    "seresnet200d": Form(_200, True, DEEP, True, gated=True),
}


@dataclass(frozen=True)
class Place:
    """A unit's name, filters, stride, rates of its first 3x3 convolution and of the others, and whether it is first."""

    name: str
    filters: int
    strides: int
    first_rate: int
    rate: int
    first: bool


def resnet_timm(name: str, input_shape: ImageShape = (None, None, 3), output_stride: int = 32) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 or (with bottlenecks) 2048 feature maps.

    Args:
        name: a key of `TABLE`.
        input_shape: (height, width, channels); None for any height and width.
        output_stride: 8, 16 or 32.

    Returns:
        A functional `keras.Model` of that name.

    Raises:
        ValueError: another output stride.

    Source: timm/models/resnet.py in huggingface/pytorch-image-models.

    >>> from keras_deeplab.backbones.resnet_timm import resnet_timm
    >>> resnet_timm("resnet18d", (64, 64, 3), output_stride=16).output_shape
    (None, 4, 4, 512)
    """
    form = TABLE[name]
    return staged(name, form, partial(_bottleneck if form.bottlenecks else _basic, form), input_shape, output_stride)


def staged(
    name: str,
    form: Form,
    branch: Callable[[keras.KerasTensor, Place], keras.KerasTensor],
    input_shape: ImageShape,
    output_stride: int,
) -> keras.Model:
    """The network of a form whose units add `branch` of their input to it."""
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"{name} has output stride 8, 16 or 32; received output_stride={output_stride!r}.")
    inputs = keras.Input(input_shape)
    x, stride, rate, rate_before = _stem(inputs, form.stem), 4, 1, 1
    for stage, (filters, strides) in enumerate(resnet.STAGES, start=1):
        if stride >= output_stride:
            rate, strides = rate * strides, 1
        stride *= strides
        for index in range(form.units[stage - 1]):
            place = Place(f"layer{stage}_{index}", filters, strides if index == 0 else 1, rate_before, rate, index == 0)
            rate_before = rate
            beside = _shortcut(x, filters * (resnet.EXPANSION if form.bottlenecks else 1), place, form.pooled)
            x = resnet.join(branch(x, place), beside, place.name)
    return keras.Model(inputs, x, name=name)


def convolution(
    x: keras.KerasTensor,
    filters: int,
    place: Place,
    name: str,
    groups: int = 1,
    activation: str | None = "relu",
    first: bool = True,
) -> keras.KerasTensor:
    """A unit's first 3x3 convolution, or a later one, with batch norm and activation."""
    strides, rate = (place.strides, place.first_rate) if first else (1, place.rate)
    if strides > 1:
        return fixed_padding.conv_bn(x, filters, 3, strides=strides, groups=groups, activation=activation, name=name)
    return blocks.conv_bn(x, filters, 3, dilation_rate=rate, groups=groups, activation=activation, name=name)


def padded_mean(x: keras.KerasTensor, strides: int, name: str) -> keras.KerasTensor:
    """Means of 3x3 windows, of which zeros around the map are a part."""
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return keras.layers.AveragePooling2D(3, strides, name=name)(x)


def _stem(inputs, filters):
    if filters is None:
        return resnet.stem(inputs)
    first, second, third = filters
    x = resnet.conv3x3(inputs, first, strides=2, name="conv1_1")
    x = resnet.conv3x3(x, second, name="conv1_2")
    return resnet.pooling(resnet.conv3x3(x, third, name="conv1_3"))


def _shortcut(x, filters, place, pooled):
    if pooled and place.first and place.strides == 1 and place.rate > 1:
        name = f"{place.name}_downsample_pool"
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
        x = keras.layers.AveragePooling2D(2, 1, name=name)(x)
    return resnet.shortcut(x, filters, place.strides, place.name, pooled)


def _basic(form, x, place):
    x = convolution(x, place.filters, place, f"{place.name}_conv1")
    x = convolution(x, place.filters, place, f"{place.name}_conv2", activation=None, first=False)
    return se_resnet_timm.gated(x, place.name) if form.gated else x


def _bottleneck(form, x, place):
    inner = place.filters * form.width // 64 * form.groups
    x = blocks.conv_bn(x, inner, name=f"{place.name}_conv1")
    x = convolution(x, inner, place, f"{place.name}_conv2", form.groups)
    x = blocks.conv_bn(x, resnet.EXPANSION * place.filters, activation=None, name=f"{place.name}_conv3")
    return se_resnet_timm.gated(x, place.name) if form.gated else x


# registry key -> builder
BUILDERS = {name: partial(resnet_timm, name) for name in TABLE}
