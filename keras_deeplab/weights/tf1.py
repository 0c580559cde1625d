"""Checkpoints of Google's DeepLab for TensorFlow 1 (research/deeplab and research/slim)."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import temporary_folder
from keras_deeplab.backbones.mobilenet_edgetpu import LAST_FILTERS, TABLE, block_name
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.networks import V3, V3_PLUS, network
from keras_deeplab.weights.names import Dialect, renamed
from keras_deeplab.weights.plan import Plan
from keras_deeplab.weights.readers import bundle, frozen_graph, tar
from keras_deeplab.weights.readers.common import Budget, contents, reading

TITLE = "Google's DeepLab for TensorFlow 1"

# scope of a convolution in the checkpoint, name of the layer
_HEAD_ROWS = (
    (r"{head:image_pooling|aspp\d+(?:_depthwise|_pointwise)?|concat_projection}", "{head}"),
    (r"decoder/{part:feature_projection0|decoder_conv\d_(?:depthwise|pointwise)}", "{part}"),
    ("decoder/decoder_conv0/decoder_conv0_{n+1}", "decoder_conv{n}"),
    ("logits/semantic", "logits"),
)
ROWS = (
    ("MobilenetV2/Conv", "Conv1"),
    ("MobilenetV2/expanded_conv/{part:depthwise|project}", "expanded_conv_{part}"),
    ("MobilenetV2/expanded_conv_{block}/{part:expand|depthwise|project}", "block_{block}_{part}"),
    (r"{net:xception_\d+}/entry_flow/conv1_{n}", "entry_flow_conv1_{n}"),
    (
        r"{net:xception_\d+}/{flow:entry|exit}_flow/block{block}/unit_1/xception_module/{part:\w+}",
        "{flow}_flow_block{block}_{part}",
    ),
    (
        r"{net:xception_\d+}/middle_flow/block1/unit_{unit}/xception_module/{part:\w+}",
        "middle_flow_unit_{unit}_{part}",
    ),
    (r"{net:resnet_v1_\d+}/conv1_{n}", "conv1_{n}"),
    (r"{net:resnet_v1_\d+}/block{block}/unit_{unit}/bottleneck_v1/{part:\w+}", "block{block}_unit_{unit}_{part}"),
    *_HEAD_ROWS,
)
# MobileNet EdgeTPU's blocks are called as MobileNetV2's.
EDGE_ROWS = (
    ("MobilenetEdgeTPU/{conv:Conv(?:_1)?}", "{conv}"),
    (r"MobilenetEdgeTPU/{block:expanded_conv(?:_\d+)?}/{part:expand|depthwise|project}", "{block}_{part}"),
    *_HEAD_ROWS,
)
# The networks on MobileNetV3, whose blocks are called as MobileNetV2's; their decoder's output are the logits.
LITE_ROWS = (
    ("MobilenetV3/{conv:Conv(?:_1)?}", "{conv}"),
    (r"MobilenetV3/{block:expanded_conv(?:_\d+)?}/{part:expand|depthwise|project}", "{block}_{part}"),
    (r"MobilenetV3/{block:expanded_conv(?:_\d+)?}/squeeze_excite/{conv:Conv(?:_1)?}", "{block}_squeeze_excite_{conv}"),
    ("{head:image_pooling|aspp0}", "{head}"),
    ("decoder/{part:feature_projection0|decoder_conv0}", "{part}"),
)
# The state of the training is ignored; both frameworks order the axes alike (height, width, in, out or multiplier).
DIALECT = Dialect(
    leaves=(
        ("/depthwise_weights", "/kernel", "depthwise"),
        ("/weights", "/kernel", ""),
        ("/biases", "/bias", ""),
        ("/BatchNorm/gamma", "_BN/gamma", ""),
        ("/BatchNorm/beta", "_BN/beta", ""),
        ("/BatchNorm/moving_mean", "_BN/moving_mean", ""),
        ("/BatchNorm/moving_variance", "_BN/moving_variance", ""),
    ),
    ignored=r"global_step|.*/(Momentum|ExponentialMovingAverage|Adam|Adam_1|RMSProp|RMSProp_1)(_\d+)?",
)

WIDEST = 4  # width multiplier; published are up to 1.4
_MEMBER = re.compile(r"\.(index|data-\d+-of-\d+|ckpt(-\d+)?|pb)$")


def read(path: Any) -> dict[str, np.ndarray]:
    """A TF1 checkpoint to `{name: float32 array}`, without what only its training needed.

    Args:
        path: prefix, `.index` file, folder, or `.tar.gz` archive that holds one checkpoint. V1 and V2 formats (V1 is
            one file without `.index` and `.data`). Of an archive without one, the frozen graph in it is read.

    Raises:
        FileNotFoundError: there is none.
        ValueError: several, or a file that TensorFlow can't read.
    """
    path = Path(path)
    if path.is_file() and (path.suffix in (".gz", ".tgz", ".tar") or _begins(path, b"\x1f\x8b")):
        return _read_archive(path)
    prefix = _find_prefix(path, path) if path.is_dir() else re.sub(r"\.(index|data-\d+-of-\d+)$", "", str(path))
    return _read_prefix(prefix, path)


def _begins(path, magic):
    return contents(path, len(magic)) == magic


def _read_prefix(prefix, path):
    import tensorflow as tf

    with reading(path, "a TensorFlow checkpoint"):
        if os.path.exists(f"{prefix}.index"):
            bundle.check(prefix)
        reader = tf.train.load_checkpoint(prefix)
        shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        names = [name for name in sorted(shapes) if not re.fullmatch(DIALECT.ignored, name)]
        budget = Budget.of(_size(prefix))
        for name in names:  # TensorFlow takes the memory for what is declared before it looks at what is there
            budget.spend(math.prod(shapes[name]) * max(types[name].size, 1))
        return {name: reader.get_tensor(name) for name in names}


def _size(prefix):
    """Bytes of all files of a checkpoint."""
    folder, name = os.path.split(prefix)
    file = re.compile(rf"{re.escape(name)}(\.index|\.data-\d+-of-\d+)?")
    return sum(entry.stat().st_size for entry in os.scandir(folder or ".") if file.fullmatch(entry.name))


def _find_prefix(folder, path):
    # V2 is prefix.index and its data; V1 is one file that has the prefix itself as its name.
    names = []
    for parent, _, files in os.walk(folder):
        names += [os.path.relpath(os.path.join(parent, name), folder) for name in files]
        if len(names) > limits.CHECKPOINT_FILES:  # somebody's home, say: nothing is gained by walking through it
            raise ValueError(
                f"{os.fspath(path)!r} has more than {limits.CHECKPOINT_FILES} files in its folders, which no "
                "checkpoint has: give the path of the folder that it is in."
            )
    prefixes = sorted({name.removesuffix(".index") for name in names if re.search(r"\.index$|\.ckpt(-\d+)?$", name)})
    if len(prefixes) == 1:
        return str(folder / prefixes[0])
    if not prefixes:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(f"There is no checkpoint (*.index, *.ckpt-*) in {os.fspath(path)!r}; it holds {found}.")
    raise ValueError(f"{os.fspath(path)!r} holds several checkpoints: {', '.join(prefixes)}. Give the path of one.")


def _read_archive(path):
    with temporary_folder() as folder:
        # What the members are called decides nothing: only those named like a checkpoint are taken out.
        tar.unpack(path, folder, _MEMBER.search)
        try:
            prefix = _find_prefix(folder, path)
        except FileNotFoundError as error:
            graphs = sorted(folder.rglob("*.pb"))
            if len(graphs) != 1:
                raise ValueError(
                    f"The archive {os.fspath(path)!r} holds no checkpoint (model.ckpt*) and {len(graphs)} frozen "
                    "graphs (*.pb). Unpack it and give the path of one."
                ) from error
            with reading(path, "an archive with a frozen graph"):
                return frozen_graph.parse(graphs[0].read_bytes())
        return _read_prefix(prefix, path)


# an array that only this backbone has -> registry key, scope of its arrays
_BACKBONES = {
    "MobilenetV2/Conv/weights": ("mobilenet_v2", "MobilenetV2"),
    "xception_41/entry_flow/conv1_1/weights": ("xception_41", "xception_41"),
    "xception_65/entry_flow/conv1_1/weights": ("xception_65", "xception_65"),
    "xception_71/entry_flow/conv1_1/weights": ("xception_71", "xception_71"),
    "resnet_v1_50/conv1_1/weights": ("resnet_v1_50_beta", "resnet_v1_50"),
    "resnet_v1_101/conv1_1/weights": ("resnet_v1_101_beta", "resnet_v1_101"),
    "MobilenetEdgeTPU/Conv/weights": ("mobilenet_edgetpu", "MobilenetEdgeTPU"),
    "MobilenetV3/expanded_conv_14/project/weights": ("mobilenet_v3_large_seg", "MobilenetV3"),
    "MobilenetV3/expanded_conv/squeeze_excite/Conv/weights": ("mobilenet_v3_small_seg", "MobilenetV3"),
}


def net(backbone: str) -> Any:
    """The scope that a registered backbone's arrays are in; None for one that isn't slim's.

    >>> net("resnet_v1_50_beta"), net("xception")
    ('resnet_v1_50', 'xception_65')
    """
    return {**dict(_BACKBONES.values()), "xception": "xception_65"}.get(backbone)


def recognise(shapes: Mapping[str, Sequence[int]], label: Any, configs: Mapping[str, Any]) -> Plan | None:
    """The shapes of a checkpoint's arrays to its `Plan`; None where they aren't named as TensorFlow's slim names them.

    Names don't tell everything: ASPP's rates are taken to go with the output stride, `multi_grid` to be the
    backbone's own, activations not to be bounded.

    Raises:
        ValueError: the arrays are no DeepLab of this source, or one on a backbone that isn't built here.
    """
    if not any(name.endswith(("/weights", "/depthwise_weights")) for name in shapes):
        return None
    scopes = sorted({name.split("/")[0] for name in shapes})
    found = [row for array, row in _BACKBONES.items() if array in shapes]
    if len(found) != 1:
        plain = any(re.match(r"resnet_v1_\d+/conv1/weights", name) for name in shapes)
        raise ValueError(
            f"{label} holds no DeepLab that can be rebuilt: its arrays are in {', '.join(scopes[:12])}. "
            + ("That ResNet has one 7x7 convolution as its stem, which is not the beta variant. " if plain else "")
            + f"Backbones that can, one of them: {', '.join(name for name, _ in _BACKBONES.values())}."
        )
    if found[0][1] == "MobilenetV3":
        return _lite(shapes, found[0][0])
    if "logits/semantic/weights" not in shapes:
        raise ValueError(f"{label} has no 'logits/semantic/weights'; its arrays are in {', '.join(scopes[:12])}.")
    backbone, scope = found[0]
    table = EDGE_ROWS if backbone == "mobilenet_edgetpu" else ROWS
    paths = renamed(shapes, table, DIALECT)
    rates = {int(match[1]) for match in (re.match(r"aspp([1-9]\d*)(_depthwise)?/", path) for path in paths) if match}
    if len(rates) not in (0, 3):
        raise ValueError(f"{label} has {len(rates)} atrous branches; only 0 and 3 have known rates.")
    settings = {
        "atrous_rates": (6, 12, 18) if rates else (),
        "separable": any(re.match(r"(aspp[1-9]\d*|decoder_conv0)_depthwise/", path) for path in paths),
        "image_pooling": "image_pooling/kernel" in paths,
        "filters": paths.get("aspp0/kernel", (256,))[-1],
    }
    decoder = "feature_projection0/kernel" in paths
    if decoder:
        settings["low_level_filters"] = paths["feature_projection0/kernel"][-1]
    spec = network(
        V3_PLUS if decoder else V3,
        backbone,
        backbone_settings=WIDTHS.get(backbone, lambda paths: {})(paths),
        num_classes=paths["logits/kernel"][-1],
        **settings,
    )
    return Plan("tf1", spec, table, DIALECT, constants={"net": scope})


def _lite(shapes, backbone):
    """The `Plan` of a DeepLab with the head lite R-ASPP."""
    paths = renamed(shapes, LITE_ROWS, DIALECT)
    spec = network(
        V3,
        backbone,
        num_classes=paths.get("decoder_conv0/kernel", (None,))[-1],
        output_stride=32,
        filters=paths.get("aspp0/kernel", (128,))[-1],
    )
    return Plan("tf1", spec, LITE_ROWS, DIALECT)


def export_rows(paths: Any, layers: Any) -> Any:
    """The rows, dialect and constants that name a model's variables, given their paths."""
    if f"{_LAST_BLOCK}/kernel" in paths:
        return EDGE_ROWS, DIALECT, {}
    if "expanded_conv_1_depthwise/kernel" in paths:
        return LITE_ROWS, DIALECT, {}
    if "entry_flow_conv1_1/kernel" in paths:
        deep = "middle_flow_unit_9_separable_conv1_depthwise/kernel" in paths
        deeper = "entry_flow_block5_separable_conv1_depthwise/kernel" in paths
        scope = "xception_71" if deeper else "xception_65" if deep else "xception_41"
    else:
        scope = "resnet_v1_101" if "block3_unit_7_conv1/kernel" in paths else "resnet_v1_50"
    return ROWS, DIALECT, {"net": scope}


