"""How masks are coded: functions from the numbers or colours that a file stores to labels (H, W) uint8, 255 ignored."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_deeplab.specs import IGNORED, Color

ENCODINGS = ("auto", "grey", "palette", "rgb", "binary", "alpha")

# labels (H, W) uint8, and how many pixels hold what has no meaning of its own.
Decoded = tuple[np.ndarray, int]
BINARY = 'mask_encoding="binary"'
BLENDED = 'mask_encoding="binary" with mask_repair="nearest"'


class LabelReader:
    """Maps what a mask file stores, (values, palette, alpha) of `masks.Stored`, to labels (H, W) uint8.

    Args:
        decode: from values and palette, or where `alpha` from alpha and None.
        encoding: where it is "auto", an alpha channel that varies is refused, as the shape may be in it.
    """

    def __init__(self, decode: Callable[[np.ndarray, np.ndarray | None], Decoded], encoding: str) -> None:
        self._decode = decode
        self.encoding = encoding

    def __call__(
        self, values: np.ndarray, palette: np.ndarray | None = None, alpha: np.ndarray | None = None
    ) -> np.ndarray:
        return self.decode(values, palette, alpha)[0]

    def decode(self, values: np.ndarray, palette: np.ndarray | None = None, alpha: np.ndarray | None = None) -> Decoded:
        """As the call, with the number of pixels that were moved to something that has a meaning."""
        if self.encoding == "alpha":
            if alpha is None:
                raise ValueError("has no alpha channel, but mask_encoding='alpha'")
            return self._decode(alpha, None)
        # The alpha of a palette's colours is left to viewers: its indices are the labels.
        if self.encoding == "auto" and alpha is not None and palette is None and alpha.min() != alpha.max():
            raise ValueError(
                f"has an alpha channel that varies ({alpha.min()} to {alpha.max()}): "
                'mask_encoding="alpha" reads the shape in it; '
                f'mask_encoding="{"rgb" if values.ndim == 3 else "grey"}" drops it'
            )
        return self._decode(values, palette)


# Numbers ----------------------------------------------------------------------------------------------------------


def by_number(
    num_classes: int, encoding: str, ignore_label: int | Sequence[int] | None, label_offset: int, nearest: bool
) -> LabelReader:
    """The reader of masks whose numbers are labels; see `masks.label_reader`."""
    ignored = [IGNORED, *_listed(ignore_label)]

    def meaning(values):
        skipped = np.isin(values, ignored)
        labels = values.astype(np.int64) + label_offset
        wrong = ~skipped & ((labels < 0) | (labels >= num_classes))
        return np.where(skipped | wrong, IGNORED, labels).astype(np.uint8), wrong

    table, misfits = meaning(np.arange(256))
    misfits = misfits.astype(np.uint8)
    known = np.unique([*np.arange(num_classes) - label_offset, *ignored])

    def decode(values, palette):
        from keras_deeplab._helpers.opencv import cv2

        values = _one_channel(values, palette, encoding, num_classes)
        whole, moved = values, 0
        if values.dtype.kind == "f":
            whole = np.rint(values)
            moved = int((whole != values).sum())
            if moved and not nearest:
                raise ValueError(
                    f"holds {moved} numbers that aren't whole, such as {values[whole != values][0]:g}; labels are "
                    '(mask_repair="nearest" takes the nearest)'
                )
            whole = whole.astype(np.int64)
        if whole.dtype == np.uint8:
            labels, wrong = cv2.LUT(whole, table), cv2.LUT(whole, misfits)
        else:
            labels, wrong = meaning(whole)
        if not wrong.any():
            return labels, moved
        hint = _hint(whole, palette, num_classes, label_offset)
        if nearest and palette is None and not (encoding == "auto" and "binary" in hint):
            found, places = np.unique(whole[wrong > 0], return_inverse=True)
            labels[wrong > 0] = meaning(_nearest(found, known))[0][places]
            return labels, moved + int((wrong > 0).sum())
        row, column = np.argwhere(wrong)[0]
        found = np.unique(whole[wrong > 0])
        raise ValueError(
            f"holds {_some(found)}, first at row {row}, column {column}, "
            f"{'which is no label' if len(found) == 1 else 'which are no labels'} of the {num_classes} classes"
            + (f" with label_offset={label_offset}" if label_offset else "")
            + hint
        )

    return LabelReader(decode, encoding)


def _one_channel(values: np.ndarray, palette: np.ndarray | None, encoding: str, num_classes: int) -> np.ndarray:
    """The numbers of a mask, (H, W), or a ValueError where its numbers are no labels."""
    if palette is not None and encoding == "grey":
        raise ValueError(
            "is paletted, but mask_encoding='grey'; 'palette' or 'auto' reads the palette's indices as labels"
        )
    if palette is None and encoding == "palette":
        raise ValueError("has no palette, but mask_encoding='palette'; 'auto' or 'grey' reads grey levels")
    if values.ndim == 2:
        return values
    if encoding != "grey":
        levels = np.unique(values)
        shades = num_classes <= 2 and levels[-1] >= 128 and (values[..., :1] == values).all()
        hint = f"; black and white are read by {BINARY if len(levels) <= 2 else BLENDED}"
        raise ValueError(
            "has three channels, red, green and blue; colors=[(red, green, blue), ...] says what its colours "
            "mean, or mask_encoding='grey' that each channel holds the label" + (hint if shades else "")
        )
    if (values[..., :1] != values).any():
        row, column = np.argwhere((values[..., :1] != values).any(-1))[0]
        raise ValueError(
            f"is RGB-coded: its colour at row {row}, column {column} is "
            f"{tuple(values[row, column].tolist())}; colors=[(red, green, blue), ...] says what colours mean"
        )
    return np.ascontiguousarray(values[..., 0])


def _hint(values: np.ndarray, palette: np.ndarray | None, num_classes: int, label_offset: int) -> str:
    """What may mend numbers that are no labels, to be put behind them."""
    low, high = int(values.min()), int(values.max())
    if palette is None and num_classes <= 2 and high >= 128 and low >= 0:
        if len(np.unique(values)) <= 2:
            return f": {high} beside {low} seems to be the second class, which {BINARY} reads"
        return (
            ": it looks like black and white that was blended, by smooth resizing or by JPEG on its way, which "
            f"{BLENDED} reads"
        )
    if not label_offset and low < 0 and high - low < num_classes:
        return f": label_offset={-low} makes {low} class 0 (or ignore_label={low} ignores it)"
    if not label_offset and low == 1 and high == num_classes:
        return ": where classes count from 1, label_offset=-1 makes that class 0"
    many = len(np.unique(values)) > num_classes + 8
    return (
        " (see num_classes=, ignore_label=, label_offset="
        + ("; so many numbers come of smooth resizing, of JPEG, or of colours saved as grey" if many else "")
        + ")"
    )


def _nearest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each number's nearest known one, the lower of two; `known` is sorted."""
    above = np.clip(np.searchsorted(known, values), 1, len(known) - 1)
    low, high = known[above - 1], known[above]
    return np.where(values - low <= high - values, low, high)


