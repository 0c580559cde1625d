"""How well the outlines of a mask lie on the edges of its image: a number that tells a turned mask from a true one."""

from dataclasses import dataclass

import numpy as np

from keras_deeplab.specs import IGNORED

_SIDE = 192  # both are made this small: an edge is then some pixels wide, whatever the photograph's size
_STRONG = 0.15  # the share of an image's pixels that count as edges, and so what a mask of nothing would reach
_BLUR = 1.0  # pixels, against noise
_FEWEST = 24  # pixels of outline below which the share of them tells nothing


@dataclass(frozen=True)
class Outlines:
    """The strong edges of an image and the outlines of a mask, both bool (h, w)."""

    edges: np.ndarray
    outlines: np.ndarray

    def agreement(self, outlines: np.ndarray | None = None) -> float | None:
        """The share of a mask's outline, by default its own, that lies on edges; None where it has too little of it."""
        outlines = self.outlines if outlines is None else outlines
        count = np.count_nonzero(outlines)
        return None if count < _FEWEST else float(np.count_nonzero(self.edges & outlines) / count)


def outlines(image: np.ndarray, codes: np.ndarray) -> Outlines:
    """Map an image, (H, W, channels), and numbers that differ between regions, (H, W), to `Outlines`.

    >>> image = np.zeros((64, 64, 3), np.uint8)
    >>> image[8:30, 8:30] = 200
    >>> found = outlines(image, image[..., 0])
    >>> found.agreement(), found.agreement(found.outlines[::-1])
    (1.0, 0.0)
    """
    from keras_deeplab._helpers.opencv import cv2

    height, width = codes.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    pixels = image if image.dtype == np.uint8 else image.astype(np.float32)
    pixels = cv2.resize(np.ascontiguousarray(pixels[..., :4]), size, interpolation=cv2.INTER_AREA)
    pixels = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), _BLUR)
    # In the channel where it is steepest: a red thing may be as bright as the grey behind it.
    slope = np.hypot(cv2.Sobel(pixels, cv2.CV_32F, 1, 0), cv2.Sobel(pixels, cv2.CV_32F, 0, 1))
    slope = slope if slope.ndim == 2 else np.ascontiguousarray(slope.max(-1))
    slope = cv2.dilate(slope, np.ones((3, 3), np.uint8))
    edges = slope > max(np.quantile(slope, 1 - _STRONG), 1e-3)
    rows = (2 * np.arange(size[1]) + 1) * height // (2 * size[1])
    columns = (2 * np.arange(size[0]) + 1) * width // (2 * size[0])
    small = codes[rows][:, columns]
    found = np.zeros(small.shape, bool)
    found[:, 1:] |= small[:, 1:] != small[:, :-1]
    found[1:] |= small[1:] != small[:-1]
    return Outlines(edges, found)


def lone_pixels(label: np.ndarray) -> int:
    """How many labelled pixels of (H, W) are unlike all eight around them, of which ignored ones count as like.

    >>> label = np.zeros((5, 5), np.uint8)
    >>> label[1, 1] = 1
    >>> label[4, 3:] = 1
    >>> label[0, 4], label[1, 4] = 1, 255
    >>> lone_pixels(label)
    1
    """
    framed = np.full((label.shape[0] + 2, label.shape[1] + 2), -1, np.int16)
    framed[1:-1, 1:-1] = label
    framed[framed == IGNORED] = -2
    inner = framed[1:-1, 1:-1]
    alone = inner >= 0
    for down in (0, 1, 2):
        for across in (0, 1, 2):
            if (down, across) != (1, 1):
                other = framed[down : down + label.shape[0], across : across + label.shape[1]]
                alone &= (other != inner) & (other != -2)
    return int(np.count_nonzero(alone))
