"""Label images: the stored numbers come out, whatever kind of PNG holds them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_deeplab._helpers.opencv import cv2
from keras_deeplab.data.mask_files import decode_mask
from keras_deeplab.data.masks import (
    decode_label_png,
    label_reader,
    stored_in_png,
    voc_palette,
    write_label_png,
    write_whole,
)

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(kind, contents):
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def packed_rows(samples, depth):
    """Rows of samples (H, W * channels) as PNG stores them, each after a filter byte."""
    rows = b""
    for row in samples:
        if depth == 16:
            stored = np.asarray(row, ">u2").tobytes()
        else:
            bits = np.unpackbits(np.asarray(row, np.uint8)[:, None], axis=1)[:, 8 - depth :]
            stored = np.packbits(bits.reshape(-1)).tobytes()
        rows += b"\0" + stored
    return rows


def png(samples, depth, colour_type, *extra, interlaced=False):
    """A PNG file's bytes from samples (H, W) or (H, W, channels), written without any image library."""
    samples = np.asarray(samples)
    height, width = samples.shape[:2]
    if interlaced:
        passes = [samples[top::down, left::right] for top, left, down, right in ADAM7]
        rows = b"".join(packed_rows(part.reshape(len(part), -1), depth) for part in passes if part.size)
    else:
        rows = packed_rows(samples.reshape(height, -1), depth)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette_of(count):
    colours = np.random.default_rng(count).integers(0, 256, (count, 3), np.uint8)
    return colours, chunk(b"PLTE", colours.tobytes())


def numbers(depth, shape=(11, 13)):
    return np.random.default_rng(depth).integers(0, 2**depth, shape)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(11, 13), (1, 1), (5, 32)])
def test_a_paletted_file_gives_its_indices(depth, interlaced, shape):
    indices = numbers(depth, shape)
    colours, chunk_of_colours = palette_of(2**depth)
    transparent = chunk(b"tRNS", bytes(range(2**depth)))
    values, palette = decode_label_png(
        png(indices, depth, PALETTE, chunk_of_colours, transparent, interlaced=interlaced)
    )
    np.testing.assert_array_equal(values, indices)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(palette, colours)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_grey_file_gives_its_numbers_unstretched(depth, interlaced):
    expected = numbers(depth)
    extra = [chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"tRNS", struct.pack(">H", 1))]
    values, palette = decode_label_png(png(expected, depth, GREY, *extra, interlaced=interlaced))
    np.testing.assert_array_equal(values, expected)
    assert values.dtype == (np.uint16 if depth == 16 else np.uint8)
    assert palette is None


@pytest.mark.parametrize(("colour_type", "channels", "kept"), [(RGB, 3, 3), (RGBA, 4, 3), (GREY_ALPHA, 2, 1)])
@pytest.mark.parametrize("depth", [8, 16])
def test_colours_come_as_rgb_and_alpha_is_dropped(colour_type, channels, kept, depth):
    samples = numbers(depth, (6, 7, channels))
    values, _ = decode_label_png(png(samples, depth, colour_type))
    np.testing.assert_array_equal(values.reshape(6, 7, kept), samples[..., :kept])


