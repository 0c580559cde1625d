"""Recipes of toolboxes, whose networks differ a little from those here: mmsegmentation, PaddleSeg, Composer."""

from typing import Any

from keras_deeplab.training.recipes.row import (
    ADE20K,
    CITYSCAPES,
    COCO_STUFF_171,
    CONTEXT,
    VOC,
    Recipe,
)

# mmsegmentation ---------------------------------------------------------------------------------------------

# configs/_base_/schedules; 32 of 256 of brightness, half of contrast and saturation.
_MM: dict[str, Any] = {
    "learning_rate": 0.01,
    "end_learning_rate": 1e-4,
    "weight_decay": 5e-4,
    "decayed": "all",
    "batch_norm_momentum": 0.9,
    "scale_step": 0.0,
    "brightness": 0.125,
    "contrast": 0.5,
    "saturation": 0.5,
}
# Images are brought to a short side of 512 before they are scaled by 0.5 to 2; VOC's have 375 as a rule.
_MM_VOC: dict[str, Any] = {**_MM, "crop_size": 512, "batch_size": 16, "scale_range": (0.68, 2.73)}
_MM_ADE20K: dict[str, Any] = {**_MM, "crop_size": 512, "batch_size": 16}
_MM_CITYSCAPES: dict[str, Any] = {**_MM, "crop_size": (512, 1024), "batch_size": 8}
_MM_STUFF = _MM_ADE20K
_MM_CONTEXT: dict[str, Any] = {
    **_MM,
    "crop_size": 480,
    "batch_size": 16,
    "learning_rate": 0.004,
    "weight_decay": 1e-4,
}
_MM_DIFFERS = (
    "the head has 256 channels instead of 512, and align_corners",
    "no hue is varied, and colours at every image instead of half of them",
    "crops are drawn once, not anew where one class fills three quarters",
)
_STEM = "the backbone is torchvision's ResNet, with one 7x7 convolution where theirs (V1c) has three 3x3"
_NO_AUXILIARY = "no auxiliary head on v3+ (there with weight 0.4)"
_SHORT_SIDE = "val images are scored at their own size; there with a short side of 512"

# name, builder, backbone, data, options, thousands of steps, figure, GB a card
_MM_ROWS = [
    ("deeplabv3_resnet50_voc", "deeplabv3", "resnet50", VOC, _MM_VOC, 20, "76.17", ""),
    ("deeplabv3_resnet50_voc", "deeplabv3", "resnet50", VOC, _MM_VOC, 40, "77.68", ""),
    ("deeplabv3_resnet50_cityscapes", "deeplabv3", "resnet50", CITYSCAPES, _MM_CITYSCAPES, 40, "79.09", "6.1"),
    ("deeplabv3_resnet101_cityscapes", "deeplabv3", "resnet101", CITYSCAPES, _MM_CITYSCAPES, 80, "80.20", ""),
    ("deeplabv3_resnet101_cocostuff", "deeplabv3", "resnet101", COCO_STUFF_171, _MM_STUFF, 320, "42.61", ""),
    ("deeplabv3plus_resnet50_voc", "deeplabv3plus", "resnet50", VOC, _MM_VOC, 20, "75.93", "7.6"),
    ("deeplabv3plus_resnet50_voc", "deeplabv3plus", "resnet50", VOC, _MM_VOC, 40, "76.81", ""),
    ("deeplabv3plus_resnet101_voc", "deeplabv3plus", "resnet101", VOC, _MM_VOC, 20, "77.22", "11"),
    ("deeplabv3plus_resnet101_voc", "deeplabv3plus", "resnet101", VOC, _MM_VOC, 40, "78.62", ""),
    ("deeplabv3plus_resnet50_cityscapes", "deeplabv3plus", "resnet50", CITYSCAPES, _MM_CITYSCAPES, 40, "79.61", "7.5"),
    ("deeplabv3plus_resnet50_cityscapes", "deeplabv3plus", "resnet50", CITYSCAPES, _MM_CITYSCAPES, 80, "80.09", ""),
    ("deeplabv3plus_resnet101_cityscapes", "deeplabv3plus", "resnet101", CITYSCAPES, _MM_CITYSCAPES, 40, "80.21", "11"),
    ("deeplabv3plus_resnet101_cityscapes", "deeplabv3plus", "resnet101", CITYSCAPES, _MM_CITYSCAPES, 80, "80.97", ""),
    (
        "deeplabv3plus_mobilenet_v2_cityscapes",
        "deeplabv3plus",
        "mobilenet_v2_torchvision",
        CITYSCAPES,
        _MM_CITYSCAPES,
        80,
        "75.20",
        "5.1",
    ),
    ("deeplabv3plus_resnet50_ade20k", "deeplabv3plus", "resnet50", ADE20K, _MM_ADE20K, 80, "42.72", "10.6"),
    ("deeplabv3plus_resnet50_ade20k", "deeplabv3plus", "resnet50", ADE20K, _MM_ADE20K, 160, "43.95", ""),
    ("deeplabv3plus_resnet101_ade20k", "deeplabv3plus", "resnet101", ADE20K, _MM_ADE20K, 80, "44.60", "14.1"),
    ("deeplabv3plus_resnet101_ade20k", "deeplabv3plus", "resnet101", ADE20K, _MM_ADE20K, 160, "45.47", ""),
    (
        "deeplabv3plus_mobilenet_v2_ade20k",
        "deeplabv3plus",
        "mobilenet_v2_torchvision",
        ADE20K,
        _MM_ADE20K,
        160,
        "34.02",
        "8.2",
    ),
    ("deeplabv3plus_resnet101_context", "deeplabv3plus", "resnet101", CONTEXT, _MM_CONTEXT, 40, "47.30", ""),
]


