"""Shapes to the pixels that they cover: polygons, boxes, ellipses, lines and bitmaps in an image.

Coordinates are continuous unless said otherwise: the pixel in row r and column c covers [c, c + 1) by [r, r + 1), as in
COCO, CVAT, LabelMe and Label Studio. A pixel belongs to a shape that its centre lies in, so that shapes which share an
edge neither overlap nor leave a gap. (OpenCV's `fillPoly` takes whole coordinates for centres and adds every pixel that
the edge touches; a disc of ten pixels grows by a fifth.) A shape thinner than a pixel may cover no centre at all.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_deeplab.data.annotations.encoded import by_turns


class Canvas(NamedTuple):
    """The image that a shape is in: its size, and how wide lines are; None where lines are refused."""

    height: int
    width: int
    line_width: float | None = None


class Region(NamedTuple):
    """Pixels of an image: a mask, bool (H, W), whose upper left pixel is in row `top` and column `left` of it."""

    top: int
    left: int
    mask: np.ndarray


def points(values: Any, least: int = 3) -> np.ndarray:
    """Map a list of (x, y) to (N, 2) float64.

    Raises:
        ValueError: they are fewer than `least`, no pairs of numbers, or not finite.
    """
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError):
        found = None
    if found is None or found.ndim != 2 or found.shape[1] != 2 or not np.isfinite(found).all():
        raise ValueError(f"has points that are no list of two finite numbers (x, y) each: {_short(values)}")
    if len(found) < least:
        raise ValueError(f"has {len(found)} point{'s' * (len(found) != 1)}, and it takes {least} at least")
    return found


def polygon(canvas: Canvas, rings: Sequence[np.ndarray]) -> Region:
    """Map the outline of one shape, and those of its holes, to the pixels whose centres lie in it.

    A centre is inside where a line from it crosses the outlines an odd number of times.

    Args:
        rings: arrays (N, 2) of x and y, not closed.

    Raises:
        ValueError: it encloses nothing, or lies outside the image.
    """
    corners = np.concatenate(rings)
    top, left, bottom, right = _window(canvas, corners)
    if not any(abs(_area(ring)) > 0 for ring in rings):
        raise ValueError(f"encloses no area: its points lie on a line, {_short(corners.tolist())}")
    # From the upper to the lower end, so that neighbours who share an edge find the same crossings to the bit.
    start = corners
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upwards = (start[:, 1] > end[:, 1])[:, None]
    (x0, y0), (x1, y1) = np.where(upwards, end, start).T, np.where(upwards, start, end).T
    first = np.clip(np.ceil(y0 - 0.5), top, bottom).astype(np.int64)
    counts = np.clip(np.ceil(y1 - 0.5), top, bottom).astype(np.int64) - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossing = x0[edge] + (row + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    column = np.clip(np.ceil(crossing - 0.5), left, right).astype(np.int64)
    width = right - left + 1  # what is crossed behind the last column doesn't count
    places = np.sort((row - top) * width + column - left)
    # Every row is crossed an even number of times, so each begins outside.
    runs = np.diff(places, prepend=0, append=(bottom - top) * width)
    return Region(top, left, by_turns(runs).reshape(-1, width)[:, :-1])


def box(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, rotation: float = 0.0) -> Region:
    """Map two opposite corners to the pixels of a box, turned clockwise by degrees around its centre."""
    corners = points([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return polygon(canvas, [turned(corners, ((x0 + x1) / 2, (y0 + y1) / 2), rotation)])


def turned(corners: np.ndarray, center: tuple[float, float], degrees: float) -> np.ndarray:
    """Points (N, 2) turned around another, clockwise as one sees the image."""
    if not degrees:
        return corners
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return (corners - center) @ np.array([[cosine, sine], [-sine, cosine]]) + center


def ellipse(canvas: Canvas, x: float, y: float, radius_x: float, radius_y: float, rotation: float = 0.0) -> Region:
    """Map centre and radii to the pixels of an ellipse, turned clockwise by degrees.

    Raises:
        ValueError: a radius isn't positive, or it lies outside the image.
    """
    center = points([(x, y)], 1)[0]
    if not (0 < radius_x < math.inf and 0 < radius_y < math.inf):
        raise ValueError(f"has radii {radius_x} and {radius_y}, which must be greater than 0")
    sine, cosine = math.sin(math.radians(rotation)), math.cos(math.radians(rotation))
    reach = np.hypot([radius_x * cosine, radius_x * sine], [radius_y * sine, radius_y * cosine])
    top, left, bottom, right = _window(canvas, np.stack([center - reach, center + reach]))
    across, down = np.arange(left, right) + 0.5 - x, (np.arange(top, bottom) + 0.5 - y)[:, None]
    along, beside = (across * cosine + down * sine) / radius_x, (down * cosine - across * sine) / radius_y
    return Region(top, left, along**2 + beside**2 <= 1)


def line(canvas: Canvas, corners: np.ndarray) -> Region:
    """Map a line through points (N, 2) to the pixels whose centres are at most half the line's width from it.

    Raises:
        ValueError: the canvas says no width, or it lies outside the image.
    """
    if canvas.line_width is None:
        raise ValueError(
            "is a line, which covers no area: line_width= says how many pixels wide lines are to be painted, or change "
            "it to a polygon"
        )
    half = canvas.line_width / 2
    top, left, bottom, right = _window(canvas, np.concatenate([corners - half, corners + half]))
    across, down = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
    mask = np.zeros((bottom - top, right - left), bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = ((across - x0) * (x1 - x0) + (down - y0) * (y1 - y0)) / length if length else np.zeros_like(mask, float)
        along = np.clip(along, 0, 1)
        mask |= (across - x0 - along * (x1 - x0)) ** 2 + (down - y0 - along * (y1 - y0)) ** 2 <= half**2
    return Region(top, left, mask)


def bitmap(canvas: Canvas, top: int, left: int, mask: np.ndarray) -> Region:
    """Map a mask, bool (H, W), and the place of its upper left pixel to what of it lies in the image.

    Raises:
        ValueError: nothing of it does.
    """
    height, width = mask.shape
    rows = slice(max(-top, 0), min(height, canvas.height - top))
    columns = slice(max(-left, 0), min(width, canvas.width - left))
    inside = mask[rows, columns] if rows.start < rows.stop and columns.start < columns.stop else mask[:0]
    if not inside.size:
        raise ValueError(
            f"is a mask of {width}x{height} pixels at column {left}, row {top}: outside its image of "
            f"{canvas.width}x{canvas.height} pixels"
        )
    return Region(max(top, 0), max(left, 0), inside)


def union(regions: Iterable[Region]) -> Region:
    """The pixels of any of several regions, one at least."""
    regions = list(regions)
    if len(regions) == 1:
        return regions[0]
    top, left = min(region.top for region in regions), min(region.left for region in regions)
    bottom = max(region.top + region.mask.shape[0] for region in regions)
    right = max(region.left + region.mask.shape[1] for region in regions)
    mask = np.zeros((bottom - top, right - left), bool)
    for region in regions:
        rows = slice(region.top - top, region.top - top + region.mask.shape[0])
        mask[rows, region.left - left : region.left - left + region.mask.shape[1]] |= region.mask
    return Region(top, left, mask)


def _window(canvas: Canvas, corners: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, bottom and right (excluded) of the pixels that points (N, 2) span in the image."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high <= 0).any() or low[0] >= canvas.width or low[1] >= canvas.height:
        raise ValueError(
            f"reaches from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}): outside its image of "
            f"{canvas.width}x{canvas.height} pixels"
        )
    left, top = np.maximum(np.floor(low), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(high), (canvas.width, canvas.height)).astype(int).tolist()
    return top, left, bottom, right


def _area(ring: np.ndarray) -> float:
    x, y = (ring - ring[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _short(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 80 else f"{text[:77]}..."
