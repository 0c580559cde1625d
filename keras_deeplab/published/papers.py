"""The papers."""

from keras_deeplab.networks import V1, V2, V3, V3_PLUS
from keras_deeplab.published.figures import CITYSCAPES, MS8, MULTI_SCALE, OS8, TEST, VOC, parameter_count, tf1_count
from keras_deeplab.published.row import Row

V1_PAPER = "DeepLab v1, arXiv 1412.7062"
PAPER_V1 = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv1_vgg16_7x7",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "7x7"},
        [(VOC, "64.38"), (VOC, "67.64", "CRF"), (TEST, "70.3", "CRF")],
        [parameter_count("134.3M", V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_4x4",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "4x4"},
        [(VOC, "59.80"), (VOC, "63.74", "CRF"), (TEST, "66.4", "CRF")],
        [parameter_count("65.1M", V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_4x4_large",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "4x4_large"},
        [(VOC, "63.41"), (VOC, "67.14", "CRF")],
        [parameter_count("65.1M", V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_large_fov",
        V1,
        "vgg16_caffe",
        8,
        {},
        [(VOC, "62.25"), (VOC, "67.64", "CRF"), (TEST, "70.3", "CRF")],
        [parameter_count("20.5M", V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_msc",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "4x4", "multi_scale_features": True},
        [(VOC, "61.30"), (VOC, "65.21", "CRF"), (TEST, "67.1", "CRF")],
        [],
    ),
    (
        "deeplabv1_vgg16_msc_large_fov",
        V1,
        "vgg16_caffe",
        8,
        {"multi_scale_features": True},
        [(VOC, "64.21"), (VOC, "68.70", "CRF"), (TEST, "71.6", "CRF")],
        [],
    ),
]

PAPER_V2: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv2_vgg16_large_fov",
        V2,
        "vgg16_caffe",
        8,
        {"atrous_rates": (12,)},
        [(VOC, "65.76"), (VOC, "69.84", "CRF")],
        [],
    ),
    (
        "deeplabv2_vgg16_aspp_s",
        V2,
        "vgg16_caffe",
        8,
        {"atrous_rates": (2, 4, 8, 12)},
        [(VOC, "66.98"), (VOC, "69.73", "CRF")],
        [],
    ),
    (
        "deeplabv2_vgg16_aspp_l",
        V2,
        "vgg16_caffe",
        8,
        {"atrous_rates": (6, 12, 18, 24)},
        [(VOC, "68.96"), (VOC, "71.57", "CRF")],
        [],
    ),
    (
        "deeplabv2_resnet101_large_fov",
        V2,
        "resnet101_caffe",
        8,
        {"atrous_rates": (12,), "multi_scale": True},
        [(VOC, "75.54", "COCO, augmentation")],
        [],
    ),
    (
        "deeplabv2_resnet101_aspp",
        V2,
        "resnet101_caffe",
        8,
        {"multi_scale": True},
        [
            (VOC, "76.35", "COCO, augmentation"),
            (VOC, "77.69", "COCO, augmentation, CRF"),
            (TEST, "79.7", "COCO, augmentation, CRF"),
        ],
        [],
    ),
]


def _cascade(layers, block, scores):
    blocks = block - 4
    # Without replicas the head is the same 1x1 convolution, on block4.
    settings = {"cascade_blocks": blocks} if blocks else {"atrous_rates": (), "image_pooling": False}
    settings = {"multi_grid": (1,), **settings}
    return (f"deeplabv3_resnet{layers}_block{block}", V3, f"resnet_v1_{layers}_beta", 16, settings, scores, [])


# Mean IoU by unit rates (multi-grid): (1, 1, 1), (1, 2, 1), (1, 2, 3), (1, 2, 4), (2, 2, 2)
_MULTI_GRID = {
    4: ("68.39", "70.23", "73.14", "73.45", "71.45"),
    5: ("73.21", "75.67", "75.78", "75.74", "74.30"),
    6: ("75.34", "76.09", "75.96", "75.85", "74.70"),
    7: ("75.76", "76.66", "76.11", "76.02", "74.62"),
}
_UNIT_RATES = ("", "multi-grid 1, 2, 1", "multi-grid 1, 2, 3", "multi-grid 1, 2, 4", "multi-grid 2, 2, 2")
V3_PAPER = "DeepLab v3, arXiv 1706.05587"
MNV2_PAPER = "MobileNetV2, arXiv 1801.04381"
V3_PLUS_PAPER = "DeepLab v3+, arXiv 1802.02611"
_OTHER_RATES = "101.22B with the unit rates 1, 1, 1; the other figures of the same table are those of 1, 2, 4"
PAPER_V3 = [
    # name, builder, backbone, output stride, settings, scores, counts
    _cascade(50, 4, [(VOC, "64.81")]),
    _cascade(50, 5, [(VOC, "72.14")]),
    _cascade(50, 6, [(VOC, "74.29")]),
    _cascade(
        50,
        7,
        [
            (VOC, "73.88"),
            *(
                (VOC, score, f"output stride {stride}")
                for stride, score in [(8, "75.18"), (32, "70.06"), (64, "59.99"), (128, "42.34"), (256, "20.29")]
            ),
        ],
    ),
    *(
        _cascade(101, block, [(VOC, score, rates) for score, rates in zip(scores, _UNIT_RATES, strict=True)])
        for block, scores in _MULTI_GRID.items()
    ),
    (
        "deeplabv3_resnet101_no_image_pooling",
        V3,
        "resnet_v1_101_beta",
        16,
        {"image_pooling": False},
        [(VOC, "76.58"), (VOC, "75.36", "multi-grid 1, 1, 1"), (VOC, "75.93", "multi-grid 1, 2, 1")],
        [],
    ),
    (
        "deeplabv3_resnet101_no_image_pooling_rate_24",
        V3,
        "resnet_v1_101_beta",
        16,
        {"image_pooling": False, "atrous_rates": (6, 12, 18, 24)},
        [(VOC, "76.46")],
        [],
    ),
    (
        "deeplabv3_resnet101",
        V3,
        "resnet_v1_101_beta",
        16,
        {},
        [
            (VOC, "77.21"),
            (VOC, "78.51", "output stride 8"),
            (VOC, "79.77", MULTI_SCALE),
            (VOC, "82.70", f"COCO, {MULTI_SCALE}"),
            (TEST, "85.7", f"COCO, {MULTI_SCALE}"),
            (TEST, "86.9", f"JFT, {MULTI_SCALE}"),
            (CITYSCAPES, "77.23"),
            (CITYSCAPES, "77.82", "output stride 8"),
            (CITYSCAPES, "79.30", MULTI_SCALE),
            ("Cityscapes test", "81.3", MULTI_SCALE),
        ],
        [
            parameter_count("58.16M", MNV2_PAPER),
            tf1_count("81.0B", MNV2_PAPER),
            tf1_count("81.02B", V3_PLUS_PAPER),
        ],
    ),
]
PAPER_V3_PLUS = [
    # name, builder, backbone, output stride, settings, scores, counts
    *(
        (
            f"deeplabv3plus_resnet101_low_level_{filters}",
            V3_PLUS,
            "resnet_v1_101_beta",
            16,
            {"low_level_filters": filters, "separable": False},
            [(VOC, score)],
            [],
        )
        for filters, score in [(8, "77.61"), (16, "77.92"), (32, "78.16"), (48, "78.21"), (64, "77.94")]
    ),
    (
        "deeplabv3plus_resnet101",
        V3_PLUS,
        "resnet_v1_101_beta",
        16,
        {"separable": False},
        [(VOC, "78.85"), (VOC, "79.35", "output stride 8"), (VOC, "80.57", MULTI_SCALE)],
        [
            tf1_count("101.28B", V3_PLUS_PAPER, remark=_OTHER_RATES),
            tf1_count("297.92B", V3_PLUS_PAPER, **OS8),
            tf1_count("5247.07B", V3_PLUS_PAPER, **MS8),
        ],
    ),
    (
        "deeplabv3_xception_65",
        V3,
        "xception_65",
        16,
        {},
        [(VOC, "79.17")],
        [tf1_count("68.00B", V3_PLUS_PAPER)],
    ),
    (
        "deeplabv3plus_xception_65_plain",
        V3_PLUS,
        "xception_65",
        16,
        {"separable": False},
        [(VOC, "79.93")],
        [tf1_count("89.76B", V3_PLUS_PAPER)],
    ),
    (
        "deeplabv3plus_xception_65",
        V3_PLUS,
        "xception_65",
        16,
        {},
        [
            (VOC, "79.79"),
            (VOC, "80.02", "output stride 8"),
            (VOC, "82.20", "COCO"),
            (VOC, "83.34", "COCO, output stride 8"),
            (VOC, "83.58", f"COCO, {MULTI_SCALE}"),
            (VOC, "83.03", "JFT"),
            (VOC, "84.56", f"JFT, {MULTI_SCALE}"),
            (TEST, "87.8", f"COCO, {MULTI_SCALE}"),
            (TEST, "89.0", f"JFT, {MULTI_SCALE}"),
            (CITYSCAPES, "78.79"),
        ],
        [
            tf1_count("54.17B", V3_PLUS_PAPER),
            tf1_count("177.10B", V3_PLUS_PAPER, **OS8),
        ],
    ),
    (
        "deeplabv3plus_xception_65_no_image_pooling",
        V3_PLUS,
        "xception_65",
        16,
        {"image_pooling": False, "num_classes": 19},
        [(CITYSCAPES, "79.14")],
        [],
    ),
    (
        "deeplabv3plus_xception_71_no_image_pooling",
        V3_PLUS,
        "xception_71",
        16,
        {"image_pooling": False, "num_classes": 19},
        [(CITYSCAPES, "79.55")],
        [],
    ),
]
PAPER_MOBILENET = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv3_mobilenet_v2",
        V3,
        "mobilenet_v2",
        16,
        {},
        [(VOC, "75.32"), (VOC, "77.33", MULTI_SCALE)],
        [
            parameter_count("2.11M", MNV2_PAPER),
            tf1_count("2.75B", MNV2_PAPER),
            tf1_count("152.6B", MNV2_PAPER, **MS8),
        ],
    ),
    (
        "deeplabv3_mobilenet_v2_aspp",
        V3,
        "mobilenet_v2",
        16,
        {"atrous_rates": (6, 12, 18)},
        [(VOC, "75.70")],
        [parameter_count("4.52M", MNV2_PAPER), tf1_count("5.8B", MNV2_PAPER)],
    ),
]
