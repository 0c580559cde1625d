"""HRNetV2 (arXiv 1904.04514, figures 1 and 3) as VainF's DeepLab has it (network/backbone/hrnetv2.py).

It never gives up its fine map: branches at strides 4, 8, 16 and 32 run side by side and exchange their features, so
its output stride is 4 from the start and `keras_deeplab.atrous` has nothing to do.
"""

import keras

from keras_deeplab.backbones.fixed_padding import conv_bn
from keras_deeplab.backbones.resnet import basic_unit, bottleneck_unit
from keras_deeplab.blocks import ImageShape
from keras_deeplab.layers import ResizeBilinear, UpsampleNearest

# stage, branches, modules (each of four basic blocks a branch and one exchange between all branches)
STAGES = [
    ("stage2", 2, 1),
    ("stage3", 3, 4),
    ("stage4", 4, 3),
]
BOTTLENECKS = 4
BASIC_BLOCKS = 4


def hrnetv2_32(input_shape: ImageShape = (None, None, 3), output_stride: int = 4) -> keras.Model:
    """Normalised images, (B, H, W, C), to 480 feature maps at stride 4: HRNetV2 of width 32.

    Args:
        input_shape: (height, width, channels); None for any height and width. The source takes multiples of 32; at
            other sizes a coarse map's last row or column, whose half lies outside, is cut where it is enlarged.
        output_stride: 4, the only one.

    Returns:
        A functional `keras.Model` named `hrnetv2_32`.

    Raises:
        ValueError: another output stride.
    """
    return _hrnet(32, input_shape, output_stride, "hrnetv2_32")


def hrnetv2_48(input_shape: ImageShape = (None, None, 3), output_stride: int = 4) -> keras.Model:
    """Normalised images, (B, H, W, C), to 720 feature maps at stride 4: HRNetV2 of width 48."""
    return _hrnet(48, input_shape, output_stride, "hrnetv2_48")


def _hrnet(width, input_shape, output_stride, name):
    if output_stride != 4:
        raise ValueError(f"{name} has output stride 4, its own; received {output_stride!r}. Ask for 4.")
    inputs = keras.Input(input_shape)
    # No ReLU in between: the source runs the stem's layers in the order of their declaration, and there the one ReLU
    # comes last.
    x = conv_bn(inputs, 64, 3, strides=2, activation=None, name="conv1")
    x = conv_bn(x, 64, 3, strides=2, name="conv2")
    for unit in range(BOTTLENECKS):
        x = bottleneck_unit(x, 64, name=f"layer1_{unit}")
    branches = [
        conv_bn(x, width, 3, name="transition1_0_0"),
        conv_bn(x, 2 * width, 3, strides=2, name="transition1_1_0_0"),
    ]
    for stage, count, modules in STAGES:
        if len(branches) < count:
            finer = branches[-1]
            branches.append(conv_bn(finer, 2 * finer.shape[-1], 3, strides=2, name=f"transition{count - 1}_0"))
        for module in range(modules):
            for index in range(count):
                for block in range(BASIC_BLOCKS):
                    branch_block = f"{stage}_{module}_branches_{index}_{block}"
                    branches[index] = basic_unit(branches[index], branches[index].shape[-1], name=branch_block)
            branches = _exchange(branches, name=f"{stage}_{module}_fuse_layers")
    finest, *coarser = branches
    enlarged = [
        ResizeBilinear(align_corners=False, name=f"stage4_resize_{index}")([branch, finest])
        for index, branch in enumerate(coarser, start=1)
    ]
    x = keras.layers.Concatenate(name="stage4_concat")([finest, *enlarged])
    return keras.Model(inputs, x, name=name)


def _exchange(branches, name):
    """Every branch becomes the sum of all of them, brought to its own size and width."""
    widths = [branch.shape[-1] for branch in branches]
    fused = []
    for to, reference in enumerate(branches):
        terms = []
        for source, branch in enumerate(branches):
            path = f"{name}_{to}_{source}"
            if source < to:
                terms.append(_downsample(branch, widths[to], steps=to - source, name=path))
            elif source == to:
                terms.append(branch)
            else:
                term = conv_bn(branch, widths[to], activation=None, name=f"{path}_0")
                enlarge = UpsampleNearest(2 ** (source - to), name=f"{path}_2")
                terms.append(enlarge([term, reference]))
        x = keras.layers.Add(name=f"{name}_{to}_add")(terms)
        fused.append(keras.layers.Activation("relu", name=f"{name}_{to}_relu")(x))
    return fused


def _downsample(x, filters, steps, name):
    """3x3 convolutions of stride 2, the last of them linear and to `filters`."""
    for step in range(steps - 1):
        x = conv_bn(x, x.shape[-1], 3, strides=2, name=f"{name}_{step}_0")
    return conv_bn(x, filters, 3, strides=2, activation=None, name=f"{name}_{steps - 1}_0")
