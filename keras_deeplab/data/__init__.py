"""Data sets: a name or a path to a `Source` of images (H, W, 3) uint8 with labels (H, W) uint8, 255 = ignored."""

from importlib import import_module
from pathlib import Path

__all__ = ["READERS", "load", "readable_errors"]

# The module of this package that reads each kind of data set. Each has `read(location, split, **options) -> Source`.
READERS = {
    "folder": "folder",
    "voc": "voc",
    "tfds": "tfds",
    "synthetic": "synthetic",
}


def load(name_or_path, split="train", **options):
    """Map a data set's name or path to the `Source` of one of its splits.

    | `name_or_path` | data set |
    |---|---|
    | a folder with `images/` and `masks/` | one's own photographs, see `keras_deeplab.data.folder.read` |
    | a VOC devkit (`VOCdevkit`, or its `VOC2012`) | see `keras_deeplab.data.voc.read` |
    | `"tfds:NAME[/CONFIG][:VERSION]"` | any TensorFlow Datasets data set with images and masks, see `tfds.read` |
    | `"synthetic"` | shapes drawn on the fly, see `keras_deeplab.data.synthetic.read` |

    A path may be marked `"folder:PATH"` or `"voc:PATH"` to choose the reader oneself.

    Args:
        name_or_path: string or path, as above.
        split: which part, such as `"train"` or `"val"`.
        options: what the reader takes.

    Returns:
        A `keras_deeplab.data.source.Source`.

    Raises:
        FileNotFoundError: there is nothing at the path, or files that the split lists are missing.
        ValueError: the path holds no known layout, or an option does not fit.

    >>> source = load("synthetic", split="val", num_examples=3, size=(48, 64))
    >>> source.num_examples, source.classes[:3]
    (3, ['background', 'disc', 'square'])
    """
    kind, location = _kind(name_or_path)
    return import_module(f"{__name__}.{READERS[kind]}").read(location, split, **options)


def readable_errors():
    """A context in which a reader's error inside tf.data arrives as the ValueError it was, naming the file."""
    from keras_deeplab.data.source import readable_errors

    return readable_errors()


def _kind(name_or_path):
    text = str(name_or_path)
    prefix, colon, rest = text.partition(":")
    if colon and prefix in READERS:
        return prefix, rest
    if text == "synthetic":
        return "synthetic", ""
    path = Path(name_or_path).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(
            f"no data set {text!r}: there is no such folder, and the names are 'synthetic' and 'tfds:NAME'"
        )
    if (path / "images").is_dir():
        return "folder", path
    if any((path / sub).is_dir() for sub in ("JPEGImages", "VOC2012", "VOCdevkit")):
        return "voc", path
    raise ValueError(
        f"{text} holds no data set that can be recognised. Either images/ and masks/ (and splits/train.txt, "
        "splits/val.txt) stand in it, or a VOC devkit (JPEGImages/, SegmentationClass/, ImageSets/). "
        f"It holds: {', '.join(sorted(entry.name for entry in path.iterdir())[:12]) or 'nothing'}"
    )
