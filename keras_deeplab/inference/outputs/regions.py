"""Labels to connected regions, their outlines along the pixels' edges, and their runs of pixels.

Pixels are connected by their sides. A region's outlines are one outer ring and one for each of its holes; no ring
touches itself, and a hole touches the outer ring in single points at most, as polygons must. To fill them gives the
region back, pixel for pixel.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Directions of edges, clockwise as one sees the image, and the step (rows, columns) of each. A region lies on the
# right of its edges; in numbers, where y grows downwards, its outer ring turns counterclockwise.
_EAST, _SOUTH, _WEST, _NORTH = range(4)
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@dataclass(frozen=True, eq=False)
class Regions:
    """The connected regions of an image, in the order of their labels and then of their first pixels.

    Attributes:
        numbers: int32 (H, W), 1 to N, the region of each pixel; 0 for pixels of none.
        labels: int (N,), the label of each.
        pixels: int (N,), how many each has.
        boxes: int (N, 4), left, top, width and height.
        centers: float (N, 2), the mean x and y of the middles of its pixels.
    """

    numbers: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    boxes: np.ndarray
    centers: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def outlines(self) -> list[list[np.ndarray]]:
        """For each region its rings, int (corners, 2) of x and y, not closed: the outer one first, then the holes."""
        return outlines(self.numbers, len(self))

    @cached_property
    def runs(self) -> list[np.ndarray]:
        """For each region the lengths of runs outside and inside by turns, down the columns of the image (COCO's)."""
        if not len(self):
            return []
        found = self.numbers.T.reshape(-1)
        places = np.flatnonzero(found)
        order = np.argsort(found[places], kind="stable")
        places, owners = places[order], found[places[order]]
        last = np.flatnonzero((np.diff(places, append=-1) != 1) | (np.diff(owners, append=0) != 0))
        first = np.concatenate([[0], last[:-1] + 1])
        turns = np.stack([places[first], places[last] + 1], -1).reshape(-1)  # where runs inside begin and end
        ends = 2 * np.searchsorted(owners[first], np.arange(1, len(self) + 1), side="right")  # of each region's turns
        begins = np.concatenate([[0], ends[:-1]])
        runs = np.diff(turns, prepend=0)
        runs[begins] = turns[begins]
        behind = found.size - turns[ends - 1]  # the last run outside, left out where it has no pixel
        runs = np.insert(runs, ends[behind > 0], behind[behind > 0])
        return np.split(runs, np.cumsum(ends - begins + (behind > 0))[:-1])


def regions_of(labels: np.ndarray, without: Collection[int] = ()) -> Regions:
    """Labels (H, W) to the connected regions of all but some of them."""
    from keras_deeplab._helpers.opencv import cv2

    numbers = np.zeros(labels.shape, np.int32)
    total = 0
    kept: list[int] = []
    stats, centers = [np.zeros((0, 5), np.int64)], [np.zeros((0, 2), np.float64)]
    counts = np.bincount(labels.reshape(-1))
    for label in np.flatnonzero(counts).tolist():
        if label in without:
            continue
        mask = labels == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left = int(rows[0]), int(columns[0])
        window = (slice(top, int(rows[-1]) + 1), slice(left, int(columns[-1]) + 1))
        count, found, stat, center = cv2.connectedComponentsWithStats(
            np.ascontiguousarray(mask[window]).view(np.uint8), connectivity=4
        )
        inside = found > 0
        # OpenCV numbers them in an order of its own.
        order = np.argsort(np.unique(found[inside], return_index=True)[1], kind="stable") + 1
        rank = np.zeros(count, np.int32)
        rank[order] = np.arange(1, count)
        numbers[window][inside] = rank[found[inside]] + total
        stats.append(stat[order].astype(np.int64) + (left, top, 0, 0, 0))
        centers.append(np.asarray(center[order] + (left + 0.5, top + 0.5), np.float64))
        kept += [label] * (count - 1)
        total += count - 1
    stat = np.concatenate(stats)
    return Regions(numbers, np.array(kept, np.int64), stat[:, 4], stat[:, :4], np.concatenate(centers))


def outlines(numbers: np.ndarray, count: int) -> list[list[np.ndarray]]:
    """Regions by their numbers, int (H, W), 1 to `count` and connected by sides, to the rings of each."""
    height, width = numbers.shape
    around = np.zeros((height + 2, width + 2), numbers.dtype)
    around[1:-1, 1:-1] = numbers
    inner = around[1:-1, 1:-1]
    across = width + 1  # corners in a row
    starts, owners, ways = [], [], []
    for heading, (beside, (down, right)) in enumerate(
        (
            (around[:-2, 1:-1], (0, 0)),  # the upper edge, going east from the upper left corner
            (around[1:-1, 2:], (0, 1)),
            (around[2:, 1:-1], (1, 1)),
            (around[1:-1, :-2], (1, 0)),
        )
    ):
        rows, columns = np.nonzero((inner != beside) & (inner > 0))
        starts.append((rows + down) * across + columns + right)
        owners.append(inner[rows, columns])
        ways.append(np.full(len(rows), heading))
    start, owner, way = (np.concatenate(each) for each in (starts, owners, ways))
    key = start * 4 + way  # of an edge, which belongs to one pixel
    order = np.argsort(key)
    start, owner, way, key = start[order], owner[order], way[order], key[order]
    end = start + np.array([down * across + right for down, right in _STEPS])[way]
    following = np.full(len(key), -1)
    # Where two pixels of a region meet in a corner and no side, the rings part there: by turning left, to the other
    # pixel. So a hole behind the corner has a ring of its own.
    for turn in (1, 0, -1):
        wanted = end * 4 + (way + turn) % 4
        place = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        fits = (key[place] == wanted) & (owner[place] == owner) if len(key) else np.zeros(0, bool)
        following[fits] = place[fits]
    corners, lengths, whose = _followed(following.tolist(), way.tolist(), start.tolist(), owner.tolist())
    found: list[list[np.ndarray]] = [[] for _ in range(count)]
    if not lengths:
        return found
    y, x = np.divmod(np.array(corners), across)
    ends = np.cumsum(lengths, dtype=np.int64)
    begins = ends - lengths
    behind = np.arange(1, len(x) + 1)
    behind[ends - 1] = begins
    outer = np.add.reduceat(x * y[behind] - y * x[behind], begins) > 0  # twice the area in each ring
    rings = np.split(np.stack([x, y], -1), ends[:-1])
    for number in np.concatenate([np.flatnonzero(outer), np.flatnonzero(~outer)]).tolist():
        found[whose[number] - 1].append(rings[number])
    return found


def _followed(
    following: list[int], way: list[int], start: list[int], owner: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """The rings of edges: the corners where they turn, ring by ring, how many of each, and whose they are.

    The first edge of each is the one with the lowest key, which begins in a corner.
    """
    seen = bytearray(len(following))
    corners: list[int] = []
    lengths: list[int] = []
    whose: list[int] = []
    for first in range(len(following)):
        if seen[first]:
            continue
        edge, before, known = first, -1, len(corners)
        while not seen[edge]:
            seen[edge] = 1
            if way[edge] != before:
                corners.append(start[edge])
                before = way[edge]
            edge = following[edge]
        lengths.append(len(corners) - known)
        whose.append(owner[first])
    return corners, lengths, whose
