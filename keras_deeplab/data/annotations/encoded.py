"""Masks in text to bool (H, W): runs of COCO, CVAT and Label Studio, PNG files of LabelMe and Supervisely."""

import base64
import binascii
import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def from_counts(counts: Sequence[int], height: int, width: int, *, by_columns: bool) -> np.ndarray:
    """Map the lengths of runs of pixels outside and inside by turns, outside first, to a mask, bool (H, W).

    Args:
        by_columns: whether the pixels go down the columns, as COCO has them; else along the rows, as CVAT has.

    Raises:
        ValueError: they are no numbers of pixels, or don't fill the mask.
    """
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer) or (lengths < 0).any():
        raise ValueError("has runs that are no list of numbers of pixels")
    total = int(lengths.sum(dtype=np.int64))
    if total != height * width:
        raise ValueError(f"has runs of {total} pixels together, but {width}x{height} is {height * width}")
    pixels = by_turns(lengths)
    return pixels.reshape(width, height).T if by_columns else pixels.reshape(height, width)


def by_turns(lengths: np.ndarray) -> np.ndarray:
    """Lengths of runs outside and inside by turns, outside first, to bool."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def coco_counts(text: str | bytes) -> list[int]:
    """Map COCO's compressed runs to their lengths.

    A number takes one character or more: five of its bits each, the lowest first, and a sixth that says whether another
    follows; 48 is added to make it readable. The highest bit of the last is the sign. From the fourth run on the number
    is the difference to the run before the previous one, which is of the same kind (pycocotools, `common/maskApi.c`,
    `rleFrString`).

    Raises:
        ValueError: a character can't stand there, or the last number has no end.

    >>> coco_counts("52203")
    [5, 2, 2, 2, 5]
    """
    counts: list[int] = []
    value = shift = 0
    for code in text.encode() if isinstance(text, str) else text:
        if not 48 <= code < 112:
            raise ValueError(f"has the character {chr(code)!r} in its compressed runs, which can't stand there")
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("has compressed runs that end in the middle of a number")
    return counts


def coco_text(counts: Sequence[int]) -> str:
    """Map the lengths of runs to COCO's compressed text, what `coco_counts` reads.

    >>> coco_text([5, 2, 2, 2, 5])
    '52203'
    """
    text: list[str] = []
    for place, count in enumerate(counts):
        value = int(count) - (int(counts[place - 2]) if place > 2 else 0)
        while True:
            bits = value & 31
            value >>= 5  # keeps the sign
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
            if not more:
                break
    return "".join(text)


def label_studio_alpha(data: Sequence[int], height: int, width: int) -> np.ndarray:
    """Map a brush of Label Studio, bytes of thi.ng's rle-pack over RGBA pixels, to where it paints, bool (H, W).

    The bits are: 32 for the number of values, 5 for the bits of a value less 1, four times 4 for the bits of a length
    less 1. Then blocks until all values are there: a bit that says whether one value is repeated, 2 for which of the
    four sizes the length has, the length less 1, and one value or as many (the description in rle-pack's README).

    Raises:
        ValueError: they aren't bytes, end too early or are of another number of pixels.
    """
    packed = np.asarray(data)
    if packed.ndim != 1 or packed.dtype.kind not in "iu" or packed.min(initial=0) < 0 or packed.max(initial=0) > 255:
        raise ValueError("has an rle that is no list of bytes")
    packed = packed.astype(np.uint8)
    padded = packed.tobytes() + bytes(5)
    place = 0  # the next bit

    def taken(size: int) -> int:
        """Goes on by some bits; returns where they begin."""
        nonlocal place
        place += size
        if place > 8 * len(packed):
            raise ValueError(f"is cut short: its rle ends after {len(packed)} bytes")
        return place - size

    def number(size: int) -> int:
        byte, bit = divmod(taken(size), 8)
        return int.from_bytes(padded[byte : byte + 5]) >> (40 - bit - size) & ((1 << size) - 1)

    total, value_bits = number(32), number(5) + 1
    if total != height * width * 4:
        raise ValueError(f"has an rle of {total} values, but {width}x{height} pixels of RGBA are {height * width * 4}")
    sizes = [number(4) + 1 for _ in range(4)]
    painted = np.zeros(total, bool)
    done = 0
    while done < total:
        repeated = number(1)
        length = number(sizes[number(2)]) + 1
        if done + length > total:
            raise ValueError(f"is damaged: its rle has more than {total} values")
        if repeated:
            painted[done : done + length] = number(value_bits) > 0
        else:
            byte, bit = divmod(taken(length * value_bits), 8)
            bits = np.unpackbits(packed[byte : -(-place // 8)])[bit : bit + length * value_bits]
            painted[done : done + length] = bits.reshape(length, value_bits).any(axis=1)
        done += length
    return painted.reshape(height, width, 4)[..., 3]


def png_mask(text: Any) -> np.ndarray:
    """Map a PNG file in base64 to where it isn't black, or not transparent if it can be, bool (H, W).

    LabelMe writes grey files, Supervisely paletted ones whose first colour is transparent, or ones with an alpha
    channel, compressed with zlib; Label Studio's begin with `data:image/png;base64,`.

    Raises:
        ValueError: it is none.
    """
    from PIL import Image

    try:
        data = base64.b64decode(text.rpartition(",")[2], validate=True)
        if data[:1] == b"x":
            data = zlib.decompress(data)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if "transparency" in image.info or "A" in image.mode:
                return np.asarray(image.convert("RGBA"))[..., 3] > 0
            pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image)
            return (pixels.max(axis=-1) if pixels.ndim == 3 else pixels) > 0
    except (AttributeError, TypeError, binascii.Error, zlib.error, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"has a mask that is no PNG file in base64 ({error})") from error
