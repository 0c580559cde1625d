"""How a data set is read, as far as its files don't tell: the options that a command passes on to a reader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_deeplab._helpers.files import read_regular
from keras_deeplab._helpers.warning import warn
from keras_deeplab.options import Kind, OptionError, Options, Range, nested, option, read_pairs, record
from keras_deeplab.specs import ModelSpec


def read_colors(path: str) -> tuple[tuple[int, int, int], ...]:
    """A text file of colours, `R G B` a line in the order of the labels, to a tuple of them.

    Raises:
        FileNotFoundError: there is no such file.
        OptionError: a line isn't three numbers in 0..255.
    """
    rows = [line.split()[:3] for line in read_regular(Path(path).expanduser()).decode().splitlines() if line.strip()]
    try:
        return _colors([[int(part) for part in row] for row in rows])
    except (TypeError, ValueError):
        wrong = next((row for row in rows if not _is_color(row)), [])
        raise OptionError(
            "{path} must hold three numbers in 0..255 a line (R G B); it has {line}",
            path=path,
            line=repr(" ".join(wrong)) if rows else "no line",
        ) from None


def _is_color(row: list[str]) -> bool:
    return len(row) == 3 and all(part.isdecimal() and int(part) <= 255 for part in row)


def _colors(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in value)
    if not colors or not all(0 <= part <= 255 for color in colors for part in color):
        raise ValueError(value)
    return colors


COLORS = Kind(
    "(red, green, blue) in 0..255 for each class, or a dict from such tuples to labels",
    _colors,
    read_colors,
    "a text file of colours",
    "FILE",
)


def _class_map(value: Any) -> Any:
    return value if value == "names" else {str(data): model or None for data, model in dict(value).items()}


CLASS_MAP = Kind(
    '"names", or a dict from names of the data to names of the model',
    _class_map,
    lambda text: text if text == "names" else read_pairs(text),
    "names, or DATA=MODEL,... (an empty name ignores)",
    "names|DATA=MODEL,...",
)
CLASS_MAP_HELP = (
    "for data of other classes than the model's: names pairs them by name and ignores the rest; or which is which"
)


@record
class ImageOptions(Options):
    """How image files become pixels, the same for training and prediction; None where the reader decides."""

    TITLE = "how images are read"

    orientation: str | None = option(
        None,
        "upright: turned as their EXIF orientation says, as viewers show them (the default); stored: not turned",
        choices=("upright", "stored"),
        metavar="WAY",
    )
    image_range: Range | None = option(
        None, "the numbers of images of more than 8 bits that become 0 and 255; by default those of the model's record"
    )

    def checked(self) -> None:
        if self.image_range is not None and not self.image_range[0] < self.image_range[1]:
            raise OptionError(
                "{image_range} must be two numbers, the first below the second; received {received}",
                received=",".join(f"{number:g}" for number in self.image_range),
            )

    @property
    def upright(self) -> bool:
        return self.orientation != "stored"

    def of_model(self, spec: ModelSpec | None) -> "ImageOptions":
        """The same as a model was trained: its record's range where none is given, with a warning of another one."""
        if spec is None or spec.image_range is None:
            return self
        if self.image_range is None:
            return self.with_options(image_range=spec.image_range)
        compare_ranges(self.image_range, spec.image_range, "the images")
        return self


def compare_ranges(given: Sequence[float] | None, trained: Sequence[float] | None, of: str) -> None:
    """Warns where images are read with another range than a model's record has; of None nothing is known."""
    if given is not None and trained is not None and tuple(given) != tuple(trained):
        ranges = [f"{low:g} to {high:g}" for low, high in (given, trained)]
        warn(
            f"image_range makes 0 to 255 of the numbers {ranges[0]} in {of}, and the model was trained with "
            f"{ranges[1]}, which is what its record has: what it sees is brighter or darker than what it learnt."
        )


AS_VIEWED = ImageOptions.of()


@record
class DataOptions(Options):
    """What `keras_deeplab.data.load` passes on to the reader of a data set; None where the reader decides."""

    TITLE = "how the data set is read (where its files don't tell)"

    num_classes: int | None = option(None, "number of classes, without a classes.txt", minimum=1, maximum=255)
    channels: int | None = option(None, "of the images, by default 3: red, green and blue", minimum=1)
    mask_encoding: str | None = option(
        None,
        "what the mask files are; binary: 0 is class 0 and anything else, such as 255, class 1; alpha: the same of the "
        "alpha channel",
        choices=("auto", "grey", "palette", "rgb", "binary", "alpha"),
        metavar="KIND",
    )
    mask_repair: str | None = option(
        None, "nearest: blended masks take the nearest colour or number", choices=("nearest",), metavar="HOW"
    )
    missing_masks: str | None = option(
        None,
        "background: images without a mask are all class 0; refuse (the default): an error",
        choices=("refuse", "background"),
        metavar="WHAT",
    )
    colors: Any = option(None, "the colours of RGB masks: a text file, R G B a line, by class", kind=COLORS)
    ignore_label: int | None = option(None, "number in the masks to ignore, besides 255")
    label_offset: int | None = option(None, "added to the masks' numbers, e.g. -1 where they start at 1")
    val_share: float | None = option(
        None,
        "share of the images for val, where no list tells; 0.2 where there is no list at all",
        above=0,
        below=1,
    )
    split_seed: int | None = option(None, "chooses these images, by default 0")
    data_dir: str | None = option(None, "where TensorFlow Datasets keeps its data", metavar="FOLDER")
    augmented: bool | None = option(None, "whether a VOC devkit's masks are those of SegmentationClassAug (SBD)")
    background: str | None = option(
        None, "of annotations: name of the class of what no shape covers; empty: that is ignored", metavar="NAME"
    )
    crowds: str | None = option(
        None,
        "of COCO's annotations: ignore (the default), or object, as CVAT and Datumaro mean brushed masks",
        choices=("ignore", "object"),
        metavar="WHAT",
    )
    line_width: float | None = option(None, "of annotations that are lines, in pixels; by default refused", above=0)
    images: ImageOptions = nested(ImageOptions)
