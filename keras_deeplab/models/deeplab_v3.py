"""DeepLab v3 and v3+."""

import os
from collections.abc import Sequence
from dataclasses import replace

import keras  # ADDED

from keras_deeplab.backbones import registered
from keras_deeplab.heads.aspp import aspp, atrous_rates, auxiliary, classifier, head_conv
from keras_deeplab.heads.decoder import decoder
from keras_deeplab.heads.flavours import FLAVOURS
from keras_deeplab.heads.lite_raspp import crop_window, lite_raspp, low_level_layer
from keras_deeplab.layers import ScaleBilinear
from keras_deeplab.models.common import check_numbers, document, encode, finish, whole_numbers
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import SegmentationModel

FILTERS, LITE_FILTERS = 256, 128
_HEADS = ("aspp", "image_pooling", "lite_raspp")
_PYRAMID = """\
        multi_grid: unit rates of the deepest stage's convolutions, as `keras_deeplab.atrous` takes them; None takes
            those that the backbone was published with: (1, 2, 4) on the `resnet_v1_*_beta`, none on others. (1,) is
            none on any.
        atrous_rates: dilation rates of the pyramid's 3x3 branches; None takes those that go with the output stride,
            or those that the flavour has at all of them.
        separable: whether the head's 3x3 convolutions are depthwise separable; None for what the flavour has.
        pyramid_separable: likewise, of the pyramid's alone; None for as the others.
        image_pooling: whether the pyramid sees the image-level feature.
        pooling_window: (height, width) of the windows whose means are that feature, in positions of the backbone's
            map; None for the whole map's mean.
        filters: width of the head; None for 256, or 128 for lite R-ASPP.
        dropout: rate of the dropout behind the pyramid; None for what the flavour has.
        flavour: whose head it is, a key of `keras_deeplab.FLAVOURS`: `"tf"` is research/deeplab's, which the papers
            describe.
        align_corners: convention of every bilinear resize, corner on corner or half-pixel centres; None for what the
            flavour has.
"""


