"""The JSON files that hubs put beside weights: their settings, each checked, and what processors do to pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_deeplab.backbones import preprocessing


class Settings:
    """What a JSON file says, by names and with the defaults of the code that wrote it.

    Every method raises a ValueError that names the file and the setting where the value isn't one that is built here.
    """

    def __init__(self, values: Mapping[str, Any], file: str) -> None:
        self._values, self._file = values, file

    def value(self, name: str, default: Any) -> Any:
        """What stands there, or the default."""
        return self._values.get(name, default)

    def refused(self, name: str, expected: str) -> ValueError:
        """The error of a setting that isn't as `expected` says."""
        return ValueError(f"its {self._file} says {name}={self._values.get(name)!r}; what can be built: {expected}")

    def switch(self, name: str, default: Any) -> bool:
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self.refused(name, "true or false")
        return value

    def number(self, name: str, default: Any, least: Any = 0.0, most: Any = math.inf) -> Any:
        """A finite number larger than `least` and at most `most`."""
        value = self.value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least < value <= most:
            raise self.refused(name, f"a number above {least:g}" + (f" up to {most:g}" if most < math.inf else ""))
        return value

    def whole(self, name: str, default: Any, least: Any = 1, most: Any = 1 << 20) -> Any:
        value = self.value(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refused(name, f"a whole number from {least} to {most}")
        return value

    def wholes(self, name: str, default: Any, count: Any, least: Any = 1, most: Any = 1 << 20) -> Any:
        value = self.value(name, default)
        fits = isinstance(value, list | tuple) and len(value) == count
        if not fits or any(type(each) is not int or not least <= each <= most for each in value):
            raise self.refused(name, f"{count} whole numbers from {least} to {most}")
        return tuple(value)

    def text(self, name: str, default: Any, known: Any) -> Any:
        """One of the texts in `known`, to what stands beside it there."""
        value = self.value(name, default)
        if not isinstance(value, str) or value not in known:
            raise self.refused(name, ", ".join(map(repr, known)))
        return known[value]

    def fixed(self, **values: Any) -> None:
        """Raises where a setting has another value than the only one that is built."""
        for name, only in values.items():
            if self.value(name, only) != only:
                raise self.refused(name, repr(only))


# Names of activations in transformers -> in Keras. Others of the same name are other functions (leaky_relu).
ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "linear": "linear",
}


def theirs(activation: Any) -> Any:
    """The name in transformers of an activation of Keras."""
    return next(name for name, ours in ACTIVATIONS.items() if ours == activation)


# Processors of images ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Processor:
    """A class of transformers that makes a network's input of an image, with its defaults.

    `name` without "ImageProcessor"; `normalises` whether it subtracts a mean and divides by a deviation where nothing
    else is asked for, None where it never does; `flips` likewise whether it turns RGB to BGR; `size`, `crop` what it
    scales and cuts images to, which loading leaves to the caller.
    """

    name: str
    normalises: bool | None
    flips: bool | None
    size: dict
    crop: dict
    resample: int


def mode_of_processor(settings: Any, processor: Any) -> Any:
    """How a `preprocessor_config.json` normalises pixels in 0..255, as `preprocessing.normalise` takes it."""
    written = settings.value("image_processor_type", settings.value("feature_extractor_type", processor.name))
    name = str(written).removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if name.lower() != processor.name.lower():
        kind = "image_processor_type" if settings.value("image_processor_type", None) else "feature_extractor_type"
        raise settings.refused(kind, f"{processor.name}ImageProcessor, whose rules are known")
    scale, offset = [1.0] * 3, [0.0] * 3
    if settings.switch("do_rescale", True):
        scale = [settings.number("rescale_factor", 1 / 255)] * 3
    if processor.normalises is not None and settings.switch("do_normalize", processor.normalises):
        mean, deviation = (
            _three(settings, name, least) for name, least in (("image_mean", -math.inf), ("image_std", 0.0))
        )
        offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
        scale = [s / d for s, d in zip(scale, deviation, strict=True)]
    mode = preprocessing.mode_of(scale, offset)
    if processor.flips is None or not settings.switch("do_flip_channel_order", processor.flips):
        return mode
    if mode != ((0.0,) * 3, (1.0,) * 3):
        raise settings.refused("rescale_factor", "1/255 where do_flip_channel_order is true")
    return "bgr"


def _three(settings, name, least):
    """A mean or deviation of three channels, which may stand there as one number."""
    value = settings.value(name, [0.5] * 3)
    numbers = value if isinstance(value, list) else [value] * 3
    plain = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    if len(numbers) != 3 or not plain or not all(least < number < math.inf for number in numbers):
        raise settings.refused(name, "three numbers" + " above 0" * (least == 0))
    return numbers


def processor_of_mode(mode: Any, processor: Any) -> Any:
    """A mode of normalisation to the `preprocessor_config.json` of a processor that does it.

    Raises:
        ValueError: the processor can't.
    """
    flips = mode in preprocessing.FLIPPED
    if flips and mode != "bgr":
        raise ValueError(f"{processor.name}ImageProcessor can't normalise as the model does, by {mode!r}")
    scale, offset = preprocessing.linear(((0.0,) * 3, (1.0,) * 3) if flips else mode)
    config = {
        "image_processor_type": f"{processor.name}ImageProcessor",
        "do_resize": True,
        "size": processor.size,
        "resample": processor.resample,
        "do_center_crop": True,
        "crop_size": processor.crop,
        "do_rescale": mode is not None,
        "rescale_factor": 1 / 255,
    }
    if processor.normalises is None:
        if mode is not None and (any(offset) or len(set(scale)) > 1):
            told = preprocessing.told(mode)
            raise ValueError(f"{processor.name}ImageProcessor only scales pixels; the model normalises by {told}")
        config["rescale_factor"] = scale[0]
    else:
        config["do_normalize"] = mode is not None
        config["image_std"] = [1 / (255 * s) for s in scale]
        config["image_mean"] = [-o / (255 * s) for s, o in zip(scale, offset, strict=True)]
    if processor.flips is None and flips:
        raise ValueError(f"{processor.name}ImageProcessor keeps the order of channels; the model flips it ({mode!r})")
    if processor.flips is not None:
        config["do_flip_channel_order"] = flips
    return config
