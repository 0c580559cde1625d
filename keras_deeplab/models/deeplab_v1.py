"""DeepLab v1."""

import os
from collections.abc import Sequence

import keras

from keras_deeplab.heads import large_fov
from keras_deeplab.layers import ResizeBilinear
from keras_deeplab.models.common import check_numbers, document, encode, finish
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import SegmentationModel


def DeepLabV1(
    backbone: str | keras.Model = "vgg16_caffe",
    weights: str | os.PathLike[str] | None = None,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    output_stride: int = 8,
    variant: str = "large_fov",
    multi_scale_features: bool = False,
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
    """DeepLab v1: images to class logits by a dense VGG, whose fully connected layers became convolutions.

    Source: "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs" (arXiv 1412.7062),
    sections 3 and 4. On VGG16 the dense network has conv5 at rate 2, and fc6 at the rate of its variant.

    Example:

    >>> import keras_deeplab
    >>> model = keras_deeplab.DeepLabV1("vgg11_caffe", num_classes=3, filters=32)
    >>> model.get_layer("fc6").dilation_rate, model.compute_output_shape((1, 65, 97, 3))
    ((12, 12), (1, 65, 97, 3))
    """
    check_numbers(dropout, needed=("dropout",), filters=filters)
    if multi_scale_features not in (False, True, "dense"):
        raise ValueError(f"multi_scale_features must be False, True or 'dense'; received {multi_scale_features!r}.")
    if multi_scale_features and isinstance(backbone, str) and not backbone.startswith("vgg"):
        raise ValueError(
            f"multi_scale_features goes with the VGG backbones, such as 'vgg16_caffe'; received {backbone!r}."
        )
    maps = [map_name for map_name, _ in large_fov.BRANCHES[1:]] if multi_scale_features else []
    encoder = encode(
        backbone,
        input_shape=input_shape,
        num_classes=num_classes,
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        backbone_weights=backbone_weights,
        taps=maps,
        multi_grid=(1,),
    )
    logits = large_fov.large_fov(
        encoder.features, num_classes, variant=variant, output_stride=output_stride, filters=filters, dropout=dropout
    )
    if multi_scale_features:
        dense = multi_scale_features == "dense"
        if dense:
            resize = ResizeBilinear(align_corners, dtype="float32", name="logits_resize")
            logits = resize([logits, encoder.inputs])
        # The image as the network sees it, with the mean subtracted.
        layers = {layer.name: layer for layer in encoder.network.layers}
        image = layers["preprocessing"].output if "preprocessing" in layers else encoder.inputs
        terms = [logits]
        for (map_name, stride), early in zip(large_fov.BRANCHES, [image, *encoder.taps], strict=True):
            term = large_fov.multi_scale_scores(
                early,
                logits,
                num_classes,
                name=map_name,
                strides=1 if dense else max(1, output_stride // stride),
                align_corners=align_corners,
                dropout=dropout,
            )
            terms.append(term)
        logits = keras.layers.Add(dtype="float32", name="logits_sum")(terms)
    return finish(
        encoder,
        logits,
        builder="DeepLabV1",
        backbone=backbone,
        output_stride=output_stride,
        align_corners=align_corners,
        upsample_logits=upsample_logits,
        classifier_activation=classifier_activation,
        classes=classes,
        name=name or f"deeplabv1_{encoder.classifier.name}",
        weights=weights,
        settings={
            "variant": variant,
            "multi_scale_features": multi_scale_features,
            "filters": filters,
            "dropout": dropout,
            "align_corners": align_corners,
        },
    )


_ARGUMENTS = """\
        variant: how VGG's fc6 became a convolution: `"7x7"` (rate 4), `"4x4"` (rate 4, a smaller view), `"4x4_large"`
            (rate 8) or `"large_fov"` (3x3 at rate 12 with fewer filters, behind an average pooling), all at output
            stride 8; a larger stride divides the rates. None leaves the fully connected layers out: a 1x1
            classifier on the backbone's features, as kazuto1011/deeplab-pytorch puts it on ResNet.
        multi_scale_features: whether the image and the first four poolings have a branch of their own to the
            logits (section 4.3); on the VGG backbones of this package. True computes the branches at the logits'
            stride, as the release trains them, `"dense"` at each map's own and sums at the input's size, whatever
            `upsample_logits` says, as the release tests them, with the same weights.
        filters: width of fc6 and fc7; None for the variant's.
        dropout: rate of the dropouts behind fc6, fc7 and the layers of the branches.
        align_corners: convention of every bilinear resize; True as in Caffe, False for half-pixel centres.
"""
document(DeepLabV1, _ARGUMENTS)
