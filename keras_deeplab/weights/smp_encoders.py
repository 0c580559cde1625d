"""The encoders of segmentation_models.pytorch that are built here: names and shapes of arrays to a backbone.

Several of them have the same arrays and compute different things: timm's MobileNetV3 is padded as TensorFlow does under
a name that begins with `tf_`, and alike on all sides otherwise. The encoder's name tells, where it is known.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_deeplab.backbones import (
    BACKBONES,
    convnext,
    efficientnet,
    mobileone,
    regnet,
    res2net,
    resnest,
    resnet,
    resnet_timm,
    se_resnet,
)
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.torchvision import MOBILENET_V2, RESNET, RESNET_UNITS, resnet_name, width_of

# Names of timm's models may end in the tag of their weights.
_TAG = r"(\.\w+)?"


@dataclass(frozen=True)
class Encoder:
    """An encoder by its arrays.

    Attributes:
        table: rows of names.
        networks: the backbones that the arrays fit, with the pattern of the names that each has there.
        backbone_settings, settings: for the record.
        unused: matches arrays that it keeps and doesn't compute with.
        flat: as in `Plan`.
    """

    table: list
    networks: dict[str, str]
    backbone_settings: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    unused: str = ""
    flat: str = ""


# Encoders: their convolution, their batch norm, our layer -----------------------------------------------------------


# timm's EfficientNet and MobileNetV3, with "_" for ".".
_TIMM_INVERTED = [
    ("conv_stem", "bn1", "conv_stem"),
    # The first stage doesn't expand, so its batch norms count from the depthwise convolution's.
    ("blocks.0.{unit}.conv_dw", "blocks.0.{unit}.bn1", "blocks_0_{unit}_conv_dw"),
    ("blocks.0.{unit}.conv_pw", "blocks.0.{unit}.bn2", "blocks_0_{unit}_conv_pw"),
    ("blocks.{stage}.{unit}.conv_pw", "blocks.{stage}.{unit}.bn1", "blocks_{stage}_{unit}_conv_pw"),
    ("blocks.{stage}.{unit}.conv_dw", "blocks.{stage}.{unit}.bn2", "blocks_{stage}_{unit}_conv_dw"),
    ("blocks.{stage}.{unit}.conv_pwl", "blocks.{stage}.{unit}.bn3", "blocks_{stage}_{unit}_conv_pwl"),
    ("blocks.{stage}.{unit}.se.conv_{part:reduce|expand}", None, "blocks_{stage}_{unit}_se_conv_{part}"),
]


def _timm_mobilenet_v3(last):
    """`last` is the number of the last convolution's stage."""
    return [(f"blocks.{last}.0.conv", f"blocks.{last}.0.bn1", f"blocks_{last}_0_conv"), *_TIMM_INVERTED]


def _lukemelas(variant):
    """lukemelas' names, whose blocks are counted from the first to the last."""
    names, block = [("_conv_stem", "_bn0", "conv_stem")], 0
    for stage in range(len(efficientnet.STAGES)):
        for unit in range(efficientnet.repeats(variant, stage)):
            theirs, ours = f"_blocks.{block}", f"blocks_{stage}_{unit}"
            names += [
                (f"{theirs}._expand_conv", f"{theirs}._bn0", f"{ours}_conv_pw"),
                (f"{theirs}._depthwise_conv", f"{theirs}._bn1", f"{ours}_conv_dw"),
                (f"{theirs}._project_conv", f"{theirs}._bn2", f"{ours}_conv_{'pwl' if stage else 'pw'}"),
                (f"{theirs}._se_reduce", None, f"{ours}_se_conv_reduce"),
                (f"{theirs}._se_expand", None, f"{ours}_se_conv_expand"),
            ]
            block += 1
    return [row for row in names if not (row[2].startswith("blocks_0_") and "_expand_conv" in row[0])]


# timm's, with squeeze and excitation or without.
_TIMM_RESNET = [*RESNET, ("layer{stage}.{unit}.se.fc{n}", None, "layer{stage}_{unit}_se_fc{n}")]
# Its other forms: (whether the stem is deep, whether shortcuts are pooled).
_DEEP_STEM = [
    ("conv1.0", "conv1.1", "conv1_1"),
    ("conv1.3", "conv1.4", "conv1_2"),
    ("conv1.6", "bn1", "conv1_3"),
]
_UNIT = "layer{stage}.{unit}"
_OURS = "layer{stage}_{unit}"


