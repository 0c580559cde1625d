"""What a check says: a `Finding`, with the option that mends it and the samples that show it."""

from dataclasses import dataclass, field

SEVERITIES = ERROR, WARNING, NOTE = ("error", "warning", "note")
_SHOWN = 3  # details of a finding that the terminal shows
_LINE = 110  # characters of them that fit a line


@dataclass(frozen=True)
class Example:
    """A sample or a file that shows a finding.

    Attributes:
        name: what to call it.
        split: the split that it is of, and `index` its place there in the split's own order; None for files alone.
        files: paths of an image or mask, where the split can't read it or would hide what is to be seen.
    """

    name: str
    split: str | None = None
    index: int | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something about a data set that its owner should know before training on it.

    Attributes:
        severity: "error" (a training would be worthless or would stop), "warning" (it would likely be worse than need
            be) or "note".
        text: what it is, a sentence or two with numbers.
        remedy: the way out, with options as Python has them, `name=value`; `keras_deeplab.options.in_flags` makes them
            a command line's.
        details: one line for each file or sample, all of them.
        examples: some to look at.
        kind: the key of its check in `CHECKS`, which the check leaves to the table.
    """

    severity: str
    text: str
    remedy: str = ""
    details: tuple[str, ...] = field(default=(), repr=False)
    examples: tuple[Example, ...] = field(default=(), repr=False)
    kind: str = ""

    def told(self, shown: int | None = _SHOWN) -> str:
        """The lines that the terminal shows; short details stand in one.

        Args:
            shown: of the details; None for all.

        >>> print(Finding("note", "Few images.", "Take more.", ("a", "b", "c")).told(2))
        note: Few images.
            a, b, ... and 1 more
          -> Take more.
        """
        lines = [f"{self.severity}: {self.text}"]
        first, rest = self.details[:shown], len(self.details[:shown]) - len(self.details)
        more = [f"... and {-rest:,} more"] if rest else []
        short = sum(map(len, first)) < _LINE and not any(", " in detail for detail in first)
        if first:
            lines += [f"    {line}" for line in ([", ".join([*first, *more])] if short else [*first, *more])]
        if self.remedy:
            lines.append(f"  -> {self.remedy}")
        return "\n".join(lines)


def share(part: float, whole: float = 1.0) -> str:
    """A part of a whole in percent, as short as it can be told from 0 and from all.

    >>> share(1, 3), share(1, 300), share(1, 30000), share(999_999, 1_000_000), share(0, 3)
    ('33%', '0.33%', '0.0033%', '99.9999%', '0%')
    """
    percent = 100 * part / whole if whole else 0.0
    if percent == 0 or percent == 100:
        return f"{percent:.0f}%"
    if percent > 99:
        return f"{100 - float(f'{100 - percent:.2g}'):.10g}%"
    return f"{percent:.0f}%" if percent >= 10 else f"{float(f'{percent:.2g}'):.10g}%"


def number(count: int, what: str, many: str | None = None) -> str:
    """A number with its noun: `1 image`, `2 images`.

    >>> number(1, "image"), number(2000, "class", "classes")
    ('1 image', '2,000 classes')
    """
    return f"{count:,} {what if count == 1 else many or what + 's'}"
