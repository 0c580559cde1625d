"""A Keras model to a SavedModel folder that TensorFlow Serving, or TensorFlow alone, runs."""

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab._helpers import limits
from keras_deeplab._helpers.ending import remove_at_end
from keras_deeplab.export import arguments, graph, trial
from keras_deeplab.export.encoded_images import CHANNELS, checked_images, checked_sizes, decode
from keras_deeplab.export.warmup import write_warmup_requests
from keras_deeplab.inference.runtimes.saved_model import SavedModelRuntime
from keras_deeplab.layers import ResizeBilinear, conventions
from keras_deeplab.metadata import saved_model as _metadata
from keras_deeplab.specs import Classes

# What to do where a call has too many pixels.
_FEWER = "send fewer at a time, such of similar sizes, or send them to `encoded`"

# There is nothing to train in a frozen graph; with gradients, saving fails on those that capture a tensor.
_SAVE_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)

# A tensorflow.serving.BatchingParameters message.
_BATCHING = """\
max_batch_size {{ value: {size} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 64 }}
enable_large_batch_splitting {{ value: true }}
max_execution_batch_size {{ value: {size} }}
"""


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    classes: Classes | Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    overwrite: bool = False,
    portable: bool = False,
    max_pixels: int | None = limits.SERVED_PIXELS,
    warmup_size: Any = 513,
    batch_requests: int | None = None,
) -> Path:
    """A Keras model to the SavedModel folder `path`, which TensorFlow runs without Keras or this package.

    | signature | takes | returns |
    |---|---|---|
    | `serving_default` | `images`: uint8 (B, H, W, channels), RGB | `labels`: uint8 (B, H, W) |
    | `logits` | `images`: as above | `logits`: float32 (B, H, W, num_classes) |
    | `probabilities` | `images`: as above | `probabilities`: float32 (B, H, W, num_classes) |
    | `encoded` | `image_bytes`: string (B,), JPEG, PNG or BMP files | `labels_png_bytes`: string (B,), PNG files |
    | `encoded_labels` | `image_bytes`: string (B,), as above | `labels`: uint8 (B, H, W), `sizes`: int32 (B, 2) |
    | `record` | `query`: string (B,), anything | `record`: string (B,), the model's record as JSON |

    Any batch size, and any H and W if the model takes any; else only its own. The files of a call may differ in size,
    colour mode (grey becomes RGB, alpha is dropped) and format. `encoded` and `encoded_labels` are there for models of
    1 (grey), 3 (RGB) and 4 channels (PNG or BMP files that have four): image files have no others. PNG files of 16
    bits are scaled by the `image_range` of the model's record, and refused where it has none.

    Each label PNG has the size of its image and one channel whose values are the labels. `encoded_labels` has the H
    and W of the call's tallest and widest image, with 255 below and to the right of smaller ones; `sizes` tells each
    one's own height and width. For a model of a fixed size both pad smaller images as evaluation does and refuse
    larger ones. EXIF orientation is ignored. With more than 256 classes the labels are int32, and the PNG has 16 bits.

    A binary model's labels are 1 where its one logit is above 0 (the probability above 0.5); a multi-label model's are
    its likeliest class where that is above a probability of 0.5, else 255, and its probabilities are those of each
    class by itself. An auxiliary output is left out. The model's record (`keras_deeplab.specs.FileSpec`) is also in
    `assets.extra/keras_deeplab.json`, and the classes' names, where they are known, in `assets.extra/classes.txt`.

    Files that are none of these, cut short or too large are refused by their headers, with a message that names each.

    The folder appears when it is complete and TensorFlow has run it on random pictures, where it has to give what the
    model gives: a server that watches the parent never sees half of it.

    Args:
        model: keras.Model from images (B, H, W, channels) in 0..255 to logits.
        path: the folder to make, for TensorFlow Serving a number inside the model's folder, see `next_version`.
        classes: names of the labels or a `keras_deeplab.specs.Classes`, for the record; None for those in the model's.
        palette: uint8 (N, 3) colours of at least all labels, likewise.
        overwrite: whether a SavedModel that is already at `path` may be replaced.
        portable: dilated depthwise convolutions are one operator each, which TensorFlow has for CPUs with oneDNN (its
            default on x86). True takes several slower ones that every CPU and GPU has.
        max_pixels: pixels of the largest file that a server shall decode (H x W), and of the largest call with tensors,
            whose images are computed all at once, or to `encoded_labels`, whose labels are one array (B x H x W). None:
            no limit.
        warmup_size: int or (height, width) of the images in `assets.extra/tf_serving_warmup_requests`, which has
            TensorFlow Serving run each signature once before it lets clients in; a model of a fixed size takes its own.
            None: no such file.
        batch_requests: how many images TensorFlow Serving may take from concurrent calls and compute together, where
            it runs with --enable_batching and --enable_per_model_batching_parameters. They must have the same size,
            and one that fails lets the others fail. None: each call by itself.

    Returns:
        `path` as a pathlib.Path.

    Raises:
        ValueError: if something else than an empty folder is at `path` (unless it is a SavedModel and `overwrite` is
            True), the model isn't one of images to logits, `classes` doesn't have a name for each label, or a number
            isn't positive.
    """
    model, spec = graph.network(model)
    path = Path(path).expanduser()
    _check_target(path, overwrite)
    spec = arguments.with_given_classes(spec, classes, palette)
    size = graph.static_size(model)
    record = graph.file_spec(spec, "labels", True, () if None in size else (size,))
    warmup_size = _warmup_size(model, warmup_size, max_pixels)
    if batch_requests is not None and batch_requests < 1:
        raise ValueError(f"batch_requests is a number of images, at least 1, or None; received {batch_requests}")
    signatures = _signatures(graph.inference_model(model), record, portable, max_pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename; its name is no number, so a server leaves it alone.
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # Should the process be ended, what stood there before, which lies beside it, is kept.
        remove_at_end(workplace, Path.rmdir)
        fresh = remove_at_end(workplace / "new")
        with _disk_errors():
            tf.saved_model.save(tf.Module(), str(fresh), signatures, _SAVE_OPTIONS)
        _metadata.write(fresh, record)
        if warmup_size is not None:
            requests = _warmup_requests(signatures, spec.channels, *warmup_size)
            with _disk_errors():
                write_warmup_requests(fresh, path.absolute().parent.name, requests)
        if batch_requests is not None:
            (fresh / "batching_params.pbtxt").write_text(_BATCHING.format(size=batch_requests), "utf-8")
        _try(fresh, model, spec, max_pixels)
        _put(fresh, path, workplace / "old", overwrite)
    finally:
        if (workplace / "old").exists() and not path.exists():
            (workplace / "old").rename(path)
        shutil.rmtree(workplace)
    return path


@contextlib.contextmanager
def _disk_errors():
    """A disk that is full or closed to TensorFlow's writers, as the OSError that Python's own raise."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        raise OSError(f"the SavedModel can't be written: {error.message}") from error


def _try(folder, model, spec, max_pixels):
    """Raises ValueError unless the SavedModel gives what the model gives."""
    # A server with few pixels to an image takes no picture of the usual size.
    size = (math.isqrt(max_pixels),) * 2 if max_pixels is not None and max_pixels < 1 << 14 else None
    trial.largest_difference(SavedModelRuntime(folder), model, spec, size=size)


def signature_names(channels: int) -> tuple[str, ...]:
    """The signatures of the SavedModel of a model whose images have so many channels.

    >>> signature_names(5)
    ('serving_default', 'logits', 'probabilities', 'record')
    """
    of_files = ("encoded", "encoded_labels") if channels in CHANNELS else ()
    return ("serving_default", "logits", "probabilities", *of_files, "record")


def next_version(directory: str | os.PathLike) -> Path:
    """The folder of numbered versions of a model to the path of its next version: the highest number + 1, else 1.

    >>> next_version("no/such/folder").as_posix()
    'no/such/folder/1'

    Raises:
        ValueError: if `directory` is itself a SavedModel, or a file.
    """
    directory = Path(directory).expanduser()
    if directory.is_file() or (directory / "saved_model.pb").is_file():
        raise ValueError(
            f"{directory} is {'a file' if directory.is_file() else 'itself a SavedModel'}, not a folder of versions "
            "such as savedmodels/NAME, whose versions are savedmodels/NAME/1, savedmodels/NAME/2, ..."
        )
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    return directory / str(max((int(name) for name in names if name.isdecimal()), default=0) + 1)


def _check_target(path, overwrite):
    if path.is_dir() and not any(path.iterdir()):
        return
    if not os.path.lexists(path):
        return
    if not (path / "saved_model.pb").is_file():
        raise ValueError(f"{path} exists and is no SavedModel: it is left as it is; choose a folder that doesn't exist")
    if not overwrite:
        raise ValueError(
            f"{path} already holds a SavedModel: pass overwrite=True (--overwrite) to replace it, or choose another "
            "folder; next_version gives the next version number of a model's folder"
        )


def _put(fresh, path, aside, overwrite):
    """Gives a folder that is whole its name; what has that goes aside, if it may be replaced.

    Asked here once more: while a model was written, another process may have put its own there.
    """
    while True:
        try:
            fresh.rename(path)  # onto nothing, or an empty folder
        except OSError:
            if not os.path.lexists(path):
                raise
        else:
            return
        _check_target(path, overwrite)
        if any(path.iterdir()):
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        else:
            path.rmdir()  # Windows renames onto nothing that is there


def _warmup_size(model, size, max_pixels):
    """(height, width) of the warm-up images, or None for none; ValueError where a number can't be."""
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels is a number of pixels, at least 1, or None; received {max_pixels}")
    if size is None:
        return None
    size = (size, size) if isinstance(size, int) else tuple(size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"warmup_size is None, a positive number or (height, width); received {size}")
    size = tuple(own or wanted for own, wanted in zip(graph.static_size(model), size, strict=True))
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise ValueError(
            f"max_pixels={max_pixels} refuses the warm-up images of {size[0]}x{size[1]}, so that no server could load "
            "the model: give a smaller warmup_size or None, or a larger max_pixels"
        )
    return size


def _warmup_requests(signatures, channels, height, width):
    """A request for each signature: one grey image."""
    grey = tf.fill((height, width, channels), tf.constant(128, tf.uint8))
    values = {"images": grey[None], "query": tf.constant([b""])}
    if channels in CHANNELS:
        values["image_bytes"] = tf.io.encode_png(grey)[None]
    return [
        (name, {entry.name: tf.make_tensor_proto(values[entry.name].numpy()) for entry in function.input_signature})
        for name, function in signatures.items()
    ]


def _signatures(model, record, portable, max_pixels):
    """The functions of a SavedModel by name."""
    spec = record.model
    height, width = graph.static_size(model)
    pixels = tf.TensorSpec((None, height, width, spec.channels), tf.uint8, "images")
    files = tf.TensorSpec((None,), tf.string, "image_bytes")
    queries = tf.TensorSpec((None,), tf.string, "query")
    # Labels are made of the logits before they are resized, so that those of every pixel are never there.
    coarse, convention = graph.before_resize(model)
    coarse_of = graph.frozen(graph.logits_function(coarse, native=False if portable else None), pixels)

    def labels_of(images):
        return graph.labels_of(coarse_of(images), spec, tf.shape(images)[1:3], convention)

    def logits_of(images):
        found = coarse_of(images)
        if convention is None:
            return found
        return ResizeBilinear(**conventions(convention), dtype="float32")([found, images])

    @tf.function(input_signature=[pixels], autograph=False)
    def serving_default(images):
        return {"labels": labels_of(checked_images(images, max_pixels))}

    @tf.function(input_signature=[pixels], autograph=False)
    def logits(images):
        return {"logits": logits_of(checked_images(images, max_pixels))}

    @tf.function(input_signature=[pixels], autograph=False)
    def probabilities(images):
        return {"probabilities": graph.output_of(logits_of(checked_images(images, max_pixels)), spec, "probabilities")}

    @tf.function(input_signature=[queries], autograph=False)
    def record_of(query):
        return {"record": tf.fill(tf.shape(query), tf.constant(record.to_json()))}

    found = {"serving_default": serving_default, "logits": logits, "probabilities": probabilities}
    if spec.channels not in CHANNELS:
        return {**found, "record": record_of}

    def sizes_of(image_bytes):
        settings = {"channels": spec.channels, "image_range": spec.image_range}
        return checked_sizes(image_bytes, max_pixels, height, width, **settings)

    def segment_each(image_bytes, result, kind):
        # One after the other: large images need much memory, and the operators use all cores anyway.
        def segment(data):
            return result(_labels(decode(data, spec.channels, spec.image_range), labels_of, height, width))

        return tf.map_fn(segment, image_bytes, fn_output_signature=kind, parallel_iterations=1)

    # The suffix _bytes of an output's name is how TensorFlow Serving's REST interface knows to send it as base64.
    @tf.function(input_signature=[files], autograph=False)
    def encoded(image_bytes):
        with tf.control_dependencies([sizes_of(image_bytes)]):
            image_bytes = tf.identity(image_bytes)
        return {"labels_png_bytes": segment_each(image_bytes, _png, tf.string)}

    @tf.function(input_signature=[files], autograph=False)
    def encoded_labels(image_bytes):
        sizes = sizes_of(image_bytes)
        largest = tf.reduce_max(sizes, 0)
        fine = [tf.debugging.Assert(tf.size(image_bytes) > 0, ["image_bytes holds no file"])]
        if max_pixels is not None:
            count = tf.size(image_bytes, tf.int64)
            area = count * tf.reduce_prod(tf.cast(largest, tf.int64))
            shown = tf.strings.reduce_join(tf.as_string(largest), separator="x")
            much = ["the labels of ", tf.as_string(count), " files, padded to ", shown, ", have ", tf.as_string(area)]
            text = tf.strings.join([*much, f" pixels; this model takes calls of up to {max_pixels}: {_FEWER}"])
            fine.append(tf.debugging.Assert(area <= max_pixels, [text]))
        with tf.control_dependencies(fine):
            image_bytes = tf.identity(image_bytes)

        def padded(labels):
            missing = largest - tf.shape(labels)
            return tf.pad(labels, [[0, missing[0]], [0, missing[1]]], constant_values=tf.cast(255, labels.dtype))

        labels = segment_each(image_bytes, padded, tf.TensorSpec((None, None), spec.label_dtype))
        return {"labels": labels, "sizes": sizes}

    return {**found, "encoded": encoded, "encoded_labels": encoded_labels, "record": record_of}


def _labels(image, labels_of, height, width):
    """An image (H, W, channels) to its labels (H, W); (height, width) is the model's size, None where free."""
    size = tf.shape(image)[:2]
    batch = image[None]
    if height is not None or width is not None:
        target = tf.stack([size[0] if height is None else height, size[1] if width is None else width])
        missing = target - size
        padding = [[0, missing[0]], [0, missing[1]], [0, 0]]
        # Evaluation pads with 127.5, which the graph's uint8 images can't hold.
        batch = tf.pad(image, padding, constant_values=tf.constant(128, tf.uint8))[None]
        batch = tf.ensure_shape(batch, (1, height, width, image.shape[2]))
    return labels_of(batch)[0, : size[0], : size[1]]


def _png(labels):
    if labels.dtype != tf.uint8:
        labels = tf.cast(labels, tf.uint16)
    return tf.io.encode_png(labels[..., None])
