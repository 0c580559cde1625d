"""Image files inside a TensorFlow graph: refused by what their headers say, before anything is decoded.

A server has to say what is wrong with a file, and must not allocate what a header of 30 bytes asks for. TensorFlow's
decoders do neither, so the headers are read first.
"""

import tensorflow as tf

from keras_deeplab._helpers import limits

# Of the images that a file can hold: grey, RGB, RGBA.
CHANNELS = (1, 3, 4)
_PNG_RGBA = 6  # its type of colours
_DEEP = (
    "is a PNG file of 16 bits, and nothing says which of its numbers are 0 and 255: export the model with an "
    "image_range in its record, or send 8 bits"
)
_WALKING, _AT_SCAN, _DAMAGED, _CUT = range(4)


def checked_sizes(
    image_bytes: tf.Tensor,
    max_pixels: int | None = None,
    height: int | None = None,
    width: int | None = None,
    *,
    channels: int = 3,
    image_range: tuple[float, float] | None = None,
) -> tf.Tensor:
    """Strings (B,), the contents of JPEG, PNG and BMP files, to their sizes: int32 (B, 2), height and width.

    Running it fails with InvalidArgumentError where a file is none of these, is cut short, has no pixels or more than
    `max_pixels`, doesn't fit into `height` x `width` (None: any), has no fourth channel where `channels` is 4, or has
    16 bits where no `image_range` says what they mean; the message names each such file by its index. Faults further
    inside a file are left to the decoder.
    """

    def examine(data):
        problem, size = _header(data, channels, image_range)
        misfit = _misfit(size, max_pixels, height, width)
        # A file that is cut short may also be too large, which says more about where it comes from.
        telling = (problem == "") | ((misfit != "") & tf.reduce_all(size > 0))
        problem = tf.where(telling, misfit, problem)
        return problem, tf.cast(tf.minimum(size, tf.int32.max), tf.int32)

    kinds = (tf.TensorSpec((), tf.string), tf.TensorSpec((2,), tf.int32))
    problems, sizes = tf.map_fn(examine, image_bytes, fn_output_signature=kinds)
    bad = tf.where(problems != "")[:, 0]
    lines = tf.strings.join(["image_bytes[", tf.strings.as_string(bad), "] ", tf.gather(problems, bad)])
    fine = tf.debugging.Assert(tf.size(bad) == 0, [tf.strings.reduce_join(lines, separator="; ")])
    with tf.control_dependencies([fine]):
        return tf.identity(sizes)


def checked_images(images: tf.Tensor, max_pixels: int | None = None) -> tf.Tensor:
    """Images (B, H, W, C) to the same; running it fails where they have no pixels, or over `max_pixels` in all."""
    shape = tf.shape(images, out_type=tf.int64)
    pixels = tf.reduce_prod(shape[:3])
    text = tf.strings.join(["images of shape (", tf.strings.reduce_join(tf.as_string(shape), separator=", "), ")"])
    fine = [tf.debugging.Assert(pixels > 0, [text + " have no pixels"])]
    if max_pixels is not None:
        much = [text, " have ", tf.as_string(pixels), f" pixels; this model takes calls of up to {max_pixels}"]
        fine.append(tf.debugging.Assert(pixels <= max_pixels, [tf.strings.join(much)]))
    with tf.control_dependencies(fine):
        return tf.identity(images)


def decode(data: tf.Tensor, channels: int = 3, image_range: tuple[float, float] | None = None) -> tf.Tensor:
    """A string, the contents of a file that `checked_sizes` accepts, to its pixels: uint8 (H, W, channels).

    `channels` is 1 for grey, 3 for RGB or 4 for a file's four. The numbers of a PNG file of 16 bits are scaled by
    `image_range`, as `keras_deeplab.data.channels.scaled` does.
    """

    def plain():
        return tf.io.decode_image(data, channels=channels, expand_animations=False)

    def deep():
        low, high = image_range
        pixels = tf.cast(tf.io.decode_png(data, channels, tf.uint16), tf.float32)
        return tf.cast(tf.round(tf.clip_by_value((pixels - low) * (255 / (high - low)), 0.0, 255.0)), tf.uint8)

    if image_range is None:
        image = plain()
    else:
        is_png = tf.strings.substr(data, 0, 4) == b"\x89PNG"
        # Of other files the byte may be missing.
        depth = tf.cond(is_png, lambda: tf.strings.substr(data, 24, 1), lambda: tf.constant(b""))
        image = tf.cond(depth == b"\x10", deep, plain)
    image.set_shape((None, None, channels))
    return image


def _misfit(size, max_pixels, height, width):
    """What is wrong with a size, int64 (2,): "" or text."""
    shown = tf.strings.reduce_join(tf.as_string(size), separator="x")
    pixels = tf.reduce_prod(size)
    checks = [(tf.reduce_any(size < 1), tf.strings.join(["declares ", shown, " pixels (height x width)"]))]
    if max_pixels is not None:
        text = [shown, " pixels (height x width), ", tf.as_string(pixels), f" in all; the limit is {max_pixels}"]
        checks.append((pixels > max_pixels, tf.strings.join(["declares ", *text])))
    if height is not None or width is not None:
        # None takes any length, so nothing is too long for it.
        target = tf.constant([side or tf.int64.max for side in (height, width)], tf.int64)
        text = f" (height x width), larger than what this model was exported for, {height}x{width}"
        checks.append((tf.reduce_any(size > target), tf.strings.join(["is ", shown, text])))
    problem = tf.constant("")
    for wrong, text in reversed(checks):
        problem = tf.where(wrong, text, problem)
    return problem


