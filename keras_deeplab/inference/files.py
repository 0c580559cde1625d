"""Image files to files of labels and overlays, many at a time."""

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_deeplab._helpers.files import write_whole
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.images import EXTENSIONS, read_image
from keras_deeplab.data.masks import write_label_png
from keras_deeplab.data.settings import AS_VIEWED, ImageOptions
from keras_deeplab.inference.answers import add_legend, overlay
from keras_deeplab.specs import Classes


def segment_files(
    predictor: Callable[[np.ndarray], np.ndarray],
    inputs: str | os.PathLike | Iterable[str | os.PathLike],
    output_dir: str | os.PathLike,
    *,
    classes: Classes | Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    alpha: float = 0.5,
    legend: bool = True,
    progress: bool = True,
    log: Callable[[str], object] = print,
    reading: ImageOptions = AS_VIEWED,
) -> tuple[list[tuple[Path, Path]], list[tuple[Path, str]]]:
    """Image files to label maps `<name>.png` (paletted, pixel value = label) and tinted images `<name>_overlay.png`.

    An image that can't be read or segmented doesn't stop the others: it is logged, and returned at the end.
    Existing files in `output_dir` are replaced, each one whole or not at all; input files never are. Photographs are
    turned upright first where their EXIF data says so, as data sets are read. Labels of more than 256 classes are
    written as grey PNG files of 16 bits.

    Args:
        predictor: maps a uint8 image (H, W, channels) to labels (H, W); what `keras_deeplab.predictor` returns.
        inputs: paths of files, folders (their images, without subfolders) or patterns such as `photos/*.jpg`.
        output_dir: folder for the results; made if needed.
        classes: names of the classes, or a `Classes` with their colours too; None for those of the predictor's record.
            Pixels of a class named "background" are not tinted.
        palette: uint8 (N, 3) colours; None for those of `classes`.
        alpha: weight of the colours in the overlay.
        legend: whether a strip below the overlay names the classes that occur.
        progress: whether to show how far it is.
        log: called with each line of text to print.
        reading: how the files become pixels: not turned, or scaled from more than 8 bits, as the model was trained.

    Returns:
        (written, failures): the pairs (label file, overlay file) and the pairs (image file, message).

    Raises:
        FileNotFoundError: if an input matches nothing.
        ValueError: if two images would be written to the same file, or a result would replace an input.
    """
    spec = getattr(predictor, "spec", None)
    channels = getattr(predictor, "channels", 3)
    classes = spec.classes if classes is None and spec is not None else Classes.of(classes)
    count = max(256, len(classes.names or ()), (spec and spec.num_labels) or 0)
    # A file has colours for its classes; label PNGs have 256.
    given = [] if palette is None else np.asarray(palette, np.uint8).tolist()
    palette = np.array([*given, *classes.palette(count)[len(given) :]], np.uint8)
    names = classes.labels(len(classes.names or ()) or (spec and spec.num_labels) or 256)
    untouched = [label for label, name in enumerate(names) if name.lower() == "background"]
    files = image_files(inputs)
    output_dir = Path(output_dir).expanduser()
    plan = _output_files(files, output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    written, failures = [], []
    with Progress(len(files), "segment", enabled=progress) as bar:
        for done, (file, (label_file, overlay_file)) in enumerate(plan.items(), 1):
            try:
                image = read_image(file, channels, reading.upright, reading.image_range)
                labels = predictor(image)
                picture = overlay(as_rgb(image), labels, palette, alpha, untouched)
                if legend:
                    picture = add_legend(picture, labels, names, palette, untouched)
                _write_labels(label_file, labels, palette)
                write_whole(overlay_file, encode_png(picture))
            except ImportError:
                raise
            except (OSError, ValueError) as error:
                message = str(error)
                failures.append((file, message if str(file) in message else f"{file}: {message}"))
                bar.clear()
                log(f"failed: {failures[-1][1]}")
            else:
                written.append((label_file, overlay_file))
            bar.update(done)
    return written, failures


def _write_labels(path, labels, palette):
    if labels.dtype == np.uint8:
        write_label_png(path, labels, palette[:256])
    else:
        write_whole(path, encode_png(labels.astype(np.uint16)))


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image of any number of channels as one to look at: its first three, or its first as grey."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def image_files(inputs: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """Paths of files, folders and patterns to a sorted list of image files without duplicates.

    Folders give their image files (`data.images.EXTENSIONS`), without those in subfolders.

    Raises:
        FileNotFoundError: if an entry matches nothing.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    files: dict[Path, None] = {}
    for entry in inputs:
        path = Path(entry).expanduser()
        if path.is_dir():
            found = [file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and file.is_file()]
            if not found:
                raise FileNotFoundError(f"the folder {path} holds no image ({', '.join(EXTENSIONS)})")
        elif path.is_file():
            found = [path]
        else:
            found = [Path(name) for name in glob.glob(str(path)) if os.path.isfile(name)]
            if not found:
                raise FileNotFoundError(f"{path} is neither a file, nor a folder, nor a pattern that matches a file")
        files.update((file, None) for file in sorted(found))
    if not files:
        raise FileNotFoundError("no input was given: name image files, folders or patterns")
    return list(files)


def _output_files(files, output_dir):
    """Each image file with its two result files, or ValueError where they would collide."""
    sources = {file.resolve(): file for file in files}
    plan, taken = {}, {}
    for file in files:
        targets = (output_dir / f"{file.stem}.png", output_dir / f"{file.stem}_overlay.png")
        for target in targets:
            if target.resolve() in sources:
                raise ValueError(
                    f"the result {target} would replace the input {sources[target.resolve()]}: "
                    "choose another output folder"
                )
            if target in taken:
                raise ValueError(
                    f"{taken[target]} and {file} would both be written to {target}: "
                    "segment them in two runs, with an output folder each"
                )
            taken[target] = file
        plan[file] = targets
    return plan


def encode_png(image: np.ndarray) -> bytes:
    """An image, uint8 (H, W, 3) RGB, or uint8 or uint16 (H, W), to the bytes of a PNG file."""
    from keras_deeplab._helpers.opencv import cv2

    done, data = cv2.imencode(".png", image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} as PNG")
    return data.tobytes()
