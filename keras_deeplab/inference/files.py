"""Image files to files of labels, pictures, shapes and numbers, many at a time."""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.files import TooManyBytes, read_regular, replacing, write_whole
from keras_deeplab._helpers.memory import out_of_memory
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.images import TooManyPixels, decoded
from keras_deeplab.data.orientation import orientation_of
from keras_deeplab.data.settings import AS_VIEWED, ImageOptions
from keras_deeplab.inference.answers import as_rgb, encode_png
from keras_deeplab.inference.inputs import Inputs, distinct_names, image_entries, image_files
from keras_deeplab.inference.outputs import (
    OUTPUTS,
    Collected,
    Legend,
    Output,
    Place,
    Result,
    answering,
    choose,
    place_of,
)
from keras_deeplab.inference.overlap import overlapped
from keras_deeplab.specs import Classes, ModelSpec

__all__ = ["as_rgb", "encode_png", "image_files", "segment_files"]

_TOLD = 10  # names that are told one by one


def segment_files(
    predictor: Callable[[np.ndarray], np.ndarray],
    inputs: Inputs,
    output_dir: str | os.PathLike,
    *,
    outputs: Sequence[str] = ("labels", "overlay"),
    only: Sequence[str] = (),
    merge: Mapping[str, Sequence[str]] | None = None,
    classes: Classes | Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    spec: ModelSpec | None = None,
    alpha: float = 0.5,
    legend: bool = True,
    max_pixels: int = limits.MAX_PIXELS,
    progress: bool = True,
    log: Callable[[str], object] = print,
    reading: ImageOptions = AS_VIEWED,
) -> tuple[list[tuple[Path, ...]], list[tuple[Path, str]]]:
    """Image files to files of answers: label maps `<name>.png`, tinted images `<name>_overlay.png`, and more.

    An image that can't be read or segmented doesn't stop the others, whatever it is: it is logged, and returned at the
    end. Pipes and devices are never opened. Files are read and written while the model works; the results are in the
    order of the inputs. Existing files in `output_dir` are replaced, each one whole or not at all; input files never
    are, and of images of the same name none replaces the other's (`inputs.distinct_names`). Photographs are turned
    upright first where their EXIF data says so, as data sets are read.

    Args:
        predictor: maps a uint8 image (H, W, channels) to labels (H, W); what `keras_deeplab.predictor` returns.
        inputs: paths of files, folders (their images, without subfolders) or patterns such as `photos/*.jpg`.
        output_dir: folder for the results; made if needed.
        outputs: what is written, names of `keras_deeplab.inference.outputs.OUTPUTS`.
        only, merge: classes to keep, and names for several taken together; see `outputs.choose`.
        classes: names of the classes, or a `Classes` with their colours too; None for those of the predictor's record.
            Pixels of a class named "background" are not tinted and no regions.
        palette: uint8 (N, 3) colours; None for those of `classes`.
        spec: the model's record, for a function that doesn't carry it; None for the predictor's.
        alpha: weight of the colours in the overlay.
        legend: whether a strip below the overlay names the classes that occur.
        max_pixels: of an image that is put to the model whole. Of a larger one labels are made by tiles, where nothing
            but labels of all classes is asked for and the predictor is a `Predictor`; else it is refused by its header,
            before it takes memory.
        progress: whether to show how far it is.
        log: called with each line of text to print.
        reading: how the files become pixels: not turned, or scaled from more than 8 bits, which the model's record
            tells where it isn't given.

    Returns:
        (written, failures): a tuple of files for each image, in the order of `outputs`, and the pairs (image file,
        message).

    Raises:
        FileNotFoundError: if an input matches nothing.
        ValueError: if a result would replace an input, or there is no such output or class, or none from labels alone.
    """
    spec = getattr(predictor, "spec", None) if spec is None else spec
    channels = getattr(predictor, "channels", 3 if spec is None else spec.channels)
    reading = reading.of_model(spec)
    rows = {name: OUTPUTS[name] for name in outputs}
    chosen = choose(Legend.of(classes, spec, palette), only, merge)
    answer_of = answering(predictor, chosen, [name for name, row in rows.items() if row.needs_scores])
    files = image_entries(inputs)
    output_dir = Path(output_dir).expanduser()
    names = _planned(files, rows, output_dir, log)
    output_dir.mkdir(parents=True, exist_ok=True)
    for note in chosen.notes:
        log(note)
    root = os.path.commonpath([os.path.abspath(file.parent) for file in files])
    by_tiles = hasattr(predictor, "runtime") and list(rows) == ["labels"] and not (only or merge)
    on_map = any(row.on_map for row in rows.values())

    def read(file: Path) -> tuple[np.ndarray, Place | None] | None:
        try:
            data = read_regular(file, limits.file_bytes(max_pixels, channels))
            image = decoded(file, data, channels, reading.upright, reading.image_range, max_pixels)
        except (TooManyPixels, TooManyBytes) as error:
            if by_tiles:
                return None
            if not hasattr(predictor, "runtime"):
                raise
            raise ValueError(
                f"{error}; outputs=['labels'] alone, without only= and merge=, makes them by tiles"
            ) from error
        return image, _place(data, reading.upright) if on_map else None

    def work(file: Path, found: tuple[np.ndarray, Place | None] | None) -> Result | Path:
        if found is None:
            target = output_dir / f"{names[file]}.png"
            return _labels_by_tiles(predictor, file, target, chosen.legend, reading, log)
        image, place = found
        name = Path(os.path.relpath(file, root)).as_posix()
        return Result(name, image, answer_of(image), chosen.legend, place, alpha, legend)

    def write(file: Path, result: Result | Path) -> tuple[tuple[Path, ...], list[Any]]:
        if isinstance(result, Path):
            return (result,), []
        made = [
            (output_dir / f"{names[file]}{end}", data)
            for row in rows.values()
            for end, data in row.make(result).items()
        ]
        parts = [collected.part(result) for _, collected in whole]
        for path, data in made:
            write_whole(path, data)
        return tuple(path for path, _ in made), parts

    written: list[tuple[Path, ...]] = []
    failures: list[tuple[Path, str]] = []
    with contextlib.ExitStack() as stack:
        whole = [(_opened(stack, output_dir / name), make()) for name, make in _of_all(rows)]
        for stream, collected in whole:
            stream.write(collected.head(chosen.legend))
        bar = stack.enter_context(Progress(len(files), "segment", enabled=progress))
        try:
            for done, (file, outcome) in enumerate(overlapped(files, read, work, write, size=_bytes_of), 1):
                if isinstance(outcome, ImportError):
                    raise outcome
                if isinstance(outcome, Exception):
                    failures.append((file, _reason(file, outcome)))
                    bar.clear()
                    log(printable(f"failed: {failures[-1][1]}"))
                else:
                    paths, parts = outcome
                    written.append(paths)
                    for (stream, collected), part in zip(whole, parts, strict=True):
                        stream.write(collected.add(part))
                bar.update(done)
        except KeyboardInterrupt:
            told = "".join(f", and no {name}" for name, _ in _of_all(rows))
            raise KeyboardInterrupt(f"{len(written)} of {len(files)} images are written, each whole{told}") from None
        for stream, collected in whole:
            stream.write(collected.tail())
    return written, failures


