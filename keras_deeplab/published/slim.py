"""Google's research/deeplab."""

from keras_deeplab.networks import V3, V3_PLUS
from keras_deeplab.published.figures import (
    ADE20K,
    CITYSCAPES,
    CITYSCAPES_MS8,
    MS8,
    MULTI_SCALE,
    OS8,
    TEST,
    VOC,
    tf1_count,
)
from keras_deeplab.published.files import google_file

ZOO = "tensorflow/models, research/deeplab/g3doc/model_zoo.md"
# Left out: the weights of xception71_dpc_cityscapes_* (a dense prediction cell, which isn't built here), of
# edgetpu-deeplab* (a backbone that isn't), and the 8 bit models, which are TFLite files.
_SCALES = "output stride 8, several scales, flipped"
_REST = "0.01B more, as at full width: more than convolutions was counted"
_TWICE = "unexplained: of all figures of the file only those of MobileNetV3 are twice as large as here, and more"
SLIM = [
    # name, builder, backbone, output stride, settings, scores, counts, weights
    (
        "deeplabv3_mobilenet_v2",
        V3,
        "mobilenet_v2",
        16,
        {},
        [
            (VOC, "75.32"),
            (VOC, "77.33", MULTI_SCALE),
            (TEST, "80.25", MULTI_SCALE),
            (VOC, "74.26", "8 bit"),
        ],
        [
            tf1_count("2.75B", ZOO),
            tf1_count("152.59B", ZOO, **MS8),
        ],
        google_file("pascal_voc", "deeplabv3_mnv2_pascal_trainval_2018_01_29", 23, f"80.25 % test mIoU, {_SCALES}"),
        google_file("pascal_voc_train_aug", "deeplabv3_mnv2_pascal_train_aug_2018_01_29", 23, "75.32 % val mIoU"),
    ),
    (
        "deeplabv3_mobilenet_v2_dm05",
        V3,
        "mobilenet_v2_dm05",
        16,
        {},
        [(VOC, "70.19"), (TEST, "71.83", "output stride 8"), (VOC, "69.65", "8 bit")],
        [tf1_count("0.88B", ZOO, remark=_REST), tf1_count("2.84B", ZOO, **OS8)],
        google_file(
            "pascal_voc",
            "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01",
            7.6,
            "71.83 % test mIoU, output stride 8",
        ),
        google_file("pascal_voc_train_aug", "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01", 7.6, "70.19 % val mIoU"),
    ),
    (
        "deeplabv3_mobilenet_v2_cityscapes",
        V3,
        "mobilenet_v2",
        16,
        {"num_classes": 19},
        [(CITYSCAPES, "70.71"), (CITYSCAPES, "73.57", MULTI_SCALE)],
        [
            tf1_count("21.27B", ZOO, input_size=(1025, 2049)),
            tf1_count("433.24B", ZOO, **CITYSCAPES_MS8),
        ],
        google_file("cityscapes", "deeplabv3_mnv2_cityscapes_train_2018_02_05", 23, "70.71 % val mIoU"),
    ),
    ("deeplabv3plus_mobilenet_v2", V3_PLUS, "mobilenet_v2", 16, {}, [], []),
    (
        "deeplabv3plus_mobilenet_v2_ade20k",
        V3_PLUS,
        "mobilenet_v2",
        16,
        {"num_classes": 151, "atrous_rates": ()},
        [(ADE20K, "32.04", "257 pixels")],
        [],
        google_file(
            "ade20k",
            "deeplabv3_mnv2_ade20k_train_2018_12_03",
            24.8,
            "32.04 % val mIoU of 151 classes, 257 pixels",
        ),
    ),
    ("deeplabv3plus_xception_41", V3_PLUS, "xception_41", 16, {}, [], []),
    (
        "deeplabv3plus_xception_65",
        V3_PLUS,
        "xception_65",
        16,
        {},
        [(VOC, "82.20"), (VOC, "83.58", MULTI_SCALE), (TEST, "87.80", MULTI_SCALE)],
        [
            tf1_count("54.17B", ZOO),
            tf1_count("3055.35B", ZOO, **MS8),
        ],
        google_file("pascal_voc", "deeplabv3_pascal_trainval_2018_01_04", 439, f"87.80 % test mIoU, {_SCALES}"),
        google_file("pascal_voc_train_aug", "deeplabv3_pascal_train_aug_2018_01_04", 439, "82.20 % val mIoU"),
    ),
    (
        "deeplabv3plus_xception_65_cityscapes",
        V3_PLUS,
        "xception_65",
        16,
        {"num_classes": 19},
        [(CITYSCAPES, "78.79"), (CITYSCAPES, "80.42", MULTI_SCALE)],
        [
            tf1_count("418.64B", ZOO, input_size=(1025, 2049)),
            tf1_count("8677.92B", ZOO, **CITYSCAPES_MS8),
        ],
        google_file("cityscapes", "deeplabv3_cityscapes_train_2018_02_06", 439, "78.79 % val mIoU"),
    ),
    (
        "deeplabv3plus_xception_65_ade20k",
        V3_PLUS,
        "xception_65",
        8,
        {"num_classes": 151},
        [(ADE20K, "45.65", "multi-scale, flip")],
        [],
        google_file(
            "ade20k",
            "deeplabv3_xception_ade20k_train_2018_05_29",
            439,
            f"45.65 % val mIoU of 151 classes, {_SCALES}",
        ),
    ),
    ("deeplabv3plus_xception_65_bounded", V3_PLUS, "xception_65_bounded", 16, {"flavour": "tf_bounded"}, [], []),
    ("deeplabv3plus_xception_71", V3_PLUS, "xception_71", 16, {}, [], []),
    ("deeplabv3_resnet_v1_50_beta", V3, "resnet_v1_50_beta", 16, {}, [], []),
    ("deeplabv3_resnet_v1_101_beta", V3, "resnet_v1_101_beta", 16, {}, [], []),
    ("deeplabv3plus_resnet_v1_50_beta", V3_PLUS, "resnet_v1_50_beta", 16, {}, [], []),
    ("deeplabv3plus_resnet_v1_101_beta", V3_PLUS, "resnet_v1_101_beta", 16, {}, [], []),
    (
        "deeplabv3_mobilenet_v3_large_cityscapes",
        V3,
        "mobilenet_v3_large_seg",
        32,
        {"num_classes": 19},
        [(CITYSCAPES, "72.41")],
        [tf1_count("15.95B", ZOO, input_size=(1025, 2049), remark=_TWICE)],
        google_file(
            "cityscapes",
            "deeplab_mnv3_large_cityscapes_trainfine_2019_11_15",
            17,
            "72.41 % val mIoU, output stride 32",
        ),
    ),
    (
        "deeplabv3_mobilenet_v3_small_cityscapes",
        V3,
        "mobilenet_v3_small_seg",
        32,
        {"num_classes": 19},
        [(CITYSCAPES, "68.99")],
        [tf1_count("4.63B", ZOO, input_size=(1025, 2049), remark=_TWICE)],
        google_file(
            "cityscapes",
            "deeplab_mnv3_small_cityscapes_trainfine_2019_11_15",
            5,
            "68.99 % val mIoU, output stride 32",
        ),
    ),
]
