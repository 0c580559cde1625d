"""Label images: PNG files to uint8 labels (H, W) and back. Grey, paletted and RGB-coded files; 255 = ignored.

Image libraries expand a paletted PNG to its colours, and stretch grey levels of fewer than 8 bits to 0..255. What
a mask file means is neither: it is the number stored at each pixel. So files are rewritten in memory as plain grey
ones before OpenCV decodes them.

This is not left to Pillow, which does give a palette's indices: where a file holds too few pixels it fills up with
zeros in silence, of 16 bits of a colour it keeps 8, and it writes small palettes with fewer than 8 bits. The checksums
of pixels are verified here because neither of the two does it.
"""

import struct
import zlib

import numpy as np

from keras_deeplab._helpers.files import write_whole
from keras_deeplab.specs import IGNORED, default_colors

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types of a PNG's IHDR; 4 is added where there is an alpha channel
_ALPHA = 4


def voc_palette():
    """Map labels to PASCAL VOC's colours: (256, 3) uint8, entry 0 black, entry 255 (224, 224, 192).

    The three lowest bits of a label are the highest bits of red, green and blue, the next three the next, and so on
    (VOCcode's `VOClabelcolormap.m`).

    >>> voc_palette()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    return np.array(default_colors(256), np.uint8)


def png_chunks(data):
    """Split a PNG file's bytes into its chunks, a list of (type, contents), with every checksum verified.

    Raises:
        ValueError: the bytes are no PNG, end too early, or a checksum is wrong.
    """
    if not data.startswith(_SIGNATURE):
        raise ValueError("is not a PNG file" if data else "is empty")
    chunks = []
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


def decode_label_png(data):
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
    from keras_deeplab._helpers.opencv import cv2

    chunks = png_chunks(data)
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    palette = None
    if colour_type == _PALETTE:
        palette = np.frombuffer(dict(chunks).get(b"PLTE", b""), np.uint8).reshape(-1, 3)
        colour_type = _GREY
    # Everything but the pixels goes: transparency, gamma or animation would change what OpenCV returns.
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, *rest)
    pixels = [chunk for chunk in chunks if chunk[0] in (b"IDAT", b"IEND")]
    values = imdecode(_png([(b"IHDR", header), *pixels]), cv2.IMREAD_UNCHANGED)
    if colour_type & ~_ALPHA == _GREY:
        if values.ndim == 3:
            values = np.ascontiguousarray(values[..., 0])
        if depth < 8:
            values //= 255 // (2**depth - 1)
    else:
        values = np.ascontiguousarray(values[..., 2::-1])
    return values, palette


def imdecode(data, flags):
    """`cv2.imdecode` of bytes, raising ValueError("can't be decoded") however this OpenCV reports that."""
    from keras_deeplab._helpers.opencv import cv2

    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ValueError(f"can't be decoded ({error})") from error
    if decoded is None:
        raise ValueError("can't be decoded" if data else "is empty")
    return decoded


def write_label_png(path, labels, palette=None):
    """Write labels (H, W) as a paletted 8-bit PNG whose stored numbers are the labels; all of it or nothing.

    Args:
        path: where to; a file there is replaced.
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
    write_whole(
        path,
        _png([(b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", contents), (b"IEND", b"")]),
    )


def label_reader(num_classes, encoding="auto", colors=None, ignore_label=None, label_offset=0):
    """Map how a data set codes its masks to a function from a mask's stored numbers to labels (H, W) uint8.

    Args:
        num_classes: int; labels must lie in 0..num_classes - 1 or be 255.
        encoding: `"grey"` or `"palette"`: the file's numbers are the labels; `"rgb"`: `colors` says what its colours
            mean; `"auto"`: `"rgb"` where `colors` is given, else grey or palette as each file has it.
        colors: list of (red, green, blue), one for each class, or a dict from such tuples to labels.
        ignore_label: number or list of numbers in the file that mean "ignored", apart from 255.
        label_offset: int added to every number in the file that is not ignored.

    Returns:
        `read(values, palette) -> labels` of what `decode_label_png` returns. It raises a ValueError that begins with
        "is", "has" or "holds", to be put after the file's name.
    """
    if encoding not in ("auto", "grey", "palette", "rgb"):
        raise ValueError(f"mask_encoding={encoding!r}; it is one of 'auto', 'grey', 'palette', 'rgb'")
    if encoding == "rgb" and not colors:
        raise ValueError("mask_encoding='rgb' needs colors=[(red, green, blue), ...], one for each class")
    if colors and encoding not in ("auto", "rgb"):
        raise ValueError(f"colors= is for RGB-coded masks, but mask_encoding={encoding!r}; leave one of them out")
    if colors:
        if ignore_label is not None or label_offset:
            raise ValueError(
                "with colors=, ignore_label= and label_offset= have no meaning: give a dict that maps each colour "
                "to its label, 255 for ignored"
            )
        return _colour_reader(num_classes, colors)
    return _number_reader(num_classes, encoding, ignore_label, label_offset)


def _number_reader(num_classes, encoding, ignore_label, label_offset):
    ignored = [IGNORED, *np.atleast_1d([] if ignore_label is None else ignore_label).tolist()]

    def meaning(values):
        skipped = np.isin(values, ignored)
        labels = values.astype(np.int64) + label_offset
        wrong = ~skipped & ((labels < 0) | (labels >= num_classes))
        return np.where(skipped | wrong, IGNORED, labels).astype(np.uint8), wrong

    table, misfits = meaning(np.arange(256))
    misfits = misfits.astype(np.uint8)

    def read(values, palette):
        from keras_deeplab._helpers.opencv import cv2

        if palette is not None and encoding == "grey":
            raise ValueError(
                "is paletted, but mask_encoding='grey'; 'palette' or 'auto' reads the palette's indices as labels"
            )
        if palette is None and encoding == "palette":
            raise ValueError("has no palette, but mask_encoding='palette'; 'auto' or 'grey' reads grey levels")
        if values.ndim == 3:
            if encoding != "grey":
                raise ValueError(
                    "has three channels, red, green and blue; colors=[(red, green, blue), ...] says what its colours "
                    "mean, or mask_encoding='grey' that each channel holds the label"
                )
            if (values[..., :1] != values).any():
                row, column = np.argwhere((values[..., :1] != values).any(-1))[0]
                raise ValueError(
                    f"is RGB-coded: its colour at row {row}, column {column} is "
                    f"{tuple(values[row, column].tolist())}; colors=[(red, green, blue), ...] says what colours mean"
                )
            values = np.ascontiguousarray(values[..., 0])
        if values.dtype == np.uint8:
            labels, wrong = cv2.LUT(values, table), cv2.LUT(values, misfits)
        else:
            labels, wrong = meaning(values)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = np.unique(values[wrong > 0])
            raise ValueError(
                f"holds {_some(found)}, first at row {row}, column {column}, "
                f"{'which is no label' if len(found) == 1 else 'which are no labels'} of the {num_classes} classes"
                + (f" with label_offset={label_offset}" if label_offset else "")
                + " (see num_classes=, ignore_label=, label_offset=)"
            )
        return labels

    return read


def _colour_reader(num_classes, colors):
    if isinstance(colors, dict):
        colors = [(tuple(color), label) for color, label in colors.items()]
    elif len(colors) != num_classes:
        raise ValueError(
            f"colors= has {len(colors)} colours for {num_classes} classes; more colours than classes need a dict "
            "that maps each colour to its label, 255 for ignored"
        )
    else:
        colors = [(tuple(color), label) for label, color in enumerate(colors)]
    # One entry for each of the 2^24 colours; 254 stands for "unknown", or for a class of that number.
    unknown = 254
    table = np.full(1 << 24, unknown, np.uint8)
    known = {}
    for color, label in colors:
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise ValueError(f"colors= holds {color}; a colour is (red, green, blue), each 0 to 255")
        if not (0 <= label < num_classes or label == IGNORED):
            raise ValueError(
                f"colors= maps {color} to {label}, which is no label of the {num_classes} classes, nor 255"
            )
        code = int(color[0]) << 16 | int(color[1]) << 8 | int(color[2])
        if known.setdefault(code, label) != label:
            raise ValueError(f"colors= gives {color} two labels, {known[code]} and {label}")
        table[code] = label
    codes_of_254 = [code for code, label in known.items() if label == unknown]

    def read(values, palette):
        if values.dtype != np.uint8:
            raise ValueError("has more than 8 bits a channel, but colors= names 8-bit colours")
        if palette is not None:
            if values.max() >= len(palette):
                raise ValueError(f"is damaged: it uses index {values.max()} of a palette of {len(palette)} colours")
            values = palette[values]
        elif values.ndim == 2:
            values = np.repeat(values[..., None], 3, -1)
        codes = np.zeros(values.shape[:2], np.uint32)
        for channel in range(3):
            codes = codes << 8 | values[..., channel]
        labels = table[codes]
        wrong = labels == unknown
        if wrong.any():
            wrong &= ~np.isin(codes, codes_of_254)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = np.unique(codes[wrong])
            raise ValueError(
                f"has the colour {tuple(values[row, column].tolist())} at row {row}, column {column}, which colors= "
                f"does not name ({len(found)} unknown colour{'s' * (len(found) > 1)} in {int(wrong.sum())} pixels)"
            )
        return labels

    return read


def _some(values):
    shown = ", ".join(str(value) for value in values[:5])
    return shown + (f" and {len(values) - 5} other numbers" if len(values) > 5 else "")
