"""What is scored of a sample, where that isn't all of it at its own size: image and mask scaled, their centre."""

import numpy as np


def scaled_sample(image: np.ndarray, label: np.ndarray, shorter: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask scaled to a length of the shorter side, as torchvision's `resize` does with a PIL image.

    The longer side is rounded down. The image is filtered with a triangle as wide as its pixels become (no aliasing),
    along its rows and then its columns, each rounded; the mask takes the nearest pixel.
    """
    height, width = label.shape
    size = (shorter, int(shorter * width / height)) if height <= width else (int(shorter * height / width), shorter)
    if size == (height, width):
        return image, label
    rows, columns = (_triangles(old, new) for old, new in zip(label.shape, size, strict=True))
    scaled = image.astype(np.float64)
    for axis, weights in ((1, columns), (0, rows)):
        scaled = np.moveaxis(np.tensordot(weights, scaled, (1, axis)), 0, axis)
        scaled = np.floor(scaled + 0.5) if image.dtype == np.uint8 else scaled
    nearest = (_nearest(old, new) for old, new in zip(label.shape, size, strict=True))
    return scaled.astype(image.dtype), label[np.ix_(*nearest)]


def _triangles(old: int, new: int) -> np.ndarray:
    """Float64 (new, old): the weights of the old pixels of a side in each new one."""
    reach = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new
    weights = np.maximum(0.0, 1 - np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach)
    return weights / weights.sum(1, keepdims=True)


def _nearest(old: int, new: int) -> np.ndarray:
    """The old pixel that each new one of a side lies in; where it lies between two, as PIL's running sum has it."""
    steps = np.full(new, old / new)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps), old - 1).astype(np.int64)


def centre(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (height, width) of an array (H, W, ...), as torchvision's `center_crop`; sides that are shorter stay.

    >>> centre(np.arange(5)[None], (1, 2)).tolist()
    [[2, 3]]
    """
    starts = [max(0, round((old - new) / 2)) for old, new in zip(array.shape, size, strict=False)]
    return array[starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]]
