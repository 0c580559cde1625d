"""Names and shares as people read them: what a terminal can show, aligned, and percentages."""

import unicodedata
from collections.abc import Sequence


def shown(name: str, longest: int = 32) -> str:
    """A name as a terminal can show it: printable, on one line, of at most `longest` columns.

    >>> shown("a\\nb"), shown("background", longest=5)
    ('a\N{REPLACEMENT CHARACTER}b', 'back\N{HORIZONTAL ELLIPSIS}')
    """
    name = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    if columns(name) <= longest:
        return name
    while columns(name) > longest - 1:
        name = name[:-1]
    return f"{name}\N{HORIZONTAL ELLIPSIS}"


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: two for each wide letter, none for a mark on another.

    >>> columns("crack"), columns("\\u88c2\\u7f1d"), columns("u\\u0308")
    (5, 4, 1)
    """
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def padded(text: str, width: int) -> str:
    """A text with spaces behind it, up to a number of columns."""
    return text + " " * (width - columns(text))


def percent(share: float) -> str:
    """A share as text, with two digits that count.

    >>> percent(0.0316), percent(0.00004), percent(0.968), percent(1.0)
    ('3.2 %', '0.004 %', '97 %', '100 %')
    """
    return f"{round(100 * share)} %" if share >= 0.095 else f"{float(f'{100 * share:.2g}'):.15g} %"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool = False) -> str:
    """Rows of strings below a header, as aligned text or as a Markdown table."""
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
