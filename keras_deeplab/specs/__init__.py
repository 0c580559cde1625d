"""Frozen records: what a model is and what its classes are. They travel with models and lie in every file.

Plain values that JSON holds, so that whatever reads a file needs neither Keras nor NumPy to know what is in it.
"""

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, cast

from keras_deeplab._helpers.values import from_json, plain

__all__ = ["IGNORED", "Classes", "FileSpec", "ModelSpec", "default_colors", "label_map"]

FORMAT = 1  # of the JSON; a file of a later one is refused rather than half understood
IGNORED = 255
# Where a .weights.h5 file has the network, as JSON, so that `keras_deeplab.load` needs nothing else.
NETWORK = "keras_deeplab/network"
ALIGN_CORNERS, HALF_PIXEL_CENTERS, ASYMMETRIC = RESIZES = ("align_corners", "half_pixel_centers", "asymmetric")
ACTIVATIONS = (None, "softmax", "sigmoid")
# How a model normalises pixels, by name: `keras_deeplab.backbones.preprocessing.normalise`.
NORMALISATIONS = ("tf", "torch", "caffe", "caffe_deeplab", "detectron2", "bgr", "torch_bgr")
LOGITS, AUXILIARY = "logits", "auxiliary_logits"

Color = tuple[int, int, int]


def default_colors(count: int) -> tuple[Color, ...]:
    """The first `count` of 256 colours that are far from each other, black first: the colour map of PASCAL VOC's kit.

    They are given to classes without colours of their own and say nothing of what the classes are.

    >>> default_colors(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """
    colors = []
    for label in range(count):
        color = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                color[channel] |= (label >> (3 * place + channel) & 1) << (7 - place)
        colors.append((color[0], color[1], color[2]))
    return tuple(colors)


@dataclass(frozen=True)
class Classes:
    """The classes of a model or of a data set: their names and colours in the order of the labels, what is ignored.

    Attributes:
        names: a name for each label; None where nothing tells them.
        colors: (red, green, blue) in 0..255 for each label; None for `default_colors`.
        ignore_label: the label that is neither learnt nor scored.

    Raises:
        ValueError: a name stands twice, is empty or has a line break, a colour isn't three numbers in 0..255, or there
            isn't a colour for each name.

    >>> Classes(("background", "leaf")).labels(2), Classes().labels(2)
    (('background', 'leaf'), ('class 0', 'class 1'))
    """

    names: tuple[str, ...] | None = None
    colors: tuple[Color, ...] | None = None
    ignore_label: int = IGNORED

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            raise ValueError(
                f"names must be a list of class names, one for each label; received the text {self.names!r}"
            )
        if self.names is not None:
            if not isinstance(self.names, Iterable):
                raise ValueError(f"names must be a list of class names, one for each label; received {self.names!r}")
            names = tuple(str(name) for name in self.names)
            object.__setattr__(self, "names", names)
            twice = sorted({name for name in names if names.count(name) > 1})
            if not names or twice or any(not name.strip() or "\n" in name or "\r" in name for name in names):
                raise ValueError(
                    "classes must be one or more names, each once and a line of text; received "
                    + (f"{', '.join(map(repr, twice))} more than once" if twice else repr(list(names)))
                )
        if self.colors is not None:
            try:
                colors = tuple(tuple(operator.index(part) for part in color) for color in self.colors)
            except TypeError:  # no list, or no whole numbers
                colors = ((),)
            if any(len(color) != 3 or min(color) < 0 or max(color) > 255 for color in colors):
                raise ValueError(
                    f"colors must be (red, green, blue) in 0..255 for each class; received {_short(self.colors)}"
                )
            if self.names is not None and len(colors) < len(self.names):
                raise ValueError(f"there are {len(colors)} colours for {len(self.names)} classes; give one for each")
            if self.names is not None:
                colors = colors[: len(self.names)]
            object.__setattr__(self, "colors", colors)
        if isinstance(self.ignore_label, bool) or not isinstance(self.ignore_label, int):
            raise ValueError(f"ignore_label must be a whole number; received {_short(self.ignore_label)}")

    @classmethod
    def of(cls, classes: "Classes | Sequence[str] | None") -> "Classes":
        """A `Classes`, class names, or None where nothing is known, to a `Classes`."""
        return classes if isinstance(classes, Classes) else cls(None if classes is None else cast(tuple, classes))

    def labels(self, count: int) -> tuple[str, ...]:
        """The names of `count` labels, `"class 0"` and so on where nothing tells them."""
        if self.names is not None and len(self.names) == count:
            return self.names
        return tuple(f"class {label}" for label in range(count))

    def palette(self, count: int = 256) -> tuple[Color, ...]:
        """A colour for each of `count` labels: the classes' own, then the default ones."""
        return ((self.colors or ()) + default_colors(max(count, 256))[len(self.colors or ()) :])[:count]

    def checked(self, count: int, of: str = "the model") -> "Classes":
        """This, if it has a name and a colour for each of `count` labels or none at all.

        Raises:
            ValueError: there are more or fewer.
        """
        for what, values in (("class names", self.names), ("colours", self.colors)):
            if values is not None and len(values) != count:
                shown = ", ".join(map(str, values[:6])) + (", ..." if len(values) > 6 else "")
                raise ValueError(f"received {len(values)} {what} ({shown}), and {of} has {count} classes: give {count}")
        return self


