"""A model to the smaller, faster file that is as good: pruned networks, strides, sizes and precisions, all measured."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_deeplab import pruning
from keras_deeplab._helpers.files import read_regular, replacing, write_whole
from keras_deeplab._version import __version__
from keras_deeplab.data.transforms import size_within
from keras_deeplab.export import arguments, compare
from keras_deeplab.export.calibration import Calibration, fitted
from keras_deeplab.export.front import Choice, chart, chosen, table
from keras_deeplab.export.settings import ShrinkOptions
from keras_deeplab.export.targets import TARGETS, settled
from keras_deeplab.export.tflite.settings import CALIBRATED, PRECISIONS
from keras_deeplab.export.tflite.writer import export_tflite
from keras_deeplab.inference.evaluation import evaluate
from keras_deeplab.inference.predictor import predictor
from keras_deeplab.inference.runtimes.tflite import threads
from keras_deeplab.models.strides import with_output_stride
from keras_deeplab.options import takes
from keras_deeplab.reports.drawing import png
from keras_deeplab.specs.model import spec_of
from keras_deeplab.summary import multiply_adds

WHOLE = "whole"


@dataclass(frozen=True)
class Shrunk:
    """What `shrink` found.

    Attributes:
        choices: all files that were measured.
        take: the place of the one that was taken; None where none meets what was asked for, and no file was written.
        mean_iou: the model's own.
        images: how many they were scored on.
        threads: that the files were timed with.
        program: what ran them.
    """

    choices: list[Choice]
    take: int | None
    mean_iou: float
    images: int
    threads: int
    program: str

    def table(self) -> str:
        return table(self.choices, self.mean_iou, self.take)


@takes(ShrinkOptions)
def shrink(
    model: keras.Model,
    source: Any,
    path: str | os.PathLike,
    *,
    training: Any = None,
    also: Mapping[str, keras.Model] | None = None,
    folder: str | os.PathLike | None = None,
    log: Callable[[str], None] = print,
    progress: bool = True,
    **options: Any,
) -> Shrunk:
    """Writes the file of a model that is fast and good enough, of all that were tried, and what each of them is.

    Tried is every network (pruned to each share of the multiply-adds, at each output stride, and those of `also`) in
    every size and precision. A file is timed with random images, every file in turn, and scored on the labelled images
    at their own size: larger ones are scaled down to fit the file's size, as a camera's would be, and the labels back
    up. The reference is the model in Keras on whole images, as `evaluate` has it.

    A folder keeps the files, pruned networks, table, plot, and every measurement; a run that was broken off, or
    that is asked for more, takes what it finds there. Files are timed again each time.

    Args:
        model: functional `keras.Model`; it isn't changed.
        source: labelled images, a `keras_deeplab.data` source, that scores are of.
        path: the file to write; only where a choice meets what is asked for.
        training: labelled images of another split, that channels are looked at and calibrated on; pruning needs them.
        also: {name: model} of further networks with the same classes, such as a pruned one that was trained again.
        folder: for all that is kept; None for PATH.choices beside it.
        log: gets a line for what was found.
        progress: whether to show how far it is.
        {options}

    Returns:
        `Shrunk`.

    Raises:
        ValueError: an option doesn't fit the model or the target, there is nothing to prune, or the folder holds
            measurements of something else.
    """
    settings = ShrinkOptions.of(**options)
    path = arguments.file_path(path, "model.tflite")
    _check(settings, training)
    folder = path.with_name(f"{path.stem}.choices") if folder is None else Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    kept = _Kept(folder / "measured.json", _identity(model, source, training, settings))
    strides = settings.output_strides or (None,)
    networks = _networks(model, training, settings, folder, log, progress)
    for name, other in (also or {}).items():
        if name in networks:
            raise ValueError(f"another network is called {name!r} too: rename its file")
        if spec_of(other).num_classes != spec_of(model).num_classes:
            raise ValueError(f"{name} has {spec_of(other).num_classes} classes, the model {spec_of(model).num_classes}")
        networks[name] = other
    scoring: dict[str, Any] = {"limit": settings.limit, "class_map": settings.class_map, "progress": progress}
    if "reference" not in kept.values:
        kept.put("reference", float(evaluate(predictor(model), source, **scoring).mean_iou))
    reference = kept.values["reference"]
    log(f"mean IoU of the model: {reference:.4f}")
    measured: list[dict[str, Any]] = []
    for name, network in networks.items():
        for stride in strides:
            dense = network if stride is None else with_output_stride(network, stride, name)
            for size in settings.sizes:
                drops: list[float] = []
                # Integers last: whether tensors in float may help, the others tell.
                for precision in sorted(settings.precisions, key=lambda name: name == "int8"):
                    for count in (0, *(_float_tensors(settings, drops) if precision == "int8" else ())):
                        row = _measured(
                            dense, name, size, precision, count, source, training, settings, folder, kept, scoring
                        )
                        measured.append(row)
                        drop = reference - row["mean_iou"]
                        log(f"{row['path']}: {row['bytes']:,} bytes, mIoU {row['mean_iou']:.4f}, drop {drop:+.4f}")
                        drops.append(drop)
                        if settings.max_miou_drop is None or drop <= settings.max_miou_drop:
                            break
    num_threads = settings.num_threads or threads()
    times = _timed([folder / row["path"] for row in measured], settings, num_threads)
    choices = [
        Choice(**{**row, "size": tuple(row["size"])}, milliseconds=milliseconds, drop=reference - row["mean_iou"])
        for row, milliseconds in zip(measured, times, strict=True)
    ]
    take = chosen(choices, settings.target_latency, settings.max_miou_drop)
    images = source.num_examples if settings.limit is None else min(settings.limit, source.num_examples)
    program = predictor(folder / measured[0]["path"]).program
    found = Shrunk(choices, take, reference, images, num_threads, program)
    _write(found, settings, source, folder)
    if take is not None:
        with replacing(path) as temporary:
            shutil.copyfile(folder / choices[take].path, temporary)
    return found


def _check(settings: ShrinkOptions, training: Any) -> None:
    """Raises ValueError for options that don't fit each other or the target, before any work."""
    for precision in settings.precisions:
        arguments.one_of("precision", precision, PRECISIONS)
        settled(settings.target, precision=precision)
    if settings.target is not None:
        settled(settings.target, output=None)
    if training is None and min(settings.multiply_adds) < 1:
        raise ValueError("pruned networks need labelled images of a training split: give training=, or multiply_adds=1")
    if training is None and settings.calibration is None and set(settings.precisions) & set(CALIBRATED):
        raise ValueError(
            "int8 needs images to find the ranges of the activations on: give calibration= (--calibration) or leave it "
            "out of precisions"
        )


