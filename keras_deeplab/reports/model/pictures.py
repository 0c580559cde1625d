"""What pictures of a model's answers are made of: maps of its errors, and marks that lie over a small photograph."""

import io
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

WRONG, IGNORED = (214, 0, 86), (90, 90, 90)
_MARKED = ((0, 0, 0, 130), (255, 0, 170, 150))  # elsewhere, and where the mark is


def errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, ignore_label: int) -> np.ndarray:
    """An image uint8 (H, W, 3) and its labels (H, W) to a pale grey one: red where wrong, dark where not scored.

    >>> image, truth = np.full((1, 3, 3), 100, np.uint8), np.array([[0, 0, 255]])
    >>> errors(image, truth, np.array([[0, 1, 1]]), 255).tolist()
    [[[177, 177, 177], [197, 15, 88], [90, 90, 90]]]
    """
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    found = np.repeat((0.5 * grey + 127)[..., None], 3, -1)
    scored = truth != ignore_label
    wrong = scored & (truth != prediction)
    found[wrong] = 0.85 * np.array(WRONG) + 0.15 * grey[wrong][:, None]
    found[~scored] = IGNORED
    return np.rint(found).astype(np.uint8)


def thumbnail(image: np.ndarray, side: int, quality: int = 75) -> tuple[bytes, tuple[int, int]]:
    """An image uint8 (H, W, 3) to the bytes of a JPEG file whose longer side is at most `side`, and its size."""
    from keras_deeplab._helpers.opencv import cv2

    height, width = small_size(image.shape[:2], side)
    if (height, width) != image.shape[:2]:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes(), (height, width)


def marks(mask: np.ndarray, side: int) -> bytes:
    """Bool (H, W) to the bytes of a small PNG file to lie over the thumbnail: colour where True, shade elsewhere.

    Pixels that making smaller would lose stay, as long as there are no others.
    """
    from PIL import Image

    from keras_deeplab._helpers.opencv import cv2

    height, width = small_size(mask.shape, side)
    share: np.ndarray = mask.astype(np.uint8) * 255
    if (height, width) != mask.shape:
        share = cv2.resize(share, (width, height), interpolation=cv2.INTER_AREA)
    small = share > 100
    if not small.any():
        small = share > 0
    picture = Image.fromarray(small.astype(np.uint8), "P")
    picture.putpalette([part for color in _MARKED for part in color[:3]])
    buffer = io.BytesIO()
    picture.save(buffer, "png", bits=1, transparency=bytes(color[3] for color in _MARKED))
    return buffer.getvalue()


def small_size(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """(height, width) made smaller so that neither is more than `side`."""
    scale = min(1.0, side / max(size))
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def drawn(
    source: Any, names: list[str], wanted: Collection[int], draw: Callable[[int, np.ndarray, np.ndarray], Any]
) -> dict[int, Any]:
    """What `draw(index, image, label)` makes of some samples of a `keras_deeplab.data` source, by their places.

    Args:
        names: of all samples up to the last that is wanted, as they were when they were predicted.

    Raises:
        ValueError: a sample is another one by now, or can't be read any more.
    """
    wanted, last = set(wanted), max(wanted, default=-1)
    found: dict[int, Any] = {}

    def measured(index: int, image: np.ndarray, label: np.ndarray, name: str) -> Any:
        if index not in wanted:
            return None
        if name != names[index]:
            raise ValueError(f"{source.name}: sample {index} was {names[index]} and is {name} now")
        return draw(index, image, label)

    if last < 0:
        return found
    for index, value in enumerate(source.survey(measured)):
        if index in wanted:
            if isinstance(value, Exception):
                raise value
            found[index] = value
        if index == last:
            break
    return found
