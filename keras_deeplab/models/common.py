"""What all DeepLab builders share: pixels to a dense backbone's maps, and scores to the model that returns them."""

import numbers
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import keras

from keras_deeplab import rewrite
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES, Backbone, preprocessing, resolve
from keras_deeplab.layers import ResizeBilinear, ScaleBilinear, UpsampleNearest, convention
from keras_deeplab.specs import AUXILIARY, LOGITS, Classes, ModelSpec
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.weights.filling import load_backbone, load_weights

_Builder = TypeVar("_Builder", bound=Callable[..., SegmentationModel])
# The arguments of every builder, for their docstrings; `{}` takes the builder's own.
ARGUMENTS = """

    Args:
        backbone: a registry key (`keras_deeplab.BACKBONES`) or any functional classifier, such as those of
            `keras.applications`, with its weights; it is copied, and its classification top is left out.
        weights: None (fresh), the path of a checkpoint of this very network (whatever `keras_deeplab.load` reads),
            or the name of published weights, such as `"pascal_voc"`, which are downloaded.
        input_shape: (height, width, channels). None for any height and width; odd, even, not square, all work.
        num_classes: number of classes; 1 makes a binary model, whose one logit tells label 1 from label 0.
        output_stride: stride of the backbone's deepest feature map: 8 (finer, slower), 16 or 32.
{}        backbone_weights: None, `"imagenet"` or the path of ImageNet weights for a registered backbone.
        include_preprocessing: whether the model takes RGB pixels in 0..255 (uint8 or float) and normalises them
            itself. False leaves that to the caller; `"tf"`, `"torch"`, `"caffe"`, `"caffe_deeplab"`, `"detectron2"`
            or `"torch_bgr"` names the normalisation for a classifier that isn't from `keras.applications`, which
            otherwise gets the pixels as they are.
        upsample_logits: whether the logits are resized to the input's size; False leaves them at the head's stride.
        classifier_activation: None for logits, `"softmax"` for probabilities, `"sigmoid"` for those of classes that
            are decided each by itself (and of the one class of a binary model).
        classes: names of the classes, or a `keras_deeplab.specs.Classes` with their colours too, for the model's
            record (`model.spec`); two for a binary model. None: those that `weights` tell; else nothing is known of
            them, they are "class 0" and so on.
        name: name of the model.

    Returns:
        A functional `keras.Model` from (B, H, W, channels) to float32 (B, H, W, num_classes), whatever the dtype
        policy.

    Raises:
        ValueError: an unknown backbone, an output stride that the backbone doesn't pass through, a layer that can't
            be computed densely, weights that don't fit.
"""


def document(builder: _Builder, arguments: str = "") -> _Builder:
    """Puts the arguments that all builders share, and its own, into a builder's docstring."""
    builder.__doc__ = (builder.__doc__ or "").replace(
        "\n\n    Example:", ARGUMENTS.format(arguments) + "\n    Example:"
    )
    return builder


def whole_numbers(name: str, value: Any, least: int = 1) -> tuple[int, ...]:
    """A list of `least` or more positive integers, such as dilation rates, to a tuple; ValueError of anything else."""
    given = tuple(value) if isinstance(value, Iterable) else (None,)
    if len(given) < least or not all(map(_is_positive, given)):
        raise ValueError(f"{name} must be a list of positive integers, such as (6, 12, 18); received {value!r}.")
    return given


def check_numbers(dropout: Any, needed: Iterable[str] = (), **widths: Any) -> None:
    """Raises ValueError where a dropout's rate or a number of channels is none, or is None and `needed`."""
    for name in needed:
        if {"dropout": dropout, **widths}[name] is None:
            raise ValueError(f"{name} must be a number; received None.")
    if dropout is not None and (isinstance(dropout, bool) or not isinstance(dropout, numbers.Real)):
        raise ValueError(f"dropout must be a number in 0..1; received {dropout!r}.")
    for name, value in widths.items():
        if value is not None and not _is_positive(value):
            raise ValueError(f"{name} must be a positive integer; received {value!r}.")


