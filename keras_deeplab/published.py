"""Every published DeepLab that is built here, one row each: its record, what its source reports, and its weights.

Accuracies are mean IoU in percent as the named file or paper gives them, of weights trained there; nothing here was
trained to reach them. `keras-deeplab models` prints them beside what the code counts. The classifiers that training
starts from have a table of their own, because several models start from one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from keras_deeplab.networks import V1, V2, V3, V3_PLUS, network
from keras_deeplab.registry import Registry
from keras_deeplab.specs import Classes, ModelSpec, class_names


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
class Weights:
    """A file of published weights.

    Attributes:
        name: what `weights=` or `backbone_weights=` takes for it, such as `"pascal_voc"`; by it and by the network a
            file is found.
        address: where it is.
        size: what the source publishes, in megabytes or, for torchvision's, in mebibytes.
        checksum: the published digest or as much of it as is published, `"sha256:..."` or `"md5:..."`, or None.
        result: its accuracy.
        licence: what its source says of its use.
        classes: what its labels mean.
        family: the builder of the network that it fills, such as `"DeepLabV3"`; `"backbone"` for a classifier without
            a DeepLab's head.
        backbones: registry keys of the networks that it fills, the published one first.
    """

    name: str
    address: str
    size: float
    checksum: str | None
    result: str
    licence: str
    classes: Classes = field(default_factory=Classes)
    family: str = "backbone"
    backbones: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class PublishedModel:
    """A published network: its record, what its source reports, and the weights that it published.

    `source` is the repository or paper. `counts` are published figures to compare with. `weights` are the files that
    have a name here; `keras_deeplab.load` reads those of most sources, wherever they come from.
    `keras_deeplab.build(model.name)` makes it, fresh.
    """

    name: str
    spec: ModelSpec
    scores: tuple[Score, ...]
    counts: tuple[Count, ...]
    source: str
    weights: tuple[Weights, ...] = ()

    @property
    def imagenet(self) -> Weights | None:
        """The ImageNet weights of its backbone, to start training from; None where none are published."""
        return next((row for row in CLASSIFIERS if row.name == IMAGENET and self.spec.backbone in row.backbones), None)


# name, builder, backbone, output stride, settings, scores, counts, and weights where there are any
Row = tuple[Any, ...]

VOC, TEST, CITYSCAPES, ADE20K = "VOC 2012 val", "VOC 2012 test", "Cityscapes val", "ADE20K val"
MULTI_SCALE = "output stride 8, multi-scale, flip"
# Arguments of `Count` for an evaluation at several scales, mirrored too, and for one at output stride 8.
OS8 = {"overrides": MappingProxyType({"output_stride": 8})}
MS8 = {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True, **OS8}
CITYSCAPES_MS8 = {"scales": (0.75, 1.0, 1.25), "flip": True, "input_size": (1025, 2049), **OS8}
# Names of weights, and what their labels mean. torchvision's are COCO's images with the classes of VOC.
IMAGENET = "imagenet"
_CLASSES = {
    "pascal_voc": class_names.VOC,
    "pascal_voc_train_aug": class_names.VOC,
    "cityscapes": class_names.CITYSCAPES,
    "ade20k": class_names.ADE20K,
    "coco": class_names.VOC,
}
_UNKNOWN = "not published"


def _parameters(figure, source, **conditions):
    return Count("parameters", figure, source, **conditions)


def _multiply_adds(figure, source, **conditions):
    return Count("multiply-adds", figure, source, **conditions)


def _tf1(figure, source, **conditions):
    return Count("multiply-adds", figure, source, space_to_batch=True, **conditions)


def _google(name, file, size, result, backbone=None):
    """A file of research/deeplab/g3doc/model_zoo.md, which publishes no checksums; of a classifier with a `backbone`.

    Its result is at output stride 16 and one scale, unless told.
    """
    address = f"http://download.tensorflow.org/models/{file}.tar.gz"
    classes = Classes() if backbone else _CLASSES[name]
    return Weights(name, address, size, None, result, "Apache 2.0", classes, backbones=(backbone,) if backbone else ())


def _pytorch(name, file, size, result, *backbones):
    """A file of torchvision, whose name ends with the first digits of its SHA-256; of a classifier with `backbones`."""
    address, checksum = f"https://download.pytorch.org/models/{file}.pth", f"sha256:{file.rpartition('-')[2]}"
    classes = Classes() if backbones else _CLASSES[name]
    return Weights(name, address, size, checksum, result, "BSD 3-Clause, training data's", classes, backbones=backbones)


def _keras_vgg(file, size, checksum, result, backbone):
    """A file of keras/src/applications/vgg16.py and vgg19.py; Oxford's Caffe weights."""
    address = f"https://storage.googleapis.com/tensorflow/keras-applications/{file}"
    return Weights(IMAGENET, address, size, f"md5:{checksum}", result, "CC BY 4.0", backbones=(backbone,))


