"""Draws the figures of docs/atrous.md into docs/images: `python docs/figures.py`."""

from pathlib import Path

import cv2
import keras
import numpy as np

import keras_deeplab
from keras_deeplab import data

IMAGES = Path(__file__).parent / "images"
TEAL, GREY, RED, INK = "#00897b", "#b0bec5", "#e53935", "#37474f"


def taps() -> str:
    """One 3x3 kernel at rates 1, 2 and 4: the same nine weights, and how far they reach."""
    cell, size, gap = 14, 11, 30
    parts, width = [], 3 * size * cell + 2 * gap
    for index, rate in enumerate((1, 2, 4)):
        left, middle = index * (size * cell + gap), size // 2
        for y in range(size):
            for x in range(size):
                tap = abs(x - middle) in (0, rate) and abs(y - middle) in (0, rate)
                inside = max(abs(x - middle), abs(y - middle)) <= rate
                fill = TEAL if tap else "#b2dfdb" if inside else "none"
                parts.append(
                    f'<rect x="{left + x * cell + 1}" y="{y * cell + 1}" width="{cell - 2}" height="{cell - 2}" '
                    f'fill="{fill}" stroke="{GREY}"/>'
                )
        parts.append(
            _text(left + size * cell / 2, size * cell + 20, f"rate {rate}: sees {2 * rate + 1} x {2 * rate + 1}")
        )
    return _svg(width, size * cell + 30, parts)


def grids() -> str:
    """A layer with stride 2 and one behind it, as they were and as the rewrite has them, along one axis."""
    step, count, left = 24, 17, 330
    # name, every how many pixels a feature lies, where the row is, the row that it reads and the taps' distance
    rows = [
        ("a map at stride 2", 2, 0, None, 0),
        ("a layer with stride 2: stride 4", 4, 1, 0, 2),
        ("the layer behind it", 4, 2, 1, 4),
        ("a map at stride 2", 2, 3.6, None, 0),
        ("rewritten, stride 1: stride 2 stays", 2, 4.6, 3, 2),
        ("the layer behind it, rate 2", 2, 5.6, 4, 4),
    ]
    parts = []
    for name, stride, place, reads, distance in rows:
        y = 12 + place * 42
        parts.append(_text(10, y + 4, name, "start"))
        if reads is not None:
            above = 12 + rows[reads][2] * 42
            for centre in (8, 10) if place > 4 else (8,):
                colour = INK if centre == 8 else RED
                for tap in (-distance, 0, distance):
                    parts.append(_line(left + centre * step, y, left + (centre + tap) * step, above, colour))
        for x in range(0, count, stride):
            fill = "white" if place > 4 and x % 4 else TEAL
            parts.append(f'<circle cx="{left + x * step}" cy="{y}" r="6" fill="{fill}" stroke="{TEAL}"/>')
    return _svg(left + count * step, 12 + 6 * 42, parts)


def maps() -> tuple[np.ndarray, float]:
    """A picture, its features at stride 8 and those of the rewrite at stride 2; and how far shared positions differ."""
    source = data.load("synthetic", split="val", size=257)
    image = source.sample(3)[0]
    network = _edges()
    dense = keras_deeplab.atrous(network, output_stride=2)
    batch = image[None].astype("float32")
    coarse, fine = (np.asarray(each(batch))[0] for each in (network, dense))
    difference = float(np.abs(fine[::4, ::4] - coarse).max() / np.abs(coarse).max())
    panels = [image, *(_heat(each.max(-1), image.shape[:2]) for each in (coarse, fine))]
    framed = [np.pad(panel, ((0, 0), (0, 8), (0, 0)), constant_values=255) for panel in panels]
    return np.concatenate(framed, 1), difference


def _edges() -> keras.Model:
    """A classifier in small: three strided layers that measure edges in four directions, on ever coarser maps."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", use_bias=False, activation="relu", name="edges")(inputs)
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, name="mean1")(x)
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, name="mean2")(x)
    model = keras.Model(inputs, x)
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "float32")
    kernels = np.stack([sobel, -sobel, sobel.T, -sobel.T], -1)
    model.get_layer("edges").set_weights([np.repeat(kernels[:, :, None], 3, 2)])
    box = np.outer([1, 2, 1], [1, 2, 1]).astype("float32") / 16
    for name in ("mean1", "mean2"):
        model.get_layer(name).set_weights([np.repeat(box[..., None, None], 4, 2)])
    return model


def _heat(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # At the rim the padding is an edge, far stronger than those of the picture.
    rim = max(1, len(values) // 12)
    limit = values[rim:-rim, rim:-rim].max()
    scaled = (255 * np.clip(values / limit, 0, 1)).astype("uint8")
    shown = cv2.resize(scaled, size[::-1], interpolation=cv2.INTER_NEAREST)
    return cv2.cvtColor(cv2.applyColorMap(shown, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def _line(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    return f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{colour}" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    style = f'text-anchor="{anchor}" font-family="sans-serif" font-size="13" fill="{INK}"'
    return f'<text x="{x}" y="{y}" {style}>{text}</text>'


def _svg(width: float, height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {width + 8} {height + 8}" width="{width + 8}">'
    ground = f'<rect x="-4" y="-4" width="{width + 8}" height="{height + 8}" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>\n"])


if __name__ == "__main__":
    (IMAGES / "taps.svg").write_text(taps(), "utf-8")
    (IMAGES / "grids.svg").write_text(grids(), "utf-8")
    picture, difference = maps()
    cv2.imwrite(str(IMAGES / "atrous.png"), picture[..., ::-1])
    print(f"the rewrite at every fourth position against the network: {difference:.1e} of the largest feature")