def checked_range(value: Any) -> tuple[float, float]:
    """Two numbers, the first below the second, as floats; ValueError for anything else.

    >>> checked_range((0, 4095))
    (0.0, 4095.0)
    """
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"image_range must be two numbers, the first below the second; received {value!r}")
    return low, high


def range_text(value: tuple[float, float]) -> str:
    """A record's `image_range` in words.

    >>> range_text((0.0, 4095.0))
    '0 to 4095 become 0 to 255'
    """
    return "{:g} to {:g} become 0 to 255".format(*value)


def label_map(
    data: Classes, model: Classes, mapping: Mapping[str, str | None] | str | None = None
) -> tuple[int, ...] | None:
    """The model's label for each label of a data set, compared by name; None where they are the same labels.

    Args:
        data, model: classes of both. Where one of them has no names, nothing can be compared: None is returned, and
            the numbers of classes are the caller's to check.
        mapping: None to accept the same names in the same order only; `"names"` to pair labels by name, whatever their
            order, and ignore those that the model doesn't have; a dict from names of the data to names of the model
            (None to ignore), for the rest as `"names"`.

    Returns:
        A tuple with a label, or `model.ignore_label`, for each of the data's.

    Raises:
        ValueError: the classes differ and no mapping is given, a name in it is unknown, or nothing is left.

    >>> label_map(Classes(("sky", "road")), Classes(("road", "sky")), "names")
    (1, 0)
    """
    if data.names is None or model.names is None:
        if mapping is None:
            return None
        raise ValueError(
            f"classes can't be mapped by name, because {'the data' if data.names is None else 'the model'} doesn't "
            "tell its names: give them (classes=, --classes FILE)"
        )
    if mapping is None:
        if data.names == model.names:
            return None
        same = set(data.names) == set(model.names)
        raise ValueError(
            f"the data's classes are not the model's{', though the names are the same: their order differs' * same}. "
            f"Data: {', '.join(data.names)}. Model: {', '.join(model.names)}. Pair them by name "
            '(class_map="names", --class-map names), or say which is which (class_map={"data\'s name": "model\'s '
            'name"}, --class-map "DATA=MODEL,..."; an empty name ignores)'
        )
    renamed = {} if isinstance(mapping, str) else dict(mapping)
    if isinstance(mapping, str) and mapping != "names":
        raise ValueError(f"class_map must be None, 'names' or a dict of names; received {mapping!r}")
    unknown = [name for name in renamed if name not in data.names]
    unknown += [name for name in renamed.values() if name is not None and name not in model.names]
    if unknown:
        raise ValueError(
            f"class_map names {', '.join(map(repr, unknown))}, which neither side has there. Data: "
            f"{', '.join(data.names)}. Model: {', '.join(model.names)}."
        )
    targets = [renamed.get(name, name) for name in data.names]
    labels = tuple(
        model.names.index(name) if name is not None and name in model.names else model.ignore_label for name in targets
    )
    if all(label == model.ignore_label for label in labels):
        raise ValueError(
            f"no class of the data is one of the model's. Data: {', '.join(data.names)}. Model: "
            f"{', '.join(model.names)}."
        )
    return labels