def _timm_resnet_form(deep, pooled):
    """Rows of a network of `resnet_timm`, `resnest` or `res2net`."""
    first = 1 if pooled else 0
    return [
        *(_DEEP_STEM if deep else RESNET[:1]),
        (f"{_UNIT}.conv{{n}}", f"{_UNIT}.bn{{n}}", f"{_OURS}_conv{{n}}"),
        (f"{_UNIT}.downsample.{first}", f"{_UNIT}.downsample.{first + 1}", f"{_OURS}_downsample"),
        (f"{_UNIT}.se.fc{{n}}", None, f"{_OURS}_se_fc{{n}}"),
        (f"{_UNIT}.conv2.conv", f"{_UNIT}.conv2.bn0", f"{_OURS}_conv2_conv"),
        (f"{_UNIT}.conv2.fc1", f"{_UNIT}.conv2.bn1", f"{_OURS}_conv2_fc1"),
        (f"{_UNIT}.conv2.fc2", None, f"{_OURS}_conv2_fc2"),
        (f"{_UNIT}.convs.{{part}}", f"{_UNIT}.bns.{{part}}", f"{_OURS}_convs_{{part}}"),
    ]


_SE_RESNET = [
    ("layer0.conv{n}", "layer0.bn{n}", "layer0_conv{n}"),
    *RESNET_UNITS,
    ("layer{stage}.{unit}.se_module.fc{n}", None, "layer{stage}_{unit}_se_module_fc{n}"),
]
_MOBILEONE = [
    row
    for theirs, ours in [("stage{stage}.{block}", "stage{stage}_{block}"), ("stage0", "stage0")]
    for row in [
        (f"{theirs}.rbr_conv.{{n}}.conv", f"{theirs}.rbr_conv.{{n}}.bn", f"{ours}_rbr_conv_{{n}}"),
        (f"{theirs}.rbr_scale.conv", f"{theirs}.rbr_scale.bn", f"{ours}_rbr_scale"),
        (f"{theirs}.rbr_skip", None, f"{ours}_rbr_skip_BN"),
        (f"{theirs}.reparam_conv", None, f"{ours}_reparam_conv"),
        (f"{theirs}.se.{{part:reduce|expand}}", None, f"{ours}_se_{{part}}"),
    ]
]
_CONVNEXT = [
    ("stem_0", None, "stem_0"),
    ("stem_1", None, "stem_1_LN"),
    ("stages_{stage}.downsample.0", None, "stages_{stage}_downsample_0_LN"),
    ("stages_{stage}.downsample.1", None, "stages_{stage}_downsample_1"),
    ("stages_{stage}.blocks.{unit}.conv_dw", None, "stages_{stage}_blocks_{unit}_conv_dw"),
    ("stages_{stage}.blocks.{unit}.norm", None, "stages_{stage}_blocks_{unit}_norm_LN"),
    ("stages_{stage}.blocks.{unit}.mlp.fc{n}", None, "stages_{stage}_blocks_{unit}_mlp_fc{n}"),
    ("stages_{stage}.blocks.{unit}", None, "stages_{stage}_blocks_{unit}_scale"),
]

