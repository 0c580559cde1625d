"""Repositories of PyTorch."""

from keras_deeplab.networks import V1, V2, V3, V3_PLUS
from keras_deeplab.published.figures import CITYSCAPES, VOC, multiply_add_count, parameter_count
from keras_deeplab.published.files import pytorch_file
from keras_deeplab.published.row import Row

VAINF_README = "VainF/DeepLabV3Plus-Pytorch, README.md"
_VAINF_CARD = "deployment card of VainF's models"
_THOP = "thop's count, which adds batch norm and resizes"
_TWENTY_NINTHS = "thop's count x 20/9, in all six rows; neither multiply-adds nor twice them"


def _vainf(parameters, thop, card):
    return [
        parameter_count(parameters, _VAINF_CARD),
        multiply_add_count(thop, VAINF_README, remark=_THOP),
        multiply_add_count(card, _VAINF_CARD, remark=_TWENTY_NINTHS),
    ]


VAINF = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3_mobilenet", V3, "mobilenet_v2_vainf", 16, {}, [(VOC, "70.1")], _vainf("5.114M", "6.0G", "13.372G")),
    ("deeplabv3_resnet50", V3, "resnet50", 16, {}, [(VOC, "76.9")], _vainf("39.639M", "51.4G", "114.137G")),
    ("deeplabv3_resnet101", V3, "resnet101", 16, {}, [(VOC, "77.3")], _vainf("58.631M", "72.1G", "160.224G")),
    ("deeplabv3_xception", V3, "xception_vainf", 16, {}, [], []),
    ("deeplabv3_hrnetv2_32", V3, "hrnetv2_32", 4, {"atrous_rates": (12, 24, 36)}, [], []),
    ("deeplabv3_hrnetv2_48", V3, "hrnetv2_48", 4, {"atrous_rates": (12, 24, 36)}, [], []),
    (
        "deeplabv3plus_mobilenet",
        V3_PLUS,
        "mobilenet_v2_vainf",
        16,
        {},
        [(VOC, "71.1"), (CITYSCAPES, "72.1")],
        [
            *_vainf("5.226M", "17.0G", "37.799G"),
            multiply_add_count(
                "135G", VAINF_README, input_size=(1024, 2048), overrides={"num_classes": 19}, remark=_THOP
            ),
        ],
    ),
    ("deeplabv3plus_resnet50", V3_PLUS, "resnet50", 16, {}, [(VOC, "77.2")], _vainf("39.76M", "62.7G", "139.293G")),
    (
        "deeplabv3plus_resnet101",
        V3_PLUS,
        "resnet101",
        16,
        {},
        [(VOC, "78.3"), (CITYSCAPES, "76.2")],
        _vainf("58.754M", "83.4G", "185.381G"),
    ),
    ("deeplabv3plus_xception", V3_PLUS, "xception_vainf", 16, {}, [], []),
    ("deeplabv3plus_hrnetv2_32", V3_PLUS, "hrnetv2_32", 4, {"atrous_rates": (12, 24, 36)}, [], []),
    ("deeplabv3plus_hrnetv2_48", V3_PLUS, "hrnetv2_48", 4, {"atrous_rates": (12, 24, 36)}, [], []),
    ("deeplabv3plus_resnet50_separable", V3_PLUS, "resnet50", 16, {"flavour": "vainf_separable"}, [], []),
    ("deeplabv3plus_mobilenet_separable", V3_PLUS, "mobilenet_v2_vainf", 16, {"flavour": "vainf_separable"}, [], []),
]

