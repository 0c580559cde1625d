"""The pieces of a page: one HTML file that asks for nothing else, readable in light and in dark.

Whatever comes from outside, names of files above all, is escaped. The page's own policy lets a browser load nothing
and run nothing, so a page about somebody's data can be passed on.
"""

import base64
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_deeplab._helpers.files import write_whole

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #fff; --ink: #1a1f29; --muted: #5b6575; --line: #d7dce4;
  --bar: #2456b3; --error: #b3261e; --warning: #8a5300; --note: #3d5a80; --good: #1d6b3a; }
@media (prefers-color-scheme: dark) { :root { --paper: #12151b; --card: #1b2029; --ink: #e8ebf1; --muted: #a3adbd;
  --line: #333b49; --bar: #8fb4ff; --error: #ff8f87; --warning: #f2b75c; --note: #9dbbe3; --good: #7fd6a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px clamp(12px, 3vw, 32px) 64px; max-width: 1100px; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5em 0; } h2 { font-size: 1.2rem; margin: 2em 0 0.5em; }
h1, h2, h3, p, li, figcaption { overflow-wrap: anywhere; } td, th { overflow-wrap: break-word; }
img { height: auto; }
p { margin: 0.5em 0; max-width: 50em; white-space: pre-line; }
.muted, figcaption { color: var(--muted); }
.error, .warning, .note, .good { padding: 0.1em 0 0.1em 0.8em; border-left: 4px solid var(--note); }
.error { border-color: var(--error); } .warning { border-color: var(--warning); } .good { border-color: var(--good); }
h3.error { color: var(--error); } h3.warning { color: var(--warning); } h3.note { color: var(--note); }
h3 { font-size: 1rem; margin: 1.5em 0 0.3em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); margin: 0.5em 0; font-size: 0.92rem; }
th, td { text-align: left; padding: 4px 12px; border: 1px solid var(--line); } td.number { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.pictures { display: flex; flex-wrap: wrap; gap: 12px; margin: 0.5em 0; }
figure { margin: 0; padding: 6px; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
figure img { display: block; max-width: 100%; } figcaption { font-size: 0.8rem; max-width: 420px; margin-top: 4px; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2em 1em; list-style: none; padding: 0; }
a { color: var(--bar); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
p.caption { margin: 1em 0 0; }
tbody th { font-weight: 500; }
details { margin: 0.5em 0; color: var(--muted); } ul { margin: 0.3em 0; padding-left: 1.5em; font-size: 0.9rem; }
svg { display: block; max-width: 100%; height: auto; margin: 0.5em 0; font-size: 13px; } svg text { fill: var(--ink); }
"""


class Markup(str):
    """Text that is HTML already: a whole cell of a table, `<td>` and all, or what `Page.put` takes."""


class Page:
    """What is put into it in turn, as one HTML file.

    Args:
        title: of the window, and the heading.
        style: CSS beside the pages' own.

    >>> page = Page("Two < three")
    >>> page.text("<b>", "warning")
    >>> '<h1>Two &lt; three</h1>' in page.html(), '<p class="warning">&lt;b&gt;</p>' in page.html()
    (True, True)
    """

    def __init__(self, title: str, style: str = "") -> None:
        self.title = title
        self.style = style
        self._parts: list[str] = []
        self._contents: list[tuple[str, str]] = []

    def heading(self, text: str, level: int = 2, kind: str = "", anchor: str | None = None) -> None:
        """A heading of level 2 or 3; kinds are those of `text`.

        Args:
            anchor: an address in the page, letters and digits; the page then begins with a list of such headings.
        """
        at = ""
        if anchor is not None:
            self._contents.append((anchor, text))
            at = f' id="{html.escape(anchor)}"'
        self._parts.append(f"<h{level}{at}{_class(kind)}>{html.escape(text)}</h{level}>")

    def text(self, text: str, kind: str = "") -> None:
        """A paragraph, in which line breaks stay; its kind is "error", "warning", "note", "good", "muted" or ""."""
        self._parts.append(f"<p{_class(kind)}>{html.escape(text)}</p>")

    def table(
        self, head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", row_heads: bool = False
    ) -> None:
        """A table; numbers (and texts that are one, perhaps with %) stand to the right.

        Args:
            head: of the columns.
            rows: of values; a `Markup` is a cell as it stands.
            caption: what the table tells.
            row_heads: whether the first cell of a row names it.
        """
        top = "".join(f'<th scope="col">{html.escape(str(cell))}</th>' for cell in head)
        first = _row_head if row_heads else _cell
        lines = "".join(f"<tr>{''.join([*map(first, row[:1]), *map(_cell, row[1:])])}</tr>\n" for row in rows)
        self.put(wide(f"<thead><tr>{top}</tr></thead>\n<tbody>{lines}</tbody>", caption))

    def listing(self, title: str, lines: Sequence[str]) -> None:
        """Lines that are folded away under a title."""
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        self._parts.append(f"<details><summary>{html.escape(title)}</summary><ul>{items}</ul></details>")

    def pictures(self, pictures: Iterable[tuple[np.ndarray, str]], side: int = 420) -> None:
        """Pictures, uint8 (H, W, 3) or (H, W), beside one another, each with a line below.

        Args:
            side: the longest that a side is; larger ones are made smaller, small ones shown larger by whole numbers.
        """
        figures = [figure(image, caption, side) for image, caption in pictures]
        if figures:
            self.put(beside(figures))

    def put(self, markup: Markup) -> None:
        """HTML that escapes what it writes."""
        self._parts.append(markup)

    def svg(self, drawing: str) -> None:
        """A drawing, put in as it stands: `bars(...)`, or one that escapes what it writes."""
        self._parts.append(drawing)

    def html(self) -> str:
        """The whole page."""
        title = html.escape(self.title)
        body = "\n".join(self._parts)
        links = "".join(f'<li><a href="#{html.escape(at)}">{html.escape(text)}</a></li>' for at, text in self._contents)
        contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n' if links else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}{self.style}</style>\n</head>\n<body>\n"
            f"<header>\n<h1>{title}</h1>\n{contents}</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike) -> Path:
        """Writes the page; a file there is replaced whole or not at all."""
        write_whole(path, self.html().encode("utf-8", "replace"))
        return Path(path)


def bars(
    rows: Sequence[tuple[str, float]], colors: Sequence[Sequence[int]] | None = None, largest: float | None = None
) -> str:
    """Names with numbers, such as (class, share), to an SVG of horizontal bars with the numbers beside them.

    Args:
        colors: (red, green, blue) for each bar; None for the page's own.
        largest: what fills the width, by default the largest number.

    >>> bars([("road", 0.25)]).count("<rect")
    1
    """
    step, left, width = 22, 190, 380
    top = max([value for _, value in rows] or [0]) if largest is None else largest
    lines = []
    for place, (name, value) in enumerate(rows):
        y = step * place
        fill = "var(--bar)" if colors is None else "rgb({}, {}, {})".format(*map(int, colors[place]))
        length = width * min(1.0, value / top) if top > 0 else 0.0
        short = name if len(name) <= 26 else f"{name[:25]}…"
        lines.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{html.escape(short)}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{step - 6}" fill="{fill}" '
            'stroke="var(--muted)" stroke-width="0.5"/>'
            f'<text x="{left + length + 8:.1f}" y="{y + 15}">{_share(value)}</text>'
        )
    box = f"{left + width + 80} {step * len(rows) + 4}"
    return f'<svg viewBox="0 0 {box}" width="{left + width + 80}" role="img">{"".join(lines)}</svg>'


def figure(image: np.ndarray, caption: str, side: int = 420, labels: bool = False, alt: str = "") -> Markup:
    """A picture with a line below; arguments as of `Page.pictures` and `data_uri`.

    Args:
        alt: what is said in its stead; by default the caption.
    """
    uri, (height, width) = data_uri(image, side, labels)
    factor = max(1, side // max(height, width))
    size = f'width="{factor * width}" height="{factor * height}"'
    sharp = ' style="image-rendering: pixelated"' * (factor > 1)
    told = html.escape(alt or caption)
    return Markup(
        f'<figure><img {size} alt="{told}" src="{uri}"{sharp}><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def beside(parts: Iterable[str], kind: str = "") -> Markup:
    """HTML of figures to that of all of them, beside one another where there is room; `kind` is a class for CSS."""
    return Markup(f'<div class="pictures{f" {kind}" if kind else ""}">' + "\n".join(parts) + "</div>")


def wide(rows: str, caption: str = "") -> Markup:
    """The HTML of a table's rows to a table that scrolls by itself where it is wider than the window."""
    told = html.escape(caption)
    # Above it rather than in it: a caption would scroll away with the table. What scrolls must be reached by keys.
    above = f'<p class="caption muted">{told}</p>' if told else ""
    region = f' role="region" tabindex="0" aria-label="{told}"' if told else ""
    return Markup(f'{above}<div class="wide"{region}><table>{rows}</table></div>')


def _share(value: float) -> str:
    return f"{value:.2%}" if 0 < value < 0.1 else f"{value:.1%}"


def _class(kind: str) -> str:
    return f' class="{html.escape(kind)}"' if kind else ""


def _row_head(value: Any) -> str:
    return value if isinstance(value, Markup) else f'<th scope="row">{html.escape(str(value))}</th>'


def _cell(value: Any) -> str:
    if isinstance(value, Markup):
        return value
    text = html.escape(str(value))
    number = text == "-" or str(value).strip().rstrip("% ").replace(",", "").replace(".", "").lstrip("+-< ").isdecimal()
    return f'<td class="number">{text}</td>' if number else f"<td>{text}</td>"


def data_uri(image: np.ndarray, side: int, labels: bool = False) -> tuple[str, tuple[int, int]]:
    """A picture, made smaller to fit a square, as an address that holds it; and its (height, width).

    Args:
        labels: whether its colours stand for something, so that none may arise between two.
    """
    from keras_deeplab._helpers.opencv import cv2

    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if labels else cv2.INTER_AREA)
    # A JPEG would blur the edges of small ones, which are shown larger.
    sharp = labels or image.shape[0] * image.shape[1] <= 128 * 128
    kind, settings = ("png", []) if sharp else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 85])
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, encoded = cv2.imencode(f".{kind}", pixels, settings)
    return held(encoded.tobytes(), kind), image.shape[:2]


def held(data: bytes, kind: str) -> str:
    """The bytes of a picture's file, of a kind such as `"png"`, as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
