"""The record of a network that isn't built: what its builder would make of some arguments."""

from typing import Any

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.heads.flavours import FLAVOURS
from keras_deeplab.specs import ALIGN_CORNERS, AUXILIARY, HALF_PIXEL_CENTERS, LOGITS, ModelSpec

V1, V2, V3, V3_PLUS = "DeepLabV1", "DeepLabV2", "DeepLabV3", "DeepLabV3Plus"


def network(
    builder: str,
    backbone: str,
    *,
    num_classes: int | None,
    output_stride: int = 16,
    preprocessing: str | tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    backbone_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> ModelSpec:
    """Arguments of a builder to the record of the model that it makes of them, so far as they tell.

    Args:
        builder: its name, such as `"DeepLabV3Plus"`.
        backbone: a key of `BACKBONES`.
        num_classes: None for a network without a classifier.
        output_stride: as the builder takes it.
        preprocessing: how it normalises pixels; None for as its backbone was trained.
        backbone_settings: arguments of the backbone's own builder, such as its width `alpha`.
        settings: the builder's other arguments; `flavour` and `align_corners` decide the resize convention.

    >>> network("DeepLabV3", "resnet50", num_classes=3, flavour="vainf").resize
    'half_pixel_centers'
    """
    flavour = settings.pop("flavour", "tf" if builder in (V3, V3_PLUS) else None)
    if flavour is None:
        resize = ALIGN_CORNERS if settings.get("align_corners", True) else HALF_PIXEL_CENTERS
    else:
        resize = FLAVOURS[flavour].resize
    return ModelSpec(
        num_classes=num_classes,
        builder=builder,
        backbone=backbone,
        flavour=flavour,
        output_stride=output_stride,
        settings=settings,
        backbone_settings=backbone_settings or {},
        preprocessing=preprocessing or BACKBONES[backbone].preprocessing,
        resize=resize,
        outputs=(LOGITS, AUXILIARY) if settings.get("auxiliary_head") else (LOGITS,),
    )