def test_opencv_reads_what_is_written_in_the_palette_colours(tmp_path):
    labels = np.random.default_rng(0).integers(0, 256, (17, 23))
    write_label_png(tmp_path / "a.png", labels)
    shown = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png")), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(shown, voc_palette()[labels])
    values, palette = decode_label_png((tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(values, labels)
    np.testing.assert_array_equal(palette, voc_palette())
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("count", [1, 2, 3, 17, 255])
def test_a_short_palette_is_written_as_it_is_with_8_bits(tmp_path, count):
    colours, _ = palette_of(count)
    labels = np.arange(35).reshape(5, 7) % count
    write_label_png(tmp_path / "a.png", labels, colours)
    data = (tmp_path / "a.png").read_bytes()
    assert data[24:26] == bytes([8, PALETTE])
    values, palette = decode_label_png(data)
    np.testing.assert_array_equal(values, labels)
    np.testing.assert_array_equal(palette, colours)


@pytest.mark.parametrize(
    ("labels", "palette", "message"),
    [
        (np.zeros((2, 2)), None, "integer"),
        (np.zeros((2, 2, 1), int), None, r"\(H, W\)"),
        (np.full((2, 2), 256), None, "256 do not fit"),
        (np.full((2, 2), -1), None, "-1 to -1 do not fit"),
        (np.full((2, 2), 3), np.zeros((3, 3), np.uint8), "3 do not fit a palette of 3"),
        (np.zeros((2, 2), int), np.zeros((300, 3), np.uint8), "palette must be"),
    ],
)
def test_what_no_label_png_can_hold_is_refused_and_leaves_the_old_file(tmp_path, labels, palette, message):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        write_label_png(path, labels, palette)
    assert path.read_bytes() == b"old"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a.png": b"old"}


def test_the_voc_palette_is_pascals():
    # As VOC's documentation has them: aeroplane, bicycle, person, tvmonitor and the ignored border.
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {label: tuple(voc_palette()[label].tolist()) for label in expected} == expected
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_damaged_files_say_so():
    good = png(numbers(8), 8, GREY)
    assert decode_label_png(good)
    for end in range(len(good)):
        with pytest.raises(ValueError, match=r"cut short|is empty|not a PNG"):
            decode_label_png(good[:end])
    flipped = bytearray(good)
    flipped[50] ^= 1
    with pytest.raises(ValueError, match="checksum of the PNG file's b'IDAT' chunk"):
        decode_label_png(bytes(flipped))
    with pytest.raises(ValueError, match="not a PNG"):
        decode_label_png(b"\xff\xd8 this is a JPEG")
    short = struct.pack(">IIBBBBB", 9, 9, 8, GREY, 0, 0, 0)
    parts = [chunk(b"IHDR", short), chunk(b"IDAT", zlib.compress(b"\0" * 30)), chunk(b"IEND", b"")]
    with pytest.raises(ValueError, match="can't be decoded"):
        decode_label_png(good[:8] + b"".join(parts))


def test_numbers_become_labels():
    values = np.array([[0, 1, 2], [3, 200, 255]], np.uint8)
    plain = label_reader(4, ignore_label=200)
    np.testing.assert_array_equal(plain(values, None), [[0, 1, 2], [3, 255, 255]])
    from_one = label_reader(3, ignore_label=[0, 200], label_offset=-1)
    np.testing.assert_array_equal(from_one(values, None), [[255, 0, 1], [2, 255, 255]])
    wide = np.array([[0, 7, 65535]], np.uint16)
    np.testing.assert_array_equal(label_reader(8, ignore_label=65535)(wide, None), [[0, 7, 255]])
    signed = np.array([[-1, 7]], np.int64)
    np.testing.assert_array_equal(label_reader(8, ignore_label=-1)(signed, None), [[255, 7]])
    assert label_reader(8)(values[:1], None).dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.array([[0, 4]], np.uint8), {}, "holds 4, first at row 0, column 1, which is no label of the 4 classes"),
        (np.array([[0, 300]], np.uint16), {}, "holds 300, first at row 0, column 1"),
        (
            np.array([[0, 1]], np.uint8),
            {"label_offset": -1},
            "holds 0, first at row 0, column 0, .*with label_offset=-1",
        ),
        (np.arange(20, dtype=np.uint8)[:, None], {}, "holds 4, 5, 6, 7, 8 and 11 other numbers, first at row 4"),
        (np.zeros((2, 2, 3), np.uint8), {}, "three channels.*colors="),
        (np.arange(12, dtype=np.uint8).reshape(2, 2, 3), {"encoding": "grey"}, r"RGB-coded: .* \(0, 1, 2\)"),
        (np.zeros((2, 2), np.uint8), {"encoding": "palette"}, "has no palette"),
    ],
)
def test_numbers_that_are_no_labels_are_named_with_their_place(values, options, message):
    with pytest.raises(ValueError, match=message):
        label_reader(4, **options)(values, None)


def test_equal_channels_count_as_grey_only_when_told():
    values = np.repeat(np.array([[0, 3]], np.uint8)[..., None], 3, -1)
    np.testing.assert_array_equal(label_reader(4, "grey")(values, None), [[0, 3]])
    with pytest.raises(ValueError, match="is paletted, but mask_encoding='grey'"):
        label_reader(4, "grey")(values[..., 0], voc_palette())


def test_colours_become_labels():
    values = np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 255, 0]]], np.uint8)
    as_list = label_reader(4, colors=[(0, 0, 0), (0, 255, 0), (255, 0, 0), (0, 0, 255)])
    np.testing.assert_array_equal(as_list(values, None), [[0, 2, 3, 1]])
    as_dict = label_reader(2, colors={(0, 0, 0): 255, (0, 255, 0): 1, (255, 0, 0): 1, (0, 0, 255): 0})
    np.testing.assert_array_equal(as_dict(values, None), [[255, 1, 0, 1]])
    indices = np.array([[0, 3, 2, 1]], np.uint8)
    palette = np.array([[0, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0]], np.uint8)
    np.testing.assert_array_equal(as_list(indices, palette), [[0, 2, 3, 1]])
    black_and_white = label_reader(2, colors=[(0, 0, 0), (255, 255, 255)])
    np.testing.assert_array_equal(black_and_white(np.array([[0, 255]], np.uint8), None), [[0, 1]])
    # 254 marks unknown colours inside, and is a label like any other outside.
    many = label_reader(255, colors=[(number, 0, 0) for number in range(255)])
    np.testing.assert_array_equal(many(np.array([[[254, 0, 0], [253, 0, 0]]], np.uint8), None), [[254, 253]])


