"""Checkpoints of segmentation_models.pytorch: DeepLabV3 and DeepLabV3Plus (decoders/deeplabv3/).

Of its many encoders those whose networks are built here: torchvision's ResNets and MobileNetV2, and timm's MobileNetV3
and Xception 41, 65 and 71. The head for whole images that `aux_params` adds is left out.
"""

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan, torch_head
from keras_deeplab.weights.torchvision import ASPP, MOBILENET_V2, RESNET, resnet_name, width_of

TITLE = "segmentation_models.pytorch"

# Encoders: their convolution, their batch norm, our layer -----------------------------------------------------------


def _timm_mobilenet_v3(last):
    """timm's names with "_" for "."; `last` is the number of the last convolution's stage."""
    return [
        ("conv_stem", "bn1", "conv_stem"),
        # The first block doesn't expand, so its batch norms count from the depthwise convolution's.
        ("blocks.0.0.conv_dw", "blocks.0.0.bn1", "blocks_0_0_conv_dw"),
        ("blocks.0.0.conv_pw", "blocks.0.0.bn2", "blocks_0_0_conv_pw"),
        (f"blocks.{last}.0.conv", f"blocks.{last}.0.bn1", f"blocks_{last}_0_conv"),
        ("blocks.{stage}.{unit}.conv_pw", "blocks.{stage}.{unit}.bn1", "blocks_{stage}_{unit}_conv_pw"),
        ("blocks.{stage}.{unit}.conv_dw", "blocks.{stage}.{unit}.bn2", "blocks_{stage}_{unit}_conv_dw"),
        ("blocks.{stage}.{unit}.conv_pwl", "blocks.{stage}.{unit}.bn3", "blocks_{stage}_{unit}_conv_pwl"),
        ("blocks.{stage}.{unit}.se.conv_{part:reduce|expand}", None, "blocks_{stage}_{unit}_se_conv_{part}"),
    ]


def _timm_xception(entry, middle):
    """timm counts all blocks from 0; entry, middle and exit flow are counted by themselves here."""
    flows = [
        (f"{{block:0-{entry - 1}}}", "entry_flow_block{block+1}"),
        (f"{{block:{entry}-{entry + middle - 1}}}", f"middle_flow_unit_{{block-{entry - 1}}}"),
        (f"{{block:{entry + middle}-{entry + middle + 1}}}", f"exit_flow_block{{block-{entry + middle - 1}}}"),
    ]
    names = [("stem_{n}.conv", "stem_{n}.bn", "entry_flow_conv1_{n+1}")]
    for number, ours in flows:
        block = f"blocks_{number}"
        convolution = f"{block}.stack.conv{{n}}"
        names += [
            (f"{block}.shortcut.conv", f"{block}.shortcut.bn", f"{ours}_shortcut"),
            (f"{convolution}.conv_dw", f"{convolution}.bn_dw", f"{ours}_separable_conv{{n}}_depthwise"),
            (f"{convolution}.conv_pw", f"{convolution}.bn_pw", f"{ours}_separable_conv{{n}}_pointwise"),
        ]
    return names


# Heads ------------------------------------------------------------------------------------------------------------

_V3 = [
    ("decoder.conv", "decoder.bn", "head_conv"),
    ("segmentation_head.0", None, "logits"),
]
# Before version 0.4 the decoder was one sequence: pyramid, convolution, batch norm.
_V3_SEQUENCE = [
    ("decoder.1", "decoder.2", "head_conv"),
    ("segmentation_head.0", None, "logits"),
]
_ASPP_SEPARABLE = [
    ("convs.0.0", "convs.0.1", "aspp0"),
    ("convs.{branch:1-3}.0.0", None, "aspp{branch}_depthwise"),
    ("convs.{branch:1-3}.0.1", "convs.{branch:1-3}.1", "aspp{branch}_pointwise"),
    ("convs.4.1", "convs.4.2", "image_pooling"),
    ("project.0", "project.1", "concat_projection"),
]
_V3_PLUS = [
    ("decoder.aspp.1.0", None, "aspp_conv_depthwise"),
    ("decoder.aspp.1.1", "decoder.aspp.2", "aspp_conv_pointwise"),
    ("decoder.block1.0", "decoder.block1.1", "feature_projection0"),
    ("decoder.block2.0.0", None, "decoder_conv0_depthwise"),
    ("decoder.block2.0.1", "decoder.block2.1", "decoder_conv0_pointwise"),
    ("segmentation_head.0", None, "logits"),
]
# an array that only this one has -> the pyramid's table and scope, the rest, builder, output stride
_HEADS = {
    "decoder.aspp.0.convs.0.0.weight": (_ASPP_SEPARABLE, "decoder.aspp.0.", _V3_PLUS, V3_PLUS, 16),
    "decoder.aspp.convs.0.0.weight": (ASPP, "decoder.aspp.", _V3, V3, 8),
    "decoder.0.convs.0.0.weight": (ASPP, "decoder.0.", _V3_SEQUENCE, V3, 8),
}


