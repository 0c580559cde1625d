"""Checkpoints of Google's DeepLab for TensorFlow 1 (research/deeplab and research/slim)."""

import os
import re
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_deeplab import models
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.heads.aspp import atrous_rates

# scope of a convolution in the checkpoint -> name of the layer, whose words are joined by "_" for "/"
_SCOPES = [
    (r"MobilenetV2/Conv", r"Conv1"),
    (r"MobilenetV2/expanded_conv/(depthwise|project)", r"expanded_conv_\1"),
    (r"MobilenetV2/expanded_conv_(\d+)/(expand|depthwise|project)", r"block_\1_\2"),
    (r"xception_\d+/(entry_flow/conv1_\d)", r"\1"),
    (r"xception_\d+/((?:entry|exit)_flow/block\d)/unit_1/xception_module/(\w+)", r"\1/\2"),
    (r"xception_\d+/middle_flow/block1/(unit_\d+)/xception_module/(\w+)", r"middle_flow/\1/\2"),
    (r"resnet_v1_\d+/(conv1_\d)", r"\1"),
    (r"resnet_v1_\d+/(block\d/unit_\d+)/bottleneck_v1/(\w+)", r"\1/\2"),
    (r"(image_pooling|aspp\d+(?:_depthwise|_pointwise)?|concat_projection)", r"\1"),
    (r"decoder/(feature_projection0|decoder_conv\d_(?:depthwise|pointwise))", r"\1"),
    (r"decoder/decoder_conv0/decoder_conv0_1", r"decoder_conv0"),
    (r"decoder/decoder_conv0/decoder_conv0_2", r"decoder_conv1"),
    (r"logits/semantic", r"logits"),
]
# what stands below the scope -> variable; both frameworks order the axes alike (height, width, in, out or multiplier)
_LEAVES = [
    (r"/(?:depthwise_)?weights", r"/kernel"),
    (r"/biases", r"/bias"),
    (r"/BatchNorm/(gamma|beta|moving_mean|moving_variance)", r"_BN/\1"),
]
# state of the training, not of the network
_IGNORED = re.compile(r"global_step|.*/(Momentum|ExponentialMovingAverage|Adam|Adam_1|RMSProp|RMSProp_1)(_\d+)?")

_MEMBER = re.compile(r"\.(index|data-\d+-of-\d+|ckpt(-\d+)?)$")


