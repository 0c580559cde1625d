"""TFLite files that stand under their names only after a comparison with the model they were made from."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_deeplab._helpers.files import unverified
from keras_deeplab.data.source import Source
from keras_deeplab.export import compare
from keras_deeplab.export.onnx import export_onnx
from keras_deeplab.export.targets import settled
from keras_deeplab.export.tflite.settings import CALIBRATED, PRECISIONS, fitting
from keras_deeplab.export.tflite.writer import TFLiteFile, export_tflite


class RejectedFile(ValueError):
    """A converted file lost more than was allowed.

    Attributes:
        path: where the file was left for inspection.
        verification: the `Verification`.
    """

    def __init__(self, path: Path, verification: compare.Verification) -> None:
        super().__init__(
            f"the converted file is no good: {verification}. It was left as {path} for inspection; nothing was "
            "written under the name asked for. Calibrate on more, or more typical, training images, choose another "
            "precision, or allow more (--max-miou-drop)"
        )
        self.path = path
        self.verification = verification


def export_verified(
    model: keras.Model,
    path: str | os.PathLike,
    source: Source,
    *,
    limit: int | None = None,
    max_miou_drop: float | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    progress: bool = True,
    **options: Any,
) -> tuple[TFLiteFile, compare.Verification]:
    """`export_tflite` and `verify` in one: a file stands under the name `path` only if it passed.

    Args:
        model, path, options: as in `export_tflite`.
        source, limit, max_miou_drop, class_map, progress: as in `compare.verify`. Take another split than the one
            calibrated on.

    Returns:
        (`TFLiteFile`, `Verification`), of a file of several sizes that of the size which lost most.

    Raises:
        RejectedFile: a ValueError, if the loss is larger than `max_miou_drop`. The file is then kept beside `path`
            as NAME.rejected.tflite, and whatever was at `path` before is untouched.
        ValueError: as in `export_tflite` and `verify`; no file is left then.
    """
    path = Path(path).expanduser()
    candidate = unverified(path, ".tflite")
    try:
        written = export_tflite(model, candidate, **options)
        options = {"limit": limit, "max_miou_drop": max_miou_drop, "class_map": class_map, "progress": progress}
        found = compare.verify_sizes([candidate], model, source, written.input_sizes, **options)
        verification = max((one for (one,) in found.values()), key=lambda one: (not one.passed, one.miou_drop))
        if not verification.passed:
            rejected = path.with_name(f"{path.stem}.rejected.tflite")
            os.replace(candidate, rejected)
            raise RejectedFile(rejected, verification)
        os.replace(candidate, path)
    finally:
        candidate.unlink(missing_ok=True)
    return dataclasses.replace(written, path=path), verification


def export_precisions(
    model: keras.Model,
    path: str | os.PathLike,
    precisions: Sequence[str] | None,
    source: Source | None = None,
    *,
    limit: int | None = None,
    max_miou_drop: float | None = None,
    class_map: Mapping[str, str | None] | str | None = None,
    rounds: int = 20,
    num_threads: int | None = None,
    runtimes: Sequence[str] = (),
    progress: bool = True,
    **options: Any,
) -> tuple[list[TFLiteFile], list[compare.Row]]:
    """A Keras model to a TFLite file of each of several precisions, and the table that compares them.

    Args:
        model: as in `export_tflite`.
        path: the file to write where there is one precision; with several, OUT.tflite stands for OUT-float32.tflite and
            so on.
        precisions: some of `PRECISIONS`; None for that of the target, or float32.
        source: labelled images to score the files on, as in `verify`; None for no scores. Take another split than the
            one calibrated on.
        limit, max_miou_drop, class_map: as in `verify`.
        rounds: how often each file is timed, as in `keras_deeplab.export.compare.latencies`.
        num_threads: of the runtimes; None for all cores.
        runtimes: further rows: `"onnxruntime"` and `"openvino"` run an ONNX file of the model, made for the purpose.
        progress: whether to show how far it is.
        options: the others of `export_tflite`, which a single precision has to take all. Of several,
            `calibration`, `calibration_samples` and `layer_errors` go to those that take them, `allow_float`,
            `float_tensors` and `fine_tune_steps` to int8.

    Returns:
        (files, rows): a list of `TFLiteFile`, one for each precision, and the `compare.Row`s that `compare.table`
        prints, one for each file and size. A file that lost more than `max_miou_drop` at one of its sizes has a path
        NAME.rejected.tflite, and nothing was written under its own name.

    Raises:
        ValueError: as in `export_tflite` and `verify`; no file is left then.
    """
    path = Path(path).expanduser()
    if precisions is None:
        precisions = [settled(options.get("target"), precision=None)["precision"]]
    if not precisions or len(set(precisions)) != len(precisions):
        raise ValueError(f"precisions must be some of {', '.join(PRECISIONS)}, each once; received {precisions!r}")
    for runtime in runtimes:
        if runtime not in ("onnxruntime", "openvino"):
            raise ValueError(f"runtimes must be some of onnxruntime, openvino; received {runtime!r}")
    several = len(precisions) > 1
    targets = [path.with_name(f"{path.stem}-{name}{path.suffix}") if several else path for name in precisions]
    candidates = [unverified(target, ".tflite") for target in targets]
    onnx_file = unverified(path, ".onnx")
    try:
        files = [
            export_tflite(
                model, candidate, precision=precision, **(fitting(precision, options) if several else options)
            )
            for precision, candidate in zip(precisions, candidates, strict=True)
        ]
        compared = [
            (file.precision, file.path, "litert", file.float_operators if file.precision in CALIBRATED else None)
            for file in files
        ]
        if runtimes:
            sizes = files[0].input_sizes
            kept: dict[str, Any] = {name: options.get(name) for name in ("output", "upsample", "classes", "palette")}
            kept = {name: value for name, value in kept.items() if value is not None}
            export_onnx(model, onnx_file, input_size=sizes[0] if len(sizes) == 1 else None, **kept)
            compared += [(f"ONNX, {runtime}", onnx_file, runtime, None) for runtime in runtimes]
        rows = compare.measured(
            compared,
            model,
            source,
            files[0].input_sizes,
            limit=limit,
            max_miou_drop=max_miou_drop,
            class_map=class_map,
            rounds=rounds,
            num_threads=num_threads,
            progress=progress,
        )
        rejected = {row.path for row in rows if row.rejected}
        final = {
            file.path: target.with_name(f"{target.stem}.rejected.tflite") if file.path in rejected else target
            for file, target in zip(files, targets, strict=True)
        }
        for candidate, target in final.items():
            os.replace(candidate, target)
        files = [dataclasses.replace(file, path=final[file.path]) for file in files]
        rows = [dataclasses.replace(row, path=final.get(row.path, row.path)) for row in rows]
    finally:
        for candidate in (*candidates, onnx_file):
            candidate.unlink(missing_ok=True)
    return files, rows
