"""Every published DeepLab that is built here: how to build it, what its source reports of it, and where that stands.

Accuracies are mean IoU in percent as the named file or paper gives them, of weights trained there; nothing here was
trained to reach them. `keras-deeplab models` prints them beside what the code counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from keras_deeplab import models
from keras_deeplab.registry import Registry


@dataclass(frozen=True)
class Score:
    """An accuracy: mean IoU in percent, on which data, under which conditions beyond the row's (`""` for none)."""

    data: str
    mean_iou: str
    conditions: str = ""

    def __str__(self):
        conditions = f" ({self.conditions})" if self.conditions else ""
        return f"{self.mean_iou} {self.data}{conditions}"


@dataclass(frozen=True)
class Count:
    """A published number of parameters or multiply-adds, and the conditions that it belongs to.

    `quantity` is `"parameters"` or `"multiply-adds"`; `published` the figure as it is written, such as `"54.17B"`.
    `overrides` are arguments of the builder that it belongs to rather than the row's; `scales` the image scales that
    a multi-scale evaluation adds up, which `flip` doubles; `space_to_batch` as `keras_deeplab.multiply_adds` takes
    it; `remark` says why the figure differs from what the code counts, where it does.
    """

    quantity: str
    published: str
    source: str
    overrides: Mapping = field(default_factory=dict)
    input_size: tuple[int, int] = (513, 513)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    space_to_batch: bool = False
    remark: str = ""

    @property
    def value(self):
        """The figure as a number.

        >>> Count("multiply-adds", "54.17B", "model_zoo.md").value
        54170000000
        """
        return round(float(self.published[:-1]) * {"M": 1e6, "B": 1e9, "G": 1e9}[self.published[-1]])

    def sizes(self):
        """The size of every image that is evaluated; a side of k + 1 pixels has scale * k + 1 of them.

        >>> Count("multiply-adds", "2.75B", "model_zoo.md", scales=(0.5, 1.0)).sizes()
        [(257, 257), (513, 513)]
        """
        sizes = [
            tuple(round((side - side % 2) * scale) + side % 2 for side in self.input_size) for scale in self.scales
        ]
        return sizes * (2 if self.flip else 1)

    def conditions(self):
        """What the figure belongs to, in words.

        >>> Count("multiply-adds", "177B", "", {"output_stride": 8}).conditions()
        '513x513, output stride 8'
        """
        words = [] if self.quantity == "parameters" else ["x".join(map(str, self.input_size))]
        words += [f"{key.replace('_', ' ')} {value}" for key, value in self.overrides.items()]
        if self.scales != (1.0,):
            words.append(f"scales {self.scales[0]:g} to {self.scales[-1]:g}")
        return ", ".join(words + ["flip"] * self.flip)


@dataclass(frozen=True)
class PublishedModel:
    """A published network: the builder and its arguments, and what its source reports.

    `source` is the repository or paper. `counts` are published figures to compare with. Weights are another matter:
    `keras_deeplab.load` reads those of most sources.
    """

    name: str
    builder: str
    backbone: str
    output_stride: int
    settings: Mapping
    scores: tuple[Score, ...]
    counts: tuple[Count, ...]
    source: str

    def build(self, **overrides):
        """The model, fresh: `overrides` are arguments of the builder, such as `num_classes` or `output_stride`."""
        arguments = {"backbone": self.backbone, "output_stride": self.output_stride, "name": self.name}
        return getattr(models, self.builder)(**{**arguments, **self.settings, **overrides})


V1, V2, V3, V3_PLUS = "DeepLabV1", "DeepLabV2", "DeepLabV3", "DeepLabV3Plus"
VOC, TEST, CITYSCAPES, ADE20K = "VOC 2012 val", "VOC 2012 test", "Cityscapes val", "ADE20K val"
MULTI_SCALE = "output stride 8, multi-scale, flip"
# Arguments of `Count` for an evaluation at several scales, mirrored too, and for one at output stride 8.
OS8 = {"overrides": MappingProxyType({"output_stride": 8})}
MS8 = {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True, **OS8}
CITYSCAPES_MS8 = {"scales": (0.75, 1.0, 1.25), "flip": True, "input_size": (1025, 2049), **OS8}


def _parameters(figure, source, **conditions):
    return Count("parameters", figure, source, **conditions)


def _multiply_adds(figure, source, **conditions):
    return Count("multiply-adds", figure, source, **conditions)


def _tf1(figure, source, **conditions):
    return Count("multiply-adds", figure, source, space_to_batch=True, **conditions)


