"""Data sets: a name or a path to a `Source` of images uint8 (H, W, channels) and labels uint8 (H, W), 255 ignored."""

import difflib
import inspect
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_deeplab.data.source import Source
    from keras_deeplab.specs import ModelSpec

__all__ = [
    "READERS",
    "kind_of",
    "load",
    "location_of",
    "options_of",
    "options_of_model",
    "readable_errors",
    "splits_of",
]

# Each kind of data set to its reader, a module (its import name, or itself) or any object with
# `detect(name_or_path: str) -> bool`, whether that is a data set of its kind, and
# `read(location: str, split: str, *, ...) -> Source`, whose keyword arguments are the options of `load`, and perhaps
# `splits(location: str) -> the names of its splits`, which are train and val without it.
READERS: dict[str, Any] = {
    "folder": "keras_deeplab.data.folder",
    "voc": "keras_deeplab.data.voc",
    "sbd": "keras_deeplab.data.sbd",
    "cityscapes": "keras_deeplab.data.cityscapes",
    "ade20k": "keras_deeplab.data.ade20k",
    "coco_voc": "keras_deeplab.data.coco_voc",
    "coco_stuff": "keras_deeplab.data.coco_stuff",
    "coco_stuff_10k": "keras_deeplab.data.coco_stuff_10k",
    "camvid": "keras_deeplab.data.camvid",
    "pascal_context": "keras_deeplab.data.pascal_context",
    "idd_lite": "keras_deeplab.data.idd_lite",
    "oxford_pet": "keras_deeplab.data.oxford_pet",
    "coco": "keras_deeplab.data.annotations.coco",
    "labelme": "keras_deeplab.data.annotations.labelme",
    "cvat": "keras_deeplab.data.annotations.cvat",
    "roboflow": "keras_deeplab.data.annotations.roboflow",
    "supervisely": "keras_deeplab.data.annotations.supervisely",
    "label_studio": "keras_deeplab.data.annotations.label_studio",
    "tfds": "keras_deeplab.data.tfds",
    "synthetic": "keras_deeplab.data.synthetic",
}


def load(name_or_path: str | os.PathLike, split: str = "train", **options: Any) -> "Source":
    """Map a data set's name or path to the `Source` of one of its splits.

    | `name_or_path` | data set |
    |---|---|
    | a folder with `images/` and `masks/` | one's own photographs, see `keras_deeplab.data.folder.read` |
    | a VOC devkit (`VOCdevkit`, or its `VOC2012`), or a data set in its layout | see `keras_deeplab.data.voc.read` |
    | a public data set as its archives unpack it, such as Cityscapes | see docs/datasets.md and its module's `read` |
    | an export of COCO JSON, LabelMe, CVAT, Roboflow, Supervisely or Label Studio | see the modules of `annotations` |
    | `"tfds:NAME[/CONFIG][:VERSION]"` | any TensorFlow Datasets data set with images and masks, see `tfds.read` |
    | `"synthetic"` | shapes drawn on the fly, see `keras_deeplab.data.synthetic.read` |

    A path may be marked `"folder:PATH"`, `"cityscapes:PATH"` and so on, by a key of `READERS`, to choose the reader
    oneself. `READERS` may be given others.

    Args:
        name_or_path: string or path, as above.
        split: which part, such as `"train"` or `"val"`.
        options: what the reader takes.

    Returns:
        A `keras_deeplab.data.source.Source`.

    Raises:
        FileNotFoundError: there is nothing at the path, or files that the split lists are missing.
        ValueError: the path holds no known layout, or an option is unknown to the reader or does not fit.

    >>> source = load("synthetic", split="val", num_examples=3, size=(48, 64))
    >>> source.num_examples, source.classes[:3]
    (3, ['background', 'disc', 'square'])
    """
    kind = kind_of(name_or_path)
    if kind is None:
        raise _unknown(str(name_or_path))
    known = options_of(kind)
    if known is not None:
        _refuse_unknown(options, known, f"the data set {str(name_or_path)!r} (read as {kind!r})")
    return _reader(kind).read(location_of(name_or_path), split, **options)