def _models(prefix, source, table, **settings):
    """Rows of (name, builder, backbone, output stride, settings, scores, counts, weights or none) of one source."""
    for name, builder, backbone, output_stride, own, scores, counts, *weights in table:
        arguments = {"num_classes": 21, "output_stride": output_stride, **settings, **own}
        yield PublishedModel(
            name=f"{prefix}_{name}",
            spec=network(builder, backbone, **arguments),
            scores=tuple(Score(*score) for score in scores),
            counts=tuple(counts),
            source=source,
            weights=tuple(replace(row, family=builder, backbones=(backbone,)) for row in weights),
        )


# research/deeplab -------------------------------------------------------------------------------------------

_ZOO = "tensorflow/models, research/deeplab/g3doc/model_zoo.md"
# Left out: the weights of xception71_dpc_cityscapes_* (a dense prediction cell, which isn't built here), of
# edgetpu-deeplab* (a backbone that isn't), and the 8 bit models, which are TFLite files.
_SCALES = "output stride 8, several scales, flipped"
_REST = "0.01B more, as at full width: more than convolutions was counted"
_TWICE = "unexplained: of all figures of the file only those of MobileNetV3 are twice as large as here, and more"
_SLIM = [
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
            _tf1("2.75B", _ZOO),
            _tf1("152.59B", _ZOO, **MS8),
        ],
        _google("pascal_voc", "deeplabv3_mnv2_pascal_trainval_2018_01_29", 23, f"80.25 % test mIoU, {_SCALES}"),
        _google("pascal_voc_train_aug", "deeplabv3_mnv2_pascal_train_aug_2018_01_29", 23, "75.32 % val mIoU"),
    ),
    (
        "deeplabv3_mobilenet_v2_dm05",
        V3,
        "mobilenet_v2_dm05",
        16,
        {},
        [(VOC, "70.19"), (TEST, "71.83", "output stride 8"), (VOC, "69.65", "8 bit")],
        [_tf1("0.88B", _ZOO, remark=_REST), _tf1("2.84B", _ZOO, **OS8)],
        _google(
            "pascal_voc",
            "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01",
            7.6,
            "71.83 % test mIoU, output stride 8",
        ),
        _google("pascal_voc_train_aug", "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01", 7.6, "70.19 % val mIoU"),
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
        _google("cityscapes", "deeplabv3_mnv2_cityscapes_train_2018_02_05", 23, "70.71 % val mIoU"),
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
        _google(
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
            _tf1("54.17B", _ZOO),
            _tf1("3055.35B", _ZOO, **MS8),
        ],
        _google("pascal_voc", "deeplabv3_pascal_trainval_2018_01_04", 439, f"87.80 % test mIoU, {_SCALES}"),
        _google("pascal_voc_train_aug", "deeplabv3_pascal_train_aug_2018_01_04", 439, "82.20 % val mIoU"),
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
        _google("cityscapes", "deeplabv3_cityscapes_train_2018_02_06", 439, "78.79 % val mIoU"),
    ),
    (
        "deeplabv3plus_xception_65_ade20k",
        V3_PLUS,
        "xception_65",
        8,
        {"num_classes": 151},
        [(ADE20K, "45.65", "multi-scale, flip")],
        [],
        _google(
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
        [_tf1("15.95B", _ZOO, input_size=(1025, 2049), remark=_TWICE)],
        _google(
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
        [_tf1("4.63B", _ZOO, input_size=(1025, 2049), remark=_TWICE)],
        _google(
            "cityscapes",
            "deeplab_mnv3_small_cityscapes_trainfine_2019_11_15",
            5,
            "68.99 % val mIoU, output stride 32",
        ),
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
_TORCHVISION: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts, weights
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
        _pytorch("coco", "deeplabv3_resnet50_coco-cd0a2569", 160.515, "66.4 % mIoU"),
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
        _pytorch("coco", "deeplabv3_resnet101_coco-586e9e4e", 233.217, "67.4 % mIoU"),
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
        _pytorch("coco", "deeplabv3_mobilenet_v3_large-fc3c493d", 42.301, "60.3 % mIoU"),
    ),
]

_JFZHANG95: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3plus_resnet101", V3_PLUS, "resnet101", 16, {"multi_grid": (1, 2, 4)}, [(VOC, "78.43")], []),
    ("deeplabv3plus_xception", V3_PLUS, "xception_jfzhang95", 16, {}, [], []),
    ("deeplabv3plus_mobilenet", V3_PLUS, "mobilenet_v2_jfzhang95", 16, {}, [(VOC, "70.81")], []),
    # Its DRN ignores the output stride of 16 that the README states.
    ("deeplabv3plus_drn_d_54", V3_PLUS, "drn_d_54", 8, {}, [(VOC, "78.87")], []),
]

_HALF_PIXEL = {"align_corners": False}
_KAZUTO1011: list[Row] = [
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

_FREGU856: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3_resnet18", V3, "resnet18", 16, {}, [], []),
    ("deeplabv3_resnet34", V3, "resnet34", 16, {}, [], []),
    ("deeplabv3_resnet50", V3, "resnet50", 16, {}, [], []),
    ("deeplabv3_resnet101", V3, "resnet101", 16, {}, [], []),
    ("deeplabv3_resnet152", V3, "resnet152", 16, {}, [], []),
]

