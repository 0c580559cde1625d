"""MMSegmentation, PaddleSeg and Detectron2, whose configurations say what their arrays don't."""

from keras_deeplab.networks import V3, V3_PLUS
from keras_deeplab.published.figures import ADE20K, CITYSCAPES, VOC
from keras_deeplab.published.row import Row

MMSEGMENTATION_README = "open-mmlab/mmsegmentation, configs/deeplabv3, deeplabv3plus and mobilenet_v2"
_FLIP, _WINDOWS = "multi-scale, flip", "windows of 769x769"
_D8 = {"atrous_rates": (12, 24, 36)}
_CORNERS = {**_D8, "align_corners": True}
_D16 = {"atrous_rates": (6, 12, 18), "multi_grid": (1, 2)}
# Scores are those of the longest schedule: 80k of Cityscapes, 160k of ADE20K, 40k of VOC.
MMSEGMENTATION: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv3_resnet50",
        V3,
        "resnet50_v1c",
        8,
        _D8,
        [(CITYSCAPES, "79.32"), (CITYSCAPES, "80.57", _FLIP), (ADE20K, "42.66"), (VOC, "77.68")],
        [],
    ),
    (
        "deeplabv3_resnet101",
        V3,
        "resnet101_v1c",
        8,
        _D8,
        [(CITYSCAPES, "80.20"), (CITYSCAPES, "81.21", _FLIP), (ADE20K, "45.00"), (VOC, "77.92")],
        [],
    ),
    ("deeplabv3_resnet101_769", V3, "resnet101_v1c", 8, _CORNERS, [(CITYSCAPES, "79.67", _WINDOWS)], []),
    ("deeplabv3_resnet101_d16_mg124", V3, "resnet101_v1c", 16, _D16, [(CITYSCAPES, "78.36")], []),
    (
        "deeplabv3_mobilenet_v2",
        V3,
        "mobilenet_v2_mmsegmentation",
        8,
        _D8,
        [(CITYSCAPES, "73.84"), (ADE20K, "34.08")],
        [],
    ),
    (
        "deeplabv3plus_resnet50",
        V3_PLUS,
        "resnet50_v1c",
        8,
        _D8,
        [(CITYSCAPES, "80.09"), (CITYSCAPES, "81.13", _FLIP), (ADE20K, "43.95"), (VOC, "76.81")],
        [],
    ),
    (
        "deeplabv3plus_resnet101",
        V3_PLUS,
        "resnet101_v1c",
        8,
        _D8,
        [(CITYSCAPES, "80.97"), (CITYSCAPES, "82.03", _FLIP), (ADE20K, "45.47"), (VOC, "78.62")],
        [],
    ),
    ("deeplabv3plus_resnet101_769", V3_PLUS, "resnet101_v1c", 8, _CORNERS, [(CITYSCAPES, "80.65", _WINDOWS)], []),
    ("deeplabv3plus_resnet101_d16_mg124", V3_PLUS, "resnet101_v1c", 16, _D16, [(CITYSCAPES, "79.90")], []),
    (
        "deeplabv3plus_mobilenet_v2",
        V3_PLUS,
        "mobilenet_v2_mmsegmentation",
        8,
        _D8,
        [(CITYSCAPES, "75.20"), (ADE20K, "34.02")],
        [],
    ),
]

PADDLESEG_README = "PaddlePaddle/PaddleSeg, configs/deeplabv3 and configs/deeplabv3p"
PADDLESEG: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3_resnet50", V3, "resnet50_v1d", 8, {}, [(CITYSCAPES, "79.90"), (VOC, "79.76")], []),
    ("deeplabv3_resnet101", V3, "resnet101_v1d", 8, {}, [(CITYSCAPES, "80.85"), (VOC, "80.62")], []),
    ("deeplabv3p_resnet50", V3_PLUS, "resnet50_v1d", 8, {}, [(CITYSCAPES, "80.36"), (VOC, "80.66")], []),
    ("deeplabv3p_resnet101", V3_PLUS, "resnet101_v1d", 8, {}, [(CITYSCAPES, "81.10"), (VOC, "80.60")], []),
    (
        "deeplabv3p_resnet101_769",
        V3_PLUS,
        "resnet101_v1d",
        8,
        {"align_corners": True},
        [(CITYSCAPES, "81.53")],
        [],
    ),
]

DETECTRON2_README = "facebookresearch/detectron2, projects/DeepLab/README.md"
DETECTRON2: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplab_v3_r103", V3, "resnet101_deeplab", 16, {}, [(CITYSCAPES, "78.5")], []),
    ("deeplab_v3_plus_r103", V3_PLUS, "resnet101_deeplab", 16, {}, [(CITYSCAPES, "80.0")], []),
]