# Its batch norms stand in a block with their convolution.
_REGNET = [
    ("stem.conv", "stem.bn", "stem"),
    (
        "s{stage}.b{unit}.{part:conv[123]|downsample}.conv",
        "s{stage}.b{unit}.{part:conv[123]|downsample}.bn",
        "s{stage}_b{unit}_{part}",
    ),
    ("s{stage}.b{unit}.se.fc{n}", None, "s{stage}_b{unit}_se_fc{n}"),
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


# Recognising --------------------------------------------------------------------------------------------------------


def _resnet(shapes, label):
    for scope in ("encoder.", "encoder.model."):
        if f"{scope}conv1.weight" in shapes and f"{scope}layer1.0.conv1.weight" in shapes:
            table = rows(RESNET if scope == "encoder." else _TIMM_RESNET, scope)
            paths = renamed(shapes, table, TORCH)
            name = resnet_name(paths, label)
            if scope == "encoder.":
                return Encoder(table, {name: name})
            gates, units = (sum(path.endswith(end) for path in paths) for end in ("_se_fc1/kernel", "_conv1/kernel"))
            if gates:
                whole = gates == units and f"se{name}" in BACKBONES
                return Encoder(table, {f"se{name}": f"tu-se{name}"}, settings={"flavour": "smp_tu"}) if whole else None
            return Encoder(table, {name: rf"tu-((tv_)?{name}|gluon_{name}_v1b)"}, settings={"flavour": "smp_tu"})
    return None


def _resnet_form(shapes, label):
    """timm's ResNets of other stems, shortcuts, widths and depths, its ResNeSt and Res2Net."""
    scope = "encoder.model."
    units = _units(shapes, r"encoder\.model\.layer(\d)\.(\d+)\.conv1\.weight")
    if len(units) != 4:
        return None
    first = f"{scope}layer1.0."
    deep = f"{scope}conv1.0.weight" in shapes
    # A pooling stands before the convolution; without one that comes first, and a batch norm second.
    pooled = len(shapes.get(f"{scope}layer2.0.downsample.1.weight", ())) == 4
    stem = tuple(shapes.get(f"{scope}conv1.{place}.weight", (0,))[0] for place in (0, 3, 6)) if deep else None
    rows_of = rows(_timm_resnet_form(deep, pooled), scope)
    parts = len([name for name in shapes if name.startswith(f"{first}convs.") and name.endswith(".weight")])
    if parts:
        width, group = shapes[f"{first}convs.0.weight"][:2]
        own = {name: form for name, (form, scale) in res2net.TABLE.items() if scale == parts + 1}
    else:
        split = f"{first}conv2.conv.weight"
        own = resnest.TABLE if split in shapes else resnet_timm.TABLE
        width, group = shapes.get(split if split in shapes else f"{first}conv2.weight", (0, 0))[:2]
        if split in shapes:
            width = width // resnest.RADIX
            group *= resnest.RADIX
    bottlenecks, gated = f"{first}conv3.weight" in shapes, f"{first}se.fc1.weight" in shapes
    for name, form in own.items():
        found = resnet_timm.Form(units, bottlenecks, stem, pooled, group, width // max(group, 1), gated)
        if form == found:
            return Encoder(rows_of, {name: _names_of_form(name)}, settings={"flavour": "smp_tu"})
    return None


def _names_of_form(name):
    """The encoders' names that stand for a network: MXNet's had their own in timm."""
    letter = re.fullmatch(r"(resnet\d+)([cds])", name)
    gluon = rf"|gluon_{letter[1]}_v1{letter[2]}" if letter else ""
    return rf"(tu|timm)-({name}{gluon})" if name.startswith("res") and not letter else rf"tu-({name}{gluon})"


def _mobilenet_v2(shapes, label):
    if "encoder.features.18.0.weight" not in shapes:
        return None
    table = rows(MOBILENET_V2, "encoder.features.")
    width = width_of(renamed(shapes, table, TORCH), "block_16_project", 320)
    return Encoder(table, {"mobilenet_v2_torchvision": "mobilenet_v2"}, width)


def _mobilenet_v3(shapes, label):
    for size, last, filters in [("large", 6, 160), ("small", 5, 96)]:
        if f"encoder.model.blocks.{last}.0.conv.weight" not in shapes:
            continue
        table = rows(_timm_mobilenet_v3(last), "encoder.model.")
        settings = width_of(renamed(shapes, table, TORCH), f"blocks_{last - 1}_0_conv_pwl", filters)
        minimal = not any(".se." in name for name in shapes)
        if minimal:
            settings["minimal"] = True
        width = f"(minimal_)?{round(100 * settings.get('alpha', 1)):03d}"
        networks = {
            f"mobilenet_v3_{size}_timm": f"(timm-|tu-tf_)mobilenetv3_{size}_{width}",
            f"mobilenet_v3_{size}_timm_symmetric": f"tu-mobilenetv3_{size}_{width}",
        }
        if minimal:
            del networks[f"mobilenet_v3_{size}_timm_symmetric"]  # timm has none
        return Encoder(table, networks, settings)
    return None


def _se_resnet(shapes, label):
    if "encoder.layer0.conv1.weight" not in shapes:
        return None
    table = rows(_SE_RESNET, "encoder.")
    units = _units(shapes, r"encoder\.layer(\d)\.(\d+)\.conv1\.weight")
    groups = _groups(shapes["encoder.layer1.0.conv2.weight"])
    for name, (layers, own_groups, *_) in se_resnet.TABLE.items():
        if (resnet.TABLE[layers], own_groups) == (units, groups):
            return Encoder(table, {name: name})
    return None


def _efficientnet(shapes, label):
    for scope, stem in (("encoder.", "_conv_stem"), ("encoder.", "conv_stem"), ("encoder.model.", "conv_stem")):
        if f"{scope}{stem}.weight" not in shapes:
            continue
        lukemelas = stem == "_conv_stem"
        count = {name.partition(".conv_dw" if not lukemelas else "._depthwise_conv")[0] for name in shapes}
        count = len([name for name in count if re.fullmatch(r"encoder\.(model\.)?_?blocks(\.\d+){1,2}", name)])
        last = f"_blocks.{count - 1}._project_conv" if lukemelas else "blocks.6.0.conv_pwl"
        deepest = max((shape[0] for name, shape in shapes.items() if name.endswith(f"{last}.weight")), default=0)
        for name, (width, *_) in efficientnet.VARIANTS.items():
            units = sum(efficientnet.repeats(name, stage) for stage in range(len(efficientnet.STAGES)))
            lite = not any("se_reduce" in array or ".se." in array for array in shapes)
            if (units, rounded(320 * width, 8), lite) == (count, deepest, name.startswith("lite")):
                return _efficientnet_of(name, scope, lukemelas)
    return None


def _efficientnet_of(variant, scope, lukemelas):
    """The `Encoder` of a variant under one of its three kinds of names."""
    lite = variant.startswith("lite")
    if lukemelas:
        names = {f"efficientnet_{variant}": f"efficientnet-{variant}"}
        unused = r"encoder\.(_conv_head|_bn1)\..*"
        return Encoder(rows(_lukemelas(variant), scope), names, unused=unused)
    name = f"efficientnet_{'lite' if lite else ''}{variant.removeprefix('lite')}"
    if scope == "encoder.":  # segmentation_models.pytorch's own, whose name begins with "tf_" and whose padding doesn't
        names = {f"efficientnet_{variant}_timm": f"timm-tf_{name}" if lite else f"timm-efficientnet-{variant}"}
        return Encoder(rows(_TIMM_INVERTED, scope), names, unused=r"encoder\.(conv_head|bn2)\..*")
    names = {f"efficientnet_{variant}_timm": f"tu-{name}", f"efficientnet_{variant}_timm_same": f"tu-tf_{name}"}
    return Encoder(rows(_TIMM_INVERTED, scope), names, settings={"flavour": "smp_tu"})


def _mobileone(shapes, label):
    if not any(name.startswith("encoder.stage0.r") for name in shapes):
        return None
    reparameterized = "encoder.stage0.reparam_conv.weight" in shapes
    way = "reparam_conv" if reparameterized else "rbr_conv.0.conv"
    for variant, (widths, _, _) in mobileone.VARIANTS.items():
        name = f"encoder.stage{{}}.1.{way}.weight"
        filters = [int(filters * width) for filters, width in zip(mobileone.FILTERS, widths, strict=True)]
        if [shapes[name.format(stage)][0] for stage in range(1, 5)] == filters:
            settings = {"reparameterized": True} if reparameterized else {}
            return Encoder(rows(_MOBILEONE, "encoder."), {f"mobileone_{variant}": f"mobileone_{variant}"}, settings)
    return None


def _convnext(shapes, label):
    if "encoder.model.stem_1.weight" not in shapes:
        return None
    units = _units(shapes, r"encoder\.model\.stages_(\d)\.blocks\.(\d+)\.gamma")
    filters = shapes["encoder.model.stem_0.weight"][0]
    for variant, row in convnext.VARIANTS.items():
        if row == (units, filters):
            # "hnf" has another head for whole images alone.
            name = rf"tu-convnext_{variant}{'(_hnf)?' if variant == 'tiny' else ''}"
            flat = "" if variant in _CONVOLUTIONAL else r".*_mlp_fc\d"
            return Encoder(rows(_CONVNEXT, "encoder.model."), {f"convnext_{variant}": name}, flat=flat)
    return None


# Whose multilayer perceptrons are 1x1 convolutions in timm; those of the others are fully connected.
_CONVOLUTIONAL = ("atto", "femto", "pico", "nano")


def _units(shapes, pattern):
    """How many units each stage has, by names that tell (stage, unit)."""
    found = [re.fullmatch(pattern, name) for name in shapes]
    places = [(int(match[1]), int(match[2])) for match in found if match]
    stages = sorted({stage for stage, _ in places})
    return tuple(1 + max(unit for stage, unit in places if stage == each) for each in stages)


def _groups(shape):
    """Groups of a ResNet's first 3x3 convolution, whose stage has as many filters in as out, or twice as many out."""
    return {64: 1, 4: 32, 2: 64}.get(shape[1])


def _xception(shapes, label):
    for name, last, entry in [("xception_41", 12, 3), ("xception_65", 20, 3), ("xception_71", 22, 5)]:
        depthwise = "encoder.model.blocks_{}.stack.conv3.conv_dw.weight"
        if depthwise.format(last) in shapes and depthwise.format(last + 1) not in shapes:
            # The decoder sees the map behind its ReLU, as timm's features are.
            tap = BACKBONES[name].low_level.replace("separable_conv2_pointwise_BN", "separable_conv3_relu")
            settings = {"low_level": tap} if "decoder.block1.0.weight" in shapes else {}
            table = rows(_timm_xception(entry, last - entry - 1), "encoder.model.")
            return Encoder(table, {name: f"tu-{name.replace('_', '')}"}, settings=settings)
    return None


def _regnet(shapes, label):
    if "encoder.model.s1.b1.conv2.conv.weight" not in shapes:
        return None
    units = _units(shapes, r"encoder\.model\.s(\d)\.b(\d+)\.conv1\.conv\.weight")
    kind = "regnety" if "encoder.model.s1.b1.se.fc1.weight" in shapes else "regnetx"
    kernels = [shapes.get(f"encoder.model.s{stage}.b1.conv2.conv.weight", (0, 0)) for stage in range(1, 5)]
    group = max(kernel[1] for kernel in kernels)
    own = tuple(count - 1 for count in units), tuple(kernel[0] for kernel in kernels), group
    for name, row in regnet.TABLE.items():
        if name.startswith(kind) and row == own:
            table = rows(_REGNET, "encoder.model.")
            return Encoder(table, {name: rf"(tu|timm)-{name}(_tv)?"}, settings={"flavour": "smp_tu"})
    return None


_FAMILIES = (
    _resnet_form,
    _resnet,
    _se_resnet,
    _mobilenet_v2,
    _mobilenet_v3,
    _efficientnet,
    _mobileone,
    _regnet,
    _convnext,
    _xception,
)


def recognise(shapes: Any, label: Any, source: Any) -> Any:
    """The `Encoder` that `{name: shape}` of a whole network have.

    Args:
        source: whose network it is, for messages.

    Raises:
        ValueError: it isn't built here.
    """
    for family in _FAMILIES:
        found = family(shapes, label)
        if found is not None and not _left_over(shapes, found):
            return found
    raise ValueError(f"{label} holds a DeepLab of {source} on {unbuilt()}")


def unbuilt() -> Any:
    return (
        "an encoder that isn't built here. Those that are: resnet, resnext (also tu-), se_resnet, se_resnext, "
        "senet154, tu-seresnet, tu-seresnext, "
        "tu-resnet of the letters c, d, s and t, 26 and 200, tu-wide_resnet, tu- and timm-resnest and -res2net, "
        "mobilenet_v2, timm-, tu- and tu-tf_mobilenetv3, efficientnet, timm-, tu- "
        "and tu-tf_efficientnet b0 to b7 and lite, mobileone, tu-convnext, tu- and timm-regnetx and regnety, "
        "tu-xception41, 65 and 71."
    )


def _left_over(shapes, found):
    """Whether the encoder has arrays that the rows don't know: it is a relative of the network then."""
    own = {name: shape for name, shape in shapes.items() if name.startswith("encoder.")}
    known = rf"{TORCH.ignored}|{found.unused}" if found.unused else TORCH.ignored
    rest = [name for name in own if not re.fullmatch(known, name)]
    return len(renamed({name: own[name] for name in rest}, found.table, TORCH)) != len(rest)


def chosen(found: Any, name: Any) -> Any:
    """The backbones of an encoder, of which its name, if it is known, leaves one.

    Raises:
        ValueError: it is another encoder's name.
    """
    if name is None:
        return list(found.networks)
    fitting = [key for key, pattern in found.networks.items() if re.fullmatch(pattern + _TAG, name)]
    if not fitting:
        raise ValueError(
            f"config.json names the encoder {name!r}, and the arrays are those of {' or '.join(found.networks)}: it is "
            f"{unbuilt()}"
        )
    return fitting


# Writing ------------------------------------------------------------------------------------------------------------


def export_table(paths: Any, layers: Any) -> Any:
    """The rows of the encoder that a model's variables are of, given their paths and its layers by name."""
    if "Conv_1/kernel" in paths:
        return rows(MOBILENET_V2, "encoder.features.")
    for last in (5, 6):
        if f"blocks_{last}_0_conv/kernel" in paths:
            return rows(_timm_mobilenet_v3(last), "encoder.model.")
    if "conv_stem/kernel" in paths:
        return _efficientnet_table(paths, layers)
    if "layer0_conv1/kernel" in paths:
        return rows(_SE_RESNET, "encoder.")
    if any(path.startswith("stage0_r") for path in paths):
        return rows(_MOBILEONE, "encoder.")
    if "s1_b1_conv1/kernel" in paths:
        return rows(_REGNET, "encoder.model.")
    if "stem_1_LN/gamma" in paths:
        return rows(_CONVNEXT, "encoder.model.")
    if "entry_flow_conv1_1/kernel" in paths:
        entry, middle = (
            sum(f"{flow}{n}_separable_conv1_depthwise/kernel" in paths for n in range(1, 20))
            for flow in ("entry_flow_block", "middle_flow_unit_")
        )
        return rows(_timm_xception(entry, middle), "encoder.model.")
    deep, poolings = "conv1_1/kernel" in paths, [name for name in layers if name.endswith("downsample_pool")]
    if deep or poolings or not _of_torchvision(paths):
        return rows(_timm_resnet_form(deep, bool(poolings)), "encoder.model.")
    strided = "conv2" if "layer4_0_conv3" in layers else "conv1"
    whole = _whole_stages(layers, f"layer4_0_{strided}", f"layer4_1_{strided}")
    if "layer1_0_se_fc1/kernel" in paths:
        whole = False  # timm's alone
    return rows(RESNET, "encoder.") if whole else rows(_TIMM_RESNET, "encoder.model.")


def _efficientnet_table(paths, layers):
    if "conv_stem_pad" not in layers or layers["conv_stem_pad"].padding[0] != (0, 1):
        whole = _whole_stages(layers, "blocks_5_0_conv_dw", "blocks_5_1_conv_dw")
        scope = "encoder." if whole and "conv_stem_pad" in layers else "encoder.model."
        return rows(_TIMM_INVERTED, scope)
    units = len([path for path in paths if path.endswith("_conv_dw/kernel")])
    counts = {
        sum(efficientnet.repeats(variant, stage) for stage in range(len(efficientnet.STAGES))): variant
        for variant in efficientnet.VARIANTS
        if not variant.startswith("lite")
    }
    return rows(_lukemelas(counts[units]), "encoder.")


def unused(state: Any) -> Any:
    """The last convolution of an EfficientNet and its batch norm, which the features are taken before; zeros."""
    for stem, head, norm in (("_conv_stem", "_conv_head", "_bn1"), ("conv_stem", "conv_head", "bn2")):
        if f"encoder.{stem}.weight" in state:
            last = [name for name in state if re.search(r"(_project_conv|conv_pwl)\.weight", name)][-1]
            filters = state[last].shape[0]
            lite = not any("se_reduce" in name or ".se." in name for name in state)
            width = 1280 if lite else rounded(4 * filters, 8)
            zeros = np.zeros(width, state[last].dtype)
            return {
                f"encoder.{head}.weight": np.zeros((width, filters, 1, 1), state[last].dtype),
                **{f"encoder.{norm}.{name}": zeros for name in ("weight", "bias", "running_mean")},
                f"encoder.{norm}.running_var": np.ones_like(zeros),
                f"encoder.{norm}.num_batches_tracked": np.zeros((), "int64"),
            }
    return {}


def _of_torchvision(paths):
    """Whether a ResNet's units have the names and widths of torchvision's, by its variables' paths."""
    return not any(re.fullmatch(r"layer1_0_(convs_0|conv2_conv)/kernel", path) for path in paths)


def _whole_stages(layers, strided, next_one):
    """Whether a convolution that lost its stride runs at its new stage's rate, as segmentation_models.pytorch does it.

    timm keeps the rate before, and has the encoder under another name.
    """
    rates = [layers[name].dilation_rate for name in (strided, next_one) if name in layers]
    return len(rates) < 2 or max(layers[strided].strides) > 1 or rates[0] == rates[1]
