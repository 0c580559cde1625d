"""ImageNet weights in the layout of keras.applications, for the backbones that share its layers."""

import os

import keras

from keras_deeplab.registry import Registry
from keras_deeplab.weights.assign import assign


def _mobilenet_v2(classifier, weights):
    alpha = classifier.get_layer("Conv1").filters / 32
    return keras.applications.MobileNetV2(
        alpha=alpha, include_top=False, weights=weights, input_shape=(224, 224, 3), name="imagenet"
    )


# backbone -> (the same network in keras.applications, its layers that DeepLab drops, its layers of other names)
_NETWORKS = Registry(
    "backbone with ImageNet weights",
    {"mobilenet_v2": (_mobilenet_v2, ("Conv_1", "Conv_1_bn"), {"bn_Conv1": "Conv1_BN"})},
)


def load_backbone(classifier, weights, name):
    """Fills a registered backbone with ImageNet weights of `keras.applications` and returns it.

    Args:
        classifier: the backbone, built.
        weights: `"imagenet"`, which Keras downloads and caches, or the path of an `.h5` file without the top.
        name: the backbone's registry key.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ImageNet weights are known for this backbone, or the file's don't fit.
    """
    build, dropped, renamed = _NETWORKS[name]
    if weights != "imagenet" and not os.path.isfile(weights):
        raise FileNotFoundError(
            f"backbone_weights={os.fspath(weights)!r}: there is no such file. Give 'imagenet' to download them, or the "
            "path of a keras.applications file without the top (..._no_top.h5)."
        )
    network = build(classifier, "imagenet" if weights == "imagenet" else None)
    if weights != "imagenet":
        try:
            network.load_weights(weights)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"The weights in {os.fspath(weights)!r} don't fit {name!r}: {error}") from error
    arrays = {}
    for variable in network.weights:
        layer, _, rest = variable.path.rpartition("/")
        if layer not in dropped:
            arrays[f"{renamed.get(layer, layer)}/{rest}"] = variable.numpy()
    return assign(classifier, arrays, str(weights))
