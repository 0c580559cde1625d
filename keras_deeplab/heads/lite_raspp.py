"""Lite R-ASPP, the head of the DeepLabs on MobileNetV3 (arXiv 1905.02244, section 6.4 and figure 10).

Layer names and batch norm's epsilon are those of research/deeplab, model.py, with the flags that g3doc/model_zoo.md
lists for MobileNetV3. torchvision's form (segmentation/lraspp.py) has a plain sigmoid without bias of the whole image's
mean for a gate.
"""

import keras

from keras_deeplab.blocks import conv_bn
from keras_deeplab.layers import ResizeBilinear, WindowedAveragePooling2D
from keras_deeplab.rewrite import taps

# Network -> the layer at stride 8 that the head's decoder taps: the depthwise map before its squeeze and excitation
# (networks_to_feature_maps in research/deeplab/core/feature_extractor.py); in torchvision the first block of that
# stride.
LOW_LEVEL = {
    "mobilenet_v3_large_seg": "expanded_conv_5_depthwise_relu",
    "mobilenet_v3_small_seg": "expanded_conv_2_depthwise_relu",
    "mobilenet_v3_large": "features_4_block_3_0_BN",
    "mobilenet_v3_small": "features_2_block_2_0_BN",
}
POOLING_CROP_SIZE, POOLING_STRIDES = 769, (4, 5)
QUANTIZED_SIXTH = 0.16667


def low_level_layer(classifier: keras.Model) -> str:
    """The layer of a classifier whose map, at stride 8, the head's decoder takes: the published one, or the last.

    >>> from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2
    >>> low_level_layer(mobilenet_v2())
    'block_6_expand_relu6'
    """
    name = LOW_LEVEL.get(classifier.name)
    if name is not None:
        return name
    last = taps(classifier)
    if 8 not in last:
        raise ValueError(
            f"Lite R-ASPP refines its scores at stride 8; {classifier.name!r} has maps of strides "
            f"{', '.join(map(str, last))}."
        )
    return last[8]


def crop_window(output_stride: int, crop_size: int = POOLING_CROP_SIZE) -> int:
    """Side of the pooling window that spans a crop: 25 at output stride 32 and 49 at 16, for crops of 769 pixels.

    >>> crop_window(32), crop_window(16)
    (25, 49)
    """
    return (crop_size - 1) // output_stride + 1


def lite_raspp(
    x: keras.KerasTensor,
    low_level: keras.KerasTensor,
    num_classes: int,
    *,
    filters: int = 128,
    pooling_window: int | tuple[int, int] | None = None,
    pooling_strides: tuple[int, int] = POOLING_STRIDES,
    quantized_sigmoid: bool = True,
    gate_bias: bool = True,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> keras.KerasTensor:
    """Features (B, h, w, C) and a finer map (B, H, W, D) to float32 logits (B, H, W, num_classes).

    One 1x1 convolution sees the features; a gate made of large windows' means weighs its channels. Both it and the
    finer map are scored by a 1x1 convolution each, and the scores are added.

    Args:
        low_level: the finer map, at stride 8 in the published networks.
        filters: width of the 1x1 convolution and its gate.
        pooling_window: side of the square windows whose means make the gate, in positions of the features, such as
            `crop_window(output_stride)`; or (height, width). A map that is smaller is one window. None for one mean
            of the whole map.
        pooling_strides: steps from a window to the next, (down, across).
        quantized_sigmoid: whether the gate is relu6(x + 3) * 0.16667, as in Google's networks, or a sigmoid.
        gate_bias: whether the gate's convolution has a bias.
        align_corners, half_pixel_centers: convention of the bilinear resizes, as `ResizeBilinear` takes them.
    """
    if pooling_window is None:
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="image_pooling_mean")(x)
    else:
        gate = WindowedAveragePooling2D(pooling_window, pooling_strides, name="image_pooling_mean")(x)
    activation = "hard_sigmoid" if quantized_sigmoid else "sigmoid"
    gate = keras.layers.Conv2D(filters, 1, activation=activation, use_bias=gate_bias, name="image_pooling")(gate)
    if quantized_sigmoid:
        gate = keras.layers.Rescaling(6 * QUANTIZED_SIXTH, name="image_pooling_sixth")(gate)
    gate = ResizeBilinear(align_corners, half_pixel_centers, name="image_pooling_resize")([gate, x])
    x = conv_bn(x, filters, name="aspp0")
    x = keras.layers.Multiply(name="image_pooling_gate")([x, gate])
    fine = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="feature_projection0")(low_level)
    # research/deeplab resizes first. A 1x1 convolution and a bilinear resize change places without changing a value,
    # and this way the convolution has a sixteenth of the positions.
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="decoder_conv0")(x)
    x = ResizeBilinear(align_corners, half_pixel_centers, dtype="float32", name="decoder_resize")([x, fine])
    return keras.layers.Add(dtype="float32", name="logits")([x, fine])
