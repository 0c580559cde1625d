"""VGG (Simonyan and Zisserman 2015, table 1): with torchvision's pooling, and with that of DeepLab v1's Caffe networks.

torchvision pools 2x2 windows. DeepLab widened them to 3x3, one pixel of padding in front, so that at sizes 32 n + 1
the maps of all strides nest with their corners on each other, and Caffe rounds a pooled size up. The convolutions are
the same: 3x3, all with a bias, also before batch norm.
"""

import keras

from keras_deeplab import blocks
from keras_deeplab.blocks import ImageShape

# filters of the convolutions of each stage; a pooling of stride 2 ends every stage
FILTERS = (64, 128, 256, 512, 512)
# layers: convolutions in each stage (table 1; configurations A, B, D and E)
TABLE = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
# pooling: window, ((top, bottom), (left, right)) of padding before it
POOLINGS = {
    "2x2": (2, None),
    "3x3": (3, ((1, 1), (1, 1))),
    # One more row behind makes what is left over a window of its own.
    "3x3_ceil": (3, ((1, 2), (1, 2))),
}


def vgg11(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16`."""
    return _vgg(11, input_shape, "vgg11")


def vgg13(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16`."""
    return _vgg(13, input_shape, "vgg13")


def vgg16(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: a `keras.Model` `vgg16`.

    Args:
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` whose output is the last pooling, `pool5`.

    Source: `vgg16` in torchvision/models/vgg.py, without its fully connected layers.

    >>> from keras_deeplab.backbones.vgg import vgg16, vgg16_caffe
    >>> vgg16((64, 64, 3)).output_shape, vgg16_caffe((64, 64, 3)).output_shape
    ((None, 2, 2, 512), (None, 3, 3, 512))
    """
    return _vgg(16, input_shape, "vgg16")


def vgg19(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16`."""
    return _vgg(19, input_shape, "vgg19")


def vgg11_bn(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16_bn`."""
    return _vgg(11, input_shape, "vgg11_bn", norm=True)


def vgg13_bn(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16_bn`."""
    return _vgg(13, input_shape, "vgg13_bn", norm=True)


def vgg16_bn(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: `vgg16` with batch norm."""
    return _vgg(16, input_shape, "vgg16_bn", norm=True)


def vgg19_bn(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16_bn`."""
    return _vgg(19, input_shape, "vgg19_bn", norm=True)


def vgg11_caffe(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16_caffe`."""
    return _vgg(11, input_shape, "vgg11_caffe", pooling="3x3_ceil")


def vgg13_caffe(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16_caffe`."""
    return _vgg(13, input_shape, "vgg13_caffe", pooling="3x3_ceil")


def vgg16_caffe(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 512 feature maps at stride 32, as DeepLab v1 has it.

    Its poolings are 3x3 and round sizes up: 64 input pixels become 33, 17, 9, 5 and 3. In the dense network DeepLab's
    `pool5` looks at neighbouring positions, although its input is dilated (`contracted` of the registry's row).

    Args:
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` named `vgg16_caffe`.

    Source: DeepLab v1, section 3.1, and the network specifications of its release.
    """
    return _vgg(16, input_shape, "vgg16_caffe", pooling="3x3_ceil")


def vgg19_caffe(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"caffe_deeplab"`, (B, H, W, C), to 512 feature maps at stride 32; see `vgg16_caffe`."""
    return _vgg(19, input_shape, "vgg19_caffe", pooling="3x3_ceil")


def vgg16_coincheung(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: 3x3 poolings that round down.

    Source: lib/model.py of CoinCheung/Deeplab-Large-FOV. It differs from `vgg16_caffe` at even sizes only.
    """
    return _vgg(16, input_shape, "vgg16_coincheung", pooling="3x3")


def _vgg(layers, input_shape, name, pooling="2x2", norm=False):
    window, padding = POOLINGS[pooling]
    inputs = keras.Input(input_shape)
    x = inputs
    for stage, (filters, convolutions) in enumerate(zip(FILTERS, TABLE[layers], strict=True), start=1):
        for index in range(1, convolutions + 1):
            x = _convolution(x, filters, norm, name=f"conv{stage}_{index}")
        if padding is not None:  # with zeros, which no maximum of ReLU's outputs is below
            x = keras.layers.ZeroPadding2D(padding, name=f"pool{stage}_pad")(x)
        x = keras.layers.MaxPooling2D(window, 2, name=f"pool{stage}")(x)
    return keras.Model(inputs, x, name=name)


def _convolution(x, filters, norm, name):
    if norm:
        return blocks.conv_bn(x, filters, 3, use_bias=True, name=name)
    x = keras.layers.Conv2D(filters, 3, padding="same", name=name)(x)
    return keras.layers.Activation("relu", name=f"{name}_relu")(x)
