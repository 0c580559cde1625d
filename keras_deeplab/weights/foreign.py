"""What a checkpoint is that can't be loaded: one row a kind of network, told by the names of its arrays."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """A kind of checkpoint that isn't read.

    Attributes:
        what: what it is.
        why: why it can't be loaded, and what would be.
        marks: regular expressions; each is found in some name of such a checkpoint.
        without: regular expression that is found in none of them.
    """

    what: str
    why: str
    marks: tuple[str, ...]
    without: str = r"(?!)"


_NO_DEEPLAB = "no DeepLab, and no other network is built here. What would load are DeepLab weights"
_BACKBONE = "it has no segmentation head. A builder takes it as backbone_weights=, if its backbone is one of BACKBONES"

# The first that fits counts, so what tells most stands first.
ROWS = (
    Foreign(
        "an optimizer's state (moments, param_groups) without a network",
        "nothing in it is a network's weight. Save those: torch.save(model.state_dict(), path)",
        (r"(^|[./])(exp_avg|exp_avg_sq|momentum_buffer|max_exp_avg_sq|param_groups)([./]|$)",),
        without=r"\.(running_mean|weight)$|/(kernel|weights)$",
    ),
    Foreign(
        "adapters (LoRA) of a network",
        "they hold changes to weights that are in another file. Merge them into that network and save it whole",
        (r"(^|\.)lora_[AB](\.|$)",),
    ),
    Foreign(
        "torchvision's lite R-ASPP (lraspp_mobilenet_v3_large)",
        "its low-level branch and gate are another head than DeepLab's. Its deeplabv3_mobilenet_v3_large loads",
        (r"(^|\.)classifier\.cbr\.0\.weight$", r"(^|\.)classifier\.low_classifier\.weight$"),
    ),
    Foreign(
        "torchvision's FCN (fcn_resnet50, fcn_resnet101)",
        "a fully convolutional network without atrous pyramid, no DeepLab. torchvision's deeplabv3_resnet50 and "
        "deeplabv3_resnet101 load",
        (
            r"(^|\.)backbone\.layer1\.0\.conv1\.weight$",
            r"(^|\.)classifier\.0\.weight$",
            r"(^|\.)classifier\.4\.weight$",
        ),
        without=r"classifier\.0\.convs|layer0\.",
    ),
    Foreign(
        "a DeepLab on a ResNet with squeeze and excitation (SE-ResNet)",
        "these gates are in none of the ResNets of this source that are built here; plain ResNets load, and "
        "segmentation_models.pytorch's se_resnet encoders where its names are kept",
        (r"layer1\.0\.se(_module)?\.(fc|conv)", r"(aspp|convs\.0\.0|classifier\.0)"),
    ),
    Foreign(
        "SegFormer (transformers)",
        f"a transformer with a head of linear layers: {_NO_DEEPLAB}",
        (r"(^|\.)segformer\.encoder\.",),
    ),
    Foreign(
        "SegFormer (mmsegmentation)",
        f"a transformer with a head of linear layers: {_NO_DEEPLAB}",
        (r"(^|\.)backbone\.layers\.0\.\d\.\d+\.attn\.", r"(^|\.)decode_head\."),
    ),
    Foreign(
        "Segment Anything (SAM)",
        f"it is asked by points and boxes: {_NO_DEEPLAB}",
        (r"(^|\.)(image_encoder|vision_encoder)\.", r"(^|\.)(prompt_encoder|mask_decoder)\."),
    ),
    Foreign(
        "MaskFormer, Mask2Former or OneFormer",
        f"it answers queries of a transformer: {_NO_DEEPLAB}",
        (r"(class_embed|mask_embed|class_predictor|query_feat|queries_embedder|queries_features)",),
    ),
    Foreign(
        "Ultralytics's YOLO",
        f"its names are places in a list of blocks (model.0.conv, model.2.cv1): {_NO_DEEPLAB}",
        (r"(^|\.)\d+\.conv\.weight$", r"(^|\.)\d+\.cv[12]\.conv\.weight$"),
    ),
    Foreign(
        "a U-Net",
        f"it joins maps of all strides on the way back: {_NO_DEEPLAB}",
        (
            r"((^|\.)(inc\.(double_)?conv|outc\.conv|down[1-4]\.|up[1-4]\.|upconv[1-4]|encoder1\.|dec(oder)?[1-4]\.)"
            r"|(^|\.)decoder\.blocks\.0\.conv1\.0\.)",
        ),
        without=r"aspp|convs\.0\.0|layer4",
    ),
    Foreign(
        "segmentation_models.pytorch with a decoder of another network (Unet, FPN, PSPNet, Linknet, PAN, MAnet, ...)",
        f"only the decoders of its DeepLabV3 and DeepLabV3Plus are built here. {_NO_DEEPLAB}",
        (r"(^|\.)segmentation_head\.0\.", r"(^|\.)decoder\."),
        without=r"decoder\.(aspp|0\.convs)",
    ),
    Foreign(
        "mmsegmentation with a head of another network (UPerNet, PSPNet, FCN, OCRNet, ...)",
        f"of its heads ASPPHead and DepthwiseSeparableASPPHead are DeepLab's. {_NO_DEEPLAB}",
        (r"(^|\.)decode_head\.(\d+\.)?conv_seg\.",),
        without=r"decode_head\.(aspp_modules|image_pool)",
    ),
    Foreign(
        "PSPNet",
        f"it pools at four sizes: {_NO_DEEPLAB}",
        (r"(^|\.)(ppm|psp|pyramid_pooling)\.(features|stages|\d)",),
    ),
    Foreign(
        "a language model",
        "it has attention over words, and nothing of images",
        (r"(self_attn\.q_proj|attn\.c_attn|attention\.self\.query)", r"(embed_tokens|wte|word_embeddings)"),
    ),
    Foreign(
        "a vision transformer",
        f"it cuts images into patches: {_NO_DEEPLAB}",
        (r"(patch_embed|patch_embeddings)", r"(attn|attention)"),
    ),
    Foreign(
        "a detector (boxes of TensorFlow's Object Detection, torchvision or detectron2)",
        f"its heads predict boxes: {_NO_DEEPLAB}",
        (r"(BoxPredictor|roi_heads|RoiHeads|box_predictor|bbox_embed|rpn\.head|proposal_generator)",),
    ),
    Foreign(
        "a classifier of ImageNet's kind",
        _BACKBONE,
        (
            r"(^|[./])(fc|head|head\.fc|classifier(\.\d)?|predictions|Logits/Conv2d_1c_1x1)[./](weights?|kernel)$",
            r"(conv1|conv_stem|features\.0(\.0)?|Conv1?|stem\.\d)[./](weights?|kernel|conv\.weight)$",
        ),
        without=r"aspp|convs\.0\.0|decoder|segmentation_head|classifier\.0\.weight$.*classifier\.4|decode_head|logits",
    ),
)


def seems(names: Iterable[str], unknown: Iterable[str] | None = None) -> Foreign | None:
    """Which of `ROWS` a checkpoint with arrays of these names is; None where nothing tells.

    Args:
        names: of all arrays.
        unknown: of those that a network which was found doesn't have: one of them must be what tells. None for all.

    >>> seems(["backbone.layer1.0.conv1.weight", "classifier.0.weight", "classifier.4.weight"]).what
    "torchvision's FCN (fcn_resnet50, fcn_resnet101)"
    """
    names = [str(name) for name in names]
    telling = names if unknown is None else [str(name) for name in unknown]
    for row in ROWS:
        found = all(any(re.search(mark, name) for name in names) for mark in row.marks)
        found = found and any(re.search(mark, name) for mark in row.marks for name in telling)
        if found and not any(re.search(row.without, name) for name in names):
            return row
    return None


def told(names: Iterable[str], unknown: Iterable[str] | None = None) -> str:
    """A sentence on what such a checkpoint seems to be, `""` where nothing tells; see `seems`."""
    row = seems(names, unknown)
    return "" if row is None else f"It seems to be {row.what}: {row.why}."