def recognise(shapes, label, configs):
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't segmentation_models.pytorch's.

    Raises:
        ValueError: it is, on an encoder that isn't built here.
    """
    found = [array for array in _HEADS if array in shapes]
    if not found or "segmentation_head.0.weight" not in shapes:
        return None
    aspp, scope, head, builder, output_stride = _HEADS[found[0]]
    table, encoder = _encoder(shapes, label)
    table = table + rows(aspp, scope) + rows(head)
    classes, settings, blocks = torch_head(renamed(shapes, table, TORCH))
    settings = {"flavour": "smp", **settings, **encoder}
    spec = network(builder, num_classes=classes, output_stride=output_stride, **settings)
    return Plan("smp", spec, table, TORCH, blocks=blocks, optional=r"classification_head\..*")


def export_rows(paths, layers):
    """The rows, dialect and constants that name a model's variables, given their paths; as of version 0.4."""
    scope = "encoder.model."
    if "Conv_1/kernel" in paths:
        table, scope = MOBILENET_V2, "encoder.features."
    elif "conv_stem/kernel" in paths:
        table = _timm_mobilenet_v3(6 if "blocks_6_0_conv/kernel" in paths else 5)
    elif "entry_flow_conv1_1/kernel" in paths:
        entry, middle = (
            sum(f"{flow}{n}_separable_conv1_depthwise/kernel" in paths for n in range(1, 20))
            for flow in ("entry_flow_block", "middle_flow_unit_")
        )
        table = _timm_xception(entry, middle)
    else:
        table, scope = RESNET, "encoder."
    plus = "feature_projection0/kernel" in paths
    aspp, pyramid, head, _, _ = _HEADS[f"decoder.aspp.{'0.' if plus else ''}convs.0.0.weight"]
    return rows(table, scope) + rows(aspp, pyramid) + rows(head), TORCH, {}


def _encoder(shapes, label):
    """The encoder's table of names, and what the record says of it."""
    if "encoder.layer1.0.conv1.weight" in shapes:
        table = rows(RESNET, "encoder.")
        return table, {"backbone": resnet_name(renamed(shapes, table, TORCH), label)}
    if "encoder.features.18.0.weight" in shapes:
        table = rows(MOBILENET_V2, "encoder.features.")
        width = width_of(renamed(shapes, table, TORCH), "block_16_project", 320)
        return table, {"backbone": "mobilenet_v2_torchvision", "backbone_settings": width}
    for size, last, filters in [("large", 6, 160), ("small", 5, 96)]:
        if f"encoder.model.blocks.{last}.0.conv.weight" in shapes:
            table = rows(_timm_mobilenet_v3(last), "encoder.model.")
            width = width_of(renamed(shapes, table, TORCH), f"blocks_{last - 1}_0_conv_pwl", filters)
            return table, {"backbone": f"mobilenet_v3_{size}_timm", "backbone_settings": width}
    for name, last, entry in [("xception_41", 12, 3), ("xception_65", 20, 3), ("xception_71", 22, 5)]:
        depthwise = "encoder.model.blocks_{}.stack.conv3.conv_dw.weight"
        if depthwise.format(last) in shapes and depthwise.format(last + 1) not in shapes:
            # The decoder sees the map behind its ReLU, as timm's features are.
            tap = BACKBONES[name].low_level.replace("separable_conv2_pointwise_BN", "separable_conv3_relu")
            settings = {"low_level": tap} if "decoder.block1.0.weight" in shapes else {}
            table = rows(_timm_xception(entry, last - entry - 1), "encoder.model.")
            return table, {"backbone": name, **settings}
    raise ValueError(
        f"{label} holds a DeepLab of {TITLE} on an encoder that isn't built here. Those that are: resnet18, 34, 50, "
        "101 and 152, mobilenet_v2, timm-mobilenetv3_large and _small, tu-xception41, 65 and 71."
    )