def test_an_unknown_colour_is_named_with_its_place():
    values = np.zeros((3, 4, 3), np.uint8)
    values[1, 2] = (9, 8, 7)
    values[2, 3] = (9, 8, 6)
    with pytest.raises(ValueError, match=r"colour \(9, 8, 7\) at row 1, column 2.*2 unknown colours in 2 pixels"):
        label_reader(1, colors=[(0, 0, 0)])(values, None)
    with pytest.raises(ValueError, match="index 5 of a palette of 1"):
        label_reader(1, colors=[(0, 0, 0)])(np.full((2, 2), 5, np.uint8), np.zeros((1, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "gray"}, "'auto', 'grey', 'palette', 'rgb', 'binary', 'alpha'"),
        ({"repair": "blur"}, "mask_repair='blur'; it is 'nearest', or None"),
        ({"encoding": "binary", "label_offset": 1}, "label_offset= has no meaning with mask_encoding='binary'"),
        ({"encoding": "binary", "colors": [(0, 0, 0), (1, 1, 1)]}, "colors= is for RGB-coded"),
        ({"encoding": "rgb"}, "needs colors="),
        ({"encoding": "grey", "colors": [(0, 0, 0), (1, 1, 1)]}, "colors= is for RGB-coded"),
        ({"colors": [(0, 0, 0)]}, "1 colours for 2 classes"),
        ({"colors": [(0, 0, 0), (0, 0, 300)]}, "each 0 to 255"),
        ({"colors": [(0, 0, 0), (0, 0, 0)]}, "two labels, 0 and 1"),
        ({"colors": {(0, 0, 0): 2}}, "no label of the 2 classes"),
        ({"colors": {(0, 0, 0): 1}, "ignore_label": 0}, "have no meaning"),
    ],
)
def test_options_that_contradict_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        label_reader(2, **options)


def test_black_and_white_are_for_two_classes():
    with pytest.raises(ValueError, match="mask_encoding='alpha' is for two classes, and there are 3"):
        label_reader(3, "alpha")


GREYS = np.array([[200, 130, 0], [255, 255, 255], [0, 0, 0]], np.uint8)


@pytest.mark.parametrize(
    ("values", "palette"),
    [
        (np.array([[0, 255, 255]], np.uint8), None),
        (np.array([[0, 1, 1]], np.uint8), None),
        (np.array([[0, 65535, 65535]], np.uint16), None),
        (np.array([[0, 3, 7]], np.uint8), None),  # instances
        (np.array([[0, -1, -1]], np.int32), None),
        (np.array([[0, 0.5, 1]], np.float32), None),
        (np.array([[[0, 0, 0], [255, 255, 255], [255, 255, 255]]], np.uint8), None),
        (np.array([[[0, 0, 0], [0, 0, 128], [0, 0, 128]]], np.uint8), None),
        (np.array([[1, 0, 0]], np.uint8), np.array([[255, 255, 255], [0, 0, 0]], np.uint8)),  # by colours, not indices
        (np.array([[0, 1, 2]], np.uint8), np.array([[0, 0, 0], [128, 0, 0], [0, 64, 0]], np.uint8)),
    ],
)
def test_black_is_class_0_and_anything_else_class_1(values, palette):
    repair = "nearest" if values.dtype == np.float32 else None
    expected = [[0, 0, 1]] if repair else [[0, 1, 1]]
    np.testing.assert_array_equal(label_reader(2, "binary", repair=repair)(values, palette), expected)


def test_white_is_no_ignored_label_there_but_another_number_can_be():
    values = np.array([[0, 128, 255]], np.uint8)
    np.testing.assert_array_equal(label_reader(2, "binary", ignore_label=128)(values), [[0, 255, 1]])


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_blended_black_and_white_is_divided_at_half_when_told(dtype, white):
    values = (np.array([[0, 0.01, 0.49], [0.51, 0.99, 1]]) * white).astype(dtype)
    with pytest.raises(ValueError, match=r'^holds 4 numbers between 0 and \d+ in 66.7% .*mask_repair="nearest"'):
        label_reader(2, "binary")(values)
    labels, moved = label_reader(2, "binary", repair="nearest").decode(values)
    assert (labels.tolist(), moved) == ([[0, 0, 0], [1, 1, 1]], 4)
    one = np.array([[0, 1]], dtype)
    assert label_reader(2, "binary", repair="nearest").decode(one)[1] == 0


