"""A Keras model to a SavedModel folder that TensorFlow Serving, or TensorFlow alone, runs."""

import os
import shutil
import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_deeplab.export import graph

# There is nothing to train in a frozen graph; with gradients, saving fails on those that capture a tensor.
_SAVE_OPTIONS = tf.saved_model.SaveOptions(experimental_custom_gradients=False)


def export_saved_model(model, path, *, classes=None, overwrite=False, portable=False):
    """A Keras model to the SavedModel folder `path`, which TensorFlow runs without Keras or this package.

    | signature | takes | returns |
    |---|---|---|
    | `serving_default` | `images`: uint8 (B, H, W, 3), RGB | `labels`: uint8 (B, H, W) |
    | `logits` | `images`: uint8 (B, H, W, 3), RGB | `logits`: float32 (B, H, W, num_classes) |
    | `encoded` | `image_bytes`: string (B,), JPEG, PNG, BMP or GIF files | `labels_png_bytes`: string (B,), PNG files |

    Any batch size, and any H and W if the model takes any; else only its own. The images of a call to `encoded` may
    differ in size, colour mode (grey becomes RGB, alpha is dropped) and format. Each label PNG has the size of its
    image and one channel whose values are the labels. For a model of a fixed size `encoded` pads smaller images as
    evaluation does and refuses larger ones. EXIF orientation is ignored. With more than 256 classes the labels are
    int32, and the PNG has 16 bits.

    The folder appears when it is complete: a server that watches the parent never sees half of it.

    Args:
        model: keras.Model from images (B, H, W, 3) in 0..255 to logits.
        path: the folder to make, for TensorFlow Serving a number inside the model's folder, see `next_version`.
        classes: names of the classes, for `assets.extra/classes.txt`; optional.
        overwrite: whether a SavedModel that is already at `path` may be replaced.
        portable: dilated depthwise convolutions are one operator each, which TensorFlow has for CPUs with oneDNN (its
            default on x86). True takes several slower ones that every CPU and GPU has.

    Returns:
        `path` as a pathlib.Path.

    Raises:
        ValueError: if something else than an empty folder is at `path` (unless it is a SavedModel and `overwrite` is
            True), the model isn't one of images to logits, or `classes` doesn't have a name for each output.
    """
    graph.check(model)
    path = Path(path).expanduser()
    _check_target(path, overwrite)
    num_classes = model.outputs[0].shape[-1]
    if classes is not None and len(classes) != num_classes:
        raise ValueError(f"received {len(classes)} class names for a model of {num_classes} classes: {list(classes)}")
    signatures = _signatures(graph.inference_model(model), portable)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename; its name is no number, so a server leaves it alone.
    workplace = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        fresh = workplace / "new"
        tf.saved_model.save(tf.Module(), str(fresh), signatures, _SAVE_OPTIONS)
        if classes is not None:
            (fresh / "assets.extra").mkdir()
            (fresh / "assets.extra" / "classes.txt").write_text("".join(f"{name}\n" for name in classes), "utf-8")
        if path.exists():
            path.rename(workplace / "old")
        fresh.rename(path)
    finally:
        if (workplace / "old").exists() and not path.exists():
            (workplace / "old").rename(path)
        shutil.rmtree(workplace)
    return path


def next_version(directory):
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


def _signatures(model, portable):
    """The functions of a SavedModel by name."""
    height, width = graph.static_size(model)
    images = tf.TensorSpec((None, height, width, 3), tf.uint8, "images")
    logits_of = _frozen(graph.logits_function(model, native=False if portable else None), images)

    @tf.function(input_signature=[images], autograph=False)
    def serving_default(images):
        return {"labels": graph.labels_of(logits_of(images))}

    @tf.function(input_signature=[images], autograph=False)
    def logits(images):
        return {"logits": logits_of(images)}

    # The suffix _bytes of an output's name is how TensorFlow Serving's REST interface knows to send it as base64.
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")], autograph=False)
    def encoded(image_bytes):
        def segment(data):
            return _label_png(data, logits_of, height, width)

        # One after the other: large images need much memory, and the operators use all cores anyway.
        pngs = tf.map_fn(segment, image_bytes, fn_output_signature=tf.string, parallel_iterations=1)
        return {"labels_png_bytes": pngs}

    return {"serving_default": serving_default, "logits": logits, "encoded": encoded}


def _frozen(function, spec):
    """A function of one tensor to the same with its variables as constants, which all signatures share.

    TensorFlow computes batch norm's scale and offset and folds them into the kernels when it loads constants, which it
    can't with variables: about a fifth faster.
    """
    traced = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    constant = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    return lambda images: constant(images)[0]


def _label_png(data, logits_of, height, width):
    """The bytes of an image file to those of its label PNG; (height, width) is the model's size, None where free."""
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    size = tf.shape(image)[:2]
    if height is None and width is None:
        batch = image[None]
    else:
        target = tf.stack([size[0] if height is None else height, size[1] if width is None else width])
        fits = tf.debugging.Assert(
            tf.reduce_all(size <= target),
            ["the image (height, width)", size, "is larger than what this model was exported for,", target],
        )
        with tf.control_dependencies([fits]):
            missing = target - size
        padding = [[0, missing[0]], [0, missing[1]], [0, 0]]
        # Evaluation pads with 127.5, which the graph's uint8 images can't hold.
        batch = tf.pad(image, padding, constant_values=128)[None]
        batch.set_shape((1, height, width, 3))
    labels = graph.labels_of(logits_of(batch))[0, : size[0], : size[1], None]
    if labels.dtype != tf.uint8:
        labels = tf.cast(labels, tf.uint16)
    return tf.io.encode_png(labels)
