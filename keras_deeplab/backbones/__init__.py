"""The backbones: classifiers at their natural stride, as their papers declare them.

None of them knows of output strides; `keras_deeplab.atrous` makes them dense.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import keras

from keras_deeplab.backbones import (
    convnext,
    efficientnet,
    mobileone,
    regnet,
    res2net,
    resnest,
    resnet,
    resnet_timm,
    resnext,
    se_resnet,
    se_resnet_timm,
)
from keras_deeplab.backbones.drn import (
    drn_a_50,
    drn_c_26,
    drn_c_42,
    drn_c_58,
    drn_d_22,
    drn_d_24,
    drn_d_38,
    drn_d_40,
    drn_d_54,
    drn_d_56,
    drn_d_105,
    drn_d_107,
)
from keras_deeplab.backbones.hrnet import hrnetv2_32, hrnetv2_48
from keras_deeplab.backbones.mmsegmentation import (
    mobilenet_v2_mmsegmentation,
    resnet18_mmsegmentation,
    resnet34_mmsegmentation,
    undilated_blocks,
    undilated_units,
)
from keras_deeplab.backbones.mobilenet_edgetpu import mobilenet_edgetpu
from keras_deeplab.backbones.mobilenet_v2 import (
    JFZHANG95_CONTRACTED,
    mobilenet_v2,
    mobilenet_v2_jfzhang95,
    mobilenet_v2_torchvision,
    mobilenet_v2_vainf,
)
from keras_deeplab.backbones.mobilenet_v2_transformers import mobilenet_v2_transformers
from keras_deeplab.backbones.mobilenet_v3 import (
    mobilenet_v3_large,
    mobilenet_v3_large_seg,
    mobilenet_v3_large_timm,
    mobilenet_v3_large_timm_symmetric,
    mobilenet_v3_small,
    mobilenet_v3_small_seg,
    mobilenet_v3_small_timm,
    mobilenet_v3_small_timm_symmetric,
)
from keras_deeplab.backbones.mobilevit import SIZES as MOBILEVIT
from keras_deeplab.backbones.mobilevit import mobilevit
from keras_deeplab.backbones.mobilevit_v2 import mobilevit_v2
from keras_deeplab.backbones.preprocessing import applications_mode
from keras_deeplab.backbones.resnet import (
    resnet18,
    resnet34,
    resnet50,
    resnet50_caffe,
    resnet101,
    resnet101_caffe,
    resnet152,
    resnet152_caffe,
)
from keras_deeplab.backbones.resnet_deep_stem import (
    POOLS,
    resnet18_v1c,
    resnet34_v1c,
    resnet50_deeplab,
    resnet50_msra,
    resnet50_v1c,
    resnet50_v1d,
    resnet101_deeplab,
    resnet101_msra,
    resnet101_v1c,
    resnet101_v1d,
    resnet152_deeplab,
    resnet152_msra,
    resnet152_v1c,
    resnet152_v1d,
)
from keras_deeplab.backbones.resnet_keras_hub import resnet_keras_hub
from keras_deeplab.backbones.resnet_v1_beta import resnet_v1_50_beta, resnet_v1_101_beta
from keras_deeplab.backbones.vgg import (
    vgg11,
    vgg11_bn,
    vgg11_caffe,
    vgg13,
    vgg13_bn,
    vgg13_caffe,
    vgg16,
    vgg16_bn,
    vgg16_caffe,
    vgg16_coincheung,
    vgg19,
    vgg19_bn,
    vgg19_caffe,
)
from keras_deeplab.backbones.xception import xception_41, xception_65, xception_65_bonlime, xception_71
from keras_deeplab.backbones.xception_jfzhang95 import xception_jfzhang95
from keras_deeplab.backbones.xception_vainf import xception_vainf
from keras_deeplab.blocks import ImageShape
from keras_deeplab.registry import Registry
from keras_deeplab.rewrite import taps


@dataclass(frozen=True)
class Backbone:
    """A registry row: how to build a classifier and what a DeepLab must know of it.

    `build(input_shape)` returns a functional model from normalised images to its deepest feature map; `low_level` is
    the layer that the v3+ decoder taps, `auxiliary` the one of torchvision's auxiliary head; `preprocessing` a mode of
    `preprocessing.normalise`; `v3_head` the head that DeepLab v3 has on it, `"aspp"`, `"image_pooling"` (a pyramid
    without atrous branches) or `"lite_raspp"`; `multi_grid`, `strided_rate`, `contracted`, `dropped`, `centred` and
    `ahead` what
    it was published with, as `keras_deeplab.atrous` takes them (a `strided_rate` of None leaves it to the flavour), and
    `cascade_strided_rate` the second of them for the cascade, where it has the option `cascade_blocks`: the one that
    gives the blocks the rates of v3's figure 3. `output_strides` lists the strides that
    `build(input_shape, output_stride=...)` makes itself, where the published dense network is not the rewrite of its
    classifier; None for all others.
    """

    build: Callable[..., keras.Model]
    low_level: str
    preprocessing: str | None
    v3_head: str = "aspp"
    multi_grid: tuple[int, ...] | None = None
    strided_rate: str | None = None
    contracted: tuple[str, ...] | Mapping[str, int] = ()
    dropped: tuple[str, ...] = ()
    output_strides: tuple[int, ...] | None = None
    auxiliary: str | None = None
    cascade_strided_rate: str | None = None
    centred: bool = False
    ahead: tuple[str, ...] = ()


_MOBILEVIT: dict[str, Any] = {
    "low_level": "layer2_2_add",
    "preprocessing": "bgr",
    "output_strides": (8, 16, 32),
}
_XCEPTION_65 = Backbone(xception_65, "entry_flow_block2_separable_conv2_pointwise_BN", "tf", strided_rate="old")

BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    {
        # The official v3 models on MobileNetV2 have no atrous branches: 75.32 against 75.70 mIoU with, at half the
        # cost (MobileNetV2, table 7). The decoder's tap is slim's layer_4/depthwise_output.
        "mobilenet_v2": Backbone(mobilenet_v2, "block_2_depthwise_relu6", "tf", v3_head="image_pooling"),
        # The official width 0.5 ("dm05") rounds filters to single ones, keras.applications to multiples of 8.
        "mobilenet_v2_dm05": Backbone(
            partial(mobilenet_v2, alpha=0.5, divisible_by=1), "block_2_depthwise_relu6", "tf", v3_head="image_pooling"
        ),
        # segmentation_models.pytorch dilates a whole stage, the convolution that lost its stride included.
        "mobilenet_v2_torchvision": Backbone(mobilenet_v2_torchvision, "block_2_add", "torch", strided_rate="new"),
        "mobilenet_v2_vainf": Backbone(mobilenet_v2_vainf, "block_2_add", "torch"),
        "mobilenet_v2_jfzhang95": Backbone(
            mobilenet_v2_jfzhang95, "block_2_add", "torch", strided_rate="new", contracted=JFZHANG95_CONTRACTED
        ),
        "mobilenet_v2_transformers": Backbone(
            mobilenet_v2_transformers, "block_2_add", "tf", v3_head="image_pooling", output_strides=(4, 8, 16, 32)
        ),
        # The auxiliary head of torchvision's segmentation models sits on C2, the first block of stride 8.
        "mobilenet_v3_large": Backbone(
            mobilenet_v3_large, "features_3_add", "torch", strided_rate="new", auxiliary="features_4_block_3_0_BN"
        ),
        "mobilenet_v3_small": Backbone(
            mobilenet_v3_small,
            "features_1_block_2_0_BN",
            "torch",
            strided_rate="new",
            auxiliary="features_2_block_2_0_BN",
        ),
        # segmentation_models.pytorch's encoders timm-mobilenetv3_* and tu-*mobilenetv3_*, which timm itself dilates.
        "mobilenet_v3_large_timm": Backbone(mobilenet_v3_large_timm, "blocks_1_1_add", "torch", strided_rate="old"),
        "mobilenet_v3_small_timm": Backbone(
            mobilenet_v3_small_timm, "blocks_0_0_conv_pw_BN", "torch", strided_rate="old"
        ),
        "mobilenet_v3_large_timm_symmetric": Backbone(
            mobilenet_v3_large_timm_symmetric, "blocks_1_1_add", "torch", strided_rate="old"
        ),
        "mobilenet_v3_small_timm_symmetric": Backbone(
            mobilenet_v3_small_timm_symmetric, "blocks_0_0_conv_pw_BN", "torch", strided_rate="old"
        ),
        # The official EdgeTPU-DeepLabs have neither atrous branches nor a decoder.
        "mobilenet_edgetpu": Backbone(mobilenet_edgetpu, "expanded_conv_4_add", "tf", v3_head="image_pooling"),
        "mobilenet_v3_large_seg": Backbone(
            mobilenet_v3_large_seg, "expanded_conv_2_depthwise_relu", "tf", v3_head="lite_raspp"
        ),
        "mobilenet_v3_small_seg": Backbone(
            mobilenet_v3_small_seg, "expanded_conv_depthwise_relu", "tf", v3_head="lite_raspp"
        ),
        **{
            f"mobilevit_{size}": Backbone(
                partial(
                    mobilevit,
                    hidden_sizes=hidden,
                    neck_hidden_sizes=neck,
                    expand_ratio=expand_ratio,
                    name=f"mobilevit_{size}",
                ),
                **_MOBILEVIT,
            )
            for size, (hidden, neck, expand_ratio) in MOBILEVIT.items()
        },
        "mobilevit_v2": Backbone(mobilevit_v2, **{**_MOBILEVIT, "low_level": "layer2_1_add"}),
        # DRN's own stride is 8; its finer map is jfzhang95's choice, the last at stride 4.
        "drn_a_50": Backbone(drn_a_50, "layer1_2_relu", "torch"),
        "drn_c_26": Backbone(drn_c_26, "layer3_1_relu", "torch"),
        "drn_c_42": Backbone(drn_c_42, "layer3_2_relu", "torch"),
        "drn_c_58": Backbone(drn_c_58, "layer3_2_relu", "torch"),
        "drn_d_22": Backbone(drn_d_22, "layer3_1_relu", "torch"),
        "drn_d_24": Backbone(drn_d_24, "layer3_1_relu", "torch"),
        "drn_d_38": Backbone(drn_d_38, "layer3_2_relu", "torch"),
        "drn_d_40": Backbone(drn_d_40, "layer3_2_relu", "torch"),
        "drn_d_54": Backbone(drn_d_54, "layer3_2_relu", "torch"),
        "drn_d_56": Backbone(drn_d_56, "layer3_2_relu", "torch"),
        "drn_d_105": Backbone(drn_d_105, "layer3_2_relu", "torch"),
        "drn_d_107": Backbone(drn_d_107, "layer3_2_relu", "torch"),
        "resnet18": Backbone(resnet18, "layer1_1_relu", "torch", auxiliary="layer3_1_relu", cascade_strided_rate="new"),
        "resnet34": Backbone(resnet34, "layer1_2_relu", "torch", auxiliary="layer3_5_relu", cascade_strided_rate="new"),
        "resnet50": Backbone(resnet50, "layer1_2_relu", "torch", auxiliary="layer3_5_relu", cascade_strided_rate="new"),
        "resnet101": Backbone(
            resnet101, "layer1_2_relu", "torch", auxiliary="layer3_22_relu", cascade_strided_rate="new"
        ),
        "resnet152": Backbone(
            resnet152, "layer1_2_relu", "torch", auxiliary="layer3_35_relu", cascade_strided_rate="new"
        ),
        "resnet_keras_hub": Backbone(resnet_keras_hub, "stack0_block2_out", "torch", strided_rate="old"),
        **{
            key: Backbone(build, "layer1_2_relu", "torch", auxiliary=f"layer3_{resnet.TABLE[layers][2] - 1}_relu")
            for (key, build), (layers, _, _) in zip(resnext.BUILDERS.items(), resnext.VARIANTS, strict=True)
        },
        **{key: Backbone(build, "layer1_2_relu", "torch") for key, build in se_resnet.BUILDERS.items()},
        **{
            key: Backbone(build, f"layer1_{resnet.TABLE[se_resnet_timm.TABLE[key][0]][0] - 1}_relu", "torch")
            for key, build in se_resnet_timm.BUILDERS.items()
        },
        # timm's dense networks have means that don't widen with the rate around them.
        **{
            key: Backbone(
                build,
                f"layer1_{form.units[0] - 1}_relu",
                "torch",
                auxiliary=f"layer3_{form.units[2] - 1}_relu",
                output_strides=resnet_timm.OUTPUT_STRIDES,
            )
            for key, (form, build) in {
                **{key: (resnet_timm.TABLE[key], build) for key, build in resnet_timm.BUILDERS.items()},
                **{key: (resnest.TABLE[key], build) for key, build in resnest.BUILDERS.items()},
                **{key: (res2net.TABLE[key][0], build) for key, build in res2net.BUILDERS.items()},
            }.items()
        },
        **{
            key: Backbone(build, f"s1_b{regnet.TABLE[key][0][0]}_relu", "torch")
            for key, build in regnet.BUILDERS.items()
        },
        # What lost its stride is padded alike on all sides, in lukemelas' form as well.
        **{
            key: Backbone(
                build, efficientnet.low_level(variant), "torch", centred=True, ahead=efficientnet.AHEAD.get(key, ())
            )
            for key, (variant, build) in efficientnet.BUILDERS.items()
        },
        # segmentation_models.pytorch dilates a whole stage.
        **{
            key: Backbone(build, "stage1_3_relu", "torch", strided_rate="new")
            for key, build in mobileone.BUILDERS.items()
        },
        # timm pads the 2x2 convolution of a stage that lost its stride.
        **{
            key: Backbone(build, convnext.low_level(variant), "torch", strided_rate="old", centred=True)
            for key, (variant, build) in convnext.BUILDERS.items()
        },
        # kazuto1011's v3 and v3+ have the multi-grid, its v2 hasn't.
        "resnet50_caffe": Backbone(
            resnet50_caffe, "layer1_2_relu", "caffe_deeplab", multi_grid=(1, 2, 4), cascade_strided_rate="old"
        ),
        "resnet101_caffe": Backbone(
            resnet101_caffe, "layer1_2_relu", "caffe_deeplab", multi_grid=(1, 2, 4), cascade_strided_rate="old"
        ),
        "resnet152_caffe": Backbone(
            resnet152_caffe, "layer1_2_relu", "caffe_deeplab", multi_grid=(1, 2, 4), cascade_strided_rate="old"
        ),
        # MMSegmentation dilates the first convolution of a unit of two, and the first block of a stage.
        "mobilenet_v2_mmsegmentation": Backbone(
            mobilenet_v2_mmsegmentation,
            "block_2_add",
            "torch",
            strided_rate="new",
            contracted=undilated_blocks(),
            auxiliary="block_12_add",
        ),
        "resnet18_mmsegmentation": Backbone(
            resnet18_mmsegmentation, "layer1_1_relu", "torch", auxiliary="layer3_1_relu", contracted=undilated_units(18)
        ),
        "resnet34_mmsegmentation": Backbone(
            resnet34_mmsegmentation, "layer1_2_relu", "torch", auxiliary="layer3_5_relu", contracted=undilated_units(34)
        ),
        "resnet18_v1c": Backbone(
            resnet18_v1c, "layer1_1_relu", "torch", auxiliary="layer3_1_relu", contracted=undilated_units(18)
        ),
        "resnet34_v1c": Backbone(
            resnet34_v1c, "layer1_2_relu", "torch", auxiliary="layer3_5_relu", contracted=undilated_units(34)
        ),
        "resnet50_v1c": Backbone(resnet50_v1c, "layer1_2_relu", "torch", auxiliary="layer3_5_relu"),
        "resnet101_v1c": Backbone(resnet101_v1c, "layer1_2_relu", "torch", auxiliary="layer3_22_relu"),
        "resnet152_v1c": Backbone(resnet152_v1c, "layer1_2_relu", "torch", auxiliary="layer3_35_relu"),
        "resnet50_v1d": Backbone(resnet50_v1d, "layer1_2_relu", "torch", auxiliary="layer3_5_relu", dropped=POOLS),
        "resnet101_v1d": Backbone(resnet101_v1d, "layer1_2_relu", "torch", auxiliary="layer3_22_relu", dropped=POOLS),
        "resnet152_v1d": Backbone(resnet152_v1d, "layer1_2_relu", "torch", auxiliary="layer3_35_relu", dropped=POOLS),
        "resnet50_msra": Backbone(resnet50_msra, "layer1_2_relu", "detectron2", auxiliary="layer3_5_relu"),
        "resnet50_deeplab": Backbone(resnet50_deeplab, "layer1_2_relu", "torch_bgr", auxiliary="layer3_5_relu"),
        "resnet101_msra": Backbone(resnet101_msra, "layer1_2_relu", "detectron2", auxiliary="layer3_22_relu"),
        "resnet101_deeplab": Backbone(resnet101_deeplab, "layer1_2_relu", "torch_bgr", auxiliary="layer3_22_relu"),
        "resnet152_msra": Backbone(resnet152_msra, "layer1_2_relu", "detectron2", auxiliary="layer3_35_relu"),
        "resnet152_deeplab": Backbone(resnet152_deeplab, "layer1_2_relu", "torch_bgr", auxiliary="layer3_35_relu"),
        # The taps of Xception and ResNet v1 beta are linear: batch norm's output before ReLU or addition
        # (networks_to_feature_maps in research/deeplab/core/feature_extractor.py).
        "resnet_v1_50_beta": Backbone(
            resnet_v1_50_beta, "block1_unit_2_conv3_BN", "tf", multi_grid=(1, 2, 4), cascade_strided_rate="old"
        ),
        "resnet_v1_101_beta": Backbone(
            resnet_v1_101_beta, "block1_unit_2_conv3_BN", "tf", multi_grid=(1, 2, 4), cascade_strided_rate="old"
        ),
        # The last map at stride 4. DeepLab's pool5 looks at neighbours, not at every second position.
        "vgg11": Backbone(vgg11, "conv3_2_relu", "torch"),
        "vgg13": Backbone(vgg13, "conv3_2_relu", "torch"),
        "vgg16": Backbone(vgg16, "conv3_3_relu", "torch"),
        "vgg19": Backbone(vgg19, "conv3_4_relu", "torch"),
        "vgg11_bn": Backbone(vgg11_bn, "conv3_2_relu", "torch"),
        "vgg13_bn": Backbone(vgg13_bn, "conv3_2_relu", "torch"),
        "vgg16_bn": Backbone(vgg16_bn, "conv3_3_relu", "torch"),
        "vgg19_bn": Backbone(vgg19_bn, "conv3_4_relu", "torch"),
        "vgg11_caffe": Backbone(vgg11_caffe, "conv3_2_relu", "caffe_deeplab", contracted=("pool5",)),
        "vgg13_caffe": Backbone(vgg13_caffe, "conv3_2_relu", "caffe_deeplab", contracted=("pool5",)),
        "vgg16_caffe": Backbone(vgg16_caffe, "conv3_3_relu", "caffe_deeplab", contracted=("pool5",)),
        "vgg19_caffe": Backbone(vgg19_caffe, "conv3_4_relu", "caffe_deeplab", contracted=("pool5",)),
        "vgg16_coincheung": Backbone(vgg16_coincheung, "conv3_3_relu", "torch", contracted=("pool5",)),
        "xception": _XCEPTION_65,
        "xception_41": Backbone(
            xception_41, "entry_flow_block2_separable_conv2_pointwise_BN", "tf", strided_rate="old"
        ),
        "xception_65": _XCEPTION_65,
        "xception_71": Backbone(
            xception_71, "entry_flow_block3_separable_conv2_pointwise_BN", "tf", strided_rate="old"
        ),
        # research/deeplab with --use_bounded_activation; its head is the flavour "tf_bounded".
        "xception_65_bounded": Backbone(
            partial(xception_65, bounded=True), "entry_flow_block2_separable_conv2_pointwise_clip", "tf"
        ),
        "xception_65_bonlime": Backbone(xception_65_bonlime, _XCEPTION_65.low_level, "tf"),
        "xception_jfzhang95": Backbone(
            xception_jfzhang95, "block1_relu", "torch", strided_rate="old", contracted=("block20_rep_7_conv1",)
        ),
        # Dense networks that are no rewrites: one shrinks its map, the other has branches at four strides.
        "xception_vainf": Backbone(xception_vainf, "block1_add", "torch", output_strides=(8, 16)),
        "hrnetv2_32": Backbone(hrnetv2_32, "layer1_3_relu", "torch", output_strides=(4,)),
        "hrnetv2_48": Backbone(hrnetv2_48, "layer1_3_relu", "torch", output_strides=(4,)),
    },
)


def registered(backbone: str | keras.Model) -> Backbone | None:
    """The `Backbone` row of a registry key or of a classifier that a row built; None for any other classifier."""
    if isinstance(backbone, str):
        return BACKBONES[backbone]
    row = BACKBONES.get(getattr(backbone, "name", ""))
    # keras.applications has networks of the same names ("xception") and other layers.
    layers = {operation.name for operation in getattr(backbone, "operations", [])}
    return row if row is not None and row.low_level in layers else None


def resolve(
    backbone: str | keras.Model, input_shape: ImageShape, output_stride: int | None = None, **options: Any
) -> tuple[keras.Model, Backbone]:
    """A registry key or a functional classifier, to (classifier, its `Backbone` row).

    Args:
        output_stride: for the networks that make their strides themselves.
        options: for the builder of a backbone given by name; None stands for an option that wasn't given.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(backbone, str):
        row = BACKBONES[backbone]
        unknown = [name for name in options if name not in signature(row.build).parameters]
        if unknown:
            raise ValueError(f"The backbone {backbone!r} takes no {', '.join(unknown)}; received {options}.")
        if row.output_strides is not None:
            if output_stride not in row.output_strides:
                raise ValueError(
                    f"The backbone {backbone!r} has output stride {' or '.join(map(str, row.output_strides))}; "
                    f"received output_stride={output_stride!r}."
                )
            options["output_stride"] = output_stride
        return row.build(input_shape, **options), row
    if not isinstance(backbone, keras.Model):
        raise ValueError(
            f"backbone must be one of {', '.join(sorted(BACKBONES))} or a functional keras.Model; received "
            f"{backbone!r}."
        )
    if options:
        raise ValueError(
            f"{', '.join(options)} goes with a backbone given by name. Build the classifier {backbone.name!r} with it."
        )
    own = registered(backbone)
    if own is not None:
        return backbone, own
    strides = taps(backbone)
    low_level = strides.get(4, strides[max((s for s in strides if s <= 4), default=min(strides))])
    return backbone, Backbone(lambda input_shape: backbone, low_level, applications_mode(backbone.name))
