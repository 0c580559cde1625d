"""What DeepLab puts on a dense backbone: atrous spatial pyramid pooling (v3) and the decoder (v3+).

Layer names, concatenation order, batch norm's epsilon and the align_corners resize are those of research/deeplab,
model.py, whose checkpoints these heads hold.
"""

import keras

from keras_deeplab.blocks import conv_bn, separable_conv_bn
from keras_deeplab.layers import ResizeBilinear


def atrous_rates(output_stride):
    """The ASPP rates that go with an output stride: (6, 12, 18) at 16, twice that at 8 (v3, section 3.3)."""
    return tuple(round(96 / output_stride * factor) for factor in (1, 2, 3))


def aspp(x, *, rates, filters=256, separable=False, image_pooling=True, dropout=0.1):
    """Features (B, h, w, C) to (B, h, w, filters): parallel convolutions at several rates and the image's mean.

    Args:
        rates: dilation rates of the 3x3 branches; none for image pooling and the 1x1 branch alone.
        separable: whether the 3x3 branches are atrous separable convolutions (v3+).
        image_pooling: whether the image-level feature takes part.

    Source: DeepLab v3, figure 5; the branches are concatenated as in research/deeplab/model.py, image pooling first.
    """
    branches = []
    if image_pooling:
        pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="image_pooling_mean")(x)
        pooled = conv_bn(pooled, filters, name="image_pooling")
        branches.append(ResizeBilinear(name="image_pooling_resize")([pooled, x]))
    branches.append(conv_bn(x, filters, name="aspp0"))
    for index, rate in enumerate(rates, start=1):
        if separable:
            branches.append(separable_conv_bn(x, filters, dilation_rate=rate, name=f"aspp{index}"))
        else:
            branches.append(conv_bn(x, filters, 3, dilation_rate=rate, name=f"aspp{index}"))
    if len(branches) == 1:
        return branches[0]
    x = keras.layers.Concatenate(name="aspp_concat")(branches)
    x = conv_bn(x, filters, name="concat_projection")
    return keras.layers.Dropout(dropout, name="concat_projection_dropout")(x)


def decoder(x, low_level, *, low_level_filters=48, filters=256, separable=True):
    """ASPP features and a finer map (B, 4h, 4w, C) to (B, 4h, 4w, filters): v3+, section 3.1 and figure 2.

    The finer map is projected to `low_level_filters`, the coarse one resized to it; two 3x3 convolutions refine both.
    """
    low_level = conv_bn(low_level, low_level_filters, name="feature_projection0")
    x = ResizeBilinear(name="decoder_resize")([x, low_level])
    x = keras.layers.Concatenate(name="decoder_concat")([x, low_level])
    for index in range(2):
        name = f"decoder_conv{index}"
        x = separable_conv_bn(x, filters, name=name) if separable else conv_bn(x, filters, 3, name=name)
    return x


def classifier(x, num_classes):
    """Features to float32 logits (B, h, w, num_classes) by a 1x1 convolution with bias."""
    initializer = keras.initializers.TruncatedNormal(stddev=0.01)
    layer = keras.layers.Conv2D(num_classes, 1, kernel_initializer=initializer, dtype="float32", name="logits")
    return layer(x)