def test_blended_numbers_and_colours_go_to_the_nearest_when_told():
    reader = label_reader(3, "grey", repair="nearest", label_offset=-10)
    labels, moved = reader.decode(np.array([[0, 10, 11], [12, 200, 255], [13, 131, 254]], np.uint8))
    assert (labels.tolist(), moved) == ([[0, 0, 1], [2, 255, 255], [2, 2, 255]], 5)
    colors = {(0, 0, 0): 0, (200, 0, 0): 1, (0, 200, 0): 1, (255, 255, 255): 255}
    values = np.array([[[0, 0, 0], [120, 3, 2], [9, 9, 9], [250, 240, 255], [0, 200, 0]]], np.uint8)
    with pytest.raises(ValueError, match=r'3 unknown colours in 3 pixels\); mask_repair="nearest" takes the nearest'):
        label_reader(2, colors=colors)(values)
    labels, moved = label_reader(2, colors=colors, repair="nearest").decode(values)
    assert (labels.tolist(), moved) == ([[0, 1, 0, 255, 1]], 3)
    assert label_reader(5, repair="nearest").decode(np.array([[0.0, 1.2, 3]]))[1] == 1
    with pytest.raises(ValueError, match=r"holds 1 numbers that aren't whole, such as 1.2"):
        label_reader(5)(np.array([[0.0, 1.2, 3]]))


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        (np.array([[0, 65535]], np.uint16), '65535 beside 0 seems .*mask_encoding="binary" reads'),
        (np.array([[0, 90, 200, 255]], np.uint8), 'blended.*mask_encoding="binary" with mask_repair="nearest" reads'),
        (np.array([[-1, 0]]), "label_offset=1 makes -1 class 0"),
        (np.array([[1, 2]], np.uint8), "count from 1, label_offset=-1"),
        (np.repeat(np.array([[0, 255]], np.uint8)[..., None], 3, -1), "three channels.*white are read by mask_enc"),
    ],
)
def test_numbers_that_are_no_labels_come_with_what_may_mend_them(values, hint):
    with pytest.raises(ValueError, match=hint):
        label_reader(2)(values)
    if "blended" in hint:  # two classes and 255 for ignored are not what is meant
        with pytest.raises(ValueError, match=hint):
            label_reader(2, repair="nearest")(values)


@pytest.mark.parametrize(("colour_type", "channels"), [(RGBA, 4), (GREY_ALPHA, 2)])
def test_a_shape_in_the_alpha_channel_is_read_by_option_and_never_passed_over(colour_type, channels):
    samples = np.full((4, 5, channels), 1)
    samples[..., -1] = 255
    solid = label_reader(2, "auto" if channels == 2 else "rgb", None if channels == 2 else [(0, 0, 0), (1, 1, 1)])
    assert (solid(*stored_in_png(png(samples, 8, colour_type))) == 1).all()
    samples[1:3, 2:, -1] = 0
    stored = stored_in_png(png(samples, 8, colour_type))
    colors = None if channels == 2 else [(0, 0, 0), (1, 1, 1)]
    with pytest.raises(ValueError, match=r'^has an alpha channel that varies \(0 to 255\): mask_encoding="alpha"'):
        label_reader(2, colors=colors)(*stored)
    np.testing.assert_array_equal(label_reader(2, "alpha")(*stored), samples[..., -1] // 255)
    assert (label_reader(2, "rgb" if colors else "grey", colors)(*stored) == 1).all()
    with pytest.raises(ValueError, match="has no alpha channel, but mask_encoding='alpha'"):
        label_reader(2, "alpha")(stored.values)
    samples[0, 0, -1] = 90
    with pytest.raises(ValueError, match=r'holds 1 numbers between 0 and 255.*mask_encoding="alpha" divides at half'):
        label_reader(2, "alpha")(*stored_in_png(png(samples, 8, colour_type)))


def test_transparent_colours_of_a_palette_are_alpha_only_when_told():
    indices = np.array([[0, 1, 2]])
    _, colours = palette_of(4)
    stored = stored_in_png(png(indices, 8, PALETTE, colours, chunk(b"tRNS", bytes([0, 255]))))
    np.testing.assert_array_equal(label_reader(3)(*stored), indices)
    np.testing.assert_array_equal(label_reader(2, "alpha")(*stored), [[0, 1, 1]])


# Other files ------------------------------------------------------------------------------------------------------


def saved(picture, kind, **options):
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, picture)
    else:
        Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


