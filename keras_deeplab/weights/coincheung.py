"""Checkpoints of CoinCheung/Deeplab-Large-FOV (lib/model.py): DeepLab v1 on VGG16 with torchvision's names."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_deeplab.networks import V1, network
from keras_deeplab.weights.names import TORCH, renamed, rows
from keras_deeplab.weights.plan import Plan
from keras_deeplab.weights.torchvision import vgg_table

TITLE = "CoinCheung's Deeplab-Large-FOV"

# Their convolution, their batch norm, our layer ---------------------------------------------------------------------

_HEAD = [
    ("classifier.1", None, "fc6"),
    ("classifier.3", None, "fc7"),
    ("classifier.6", None, "logits"),
]


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't CoinCheung's."""
    if len(shapes.get("classifier.1.weight", ())) != 4 or "features.28.weight" not in shapes:
        return None
    table = rows(vgg_table(16), "features.") + rows(_HEAD)
    paths = renamed(shapes, table, TORCH)
    spec = network(
        V1,
        "vgg16_coincheung",
        num_classes=paths.get("logits/kernel", (None,))[0],
        output_stride=8,
        filters=paths["fc6/kernel"][0],
    )
    return Plan("coincheung", spec, table, TORCH)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables."""
    return rows(vgg_table(16), "features.") + rows(_HEAD), TORCH, {}
