"""The DeepLab networks: pixels, a dense backbone, a head, logits at the image's size."""

import keras

from keras_deeplab import atrous as _atrous
from keras_deeplab import heads
from keras_deeplab.backbones import preprocessing, resolve
from keras_deeplab.layers import ResizeBilinear

_ARGUMENTS = """

    Args:
        backbone: a registry key (`keras_deeplab.BACKBONES`) or any functional classifier, such as those of
            `keras.applications`, with its weights; it is copied, and its classification top is left out.
        weights: None (fresh), the path of a checkpoint of this very network (whatever `keras_deeplab.load` reads),
            or the name of published weights, such as `"pascal_voc"`, which are downloaded.
        input_shape: (height, width, channels). None for any height and width; odd, even, not square, all work.
        num_classes: number of classes.
        output_stride: stride of the backbone's deepest feature map: 8 (finer, slower), 16 or 32.
        multi_grid: unit rates of the deepest stage's convolutions, as `keras_deeplab.atrous` takes them; None takes
            those that the backbone was published with: (1, 2, 4) on the `resnet_v1_*_beta`, none on others. (1,) is
            none on any.
        atrous_rates: dilation rates of the pyramid's 3x3 branches; None takes those that go with the output stride.
        separable: whether the head's 3x3 convolutions are depthwise separable.
        image_pooling: whether the pyramid sees the image-level feature.
        filters: width of the head.
        dropout: rate of the dropout before the classifier (v3) or the decoder (v3+).
        backbone_weights: None, `"imagenet"` or the path of ImageNet weights for a registered backbone.
        include_preprocessing: whether the model takes RGB pixels in 0..255 (uint8 or float) and normalises them
            itself. False leaves that to the caller; `"tf"`, `"torch"` or `"caffe"` names the normalisation for a
            classifier that isn't from `keras.applications`, which otherwise gets the pixels as they are.
        upsample_logits: whether the logits are resized to the input's size; False leaves them at the head's stride.
        classifier_activation: None for logits, `"softmax"` for probabilities.
        name: name of the model.

    Returns:
        A functional `keras.Model` from (B, H, W, channels) to float32 (B, H, W, num_classes), whatever the dtype
        policy.

    Raises:
        ValueError: an unknown backbone, an output stride that the backbone doesn't pass through, a layer that can't
            be computed densely, weights that don't fit.
"""


def DeepLabV3(
    backbone="mobilenet_v2",
    weights=None,
    input_shape=(None, None, 3),
    num_classes=21,
    output_stride=16,
    multi_grid=None,
    atrous_rates=None,
    separable=False,
    image_pooling=True,
    filters=256,
    dropout=0.1,
    backbone_weights=None,
    include_preprocessing=True,
    upsample_logits=True,
    classifier_activation=None,
    name=None,
):
    """DeepLab v3: images to class logits by atrous spatial pyramid pooling with image-level features.

    Source: "Rethinking Atrous Convolution for Semantic Image Segmentation" (arXiv 1706.05587), figure 5. On
    MobileNetV2 the pyramid has no atrous branches unless `atrous_rates` asks for them, as in the official models.

    Example:

    >>> import keras_deeplab
    >>> model = keras_deeplab.DeepLabV3(backbone="mobilenet_v2", num_classes=7, output_stride=8)
    >>> model.compute_output_shape((1, 65, 96, 3))
    (1, 65, 96, 7)
    """
    settings = dict(locals())
    return _build("deeplabv3", low_level=False, **settings)


def DeepLabV3Plus(
    backbone="mobilenet_v2",
    weights=None,
    input_shape=(None, None, 3),
    num_classes=21,
    output_stride=16,
    multi_grid=None,
    atrous_rates=None,
    separable=True,
    image_pooling=True,
    filters=256,
    dropout=0.1,
    low_level=None,
    low_level_filters=48,
    backbone_weights=None,
    include_preprocessing=True,
    upsample_logits=True,
    classifier_activation=None,
    name=None,
):
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
    settings = dict(locals())
    settings["low_level"] = low_level or True
    return _build("deeplabv3plus", **settings)


DeepLabV3.__doc__ = DeepLabV3.__doc__.replace("\n\n    Example:", _ARGUMENTS + "\n    Example:")
DeepLabV3Plus.__doc__ = DeepLabV3Plus.__doc__.replace("\n\n    Example:", _ARGUMENTS + "\n    Example:")


def _build(
    family,
    *,
    backbone,
    weights,
    input_shape,
    num_classes,
    output_stride,
    multi_grid,
    atrous_rates,
    separable,
    image_pooling,
    filters,
    dropout,
    low_level,
    low_level_filters=None,
    backbone_weights,
    include_preprocessing,
    upsample_logits,
    classifier_activation,
    name,
):
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer; received {num_classes!r}.")
    if len(input_shape) != 3 or input_shape[2] is None:
        raise ValueError(f"input_shape must be (height or None, width or None, channels); received {input_shape!r}.")
    classifier, row = resolve(backbone, input_shape)
    if classifier.inputs[0].shape[-1] != input_shape[2]:
        raise ValueError(
            f"The backbone {classifier.name!r} takes {classifier.inputs[0].shape[-1]} channels and input_shape "
            f"{tuple(input_shape)} has {input_shape[2]}. Give both the same number."
        )
    if backbone_weights is not None:
        from keras_deeplab.weights import load_backbone

        load_backbone(classifier, backbone_weights, name=backbone)
    mode = row.preprocessing if include_preprocessing is True else include_preprocessing or None
    inputs = keras.Input(input_shape, name="images")
    tapped = [row.low_level if low_level is True else low_level] if low_level else []
    tapped.append(list(_atrous.taps(classifier).values())[-1])
    encoder = keras.Model(classifier.inputs, _atrous.layer_outputs(classifier, tapped), name=classifier.name)
    unit_rates = row.multi_grid if multi_grid is None else multi_grid
    entry = preprocessing.normalise(mode)
    encoder = _atrous.rewrite(encoder, output_stride, unit_rates, inputs=[inputs], entry=entry)
    *finer, x = encoder.outputs

    if atrous_rates is None:
        atrous_rates = heads.atrous_rates(output_stride) if finer or row.aspp_in_v3 else ()
    x = heads.aspp(
        x, rates=atrous_rates, filters=filters, separable=separable, image_pooling=image_pooling, dropout=dropout
    )
    if finer:
        x = heads.decoder(x, finer[0], low_level_filters=low_level_filters, filters=filters, separable=separable)
    x = heads.classifier(x, num_classes)
    if upsample_logits:
        x = ResizeBilinear(dtype="float32", name="upsample_logits")([x, inputs])
    if classifier_activation is not None:
        x = keras.layers.Activation(classifier_activation, dtype="float32", name="classifier_activation")(x)
    model = keras.Model(inputs, x, name=name or f"{family}_{classifier.name}")
    if weights is not None:
        from keras_deeplab.weights import load_weights

        load_weights(model, weights, family=family, backbone=backbone)
    return model