# Two classes ------------------------------------------------------------------------------------------------------


def black_and_white(alpha: bool, ignore_label: int | Sequence[int] | None, nearest: bool) -> LabelReader:
    """The reader of masks in which 0 is class 0 and everything else class 1.

    Where numbers go up to white, those in between are no third class but blended: refused, or divided at half.
    Instances, 1, 2, 3 and so on, are all class 1.
    """
    ignored = _listed(ignore_label)
    encoding = "alpha" if alpha else "binary"

    def decode(values, palette):
        levels = _levels(values, palette)
        skipped = np.isin(values if values.ndim == 2 else levels, ignored)
        labels = (levels != 0).astype(np.uint8)
        labels[skipped] = IGNORED
        high = levels.max().item()
        full = 1 if levels.dtype.kind == "f" else 255 if high <= 255 else 65535
        between = (levels > 0) & (levels < high) & ~skipped
        if not nearest and not (between.any() and (2 * high > full)):
            return labels, 0
        if nearest and high <= 1 and levels.dtype.kind != "f":
            return labels, 0
        if not nearest:
            raise ValueError(
                f"holds {len(np.unique(levels[between]))} numbers between 0 and {high:g} in {between.mean():.1%} of "
                "its pixels, so it was blended, by smooth resizing or by JPEG on its way: "
                f'mask_repair="nearest" with mask_encoding="{encoding}" divides at half'
            )
        labels = (2 * levels.astype(np.float64) > full).astype(np.uint8)
        labels[skipped] = IGNORED
        return labels, int(((levels > 0) & (levels < full) & ~skipped).sum())

    return LabelReader(decode, encoding)


