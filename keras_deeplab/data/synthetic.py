"""The embedded data set: textured shapes that hide one another, drawn on the fly with labels that are exact."""

import colorsys

import numpy as np

from keras_deeplab.data.source import Source, indexed
from keras_deeplab.specs import IGNORED, Classes, default_colors

# The colour that a class leans to; a shape's own colour varies so far about it that neighbours overlap.
#   class         hue
_CLASSES = {
    "background": None,
    "disc": 0.02,
    "square": 0.60,
    "triangle": 0.32,
    "star": 0.14,
    "ring": 0.80,
}
CLASSES = list(_CLASSES)

_SPLITS = {"train": 1000, "val": 100}
_SHIFT = 4  # outlines are drawn in units of 1/16 pixel, in the form that cv2.fillPoly takes


def detect(name_or_path: str) -> bool:
    """Whether it is the name "synthetic"."""
    return name_or_path == "synthetic"


def read(
    location: str = "",
    split: str = "train",
    *,
    num_examples: int | None = None,
    size: int | tuple[int, int] = (128, 128),
    seed: int = 0,
) -> Source:
    """Map a split's name to a `Source` of drawn scenes: background and five shapes, with textures, light and noise.

    Sample `index` of a split depends on `seed`, the split's name, `size` and `index` alone. Objects hide one another
    (the last is in front), and the pixels on either side of an edge are ignored (255), as in PASCAL VOC.

    Args:
        location: not used; readers share their signature.
        split: any name; "train" and "val" differ as any two do, and have 1000 and 100 samples where `num_examples`
            does not say.
        num_examples: int.
        size: (height, width), or an int for both; at least 16.
        seed: int.

    Returns:
        `Source` with the classes background, disc, square, triangle, star and ring.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 16:
        raise ValueError(f"size={size}; the shapes need at least 16 pixels")
    num_examples = _SPLITS.get(split, _SPLITS["val"]) if num_examples is None else num_examples
    stream = list(str(split).encode())

    def read_scene(index):
        image, label = draw(np.random.default_rng([seed % 2**63, *stream, index]), height, width)
        return image, label, f"{split}-{index:06d}"

    return indexed(f"synthetic ({split})", Classes(tuple(CLASSES), colors()), num_examples, read_scene)


def colors() -> tuple[tuple[int, int, int], ...]:
    """The colours that stand for the classes, (red, green, blue) each: the hue that each leans to, black first."""
    hues = [None if hue is None else colorsys.hsv_to_rgb(hue, 0.85, 0.9) for hue in _CLASSES.values()]
    return tuple(
        default if hue is None else (_byte(hue[0]), _byte(hue[1]), _byte(hue[2]))
        for default, hue in zip(default_colors(len(hues)), hues, strict=True)
    )


def _byte(part: float) -> int:
    return int(np.round(255 * part))


def draw(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Map a random generator and a size to a scene: image (H, W, 3) uint8 RGB, label (H, W) uint8.

    Args:
        rng: `numpy.random.Generator`; all that varies is drawn from it.
        height, width: ints.
    """
    from keras_deeplab._helpers.opencv import cv2

    image = _background(rng, height, width)  # the channels first, which makes NumPy's inner loops long
    objects = np.zeros((height, width), np.uint8)  # 0 is the background, 1 the object drawn first, ...
    labels = [0]
    side = min(height, width)
    for _ in range(rng.integers(3, 7)):
        index = int(rng.integers(1, len(CLASSES)))
        radius = side * rng.uniform(0.13, 0.30)
        centre = np.array([rng.uniform(0.08, 0.92) * width, rng.uniform(0.08, 0.92) * height])
        contours = _outline(rng, CLASSES[index])
        angle = rng.uniform(0, 2 * np.pi)
        cosine, sine = np.cos(angle), np.sin(angle)
        rotation = radius * np.array([[cosine, sine], [-sine, cosine]])
        shadow = radius * 0.12

        # Only the rectangle that the object and its shadow touch is worked on.
        reach = radius * 1.1 + 3 * shadow
        left, top = np.clip(np.floor(centre - reach), 0, None).astype(int)
        right, bottom = np.ceil(centre + reach).astype(int)
        box = image[:, top:bottom, left:right]
        rows, columns = box.shape[1:]
        points = [contour @ rotation + centre - (left, top) for contour in contours]
        cover = np.zeros((rows, columns), np.uint8)
        fixed_point = [np.round(contour * (1 << _SHIFT)).astype(np.int32) for contour in points]
        cv2.fillPoly(cover, fixed_point, 255, cv2.LINE_AA, _SHIFT)
        alpha = cover * np.float32(1 / 255)

        moved = np.array([[1, 0, shadow], [0, 1, shadow]], np.float32)
        shade = cv2.warpAffine(alpha, moved, (columns, rows))
        box *= 1 - 0.55 * cv2.GaussianBlur(shade, (0, 0), max(shadow * 0.7, 0.5))

        across = (np.arange(columns, dtype=np.float32) - np.float32(centre[0] - left)) / np.float32(radius)
        down = (np.arange(rows, dtype=np.float32) - np.float32(centre[1] - top))[:, None] / np.float32(radius)
        cosine, sine = np.float32(cosine), np.float32(sine)
        pattern = _pattern(rng, cosine * across + sine * down, cosine * down - sine * across)
        brightness = pattern + (np.float32(1) - np.float32(0.13) * across) - np.float32(0.13) * down
        box += alpha * (_colour(rng, _CLASSES[CLASSES[index]]) * brightness - box)
        labels.append(index)
        objects[top:bottom, left:right][cover > 127] = len(labels) - 1

    direction = rng.uniform(0, 2 * np.pi)
    gradient = rng.uniform(0.0, 0.3) * np.array([np.cos(direction), np.sin(direction)])
    across = np.linspace(-gradient[0], gradient[0], width, dtype=np.float32)
    down = np.linspace(-gradient[1], gradient[1], height, dtype=np.float32)[:, None]
    light = 1 + across + down
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(1, 7))
    image *= light
    image += grain
    square = np.ones((3, 3), np.uint8)
    label = np.array(labels, np.uint8)[objects]
    label[cv2.dilate(objects, square) != cv2.erode(objects, square)] = IGNORED
    return cv2.merge(np.clip(image, 0, 255).astype(np.uint8)), label


