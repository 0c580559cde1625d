"""What several commands have: a data set, a model, the names of its classes, images to segment, files to compare."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_deeplab._helpers import limits
from keras_deeplab.data.settings import DataOptions, ImageOptions, read_colors
from keras_deeplab.export.settings import ComparisonOptions
from keras_deeplab.inference.settings import InferenceOptions
from keras_deeplab.options import (
    Integers,
    Kind,
    Names,
    OptionError,
    Options,
    Size,
    in_flags,
    nested,
    option,
    options,
    read_pairs,
    record,
)
from keras_deeplab.specs import NORMALISATIONS, Classes, ModelSpec, class_names

if TYPE_CHECKING:
    import keras

    from keras_deeplab.data.source import Source
    from keras_deeplab.inference.predictor import Predictor

CHECKPOINT = "checkpoint that keras_deeplab.load reads (TF1 prefix, folder, .tar.gz, .pth, .h5, ..., published name)"
MODEL = f"a .keras file, or any {CHECKPOINT}"
DATA = (
    "folder with images/, masks/, splits/; public data set as unpacked (VOC, Cityscapes, ...); export of COCO, "
    "LabelMe, CVAT, Roboflow, Supervisely or Label Studio; tfds:NAME; or synthetic"
)
STRIDE = "8, 16 or 32; by default the model's own"
PREFIX = "what the names of the arrays begin with, of a file that holds several networks, such as ema_model"
SOURCE = "who wrote it: tf1, vainf, torchvision, ...; auto where its names tell"


def load_data(name: str, split: str, reading: DataOptions, spec: ModelSpec | None = None) -> "Source":
    """A data set's split, read as the options say; those that its reader doesn't take are refused.

    Args:
        spec: the record of the model that it is for, which says how images are read where no option does.
    """
    from keras_deeplab import data

    given, kind = reading.given(), data.kind_of(name)
    takes = None if kind is None else data.options_of(kind)
    others = [] if takes is None else [each for each in given if each not in takes]
    if others:
        known = ", ".join(f"{{{each}}}" for each in options(DataOptions) if each in (takes or ()))
        raise OptionError(
            f"{{name}}, which is read as {{kind}}, doesn't take {{{others[0]}}}; it takes {known or 'none of these'}",
            name=repr(name),
            kind=str(kind),
        )
    source = data.load(name, split=split, **{**data.options_of_model(name, spec), **given})
    for note in source.notes:
        print(f"{source.name}: {in_flags(note, DataOptions)}")
    return source


# Classes ----------------------------------------------------------------------------------------------------------


@record
class Identity(Options):
    """What the classes of a model are, for one that doesn't tell, or to say otherwise."""

    TITLE = "classes"

    classes: str | None = option(
        None,
        "their names, where the model doesn't tell: a text file with one a line, or a data set that is known by name, "
        "such as voc or cityscapes",
        metavar="FILE",
    )
    palette: str | None = option(None, "their colours: a text file, R G B a line, by class", metavar="FILE")

    def resolved(self, own: Classes, count: int | None) -> Classes:
        """A model's own classes, as far as nothing else is given.

        Args:
            own: what the model tells.
            count: how many labels it has; None where it doesn't tell.
        """
        names, colors = own.names, own.colors
        if self.classes is not None:
            known = _named_classes(self.classes)
            names, colors = known.names, known.colors
            if colors is None and own.colors is not None and len(own.colors) == len(names or ()):
                colors = own.colors
        if self.palette is not None:
            colors = read_colors(self.palette)
        found = Classes(names, colors, own.ignore_label)
        return found if count is None else found.checked(count)

    def named(self, model: "keras.Model") -> "keras.Model":
        """A Keras model with these classes in its record."""
        from keras_deeplab.specs.model import spec_of, with_spec

        spec = spec_of(model)
        return with_spec(model, classes=self.resolved(spec.classes, spec.num_labels))


def _named_classes(text: str) -> Classes:
    """The classes of a file of names, or of a data set that is known by name."""
    path = Path(text).expanduser()
    if path.is_file():
        from keras_deeplab.data.folder import names_in

        return Classes(names_in(path))
    known = {name.lower(): value for name, value in vars(class_names).items() if isinstance(value, Classes)}
    if text.lower() not in known:
        raise OptionError("{classes} {text} is neither a file nor one of {known}", text=text, known=", ".join(known))
    return known[text.lower()]


