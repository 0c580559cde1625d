"""Image files of any number of channels, as they are stored: .npy arrays, TIFF, PNG with alpha, grey."""

import io
import struct

import numpy as np

from keras_deeplab.data.masks import imdecode

_NPY, _TIFF = b"\x93NUMPY", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Tags of a TIFF's directory (one without a meaning to a reader of pixels), types and values of its entries.
_PHOTOMETRIC, _SAMPLES, _PLANAR, _PRINTER, _EXTRA = 262, 277, 284, 337, 338
_TEXT, _SHORT = 2, 3
_BLACK_IS_ZERO, _RGB = 1, 2


def keeps_channels(data: bytes) -> bool:
    """Whether the bytes are of a kind of file whose channels may be anything: a .npy or TIFF file."""
    return data.startswith((_NPY, *_TIFF))


def decode(data: bytes, channels: int) -> np.ndarray:
    """Map the bytes of an image file to its pixels, (H, W, channels) uint8, as the file has them.

    A .npy file is a uint8 array (H, W, channels), or (H, W) for one channel. TIFF files are read with 1, 3 and 4
    channels, the first three red, green and blue where there are so many. PNG files have four with their alpha.
    Photographs in colour become grey for one channel, and grey TIFF files RGB for three; nothing else is converted.

    Raises:
        ValueError: the file has other channels, more than 8 bits in each, or can't be decoded; the message begins
            with "has", "is" or "can't".
    """
    if data.startswith(_NPY):
        image = _npy(data)
    else:
        image = _opencv(data)
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8:
        raise ValueError(f"has pixels of {image.dtype}, and images are uint8, 0 to 255: scale it to that")
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"holds an array of shape {image.shape}, and an image is (height, width, channels)")
    found = image.shape[-1]
    if channels == 1 and found == 3:
        from keras_deeplab._helpers.opencv import cv2

        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    elif found == 1 and channels == 3 and not data.startswith(_NPY):
        image = np.repeat(image, 3, -1)
    elif found != channels:
        raise ValueError(
            f"has {found} channel{'s' * (found > 1)}, and {channels} {'are' if channels > 1 else 'is'} expected: "
            f"give channels={found} (with a model of as many), or files of {channels}"
        )
    return np.ascontiguousarray(image)


def _npy(data):
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"can't be decoded as an array ({error})") from error


def _opencv(data):
    from keras_deeplab._helpers.opencv import cv2

    flags = cv2.IMREAD_UNCHANGED
    if data.startswith(_TIFF):
        data, converted = _as_rgb(data)
        flags = cv2.IMREAD_COLOR if converted else flags
    image = imdecode(data, flags)
    if image.ndim == 3 and image.shape[-1] >= 3:
        image = np.concatenate([image[..., 2::-1], image[..., 3:]], -1)
    return image


def _as_rgb(data):
    """A TIFF file's bytes so marked that OpenCV returns all of its channels as they are stored.

    Where several are marked as grey OpenCV returns the first, and by a fourth that is marked as plain alpha it
    multiplies the others. So three or four are marked as RGB, with one of no meaning.

    Returns:
        The bytes, and whether the file is in colours that are to be converted, such as CMYK.
    """
    order = "<" if data[:2] == b"II" else ">"
    places, values = {}, {}  # by tag: where its directory entry is, the first of its 16-bit numbers
    try:
        version, directory = struct.unpack_from(f"{order}HI", data, 2)
        if version != 42:
            raise ValueError("is a BigTIFF file, which is not read: save it as TIFF, or as a .npy array")
        (count,) = struct.unpack_from(f"{order}H", data, directory)
        for index in range(count):
            place = directory + 2 + 12 * index
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", data, place)
            if kind == _SHORT:
                places[tag] = place
                values[tag] = value if number == 1 else None
    except struct.error as error:
        raise ValueError(f"is cut short or damaged: the TIFF file's directory can't be read ({error})") from error
    samples, photometric = values.get(_SAMPLES, 1), values.get(_PHOTOMETRIC, _RGB)
    if samples == 1:
        return data, False
    if photometric not in (_BLACK_IS_ZERO, _RGB):
        return data, True
    if samples not in (3, 4) or values.get(_PLANAR, 1) != 1:
        raise ValueError(
            f"is a TIFF file of {samples} channels"
            + (" that are stored one after the other" if samples in (3, 4) else "")
            + ", which is not read: save it as a .npy array, uint8 (height, width, channels)"
        )
    marked = bytearray(data)
    if _PHOTOMETRIC in places:
        struct.pack_into(f"{order}H", marked, places[_PHOTOMETRIC] + 8, _RGB)
    if _EXTRA in places:
        entry = (_EXTRA, _SHORT, 1, 0) if samples == 4 else (_PRINTER, _TEXT, 1, 0)
        struct.pack_into(f"{order}HHII", marked, places[_EXTRA], *entry)
    return bytes(marked), False
