"""Headers tell in the graph what a file is: real files pass, damaged and oversized ones are named before decoding."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from export_models import photograph

from keras_deeplab.export import encoded_images

LIMIT = 1 << 24
IMAGE = photograph(40, 53, 1)
PNG = tf.io.encode_png(IMAGE).numpy()
JPEG = tf.io.encode_jpeg(IMAGE).numpy()
PROGRESSIVE = tf.io.encode_jpeg(IMAGE, progressive=True).numpy()
FRAME = JPEG.index(b"\xff\xc0")  # the segment that tells the size


def bmp(image):
    """A 24-bit BMP, whose rows are padded to four bytes."""
    height, width = image.shape[:2]
    rows = np.zeros((height, -(-width * 3 // 4) * 4), np.uint8)
    rows[:, : width * 3] = image[::-1, :, ::-1].reshape(height, -1)
    header = struct.pack(
        "<2sIIIIiiHHIIiiII", b"BM", 54 + rows.size, 0, 54, 40, width, height, 1, 24, 0, rows.size, *[0] * 4
    )
    return header + rows.tobytes()


def png_header(height, width):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def jpeg_of_size(height, width):
    return JPEG[: FRAME + 5] + struct.pack(">HH", height, width) + JPEG[FRAME + 9 :]


@pytest.fixture(scope="module")
def check():
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False)
    def sizes(data):
        return encoded_images.checked_sizes(data, LIMIT)

    return lambda *files: sizes(tf.constant(files, tf.string)).numpy().tolist()


REAL = {
    "png": PNG,
    "jpeg": JPEG,
    "progressive jpeg": PROGRESSIVE,
    "bmp": bmp(IMAGE),
    "grey png": tf.io.encode_png(IMAGE[..., :1]).numpy(),
    "grey jpeg": tf.io.encode_jpeg(IMAGE[..., :1]).numpy(),
    "jpeg with a film after it": JPEG + bytes(range(256)) * 9 + b"\xff\xda\0\0",
    "png with text after it": PNG + b"copied by a tool",
    "jpeg with fill bytes": JPEG[:FRAME] + b"\xff\xff\xff" + JPEG[FRAME:],
    "jpeg with a thumbnail": JPEG[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(JPEG)) + JPEG + JPEG[2:],
}


@pytest.mark.parametrize("kind", REAL)
def test_files_that_the_decoder_takes_pass_with_their_size(check, kind):
    assert encoded_images.decode(tf.constant(REAL[kind])).shape == IMAGE.shape
    assert check(REAL[kind]) == [[40, 53]]


def test_a_bmp_may_have_its_rows_from_top_to_bottom(check):
    assert check(bmp(IMAGE)[:22] + struct.pack("<i", -40) + bmp(IMAGE)[26:]) == [[40, 53]]


def test_no_files_have_no_sizes(check):
    assert check() == []


@pytest.mark.parametrize(
    ("data", "complaint"),
    {
        "empty": (b"", "is empty: it has 0 bytes"),
        "one byte": (b"\xff", "is no JPEG, PNG or BMP file"),
        "text": (b"<html>", "is no JPEG, PNG or BMP file"),
        "gif": (b"GIF89a" + bytes(99), "is no JPEG, PNG or BMP file"),
        "jpeg cut in its pixels": (JPEG[:-100], f"is cut short: the JPEG file ends after {len(JPEG) - 100} bytes"),
        "jpeg cut in its header": (JPEG[:50], "is cut short: the JPEG file ends after 50 bytes"),
        "jpeg of three bytes": (JPEG[:3], "is cut short: the JPEG file ends after 3 bytes"),
        "jpeg without its end": (JPEG[:-2], "is cut short: the JPEG file ends after"),
        "jpeg cut after its thumbnail": (REAL["jpeg with a thumbnail"][:-99], "is cut short: the JPEG file ends after"),
        "jpeg with a hole": (JPEG[:FRAME] + b"\0\0" + JPEG[FRAME:], "is a damaged JPEG file"),
        "jpeg of fill bytes": (b"\xff\xd8" + b"\xff" * 9999, "is a damaged JPEG file"),
        "png cut": (PNG[:200], "is cut short: the PNG file ends after 200 bytes"),
        "png of its mark": (PNG[:8], "is cut short: the PNG file ends after 8 bytes"),
        "png without header": (PNG[:12] + b"IDAT" + PNG[16:], "is a damaged PNG file"),
        "bmp cut": (bmp(IMAGE)[:-1], "is cut short: the BMP file ends after"),
        "huge png": (png_header(30000, 30000), "declares 30000x30000 pixels (height x width), 900000000 in all"),
        "largest png": (png_header(2**31 - 1, 2**31 - 1), "declares 2147483647x2147483647 pixels"),
        "huge jpeg": (jpeg_of_size(30000, 29000), "declares 30000x29000 pixels (height x width), 870000000 in all"),
        "flat png": (png_header(0, 9) + b"IEND", "declares 0x9 pixels"),
        "just too large": (
            png_header(4097, 4096),
            f"declares 4097x4096 pixels (height x width), 16781312 in all; the limit is {LIMIT}",
        ),
    }.values(),
)
def test_bad_files_are_refused_with_the_reason(check, data, complaint):
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        check(PNG, data)
    assert f"[image_bytes[1] {complaint}" in str(raised.value)


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, bmp(IMAGE)], ids=["jpeg", "progressive", "png", "bmp"])
def test_a_file_that_ends_anywhere_is_named_as_cut_short(check, data):
    first = 8 if data == PNG else 3
    ends = [*range(first, 900), *range(900, len(data) - 1, 97)] if len(data) > 900 else range(first, len(data) - 1)
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        check(*[data[:end] for end in ends])
    told = str(raised.value)
    for index, end in enumerate(ends):
        assert f"image_bytes[{index}] is cut short: the " in told, end
        assert f" file ends after {end} bytes" in told, end


def test_the_largest_size_allowed_passes(check):
    assert check(png_header(4096, 4096) + b"IEND", jpeg_of_size(4096, 4096)) == [[4096, 4096], [4096, 4096]]


def test_every_byte_of_a_header_may_be_wrong_without_harm(check):
    """Whatever a byte becomes, the file passes with some size or is refused in words; nothing else happens."""
    random = np.random.default_rng(0)
    passed = 0
    for data in (PNG, JPEG, bmp(IMAGE)):
        for position in random.integers(2, 60, 25):
            changed = bytearray(data)
            changed[position] ^= int(random.integers(1, 256))
            try:
                ((height, width),) = check(bytes(changed))
            except tf.errors.InvalidArgumentError as error:
                assert "image_bytes[0]" in str(error) or "Invalid JPEG" in str(error)  # noqa: PT017
            else:
                passed += 1
                assert 0 < height * width <= LIMIT
    assert passed > 10
