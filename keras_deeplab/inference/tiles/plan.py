"""Where tiles lie along an axis of an image: pixels to spans that cover it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in pixels.

    Attributes:
        start, stop: what it sees, `stop` excluded.
        low, high: the part of it that its scores count in.
        fade_in, fade_out: over how many pixels from `low` on, and up to `high`, they share that with its neighbours; 0
            at the image's ends, and where neighbours meet without an overlap of what counts.
    """

    start: int
    stop: int
    low: int
    high: int
    fade_in: int = 0
    fade_out: int = 0


def spans(size: int, most: int, halo: int, unit: int, fade: int = 0, fixed: bool = False) -> list[Span]:
    """The tiles that cover an axis, all of one size, in order.

    They start at multiples of `unit`, and their size and the image's leave the same rest by it. A network's strided
    layers pad by the rest that sizes leave, so its maps of a tile lie on the positions of its maps of the image; and
    the first and last tile end where the image does, with the image's own padding.

    Args:
        size: pixels of the image.
        most: pixels of a tile at most.
        halo: pixels at a tile's inner ends whose scores don't count; a multiple of `unit`.
        unit: what starts are multiples of.
        fade: pixels over which neighbours' scores are mixed, at most twice the halo; a multiple of twice the unit.
        fixed: whether tiles are of size `most` exactly. Then the last one may reach behind the image, whose rest is
            the tile's no longer: the spans cover the image padded to `spans(...)[-1].stop`.

    Raises:
        ValueError: a tile is all halo.

    >>> [(span.start, span.stop, span.low, span.high) for span in spans(100, 80, 16, 16)]
    [(0, 68, 0, 48), (32, 100, 48, 100)]
    """
    if fixed:
        size = most if size <= most else most + -(-(size - most) // unit) * unit
    if size <= most:
        return [Span(0, size, 0, size)]
    rest = size % unit
    largest = most - (most - rest) % unit
    if largest - rest - 2 * halo < max(unit, fade):
        least = 2 * halo + max(unit, fade) + rest
        raise ValueError(
            f"a tile of {most} pixels with a halo of {halo} on both sides has no scores left that count: give a tile "
            f"(--tile) of at least {least + unit}, or a smaller halo (--halo)"
        )
    tile = largest if fixed else _even(size, largest, rest + 2 * halo, unit, max(unit, fade))
    step = tile - rest - 2 * halo
    count = 1 + -(-(size - tile) // step)
    starts = [min(index * step, size - tile) for index in range(count)]
    meets = [index * step + halo for index in range(1, count)]
    half = fade // 2
    found = []
    for index, start in enumerate(starts):
        first, last = index == 0, index == count - 1
        low = 0 if first else meets[index - 1] - half
        high = size if last else meets[index] + half
        found.append(Span(start, start + tile, low, high, 0 if first else fade, 0 if last else fade))
    return found


def _even(size: int, largest: int, lost: int, unit: int, least: int) -> int:
    """The smallest tile with which no more tiles are needed than with the largest; `least` of it count at least."""
    count = 1 + -(-(size - largest) // (largest - lost))
    tile = max(-(-(size + (count - 1) * lost) // count), lost + least)
    return min(largest, tile + (size - tile) % unit)