def _levels(values: np.ndarray, palette: np.ndarray | None) -> np.ndarray:
    """How bright a mask's pixels are, (H, W), 0 for black; a palette in colours gives 0 and 255 alone."""
    if palette is not None:
        colours = _by_palette(values, palette)
        levels = colours.max(-1)
        return levels if (colours == colours[..., :1]).all() else np.where(levels > 0, 255, 0).astype(np.uint8)
    return values.max(-1) if values.ndim == 3 else values


# Colours ----------------------------------------------------------------------------------------------------------


def by_color(
    num_classes: int, colors: Sequence[Color] | Mapping[Color, int], nearest: bool, encoding: str
) -> LabelReader:
    """The reader of masks whose colours are labels; see `masks.label_reader`."""
    known = _labels_of_codes(num_classes, colors)
    # One entry for each of the 2^24 colours; 254 stands for "unknown", or for a class of that number.
    unknown = 254
    table = np.full(1 << 24, unknown, np.uint8)
    table[list(known)] = list(known.values())
    codes_of_254 = [code for code, label in known.items() if label == unknown]
    parts = np.array([(code >> 16, code >> 8 & 255, code & 255) for code in known])

    def decode(values, palette):
        if values.dtype != np.uint8:
            raise ValueError("has more than 8 bits a channel, but colors= names 8-bit colours")
        if palette is not None:
            values = _by_palette(values, palette)
        elif values.ndim == 2:
            values = np.repeat(values[..., None], 3, -1)
        codes = np.zeros(values.shape[:2], np.uint32)
        for channel in range(3):
            codes = codes << 8 | values[..., channel]
        labels = table[codes]
        wrong = labels == unknown
        if wrong.any():
            wrong &= ~np.isin(codes, codes_of_254)
        if not wrong.any():
            return labels, 0
        found, first, places = np.unique(codes[wrong], return_index=True, return_inverse=True)
        if nearest:
            strange = values[wrong][first].astype(np.int64)
            squares = [np.square(strange - color).sum(-1) for color in parts]
            labels[wrong] = np.array(list(known.values()), np.uint8)[np.argmin(squares, 0)][places]
            return labels, int(wrong.sum())
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"has the colour {tuple(values[row, column].tolist())} at row {row}, column {column}, which colors= "
            f"does not name ({len(found)} unknown colour{'s' * (len(found) > 1)} in {int(wrong.sum())} pixels)"
            + ('; mask_repair="nearest" takes the nearest that it names' if len(found) > 2 else "")
        )

    return LabelReader(decode, encoding)


def _labels_of_codes(num_classes: int, colors: Sequence[Color] | Mapping[Color, int]) -> dict[int, int]:
    """The label of each colour, red << 16 | green << 8 | blue."""
    if isinstance(colors, Mapping):
        pairs = [(tuple(color), label) for color, label in colors.items()]
    elif len(colors) != num_classes:
        raise ValueError(
            f"colors= has {len(colors)} colours for {num_classes} classes; more colours than classes need a dict "
            "that maps each colour to its label, 255 for ignored"
        )
    else:
        pairs = [(tuple(color), label) for label, color in enumerate(colors)]
    known: dict[int, int] = {}
    for color, label in pairs:
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise ValueError(f"colors= holds {color}; a colour is (red, green, blue), each 0 to 255")
        if not (0 <= label < num_classes or label == IGNORED):
            raise ValueError(
                f"colors= maps {color} to {label}, which is no label of the {num_classes} classes, nor 255"
            )
        code = int(color[0]) << 16 | int(color[1]) << 8 | int(color[2])
        if known.setdefault(code, label) != label:
            raise ValueError(f"colors= gives {color} two labels, {known[code]} and {label}")
    return known


def _by_palette(values: np.ndarray, palette: np.ndarray) -> np.ndarray:
    if values.max() >= len(palette):
        raise ValueError(f"is damaged: it uses index {values.max()} of a palette of {len(palette)} colours")
    return palette[values]


def _listed(ignore_label: int | Sequence[int] | None) -> list[int]:
    return [] if ignore_label is None else np.atleast_1d(ignore_label).tolist()


def _some(values: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return shown + (f" and {len(values) - 5} other numbers" if len(values) > 5 else "")
