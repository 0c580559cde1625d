"""Photographs of every kind come as RGB, and a damaged one is named."""

import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data.images import decode_image, image_size, read_image

HALVES = np.zeros((8, 16, 3), np.uint8)
HALVES[:, :8] = (200, 40, 30)
HALVES[:, 8:] = (20, 90, 220)


def encoded(extension, image=HALVES, *options):
    done, data = cv2.imencode(extension, image[..., 2::-1] if image.ndim == 3 else image, options)
    assert done
    return data.tobytes()


def with_orientation(jpeg, orientation):
    """The same JPEG file with an EXIF block that asks viewers to turn it."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return with_segment(jpeg, b"\xff\xe1", b"Exif\0\0" + tiff)


def with_segment(jpeg, marker, contents):
    return jpeg[:2] + marker + struct.pack(">H", len(contents) + 2) + contents + jpeg[2:]


def flat_jpeg(blocks):
    """A JPEG file of one row of 8x8 blocks of one colour each, components as given, written by hand (baseline)."""

    def segment(marker, contents):
        return marker + struct.pack(">H", len(contents) + 2) + contents

    components = range(len(blocks[0]))
    frame = struct.pack(">BHHB", 8, 8, 8 * len(blocks), len(components))
    scan = bytes([len(components)]) + b"".join(bytes([index, 0x00]) for index in components) + b"\0\x3f\0"
    direct = b"\0" + b"\0\0\0\x0c" + b"\0" * 12 + bytes(range(12))  # twelve codes of four bits: sizes 0 to 11
    alternating = b"\x10\x01" + b"\0" * 15 + b"\0"  # one code of one bit: end of block
    bits, previous = "", [0] * len(components)
    for block in blocks:
        for index in components:
            value = block[index] - 128
            difference, previous[index] = value - previous[index], value
            size = abs(difference).bit_length()
            magnitude = difference if difference > 0 else difference + (1 << size) - 1
            bits += f"{size:04b}" + (f"{magnitude:0{size}b}" if size else "") + "0"
    bits += "1" * (-len(bits) % 8)
    stream = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        [
            b"\xff\xd8",
            # Adobe's mark with "no transformation": CMYK, stored as what is left of white.
            segment(b"\xff\xee", b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)),
            segment(b"\xff\xdb", b"\0" + b"\x08" * 64),
            segment(b"\xff\xc0", frame + b"".join(bytes([index, 0x11, 0]) for index in components)),
            segment(b"\xff\xc4", direct),
            segment(b"\xff\xc4", alternating),
            segment(b"\xff\xda", scan),
            stream,
            b"\xff\xd9",
        ]
    )


def assert_halves(image, tolerance=4):
    assert image.dtype == np.uint8
    assert image.shape == HALVES.shape
    np.testing.assert_allclose(image.astype(int), HALVES, atol=tolerance)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg"])
def test_colours_come_in_the_order_red_green_blue(extension):
    options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444) if extension == ".jpg" else ()
    assert_halves(decode_image(encoded(extension, HALVES, *options)), tolerance=4 if options else 0)


def test_grey_becomes_three_equal_channels():
    grey = np.arange(96, dtype=np.uint8).reshape(8, 12)
    np.testing.assert_array_equal(decode_image(encoded(".png", grey)), np.repeat(grey[..., None], 3, -1))
    image = decode_image(encoded(".jpg", grey))
    assert image.shape == (8, 12, 3)
    assert (image == image[..., :1]).all()


def test_alpha_is_dropped():
    with_alpha = np.concatenate([HALVES[..., ::-1], np.full((8, 16, 1), 7, np.uint8)], -1)
    done, data = cv2.imencode(".png", with_alpha)
    assert done
    np.testing.assert_array_equal(decode_image(data.tobytes()), HALVES)


@pytest.mark.parametrize("extension", [".png", ".tif", ".npy"])
def test_more_than_8_bits_are_scaled_as_told_and_never_else(extension):
    wide = HALVES.astype(np.uint16) * 16
    data = array_file(wide) if extension == ".npy" else encoded(extension, wide)
    with pytest.raises(
        ValueError, match=r"^has pixels of uint16, here 320 to 3520, .*image_range= .*0,4095 for the 12 "
    ):
        decode_image(data)
    np.testing.assert_array_equal(decode_image(data, image_range=(0, 4080)), HALVES)
    expected = np.clip((wide.astype(float) - 400) * 255 / 2800, 0, 255)
    np.testing.assert_allclose(decode_image(data, image_range=(400, 3200)), expected, atol=0.501)
    np.testing.assert_array_equal(
        decode_image(encoded(".png"), image_range=(0, 4095)), HALVES
    )  # 8 bits are what they are
    grey = np.full((4, 5), 1023, np.uint16)
    assert (decode_image(encoded(".png", grey), 1, image_range=(0, 1023)) == 255).all()
    shares = array_file((HALVES / 255).astype(np.float32))
    np.testing.assert_array_equal(decode_image(shares, image_range=(0, 1)), HALVES)
    with pytest.raises(ValueError, match="no finite numbers"):
        decode_image(array_file(np.full((2, 2, 3), np.nan)), image_range=(0, 1))


def test_cmyk_becomes_rgb():
    # Cyan, magenta, yellow and black as Adobe stores them, 255 for no ink; red = cyan * black / 255, and so on.
    inks = [(200, 40, 30, 255), (40, 180, 220, 128)]
    image = decode_image(flat_jpeg(inks))
    assert image.shape == (8, 16, 3)
    for block, (*colours, black) in enumerate(inks):
        expected = [round(colour * black / 255) for colour in colours]
        np.testing.assert_allclose(image[4, 8 * block + 4].astype(int), expected, atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_applied_unless_told_otherwise(orientation):
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    turned = with_orientation(encoded(".jpg", noise), orientation)
    np.testing.assert_array_equal(decode_image(turned, upright=False), decode_image(encoded(".jpg", noise)))
    upright = cv2.imdecode(np.frombuffer(turned, np.uint8), 1)[..., ::-1]
    assert np.array_equal(upright, decode_image(turned, upright=False)) == (orientation == 1)
    np.testing.assert_array_equal(decode_image(turned), upright)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_files_than_jpeg_have_an_orientation_too(kind, orientation):
    noise = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(noise)
    picture.save(
        file,
        kind,
        **{"PNG": {"exif": exif}, "WEBP": {"exif": exif, "lossless": True}, "TIFF": {"tiffinfo": exif}}[kind],
    )
    np.testing.assert_array_equal(decode_image(file.getvalue(), upright=False), noise)
    picture.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(decode_image(file.getvalue()), np.array(ImageOps.exif_transpose(picture)))
    assert image_size(file.getvalue()) == (6, 10)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg"])
def test_pictures_without_an_orientation_are_upright(extension):
    np.testing.assert_array_equal(decode_image(encoded(extension)), decode_image(encoded(extension), upright=False))


def test_a_damaged_orientation_does_no_harm():
    for exif in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(20)):
        data = with_segment(encoded(".jpg"), b"\xff\xe1", exif)
        np.testing.assert_array_equal(decode_image(data, upright=True), decode_image(encoded(".jpg")))


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg", ".webp"])
def test_a_file_cut_short_anywhere_is_refused(extension):
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    data = encoded(extension, noise)
    decode_image(data)
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError, match=r"is cut short|can't be decoded|is empty|is not a PNG"):
            decode_image(data[:end])


@pytest.mark.parametrize("parameters", [[], [2, 1], [4, 3]], ids=["baseline", "progressive", "restart"])
def test_what_a_phone_appends_to_a_jpeg_does_not_matter(parameters):
    from keras_deeplab._helpers.opencv import cv2

    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    data = cv2.imencode(".jpg", noise, parameters)[1].tobytes()
    appended = b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 9 + b"\xff\xda\xff\xff\xda"
    np.testing.assert_array_equal(decode_image(data + appended), decode_image(data))
    for end in range(2, len(data) - 1, 97):
        with pytest.raises(ValueError, match=r"is cut short|can't be decoded"):
            decode_image(data[:end])


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_cut_short():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = with_segment(encoded(".jpg", noise), b"\xff\xe1", b"Exif\0\0" + encoded(".jpg"))
    np.testing.assert_array_equal(decode_image(data), decode_image(encoded(".jpg", noise)))
    with pytest.raises(ValueError, match="is cut short"):
        decode_image(data[:-500])


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    np.testing.assert_array_equal(decode_image(encoded(".jpg") + b"maker's notes"), decode_image(encoded(".jpg")))


def test_reading_names_the_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(".jpg")[:-9])
    with pytest.raises(ValueError, match=r"a\.jpg is cut short"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"b\.jpg can't be decoded"):
        read_image(tmp_path / "b.jpg")
    with pytest.raises(FileNotFoundError, match=r"c\.jpg"):
        read_image(tmp_path / "c.jpg")


def tiff(image, photometric, meanings=()):
    """An uncompressed little-endian TIFF file written by hand, its channels interleaved."""
    height, width, channels = image.shape
    bits = 8 * image.dtype.itemsize
    entries = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric], 273: [0]}
    entries |= {277: [channels], 278: [height], 279: [image.nbytes]} | ({338: meanings} if meanings else {})
    start = 8 + 2 + 12 * len(entries) + 4
    rows, values = b"", b""
    for tag, numbers in entries.items():
        packed = struct.pack(f"<{len(numbers)}H", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack("<I", start + len(values)), values + packed
        rows += struct.pack("<HHI", tag, 3, len(numbers)) + packed.ljust(4, b"\0")
    rows = rows.replace(struct.pack("<HHII", 273, 3, 1, 0), struct.pack("<HHII", 273, 3, 1, start + len(values)))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + b"\0" * 4 + values + image.tobytes()


def noise(channels, dtype=np.uint8):
    return np.random.default_rng(channels).integers(0, 256, (5, 7, channels)).astype(dtype)


@pytest.mark.parametrize("photometric", [1, 2])
@pytest.mark.parametrize("meaning", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_files_come_with_all_channels_as_stored(channels, photometric, meaning):
    """Marked as grey, as RGB with a fourth of no meaning, or with alpha of either kind, by which nothing is scaled."""
    color = 3 if photometric == 2 else 1
    if channels < color:
        pytest.skip("RGB has three channels")
    data = tiff(noise(channels), photometric, [meaning] * (channels - color))
    np.testing.assert_array_equal(decode_image(data, channels), noise(channels))
    for other in {1, 3, 4} - {channels}:
        if other == 4 or channels == 4:
            with pytest.raises(ValueError, match=f"has {channels} channels?, and {other} .*give channels={channels}"):
                decode_image(data, other)
        else:
            assert decode_image(data, other).shape == (5, 7, other)


@pytest.mark.parametrize(("channels", "dtype"), [(2, np.uint8), (5, np.uint8), (6, np.uint16)])
def test_tiff_files_of_any_number_of_channels_are_read(channels, dtype):
    tifffile = pytest.importorskip("tifffile")
    image = noise(channels, dtype)

    def written(array, **options):
        file = io.BytesIO()
        tifffile.imwrite(file, array, photometric="minisblack", **options)
        return decode_image(file.getvalue(), channels, image_range=(0, 255))

    np.testing.assert_array_equal(
        decode_image(tiff(image, 1, [0] * (channels - 1)), channels, image_range=(0, 255)), image
    )
    np.testing.assert_array_equal(written(image, planarconfig="contig", bigtiff=True), image)
    np.testing.assert_array_equal(written(image, planarconfig="contig", compression="zlib"), image)
    planes = np.moveaxis(image, -1, 0)
    np.testing.assert_array_equal(written(planes, planarconfig="separate"), image)
    np.testing.assert_array_equal(written(planes), image)  # a page each
    with pytest.raises(ValueError, match=f"has {channels} channels, and 3 are expected: give channels={channels}"):
        decode_image(tiff(image, 1, [0] * (channels - 1)), 3, image_range=(0, 255))


def test_tiff_files_that_tifffile_refuses_are_refused():
    tifffile = pytest.importorskip("tifffile")
    with pytest.raises(ValueError, match="is cut short or damaged: a TIFF file of 5 channels"):
        decode_image(tiff(noise(5), 1, [0] * 4)[:-9], 5)
    with pytest.raises(ValueError, match="is cut short or damaged: a BigTIFF file"):
        decode_image(b"II+\0" + bytes(40))
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2):
            writer.write(noise(3), photometric="rgb")
    with pytest.raises(ValueError, match="is a TIFF file of 2 pictures, and an image is one"):
        decode_image(file.getvalue())


def test_without_tifffile_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        ImportError, match=r"TIFF file of 5 channels is read by tifffile.*pip install 'keras_deeplab\[tiff\]'"
    ):
        decode_image(tiff(noise(5), 1, [0] * 4), 5)


def test_an_overview_in_a_tiff_is_no_channel():
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(noise(1)[..., 0], photometric="minisblack")
        writer.write(noise(1)[:2, :3, 0], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(decode_image(file.getvalue(), 1), noise(1))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_arrays_come_with_all_channels_as_stored(tmp_path, channels):
    np.save(tmp_path / "a.npy", noise(channels))
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", channels), noise(channels))
    with pytest.raises(ValueError, match=rf"a\.npy has {channels} channels?, and {channels + 1} are expected"):
        read_image(tmp_path / "a.npy", channels + 1)
    if channels != 3:
        with pytest.raises(ValueError, match=rf"has {channels} channel.*, and 3 are expected"):
            read_image(tmp_path / "a.npy")


def test_a_png_has_four_channels_with_its_alpha_and_one_where_it_is_grey():
    image = noise(4)
    image[..., 3] = 77
    bgra = np.concatenate([image[..., 2::-1], image[..., 3:]], -1)
    data = cv2.imencode(".png", bgra)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, 4), image)
    np.testing.assert_array_equal(decode_image(data), image[..., :3])
    with pytest.raises(ValueError, match="has 4 channels, and 1 is expected"):
        decode_image(data, 1)
    np.testing.assert_array_equal(decode_image(encoded(".png", noise(1)[..., 0]), 1), noise(1))
    grey = decode_image(encoded(".png"), 1)
    np.testing.assert_allclose(grey[..., 0], HALVES @ np.array([0.299, 0.587, 0.114]), atol=1)
    with pytest.raises(ValueError, match="has 3 channels, and 4 are expected"):
        decode_image(encoded(".jpg"), 4)


def array_file(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "channels", "message"),
    [
        (array_file(noise(3, np.float32)), 3, "has pixels of float32, here 0 to 249, .*image_range= .* such as 0,255$"),
        (array_file(noise(5, np.uint16)), 5, "has pixels of uint16"),
        (array_file(np.array([{"a": 1}], object)), 3, "can't be decoded as an array"),
        (array_file(np.zeros((2, 3, 4, 5), np.uint8)), 5, "holds an array of shape"),
        (array_file(noise(4))[:-9], 4, "can't be decoded as an array"),
        (tiff(noise(4, np.uint16), 2, [0]), 4, "has pixels of uint16"),
        (np.array([True]).tobytes(), 3, "can't be decoded"),
        (tiff(noise(4), 2, [0])[:40], 4, "is cut short or damaged"),
        (encoded(".png", noise(1, np.uint16)[..., 0]), 1, "has pixels of uint16"),
    ],
)
def test_channels_that_can_not_be_had_are_refused_in_words(data, channels, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        decode_image(data, channels)


@pytest.mark.parametrize("extension", [".png", ".bmp", ".jpg"])
def test_the_size_stands_in_the_header(extension):
    data = encoded(extension, np.zeros((5, 9, 3), np.uint8))
    assert image_size(data) == (5, 9)
    if extension == ".jpg":
        assert image_size(with_orientation(data, 6)) == (5, 9)
    for end in range(0, len(data), 7):
        assert image_size(data[:end]) in ((5, 9), None)
    assert image_size(b"GIF89a") is None


def test_large_photographs_make_no_fuss_and_absurd_ones_no_allocation():
    # Pillow's own opener warns of 90 million pixels and refuses 180 million.
    data = bytearray(encoded(".jpg", np.zeros((8, 8, 3), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 12000, 16000)
    assert image_size(bytes(data)) == (12000, 16000)
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(ValueError, match=r"it declares 65000x65000 pixels, more than 1073741824"):
        decode_image(bytes(data))
