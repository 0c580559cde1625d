"""Outputs that are tables: the connected regions of each image, and how much of each class all images have."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_deeplab.inference.outputs.result import Legend, Output, Result

_REGIONS = ("region", "label", "class", "pixels", "share", "left", "top", "width", "height", "x", "y", "square_metres")
_CLASSES = ("image", "label", "class", "regions", "pixels", "share", "largest", "square_metres")


def regions_csv(result: Result) -> dict[str, bytes]:
    """A line a region: pixels, share of the image, box, centre; square metres where a map's coordinates are lengths."""
    regions, unit = result.regions, None if result.place is None else result.place.square_metres
    rows = [
        (
            number,
            label,
            result.legend.names[label],
            pixels,
            _share(pixels, result.labels.size),
            *box,
            *(f"{value:.2f}" for value in center),
            _metres(pixels, unit),
        )
        for number, (label, pixels, box, center) in enumerate(
            zip(
                regions.labels.tolist(),
                regions.pixels.tolist(),
                regions.boxes.tolist(),
                regions.centers.tolist(),
                strict=True,
            ),
            1,
        )
    ]
    return {"_regions.csv": _csv([_REGIONS, *rows])}


class AreasFile:
    """A line an image and class that occurs in it, background and ignored pixels among them."""

    def part(self, result: Result) -> bytes:
        unit = None if result.place is None else result.place.square_metres
        regions = result.regions
        rows = []
        rest = result.legend.rest
        for label, pixels in enumerate(np.bincount(result.labels.reshape(-1)).tolist()):
            if not pixels:
                continue
            own = regions.pixels[regions.labels == label]
            # A background is no thing whose pieces are counted.
            count, largest = ("", "") if label in rest else (len(own), int(own.max()))
            share = _share(pixels, result.labels.size)
            name = result.legend.names[label]
            rows.append((result.name, label, name, count, pixels, share, largest, _metres(pixels, unit)))
        return _csv(rows)

    def head(self, legend: Legend) -> bytes:
        return _csv([_CLASSES])

    def add(self, part: bytes) -> bytes:
        return part

    def tail(self) -> bytes:
        return b""


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().encode("utf-8", "backslashreplace")


def _share(pixels: int, of: int) -> str:
    return f"{pixels / of:.6g}"


def _metres(pixels: int, unit: float | None) -> str:
    return "" if unit is None else f"{pixels * unit:.10g}"


AREAS = Output(
    "CSV of each image's connected regions, and areas.csv of all images' classes",
    ("_regions.csv",),
    regions_csv,
    on_map=True,
    collected=("areas.csv", AreasFile),
)
