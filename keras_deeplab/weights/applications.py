"""ImageNet weights for the backbones: classifiers of keras.applications, torchvision and slim, without their tops.

The file may come from any of them that has the network; its names tell. A VGG is the same network everywhere, but
keras.applications' sees BGR and torchvision's normalised RGB, which is absorbed by its first convolution.
"""

import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_deeplab.backbones import BACKBONES, preprocessing
from keras_deeplab.registry import Registry
from keras_deeplab.weights import jfzhang95, kazuto1011, named, tf1, torchvision
from keras_deeplab.weights.names import KERAS, KERAS_3, TORCH, Dialect, rows, their_name, unwrap
from keras_deeplab.weights.plan import Plan

# Keras 1 files named a layer's variables W and b.
_KERAS_1 = Dialect(leaves=(("_W_1", "/kernel", ""), ("_b_1", "/bias", "")), ignored=KERAS.ignored)
_MOBILENET_V2 = (
    ("bn_Conv1", "Conv1_BN"),
    (r"{layer:Conv1|expanded_conv_\w+|block_\w+}", "{layer}"),
)
_VGG = (("block{stage}_conv{n}", "conv{stage}_{n}"),)
# The tops, and what stands between them and the features that DeepLab takes.
_KERAS_TOP = r"(Conv_1|Conv_1_bn|[Ll]ogits|predictions|fc\d)/.*|fc\d_[Wb]_1|predictions_[Wb]_1"
_TORCH_TOP = r"(fc|classifier(\.\d+)?)\.(weight|bias)"
_TF1_TOP = (
    r"[^/]+/(Conv_1|Logits|logits|predictions|Predictions)/.*"
    r"|(aspp\d\w*|image_pooling|concat_projection|decoder|logits)/.*"  # of a whole DeepLab
)


def _keras(table):
    return [(table, dialect, _KERAS_TOP, None) for dialect in (KERAS, KERAS_3, _KERAS_1)]


def _vgg(depth, norm=False):
    ways = [(rows(torchvision.vgg_table(depth, norm), "features."), TORCH, _TORCH_TOP, "torch")]
    if norm:
        return ways
    ways.append(([("conv{stage}_{n}", "conv{stage}_{n}")], TORCH, r"fc\d(_\w+)?\.(weight|bias)", "caffe"))
    if depth in (16, 19):
        ways += [(*way[:3], "caffe") for way in _keras(_VGG)]
    return ways


def _torch(table, prefix="", top=_TORCH_TOP):
    return [(rows(table, prefix), TORCH, top, None)]


_TF1 = [(tf1.ROWS, tf1.DIALECT, _TF1_TOP, None)]
# VainF's and jfzhang95's go without its last convolution. The latter began with weights of its own names.
_TORCH_MOBILENET_V2 = [
    *_torch(torchvision.MOBILENET_V2[:-1], "features.", rf"{_TORCH_TOP}|features\.18\..*"),
    *_torch(jfzhang95.MOBILENET_V2, top=rf"{_TORCH_TOP}|features\.18\..*"),
]
_TORCH_MOBILENET_V3 = _torch(torchvision.MOBILENET_V3, "features.", r"classifier\.\d\..*")
# The source makes a shortcut for a unit without one.
_DRN = _torch([("conv1", "bn1", "conv1"), *jfzhang95.DRN_D], top=rf"{_TORCH_TOP}|layer7_0_downsample.*")

# backbone -> ways to read it: table of names, dialect, arrays that are left out, and the normalisation of its input
# where that isn't the backbone's own
WAYS: Registry[Any] = Registry(
    "backbone with ImageNet weights",
    {
        **{f"resnet{depth}": _torch(torchvision.RESNET) for depth in (18, 34, 50, 101, 152)},
        **{f"resnet{depth}_caffe": _torch(kazuto1011.RESNET) for depth in (50, 101, 152)},
        **{f"vgg{depth}{form}": _vgg(depth) for depth in (11, 13, 16, 19) for form in ("", "_caffe")},
        **{f"vgg{depth}_bn": _vgg(depth, norm=True) for depth in (11, 13, 16, 19)},
        "vgg16_coincheung": _vgg(16),
        "mobilenet_v2": [*_keras(_MOBILENET_V2), *_TF1],
        "mobilenet_v2_dm05": [*_keras(_MOBILENET_V2), *_TF1],
        "mobilenet_v2_torchvision": _torch(torchvision.MOBILENET_V2, "features."),
        "mobilenet_v2_vainf": _TORCH_MOBILENET_V2,
        "mobilenet_v2_jfzhang95": _TORCH_MOBILENET_V2,
        "mobilenet_v3_large": _TORCH_MOBILENET_V3,
        "mobilenet_v3_small": _TORCH_MOBILENET_V3,
        **{name: _DRN for name in BACKBONES if name.startswith("drn_")},
        **{name: _TF1 for name in ("xception", "xception_41", "xception_65", "xception_71")},
        **{name: _TF1 for name in ("resnet_v1_50_beta", "resnet_v1_101_beta")},
    },
)


