"""Other Keras, Caffe, VGG in PyTorch, and DRN."""

from types import MappingProxyType

from keras_deeplab.networks import V1, V2, V3, V3_PLUS
from keras_deeplab.published.figures import CITYSCAPES, VOC, parameter_count
from keras_deeplab.published.row import Row

# Other Keras ------------------------------------------------------------------------------------------------

BONLIME: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("deeplabv3plus_xception", V3_PLUS, "xception_65_bonlime", 16, {}, [], []),
    ("deeplabv3_mobilenetv2", V3, "mobilenet_v2", 8, {}, [], []),
]

# Caffe, and VGG in PyTorch ----------------------------------------------------------------------------------

CAFFE: list[Row] = [
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
COINCHEUNG: list[Row] = [("deeplabv1_vgg16_large_fov", V1, "vgg16_coincheung", 8, {}, [], [])]

# DRN --------------------------------------------------------------------------------------------------------

DRN_README = "fyu/drn, README.md"
# The README counts the classifiers; one on the mean of the features has as many parameters as one on each of them.
_IMAGENET = MappingProxyType({"num_classes": 1000})


def _drn(parameters):
    return [parameter_count(parameters, DRN_README, overrides=_IMAGENET)]


# Its segmentation networks: a 1x1 convolution on the features, enlarged eightfold. The enlarging is a fixed transposed
# convolution there, which is the bilinear resize but for the border.
DRN: list[Row] = [
    # name, builder, backbone, output stride, settings, scores, counts
    ("drn_a_50", V1, "drn_a_50", 8, {}, [(CITYSCAPES, "67.3")], _drn("25.6M")),
    ("drn_c_26", V1, "drn_c_26", 8, {}, [(CITYSCAPES, "68.0")], _drn("21.1M")),
    ("drn_c_42", V1, "drn_c_42", 8, {}, [(CITYSCAPES, "70.9")], _drn("31.2M")),
    ("drn_d_22", V1, "drn_d_22", 8, {}, [(CITYSCAPES, "68.0")], _drn("16.4M")),
    ("drn_d_38", V1, "drn_d_38", 8, {}, [(CITYSCAPES, "71.4")], _drn("26.5M")),
    ("drn_d_105", V1, "drn_d_105", 8, {}, [(CITYSCAPES, "75.6")], _drn("54.8M")),
]
