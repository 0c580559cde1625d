"""Arrays into networks that are there: a whole model's, a backbone's, and those of an image with other channels."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras  # ADDED
import numpy as np

from keras_deeplab._helpers.warning import warn
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.backbones.preprocessing import FLIPPED
from keras_deeplab.registry import Registry
from keras_deeplab.specs import Classes, ModelSpec
from keras_deeplab.weights import applications, own
from keras_deeplab.weights.beside import agree
from keras_deeplab.weights.classes import agreed
from keras_deeplab.weights.opening import opened, read, resolve
from keras_deeplab.weights.sources import match


def load_weights(model: Any, weights: str | os.PathLike[str]) -> ModelSpec:
    """Fills a model of this package from `weights`: a path, or the name of published weights. Strict, like `load`.

    Args:
        model: `SegmentationModel`, whose record names the builder and the backbone that published weights are of.

    Returns:
        Its record with what is known of it with these weights: its classes, the range of its images.
    """
    path, known = resolve(weights, family=model.spec.builder, backbone=model.spec.backbone)
    with opened(path) as stored:
        if stored.graph is not None:
            raise ValueError(
                f"{stored.path} is an ONNX file, whose weights belong to the network that its operators tell: "
                "keras_deeplab.load gives it, and keras-deeplab convert writes it as a .keras file for weights=."
            )
        spec = None if stored.network is None else own.record(stored)
        if spec is not None:
            known = spec.classes
        if stored.network is not None or stored.path.endswith(".weights.h5"):
            known = agreed(stored.path, known, model.spec.classes)
            own.fill(model, stored)
        else:
            plan, arrays = match(stored.arrays, stored.path, configs=stored.configs)
            plan.agrees(model.spec, stored.path)
            agree(plan.beside, model.spec.preprocessing, stored.path)
            known = agreed(stored.path, plan.spec.classes if known == Classes() else known, model.spec.classes)
            plan.fill(model, arrays, stored.path)
            spec = plan.spec
    return replace(model.spec, classes=known, image_range=None if spec is None else spec.image_range)


def load_backbone(classifier: keras.Model, weights: Any, name: Any) -> Any:
    """Fills a registered backbone from ImageNet weights: `"imagenet"` (downloaded) or the path of a file of them."""
    if not isinstance(name, str):
        raise ValueError(
            f"backbone_weights={weights!r} goes with a backbone given by name. The classifier {classifier.name!r} "
            "was given with its weights: load them into it first."
        )
    stem = stem_for(None, f"backbone_weights={str(weights)!r}", BACKBONES[name].preprocessing)
    return applications.load_backbone(classifier, weights, name, read, stem)


# Other input channels than the checkpoint's -------------------------------------------------------------------------


def _mean(kernel, channels):
    return np.repeat(kernel.mean(axis=2, keepdims=True), channels, axis=2)


def _sum(kernel, channels):
    return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)


def _repeat(kernel, channels):
    stored = kernel.shape[2]
    return kernel[:, :, np.arange(channels) % stored] * (stored / channels)


def _zero(kernel, channels):
    stored = kernel.shape[2]
    if channels < stored:
        raise ValueError(f"stem='zero' adds channels: {channels} are fewer than the checkpoint's {stored}.")
    return np.pad(kernel, ((0, 0), (0, 0), (0, channels - stored), (0, 0)))


# (kernel (h, w, stored channels, filters), channels) -> kernel (h, w, channels, filters)
STEMS: Registry[Callable[..., np.ndarray]] = Registry("stem", mean=_mean, sum=_sum, repeat=_repeat, zero=_zero)


def stem_for(mode: Any, label: str, preprocessing: Any) -> Any:
    """A `stem` for `Plan.fill` that adapts the kernel to the model's channels.

    Args:
        mode: key of `STEMS`; None for `"zero"` where channels are added, else `"sum"`.
        label: what the kernel came from, for messages.
        preprocessing: how the model normalises its images.
    """
    flipped = preprocessing in FLIPPED  # blue first; the other channels stay behind the three

    def stem(arrays, variable):
        stored, channels = arrays[variable.path].shape[2], variable.shape[2]
        if stored != channels:
            chosen = mode or ("zero" if channels > stored else "sum")
            warn(
                f"{label} has {stored} input channels and {channels} were asked for: the first convolution's kernel "
                f"was adapted by stem={chosen!r}."
            )
            kernel = arrays[variable.path]
            kernel = _blue_first(kernel) if flipped else kernel
            adapted = STEMS[chosen](kernel, channels).astype(kernel.dtype)
            arrays[variable.path] = _blue_first(adapted) if flipped else adapted

    return stem


def _blue_first(kernel):
    """The first three channels of a kernel the other way round, of those that have so many."""
    order = [2, 1, 0, *range(3, kernel.shape[2])] if kernel.shape[2] >= 3 else [*range(kernel.shape[2])]
    return kernel[:, :, order]
