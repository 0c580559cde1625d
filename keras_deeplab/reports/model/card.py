"""What a model is and costs, as rows of names and values: parameters, multiply-adds, receptive field, latency."""

import html
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._version import __version__
from keras_deeplab.reports.page import Markup
from keras_deeplab.specs import ModelSpec, range_text

Rows = list[tuple[str, str]]


def card(measured: Any) -> list[tuple[str, Markup]]:
    """A `Measured` to rows of its model card; what nothing tells is left out or said so."""
    return [(name, Markup(f"<td>{html.escape(value)}</td>")) for name, value in told(measured)]


def told(measured: Any) -> Rows:
    """The same as text."""
    runtime = getattr(measured.predict, "runtime", None)
    spec: ModelSpec | None = getattr(measured.predict, "spec", None)
    rows: Rows = [("model", measured.name)]
    if Path(measured.name).is_file():
        rows.append(("file", f"{Path(measured.name).stat().st_size:,} bytes"))
    if runtime is not None:
        rows.append(("run by", type(runtime).__name__.removesuffix("Runtime")))
    if spec is not None:
        rows += _network(spec)
    size = usual_size(measured)
    padded = getattr(measured.predict, "input_size", None)
    rows += _costs(getattr(runtime, "model", None), padded or size)
    rows += [
        ("an image takes", _latency(measured, size)),
        ("on", f"{os.cpu_count()} processor cores ({platform.machine()}), {platform.system()}"),
        ("keras_deeplab", __version__),
    ]
    return rows


def usual_size(measured: Any) -> tuple[int, int]:
    """The (height, width) that most images have."""
    return measured.sizes.most_common(1)[0][0]


def _network(spec: ModelSpec) -> Rows:
    rows: Rows = []
    if spec.builder is not None:
        rows.append(("network", " ".join(filter(None, (spec.builder, spec.backbone)))))
    if spec.output_stride is not None:
        rows.append(("output stride", str(spec.output_stride)))
    if spec.image_range is not None:
        rows.append(("image range", range_text(spec.image_range)))
    names = "" if spec.classes.names is None else f": {', '.join(spec.classes.names[:40])}"
    more = ", ..." if len(spec.classes.names or ()) > 40 else ""
    rows.append(("classes", f"{spec.num_labels}{names}{more}"))
    return rows


def _costs(model: Any, size: tuple[int, int]) -> Rows:
    """Of a Keras model; of other files nothing tells them."""
    from keras_deeplab import summary

    if model is None:
        return [("parameters", "only told of Keras models and checkpoints, as are multiply-adds and receptive field")]
    parameters = summary.count_parameters(model)
    rows = [("parameters", f"{parameters.total:,} ({parameters.trainable:,} of them learnt by gradients)")]
    try:
        count = f"{summary.multiply_adds(model, size) / 1e9:,.2f} billion for one run at {size[0]}x{size[1]}"
    except ValueError as error:
        count = f"not known: {error}"
    try:
        seen = _seen(summary.receptive_field(model))
    except ValueError as error:
        seen = f"not known: {error}"
    return [*rows, ("multiply-adds", count), ("receptive field", seen)]


def _seen(fields: list[Any]) -> str:
    """The field of what a network ends with."""
    if not fields:
        return "1x1 pixel"
    last = fields[-1]
    if last.receptive_field is None:
        return "the whole image and nothing beside it"
    told = f"{float(last.receptive_field[0]):g}x{float(last.receptive_field[1]):g} pixels"
    return f"{told}, and the whole image through global pooling" if last.global_context else told


def _latency(measured: Any, size: tuple[int, int]) -> str:
    seconds = np.array(measured.seconds)
    middle, most = np.quantile(seconds, [0.5, 0.9])
    return (
        f"{middle:.3g} s (median of the {len(seconds):,} of this report, probabilities included; nine in ten at most "
        f"{most:.3g} s), most of them of {size[0]}x{size[1]}"
    )