def _header(data, channels, image_range):
    """A string to (problem, size): "" or text, and int64 (2,), zeros where the file doesn't tell."""
    few = f"has no fourth channel, and the model takes {channels}" if channels == 4 else ""
    values = tf.io.decode_raw(data, tf.uint8)
    length = tf.size(values)
    head = tf.cast(tf.pad(values[:40], [[0, tf.maximum(40 - length, 0)]]), tf.int32)
    head.set_shape((40,))

    def begins(magic, at=0):
        return tf.reduce_all(head[at : at + len(magic)] == list(magic))

    def cut(kind):
        return tf.strings.join([f"is cut short: the {kind} file ends after ", tf.as_string(length), " bytes"])

    def jpeg():
        state, scan = _walk_jpeg(values)
        rest = values[scan:]
        # Not in the last bytes only: cameras and phones append things. Inside a scan FF is never followed by D9.
        ended = tf.reduce_any((rest[:-1] == 0xFF) & (rest[1:] == 0xD9))
        problem = tf.where((state == _AT_SCAN) & ended, "", cut("JPEG"))
        problem = tf.where(
            (state == _DAMAGED) | (state == _WALKING),
            "is a damaged JPEG file: its segments lead to no picture",
            problem,
        )
        problem = tf.where(problem == "", few, problem)
        size = tf.cond(
            state == _AT_SCAN, lambda: tf.image.extract_jpeg_shape(data)[:2], lambda: tf.zeros((2,), tf.int32)
        )
        return problem, tf.cast(size, tf.int64)

    def png():
        size = tf.stack([_integer(head[20:24]), _integer(head[16:20])])
        starts = tf.where(values[: tf.maximum(length - 3, 0)] == ord("I"))
        names = tf.gather(values, starts + tf.constant([[0, 1, 2, 3]], tf.int64))
        ended = tf.reduce_any(tf.reduce_all(names == tf.constant(list(b"IEND"), tf.uint8), 1))
        problem = tf.where(ended, "", cut("PNG"))
        problem = tf.where(begins(b"IHDR", 12), problem, "is a damaged PNG file: it begins with no header")
        problem = tf.where((problem == "") & (head[25] != _PNG_RGBA), few, problem)
        if image_range is None:
            problem = tf.where((problem == "") & (head[24] == 16), _DEEP, problem)
        return tf.where(length < 33, cut("PNG"), problem), size

    def bmp():
        # A negative height stands for rows from top to bottom.
        height, width = _signed(head[25:21:-1]), _signed(head[21:17:-1])
        whole = (length >= 30) & (tf.cast(length, tf.int64) >= _integer(head[5:1:-1]))
        problem = tf.where(whole, tf.where(head[28] == 32, "", few), cut("BMP"))
        return problem, tf.stack([tf.abs(height), width])

    def neither():
        problem = tf.where(length == 0, "is empty: it has 0 bytes", "is no JPEG, PNG or BMP file")
        return problem, tf.zeros((2,), tf.int64)

    kinds = [(begins(b"\xff\xd8\xff"), jpeg), (begins(b"\x89PNG\r\n\x1a\n"), png), (begins(b"BM"), bmp)]
    return tf.case(kinds, default=neither)


def _integer(values):
    """Four bytes, the highest first, to an int64."""
    return tf.reduce_sum(tf.cast(values, tf.int64) * [1 << 24, 1 << 16, 1 << 8, 1])


def _signed(values):
    number = _integer(values)
    return tf.where(number >= 1 << 31, number - (1 << 32), number)


def _walk_jpeg(values):
    """The bytes of a JPEG file to (state, position): whether the segments before the scan are whole, and its start."""
    length = tf.size(values)

    def step(position, state):
        begin = tf.minimum(position, tf.maximum(length - 4, 0))
        mark, kind, high, low = tf.unstack(tf.cast(tf.ensure_shape(values[begin : begin + 4], (4,)), tf.int32))
        filled = (mark == 0xFF) & (kind == 0xFF)
        # Those of D0..D9 have no length; before the picture there is no place for them.
        legal = (mark == 0xFF) & (kind >= 0xC0) & ((kind < 0xD0) | (kind > 0xD9)) & (high * 256 + low >= 2)
        end = position + 2 + high * 256 + low
        following = tf.where(kind == 0xDA, tf.where(end <= length, _AT_SCAN, _CUT), _WALKING)
        following = tf.where(filled, _WALKING, tf.where(legal, following, _DAMAGED))
        following = tf.where(position + 4 > length, _CUT, following)
        return tf.where(filled, position + 1, end), following

    if_short = tf.where(length < 6, _CUT, _WALKING)
    position, state = tf.while_loop(
        lambda _, state: state == _WALKING,
        step,
        (tf.constant(2), if_short),
        parallel_iterations=1,
        maximum_iterations=limits.JPEG_SEGMENTS,
    )
    return state, tf.minimum(position, length)