def read(path):
    """A TF1 checkpoint to `{name: float32 array}`, without what only its training needed.

    Args:
        path: prefix, `.index` file, folder, or `.tar.gz` archive that holds one checkpoint. V1 and V2 formats (V1 is
            one file without `.index` and `.data`).

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
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def _read_prefix(prefix, path):
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
        return {name: reader.get_tensor(name) for name in sorted(names) if not _IGNORED.fullmatch(name)}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(f"{os.fspath(path)!r} can't be read as a TensorFlow checkpoint: {error}") from error


def _find_prefix(folder, path):
    # V2 is prefix.index and its data; V1 is one file that has the prefix itself as its name.
    files = (str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    prefixes = sorted({name.removesuffix(".index") for name in files if re.search(r"\.index$|\.ckpt(-\d+)?$", name)})
    if len(prefixes) == 1:
        return str(folder / prefixes[0])
    if not prefixes:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(f"There is no checkpoint (*.index, *.ckpt-*) in {os.fspath(path)!r}; it holds {found}.")
    raise ValueError(f"{os.fspath(path)!r} holds several checkpoints: {', '.join(prefixes)}. Give the path of one.")


def _read_archive(path):
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                # What the archive's members are called decides nothing: only plain files named like a checkpoint
                # are taken out, and the "data" filter keeps them inside the folder.
                members = [m for m in archive if m.isfile() and _MEMBER.search(m.name)]
                archive.extractall(folder, members, filter="data")
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{os.fspath(path)!r} is no archive that can be unpacked: {error}") from error
        try:
            prefix = _find_prefix(Path(folder), path)
        except FileNotFoundError as error:
            raise ValueError(f"The archive {os.fspath(path)!r} holds no checkpoint (model.ckpt*).") from error
        return _read_prefix(prefix, path)


def translate(arrays):
    """`{name in the checkpoint: array}` to `{variable path: array}`; names that follow no rule stay as they are."""
    translated = {}
    for name, array in arrays.items():
        if _IGNORED.fullmatch(name):
            continue
        translated[_translate_name(name)] = np.asarray(array)
    return translated


def _translate_name(name):
    for leaf, variable in _LEAVES:
        scope, found, _ = _partition(leaf + "$", name)
        if not found:
            continue
        for pattern, layer in _SCOPES:
            match = re.fullmatch(pattern, scope)
            if match:
                return match.expand(layer).replace("/", "_") + re.sub(leaf, variable, found)
    return name


def _partition(pattern, name):
    match = re.search(pattern, name)
    return (name[: match.start()], match.group(), name[match.end() :]) if match else (name, "", "")


@dataclass(frozen=True)
class Plan:
    """The model that a checkpoint belongs to: `build(**settings)` makes it."""

    backbone: str
    backbone_settings: dict
    num_classes: int
    decoder: bool
    atrous: bool
    settings: dict

    def build(self, *, output_stride, input_shape, **settings):
        classifier = BACKBONES[self.backbone].build(input_shape, **self.backbone_settings)
        builder = models.DeepLabV3Plus if self.decoder else models.DeepLabV3
        rates = atrous_rates(output_stride) if self.atrous else ()
        settings.update(output_stride=output_stride, input_shape=input_shape, atrous_rates=rates)
        return builder(classifier, **self.settings, **settings)


# an array that only this backbone has -> registry key
_BACKBONES = {
    "MobilenetV2/Conv/weights": "mobilenet_v2",
    "xception_41/entry_flow/conv1_1/weights": "xception_41",
    "xception_65/entry_flow/conv1_1/weights": "xception_65",
    "xception_71/entry_flow/conv1_1/weights": "xception_71",
    "resnet_v1_50/conv1_1/weights": "resnet_v1_50_beta",
    "resnet_v1_101/conv1_1/weights": "resnet_v1_101_beta",
}


def recognise(arrays, label):
    """Names and shapes of a checkpoint's arrays to the `Plan` of its model.

    Names don't tell everything: ASPP's rates are taken to go with the output stride, `multi_grid` to be the
    backbone's own, activations not to be bounded.

    Raises:
        ValueError: the arrays are no DeepLab of this source, or one on a backbone that isn't built here.
    """
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    scopes = sorted({name.split("/")[0] for name in shapes})
    found = [key for array, key in _BACKBONES.items() if array in shapes]
    if len(found) != 1:
        plain = any(re.match(r"resnet_v1_\d+/conv1/weights", name) for name in shapes)
        raise ValueError(
            f"{label} holds no DeepLab that can be rebuilt: its arrays are in {', '.join(scopes[:12]) or 'nothing'}. "
            + ("That ResNet has one 7x7 convolution as its stem, which is not the beta variant. " if plain else "")
            + f"Backbones that can, one of them: {', '.join(_BACKBONES.values())}."
        )
    if "logits/semantic/weights" not in shapes:
        raise ValueError(f"{label} has no 'logits/semantic/weights'; its arrays are in {', '.join(scopes[:12])}.")
    rates = sorted({int(m.group(1)) for m in (re.match(r"aspp([1-9]\d*)(_depthwise)?/", n) for n in shapes) if m})
    if len(rates) not in (0, 3):
        raise ValueError(f"{label} has {len(rates)} atrous branches; only 0 and 3 have known rates.")
    decoder = "decoder/feature_projection0/weights" in shapes
    settings = {
        "separable": any(re.match(r"(aspp[1-9]\d*|decoder/decoder_conv0)_depthwise/", name) for name in shapes),
        "image_pooling": "image_pooling/weights" in shapes,
        "filters": shapes["aspp0/weights"][-1] if "aspp0/weights" in shapes else 256,
    }
    if decoder:
        settings["low_level_filters"] = shapes["decoder/feature_projection0/weights"][-1]
    return Plan(
        backbone=found[0],
        backbone_settings=_mobilenet_v2_width(shapes) if found[0] == "mobilenet_v2" else {},
        num_classes=shapes["logits/semantic/weights"][-1],
        decoder=decoder,
        atrous=bool(rates),
        settings=settings,
    )


def _mobilenet_v2_width(shapes):
    """Width multiplier and rounding, from the filters of the last block and of all linear ones."""
    widths = [shape[-1] for name, shape in shapes.items() if re.fullmatch(r"MobilenetV2/.*/project/weights", name)]
    widths.append(shapes["MobilenetV2/Conv/weights"][-1])
    alpha = shapes.get("MobilenetV2/expanded_conv_16/project/weights", (320,))[-1] / 320
    return {"alpha": alpha, "divisible_by": 1 if any(width % 8 for width in widths) else 8}
