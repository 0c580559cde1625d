"""The decoder of DeepLab v3+, which sharpens the pyramid's features with a finer map of the backbone."""

import keras

from keras_deeplab.blocks import conv_bn
from keras_deeplab.heads.aspp import head_conv
from keras_deeplab.heads.flavours import Flavour
from keras_deeplab.layers import ResizeBilinear, conventions


def decoder(
    x: keras.KerasTensor,
    low_level: keras.KerasTensor,
    *,
    flavour: Flavour,
    low_level_filters: int = 48,
    filters: int = 256,
    separable: bool = True,
) -> keras.KerasTensor:
    """ASPP features and a finer map (B, 4h, 4w, C) to (B, 4h, 4w, filters): v3+, section 3.1 and figure 2.

    The finer map is projected to `low_level_filters`, the coarse one resized to it; 3x3 convolutions refine both.
    They are concatenated as in research/deeplab/model.py, the coarse one first.
    """
    low_level = conv_bn(
        low_level,
        low_level_filters,
        activation=flavour.activation,
        epsilon=flavour.epsilon,
        use_bias=flavour.use_bias,
        name="feature_projection0",
    )
    if flavour.aspp_conv:
        x = head_conv(x, filters, flavour, separable=separable, name="aspp_conv")
    x = ResizeBilinear(**conventions(flavour.resize), name="decoder_resize")([x, low_level])
    x = keras.layers.Concatenate(name="decoder_concat")([x, low_level])
    for index in range(flavour.decoder_convs):
        x = head_conv(
            x, filters, flavour, separable=separable, kernel_size=flavour.kernel_size, name=f"decoder_conv{index}"
        )
        if index < len(flavour.decoder_dropouts):
            rate = flavour.decoder_dropouts[index]
            x = keras.layers.Dropout(rate, name=f"decoder_conv{index}_dropout")(x)
    return x
