"""The backbones: classifiers at their natural stride, as their papers declare them.

None of them knows of output strides; `keras_deeplab.atrous` makes them dense.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import keras

from keras_deeplab.atrous import taps
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2
from keras_deeplab.backbones.preprocessing import applications_mode
from keras_deeplab.backbones.resnet_v1_beta import resnet_v1_50_beta, resnet_v1_101_beta
from keras_deeplab.backbones.xception import xception_41, xception_65, xception_71
from keras_deeplab.registry import Registry


@dataclass(frozen=True)
class Backbone:
    """A registry row: how to build a classifier and what a DeepLab must know of it.

    `build(input_shape)` returns a functional model from normalised images to its deepest feature map; `low_level` is
    the layer that the v3+ decoder taps; `preprocessing` a mode of `preprocessing.normalise`; `aspp_in_v3` tells
    whether DeepLab v3 on it has atrous branches; `multi_grid` the unit rates that it was published with.
    """

    build: Callable
    low_level: str
    preprocessing: str | None
    aspp_in_v3: bool = True
    multi_grid: tuple[int, ...] | None = None


_XCEPTION_65 = Backbone(xception_65, "entry_flow_block2_separable_conv2_pointwise_BN", "tf")

BACKBONES = Registry(
    "backbone",
    {
        # The official v3 models on MobileNetV2 have no atrous branches: 75.32 against 75.70 mIoU with, at half the
        # cost (MobileNetV2, table 7). The decoder's tap is slim's layer_4/depthwise_output.
        "mobilenet_v2": Backbone(mobilenet_v2, "block_2_depthwise_relu6", "tf", aspp_in_v3=False),
        # The official width 0.5 ("dm05") rounds filters to single ones, keras.applications to multiples of 8.
        "mobilenet_v2_dm05": Backbone(
            partial(mobilenet_v2, alpha=0.5, divisible_by=1), "block_2_depthwise_relu6", "tf", aspp_in_v3=False
        ),
        # The taps of Xception and ResNet v1 beta are linear: batch norm's output before ReLU or addition
        # (networks_to_feature_maps in research/deeplab/core/feature_extractor.py).
        "resnet_v1_50_beta": Backbone(resnet_v1_50_beta, "block1_unit_2_conv3_BN", "tf", multi_grid=(1, 2, 4)),
        "resnet_v1_101_beta": Backbone(resnet_v1_101_beta, "block1_unit_2_conv3_BN", "tf", multi_grid=(1, 2, 4)),
        "xception": _XCEPTION_65,
        "xception_41": Backbone(xception_41, "entry_flow_block2_separable_conv2_pointwise_BN", "tf"),
        "xception_65": _XCEPTION_65,
        "xception_71": Backbone(xception_71, "entry_flow_block3_separable_conv2_pointwise_BN", "tf"),
    },
)


def resolve(backbone, input_shape):
    """A registry key or a functional classifier, to (classifier, its `Backbone` row)."""
    if isinstance(backbone, str):
        row = BACKBONES[backbone]
        return row.build(input_shape), row
    if not isinstance(backbone, keras.Model):
        raise ValueError(
            f"backbone must be one of {', '.join(sorted(BACKBONES))} or a functional keras.Model; received "
            f"{backbone!r}."
        )
    own = BACKBONES.get(backbone.name)
    # keras.applications has networks of the same names ("xception") and other layers.
    if own is not None and own.low_level in {operation.name for operation in backbone.operations}:
        return backbone, own
    strides = taps(backbone)
    low_level = strides.get(4, strides[max((s for s in strides if s <= 4), default=min(strides))])
    return backbone, Backbone(lambda input_shape: backbone, low_level, applications_mode(backbone.name))