def _background(rng, height, width):
    """Two dull colours in soft patches, with a fainter pattern of small ones; float32 (3, H, W), 0..255."""
    from keras_deeplab._helpers.opencv import cv2

    patches = 0
    for cells, weight in ((3, 1.0), (9, 0.4), (31, 0.15)):
        noise = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        patches = patches + weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    mix = np.clip(0.5 + 0.6 * patches, 0, 1)
    first, second = (_colour(rng, rng.uniform(), saturation=(0.05, 0.35), value=(0.4, 0.95)) for _ in range(2))
    return first + mix * (second - first)


def _colour(rng, hue, saturation=(0.45, 0.9), value=(0.55, 1.0)):
    hue = (hue + rng.normal(0, 0.09)) % 1.0
    colour = colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), rng.uniform(*value))
    return 255 * np.array(colour, np.float32)[:, None, None]


def _pattern(rng, along, across):
    """One of five patterns as brightness to add, from coordinates in units of the object's radius."""
    kind = rng.integers(5)
    frequency = np.float32(rng.uniform(6, 14))
    strength = np.float32(rng.uniform(0.08, 0.22))
    if kind == 0:
        return np.zeros_like(along)
    if kind == 1:
        return strength * np.sin(frequency * along)
    if kind == 2:
        return strength * np.sign(np.sin(frequency * along)) * np.sign(np.sin(frequency * across))
    if kind == 3:
        return strength * (np.sin(frequency * along) * np.sin(frequency * across) > 0.3)
    return strength * (2 * rng.random(along.shape, np.float32) - 1)


def _circle(count=48):
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def _outline(rng, name):
    """A shape's contours, each (N, 2) points about the origin, of radius about 1; a second one is a hole."""
    if name == "disc":
        return [0.85 * _circle()]
    if name == "ring":
        return [0.95 * _circle(), rng.uniform(0.45, 0.6) * _circle()]
    if name == "square":
        return [np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]])]
    if name == "triangle":
        return [1.1 * _circle(3)]
    points = 1.1 * _circle(10)
    points[::2] *= rng.uniform(0.4, 0.5)
    return [points]
