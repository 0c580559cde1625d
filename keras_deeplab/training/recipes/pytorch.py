"""Recipes of the PyTorch repositories whose networks are built here: VainF, jfzhang95, torchvision, kazuto1011."""

from typing import Any

from keras_deeplab.training.recipes.row import (
    CITYSCAPES,
    COCO_STUFF_10K,
    COCO_STUFF_182,
    COCO_VOC,
    VOC,
    Recipe,
)

# VainF ------------------------------------------------------------------------------------------------------

_VAINF_SOURCE = "VainF/DeepLabV3Plus-Pytorch, main.py, README.md"
# The backbone learns at a tenth of the head's rate, which is 0.01 on VOC and 0.1 on Cityscapes.
_VAINF: dict[str, Any] = {
    "steps": 30000,
    "batch_size": 16,
    "head_multiplier": 10.0,
    "weight_decay": 1e-4,
    "decayed": "all",
    "batch_norm_momentum": 0.99,
}
_VAINF_VOC: dict[str, Any] = {**_VAINF, "crop_size": 513, "learning_rate": 0.001, "scale_step": 0.0}
_VAINF_CITYSCAPES: dict[str, Any] = {
    **_VAINF,
    "crop_size": 768,
    "learning_rate": 0.01,
    "scale_range": (1.0, 1.0),
    "brightness": 0.5,
    "contrast": 0.5,
    "saturation": 0.5,
}
_VAINF_DIFFERS = ("batch norm keeps 0.9 a step in the head there, and 0.99 here as in the backbone",)
_CENTRE = "val images are scored whole; there their centre of 513x513 was"


def _vainf():
    for network, figure in (
        ("deeplabv3_mobilenet", "70.1"),
        ("deeplabv3_resnet50", "76.9"),
        ("deeplabv3_resnet101", "77.3"),
        ("deeplabv3plus_mobilenet", "71.1"),
        ("deeplabv3plus_resnet50", "77.2"),
        ("deeplabv3plus_resnet101", "78.3"),
    ):
        yield Recipe(
            f"vainf_{network}_voc",
            {"model": f"vainf_{network}"},
            _VAINF_VOC,
            VOC,
            figure,
            "VOC 2012 val, centre crop of 513, output stride 16",
            _VAINF_SOURCE,
            differs=(_CENTRE, *_VAINF_DIFFERS),
        )
    for network, figure in (("deeplabv3plus_mobilenet", "72.1"), ("deeplabv3plus_resnet101", "76.2")):
        yield Recipe(
            f"vainf_{network}_cityscapes",
            {"model": f"vainf_{network}"},
            _VAINF_CITYSCAPES,
            CITYSCAPES,
            figure,
            "Cityscapes val, whole images, output stride 16",
            _VAINF_SOURCE,
            differs=("colours are varied by other formulas", *_VAINF_DIFFERS),
        )


# jfzhang95 --------------------------------------------------------------------------------------------------

# utils/loss.py divides the mean loss by the batch of 16 once more, which is a sixteenth of the rate with sixteen times
# the decay.
_JFZHANG95: dict[str, Any] = {
    "epochs": 50.0,
    "crop_size": 513,
    "batch_size": 16,
    "learning_rate": 0.007 / 16,
    "head_multiplier": 10.0,
    "weight_decay": 16 * 5e-4,
    "decayed": "all",
    "batch_norm_momentum": 0.9,
    "scale_step": 0.0,
}


def _jfzhang95():
    for network, figure in (("resnet101", "78.43"), ("mobilenet", "70.81"), ("drn_d_54", "78.87")):
        yield Recipe(
            f"jfzhang95_deeplabv3plus_{network}_voc",
            {"model": f"jfzhang95_deeplabv3plus_{network}"},
            _JFZHANG95,
            VOC,
            figure,
            "VOC 2012 val, short side brought to 513, centre crop",
            "jfzhang95/pytorch-deeplab-xception, train.py, train_voc.sh, README.md",
            cost="4 graphics cards",
            differs=(
                "images are not brought to a short side of 513 before they are scaled and scored",
                "no blur",
            ),
            unverified=("only the command for ResNet-101 is published",) * (network != "resnet101"),
        )


# torchvision ------------------------------------------------------------------------------------------------

_TORCHVISION: dict[str, Any] = {
    "epochs": 30.0,
    "crop_size": 480,
    "batch_size": 32,
    "learning_rate": 0.02,
    "learning_rate_multipliers": {"^auxiliary_": 10.0},
    "auxiliary_weight": 0.5,
    "weight_decay": 1e-4,
    "decayed": "all",
    "batch_norm_momentum": 0.9,
    "scale_step": 0.0,
}


def _torchvision():
    small = {**_TORCHVISION, "learning_rate": 0.01, "weight_decay": 1e-6}
    for network, options, figure in (
        ("deeplabv3_resnet50", _TORCHVISION, "66.4"),
        ("deeplabv3_resnet101", _TORCHVISION, "67.4"),
        ("deeplabv3_mobilenet_v3_large", small, "60.3"),
    ):
        yield Recipe(
            f"torchvision_{network}_coco",
            {"model": f"torchvision_{network}"},
            options,
            COCO_VOC,
            figure,
            "COCO val2017 with VOC's classes, short side brought to 520",
            "pytorch/vision, references/segmentation/README.md, train.py",
            cost="8 V100",
            differs=(
                "images are scaled by 0.5 to 2 of their own size; there their short side becomes 260 to 1040",
                "images with fewer than 1,000 labelled pixels are shown too, where the data set has them",
            ),
        )


# kazuto1011 -------------------------------------------------------------------------------------------------

# Two half batches of 5 are summed up there, which is one of 10 here where batch norm is frozen. Where memory is short,
# batch_size=5, gradient_accumulation_steps=2 and twice the steps do the same.
_KAZUTO1011: dict[str, Any] = {
    "crop_size": 321,
    "batch_size": 10,
    "learning_rate": 2.5e-4,
    "learning_rate_multipliers": {"^logits_\\d/kernel": 10.0, "^logits_\\d/bias": 20.0},
    "weight_decay": 5e-4,
    "scale_range": (0.5, 1.5),
    "batch_norm": "frozen",
}


_WARPED = "images and masks are not warped to squares of 513 first"


def _kazuto1011():
    for name, data, steps, figure, more in (
        ("voc", VOC, 20000, "76.65", ()),
        ("cocostuff10k", COCO_STUFF_10K, 20000, "34.8", (_WARPED,)),
        ("cocostuff164k", COCO_STUFF_182, 100000, "39.1", ()),
    ):
        yield Recipe(
            f"kazuto1011_deeplabv2_resnet101_{name}",
            {"model": "kazuto1011_deeplabv2_resnet101_msc"},
            {**_KAZUTO1011, "steps": steps},
            data,
            figure,
            f"{'VOC 2012' if data is VOC else data.name} val, three scales in the network, no CRF",
            "kazuto1011/deeplab-pytorch, configs, main.py, README.md",
            start="COCO (the release's init.caffemodel)",
            cost="11.2 GB on one Titan X",
            differs=(
                *more,
                "the loss is on the largest of the scales' scores alone, and at the image's size; there the losses of "
                "three scales and of the largest are summed up, each at the scores' own size",
                "the rate falls at every step; there every tenth",
            ),
        )


ROWS = [*_vainf(), *_jfzhang95(), *_torchvision(), *_kazuto1011()]
