"""Image files of any number of channels and bits to uint8 arrays: .npy arrays, TIFF, PNG with alpha, grey."""

import io
from collections.abc import Sequence

import numpy as np

from keras_deeplab.data import tiff
from keras_deeplab.data.masks import imdecode

NPY = b"\x93NUMPY"


def keeps_channels(data: bytes) -> bool:
    """Whether the bytes are of a kind of file whose channels may be anything: a .npy or TIFF file."""
    return data.startswith((NPY, *tiff.SIGNATURES))


def decode(data: bytes, channels: int, image_range: Sequence[float] | None = None) -> np.ndarray:
    """Map the bytes of an image file to its pixels, (H, W, channels) uint8, as the file has them, not turned.

    A .npy file is an array (H, W, channels), or (H, W) for one channel. PNG files have four with their alpha.
    Photographs in colour become grey for one channel, and grey TIFF files RGB for three; nothing else is converted.
    Numbers of other types than uint8 are scaled by `image_range`, see `scaled`.

    Raises:
        ValueError: the file has other channels, numbers that nothing says the range of, or can't be decoded; the
            message begins with "has", "is", "holds" or "can't".
    """
    image = _stored(data)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"holds an array of shape {image.shape}, and an image is (height, width, channels)")
    image = scaled(image, image_range)
    found = image.shape[-1]
    if channels == 1 and found == 3:
        from keras_deeplab._helpers.opencv import cv2

        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None]
    elif found == 1 and channels == 3 and not data.startswith(NPY):
        image = np.repeat(image, 3, -1)
    elif found != channels:
        raise ValueError(
            f"has {found} channel{'s' * (found > 1)}, and {channels} {'are' if channels > 1 else 'is'} expected: "
            f"give channels={found} (with a model of as many), or files of {channels}"
        )
    return np.ascontiguousarray(image)


def scaled(image: np.ndarray, image_range: Sequence[float] | None) -> np.ndarray:
    """Pixels of any type of numbers to uint8: as they are where they are that, else `image_range` to 0 and 255.

    What lies outside is clipped. Nothing is taken for granted: cameras write 10, 12 or 14 bits into files of 16.

    Raises:
        ValueError: they are no uint8 and no range is given, or some are not finite.

    >>> scaled(np.array([[0, 2048, 4095]], np.uint16), (0, 4095)).tolist()
    [[0, 128, 255]]
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "uif":
        raise ValueError(f"has pixels of {image.dtype}, and images are uint8, 0 to 255")
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"has pixels of {image.dtype} that are no finite numbers: give them a value")
    if image_range is None:
        ends = (1, 255) if image.dtype.kind == "f" else (1023, 4095, 16383, 65535)
        end = next((end for end in ends if low >= 0 and high <= end), None)
        told = f"{low:g},{high:g}" if end is None else f"0,{end}"
        if end is not None and end > 255:
            told += f" for the {end.bit_length()} bits that these numbers fit into"
        raise ValueError(
            f"has pixels of {image.dtype}, here {low:g} to {high:g}, and images are 0 to 255: image_range= says which "
            f"two numbers become these, such as {told}"
        )
    bottom, top = image_range
    pixels: np.ndarray = image.astype(np.float32 if image.dtype.itemsize <= 2 else np.float64)
    shares = (pixels - bottom) * (255 / (top - bottom))
    return np.rint(np.clip(shares, 0, 255)).astype(np.uint8)


def _stored(data: bytes) -> np.ndarray:
    """The array in a file: (H, W), or (H, W, channels) with red, green and blue first."""
    if data.startswith(NPY):
        return read_npy(data)
    if data.startswith(tiff.SIGNATURES):
        return tiff.decode(data)
    from keras_deeplab._helpers.opencv import cv2

    return tiff.rgb_first(imdecode(data, cv2.IMREAD_UNCHANGED))


def read_npy(data: bytes) -> np.ndarray:
    """The array of a .npy file's bytes; ValueError where there is none."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy's parser of a damaged header raises nearly anything
        raise ValueError(f"can't be decoded as an array ({error})") from error


def npy_size(data: bytes) -> tuple[int, int] | None:
    """The (height, width) that the header of a .npy file's bytes tells; None where it tells none."""
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = read(file)
        return (int(shape[0]), int(shape[1])) if len(shape) in (2, 3) else None
    except Exception:  # likewise
        return None