def mobilenet_v2_width(paths: Any) -> Any:
    """Width multiplier and rounding of slim's MobileNetV2, from the filters of the last block and of all linear ones.

    Args:
        paths: `{variable path: shape of the array}`.

    Raises:
        ValueError: a multiplier that no network has.
    """
    widths = [shape[-1] for path, shape in paths.items() if path.endswith("_project/kernel")]
    widths.append(paths["Conv1/kernel"][-1])
    alpha = paths.get("block_16_project/kernel", (320,))[-1] / 320
    if not 0 < alpha <= WIDEST:
        raise ValueError(
            f"the last block of its MobileNetV2 has {alpha:g} times the 320 filters of width 1; widths go up to "
            f"{WIDEST}."
        )
    return {"alpha": alpha, "divisible_by": 1 if any(width % 8 for width in widths) else 8}


_LAST_BLOCK = f"{block_name(len(TABLE) - 1)}_project"


def mobilenet_edgetpu_width(paths: Any) -> Any:
    """Width multiplier of slim's MobileNet EdgeTPU, from the filters of its last block, and those behind it.

    Args:
        paths: `{variable path: shape of the array}`.

    Raises:
        ValueError: a multiplier that no network has.
    """
    filters = TABLE[-1][3]
    alpha = paths.get(f"{_LAST_BLOCK}/kernel", (filters,))[-1] / filters
    if not 0 < alpha <= WIDEST:
        raise ValueError(
            f"the last block of its MobileNet EdgeTPU has {alpha:g} times the {filters} filters of width 1; widths go "
            f"up to {WIDEST}."
        )
    last = paths.get("Conv_1/kernel", (LAST_FILTERS,))[-1]
    return {"alpha": alpha} | ({"last_filters": last} if last != rounded(LAST_FILTERS * alpha, 8) else {})


# backbone -> function from `{variable path: shape}` to the settings that tell its width
WIDTHS = {"mobilenet_v2": mobilenet_v2_width, "mobilenet_edgetpu": mobilenet_edgetpu_width}