def _models(prefix, source, table, **settings):
    """Rows of (name, builder, backbone, output stride, settings, scores, counts) of one source."""
    for name, builder, backbone, output_stride, own, scores, counts in table:
        yield PublishedModel(
            name=f"{prefix}_{name}",
            builder=builder,
            backbone=backbone,
            output_stride=output_stride,
            settings=MappingProxyType({**settings, **own}),
            scores=tuple(Score(*score) for score in scores),
            counts=tuple(counts),
            source=source,
        )


# research/deeplab -------------------------------------------------------------------------------------------

_ZOO = "tensorflow/models, research/deeplab/g3doc/model_zoo.md"
_REST = "0.01B more, as at full width: more than convolutions was counted"
_TWICE = "unexplained: of all figures of the file only those of MobileNetV3 are twice as large as here, and more"
_SLIM = [
    # name, builder, backbone, output stride, settings, scores, counts
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
            _tf1("2.75B", _ZOO),
            _tf1("152.59B", _ZOO, **MS8),
        ],
    ),
    (
        "deeplabv3_mobilenet_v2_dm05",
        V3,
        "mobilenet_v2_dm05",
        16,
        {},
        [(VOC, "70.19"), (TEST, "71.83", "output stride 8"), (VOC, "69.65", "8 bit")],
        [_tf1("0.88B", _ZOO, remark=_REST), _tf1("2.84B", _ZOO, **OS8)],
    ),
    (
        "deeplabv3_mobilenet_v2_cityscapes",
        V3,
        "mobilenet_v2",
        16,
        {"num_classes": 19},
        [(CITYSCAPES, "70.71"), (CITYSCAPES, "73.57", MULTI_SCALE)],
        [
            _tf1("21.27B", _ZOO, input_size=(1025, 2049)),
            _tf1("433.24B", _ZOO, **CITYSCAPES_MS8),
        ],
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
            _tf1("54.17B", _ZOO),
            _tf1("3055.35B", _ZOO, **MS8),
        ],
    ),
    (
        "deeplabv3plus_xception_65_cityscapes",
        V3_PLUS,
        "xception_65",
        16,
        {"num_classes": 19},
        [(CITYSCAPES, "78.79"), (CITYSCAPES, "80.42", MULTI_SCALE)],
        [
            _tf1("418.64B", _ZOO, input_size=(1025, 2049)),
            _tf1("8677.92B", _ZOO, **CITYSCAPES_MS8),
        ],
    ),
    (
        "deeplabv3plus_xception_65_ade20k",
        V3_PLUS,
        "xception_65",
        8,
        {"num_classes": 151},
        [(ADE20K, "45.65", "multi-scale, flip")],
        [],
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
        [_tf1("15.95B", _ZOO, input_size=(1025, 2049), remark=_TWICE)],
    ),
    (
        "deeplabv3_mobilenet_v3_small_cityscapes",
        V3,
        "mobilenet_v3_small_seg",
        32,
        {"num_classes": 19},
        [(CITYSCAPES, "68.99")],
        [_tf1("4.63B", _ZOO, input_size=(1025, 2049), remark=_TWICE)],
    ),
]

# PyTorch ----------------------------------------------------------------------------------------------------

_VAINF_README = "VainF/DeepLabV3Plus-Pytorch, README.md"
_VAINF_CARD = "deployment card of VainF's models"
_THOP = "thop's count, which adds batch norm and resizes"
_TWENTY_NINTHS = "thop's count x 20/9, in all six rows; neither multiply-adds nor twice them"


def _vainf(parameters, thop, card):
    return [
        _parameters(parameters, _VAINF_CARD),
        _multiply_adds(thop, _VAINF_README, remark=_THOP),
        _multiply_adds(card, _VAINF_CARD, remark=_TWENTY_NINTHS),
    ]


_VAINF = [
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
            _multiply_adds("135G", _VAINF_README, input_size=(1024, 2048), overrides={"num_classes": 19}, remark=_THOP),
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

_TORCHVISION_FILE = "pytorch/vision, torchvision/models/segmentation/deeplabv3.py"
_COCO = "COCO val2017 with VOC's classes"
_TORCHVISION = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv3_resnet50",
        V3,
        "resnet50",
        8,
        {},
        [(_COCO, "66.4")],
        [
            _parameters("42.004074M", _TORCHVISION_FILE),
            _multiply_adds("178.722G", _TORCHVISION_FILE, input_size=(520, 520)),
        ],
    ),
    (
        "deeplabv3_resnet101",
        V3,
        "resnet101",
        8,
        {},
        [(_COCO, "67.4")],
        [
            _parameters("60.996202M", _TORCHVISION_FILE),
            _multiply_adds("258.743G", _TORCHVISION_FILE, input_size=(520, 520)),
        ],
    ),
    (
        "deeplabv3_mobilenet_v3_large",
        V3,
        "mobilenet_v3_large",
        16,
        {},
        [(_COCO, "60.3")],
        [
            _parameters("11.029328M", _TORCHVISION_FILE),
            _multiply_adds("10.452G", _TORCHVISION_FILE, input_size=(520, 520)),
        ],
    ),
]

