"""Image files to uint8 RGB arrays (H, W, 3)."""

from pathlib import Path

from keras_deeplab.data.masks import imdecode, png_chunks

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")


def decode_image(data):
    """Map the bytes of a JPEG, PNG or BMP file to its pixels, (H, W, 3) uint8 RGB.

    Grey and CMYK become RGB, alpha is dropped, 16 bits become 8. An EXIF orientation is ignored: pixels come as
    they are stored, because a mask drawn for them has no such mark.

    Raises:
        ValueError: the bytes can't be decoded or end too early.
    """
    from keras_deeplab._opencv import cv2

    # Decoders differ in whether they return the upper part of a file that was cut short; so look first.
    if data.startswith(b"\xff\xd8"):
        # Not in the file's last bytes only: cameras write after the end mark, and a thumbnail has its own before.
        if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise ValueError(f"is cut short: the JPEG file ends after {len(data)} bytes without an end mark")
    elif data.startswith(b"\x89PNG"):
        png_chunks(data)
    elif data.startswith(b"BM") and len(data) < int.from_bytes(data[2:6], "little"):
        raise ValueError(f"is cut short: the BMP file has {len(data)} of {int.from_bytes(data[2:6], 'little')} bytes")
    image = imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_image(path):
    """Map the path of a JPEG, PNG or BMP file to its pixels, (H, W, 3) uint8 RGB; see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be decoded; the message begins with the path.
    """
    data = Path(path).read_bytes()
    try:
        return decode_image(data)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
