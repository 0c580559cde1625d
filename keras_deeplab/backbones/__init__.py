"""The backbones: classifiers at their natural stride, as their papers declare them.

None of them knows of output strides; `keras_deeplab.atrous` makes them dense.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_deeplab.atrous import taps
from keras_deeplab.backbones.mobilenet_v2 import mobilenet_v2
from keras_deeplab.backbones.preprocessing import applications_mode
from keras_deeplab.registry import Registry


@dataclass(frozen=True)
class Backbone:
    """A registry row: how to build a classifier and what a DeepLab must know of it.

    `build(input_shape)` returns a functional model from normalised images to its deepest feature map; `low_level` is
    the layer that the v3+ decoder taps; `preprocessing` a mode of `preprocessing.normalise`; `aspp_in_v3` tells
    whether DeepLab v3 on it has atrous branches.
    """

    build: Callable
    low_level: str
    preprocessing: str | None
    aspp_in_v3: bool = True


BACKBONES = Registry(
    "backbone",
    {
        # The official v3 models on MobileNetV2 have no atrous branches: 75.32 against 75.70 mIoU with, at half the
        # cost (MobileNetV2, table 7). The decoder's tap is slim's layer_4/depthwise_output.
        "mobilenet_v2": Backbone(mobilenet_v2, "block_2_depthwise_relu6", "tf", aspp_in_v3=False),
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
    if own is not None:
        return backbone, own
    strides = taps(backbone)
    low_level = strides.get(4, strides[max((s for s in strides if s <= 4), default=min(strides))])
    return backbone, Backbone(lambda input_shape: backbone, low_level, applications_mode(backbone.name))