_JFZHANG95 = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3plus_resnet101", V3_PLUS, "resnet101", 16, {"multi_grid": (1, 2, 4)}, [(VOC, "78.43")], []),
    ("deeplabv3plus_xception", V3_PLUS, "xception_jfzhang95", 16, {}, [], []),
    ("deeplabv3plus_mobilenet", V3_PLUS, "mobilenet_v2_jfzhang95", 16, {}, [(VOC, "70.81")], []),
    # Its DRN ignores the output stride of 16 that the README states.
    ("deeplabv3plus_drn_d_54", V3_PLUS, "drn_d_54", 8, {}, [(VOC, "78.87")], []),
]

_HALF_PIXEL = {"align_corners": False}
_KAZUTO1011 = [
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

_FREGU856 = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3_resnet18", V3, "resnet18", 16, {}, [], []),
    ("deeplabv3_resnet34", V3, "resnet34", 16, {}, [], []),
    ("deeplabv3_resnet50", V3, "resnet50", 16, {}, [], []),
    ("deeplabv3_resnet101", V3, "resnet101", 16, {}, [], []),
    ("deeplabv3_resnet152", V3, "resnet152", 16, {}, [], []),
]

_SMP = [
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

# Other Keras ------------------------------------------------------------------------------------------------

_BONLIME = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3plus_xception", V3_PLUS, "xception_65_bonlime", 16, {}, [], []),
    ("deeplabv3_mobilenetv2", V3, "mobilenet_v2", 8, {}, [], []),
]

# Caffe, and VGG in PyTorch ----------------------------------------------------------------------------------

_CAFFE = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv1_vgg16_large_fov", V1, "vgg16_caffe", 8, {}, [], []),
    (
        "deeplabv1_vgg16_msc_large_fov",
        V1,
        "vgg16_caffe",
        8,
        {"multi_scale_features": True},
        [],
        [],
    ),
    ("deeplabv2_vgg16_aspp", V2, "vgg16_caffe", 8, {}, [], []),
    (
        "deeplabv2_resnet101_msc",
        V2,
        "resnet101_caffe",
        8,
        {"multi_scale": True},
        [(VOC, "76.35"), (VOC, "77.69", "CRF"), ("COCO-Stuff 10k", "34.4")],
        [],
    ),
]
_COINCHEUNG = [("deeplabv1_vgg16_large_fov", V1, "vgg16_coincheung", 8, {}, [], [])]

# DRN --------------------------------------------------------------------------------------------------------

_DRN_README = "fyu/drn, README.md"
# The README counts the classifiers; one on the mean of the features has as many parameters as one on each of them.
_IMAGENET = MappingProxyType({"num_classes": 1000})


def _drn(parameters):
    return [_parameters(parameters, _DRN_README, overrides=_IMAGENET)]


# Its segmentation networks: a 1x1 convolution on the features, enlarged eightfold. The enlarging is a fixed transposed
# convolution there, which is the bilinear resize but for the border.
_DRN = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("drn_a_50", V1, "drn_a_50", 8, {}, [(CITYSCAPES, "67.3")], _drn("25.6M")),
    ("drn_c_26", V1, "drn_c_26", 8, {}, [(CITYSCAPES, "68.0")], _drn("21.1M")),
    ("drn_c_42", V1, "drn_c_42", 8, {}, [(CITYSCAPES, "70.9")], _drn("31.2M")),
    ("drn_d_22", V1, "drn_d_22", 8, {}, [(CITYSCAPES, "68.0")], _drn("16.4M")),
    ("drn_d_38", V1, "drn_d_38", 8, {}, [(CITYSCAPES, "71.4")], _drn("26.5M")),
    ("drn_d_105", V1, "drn_d_105", 8, {}, [(CITYSCAPES, "75.6")], _drn("54.8M")),
]

# The papers -------------------------------------------------------------------------------------------------

