"""The EXIF orientation of image files, and images turned by it, so that every door has one convention."""

import struct
from collections.abc import Callable, Iterator

import numpy as np

_TAG = 274  # of a TIFF directory, which EXIF data is one of
# How an image (H, W, ...) is turned for its orientation; 1 is as stored. EXIF 2.3, table 6; TIFF 6.0, page 36.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1),
}


def orientation_of(data: bytes) -> int:
    """Map the bytes of a JPEG, PNG, WebP or TIFF file, or its first 64 KiB, to its orientation, 1 to 8.

    1, as stored, is that of every file that tells none or tells it in a damaged way. From 5 on height and width change
    places.
    """
    if data.startswith(b"\xff\xd8"):
        blocks = (block[6:] for block in _jpeg_blocks(data) if block.startswith(b"Exif\0\0"))
    elif data.startswith(b"\x89PNG"):
        blocks = _chunks(data, 8, ">I4s", b"eXIf") if b"eXIf" in data else iter(())
    elif data.startswith(b"RIFF"):
        blocks = _chunks(data, 12, "<4sI", b"EXIF")
    else:
        blocks = iter([data] if data.startswith((b"II*\0", b"MM\0*")) else [])
    for block in blocks:
        return _orientation(block.removeprefix(b"Exif\0\0"))
    return 1


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, ...) as stored to the same upright, for its orientation 1 to 8."""
    return np.ascontiguousarray(_TURNS[orientation](image)) if orientation in _TURNS else image


def explained(image: np.ndarray, label: np.ndarray) -> float:
    """Which share, 0 to 1, of the variance of an image's colours (H, W, C) the labels (H, W) explain.

    Labels that lie where the things are explain more than the same turned. 0 where there is one label alone.
    """
    pixels = image.reshape(label.size, -1).astype(np.float64)
    pixels -= pixels.mean(0)
    counts = np.bincount(label.reshape(-1), minlength=256)
    sums = np.stack([np.bincount(label.reshape(-1), channel, 256) for channel in pixels.T])
    whole = np.square(pixels).sum()
    return float(np.square(sums[:, counts > 0]).sum(0) @ (1 / counts[counts > 0]) / whole) if whole else 0.0


def _jpeg_blocks(data: bytes) -> Iterator[bytes]:
    """The APP1 segments of a JPEG file."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] not in (0xD9, 0xDA):
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == 0xE1:
            yield data[position + 4 : position + 2 + length]
        position += 1 if data[position + 1] == 0xFF else 2 + length


def _chunks(data: bytes, position: int, head: str, kind: bytes) -> Iterator[bytes]:
    """The contents of the chunks of a kind in a PNG or WebP file."""
    while position + 8 <= len(data):
        fields = struct.unpack_from(head, data, position)
        name, length = fields if isinstance(fields[0], bytes) else fields[::-1]
        if name == kind:
            yield data[position + 8 : position + 8 + length]
        # A PNG's chunks have checksums, WebP's are padded to even lengths.
        position += 8 + (length + 4 if head[0] == ">" else length + length % 2)


def _orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * index)
            if tag == _TAG:
                return value if value in _TURNS else 1
    except struct.error:
        pass
    return 1