def check_outputs(outputs: Sequence[str]) -> bool:
    """Whether one of these outputs is made of scores; raises ValueError where there is no such output."""
    return any(row.needs_scores for row in [OUTPUTS[name] for name in outputs])


def printable(text: str) -> str:
    """A text that any terminal takes; names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _planned(
    files: Sequence[Path], rows: Mapping[str, Output], output_dir: Path, log: Callable[[str], object]
) -> dict[Path, str]:
    """A name for what is made of each file; where it isn't the file's own that is told."""
    endings = [ending for row in rows.values() for ending in row.endings]
    names = distinct_names(files, endings, [name for name, _ in _of_all(rows)])
    sources = {os.path.realpath(file): file for file in files}
    for name in names.values():
        for ending in endings:
            target = output_dir / f"{name}{ending}"
            if (source := sources.get(os.path.realpath(target))) is not None:
                raise ValueError(f"the result {target} would replace the input {source}: choose another output folder")
    renamed = [(file, name) for file, name in names.items() if name != file.stem]
    for file, name in renamed[:_TOLD]:
        log(printable(f"{file}: another image has this name, so its results are called {name}"))
    if len(renamed) > _TOLD:
        log(f"and {len(renamed) - _TOLD} more, in the same way")
    return names


def _of_all(rows: Mapping[str, Output]) -> list[tuple[str, Callable[[], Collected]]]:
    return [row.collected for row in rows.values() if row.collected is not None]


def _opened(stack: contextlib.ExitStack, path: Path) -> IO[bytes]:
    """A file that takes its place when the stack ends without an error."""
    return stack.enter_context(open(stack.enter_context(replacing(path)), "wb"))


def _place(data: bytes, upright: bool) -> Place | None:
    place = place_of(data)
    if place is not None and upright and orientation_of(data) != 1:
        raise ValueError(
            "has a georeference and an orientation, which don't go together: orientation='stored' reads it as it is"
        )
    return place


def _labels_by_tiles(
    predictor: Any, file: Path, target: Path, legend: Legend, reading: ImageOptions, log: Callable[[str], object]
) -> Path:
    from keras_deeplab.inference.tiles.raster import segment_raster

    names = [legend.names[label] for label in legend.channels]
    colors = [tuple(color) for color in legend.palette[: len(names)].tolist()]
    classes = Classes(tuple(names), tuple(colors), legend.ignore_label) if names else Classes()
    try:
        found = segment_raster(
            predictor,
            file,
            target,
            classes=classes,
            reading=reading,
            progress=False,
            log=lambda line: log(printable(line)),
        )
    except ValueError:  # of a damaged file: what was done of it is of no use to a later run
        shutil.rmtree(target.with_name(f".{target.name}.tiles"), ignore_errors=True)
        raise
    return found.path


def _bytes_of(result: Result | Path) -> int:
    if isinstance(result, Path):
        return 0
    answer = result.answer
    arrays = (result.image, answer.labels, answer.probabilities, answer.masks)
    return sum(array.nbytes for array in arrays if array is not None)


def _reason(file: Path, error: Exception) -> str:
    """What is wrong with a file, its name in it; the kind of error too where it isn't one of files and values."""
    message, tells = str(error), isinstance(error, (OSError, ValueError))
    # What a ValueError says of a file is so, whatever words of a library's it repeats.
    if not tells and out_of_memory(error):
        message = "there is not enough memory; keras-deeplab tiles takes images of any size"
    elif not tells or not message:
        message = f"{type(error).__name__}: {message}".rstrip(": ")
    return message if str(file) in message else f"{file}: {message}"
