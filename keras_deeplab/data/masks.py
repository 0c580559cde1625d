"""Label images: PNG files to uint8 labels (H, W) and back. Grey, paletted and RGB-coded files; 255 = ignored.

Image libraries expand a paletted PNG to its colours, and stretch grey levels of fewer than 8 bits to 0..255. What
a mask file means is neither: it is the number stored at each pixel. So files are rewritten in memory as plain grey
ones before OpenCV decodes them.

This is not left to Pillow, which does give a palette's indices: where a file holds too few pixels it fills up with
zeros in silence, of 16 bits of a colour it keeps 8, and it writes small palettes with fewer than 8 bits. The checksums
of pixels are verified here because neither of the two does it.
"""

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_deeplab._helpers.files import write_whole
from keras_deeplab.data.mask_codes import ENCODINGS, LabelReader, black_and_white, by_color, by_number
from keras_deeplab.specs import Color, default_colors

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types of a PNG's IHDR; 4 is added where there is an alpha channel
_ALPHA = 4


def voc_palette() -> np.ndarray:
    """Map labels to PASCAL VOC's colours: (256, 3) uint8, entry 0 black, entry 255 (224, 224, 192).

    The three lowest bits of a label are the highest bits of red, green and blue, the next three the next, and so on
    (VOCcode's `VOClabelcolormap.m`).

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    return np.array(default_colors(256), np.uint8)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split a PNG file's bytes into its chunks, a list of (type, contents), with every checksum verified.

    Raises:
        ValueError: the bytes are no PNG, end too early, or a checksum is wrong.
    """
    if not data.startswith(_SIGNATURE):
        raise ValueError("is not a PNG file" if data else "is empty")
    chunks: list[tuple[bytes, bytes]] = []
    position = len(_SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        if len(data) < position + 12:
            raise ValueError(f"is cut short: the PNG file ends after {len(data)} bytes without its last chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        contents = data[position + 8 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise ValueError(f"is cut short: the PNG file ends after {len(data)} bytes, inside its {kind!r} chunk")
        if zlib.crc32(contents, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise ValueError(f"is damaged: the checksum of the PNG file's {kind!r} chunk is wrong")
        chunks.append((kind, contents))
        position += 12 + length
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("is damaged: the PNG file does not begin with its header")
    return chunks


def _png(chunks):
    parts = [_SIGNATURE]
    for kind, contents in chunks:
        checksum = zlib.crc32(contents, zlib.crc32(kind))
        parts += [struct.pack(">I", len(contents)), kind, contents, struct.pack(">I", checksum)]
    return b"".join(parts)


class Stored(NamedTuple):
    """What a mask file stores: numbers (H, W) or RGB (H, W, 3); a palette (N, 3) uint8, alpha (H, W), or None."""

    values: np.ndarray
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None


def decode_label_png(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Map a PNG file's bytes to its stored numbers and its palette.

    Args:
        data: bytes.

    Returns:
        `(values, palette)`: for a grey or paletted file (H, W) uint8 or uint16, the numbers as stored, whatever the
        bit depth, else (H, W, 3) uint8 or uint16 RGB. `palette` is an (N, 3) uint8 array for a paletted file, else
        None. Alpha is dropped.

    Raises:
        ValueError: the bytes are no PNG, or a damaged one.
    """
    values, palette, _ = stored_in_png(data)
    return values, palette


def stored_in_png(data: bytes) -> Stored:
    """As `decode_label_png`, to a `Stored` with the alpha channel, or for a paletted file that of its colours."""
    from keras_deeplab._helpers.opencv import cv2

    chunks = png_chunks(data)
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    palette = alpha = None
    if colour_type == _PALETTE:
        palette = np.frombuffer(dict(chunks).get(b"PLTE", b""), np.uint8).reshape(-1, 3)
        transparency = np.frombuffer(dict(chunks).get(b"tRNS", b""), np.uint8)
        colour_type = _GREY
    # Everything but the pixels goes: transparency, gamma or animation would change what OpenCV returns.
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, *rest)
    pixels = [chunk for chunk in chunks if chunk[0] in (b"IDAT", b"IEND")]
    values = imdecode(_png([(b"IHDR", header), *pixels]), cv2.IMREAD_UNCHANGED)
    if colour_type & _ALPHA:
        alpha = np.ascontiguousarray(values[..., -1])
    if colour_type & ~_ALPHA == _GREY:
        if values.ndim == 3:
            values = np.ascontiguousarray(values[..., 0])
        if depth < 8:
            values //= 255 // (2**depth - 1)
    else:
        values = np.ascontiguousarray(values[..., 2::-1])
    if palette is not None and transparency.size:
        alpha = np.concatenate([transparency, np.full(256 - len(transparency), 255, np.uint8)])[values]
    return Stored(values, palette, alpha)


def imdecode(data: bytes, flags: int) -> np.ndarray:
    """`cv2.imdecode` of bytes, raising ValueError("can't be decoded") however this OpenCV reports that."""
    from keras_deeplab._helpers.opencv import cv2

    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ValueError(f"can't be decoded ({error})") from error
    if decoded is None:
        raise ValueError("can't be decoded" if data else "is empty")
    return decoded


def write_label_png(path: str | os.PathLike, labels: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write labels (H, W) as a paletted 8-bit PNG whose stored numbers are the labels; all of it or nothing.

    Args:
        path: where to; a file there is replaced.
        labels, palette: as of `label_png`.

    Raises:
        ValueError: the labels or the palette don't fit.
    """
    write_whole(path, label_png(labels, palette))


def label_png(labels: np.ndarray, palette: Any = None) -> bytes:
    """Map labels (H, W) to the bytes of a paletted 8-bit PNG file whose stored numbers are the labels.

    Args:
        labels: (H, W) integer array of values 0..255.
        palette: (N, 3) uint8 colours of labels 0 to N - 1, or None for `voc_palette()`.

    Raises:
        ValueError: the labels or the palette don't fit.
    """
    labels = np.asarray(labels)
    palette = voc_palette() if palette is None else np.asarray(palette)
    if labels.ndim != 2 or 0 in labels.shape or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be an integer (H, W) array, but are {labels.dtype} {labels.shape}")
    if palette.ndim != 2 or palette.shape[1] != 3 or not 0 < len(palette) <= 256 or palette.dtype != np.uint8:
        raise ValueError(f"the palette must be uint8 (N, 3), N up to 256, but is {palette.dtype} {palette.shape}")
    if labels.min() < 0 or labels.max() >= len(palette):
        raise ValueError(
            f"labels {labels.min()} to {labels.max()} do not fit a palette of {len(palette)} colours; an 8-bit PNG "
            "holds 0 to 255"
        )
    height, width = labels.shape
    # A filter byte of 0 ("none") opens every row; PNG's other filters only pay off for photographs.
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = labels
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE, 0, 0, 0)
    contents = zlib.compress(rows.tobytes(), 6)
    return _png([(b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", contents), (b"IEND", b"")])


def label_reader(
    num_classes: int,
    encoding: str = "auto",
    colors: Sequence[Color] | Mapping[Color, int] | None = None,
    ignore_label: int | Sequence[int] | None = None,
    label_offset: int = 0,
    repair: str | None = None,
) -> LabelReader:
    """Map how a data set codes its masks to a function from what a mask stores to labels (H, W) uint8.

    Args:
        num_classes: int; labels must lie in 0..num_classes - 1 or be 255.
        encoding: `"grey"` or `"palette"`: the file's numbers are the labels; `"rgb"`: `colors` says what its colours
            mean; `"binary"`: black, 0, is class 0 and everything else, such as 255, class 1; `"alpha"`: the same of
            the alpha channel; `"auto"`: `"rgb"` where `colors` is given, else grey or palette as each file has it.
            All but `"auto"` drop an alpha channel that they don't read; `"auto"` refuses one that varies.
        colors: list of (red, green, blue), one for each class, or a dict from such tuples to labels.
        ignore_label: number or list of numbers in the file that mean "ignored", apart from 255 (which is class 1 where
            the encoding is `"binary"` or `"alpha"`).
        label_offset: int added to every number in the file that is not ignored.
        repair: `"nearest"` where masks were blended, by smooth resizing or by JPEG: what has no meaning becomes the
            nearest number or colour that has one, and `"binary"` and `"alpha"` divide at half.

    Returns:
        `read(values, palette=None, alpha=None) -> labels`, a `LabelReader` of what `Stored` holds. It raises a
        ValueError that begins with "is", "has" or "holds", to be put after the file's name.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"mask_encoding={encoding!r}; it is one of {', '.join(map(repr, ENCODINGS))}")
    if repair not in (None, "nearest"):
        raise ValueError(f"mask_repair={repair!r}; it is 'nearest', or None to refuse what has no meaning")
    if encoding == "rgb" and not colors:
        raise ValueError("mask_encoding='rgb' needs colors=[(red, green, blue), ...], one for each class")
    if colors and encoding not in ("auto", "rgb"):
        raise ValueError(f"colors= is for RGB-coded masks, but mask_encoding={encoding!r}; leave one of them out")
    nearest = repair is not None
    if encoding in ("binary", "alpha"):
        if num_classes != 2:
            raise ValueError(f"mask_encoding={encoding!r} is for two classes, and there are {num_classes}")
        if label_offset:
            raise ValueError(f"label_offset= has no meaning with mask_encoding={encoding!r}: leave one of them out")
        return black_and_white(encoding == "alpha", ignore_label, nearest)
    if colors:
        if ignore_label is not None or label_offset:
            raise ValueError(
                "with colors=, ignore_label= and label_offset= have no meaning: give a dict that maps each colour "
                "to its label, 255 for ignored"
            )
        return by_color(num_classes, colors, nearest, encoding)
    return by_number(num_classes, encoding, ignore_label, label_offset, nearest)
