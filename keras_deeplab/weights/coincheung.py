"""Checkpoints of CoinCheung/Deeplab-Large-FOV (lib/model.py): DeepLab v1 on VGG16 with torchvision's names."""

from keras_deeplab import models
from keras_deeplab.weights.state_dict import TORCH, Plan, renamed, rows
from keras_deeplab.weights.torchvision import vgg_table

TITLE = "CoinCheung's Deeplab-Large-FOV"

# Their convolution, their batch norm, our layer ---------------------------------------------------------------------

_HEAD = [
    ("classifier.1", None, "fc6"),
    ("classifier.3", None, "fc7"),
    ("classifier.6", None, "logits"),
]


def recognise(shapes, label):
    """The shapes of a checkpoint's arrays to its `Plan`; None where it isn't CoinCheung's."""
    if len(shapes.get("classifier.1.weight", ())) != 4 or "features.28.weight" not in shapes:
        return None
    table = rows(vgg_table(16), "features.") + rows(_HEAD)
    paths = renamed(shapes, table, TORCH)
    return Plan(
        source="coincheung",
        builder=models.DeepLabV1,
        backbone="vgg16_coincheung",
        num_classes=paths.get("logits/kernel", (None,))[0],
        rows=table,
        dialect=TORCH,
        settings={"filters": paths["fc6/kernel"][0]},
        output_stride=8,
    )


def export_rows(paths, layers):
    """The rows, dialect and constants that name a model's variables."""
    return rows(vgg_table(16), "features.") + rows(_HEAD), TORCH, {}