_V1_PAPER = "DeepLab v1, arXiv 1412.7062"
_PAPER_V1 = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv1_vgg16_7x7",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "7x7"},
        [(VOC, "64.38"), (VOC, "67.64", "CRF"), (TEST, "70.3", "CRF")],
        [_parameters("134.3M", _V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_4x4",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "4x4"},
        [(VOC, "59.80"), (VOC, "63.74", "CRF"), (TEST, "66.4", "CRF")],
        [_parameters("65.1M", _V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_4x4_large",
        V1,
        "vgg16_caffe",
        8,
        {"variant": "4x4_large"},
        [(VOC, "63.41"), (VOC, "67.14", "CRF")],
        [_parameters("65.1M", _V1_PAPER)],
    ),
    (
        "deeplabv1_vgg16_large_fov",
        V1,
        "vgg16_caffe",
        8,
        {},
        [(VOC, "62.25"), (VOC, "67.64", "CRF"), (TEST, "70.3", "CRF")],
        [_parameters("20.5M", _V1_PAPER)],
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

_PAPER_V2 = [
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
_V3_PAPER = "DeepLab v3, arXiv 1706.05587"
_MNV2_PAPER = "MobileNetV2, arXiv 1801.04381"
_V3_PLUS_PAPER = "DeepLab v3+, arXiv 1802.02611"
_OTHER_RATES = "101.22B with the unit rates 1, 1, 1; the other figures of the same table are those of 1, 2, 4"
_PAPER_V3 = [
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
            _parameters("58.16M", _MNV2_PAPER),
            _tf1("81.0B", _MNV2_PAPER),
            _tf1("81.02B", _V3_PLUS_PAPER),
        ],
    ),
]
_PAPER_V3_PLUS = [
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
            _tf1("101.28B", _V3_PLUS_PAPER, remark=_OTHER_RATES),
            _tf1("297.92B", _V3_PLUS_PAPER, **OS8),
            _tf1("5247.07B", _V3_PLUS_PAPER, **MS8),
        ],
    ),
    (
        "deeplabv3_xception_65",
        V3,
        "xception_65",
        16,
        {},
        [(VOC, "79.17")],
        [_tf1("68.00B", _V3_PLUS_PAPER)],
    ),
    (
        "deeplabv3plus_xception_65_plain",
        V3_PLUS,
        "xception_65",
        16,
        {"separable": False},
        [(VOC, "79.93")],
        [_tf1("89.76B", _V3_PLUS_PAPER)],
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
            _tf1("54.17B", _V3_PLUS_PAPER),
            _tf1("177.10B", _V3_PLUS_PAPER, **OS8),
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
_PAPER_MOBILENET = [
    # name, builder, backbone, output stride, settings, scores, counts
    (
        "deeplabv3_mobilenet_v2",
        V3,
        "mobilenet_v2",
        16,
        {},
        [(VOC, "75.32"), (VOC, "77.33", MULTI_SCALE)],
        [
            _parameters("2.11M", _MNV2_PAPER),
            _tf1("2.75B", _MNV2_PAPER),
            _tf1("152.6B", _MNV2_PAPER, **MS8),
        ],
    ),
    (
        "deeplabv3_mobilenet_v2_aspp",
        V3,
        "mobilenet_v2",
        16,
        {"atrous_rates": (6, 12, 18)},
        [(VOC, "75.70")],
        [_parameters("4.52M", _MNV2_PAPER), _tf1("5.8B", _MNV2_PAPER)],
    ),
]

_ROWS = [
    *_models("slim", _ZOO, _SLIM),
    *_models("bonlime", "bonlime/keras-deeplab-v3-plus, model.py", _BONLIME, flavour="bonlime"),
    *_models("vainf", _VAINF_README, _VAINF, flavour="vainf"),
    *_models("torchvision", _TORCHVISION_FILE, _TORCHVISION, flavour="torchvision", auxiliary_head=True),
    *_models("jfzhang95", "jfzhang95/pytorch-deeplab-xception, README.md", _JFZHANG95, flavour="jfzhang95"),
    *_models("kazuto1011", "kazuto1011/deeplab-pytorch, README.md", _KAZUTO1011),
    *_models("fregu856", "fregu856/deeplabv3, model/deeplabv3.py", _FREGU856, flavour="fregu856", num_classes=20),
    *_models("smp", "qubvel-org/segmentation_models.pytorch, decoders/deeplabv3/model.py", _SMP, flavour="smp"),
    *_models("caffe", "DeepLab v1 and v2, Caffe release", _CAFFE),
    *_models("coincheung", "CoinCheung/Deeplab-Large-FOV, lib/model.py", _COINCHEUNG),
    *_models("fyu", _DRN_README, _DRN, variant=None, align_corners=False, num_classes=19),
    *_models("paper", _V1_PAPER, _PAPER_V1),
    *_models("paper", "DeepLab v2, arXiv 1606.00915", _PAPER_V2),
    *_models("paper", _V3_PAPER, _PAPER_V3),
    *_models("paper", _V3_PLUS_PAPER, _PAPER_V3_PLUS),
    *_models("paper", _MNV2_PAPER, _PAPER_MOBILENET),
]

MODELS = Registry("published model", {row.name: row for row in _ROWS})
