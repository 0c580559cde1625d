"""Charts to a PNG, by Pillow, which the package has anyway: its own font, and lines smoothed by drawing them larger."""

import io
import unicodedata
from collections.abc import Sequence
from typing import Any

from keras_deeplab.reports.charts import Chart, Dot, Stroke, Words, shapes

_INK = {
    "text": (26, 31, 41),
    "muted": (91, 101, 117),
    "grid": (215, 220, 228),
    "first": (36, 86, 179),
    "second": (179, 98, 0),
}
_SMOOTH = 2  # times larger


def png(rows: Sequence[Sequence[Chart]], scale: int = 2, letter: int = 13) -> bytes:
    """Rows of charts to a PNG file's bytes, dark on white.

    Pillow's font has the letters of ASCII alone: `plain` makes such texts.

    Args:
        rows: of charts beside one another; a row is as high as its highest chart.
        scale: pixels of the picture for each pixel of a chart.
        letter: height of a letter, in pixels of a chart.
    """
    from PIL import Image

    gap = 2 * letter
    width = max(sum(chart.width + gap for chart in row) for row in rows)
    drawn = [_row(row, width + gap, gap, scale, letter) for row in rows]
    picture = Image.new("RGB", (drawn[0].width, sum(row.height for row in drawn) + scale * gap), "white")
    top = scale * gap
    for row in drawn:
        picture.paste(row, (0, top))
        top += row.height
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def _row(charts: Sequence[Chart], width: int, gap: int, scale: int, letter: int) -> Any:
    from PIL import Image, ImageDraw

    height = max(chart.height for chart in charts) + gap
    larger = scale * _SMOOTH
    canvas = Image.new("RGB", (larger * width, larger * height), "white")
    draw, left = ImageDraw.Draw(canvas), gap
    for chart in charts:
        brush = _Brush(draw, larger, (left, 0), letter)
        for shape in shapes(chart, letter):
            brush.put(shape)
        left += chart.width + gap
    return canvas.reduce(_SMOOTH)


def plain(name: str, label: int) -> str:
    """A class's name in ASCII, without the marks on its letters, or where that isn't the name any more its number.

    >>> plain("h\u00f6hle", 3), plain("\u88c2\u7f1d", 3)
    ('hohle', 'class 3')
    """
    letters = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return letters if letters.isascii() and letters.isprintable() else f"class {label}"


class _Brush:
    """Draws shapes larger and moved."""

    def __init__(self, draw: Any, scale: int, corner: tuple[int, int], letter: int) -> None:
        from PIL import ImageFont

        self.draw, self.scale, self.corner = draw, scale, corner
        self.font = ImageFont.load_default(scale * letter)

    def _at(self, point: tuple[float, float]) -> tuple[float, float]:
        return tuple(self.scale * (value + move) for value, move in zip(point, self.corner, strict=True))  # type: ignore

    def put(self, shape: Any) -> None:
        if isinstance(shape, Stroke):
            width = 1 if shape.role in ("grid", "muted") else 2
            points = [self._at(point) for point in shape.points]
            self.draw.line(points, _INK[shape.role], round(self.scale * width * 0.9), joint="curve")
        elif isinstance(shape, Dot):
            (x, y), radius = self._at(shape.at), 2.6 * self.scale
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), _INK[shape.role])
        elif isinstance(shape, Words):
            self._write(shape)

    def _write(self, words: Words) -> None:
        apart = self.scale * 12
        widths = [self.draw.textlength(text, self.font) for text, _ in words.parts]
        x, y = self._at(words.at)
        x -= {"start": 0.0, "middle": 0.5, "end": 1.0}[words.anchor] * (sum(widths) + apart * (len(widths) - 1))
        for (text, role), width in zip(words.parts, widths, strict=True):
            self.draw.text((x, y), text, _INK[role], self.font, "ls", stroke_width=self.scale // 4 * words.bold)
            x += width + apart
