"""ResNet in the forms that MMSegmentation, PaddleSeg and Detectron2 have: another stem, shortcut or place of strides.

The variants of "Bag of Tricks for Image Classification" (arXiv 1812.01187), which GluonCV numbered: C has a stem of
three 3x3 convolutions, D moreover pools in front of a strided shortcut's 1x1 convolution. Detectron2's "R-103" is
ResNet-101 with the stem of DeepLab, which is twice as wide; its "R-50" has torchvision's stem and MSRA's strides.
Everything else is torchvision's ResNet.

Sources: mmseg/models/backbones/resnet.py; paddleseg/models/backbones/resnet_vd.py; detectron2's
projects/DeepLab/deeplab/resnet.py.
"""

from functools import partial

import keras

from keras_deeplab.backbones.resnet import basic_unit, bottleneck_unit, deep_stem, stacked, stem
from keras_deeplab.blocks import ImageShape

# The poolings in a ResNet-D's shortcuts.
POOLS = tuple(f"layer{stage}_0_downsample_pool" for stage in (2, 3, 4))


def resnet18_v1c(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32: ResNet-C of 18 layers.

    Args:
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` named `resnet18_v1c`.

    >>> from keras_deeplab.backbones.resnet_deep_stem import resnet18_v1c
    >>> resnet18_v1c((64, 64, 3)).output_shape
    (None, 2, 2, 512)
    """
    return _resnet(18, input_shape, "resnet18_v1c")


def resnet34_v1c(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 512 feature maps at stride 32; see `resnet18_v1c`."""
    return _resnet(34, input_shape, "resnet34_v1c")


def resnet50_v1c(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet18_v1c`."""
    return _resnet(50, input_shape, "resnet50_v1c")


def resnet101_v1c(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet18_v1c`."""
    return _resnet(101, input_shape, "resnet101_v1c")


def resnet152_v1c(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; see `resnet18_v1c`."""
    return _resnet(152, input_shape, "resnet152_v1c")


def resnet50_v1d(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32: ResNet-D."""
    return _resnet(50, input_shape, "resnet50_v1d", pooled=True)


def resnet101_v1d(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32: ResNet-D."""
    return _resnet(101, input_shape, "resnet101_v1d", pooled=True)


def resnet152_v1d(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32: ResNet-D."""
    return _resnet(152, input_shape, "resnet152_v1d", pooled=True)


def resnet50_deeplab(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; Detectron2's R-52."""
    return _resnet(50, input_shape, "resnet50_deeplab", stem_filters=128)


def resnet101_deeplab(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; Detectron2's R-103."""
    return _resnet(101, input_shape, "resnet101_deeplab", stem_filters=128)


def resnet152_deeplab(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 2048 feature maps at stride 32; Detectron2's R-154."""
    return _resnet(152, input_shape, "resnet152_deeplab", stem_filters=128)


def resnet50_msra(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"detectron2"`, (B, H, W, C), to 2048 feature maps at stride 32, its strides in 1x1 ones."""
    return stacked(50, bottleneck_unit, input_shape, 0, "resnet50_msra", stem, {"stride_first": True})


def resnet101_msra(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"detectron2"`, (B, H, W, C), to 2048 feature maps at stride 32, its strides in 1x1 ones."""
    return stacked(101, bottleneck_unit, input_shape, 0, "resnet101_msra", stem, {"stride_first": True})


def resnet152_msra(input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Images normalised as `"detectron2"`, (B, H, W, C), to 2048 feature maps at stride 32, its strides in 1x1 ones."""
    return stacked(152, bottleneck_unit, input_shape, 0, "resnet152_msra", stem, {"stride_first": True})


def _resnet(depth, input_shape, name, pooled=False, stem_filters=64):
    unit = bottleneck_unit if depth >= 50 else basic_unit
    begin = partial(deep_stem, filters=stem_filters)
    return stacked(depth, unit, input_shape, 0, name, begin, {"pooled_shortcut": pooled})
