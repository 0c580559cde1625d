"""MobileNet EdgeTPU: MobileNetV3 with dense convolutions in its early blocks and plain ReLU, as Edge TPUs compute best.

Layers have slim's names, a slash being an underscore here.
"""

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.blocks import ImageShape

# Of a block: whether its expansion is the dense convolution of that kernel, and no depthwise one follows; kernel,
# expansion, filters, stride, whether it has a shortcut where it can (slim/nets/mobilenet/mobilenet_v3.py, V3_EDGETPU).
TABLE = [
    (True, 3, 1, 16, 1, True),
    (True, 3, 8, 32, 2, True),
    *[(True, 3, 4, 32, 1, True)] * 3,
    (True, 3, 8, 48, 2, True),
    *[(True, 3, 4, 48, 1, True)] * 3,
    (False, 3, 8, 96, 2, True),
    *[(False, 3, 4, 96, 1, True)] * 3,
    (False, 3, 8, 96, 1, False),
    *[(False, 3, 4, 96, 1, True)] * 3,
    (False, 5, 8, 160, 2, True),
    *[(False, 5, 4, 160, 1, True)] * 3,
    (False, 3, 8, 192, 1, True),
]
STEM_FILTERS, LAST_FILTERS = 32, 1280
EPSILON = 1e-3


def mobilenet_edgetpu(
    input_shape: ImageShape = (None, None, 3), alpha: float = 1.0, last_filters: int | None = None
) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 1280 feature maps at stride 32: slim's MobileNet EdgeTPU, less its top.

    Google's EdgeTPU-DeepLab is DeepLab v3 without atrous branches on it, EdgeTPU-DeepLab-slim with `alpha=0.75` and
    `filters=128` in the head.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; a block expands the filters that came out of rounding to multiples of 8.
        last_filters: of the last convolution; None for 1280 times the width.

    Returns:
        A functional `keras.Model` named `mobilenet_edgetpu`.

    Source: slim/nets/mobilenet/mobilenet_v3.py (`V3_EDGETPU`) and conv_blocks.py (`expanded_conv`);
    research/deeplab/core/feature_extractor.py (`mobilenet_edgetpu`, which ends at `layer_24`).

    >>> from keras_deeplab.backbones.mobilenet_edgetpu import mobilenet_edgetpu
    >>> mobilenet_edgetpu((64, 64, 3), alpha=0.75).output_shape
    (None, 2, 2, 960)
    """
    inputs = keras.Input(input_shape)
    x = blocks.conv_bn(inputs, rounded(STEM_FILTERS * alpha, 8), 3, strides=2, name="Conv", epsilon=EPSILON)
    for index, row in enumerate(TABLE):
        x = _block(x, block_name(index), alpha, *row)
    last_filters = rounded(LAST_FILTERS * alpha, 8) if last_filters is None else last_filters
    x = blocks.conv_bn(x, last_filters, name="Conv_1", epsilon=EPSILON)
    return keras.Model(inputs, x, name="mobilenet_edgetpu")


def block_name(index: int) -> str:
    """What slim calls a block.

    >>> block_name(0), block_name(21)
    ('expanded_conv', 'expanded_conv_21')
    """
    return f"expanded_conv_{index}" if index else "expanded_conv"


def _block(x, name, alpha, fused, kernel_size, expansion, filters, stride, shortcut):
    entry, channels, filters = x, x.shape[-1], rounded(filters * alpha, 8)
    expanded = rounded(channels * expansion, 8)
    size, strides = (kernel_size, stride) if fused else (1, 1)
    if expanded > channels:
        x = blocks.conv_bn(x, expanded, size, strides=strides, name=f"{name}_expand", epsilon=EPSILON)
    if not fused:
        x = blocks.depthwise_bn(x, kernel_size, strides=stride, name=f"{name}_depthwise", epsilon=EPSILON)
    x = blocks.conv_bn(x, filters, name=f"{name}_project", activation=None, epsilon=EPSILON)
    if shortcut and stride == 1 and filters == channels:
        x = keras.layers.Add(name=f"{name}_add")([entry, x])
    return x
