"""A record to the network that it tells of."""

from collections.abc import Callable
from typing import Any

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.models.deeplab_v1 import DeepLabV1
from keras_deeplab.models.deeplab_v2 import DeepLabV2
from keras_deeplab.models.deeplab_v3 import DeepLabV3, DeepLabV3Plus
from keras_deeplab.models.widths import with_widths
from keras_deeplab.published import MODELS
from keras_deeplab.registry import Registry
from keras_deeplab.specs import ModelSpec
from keras_deeplab.specs.model import SegmentationModel, with_spec

# Each maps its keyword arguments, those that are in a record among them, to a `SegmentationModel`.
BUILDERS: Registry[Callable[..., SegmentationModel]] = Registry(
    "builder", DeepLabV1=DeepLabV1, DeepLabV2=DeepLabV2, DeepLabV3=DeepLabV3, DeepLabV3Plus=DeepLabV3Plus
)


def build(spec: ModelSpec | str, **overrides: Any) -> SegmentationModel:
    """Maps the record of a model, or the name of a published one, to such a model with fresh values.

    Args:
        spec: a `keras_deeplab.specs.ModelSpec`, such as `model.spec` of another one; or a key of
            `keras_deeplab.MODELS`.
        overrides: arguments of the builder that are to be other than the record tells, such as `num_classes`,
            `output_stride` or `name`. With another `num_classes` the classes have no names unless `classes=` gives
            them.

    Raises:
        ValueError: an unknown name; a record that doesn't tell how its network is built, as that of a plain Keras
            model or of a backbone that isn't registered; what the builder refuses.

    Example:

    >>> import keras_deeplab
    >>> model = keras_deeplab.build("vainf_deeplabv3_mobilenet", num_classes=7)
    >>> model.name, model.spec.flavour, model.compute_output_shape((1, 65, 97, 3))
    ('vainf_deeplabv3_mobilenet', 'vainf', (1, 65, 97, 7))
    """
    if isinstance(spec, str):
        row = MODELS[spec]
        return build(row.spec, **{"name": row.name, **overrides})
    if spec.builder is None or spec.backbone is None:
        raise ValueError(
            "the record doesn't tell how its network is built, because it is that of a plain Keras model: build one "
            f"with {', '.join(BUILDERS)}"
        )
    arguments: dict[str, Any] = {
        "backbone": spec.backbone,
        "input_shape": (None, None, spec.channels),
        "num_classes": spec.num_classes,
        "output_stride": spec.output_stride,
        "upsample_logits": spec.logits_stride in (None, 1),
        "classifier_activation": spec.activation,
        **spec.settings,
        **overrides,
    }
    if spec.flavour is not None:
        arguments.setdefault("flavour", spec.flavour)
    if arguments["num_classes"] is None:
        raise ValueError("the record is one of a network without a classifier: give num_classes= for a fresh one")
    if arguments["num_classes"] == spec.num_classes:
        arguments.setdefault("classes", spec.classes)
    same = arguments["backbone"] == spec.backbone
    if arguments.get("include_preprocessing", True) is True:
        # Another backbone has a normalisation of its own.
        arguments["include_preprocessing"] = (spec.preprocessing or False) if same else True
    settings = spec.backbone_settings if same else {}
    if settings:
        backbone = BACKBONES[spec.backbone]
        strided = {} if backbone.output_strides is None else {"output_stride": arguments["output_stride"]}
        arguments["backbone"] = backbone.build(arguments["input_shape"], **strided, **settings)
    model = BUILDERS[spec.builder](**arguments)
    if same and spec.widths:
        model = with_widths(model, spec.widths)
    changes: dict[str, Any] = {"backbone": spec.backbone, "backbone_settings": settings} if settings else {}
    if spec.multi_label:
        changes["multi_label"] = True
    if spec.image_range is not None:
        changes["image_range"] = spec.image_range
    return with_spec(model, **changes) if changes else model