_SMP: list[Row] = [
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

_BONLIME: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3plus_xception", V3_PLUS, "xception_65_bonlime", 16, {}, [], []),
    ("deeplabv3_mobilenetv2", V3, "mobilenet_v2", 8, {}, [], []),
]

# Caffe, and VGG in PyTorch ----------------------------------------------------------------------------------

_CAFFE: list[Row] = [
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
_COINCHEUNG: list[Row] = [("deeplabv1_vgg16_large_fov", V1, "vgg16_coincheung", 8, {}, [], [])]

# DRN --------------------------------------------------------------------------------------------------------

_DRN_README = "fyu/drn, README.md"
# The README counts the classifiers; one on the mean of the features has as many parameters as one on each of them.
_IMAGENET = MappingProxyType({"num_classes": 1000})


def _drn(parameters):
    return [_parameters(parameters, _DRN_README, overrides=_IMAGENET)]


# Its segmentation networks: a 1x1 convolution on the features, enlarged eightfold. The enlarging is a fixed transposed
# convolution there, which is the bilinear resize but for the border.
_DRN: list[Row] = [
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

_PAPER_V2: list[Row] = [
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

MODELS: Registry[PublishedModel] = Registry("published model", {row.name: row for row in _ROWS})

# Classifiers ------------------------------------------------------------------------------------------------

_MOBILENET_V2 = ("mobilenet_v2_torchvision", "mobilenet_v2_vainf", "mobilenet_v2_jfzhang95")
CLASSIFIERS = (
    # name, file, MB, result, backbone
    _google(IMAGENET, "xception_41_2018_05_09", 288, _UNKNOWN, "xception_41"),
    _google(IMAGENET, "deeplabv3_xception_2018_01_04", 447, _UNKNOWN, "xception_65"),
    _google("coco", "xception_65_coco_pretrained_2018_10_02", 292, _UNKNOWN, "xception_65"),
    _google(IMAGENET, "xception_71_2018_05_09", 474, _UNKNOWN, "xception_71"),
    _google(IMAGENET, "resnet_v1_50_2018_05_04", 274, _UNKNOWN, "resnet_v1_50_beta"),
    _google(IMAGENET, "resnet_v1_101_2018_05_04", 477, _UNKNOWN, "resnet_v1_101_beta"),
    # name, file, MiB, result, backbones; the first weights of each (IMAGENET1K_V1), from which torchvision's own
    # DeepLabs start.
    _pytorch(IMAGENET, "resnet18-f37072fd", 44.661, "69.76 % top 1", "resnet18"),
    _pytorch(IMAGENET, "resnet34-b627a593", 83.275, "73.31 % top 1", "resnet34"),
    _pytorch(IMAGENET, "resnet50-0676ba61", 97.781, "76.13 % top 1", "resnet50"),
    _pytorch(IMAGENET, "resnet101-63fe2227", 170.511, "77.37 % top 1", "resnet101"),
    _pytorch(IMAGENET, "resnet152-394f9c45", 230.434, "78.31 % top 1", "resnet152"),
    _pytorch(IMAGENET, "vgg11-8a719046", 506.84, "69.02 % top 1", "vgg11"),
    _pytorch(IMAGENET, "vgg13-19584684", 507.545, "69.93 % top 1", "vgg13"),
    _pytorch(IMAGENET, "vgg16-397923af", 527.796, "71.59 % top 1", "vgg16", "vgg16_coincheung"),
    _pytorch(IMAGENET, "vgg19-dcbb9e9d", 548.051, "72.38 % top 1", "vgg19"),
    _pytorch(IMAGENET, "vgg11_bn-6002323d", 506.881, "70.37 % top 1", "vgg11_bn"),
    _pytorch(IMAGENET, "vgg13_bn-abd245e5", 507.59, "71.59 % top 1", "vgg13_bn"),
    _pytorch(IMAGENET, "vgg16_bn-6c64b313", 527.866, "73.36 % top 1", "vgg16_bn"),
    _pytorch(IMAGENET, "vgg19_bn-c79401a0", 548.143, "74.22 % top 1", "vgg19_bn"),
    _pytorch(IMAGENET, "mobilenet_v2-b0353104", 13.555, "71.88 % top 1", *_MOBILENET_V2),
    _pytorch(IMAGENET, "mobilenet_v3_large-8738ca79", 21.114, "74.04 % top 1", "mobilenet_v3_large"),
    _pytorch(IMAGENET, "mobilenet_v3_small-047dcff4", 9.829, "67.67 % top 1", "mobilenet_v3_small"),
    # file, MB, MD5, result, backbone
    _keras_vgg(
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        58.9,
        "6d6bbae143d832006294945121d1f1fc",
        "71.27 % top 1",
        "vgg16_caffe",
    ),
    _keras_vgg(
        "vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        80.1,
        "253f8cb515780f3b799900260a226db6",
        "71.26 % top 1",
        "vgg19_caffe",
    ),
)