def _mmsegmentation():
    for name, builder, backbone, data, options, thousands, figure, memory in _MM_ROWS:
        network = {"model": builder, "backbone": backbone, "output_stride": 8}
        own, differs = {}, [*_MM_DIFFERS]
        if builder == "deeplabv3":
            network["auxiliary_head"] = True
            own = {"auxiliary_weight": 0.4}
        else:
            differs.append(_NO_AUXILIARY)
        if backbone.startswith("resnet"):
            differs.append(_STEM)
        if data is not CITYSCAPES:
            differs.append(_SHORT_SIDE)
        folder = "mobilenet_v2" if backbone.startswith("mobilenet") else builder
        title = {VOC: "VOC 2012", CITYSCAPES: "Cityscapes"}.get(data, data.name)
        yield Recipe(
            f"mmseg_{name}_{thousands}k",
            network,
            {**options, **own, "steps": 1000 * thousands},
            data,
            figure,
            f"{title} val, one scale, output stride 8" + ", in windows of 480" * (data is CONTEXT),
            f"open-mmlab/mmsegmentation, configs/{folder}, configs/_base_",
            cost=f"{memory} GB on each of 4 cards" if memory else "",
            differs=tuple(differs),
        )


# PaddleSeg --------------------------------------------------------------------------------------------------

_PADDLE: dict[str, Any] = {
    "learning_rate": 0.01,
    "weight_decay": 4e-5,
    "decayed": "all",
    "batch_norm_momentum": 0.9,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
}
_PADDLE_VOC: dict[str, Any] = {**_PADDLE, "steps": 40000, "crop_size": 512, "batch_size": 16}
_PADDLE_CITYSCAPES: dict[str, Any] = {**_PADDLE, "steps": 80000, "crop_size": (512, 1024), "batch_size": 8}


def _paddleseg():
    for backbone, name, data, options, figure in (
        ("resnet50", "voc", VOC, _PADDLE_VOC, "80.66"),
        ("resnet101", "voc", VOC, _PADDLE_VOC, "80.60"),
        ("resnet50", "cityscapes", CITYSCAPES, _PADDLE_CITYSCAPES, "80.36"),
        ("resnet101", "cityscapes", CITYSCAPES, _PADDLE_CITYSCAPES, "81.10"),
    ):
        yield Recipe(
            f"paddleseg_deeplabv3plus_{backbone}_{name}",
            {"model": "deeplabv3plus", "backbone": backbone, "output_stride": 8, "multi_grid": (1, 2, 4)},
            options,
            data,
            figure,
            f"{'VOC 2012' if data is VOC else data.name} val, one scale, output stride 8",
            "PaddlePaddle/PaddleSeg, configs/deeplabv3p, configs/_base_",
            start="ImageNet by distillation (SSLD)",
            differs=(
                "the backbone is torchvision's ResNet instead of ResNet-vd, from weights without distillation",
                "colours are varied by other formulas",
            ),
            unverified=("the number of cards: 4, as its guide to training has; a card's batch is in the files",),
        )


# Composer ---------------------------------------------------------------------------------------------------

_COMPOSER: dict[str, Any] = {
    "crop_size": 512,
    "learning_rate": 0.01,
    "decayed": "all",
    "batch_norm_momentum": 0.9,
    "scale_step": 0.0,
}
_COMPOSER_ROWS = [
    # name, options, figure, cost, differs
    (
        "composer_deeplabv3plus_resnet101_ade20k",
        {"epochs": 127.0, "batch_size": 16, "weight_decay": 5e-4, "end_learning_rate": 1e-4},
        "44.17",
        "6.385 h on 8 A100",
        (),
    ),
    (
        "composer_deeplabv3plus_resnet101_ade20k_cosine",
        # Decay of 2e-5 a step, decoupled; in the loss, momentum of 0.9 sums up ten times rate * decay.
        {"epochs": 128.0, "batch_size": 32, "weight_decay": 2e-4, "schedule": "cosine"},
        "45.76",
        "4.67 h on 8 A100",
        ("decay is in the loss, at the strength that it has decoupled there", "from torchvision's first weights"),
    ),
]


def _composer():
    for name, options, figure, cost, differs in _COMPOSER_ROWS:
        yield Recipe(
            name,
            {"model": "deeplabv3plus", "backbone": "resnet101", "output_stride": 8},
            {**_COMPOSER, **options},
            ADE20K,
            figure,
            "ADE20K val, one scale, images of 512",
            "mosaicml/composer, composer/models/deeplabv3/README.md",
            cost=cost,
            differs=(*differs, *_MM_DIFFERS[:1], "images are not brought to 512x512 first, nor for scoring"),
            unverified=("crop and scales: those of its example's configuration; colours are left alone",),
        )


ROWS = [*_mmsegmentation(), *_paddleseg(), *_composer()]