# Models -----------------------------------------------------------------------------------------------------------


def _normalisation(value: Any) -> Any:
    if isinstance(value, str):
        if value not in NORMALISATIONS:
            raise ValueError(value)
        return value
    means, deviations = (tuple(float(number) for number in part) for part in value)
    return means, deviations


def _read_normalisation(text: str) -> Any:
    return [part.split(",") for part in text.split("/")] if "/" in text else text


NORMALISATION = Kind(
    f"{', '.join(NORMALISATIONS)}, or (means, deviations) in 0..1",
    _normalisation,
    _read_normalisation,
    f"{', '.join(NORMALISATIONS)}, or MEAN,MEAN,.../DEVIATION,DEVIATION,...",
    "HOW",
)


@record
class CheckpointOptions(Options):
    """What `load` is told of a checkpoint whose arrays, and what lies beside them, leave something open."""

    TITLE = "checkpoints of other code, where nothing in them tells"

    prefix: str | None = option(None, PREFIX)
    backbone: str | None = option(None, "which of those that its arrays fit")
    align_corners: bool | None = option(
        None, "whether its resizes align the corners of images, rather than their edges"
    )
    atrous_rates: Integers | None = option(
        None, "dilation rates of its pyramid, at the output stride that it has by default", minimum=1
    )
    multi_grid: Integers | None = option(None, "unit rates of its deepest stage's convolutions", minimum=1)
    pooling_window: Size | None = option(None, "of Detectron2's image pooling, in positions of the deepest map")
    variant: str | None = option(None, "how v1's fc6 is a convolution: 7x7, 4x4, 4x4_large or large_fov")
    normalisation: Any = option(
        None,
        "how it normalises pixels, where the source's own way isn't the checkpoint's: a name, or a mean and a "
        "deviation in 0..1 for each channel; checkpoints of other channels than 3 need it where their source "
        "normalises RGB",
        kind=NORMALISATION,
    )

    def settings(self) -> dict[str, Any]:
        """Arguments of `load`."""
        told = self.given()
        if "normalisation" in told:
            told["include_preprocessing"] = told.pop("normalisation")
        return told


@record
class StoredModel(Options):
    """A model of Keras, from a file."""

    model: str = option(help=MODEL, flag=None, metavar="MODEL")
    output_stride: int | None = option(None, STRIDE, minimum=1)
    checkpoint: CheckpointOptions = nested(CheckpointOptions)

    def load(self) -> "keras.Model":
        import keras_deeplab

        return keras_deeplab.load(self.model, output_stride=self.output_stride, **self.checkpoint.settings())


@record
class AnyModel(Options):
    """A model that segments, whatever runs it."""

    model: str = option(help=f"{MODEL}, .tflite or .onnx file, or SavedModel folder", flag=None, metavar="MODEL")
    identity: Identity = nested(Identity)
    runtime: str | None = option(
        None,
        "what runs a .tflite or .onnx file: litert, onnxruntime or openvino; by default the first that is installed. "
        "fastest has them run it some times first",
        metavar="PROGRAM",
    )
    checkpoint: CheckpointOptions = nested(CheckpointOptions)
    settings: InferenceOptions = nested(InferenceOptions)

    def predictor(self) -> "Predictor":
        """A predictor whose record has the classes that are given, or its own."""
        from keras_deeplab.inference.predictor import predictor
        from keras_deeplab.inference.runtimes import RUNTIMES

        told = self.checkpoint.settings()
        predict = predictor(self.model, runtime=self.runtime, checkpoint=told, **self.settings.values())
        if Path(self.model).suffix.lower() in RUNTIMES:
            print(f"{self.model} is run by {predict.program}")
        if self.identity.given():
            own = Classes() if predict.spec is None else predict.spec.classes
            classes = self.identity.resolved(own, predict.num_labels)
            if predict.spec is not None:
                predict.spec = predict.spec.with_classes(classes)
            elif classes.names is not None:  # of a file of labels that tells nothing of itself
                predict.spec = ModelSpec(len(classes.names), classes=classes)
        return predict


# Images -----------------------------------------------------------------------------------------------------------