def DeepLabV3(
    backbone: str | keras.Model = "mobilenet_v2",
    weights: str | os.PathLike[str] | None = None,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    output_stride: int = 16,
    multi_grid: Sequence[int] | None = None,
    atrous_rates: Sequence[int] | None = None,
    separable: bool = False,
    pyramid_separable: bool | None = None,
    image_pooling: bool | None = True,
    pooling_window: int | tuple[int, int] | None = None,
    filters: int | None = None,
    dropout: float | None = None,
    flavour: str = "tf",
    align_corners: bool | None = None,
    head: str | None = None,
    cascade_blocks: int = 0,
    auxiliary_head: bool = False,
    auxiliary_filters: int | None = None,
    backbone_weights: str | os.PathLike[str] | None = None,
    include_preprocessing: bool | str = True,
    upsample_logits: bool = True,
    classifier_activation: str | None = None,
    classes: Sequence[str] | Classes | None = None,
    name: str | None = None,
) -> SegmentationModel:
    """DeepLab v3: images to class logits by atrous spatial pyramid pooling, or by the cascade.

    Source: "Rethinking Atrous Convolution for Semantic Image Segmentation" (arXiv 1706.05587), figure 5, and figure 3
    for the cascade.

    Example:

    >>> import keras_deeplab
    >>> model = keras_deeplab.DeepLabV3(backbone="mobilenet_v2", num_classes=7, output_stride=8)
    >>> model.compute_output_shape((1, 65, 96, 3))
    (1, 65, 96, 7)
    """
    check_numbers(dropout, filters=filters, auxiliary_filters=auxiliary_filters)
    row = _flavour(flavour, align_corners)
    if head is None:
        known = registered(backbone)
        head = "aspp" if known is None else known.v3_head
    if head not in _HEADS:
        raise ValueError(f"head must be None or one of {', '.join(map(repr, _HEADS))}; received {head!r}.")
    lite = head == "lite_raspp"
    taps = [low_level_layer] if lite else []
    encoder = encode(
        backbone,
        input_shape=input_shape,
        num_classes=num_classes,
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        backbone_weights=backbone_weights,
        taps=[*taps, "auxiliary"] if auxiliary_head else taps,
        multi_grid=multi_grid,
        strided_rate=row.strided_rate,
        cascade_blocks=cascade_blocks,
    )
    if lite:
        logits = lite_raspp(
            encoder.features,
            encoder.taps[0],
            num_classes,
            filters=filters or LITE_FILTERS,
            pooling_window=crop_window(output_stride) if row.windowed_gate else None,
            quantized_sigmoid=row.windowed_gate,
            gate_bias=row.windowed_gate,
            align_corners=row.align_corners,
            half_pixel_centers=row.half_pixel_centers,
        )
    else:
        if cascade_blocks:
            rates, image_pooling = (), False
        else:
            rates = _rates(atrous_rates, row, output_stride) if atrous_rates is not None or head == "aspp" else ()
        pooling = {"image_pooling": image_pooling, "pooling_window": pooling_window}
        branches = separable if pyramid_separable is None else pyramid_separable
        x = _pyramid(encoder.features, rates, row, filters or FILTERS, branches, dropout, **pooling)
        if row.head_stride is not None and output_stride > row.head_stride:
            x = ScaleBilinear(output_stride // row.head_stride, row.align_corners, name="head_resize")(x)
        if row.head_conv:
            x = head_conv(
                x, filters or FILTERS, row, separable=separable, kernel_size=row.kernel_size, name="head_conv"
            )
        logits = classifier(x, num_classes, use_bias=row.logits_bias)
    if auxiliary_head:
        logits = [logits, auxiliary(encoder.taps[-1], num_classes, auxiliary_filters)]
    return finish(
        encoder,
        logits,
        builder="DeepLabV3",
        backbone=backbone,
        flavour=flavour,
        output_stride=output_stride,
        align_corners=row.align_corners,
        half_pixel_centers=row.half_pixel_centers,
        upsample_logits=upsample_logits,
        classifier_activation=classifier_activation,
        classes=classes,
        name=name or f"deeplabv3_{encoder.classifier.name}",
        weights=weights,
        scale=output_stride if row.scaled_logits else None,
        settings={
            "multi_grid": multi_grid,
            "atrous_rates": atrous_rates,
            "separable": separable,
            "pyramid_separable": pyramid_separable,
            "image_pooling": image_pooling,
            "pooling_window": pooling_window,
            "filters": filters,
            "dropout": dropout,
            "head": head,
            "cascade_blocks": cascade_blocks,
            "auxiliary_head": auxiliary_head,
            "auxiliary_filters": auxiliary_filters,
            "align_corners": align_corners,
        },
    )


def DeepLabV3Plus(
    backbone: str | keras.Model = "mobilenet_v2",
    weights: str | os.PathLike[str] | None = None,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    num_classes: int = 21,
    output_stride: int = 16,
    multi_grid: Sequence[int] | None = None,
    atrous_rates: Sequence[int] | None = None,
    separable: bool | None = None,
    pyramid_separable: bool | None = None,
    image_pooling: bool | None = True,
    pooling_window: int | tuple[int, int] | None = None,
    filters: int = FILTERS,
    dropout: float | None = None,
    flavour: str = "tf",
    align_corners: bool | None = None,
    low_level: str | None = None,
    low_level_filters: int = 48,
    auxiliary_head: bool = False,
    auxiliary_filters: int | None = None,
    backbone_weights: str | os.PathLike[str] | None = None,
    include_preprocessing: bool | str = True,
    upsample_logits: bool = True,
    classifier_activation: str | None = None,
    classes: Sequence[str] | Classes | None = None,
    name: str | None = None,
) -> SegmentationModel:
    """DeepLab v3+: images to class logits by the pyramid of v3 and a decoder that sharpens it with a finer map.

    Source: "Encoder-Decoder with Atrous Separable Convolution" (arXiv 1802.02611), figure 2. The decoder's finer map
    is the backbone's own at stride 4, or the output of the layer that `low_level` names, projected to
    `low_level_filters` channels.

    Example:

    >>> import keras, keras_deeplab
    >>> classifier = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(None, None, 3))
    >>> model = keras_deeplab.DeepLabV3Plus(classifier, num_classes=3)
    >>> model.compute_output_shape((1, 64, 81, 3))
    (1, 64, 81, 3)
    """
    widths = {"filters": filters, "low_level_filters": low_level_filters}
    check_numbers(dropout, needed=widths, **widths, auxiliary_filters=auxiliary_filters)
    row = _flavour(flavour, align_corners)
    encoder = encode(
        backbone,
        input_shape=input_shape,
        num_classes=num_classes,
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        backbone_weights=backbone_weights,
        taps=[low_level or "low_level", *(["auxiliary"] if auxiliary_head else [])],
        multi_grid=multi_grid,
        strided_rate=row.strided_rate,
    )
    separable = row.separable if separable is None else separable
    rates = _rates(atrous_rates, row, output_stride)
    pooling = {"image_pooling": image_pooling, "pooling_window": pooling_window}
    branches = separable if pyramid_separable is None else pyramid_separable
    x = _pyramid(encoder.features, rates, row, filters, branches, dropout, **pooling)
    x = decoder(
        x, encoder.taps[0], flavour=row, low_level_filters=low_level_filters, filters=filters, separable=separable
    )
    logits = classifier(x, num_classes, use_bias=row.logits_bias)
    if auxiliary_head:
        logits = [logits, auxiliary(encoder.taps[-1], num_classes, auxiliary_filters)]
    return finish(
        encoder,
        logits,
        builder="DeepLabV3Plus",
        backbone=backbone,
        flavour=flavour,
        output_stride=output_stride,
        align_corners=row.align_corners,
        half_pixel_centers=row.half_pixel_centers,
        upsample_logits=upsample_logits,
        classifier_activation=classifier_activation,
        classes=classes,
        name=name or f"deeplabv3plus_{encoder.classifier.name}",
        weights=weights,
        scale=4 if row.scaled_logits else None,
        settings={
            "multi_grid": multi_grid,
            "atrous_rates": atrous_rates,
            "separable": separable,
            "pyramid_separable": pyramid_separable,
            "image_pooling": image_pooling,
            "pooling_window": pooling_window,
            "filters": filters,
            "dropout": dropout,
            "low_level": low_level,
            "low_level_filters": low_level_filters,
            "auxiliary_head": auxiliary_head,
            "auxiliary_filters": auxiliary_filters,
            "align_corners": align_corners,
        },
    )


_CASCADE = """\
        head: `"aspp"`, `"image_pooling"` (the pyramid without atrous branches unless `atrous_rates` asks for them, as
            the official models on MobileNetV2 have it) or `"lite_raspp"` (arXiv 1905.02244, section 6.4; it takes a
            map of stride 8 too, and of the pyramid's arguments only `filters`). None for what the backbone has.
        cascade_blocks: how many replicas of the backbone's last block follow it, at rates that grow
            (block5 to block7 are 3); they replace the pyramid, of which only the 1x1 convolution stays. The registered
            ResNets have them. `multi_grid` is then that of every block from the last of the backbone on.
"""
_AUXILIARY = """\
        auxiliary_head: whether the model has a second output, the logits of an inner map, as torchvision trains it.
            It then returns the list [logits, auxiliary logits].
        auxiliary_filters: width of that head; None for a quarter of the inner map's.
"""
document(DeepLabV3, _PYRAMID + _CASCADE + _AUXILIARY)
_DECODER = """\
        low_level: name of the layer whose map the decoder takes; None for the backbone's own.
        low_level_filters: number of channels that map is projected to.
"""
document(DeepLabV3Plus, _PYRAMID + _DECODER + _AUXILIARY)


def _flavour(name, align_corners):
    row = FLAVOURS[name]
    return row if align_corners is None else replace(row, align_corners=align_corners)


def _rates(given, flavour, output_stride):
    if given is not None:
        return whole_numbers("atrous_rates", given, least=0)
    return flavour.atrous_rates or atrous_rates(output_stride)


def _pyramid(x, rates, flavour, filters, separable, dropout, **pooling):
    return aspp(
        x,
        rates=rates,
        flavour=flavour,
        filters=filters,
        separable=separable,
        **pooling,
        dropout=flavour.dropout if dropout is None else dropout,
    )
