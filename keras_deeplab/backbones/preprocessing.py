"""Pixels in 0..255 to what a network was trained on: the first layers of every model here."""

import json
import re
from collections.abc import Callable, Sequence

import keras
import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet in 0..1, RGB
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of ImageNet in 0..255, BGR
DEEPLAB_CAFFE_MEAN = (104.008, 116.669, 122.675)  # the same, as DeepLab v1's and v2's Caffe networks subtract it
# scale and offset of `"torch"`
_TORCH = [1 / (255 * std) for std in STD], [-mean / std for mean, std in zip(MEAN, STD, strict=True)]

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


# A normalisation that has no name: "x*[a, b, c]+[d, e, f]", with " of BGR" for channels in that order.
_LINEAR = re.compile(r"x\*(?P<scale>\[[^\]]*\])\+(?P<offset>\[[^\]]*\])(?P<bgr> of BGR)?")


def normalise(mode: str | None) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """A function from a Keras tensor of RGB pixels in 0..255 to a normalised one.

    Args:
        mode: `"tf"` (to [-1, 1]), `"torch"` (ImageNet mean and deviation), `"caffe"` (BGR minus the mean),
            `"caffe_deeplab"` (the same with the mean of DeepLab v1 and v2), what `mode_of` gives, or None.

    Raises:
        ValueError: any other mode.
    """
    if mode is None:
        return lambda x: x
    scale, offset, bgr = linear(mode)
    layer = keras.layers.Rescaling(_one(scale), _one(offset), name="preprocessing")
    return (lambda x: layer(keras.ops.flip(x, axis=-1))) if bgr else layer


def _one(numbers: list[float]) -> list[float] | float:
    """A number for every channel alike, where they are."""
    return numbers[0] if len(set(numbers)) == 1 else numbers


def fits_any_channels(mode: str | None) -> bool:
    """Whether a mode does the same to every channel, however many there are."""
    scale, offset, bgr = linear(mode)
    return not bgr and len(set(scale)) == len(set(offset)) == 1


def mode_of(scale: Sequence[float], offset: Sequence[float], bgr: bool = False) -> str | None:
    """The mode that multiplies pixels in 0..255 by `scale` and adds `offset`, a number for each channel.

    Args:
        bgr: whether the channels stand in the order blue, green, red.

    Returns:
        A name where there is one, or text that says it all.

    >>> mode_of([1 / 127.5] * 3, [-1.0] * 3), mode_of([1 / 255] * 3, [0.0] * 3, bgr=True)
    ('tf', 'x*[0.00392156863, 0.00392156863, 0.00392156863]+[0, 0, 0] of BGR')
    """
    named = {"tf": ([1 / 127.5] * 3, [-1.0] * 3), "torch": _TORCH, None: ([1.0] * 3, [0.0] * 3)}
    for name, numbers in named.items():
        if not bgr and np.allclose((scale, offset), numbers, rtol=1e-6, atol=1e-7):
            return name
    parts = ["[" + ", ".join(f"{number:.9g}" for number in numbers) + "]" for numbers in (scale, offset)]
    return f"x*{parts[0]}+{parts[1]}" + " of BGR" * bgr


def linear(mode: str | None) -> tuple[list[float], list[float], bool]:
    """A mode to (scale, offset, whether channels stand in the order BGR): what `mode_of` takes.

    Raises:
        ValueError: there is no such mode.
    """
    if mode is None:
        return [1.0] * 3, [0.0] * 3, False
    if mode == "tf":
        return [1 / 127.5] * 3, [-1.0] * 3, False
    if mode == "torch":
        return *map(list, _TORCH), False
    if mode in ("caffe", "caffe_deeplab"):
        mean = CAFFE_MEAN if mode == "caffe" else DEEPLAB_CAFFE_MEAN
        return [1.0] * 3, [-channel for channel in mean], True
    found = _LINEAR.fullmatch(mode) if isinstance(mode, str) else None
    try:
        scale, offset = (json.loads(found[part]) for part in ("scale", "offset"))
        return [float(number) for number in scale], [float(number) for number in offset], found["bgr"] is not None
    except (TypeError, ValueError):
        raise ValueError(
            "include_preprocessing is True, False, 'tf', 'torch', 'caffe', 'caffe_deeplab' or, for any other scale "
            f"and offset, text such as 'x*[0.004, 0.004, 0.004]+[0, 0, 0] of BGR'; received {mode!r}."
        ) from None