@dataclass(frozen=True)
class ModelSpec:
    """What a segmentation model is. Written once by what built it, read by every door.

    Attributes:
        num_classes: channels of its logits; None for a network without a classifier. One channel is a binary model
            with two labels, 0 and 1.
        channels: of its images.
        builder, backbone, flavour, output_stride: the arguments it was built with, as names; `backbone` is a key of
            `keras_deeplab.BACKBONES` or the name of somebody's classifier. None where nothing tells.
        settings, backbone_settings: the builder's and the backbone's other arguments.
        preprocessing: how it normalises pixels in 0..255 itself, such as `"tf"` or `"torch"`, or (means, deviations) of
            its channels in 0..1; None for not at all, so that it is fed what its backbone was.
        image_range: of files of more than 8 bits, the two numbers that became 0 and 255 when it was trained, such as
            (0, 4095) for a camera of 12 bits; None where it was trained on 8 bits, or nothing tells.
        classes: their names, colours and the ignored label.
        logits_stride: the stride of its output: 1 where it has the images' size; None where nothing tells.
        resize: how coarser logits are brought to the images' size: `"align_corners"`, `"half_pixel_centers"` or
            `"asymmetric"` (neither of them, as `keras_deeplab.layers.ResizeBilinear` has it).
        activation: what its outputs have been through: None for logits, `"softmax"` or `"sigmoid"`.
        multi_label: whether each class is decided by itself, so that a pixel may have several or none; always where
            the activation of several is `"sigmoid"`, and never of one class.
        outputs: what it returns, in order: `"logits"`, then perhaps `"auxiliary_logits"`, for training alone.
        head: the paths of the layers behind the backbone that have variables.
        widths: of a pruned network, how many channels convolutions have that its builder gives another number, by
            their names.
    """

    num_classes: int | None
    channels: int = 3
    builder: str | None = None
    backbone: str | None = None
    flavour: str | None = None
    output_stride: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    backbone_settings: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: str | tuple[tuple[float, ...], tuple[float, ...]] | None = None
    image_range: tuple[float, float] | None = None
    classes: Classes = field(default_factory=Classes)
    logits_stride: int | None = None
    resize: str = ALIGN_CORNERS
    activation: str | None = None
    multi_label: bool = False
    outputs: tuple[str, ...] = (LOGITS,)
    head: tuple[str, ...] = ()
    widths: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in (("resize", RESIZES), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(repr, allowed))}; received {getattr(self, name)!r}"
                )
        for name in ("num_classes", "channels", "output_stride", "logits_stride"):
            value = getattr(self, name)
            if value is None and name != "channels":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer; received {value!r}")
        for names, kind, what in _TYPES:
            for name in names:
                if not kind(getattr(self, name)):
                    raise ValueError(f"{name} must be {what}; received {_short(getattr(self, name))}")
        if self.image_range is not None:
            object.__setattr__(self, "image_range", checked_range(self.image_range))
        several = self.num_classes != 1
        object.__setattr__(self, "multi_label", several and (self.multi_label or self.activation == "sigmoid"))
        if not self.outputs or self.outputs[0] != LOGITS:
            raise ValueError(f"outputs must begin with {LOGITS!r}; received {self.outputs!r}")
        if self.num_labels is not None:
            self.classes.checked(self.num_labels)

    @property
    def num_labels(self) -> int | None:
        """How many labels its answers have: two for a single channel, else one for each."""
        return 2 if self.num_classes == 1 else self.num_classes

    @property
    def binary(self) -> bool:
        """Whether one channel tells label 1 from label 0."""
        return self.num_classes == 1

    @property
    def exclusive(self) -> bool:
        """Whether a pixel has one class, that of the greatest score; otherwise each class is decided by itself."""
        return not (self.binary or self.multi_label)

    @property
    def probability(self) -> str:
        """The activation that makes probabilities of its logits: `"softmax"` or `"sigmoid"`."""
        return "softmax" if self.exclusive else "sigmoid"

    @property
    def label_dtype(self) -> str:
        """The smaller of `"uint8"` and `"int32"` that holds every label it gives."""
        highest = max(self.num_labels or 0, self.classes.ignore_label + 1 if self.multi_label else 0)
        return "uint8" if highest <= 256 else "int32"

    @property
    def align_corners(self) -> bool:
        return self.resize == ALIGN_CORNERS

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, `"class 0"` and so on where nothing tells them."""
        return self.classes.labels(self.num_labels or 0)

    def with_classes(self, classes: "Classes | Sequence[str]", colors: Iterable[Color] | None = None) -> "ModelSpec":
        """The same of these classes: a `Classes`, or names and perhaps colours.

        Raises:
            ValueError: there isn't one for each label.
        """
        if not isinstance(classes, Classes):
            classes = Classes(tuple(classes), None if colors is None else tuple(colors), self.classes.ignore_label)
        return replace(self, classes=classes)

    def at_output_stride(self, output_stride: int) -> "ModelSpec":
        """The same at another output stride, where rates and windows that it tells reach as many pixels.

        >>> spec = ModelSpec(2, output_stride=16, settings={"atrous_rates": (6, 12, 18)})
        >>> spec.at_output_stride(8).settings["atrous_rates"]
        (12, 24, 36)
        """
        settings = dict(self.settings)
        if settings.get("atrous_rates") and self.output_stride is not None:
            scale = self.output_stride / output_stride
            settings["atrous_rates"] = tuple(round(rate * scale) for rate in settings["atrous_rates"])
        if settings.get("pooling_window") and self.output_stride is not None:
            scale = self.output_stride / output_stride
            settings["pooling_window"] = tuple(round(side * scale) for side in settings["pooling_window"])
        return replace(self, output_stride=output_stride, settings=settings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without range or widths where there are none, so that earlier versions read most files."""
        told = asdict(self)
        if self.image_range is None:
            del told["image_range"]
        if not self.widths:
            del told["widths"]
        return {"format": FORMAT, **plain(told)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the record") -> "ModelSpec":
        """What `to_dict` gave.

        Args:
            origin: where it lies, for messages.

        Raises:
            ValueError: it is no such record, or one of a later format.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("format"), int):
            raise ValueError(f"{origin} has no record of a keras_deeplab model, but {_short(values)}")
        if values["format"] > FORMAT:
            raise ValueError(
                f"{origin} has a record of format {values['format']}, this version reads up to {FORMAT}: update "
                "keras_deeplab"
            )
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(values.keys() - known - {"format"})
        if unknown or "num_classes" not in values:
            raise ValueError(f"{origin} has a record that isn't understood: {', '.join(unknown) or 'no num_classes'}")
        arguments = {name: _tuples(value) for name, value in values.items() if name != "format"}
        try:
            if "classes" in arguments:
                arguments["classes"] = Classes(**arguments["classes"])
            return cls(**arguments)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{origin} has a record that isn't understood: {error}") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, origin: str = "the record") -> "ModelSpec":
        """What `to_json` gave; raises as `from_dict`."""
        return cls.from_dict(parsed(text, origin), origin)


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _is_widths(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(width, int) and not isinstance(width, bool) and width > 0
        for name, width in value.items()
    )


def _is_normalisation(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return True
    parts = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, tuple) for part in value)
    return parts and all(isinstance(number, int | float) for part in value for number in part)


# Names of entries of a `ModelSpec`, what tells a value that they take, and that in words.
_TYPES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("builder", "backbone", "flavour"),
        lambda value: value is None or isinstance(value, str),
        "a name or None",
    ),
    (("preprocessing",), _is_normalisation, "a name, None, or (means, deviations) of each channel"),
    (("settings", "backbone_settings"), lambda value: isinstance(value, Mapping), "a dict of arguments"),
    (("classes",), lambda value: isinstance(value, Classes), "a Classes"),
    (("multi_label",), lambda value: isinstance(value, bool), "True or False"),
    (("outputs", "head"), _is_names, "a tuple of names"),
    (("widths",), _is_widths, "a dict from names of layers to positive integers"),
)

OUTPUTS = ("labels", "logits", "probabilities")


@dataclass(frozen=True)
class FileSpec:
    """What an exported file takes and returns, with the record of the model it was made from.

    Attributes:
        model: the model's record.
        output: `"labels"`, `"logits"` or `"probabilities"`.
        upsampled: whether the output has the images' size; otherwise `model.resize` tells how it gets it.
        input_sizes: (height, width) of each size of images that it takes; () where it takes any.
        precision: how weights and activations are stored, such as `"float32"` or `"int8"`.
    """

    model: ModelSpec
    output: str = "labels"
    upsampled: bool = True
    input_sizes: tuple[tuple[int, int], ...] = ()
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}; received {self.output!r}")
        if not isinstance(self.upsampled, bool):
            raise ValueError(f"upsampled must be True or False; received {_short(self.upsampled)}")
        if not isinstance(self.precision, str):
            raise ValueError(f"precision must be a name, such as 'int8'; received {_short(self.precision)}")
        sizes = tuple(tuple(size) for size in self.input_sizes)
        if any(len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size) for size in sizes):
            raise ValueError(f"input_sizes must be pairs (height, width) of positive integers; received {sizes}")
        object.__setattr__(self, "input_sizes", sizes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**plain(asdict(self)), "model": self.model.to_dict()}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, origin: str = "the record") -> "FileSpec":
        """What `to_json` gave; raises ValueError as `ModelSpec.from_json`."""
        return cls.from_dict(parsed(text, origin), origin)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the record") -> "FileSpec":
        """What `to_dict` gave; raises ValueError as `ModelSpec.from_dict`."""
        if not isinstance(values, Mapping) or "model" not in values:
            raise ValueError(f"{origin} has no record of an exported keras_deeplab model, but {_short(values)}")
        unknown = sorted(values.keys() - {entry.name for entry in fields(cls)})
        if unknown:
            raise ValueError(f"{origin} has a record that isn't understood: {', '.join(unknown)}")
        rest = {name: _tuples(value) for name, value in values.items() if name != "model"}
        model = ModelSpec.from_dict(values["model"], origin)
        try:
            return cls(model, **rest)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{origin} has a record that isn't understood: {error}") from error


def parsed(text: str | bytes, origin: str) -> Any:
    """The values of a JSON text; ValueError, naming `origin`, where it is none."""
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"{origin} has a record that is no JSON: {error}") from error


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _tuples(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(entry) for entry in value)
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
