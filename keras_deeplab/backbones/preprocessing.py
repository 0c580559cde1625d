"""Pixels in 0..255 to what a network was trained on: the first layers of every model here."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_deeplab.specs import NORMALISATIONS

MODES = NORMALISATIONS
Mode = str | tuple[tuple[float, ...], tuple[float, ...]]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet in 0..1, RGB
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet in 0..255, BGR
DEEPLAB_CAFFE_MEAN = (104.008, 116.669, 122.675)  # the same, as DeepLab v1's and v2's Caffe networks subtract it
DETECTRON2_MEAN = (103.53, 116.28, 123.675)
_BGR_MEANS = {"caffe": CAFFE_MEAN, "caffe_deeplab": DEEPLAB_CAFFE_MEAN, "detectron2": DETECTRON2_MEAN}
FLIPPED = (*_BGR_MEANS, "bgr", "torch_bgr")  # blue first

# What the documentation of keras.applications asks for, by the start of the model's name (the longest that fits).
# None: the network has its own first layers for it.
_APPLICATIONS = {
    "convnext": None,
    "densenet": "torch",
    "efficientnet": None,
    "inception": "tf",
    "mobilenet_": "tf",
    "mobilenetv2_": "tf",
    "MobileNetV3": None,
    "nasnet": "tf",
    "NASNet": "tf",
    "resnet": "caffe",
    "resnet50v2": "tf",
    "resnet101v2": "tf",
    "resnet152v2": "tf",
    "vgg": "caffe",
    "xception": "tf",
}


def applications_mode(name: str) -> str | None:
    """The mode that a `keras.applications` network of this name expects; None for any other network."""
    fits = [prefix for prefix in _APPLICATIONS if name.startswith(prefix)]
    return _APPLICATIONS[max(fits, key=len)] if fits else None


def normalise(mode: Mode | None, channels: int = 3) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """A function from a Keras tensor of pixels in 0..255 to a normalised one.

    The means and deviations of the modes are those of red, green and blue. Of more channels these three are the first,
    and the others take the mean of the three; so does every channel where there are one or two.

    Args:
        mode: `"tf"` (to [-1, 1]), `"torch"` (ImageNet mean and deviation), `"caffe"` (BGR minus the mean),
            `"caffe_deeplab"` (the same with the mean of DeepLab v1 and v2), `"detectron2"` (the same with Detectron2's
            mean), `"bgr"` (BGR in 0..1), `"torch_bgr"` (BGR with the mean and deviation of RGB, as Detectron2's
            DeepLabs have it), None, or one's own (means, deviations), a number in 0..1 for each channel.
        channels: of the pixels.

    Raises:
        ValueError: any other mode, or other numbers of means and deviations than channels.
    """
    mode = checked(mode)
    if mode is None:
        return lambda x: x
    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocessing")
    if mode == "bgr":
        rescale = keras.layers.Rescaling(1 / 255, name="preprocessing")
    elif mode in _BGR_MEANS:
        mean = of_each(_BGR_MEANS[mode], channels)
        rescale = keras.layers.Rescaling(1.0, [-each for each in mean], name="preprocessing")
    else:
        rescale = _rescaling(mode, channels)
    if mode not in FLIPPED or channels < 3:
        return rescale
    order = [2, 1, 0, *range(3, channels)]
    return lambda x: rescale(keras.ops.flip(x, -1) if channels == 3 else keras.ops.take(x, order, -1))


def _rescaling(mode, channels):
    """Pixels less their means, divided by their deviations."""
    means, deviations = (of_each(MEAN, channels), of_each(STD, channels)) if isinstance(mode, str) else mode
    if len(means) != channels:
        raise ValueError(
            f"include_preprocessing has {len(means)} means and deviations, and the images {channels} channels."
        )
    return keras.layers.Rescaling(*_scale_and_offset(means, deviations), name="preprocessing")


def _scale_and_offset(means: Sequence[float], deviations: Sequence[float]) -> tuple[list[float], list[float]]:
    """What pixels in 0..255 are multiplied by, and what is added then, for means and deviations in 0..1."""
    offset = [-mean / deviation for mean, deviation in zip(means, deviations, strict=True)]
    return [1 / (255 * deviation) for deviation in deviations], offset


def mode_of(scale: Sequence[float], offset: Sequence[float]) -> Mode | None:
    """The normalisation that multiplies pixels in 0..255 by `scale` and adds `offset`, a number for each channel.

    >>> mode_of([1 / 127.5] * 3, [-1.0] * 3), mode_of([1 / 255] * 3, [0.0] * 3)
    ('tf', ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    """
    if set(scale) == {1.0} and not any(offset):
        return None
    deviations = [1 / (255 * each) for each in scale]
    means = [-each * deviation or 0.0 for each, deviation in zip(offset, deviations, strict=True)]
    named = {"tf": ((0.5,) * 3, (0.5,) * 3), "torch": (MEAN, STD)}
    for name, (mean, std) in named.items():
        if all(map(math.isclose, [*means, *deviations], [*mean, *std])):
            return name
    # As they are written: 1 / 255 / (1 / 255) is not always 1.
    return tuple(round(each, 12) for each in means), tuple(round(each, 12) for each in deviations)


def linear(mode: Mode | None) -> tuple[list[float], list[float]]:
    """A normalisation of three channels that flips none to (scale, offset), as `mode_of` takes them."""
    if mode is None:
        return [1.0] * 3, [0.0] * 3
    named = {"tf": ((0.5,) * 3, (0.5,) * 3), "torch": (MEAN, STD)}
    return _scale_and_offset(*(named[mode] if isinstance(mode, str) else mode))


def of_each(values: Sequence[float], channels: int) -> list[float]:
    """What RGB has, for any number of channels; see `normalise`.

    >>> of_each((1.0, 2.0, 6.0), 4)
    [1.0, 2.0, 6.0, 3.0]
    """
    known = list(values) if channels >= 3 else []
    return known + [sum(values) / 3] * (channels - len(known))


def checked(mode: Any) -> Mode | None:
    """A normalisation as records have it: a name, None, or ((means), (deviations)).

    Raises:
        ValueError: it is none.
    """
    if mode is None or mode in MODES:
        return mode
    try:
        means, deviations = (tuple(float(number) for number in part) for part in mode)
        right = len(means) == len(deviations) > 0 and all(map(math.isfinite, means)) and min(deviations) > 0
    except (TypeError, ValueError):
        right = False
    if not right or isinstance(mode, str):
        raise ValueError(
            f"include_preprocessing is True, False, {', '.join(map(repr, MODES[:-1]))} or {MODES[-1]!r}, or (means, "
            f"deviations) with a number in 0..1 for each channel; received {mode!r}."
        )
    return means, deviations


def told(mode: Mode | None) -> str:
    """A normalisation in words.

    >>> told("tf"), told(((0.5, 0.25), (0.5, 0.5)))
    ('tf', 'means 0.5, 0.25 and deviations 0.5, 0.5, of pixels in 0..1')
    """
    if mode is None or isinstance(mode, str):
        return mode or "none: it takes normalised images"
    means, deviations = (", ".join(f"{number:g}" for number in part) for part in mode)
    return f"means {means} and deviations {deviations}, of pixels in 0..1"