def _float_tensors(settings: ShrinkOptions, drops: Sequence[float]) -> tuple[int, ...]:
    """How many tensors of int8 files may be left in float, in turn.

    None where the target has integers alone, no loss is too large, or the same network loses too much in float.

    Args:
        drops: what the network lost at this size in other precisions.
    """
    most = settings.max_miou_drop
    if most is None or (settings.target is not None and TARGETS[settings.target].integer):
        return ()
    if drops and min(drops) > most:
        return ()
    return tuple(sorted({count for count in settings.float_tensors if count}))


def _networks(model, training, settings, folder, log, progress):
    """{name: network} of the model itself and of its pruned ones, which are kept as .keras files."""
    networks: dict[str, keras.Model] = {}
    found: Any = None
    for share in sorted(settings.multiply_adds, reverse=True):
        if share == 1:
            networks[WHOLE] = model
            continue
        name, file = f"pruned to {share:g}", folder / f"pruned-{share:g}.keras"
        if file.is_file():
            from keras_deeplab.loading import load

            networks[name] = load(file)
            continue
        if found is None:
            found = _sensitive(model, training, settings, log, progress)
        look, measured, costs = found
        shares = pruning.shares_for(look, measured, share, costs)
        networks[name] = look.narrow(look.kept(shares))
        with replacing(file) as temporary:
            networks[name].save(temporary)
    return networks


def _sensitive(model, training, settings, log, progress):
    spec = spec_of(model)
    own = tuple(model.inputs[0].shape[1:3])
    images = Calibration(training, settings.samples, spec).images(None if None in own else own)
    look = pruning.Pruning(model, images)
    whole, measured = pruning.sensitivities(
        look,
        training,
        settings.shares,
        limit=settings.sensitivity_limit,
        class_map=settings.class_map,
        progress=progress,
    )
    log(pruning.table(measured, whole))
    return look, measured, pruning.Costs(look, max(settings.sizes, key=np.prod) if None in own else own)