def kind_of(name_or_path: str | os.PathLike) -> str | None:
    """Map a data set's name or path to the key of `READERS` that reads it; None where it is no data set.

    Raises:
        ValueError: several readers recognise it.

    >>> kind_of("synthetic"), kind_of("tfds:oxford_iiit_pet"), kind_of("nowhere")
    ('synthetic', 'tfds', None)
    """
    text = str(name_or_path)
    prefix, colon, _ = text.partition(":")
    if colon and prefix in READERS:
        return prefix
    kinds = [kind for kind in READERS if _reader(kind).detect(text)]
    if len(kinds) > 1:
        marked = " or ".join(f"{kind}:{text}" for kind in kinds)
        raise ValueError(f"{text} can be read as {' and as '.join(kinds)}: say which, {marked}")
    return kinds[0] if kinds else None


def options_of(kind: str) -> tuple[str, ...] | None:
    """The names of the options that the reader of a kind takes; None for one that takes any.

    >>> options_of("synthetic")
    ('num_examples', 'size', 'seed')
    """
    parameters = list(inspect.signature(_reader(kind).read).parameters.values())[2:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters)


def options_of_model(name_or_path: str | os.PathLike, spec: "ModelSpec | None") -> dict[str, Any]:
    """What a model's record says of how its images are read, as options of `load` for a data set that takes them.

    >>> from keras_deeplab.specs import ModelSpec
    >>> options_of_model("folder:.", ModelSpec(2, channels=4, image_range=(0, 4095)))
    {'channels': 4, 'image_range': (0.0, 4095.0)}
    """
    kind = None if spec is None else kind_of(name_or_path)
    if spec is None or kind is None:
        return {}
    told = {"channels": None if spec.channels == 3 else spec.channels, "image_range": spec.image_range}
    takes = options_of(kind)
    return {name: value for name, value in told.items() if value is not None and (takes is None or name in takes)}


def splits_of(name_or_path: str | os.PathLike) -> tuple[str, ...]:
    """Map a data set's name or path to the names of its splits, as `load` takes them.

    >>> splits_of("synthetic")
    ('train', 'val')
    """
    kind = kind_of(name_or_path)
    if kind is None:
        raise _unknown(str(name_or_path))
    splits = getattr(_reader(kind), "splits", None)
    return ("train", "val") if splits is None else tuple(splits(location_of(name_or_path)))


def readable_errors() -> AbstractContextManager[None]:
    """A context in which a reader's error inside tf.data arrives as the ValueError it was, naming the file."""
    from keras_deeplab.data.source import readable_errors

    return readable_errors()


def _reader(kind: str) -> Any:
    reader = READERS[kind]
    return import_module(reader) if isinstance(reader, str) else reader


def location_of(name_or_path: str | os.PathLike) -> str:
    """What stands behind a mark such as "voc:" in a data set's name or path, or all of it."""
    text = str(name_or_path)
    prefix, colon, rest = text.partition(":")
    return rest if colon and prefix in READERS else text


def _refuse_unknown(options: Iterable[str], known: tuple[str, ...], what: str) -> None:
    unknown = [name for name in options if name not in known]
    if unknown:
        near = [match for name in unknown for match in difflib.get_close_matches(name, known, 1)]
        raise ValueError(
            f"{what} doesn't take {', '.join(unknown)}"
            + (f"; did you mean {', '.join(near)}?" if near else ".")
            + (f" It takes {', '.join(known)}" if known else " It takes none")
        )


def _unknown(text: str) -> Exception:
    path = Path(text).expanduser()
    if path.is_file():
        return ValueError(
            f"{text} is no file of annotations that is known: JSON of COCO and Label Studio and XML of CVAT are "
            "read so, others by the folder that they are in"
        )
    if not path.is_dir():
        prefix, colon, _ = text.partition(":")
        near = difflib.get_close_matches(prefix, READERS, 1)
        return FileNotFoundError(
            f"no data set {text!r}: there is no such folder, and the names are 'synthetic' and 'tfds:NAME'"
            + (f"; did you mean {near[0] + (':...' if colon else '')!r}?" if near else "")
        )
    return ValueError(
        f"{text} holds no data set that can be recognised. Either images/ and masks/ (and splits/train.txt, "
        "splits/val.txt) stand in it, or a VOC devkit (JPEGImages/, SegmentationClass/, ImageSets/), or an export of "
        "COCO, LabelMe, CVAT, Roboflow, Supervisely or Label Studio with its images, or another public data set as its "
        f"archives unpack it; a mark, such as cityscapes:{text}, says which and what is missing. "
        f"It holds: {', '.join(sorted(entry.name for entry in path.iterdir())[:12]) or 'nothing'}"
    )