def _sums(value: Any) -> dict[str, tuple[str, ...]]:
    found = {str(name): tuple(str(part) for part in parts) for name, parts in dict(value).items()}
    if not found or any(not name or not all(parts) or not parts for name, parts in found.items()):
        raise ValueError(value)
    return found


SUMS = Kind(
    "a dict from names to lists of classes",
    _sums,
    lambda text: {name: tuple(part.strip() for part in parts.split("+")) for name, parts in read_pairs(text).items()},
    "NAME=CLASS+CLASS,...",
    "NAME=CLASS+CLASS,...",
)


@record
class Images(Options):
    """Images to segment, and what to write of them."""

    inputs: tuple[str, ...] = option(help="image files, folders, or patterns", flag=None, metavar="IMAGE", nargs="+")
    output_dir: str = option("predictions", "folder for the results", metavar="FOLDER")
    write: Names = option(
        ("labels", "overlay"),
        "what to write: labels (paletted PNG), overlay (PNG), confidence (PNG), probabilities, entropy (npz), polygons "
        "(GeoJSON), coco (COCO's JSON of all images), areas (CSV)",
        name="outputs",
        flag="--write",
    )
    only: Names | None = option(None, "classes to keep; others become background, or ignored where there is none")
    merge: Any = option(None, "classes to take together under a new name", kind=SUMS)
    alpha: float = option(0.5, "weight of the colours in the overlay", minimum=0, maximum=1)
    max_pixels: int = option(
        limits.MAX_PIXELS,
        "of an image that is put to the model whole; with --write labels larger ones are cut into tiles, else refused",
        minimum=1,
    )
    reading: ImageOptions = nested(ImageOptions)

    @property
    def chooses(self) -> bool:
        """Whether classes are left out or taken together."""
        return bool(self.only or self.merge)

    def needs_scores(self) -> bool:
        """Whether what is to be written is made of scores; raises ValueError where there is no such output."""
        from keras_deeplab.inference.files import check_outputs

        return check_outputs(self.write)

    def segment(self, predict: Any, classes: Classes | None = None, spec: ModelSpec | None = None) -> int:
        """Writes files of answers with the classes given, or the predictor's own; returns the exit status.

        Args:
            spec: the model's record, where `predict` doesn't have it.
        """
        from keras_deeplab.inference.files import segment_files

        written, failures = segment_files(
            predict,
            self.inputs,
            self.output_dir,
            outputs=self.write,
            only=self.only or (),
            merge=self.merge,
            classes=classes,
            spec=spec,
            alpha=self.alpha,
            max_pixels=self.max_pixels,
            reading=self.reading,
            log=lambda line: print(in_flags(str(line), type(self))),
        )
        print(f"{len(written)} images segmented into {self.output_dir}")
        if failures:
            print(f"{len(failures)} failed, each told above", file=sys.stderr)
        return 1 if failures else 0


# Exported files ---------------------------------------------------------------------------------------------------


@record
class Comparison(Options):
    """Files beside the model that they are made of."""

    TITLE = "comparison with the model"

    evaluate: str | None = option(None, "data set with masks to compare on", metavar="DATA")
    split: str = option("val", "split of it to compare on")
    settings: ComparisonOptions = nested(ComparisonOptions)
    reading: DataOptions = nested(DataOptions)

    def checked(self) -> None:
        if self.settings.max_miou_drop is not None and self.evaluate is None:
            raise OptionError("{max_miou_drop} needs labelled images to compare on: give {evaluate} DATA")

    def source(self, spec: ModelSpec) -> "Source | None":
        """What a model with this record is compared on."""
        return None if self.evaluate is None else load_data(self.evaluate, self.split, self.reading, spec)


def told_refusals(files: list[Any], rows: list[Any]) -> int:
    """Says which files lost too much; the command's exit status."""
    paths = {file.path for file in files}
    refused = [row for row in rows if row.rejected and row.path in paths]
    for row in refused:
        at = f" at {row.size[0]}x{row.size[1]}" if row.size else ""
        print(
            f"keras-deeplab: error: the converted file is no good{at}: {row.verification}. It was left as {row.path} "
            "for inspection; nothing was written under the name asked for",
            file=sys.stderr,
        )
    return 1 if refused else 0
