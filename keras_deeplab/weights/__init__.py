"""Checkpoints into models: what a file holds, the model for it, and every array in its place."""

import os
import warnings
from collections.abc import Mapping

import keras

from keras_deeplab.weights import applications, named, tf1
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.files import kind_of

_SOURCES = ("auto", "tf1", "keras")


def load(
    checkpoint,
    source="auto",
    output_stride=16,
    num_classes=None,
    include_preprocessing=True,
    upsample_logits=True,
    input_shape=(None, None, 3),
):
    """Maps a DeepLab checkpoint to a `keras.Model` that computes exactly what it was trained to compute.

    Architecture, backbone, width and number of classes are read off the names and shapes of the arrays. Loading is
    strict: every array is used, every variable filled.

    Args:
        checkpoint: one of
            - a `.keras` file written by this package,
            - a checkpoint of Google's DeepLab for TensorFlow 1: its prefix (`.../model.ckpt-30000`), its `.index`
              file, the folder it is in, or an official `.tar.gz` archive,
            - a mapping from names to arrays, as such a checkpoint holds,
            - the name of published weights (`"pascal_voc"`), which are downloaded.
        source: `"auto"`, `"tf1"` or `"keras"`: who wrote it.
        output_stride: stride of the backbone's deepest feature map: 8, 16 or 32, whatever it was trained with. A
            `.keras` file has its own.
        num_classes: None for the checkpoint's own. Another number keeps everything but the last layer, which is left
            freshly initialised, with a warning.
        include_preprocessing: whether the model takes pixels in 0..255 and normalises them itself.
        upsample_logits: whether the logits are resized to the input's size.
        input_shape: (height, width, channels) of the model's input.

    Returns:
        A functional `keras.Model` from images (B, H, W, 3) to float32 logits (B, H, W, num_classes).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is nothing that is read here, or arrays are missing, left over or of another shape; the
            message lists them all.

    Example (needs the file)::

        model = keras_deeplab.load("deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz", output_stride=8)
    """
    if source not in _SOURCES:
        raise ValueError(f"source must be one of {', '.join(map(repr, _SOURCES))}; received {source!r}.")
    if isinstance(checkpoint, Mapping):
        arrays, label = checkpoint, "the given mapping"
    else:
        path = _resolve(checkpoint)
        kind = kind_of(path) if source == "auto" else source
        if kind == "keras":
            model = keras.models.load_model(path, compile=False)
            if num_classes not in (None, model.output_shape[-1]):
                raise ValueError(
                    f"{path} has {model.output_shape[-1]} classes, {num_classes} were asked for. A .keras file keeps "
                    "its own: build the model with that number and give the file as weights= instead."
                )
            return model
        arrays, label = tf1.read(path), str(path)
    plan = tf1.recognise(arrays, label)
    classes = plan.num_classes if num_classes is None else num_classes
    model = plan.build(
        num_classes=classes,
        output_stride=output_stride,
        include_preprocessing=include_preprocessing,
        upsample_logits=upsample_logits,
        input_shape=input_shape,
    )
    fresh = ()
    if classes != plan.num_classes:
        warnings.warn(
            f"{label} has {plan.num_classes} classes and {classes} were asked for: the last layer ('logits') starts "
            "from fresh values, everything else is loaded.",
            stacklevel=2,
        )
        fresh = ("logits",)
    return assign(model, tf1.translate(arrays), label, fresh_layers=fresh)


def load_weights(model, weights, family, backbone):
    """Fills a model of this package from `weights`: a path, or the name of published weights. Strict, like `load`."""
    path = _resolve(weights, family=family, backbone=backbone)
    if str(path).endswith(".weights.h5"):
        model.load_weights(path)
        return model
    if kind_of(path) == "keras":
        other = keras.models.load_model(path, compile=False)
        return assign(model, {variable.path: variable.numpy() for variable in other.weights}, str(path))
    return assign(model, tf1.translate(tf1.read(path)), str(path))


def load_backbone(classifier, weights, name):
    """Fills a registered backbone from ImageNet weights: `"imagenet"` (downloaded) or the path of a file of them."""
    if not isinstance(name, str):
        raise ValueError(
            f"backbone_weights={weights!r} goes with a backbone given by name. The classifier {classifier.name!r} "
            "was given with its weights: load them into it first."
        )
    return applications.load_backbone(classifier, weights, name)


def _resolve(checkpoint, family=None, backbone=None):
    """A path that exists, from a path or the name of published weights."""
    path = os.fspath(checkpoint)
    if path in named.NAMES and not os.path.exists(path):
        return named.fetch(path, family=family, backbone=backbone)
    return path