def load_backbone(classifier: keras.Model, weights: Any, name: str, read: Callable[..., Any], stem: Any) -> Any:
    """Fills a registered backbone with ImageNet weights and returns it.

    Args:
        classifier: the backbone, built.
        weights: `"imagenet"` or another name of published weights, which are downloaded and cached; or the path of a
            file: of `keras.applications` with or without the top (`.h5`, `.weights.h5`), a classifier of torchvision
            or of the backbone's own source (`.pth`, `.safetensors`), a checkpoint of Google's slim.
        name: the backbone's registry key.
        read: function from a path to `{name: array}`.
        stem: adapts the first kernel to other channels, as `Plan.fill` takes it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ImageNet weights are known for this backbone, or the file's don't fit.
    """
    ways = WAYS[name]
    if weights == "imagenet" and name == "mobilenet_v2":
        arrays, label = _mobilenet_v2(classifier), "'imagenet'"
    else:
        if weights in named.NAMES and not os.path.exists(weights):
            weights = named.fetch(weights, named.BACKBONE, name)
        label = repr(os.fspath(weights))
        if not os.path.exists(weights) and not os.path.exists(f"{os.fspath(weights)}.index"):
            raise FileNotFoundError(
                f"backbone_weights={label}: there is no such file. Give 'imagenet' to download what is published for "
                "the backbone, or the path of a file."
            )
        try:
            arrays = unwrap(read(weights))
        except ValueError as error:
            raise ValueError(f"The weights in {label} don't fit {name!r}: {error}") from error
    first = next(variable.path for variable in classifier.weights if variable.path.endswith("/kernel"))
    constants = {"half": "features", "net": tf1.net(name)}
    expected = [their_name(first, table, dialect, **constants) for table, dialect, _, _ in ways]
    found = [way for way, stem in zip(ways, expected, strict=True) if stem in arrays]
    if not found:
        raise ValueError(
            f"The weights in {label} don't fit {name!r}: it should have an array {' or '.join(map(repr, expected))}, "
            f"and has {', '.join(map(repr, list(arrays)[:8])) or 'none'}."
        )
    table, dialect, left_out, normalised = found[0]
    plan = Plan("imagenet", None, tuple(table), dialect, constants, optional=left_out)
    renormalise = _renormalisation(normalised, BACKBONES[name].preprocessing)

    def adapt(arrays, variable):
        for change in filter(None, (renormalise, stem)):
            change(arrays, variable)

    return plan.fill(classifier, arrays, label, stem=adapt)


def _renormalisation(given, wanted):
    """A `stem` for `Plan.fill` that takes an input normalised as `wanted`, of weights that were trained on `given`.

    Exactly, but for the border: what a zero of the padding stands for is another colour.
    """
    if given in (None, wanted):
        return None

    def stem(arrays, variable):
        kernel, bias = arrays[variable.path], arrays[variable.path.replace("/kernel", "/bias")]
        (mean, scale, flip), (new_mean, new_scale, new_flip) = (_AFFINE[mode] for mode in (given, wanted))
        rgb = kernel[:, :, ::-1] if flip else kernel
        shift = ((new_mean - mean) / scale)[:, None]
        arrays[variable.path.replace("/kernel", "/bias")] = bias + (rgb * shift).sum(axis=(0, 1, 2)).astype(bias.dtype)
        rgb = (rgb * (new_scale / scale)[:, None]).astype(kernel.dtype)
        arrays[variable.path] = rgb[:, :, ::-1] if new_flip else rgb

    return stem


# normalisation -> mean and scale of R, G and B in 0..255, whether B comes first
_AFFINE = {
    "torch": (255 * np.array(preprocessing.MEAN), 255 * np.array(preprocessing.STD), False),
    "caffe": (np.array(preprocessing.CAFFE_MEAN[::-1]), np.ones(3), True),
    "caffe_deeplab": (np.array(preprocessing.DEEPLAB_CAFFE_MEAN[::-1]), np.ones(3), True),
}


def _mobilenet_v2(classifier):
    """`{name: array}` of the MobileNetV2 of keras.applications that is as wide; Keras downloads and caches it."""
    alpha = classifier.get_layer("Conv1").filters / 32
    settings = {"include_top": False, "weights": "imagenet", "input_shape": (224, 224, 3)}
    try:
        network = keras.applications.MobileNetV2(alpha=alpha, **settings)
    except ValueError:
        raise
    except Exception as error:  # whatever the network, a proxy or the disk raises, and Keras makes of it
        raise ValueError(
            f"backbone_weights='imagenet' can't be downloaded: {error}. Fetch that file by other means and give its "
            "path instead of 'imagenet'."
        ) from error
    return {variable.path: variable.numpy() for variable in network.weights}
