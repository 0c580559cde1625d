"""The papers' own recipes, and those of their authors' code: Caffe for v1 and v2, research/deeplab for v3 and v3+.

Rows: name, network, options, data, figure, protocol, further attributes of `Recipe`.
"""

from typing import Any

from keras_deeplab.training.recipes.row import ADE20K_151, CITYSCAPES, VOC, VOC_TRAINVAL, Recipe

_V1 = "DeepLab v1, arXiv 1412.7062, section 4.1; DeepLab v2, arXiv 1606.00915, section 4.1.1"
_V2 = "DeepLab v2, arXiv 1606.00915, section 4.1"
_V3 = "DeepLab v3, arXiv 1706.05587, section 4"
_V3_PLUS = "DeepLab v3+, arXiv 1802.02611, section 4"
_MNV2 = "MobileNetV2, arXiv 1801.04381, section 6.3"
_GOOGLE = "tensorflow/models, research/deeplab/train.py"

# Caffe: a bias learns twice as fast as its kernel and doesn't decay, the classifier ten times as fast as the rest.
_CLASSIFIER = {"^logits(_\\d)?/kernel": 10.0, "^logits(_\\d)?/bias": 20.0, "bias$": 2.0}
_CAFFE: dict[str, Any] = {
    "crop_size": 321,
    "weight_decay": 5e-4,
    "learning_rate_multipliers": _CLASSIFIER,
    "scale_range": (1.0, 1.0),
}
_SMALL_LABELS = "the loss is at the image's size instead of an eighth of it"
_NEW_FC = "fc6 and fc7 start fresh: the ImageNet weights that are read here have no fully connected layers"
_NO_CRF = "the figure is that without the CRF"
_CAFFE_DIFFERS = (_SMALL_LABELS, _NEW_FC, _NO_CRF)

# Biases learn twice as fast in research/deeplab (utils/train_utils.py).
_GOOGLE_BIASES = {"/bias$": 2.0}
_V3_VOC: dict[str, Any] = {
    "steps": 30000,
    "crop_size": 513,
    "batch_size": 16,
    "learning_rate": 0.007,
    "learning_rate_multipliers": _GOOGLE_BIASES,
    "batch_norm_momentum": 0.9997,
}
_RESNET: dict[str, Any] = {**_V3_VOC, "weight_decay": 1e-4}
_DECAY = "the weight decay is that of the comments in research/deeplab/train.py; the paper tells none"