TORCHVISION_FILE = "pytorch/vision, torchvision/models/segmentation/deeplabv3.py"
_COCO = "COCO val2017 with VOC's classes"
TORCHVISION: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts, weights
    (
        "deeplabv3_resnet50",
        V3,
        "resnet50",
        8,
        {},
        [(_COCO, "66.4")],
        [
            parameter_count("42.004074M", TORCHVISION_FILE),
            multiply_add_count("178.722G", TORCHVISION_FILE, input_size=(520, 520)),
        ],
        pytorch_file("coco", "deeplabv3_resnet50_coco-cd0a2569", 160.515, "66.4 % mIoU"),
    ),
    (
        "deeplabv3_resnet101",
        V3,
        "resnet101",
        8,
        {},
        [(_COCO, "67.4")],
        [
            parameter_count("60.996202M", TORCHVISION_FILE),
            multiply_add_count("258.743G", TORCHVISION_FILE, input_size=(520, 520)),
        ],
        pytorch_file("coco", "deeplabv3_resnet101_coco-586e9e4e", 233.217, "67.4 % mIoU"),
    ),
    (
        "deeplabv3_mobilenet_v3_large",
        V3,
        "mobilenet_v3_large",
        16,
        {},
        [(_COCO, "60.3")],
        [
            parameter_count("11.029328M", TORCHVISION_FILE),
            multiply_add_count("10.452G", TORCHVISION_FILE, input_size=(520, 520)),
        ],
        pytorch_file("coco", "deeplabv3_mobilenet_v3_large-fc3c493d", 42.301, "60.3 % mIoU"),
    ),
]

JFZHANG95: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3plus_resnet101", V3_PLUS, "resnet101", 16, {"multi_grid": (1, 2, 4)}, [(VOC, "78.43")], []),
    ("deeplabv3plus_xception", V3_PLUS, "xception_jfzhang95", 16, {}, [], []),
    ("deeplabv3plus_mobilenet", V3_PLUS, "mobilenet_v2_jfzhang95", 16, {}, [(VOC, "70.81")], []),
    # Its DRN ignores the output stride of 16 that the README states.
    ("deeplabv3plus_drn_d_54", V3_PLUS, "drn_d_54", 8, {}, [(VOC, "78.87")], []),
]

_HALF_PIXEL = {"align_corners": False}
KAZUTO1011: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    # A ResNet to start v2 from on COCO-Stuff, not the paper's v1.
    ("deeplabv1_resnet101", V1, "resnet101_caffe", 8, {"variant": None, **_HALF_PIXEL}, [], []),
    ("deeplabv2_resnet101", V2, "resnet101_caffe", 8, _HALF_PIXEL, [], []),
    (
        "deeplabv2_resnet101_msc",
        V2,
        "resnet101_caffe",
        8,
        {"multi_scale": True, **_HALF_PIXEL},
        [
            (VOC, "76.65"),
            (VOC, "77.93", "CRF"),
            ("COCO-Stuff 10k", "34.8"),
            ("COCO-Stuff 10k", "35.6", "CRF"),
            ("COCO-Stuff 164k", "39.1"),
            ("COCO-Stuff 164k", "39.7", "CRF"),
        ],
        [],
    ),
    ("deeplabv3_resnet101", V3, "resnet101_caffe", 16, {"flavour": "kazuto1011"}, [], []),
    ("deeplabv3plus_resnet101", V3_PLUS, "resnet101_caffe", 16, {"flavour": "kazuto1011"}, [], []),
]

FREGU856: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3_resnet18", V3, "resnet18", 16, {}, [], []),
    ("deeplabv3_resnet34", V3, "resnet34", 16, {}, [], []),
    ("deeplabv3_resnet50", V3, "resnet50", 16, {}, [], []),
    ("deeplabv3_resnet101", V3, "resnet101", 16, {}, [], []),
    ("deeplabv3_resnet152", V3, "resnet152", 16, {}, [], []),
]

SMP: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3_resnet34", V3, "resnet34", 8, {}, [], []),
    ("deeplabv3_resnet50", V3, "resnet50", 8, {}, [], []),
    ("deeplabv3plus_resnet50", V3_PLUS, "resnet50", 16, {}, [], []),
    ("deeplabv3plus_resnet101", V3_PLUS, "resnet101", 16, {}, [], []),
    ("deeplabv3plus_mobilenet_v2", V3_PLUS, "mobilenet_v2_torchvision", 16, {}, [], []),
    ("deeplabv3plus_timm_mobilenetv3_large_100", V3_PLUS, "mobilenet_v3_large_timm", 16, {}, [], []),
    ("deeplabv3plus_tu_xception65", V3_PLUS, "xception_65", 16, {}, [], []),
    ("deeplabv3plus_tu_xception71", V3_PLUS, "xception_71", 16, {}, [], []),
]