def _is_positive(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value > 0


class Encoder(NamedTuple):
    """What `encode` gives: the dense network, its input, the tapped maps, the deepest one, the classifier they are of
    and its row, and how the pixels are normalised."""

    network: keras.Model
    inputs: keras.KerasTensor
    taps: list
    features: keras.KerasTensor
    classifier: keras.Model
    row: Backbone
    preprocessing: str | None


def encode(
    backbone: Any,
    *,
    input_shape: tuple[int | None, int | None, int],
    num_classes: int,
    output_stride: int | None,
    include_preprocessing: bool | str,
    backbone_weights: Any = None,
    taps: Iterable[Any] = (),
    multi_grid: Sequence[int] | None = None,
    strided_rate: str | None = None,
    cascade_blocks: int | None = None,
) -> Encoder:
    """Builds the dense backbone on a new input of pixels.

    Args:
        taps: layers whose maps are wanted: their names, fields of the `Backbone` row that name one (`"low_level"`,
            `"auxiliary"`), or functions from the classifier to a name.
        multi_grid: as `keras_deeplab.atrous` takes it; None for the backbone's own.
        strided_rate: likewise, for a backbone that has none of its own.
        cascade_blocks: number of replicas of the last block behind it, for a backbone that has that option.

    Returns:
        `Encoder`.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer; received {num_classes!r}.")
    if output_stride is not None and not _is_positive(output_stride):
        raise ValueError(f"output_stride must be a positive integer, such as 16; received {output_stride!r}.")
    several = isinstance(input_shape, (list, tuple)) and len(input_shape) == 3 and input_shape[2] is not None
    if not several or not all(side is None or _is_positive(side) for side in input_shape):
        raise ValueError(f"input_shape must be (height or None, width or None, channels); received {input_shape!r}.")
    # A classifier that nothing is loaded into is a plan of the network and needs no memory of its own.
    fresh = isinstance(backbone, str) and backbone_weights is None
    make = _planned if fresh else resolve
    height, width, channels = input_shape
    classifier, row = make(backbone, (height, width, channels), output_stride, cascade_blocks=cascade_blocks or None)
    if classifier.inputs[0].shape[-1] != input_shape[2]:
        raise ValueError(
            f"The backbone {classifier.name!r} takes {classifier.inputs[0].shape[-1]} channels and input_shape "
            f"{tuple(input_shape)} has {input_shape[2]}. Give both the same number."
        )
    if backbone_weights is not None:
        load_backbone(classifier, backbone_weights, name=backbone)
    if include_preprocessing is True:
        mode = row.preprocessing
    else:
        mode = None if include_preprocessing is False else preprocessing.checked(include_preprocessing)
    inputs = keras.Input(input_shape, name="images")
    names = []
    for tap in taps:
        name = tap(classifier) if callable(tap) else tap
        if name in ("low_level", "auxiliary"):
            name = getattr(row, name)
        if name is None:
            raise ValueError(
                f"The backbone {classifier.name!r} has no layer known as its {tap} one. Those of BACKBONES that have: "
                f"{', '.join(key for key, known in BACKBONES.items() if getattr(known, tap))}."
            )
        names.append(name)
    if isinstance(backbone, str):
        deepest = classifier.outputs[0]
    else:
        (deepest,) = rewrite.layer_outputs(classifier, [list(rewrite.taps(classifier).values())[-1]])
    outputs = [*rewrite.layer_outputs(classifier, names), deepest]
    encoder = keras.Model(classifier.inputs, outputs, name=classifier.name)
    encoder = rewrite.rewrite(
        encoder,
        None if row.output_strides is not None else output_stride,
        multi_grid=row.multi_grid if multi_grid is None else multi_grid,
        multi_grid_from=32 if cascade_blocks else None,
        strided_rate=(row.cascade_strided_rate if cascade_blocks else row.strided_rate) or strided_rate or "old",
        contracted=row.contracted,
        dropped=row.dropped,
        centred=row.centred,
        ahead=row.ahead,
        inputs=[inputs],
        entry=preprocessing.normalise(mode, input_shape[2]),
        fresh=fresh,
    )
    *tapped, features = encoder.outputs
    return Encoder(encoder, inputs, tapped, features, classifier, row, mode)


_PLANS: dict[tuple[Any, ...], tuple[keras.Model, Backbone]] = {}
_MOST_PLANS = 4  # some megabytes each, of Python's objects


def _planned(backbone, input_shape, output_stride, **options):
    """`resolve` of a registry key to a classifier without values, which is made once for all networks on it.

    The initialisers draw seeds as they are made. These are given back, so that a network's values hang on the seed
    that was set before and not on whether its plan was there already.
    """
    settings = (keras.config.dtype_policy().name, keras.config.image_data_format())
    key = (backbone, input_shape, output_stride, *options.items(), *settings)
    # Held to, its row is the very one, even where another was registered by that name.
    if key not in _PLANS or _PLANS[key][1] is not BACKBONES[backbone]:
        drawn = random.getstate()
        try:
            with unallocated():
                plan = resolve(backbone, input_shape, output_stride, **options)
        finally:
            random.setstate(drawn)
        while len(_PLANS) >= _MOST_PLANS:
            _PLANS.pop(next(iter(_PLANS)), None)
        _PLANS[key] = plan
    return _PLANS[key]


def finish(
    encoder: Encoder,
    logits: Any,
    *,
    builder: str,
    backbone: str | keras.Model,
    output_stride: int | None,
    align_corners: bool,
    half_pixel_centers: bool | None = None,
    upsample_logits: bool,
    classifier_activation: str | None,
    classes: Any,
    name: str,
    weights: Any,
    settings: dict[str, Any],
    flavour: str | None = None,
    inputs: Any = None,
    scale: Any = None,
) -> SegmentationModel:
    """Logits at the head's stride to the model that returns them as asked for, with its record and its weights.

    Args:
        encoder: what `encode` gave.
        logits: a float32 map, or a list of it and the auxiliary one.
        builder: the builder's name, such as `"DeepLabV3"`.
        backbone: as the builder took it.
        settings: the builder's other arguments, for the record.
        inputs: the model's images, where they aren't the encoder's.
        scale: None to resize the logits to the images' size, or by how much to scale them before what is over is cut.
    """
    if classifier_activation not in (None, "linear", "softmax", "sigmoid"):
        raise ValueError(
            f"classifier_activation must be None, 'softmax' or 'sigmoid'; received {classifier_activation!r}."
        )
    if classifier_activation == "linear":
        classifier_activation = None
    logits = logits if isinstance(logits, list) else [logits]
    num_classes = logits[0].shape[-1]
    if num_classes == 1 and classifier_activation == "softmax":
        raise ValueError("The softmax of one class is 1 everywhere: give classifier_activation='sigmoid' or None.")
    if scale is not None and not upsample_logits:
        raise ValueError(
            f"The flavour {flavour!r} scales its logits and cuts what is over, which no resize to an image's size "
            "does: leave upsample_logits=False out."
        )
    inputs = encoder.inputs if inputs is None else inputs
    outputs = []
    for index, x in enumerate(logits):
        prefix = "auxiliary_" if index else ""
        if scale is not None:
            x = ScaleBilinear(scale, align_corners, dtype="float32", name=f"{prefix}upsample_scale")(x)
            x = UpsampleNearest(1, dtype="float32", name=f"{prefix}upsample_logits")([x, inputs])
        elif upsample_logits:
            enlarge = ResizeBilinear(
                align_corners, half_pixel_centers, dtype="float32", name=f"{prefix}upsample_logits"
            )
            x = enlarge([x, inputs])
        if classifier_activation is not None:
            activation = keras.layers.Activation(
                classifier_activation, dtype="float32", name=f"{prefix}classifier_activation"
            )
            x = activation(x)
        outputs.append(x)
    model = SegmentationModel(inputs, outputs if len(outputs) > 1 else outputs[0], name=name)
    model.spec = ModelSpec(
        num_classes=num_classes,
        channels=inputs.shape[-1],
        builder=builder,
        backbone=backbone if isinstance(backbone, str) else encoder.classifier.name,
        flavour=flavour,
        output_stride=output_stride,
        settings=settings,
        preprocessing=encoder.preprocessing,
        classes=Classes.of(classes),
        logits_stride=1 if upsample_logits else _stride(model),
        resize=convention(align_corners, half_pixel_centers),
        activation=classifier_activation,
        outputs=(LOGITS, AUXILIARY)[: len(outputs)],
        head=_head(model, encoder),
    )
    if weights is not None:
        model.spec = load_weights(model, weights)
    return model


def _stride(model):
    """The stride of a model's first output, found on images of a size that strides up to 32 divide."""
    images = keras.KerasTensor((1, 256, 256, model.inputs[0].shape[-1]), dtype="float32")
    try:
        found = keras.tree.flatten(model.compute_output_spec(images))[0].shape
    except ValueError:  # built for one size alone
        size, found = model.inputs[0].shape[1], model.outputs[0].shape
        return None if None in (size, found[1]) else round(size / found[1])
    return round(256 / found[1])


def _head(model, encoder):
    """The paths of the layers with variables that a model has beside its encoder's."""
    of_encoder = {variable.path for variable in encoder.network.weights}
    paths = [variable.path.rpartition("/")[0] for variable in model.weights if variable.path not in of_encoder]
    return tuple(dict.fromkeys(paths))
