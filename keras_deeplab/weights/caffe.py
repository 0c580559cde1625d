"""Checkpoints of the authors' Caffe networks: DeepLab v1 and v2 on VGG, as `{"<layer>.weight": blob}`.

The layer before the scores is named after the data, `fc8_voc12`, and `fc8_voc12_1` to `fc8_voc12_4` in v2.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_deeplab.backbones import vgg
from keras_deeplab.heads import large_fov
from keras_deeplab.networks import V1, V2, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan

TITLE = "DeepLab's Caffe release"

# Their layer, None, our layer ---------------------------------------------------------------------------------------

_VGG = [("conv{stage}_{n}", None, "conv{stage}_{n}")]
_V1 = [
    ("fc6", None, "fc6"),
    ("fc7", None, "fc7"),
    ("fc8{data:(?:_[a-zA-Z]\\w*)?}", None, "logits"),
]
_V2 = [
    ("fc6_{branch}", None, "fc6_{branch}"),
    ("fc7_{branch}", None, "fc7_{branch}"),
    ("fc8{data:(?:_[a-zA-Z]\\w*)?}_{branch}", None, "logits_{branch}"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't the Caffe release's.

    Names don't tell rates. Those of fc6 go with its kernel, but of 4x4 two networks were published, at the rates 4 and
    8; v2's four branches are taken to be ASPP-L's, (6, 12, 18, 24), which alone were released.

    Raises:
        ValueError: it is, on a VGG or with an fc6 that isn't built here.
    """
    plus = "fc6_1.weight" in shapes
    if "conv1_1.weight" not in shapes or not (plus or "fc6.weight" in shapes):
        return None
    table = rows(_VGG) + rows(_V2 if plus else _V1)
    paths = renamed(shapes, table, TORCH)
    fc6 = paths["fc6_1/kernel" if plus else "fc6/kernel"]
    tags = {found[1] for name in shapes if (found := re.fullmatch(r"fc8(|_[a-zA-Z]\w*?)(?:_\d+)?\.weight", name))}
    settings, variants = {"filters": fc6[0]}, []
    if not plus:
        own = fc6[-1] if len(fc6) == 4 else 7
        variants = [name for name, (kernel, *_) in large_fov.VARIANTS.items() if kernel == own]
        settings["variant"] = next(iter(variants), None)
        if not variants:
            raise ValueError(f"{label}: fc6 has the shape {fc6}; kernels of 7x7, 4x4 and 3x3 are known.")
    else:
        branches = len([path for path in paths if re.fullmatch(r"fc6_\d+/kernel", path)])
        if branches not in (1, len(large_fov.ATROUS_RATES)):
            raise ValueError(f"{label} has {branches} branches; the rates of 4 are known.")
    spec = network(
        V2 if plus else V1,
        vgg_name(paths, label, "_caffe"),
        num_classes=paths.get("logits_1/kernel" if plus else "logits/kernel", (None,))[0],
        output_stride=8,
        **settings,
    )
    undecided = tuple({"variant": name} for name in variants) if len(variants) > 1 else ()
    return Plan("caffe", spec, table, TORCH, constants={"data": next(iter(tags), "")}, undecided=undecided)


def vgg_name(paths: Iterable[str], label: str, suffix: str = "") -> Any:
    """The registry key of the VGG that `{variable path: shape}` belongs to, from its counts of convolutions."""
    counts = tuple(sum(bool(re.fullmatch(rf"conv{stage}_\d+/kernel", path)) for path in paths) for stage in range(1, 6))
    for depth, convolutions in vgg.TABLE.items():
        if convolutions == counts:
            return f"vgg{depth}{suffix}"
    raise ValueError(
        f"{label} holds a VGG of {list(counts)} convolutions, which isn't built here. Those that are: "
        + ", ".join(f"vgg{depth} {list(convolutions)}" for depth, convolutions in vgg.TABLE.items())
        + "."
    )