TRUTH = np.random.default_rng(0).integers(0, 2, (9, 11)).astype(np.uint8)
LOSSLESS = {"BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "GIF": {}, "WEBP": {"lossless": True}, "npy": {}, "PNG": {}}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_masks_in_other_files_give_their_numbers(kind):
    numbers = TRUTH * 3
    stored = decode_mask(saved(numbers, kind, **LOSSLESS[kind]))
    np.testing.assert_array_equal(stored.values, numbers)
    assert stored.palette is None
    white = saved(TRUTH * 255, kind, **LOSSLESS[kind])
    np.testing.assert_array_equal(label_reader(2, "binary")(*decode_mask(white)), TRUTH)
    colours = np.array([(9, 8, 7), (255, 0, 60)], np.uint8)
    stored = decode_mask(saved(colours[TRUTH], kind, **LOSSLESS[kind]))
    np.testing.assert_array_equal(label_reader(2, colors=colours.tolist())(*stored), TRUTH)
    for end in range(0, len(white), 9):
        with pytest.raises(ValueError, match=r"^(is|can't|holds)"):
            decode_mask(white[:end])


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PNG"])
def test_paletted_files_of_other_kinds_give_their_indices_too(kind):
    picture = Image.fromarray(TRUTH).convert("P")
    picture.putpalette([255, 255, 255, 0, 0, 0])
    file = io.BytesIO()
    picture.save(file, kind)
    stored = decode_mask(file.getvalue())
    np.testing.assert_array_equal(stored.values, TRUTH)
    assert stored.palette[:2].tolist() == [[255] * 3, [0] * 3]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32])
@pytest.mark.parametrize("axis", [(), (-1,)])
def test_arrays_of_any_type_of_numbers_are_masks(dtype, axis):
    data = saved(np.expand_dims(TRUTH.astype(dtype), axis), "npy")
    np.testing.assert_array_equal(label_reader(2)(*decode_mask(data)), TRUTH)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4, 5)), r"holds an array of float64 \(3, 4, 5\), and a mask is numbers"),
        (np.full((2, 2), np.nan), "holds numbers that are not finite"),
        (np.array([["a"]]), "holds an array of <U1"),
    ],
)
def test_arrays_that_are_no_masks_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        decode_mask(saved(array, "npy"))


def test_alpha_is_found_in_other_files_too():
    samples = np.dstack([np.full((*TRUTH.shape, 3), 255, np.uint8), TRUTH * 255])
    for kind, options in (("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        np.testing.assert_array_equal(label_reader(2, "alpha")(*decode_mask(saved(samples, kind, **options))), TRUTH)


def test_a_jpeg_mask_is_divided_at_half():
    truth = np.zeros((40, 40), np.uint8)
    truth[13:27, 5:31] = 1
    for picture in (truth * 255, np.repeat(truth[..., None] * 255, 3, -1)):
        stored = decode_mask(saved(picture, "JPEG", quality=60))
        np.testing.assert_array_equal(label_reader(2, "binary", repair="nearest")(*stored), truth)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_several_pictures_in_a_file_are_refused(kind):
    file = io.BytesIO()
    Image.fromarray(TRUTH * 255).save(file, kind, save_all=True, append_images=[Image.fromarray(255 - TRUTH * 255)])
    with pytest.raises(ValueError, match="holds 2 pictures, and a mask is one"):
        decode_mask(file.getvalue())


def test_an_orientation_turns_a_mask_as_it_does_its_photograph():
    for kind in ("TIFF", "PNG"):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = saved(TRUTH, kind, **{"tiffinfo" if kind == "TIFF" else "exif": exif})
        np.testing.assert_array_equal(decode_mask(data).values, np.rot90(TRUTH, -1))
        np.testing.assert_array_equal(decode_mask(data, upright=False).values, TRUTH)


def test_files_of_no_kind_are_refused():
    for data in (b"no picture at all", b"GIF89a", b"RIFF\0\0\0\0WEBP", b""):
        with pytest.raises(ValueError, match=r"can't be decoded|is empty|is not a PNG"):
            decode_mask(data)
    file = io.BytesIO()
    Image.new("CMYK", (4, 4)).save(file, "JPEG")
    with pytest.raises(ValueError, match="is in CMYK colours"):
        decode_mask(file.getvalue())