def _measured(network, name, size, precision, tensors, source, training, settings, folder, kept, scoring):
    """A file's row of `Choice`, without its time: from the folder, or made and scored now."""
    spec = spec_of(network)
    words = [f"{size[0]}x{size[1]}", *([f"os{spec.output_stride}"] if spec.output_stride else [])]
    words += [name.replace(" ", "-").replace("/", "-"), precision, *([f"{tensors}-float"] if tensors else [])]
    file = folder / f"{'_'.join(words)}.tflite"
    row = kept.values.get(file.name)
    if row is not None and file.is_file() and row["digest"] == _digest(network):
        return {key: value for key, value in row.items() if key != "digest"}
    calibrated = precision in CALIBRATED
    written = export_tflite(
        network,
        file,
        precision=precision,
        target=settings.target,
        input_size=size,
        calibration=(settings.calibration or training) if calibrated else None,
        calibration_samples=settings.calibration_samples,
        float_tensors=tensors,
    )
    try:
        operations = multiply_adds(network, size)
    except ValueError:  # a layer whose cost nobody knows
        operations = None
    row = {
        "network": name,
        "output_stride": spec.output_stride,
        "size": list(size),
        "precision": precision,
        "float_tensors": tensors,
        "multiply_adds": operations,
        "bytes": written.bytes,
        "mean_iou": float(evaluate(at_size(file, size), source, **scoring).mean_iou),
        "path": file.name,
    }
    kept.put(file.name, {**row, "digest": _digest(network)})
    return row


class at_size:
    """A file of one size, to a function from images of any size to labels of theirs.

    Larger images are scaled down to fit, and their labels back up; smaller ones are padded by the predictor.
    """

    def __init__(self, path: Any, size: tuple[int, int]) -> None:
        self.predict, self.size = predictor(path), size
        self.spec = self.predict.spec

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        inner = size_within(image.shape, self.size)
        if inner == (height, width):
            return self.predict(image)
        smaller = fitted(image, self.size, image.shape[-1])[: inner[0], : inner[1]]
        labels = self.predict(smaller)
        # Of the pixel that each one's middle lies in.
        rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in ((height, inner[0]), (width, inner[1])))
        return labels[rows][:, columns]


# What is kept -----------------------------------------------------------------------------------------------------


class _Kept:
    """Measurements in a file, of one model, data set and way to measure."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self.identity, self.values = path, identity, {}
        if path.is_file():
            stored = json.loads(read_regular(path))
            if stored["of"] != identity:
                other = [key for key, value in identity.items() if stored["of"].get(key) != value]
                raise ValueError(
                    f"{path.parent} holds measurements of something else (other {', '.join(other)}): give another "
                    "folder (folder=, --folder), or remove it"
                )
            self.values = stored["measured"]

    def put(self, name: str, value: Any) -> None:
        self.values[name] = value
        write_whole(self.path, json.dumps({"of": self.identity, "measured": self.values}, indent=1).encode())


def _digest(model: keras.Model) -> str:
    found = hashlib.sha256(str(spec_of(model).to_json()).encode())
    for variable in model.weights:
        found.update(variable.path.encode() + np.ascontiguousarray(variable.numpy()).tobytes())
    return found.hexdigest()[:16]


def _identity(model: keras.Model, source: Any, training: Any, settings: ShrinkOptions) -> dict[str, Any]:
    """What measurements depend on, beside the size, precision and network that a file's name tells."""
    names = ("limit", "class_map", "target", "calibration", "calibration_samples", "shares", "samples")
    told = settings.to_json()
    return json.loads(
        json.dumps(
            {
                "version": __version__,
                "model": _digest(model),
                "data": [source.name, source.num_examples],
                "training": None if training is None else [training.name, training.num_examples],
                **{name: told[name] for name in (*names, "sensitivity_limit")},
            }
        )
    )


def _timed(files: Sequence[Path], settings: ShrinkOptions, threads: int, at_once: int = 12) -> list[float]:
    """Milliseconds of each file; so many at once are loaded and run in turns."""
    found: list[float] = []
    for first in range(0, len(files), at_once):
        found += compare.latencies(files[first : first + at_once], settings.rounds, threads)
    return found


def _write(found: Shrunk, settings: ShrinkOptions, source: Any, folder: Path) -> None:
    told = {
        "asked": {"target_latency": settings.target_latency, "max_miou_drop": settings.max_miou_drop},
        "model_mean_iou": found.mean_iou,
        "data": source.name,
        "images": found.images,
        "threads": found.threads,
        "program": found.program,
        "taken": None if found.take is None else found.choices[found.take].path,
        "choices": [dataclasses.asdict(one) for one in found.choices],
    }
    write_whole(folder / "choices.json", json.dumps(told, indent=1).encode())
    write_whole(folder / "front.png", png([[chart(found.choices, found.mean_iou, settings.target_latency)]]))
    write_whole(folder / "front.md", (found.table() + "\n").encode())
