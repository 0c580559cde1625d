"""Outputs that are shapes: GeoJSON polygons along the pixels' edges, and COCO's JSON with run-length encoded masks.

Both hold every pixel: filled, they give the labels back. COCO's polygons can't have holes (pycocotools fills each
outline by itself), so its file has runs of pixels instead, which every reader of COCO takes.
"""

import json
from typing import Any

import numpy as np

from keras_deeplab.data.annotations.encoded import coco_text
from keras_deeplab.inference.outputs.result import Legend, Output, Result


def geojson(result: Result) -> dict[str, bytes]:
    """A feature a region, with its holes. Outer rings turn counterclockwise, holes clockwise (RFC 7946, 3.1.6).

    Coordinates are those of the map where the image has a georeference, named by `crs` unless they are RFC 7946's own;
    else columns and rows of pixels, (0, 0) being the upper left corner and y growing downwards.
    """
    place, regions = result.place, result.regions
    features = []
    for label, pixels, rings in zip(regions.labels.tolist(), regions.pixels.tolist(), regions.outlines, strict=True):
        closed = []
        for ring in rings:
            corners = np.concatenate([ring, ring[:1]])
            if place is not None:
                corners = place.mapped(corners)[:: -1 if place.mirrors else 1]
            closed.append(corners.tolist())
        features.append(
            {
                "type": "Feature",
                "properties": {"label": label, "class": result.legend.names[label], "pixels": pixels},
                "geometry": {"type": "Polygon", "coordinates": closed},
            }
        )
    collection: dict[str, Any] = {"type": "FeatureCollection"}
    if place is not None and place.crs_name is not None:
        collection["crs"] = {"type": "name", "properties": {"name": place.crs_name}}
    return {".geojson": _json({**collection, "features": features})}


class CocoFile:
    """COCO's JSON of all images of a run: an annotation a region, its mask as compressed runs of pixels."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._categories: list[dict[str, Any]] = []
        self._count = 0

    def part(self, result: Result) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        height, width = result.labels.shape
        regions = result.regions
        annotations = [
            {
                "category_id": label,
                "segmentation": {"size": [height, width], "counts": coco_text(runs.tolist())},
                "area": pixels,
                "bbox": box,
                "iscrowd": 0,
            }
            for label, runs, pixels, box in zip(
                regions.labels.tolist(), regions.runs, regions.pixels.tolist(), regions.boxes.tolist(), strict=True
            )
        ]
        return {"file_name": result.name, "height": height, "width": width}, annotations

    def head(self, legend: Legend) -> bytes:
        things = [label for label in legend.channels if label not in legend.rest]
        self._categories = [{"id": label, "name": legend.names[label]} for label in things]
        self._legend = legend
        return b'{"annotations": ['

    def add(self, part: tuple[dict[str, Any], list[dict[str, Any]]]) -> bytes:
        image, annotations = part
        number = len(self._images) + 1
        self._images.append({"id": number, **image})
        lines = []
        for annotation in annotations:
            self._count += 1
            opening = ",\n" if self._count > 1 else "\n"
            lines.append(opening.encode() + _json({"id": self._count, "image_id": number, **annotation}))
            label = annotation["category_id"]
            if all(entry["id"] != label for entry in self._categories):  # of a model that doesn't tell how many it has
                self._categories.append({"id": label, "name": self._legend.names[label]})
        return b"".join(lines)

    def tail(self) -> bytes:
        rest = {"images": self._images, "categories": sorted(self._categories, key=lambda entry: entry["id"])}
        return b"\n],\n" + _json(rest)[1:] + b"\n"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


POLYGONS = Output("GeoJSON of each connected region, along the pixels' edges", (".geojson",), geojson, on_map=True)
COCO = Output("COCO's JSON of all images, masks as runs of pixels", collected=("coco.json", CocoFile))
