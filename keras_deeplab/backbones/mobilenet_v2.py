"""MobileNetV2 as Google's DeepLab trained it (slim/nets/mobilenet/mobilenet_v2.py, `V2_DEF`).

Paddings are TensorFlow's "same" and batch norm's epsilon is 1e-3. Layers have the names of
`keras.applications.MobileNetV2`, which has the same weights.
"""

import keras

from keras_deeplab.blocks import conv_bn, depthwise_bn

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
EPSILON = 1e-3


def mobilenet_v2(input_shape=(None, None, 3), alpha=1.0, divisible_by=8):
    """Images in [-1, 1], (B, H, W, C), to 320 feature maps at stride 32: MobileNetV2 without its last convolution.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier on every layer's filters.
        divisible_by: filters are rounded to a multiple of this: 8 as in `keras.applications`, 1 as in the official
            DeepLab checkpoints with width 0.5 (24 filters become 12, not 16).

    Returns:
        A functional `keras.Model` named `mobilenet_v2`.
    """

    def width(filters):
        return _rounded(filters * alpha, divisible_by)

    inputs = keras.Input(input_shape)
    settings = {"activation": "relu6", "epsilon": EPSILON}
    x = conv_bn(inputs, width(32), 3, strides=2, name="Conv1", **settings)
    block = 0
    for expansion, filters, repeats, first_stride in TABLE:
        for repeat in range(repeats):
            name = f"block_{block}" if block else "expanded_conv"
            stride = first_stride if repeat == 0 else 1
            shortcut = x
            if expansion > 1:
                x = conv_bn(x, _rounded(expansion * x.shape[-1], 8), name=f"{name}_expand", **settings)
            x = depthwise_bn(x, 3, strides=stride, name=f"{name}_depthwise", **settings)
            x = conv_bn(x, width(filters), name=f"{name}_project", activation=None, epsilon=EPSILON)
            if stride == 1 and shortcut.shape[-1] == x.shape[-1]:
                x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
            block += 1
    return keras.Model(inputs, x, name="mobilenet_v2")


def _rounded(filters, divisor):
    """The nearest multiple of `divisor`, or the next where that takes away more than a tenth."""
    nearest = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * filters else nearest + divisor
