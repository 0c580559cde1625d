"""DeepLab v2."""

import os
from collections.abc import Sequence

import keras

from keras_deeplab.heads import large_fov
from keras_deeplab.layers import ResizeBilinear, ScaleBilinear
from keras_deeplab.models.common import check_numbers, document, encode, finish, whole_numbers
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import SegmentationModel

# Smaller scales than 1 that the network sees the image at (section 4.1.2, "MSC").
SCALES = (0.75, 0.5)
VGG_FILTERS = 1024


def DeepLabV2(
    backbone: str | keras.Model = "resnet101_caffe",
    weights: str | os.PathLike[str] | None = None,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    output_stride: int = 8,
    atrous_rates: Sequence[int] | None = None,
    multi_scale: bool = False,
    filters: int | None = None,
    dropout: float = 0.5,
    align_corners: bool = True,
    backbone_weights: str | os.PathLike[str] | None = None,
    include_preprocessing: bool | str = True,
    upsample_logits: bool = True,
    classifier_activation: str | None = None,
    classes: Sequence[str] | Classes | None = None,
    name: str | None = None,
) -> SegmentationModel:
    """DeepLab v2: images to class logits by atrous spatial pyramid pooling whose branches each score and are summed.

    Source: "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected
    CRFs" (arXiv 1606.00915), figures 4 and 7.

    Example:

    >>> import keras_deeplab
    >>> model = keras_deeplab.DeepLabV2("vgg11_caffe", num_classes=3, filters=32, atrous_rates=(2, 4, 8, 12))
    >>> model.get_layer("fc6_3").dilation_rate, model.compute_output_shape((1, 65, 97, 3))
    ((8, 8), (1, 65, 97, 3))
    """
    check_numbers(dropout, needed=("dropout",), filters=filters)
    encoder = encode(
        backbone,
        input_shape=(None, None, input_shape[-1]) if multi_scale else input_shape,
        num_classes=num_classes,
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        backbone_weights=backbone_weights,
        multi_grid=(1,),
    )
    if atrous_rates is None:
        rates = tuple(large_fov.scale_rate(rate, output_stride) for rate in large_fov.ATROUS_RATES)
    else:
        rates = whole_numbers("atrous_rates", atrous_rates)
    if filters is None and encoder.classifier.name.startswith("vgg"):
        filters = VGG_FILTERS
    logits = large_fov.summed_pyramid(encoder.features, num_classes, rates=rates, filters=filters, dropout=dropout)
    inputs = encoder.inputs
    if multi_scale:
        inputs, logits = _multi_scale(inputs, logits, input_shape, align_corners)
    return finish(
        encoder,
        logits,
        inputs=inputs,
        builder="DeepLabV2",
        backbone=backbone,
        output_stride=output_stride,
        align_corners=align_corners,
        upsample_logits=upsample_logits,
        classifier_activation=classifier_activation,
        classes=classes,
        name=name or f"deeplabv2_{encoder.classifier.name}",
        weights=weights,
        settings={
            "atrous_rates": tuple(rates),
            "multi_scale": multi_scale,
            "filters": filters,
            "dropout": dropout,
            "align_corners": align_corners,
        },
    )


_ARGUMENTS = """\
        atrous_rates: dilation rates of the branches; None for (6, 12, 18, 24) at output stride 8, which the paper
            calls ASPP-L on VGG16 and has on ResNet-101, and half of them at 16. (2, 4, 8, 12) is ASPP-S; (12,) is
            LargeFOV, one branch.
        multi_scale: whether the network also sees the image at 0.75 and half its size, with the same weights, and
            the largest of the three scores counts ("MSC"). It is then the model's layer `"network"`.
        filters: width of the two layers that a branch has before its classifier; None for 1024 on VGG and for none on
            others, where a branch is one 3x3 convolution to the classes.
        dropout: rate of the dropouts behind these two layers.
        align_corners: convention of every bilinear resize; True as in the authors' Caffe, False for the half-pixel
            centres of kazuto1011/deeplab-pytorch.
"""
document(DeepLabV2, _ARGUMENTS)


def _multi_scale(inputs, logits, input_shape, align_corners):
    """A network on all scales: its input and scores to new ones, by the pixelwise maximum over the scales."""
    network = keras.Model(inputs, logits, name="network")
    images = keras.Input(input_shape, name="images")
    logits = network(images)
    terms = [logits]
    for scale in SCALES:
        percent = round(100 * scale)
        # In float32 whatever the policy, because these are pixels and half precision rounds them.
        scaled = ScaleBilinear(scale, align_corners, dtype="float32", name=f"images_{percent}")(images)
        resize = ResizeBilinear(align_corners, dtype="float32", name=f"logits_{percent}_resize")
        terms.append(resize([network(scaled), logits]))
    return images, keras.layers.Maximum(dtype="float32", name="logits_max")(terms)