_ROWS: list[tuple[str, dict, dict, Any, str, str, str, dict]] = [
    (
        "deeplabv1_vgg16_voc",
        {"model": "paper_deeplabv1_vgg16_large_fov"},
        {**_CAFFE, "steps": 6000, "batch_size": 30, "schedule": "step", "decay_every": 2000, "learning_rate": 0.001},
        VOC,
        "62.25",
        "VOC 2012 val, no CRF",
        _V1,
        {
            "differs": _CAFFE_DIFFERS,
            "unverified": (
                "v1 tells a batch of 20 and no length; v2's table of schedules has this figure for a batch of 30 and "
                "6,000 steps, which stand here",
            ),
        },
    ),
    (
        "deeplabv2_vgg16_large_fov_voc",
        {"model": "paper_deeplabv2_vgg16_large_fov"},
        {**_CAFFE, "steps": 20000, "batch_size": 10, "learning_rate": 0.001},
        VOC,
        "65.76",
        "VOC 2012 val, no CRF",
        _V2,
        {"differs": _CAFFE_DIFFERS},
    ),
    (
        "deeplabv2_vgg16_voc",
        {"model": "paper_deeplabv2_vgg16_aspp_l"},
        {**_CAFFE, "steps": 20000, "batch_size": 10, "learning_rate": 0.001},
        VOC,
        "68.96",
        "VOC 2012 val, no CRF",
        _V2,
        {"differs": _CAFFE_DIFFERS},
    ),
    (
        "deeplabv2_resnet101_voc",
        {"model": "paper_deeplabv2_resnet101_aspp"},
        {
            **_CAFFE,
            "steps": 20000,
            "batch_size": 10,
            "learning_rate": 2.5e-4,
            "scale_range": (0.5, 1.5),
            "batch_norm": "frozen",
        },
        VOC,
        "76.35",
        "VOC 2012 val, three scales in the network, no CRF",
        _V2,
        {
            "start": "ImageNet, then COCO",
            "differs": (
                "the loss is on the largest of the scales' scores alone; there it is on each scale's too",
                "the start from COCO: give its weights by --weights",
                _NO_CRF,
            ),
            "unverified": (
                "the learning rate and the scales are those of kazuto1011/deeplab-pytorch, configs/voc12.yaml",
            ),
        },
    ),
    (
        "deeplabv3_resnet101_voc",
        {"model": "paper_deeplabv3_resnet101"},
        _RESNET,
        VOC,
        "77.21",
        "VOC 2012 val, output stride 16, one scale (78.51 at output stride 8)",
        _V3,
        {"unverified": (_DECAY,)},
    ),
    (
        "deeplabv3_resnet101_voc_trainval",
        {"model": "paper_deeplabv3_resnet101", "output_stride": 8},
        {**_RESNET, "learning_rate": 0.001, "batch_norm": "frozen"},
        VOC_TRAINVAL,
        "85.7",
        "VOC 2012 test, COCO before, output stride 8, several scales, flipped",
        _V3,
        {
            "start": "deeplabv3_resnet101_voc",
            "after": "deeplabv3_resnet101_voc",
            "differs": (
                "images with bicycles, chairs, tables, potted plants or sofas are not shown more often",
                "the start from COCO",
            ),
            "unverified": (_DECAY,),
        },
    ),
    (
        "deeplabv3_mobilenet_v2_voc",
        {"model": "paper_deeplabv3_mobilenet_v2"},
        {**_V3_VOC, "weight_decay": 4e-5},
        VOC,
        "75.32",
        "VOC 2012 val, output stride 16, one scale",
        f"{_MNV2}; {_GOOGLE}",
        {
            "start": "ImageNet, then COCO",
            "differs": ("the start from COCO",),
            "unverified": ("schedule, crop and batch are those of v3, which the paper refers to",),
        },
    ),
    (
        "deeplabv3plus_resnet101_voc",
        {"model": "paper_deeplabv3plus_resnet101"},
        _RESNET,
        VOC,
        "78.85",
        "VOC 2012 val, output stride 16, one scale",
        _V3_PLUS,
        {"unverified": (_DECAY,)},
    ),
    (
        "deeplabv3plus_xception_65_voc",
        {"model": "paper_deeplabv3plus_xception_65"},
        {**_V3_VOC, "weight_decay": 4e-5},
        VOC,
        "79.79",
        "VOC 2012 val, output stride 16, one scale (82.20 with COCO before)",
        f"{_V3_PLUS}; {_GOOGLE}",
        {"unverified": (_DECAY,)},
    ),
    (
        "deeplabv3plus_mobilenet_v2_voc",
        {"model": "slim_deeplabv3plus_mobilenet_v2"},
        {**_V3_VOC, "weight_decay": 4e-5},
        VOC,
        "",
        "",
        _GOOGLE,
        {
            "unverified": ("nobody published a figure of research/deeplab's MobileNetV2 with a decoder on VOC",),
        },
    ),
    (
        "google_xception_65_cityscapes",
        {"model": "slim_deeplabv3plus_xception_65_cityscapes"},
        {**_V3_VOC, "steps": 90000, "crop_size": 769, "weight_decay": 4e-5},
        CITYSCAPES,
        "78.79",
        "Cityscapes val, output stride 16, one scale",
        "tensorflow/models, research/deeplab/g3doc/cityscapes.md, model_zoo.md",
        {
            "unverified": ("batch and learning rate: the file says more than 8 and tells no rate; VOC's stand here",),
        },
    ),
    (
        "google_xception_65_ade20k",
        {"model": "slim_deeplabv3plus_xception_65_ade20k", "output_stride": 16},
        {**_V3_VOC, "steps": 150000, "weight_decay": 4e-5},
        ADE20K_151,
        "45.65",
        "ADE20K val, output stride 8, several scales, flipped",
        "tensorflow/models, research/deeplab/g3doc/ade20k.md, model_zoo.md",
        {
            "differs": ("images are not brought to a side of 513 first",),
            "unverified": ("batch and learning rate: the file says more than 12 and tells no rate; VOC's stand here",),
        },
    ),
]

ROWS = [
    Recipe(name, network, options, data, figure, protocol, source, **more)
    for name, network, options, data, figure, protocol, source, more in _ROWS
]
