"""ResNet (He et al. 2016) as torchvision builds it, and with the strides of the authors' own Caffe networks.

torchvision puts a stage's stride into the 3x3 convolution of its first unit and pads the pooling alike on all sides;
the Caffe networks have it in the 1x1 convolution before, and a pooling that rounds sizes up. Batch norm's epsilon is
1e-5 in both, and they have the same variables.
"""

from typing import Any

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.blocks import ImageShape

# filters inside the stage's units, stride of its first unit
STAGES = [
    (64, 1),
    (128, 2),
    (256, 2),
    (512, 2),
]
# layers: units in each stage (He et al. 2016, table 1)
TABLE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
EXPANSION = 4  # filters out of a bottleneck for each inside


def resnet18(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: a `keras.Model` `resnet18`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        cascade_blocks: 0 to 3 replicas of the last stage behind it, `layer5` to `layer7` (DeepLab v3, section 3.2).
            Each halves the map once more, so that the natural stride is 64, 128 or 256.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: `cascade_blocks` is none of 0, 1, 2 and 3.

    Source: `resnet18` in torchvision/models/resnet.py.

    >>> from keras_deeplab.backbones.resnet import resnet18
    >>> resnet18((64, 64, 3)).output_shape
    (None, 2, 2, 512)
    """
    return _resnet(18, basic_unit, input_shape, cascade_blocks, "resnet18")


def resnet34(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `resnet18`."""
    return _resnet(34, basic_unit, input_shape, cascade_blocks, "resnet34")


def resnet50(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet18`."""
    return _resnet(50, bottleneck_unit, input_shape, cascade_blocks, "resnet50")


def resnet101(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet18`."""
    return _resnet(101, bottleneck_unit, input_shape, cascade_blocks, "resnet101")


def resnet152(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet18`."""
    return _resnet(152, bottleneck_unit, input_shape, cascade_blocks, "resnet152")


def resnet50_caffe(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 2048 feature maps at stride 32.

    The stride of a stage is in the first 1x1 convolution of its first unit, and the pooling rounds sizes up: 128 input
    pixels become 33 after it, not 32.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        cascade_blocks: as in `resnet18`.

    Returns:
        A functional `keras.Model` named `resnet50_caffe`.

    Raises:
        ValueError: `cascade_blocks` is none of 0, 1, 2 and 3.

    Source: the networks of KaimingHe/deep-residual-networks, with a trainable batch norm as in libs/models/resnet.py
    of kazuto1011/deeplab-pytorch.
    """
    return _resnet(50, bottleneck_unit, input_shape, cascade_blocks, "resnet50_caffe", caffe=True)


def resnet101_caffe(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet50_caffe`."""
    return _resnet(101, bottleneck_unit, input_shape, cascade_blocks, "resnet101_caffe", caffe=True)


def resnet152_caffe(input_shape: ImageShape = (None, None, 3), cascade_blocks: int = 0) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet50_caffe`."""
    return _resnet(152, bottleneck_unit, input_shape, cascade_blocks, "resnet152_caffe", caffe=True)


def stem(inputs: keras.KerasTensor, ceil_pooling: bool = False) -> keras.KerasTensor:
    """Images to 64 feature maps at stride 4: a 7x7 convolution, batch norm, ReLU and a 3x3 max pooling."""
    return pooling(fixed_padding.conv_bn(inputs, 64, 7, strides=2, name="conv1"), ceil_pooling)


def deep_stem(inputs: keras.KerasTensor, filters: int = 64) -> keras.KerasTensor:
    """Images to `filters` maps at stride 4: three 3x3 convolutions, the first two half as wide, and the pooling."""
    x = conv3x3(inputs, filters // 2, strides=2, name="conv1_1")
    x = conv3x3(x, filters // 2, name="conv1_2")
    return pooling(conv3x3(x, filters, name="conv1_3"))


def pooling(x: keras.KerasTensor, ceil_pooling: bool = False) -> keras.KerasTensor:
    """The stem's 3x3 max pooling of stride 2; zeros may pad it because ReLU precedes it."""
    # Rounding up is one more row behind; where the size is odd already, no window reaches it.
    behind = 2 if ceil_pooling else 1
    x = keras.layers.ZeroPadding2D(((1, behind), (1, behind)), name="maxpool_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)


def conv3x3(
    x: keras.KerasTensor,
    filters: int,
    *,
    name: str,
    strides: int = 1,
    dilation_rate: int = 1,
    activation: str | None = "relu",
) -> keras.KerasTensor:
    """3x3 convolution, padded alike on all sides, then batch norm, then activation: strided or dilated, not both."""
    if strides > 1:
        return fixed_padding.conv_bn(x, filters, 3, strides=strides, activation=activation, name=name)
    return blocks.conv_bn(x, filters, 3, dilation_rate=dilation_rate, activation=activation, name=name)


def basic_unit(
    x: keras.KerasTensor,
    filters: int,
    *,
    name: str,
    strides: int = 1,
    dilation_rate: int = 1,
    pooled_shortcut: bool = False,
) -> keras.KerasTensor:
    """Two 3x3 convolutions beside a shortcut, (B, H, W, any) to (B, H / strides, W / strides, filters).

    The shortcut's stride is in its 1x1 convolution, with `pooled_shortcut` in a pooling before it.
    """
    beside = shortcut(x, filters, strides, name, pooled_shortcut)
    x = conv3x3(x, filters, strides=strides, dilation_rate=dilation_rate, name=f"{name}_conv1")
    x = conv3x3(x, filters, dilation_rate=dilation_rate, activation=None, name=f"{name}_conv2")
    return join(x, beside, name)


def bottleneck_unit(
    x: keras.KerasTensor,
    filters: int,
    *,
    name: str,
    strides: int = 1,
    dilation_rate: int = 1,
    stride_first: bool = False,
    pooled_shortcut: bool = False,
) -> keras.KerasTensor:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, to four times `filters`.

    The stride is in the 3x3 convolution, with `stride_first` in the 1x1 before it; `pooled_shortcut` as in
    `basic_unit`.
    """
    outer = EXPANSION * filters
    first, second = (strides, 1) if stride_first else (1, strides)
    beside = shortcut(x, outer, strides, name, pooled_shortcut)
    x = blocks.conv_bn(x, filters, strides=first, name=f"{name}_conv1")
    x = conv3x3(x, filters, strides=second, dilation_rate=dilation_rate, name=f"{name}_conv2")
    x = blocks.conv_bn(x, outer, activation=None, name=f"{name}_conv3")
    return join(x, beside, name)


def check_cascade_blocks(cascade_blocks: int) -> None:
    """Raises ValueError for anything but 0, 1, 2 or 3 blocks behind the last."""
    if type(cascade_blocks) is not int or not 0 <= cascade_blocks <= 3:
        raise ValueError(
            "cascade_blocks must be 0, 1, 2 or 3, the number of replicas of the last block (DeepLab v3 has at most "
            f"block5 to block7); received {cascade_blocks!r}."
        )


def _resnet(layers, unit, input_shape, cascade_blocks, name, caffe=False):
    settings = {"stride_first": True} if caffe else {}
    return stacked(layers, unit, input_shape, cascade_blocks, name, lambda x: stem(x, ceil_pooling=caffe), settings)


def stacked(layers: Any, unit: Any, input_shape: Any, cascade_blocks: int, name: str, begin: Any, settings: Any) -> Any:
    """The network of a depth in `TABLE`.

    Args:
        unit: `basic_unit` or `bottleneck_unit`, which gets `settings`.
        begin: its stem, a function of the images.
    """
    check_cascade_blocks(cascade_blocks)
    stages = [(*stage, units) for stage, units in zip(STAGES, TABLE[layers], strict=True)]
    inputs = keras.Input(input_shape)
    x = begin(inputs)
    for stage, (filters, first_stride, units) in enumerate(stages + stages[-1:] * cascade_blocks, start=1):
        for index in range(units):
            strides = first_stride if index == 0 else 1
            x = unit(x, filters, strides=strides, name=f"layer{stage}_{index}", **settings)
    return keras.Model(inputs, x, name=name)


def shortcut(x: keras.KerasTensor, filters: int, strides: int, name: str, pooled: bool = False) -> keras.KerasTensor:
    """What a unit adds to: its input, projected by a 1x1 convolution where the unit has another shape.

    Its stride is in that convolution, `pooled` in a 2x2 mean before it.
    """
    if strides == 1 and x.shape[-1] == filters:
        return x
    if pooled and strides > 1:
        # Behind an odd size, a mean of what is there.
        x = keras.layers.AveragePooling2D(2, strides, padding="same", name=f"{name}_downsample_pool")(x)
        strides = 1
    return blocks.conv_bn(x, filters, strides=strides, activation=None, name=f"{name}_downsample")


def join(x: keras.KerasTensor, beside: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """The end of a unit: the sum of both ways, and ReLU."""
    x = keras.layers.Add(name=f"{name}_add")([x, beside])
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)
