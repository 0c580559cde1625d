"""From photographs to label maps: one call for Keras models, checkpoints, SavedModels and TFLite files."""

import glob
import json
import os
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_deeplab.metadata import tflite as _tflite_metadata

PADDING = 127.5
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# What runs a file of this kind, the first by default.
_RUNTIMES = {".tflite": ("litert", "openvino"), ".onnx": ("onnxruntime", "openvino")}
# Left alone, it computes in bfloat16 where the processor has it.
OPENVINO_OPTIONS = {"INFERENCE_PRECISION_HINT": "f32"}


class Predictor:
    """Calls with images (H, W, 3) or (B, H, W, 3), RGB uint8 or float in 0..255, return labels (H, W) or (B, H, W).

    `predictor` makes them. Labels are uint8, or int32 where there are more than 256 classes.

    Args:
        run: maps padded float32 images (B, H, W, 3) in 0..255 and the unpadded height and width to labels
            (B, height, width).
        input_size: (height, width) that images are padded to at the bottom and right with 127.5, or None.
        fixed: whether the model itself allows no other size than `input_size`.
        num_classes: number of classes, or None where a file that returns labels doesn't tell.
        name: what messages call the model.
        classes: names of the classes that the model's file has, or None.
        palette: uint8 (N, 3) colours that it has, or None.

    Attributes:
        input_size, num_classes, name, classes, palette: as above.
    """

    def __init__(
        self, run, input_size=None, fixed=False, num_classes=None, name="the model", classes=None, palette=None
    ):
        self._run = run
        self._fixed = fixed
        self.input_size = input_size
        self.num_classes = num_classes
        self.name = name
        self.classes = classes
        self.palette = palette

    def __call__(self, images):
        images = np.asarray(images)
        if images.ndim not in (3, 4) or images.shape[-1] != 3 or 0 in images.shape:
            raise ValueError(f"images must have shape (H, W, 3) or (B, H, W, 3), received {images.shape}")
        if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
            raise ValueError(f"images must be uint8 or floating point in 0..255, received dtype {images.dtype}")
        batch = np.asarray(images if images.ndim == 4 else images[None], np.float32)
        height, width = batch.shape[1:3]
        labels = self._run(_padded(batch, self.input_size, self._too_large), height, width)
        return labels if images.ndim == 4 else labels[0]

    def _too_large(self, height, width):
        way_out = (
            f"{self.name} takes no other size: build or export it with a larger input"
            if self._fixed
            else f"give an input_size (--input-size) of at least {max(height, width)}, or none at all"
        )
        return ValueError(
            f"the image is {height}x{width} (height x width), larger than the input size "
            f"{self.input_size[0]}x{self.input_size[1]}. Images are padded, never resized in silence; {way_out}"
        )


def predictor(
    model_or_path,
    input_size=None,
    output_stride=None,
    *,
    scales=(1.0,),
    flip=False,
    input_range=None,
    num_threads=None,
    runtime=None,
):
    """A model or its file to a `Predictor`: images (H, W, 3) in 0..255 to labels (H, W), whatever runs inside.

    Args:
        model_or_path: a `keras.Model` that returns logits, or the path of
            a `.keras` file; a `.tflite` file (float or quantised, logits or labels out); an `.onnx` file; a SavedModel
            folder, or a folder of numbered versions of one; else a checkpoint that `keras_deeplab.load` reads. A
            `Predictor` is returned as it is.
        input_size: int or (height, width): images are padded to it with 127.5, at the bottom and right, and the
            labels cropped again. Models of a fixed size set it themselves. None runs at the size of the image.
        output_stride: for checkpoints that `keras_deeplab.load` reads; the other kinds have theirs built in.
        scales: factors of image size whose softmax probabilities are averaged, e.g. the papers'
            (0.5, 0.75, 1.0, 1.25, 1.5, 1.75); Keras models with any input size only.
        flip: whether to average over the mirrored image as well; Keras models only.
        input_range: (low, high) that 0..255 is mapped to, for TFLite files that don't normalise themselves.
            None means (0, 255); a quantised input that stands for -1..1 or 0..1 then gets the bytes as they are.
        num_threads: threads of the runtime of a `.tflite` or `.onnx` file; None for all cores.
        runtime: what runs such a file: `"litert"` (.tflite), `"onnxruntime"` (.onnx) or `"openvino"` (both); None for
            the first that fits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if an option doesn't apply to this kind of model, or the model is not one of images to labels.
    """
    size = _size(input_size)
    scales = tuple(float(scale) for scale in scales)
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be positive factors of the image's size, received {scales}")
    several = {"scales": scales != (1.0,), "flip": bool(flip)}
    if isinstance(model_or_path, Predictor):
        options = {"input_size": input_size is not None, "output_stride": output_stride is not None, **several}
        _refuse("a Predictor that is already made", options, "give it where the Predictor is made")
        return model_or_path
    if isinstance(model_or_path, keras.Model):
        options = {"output_stride": output_stride is not None, "runtime": runtime is not None}
        _refuse("a keras.Model", options, "build or export the model for it")
        return _keras_predictor(model_or_path, size, scales, flip)
    if not isinstance(model_or_path, (str, os.PathLike)):
        raise ValueError(
            f"expected a keras.Model, a Predictor or a path, received {type(model_or_path).__name__}: {model_or_path!r}"
        )
    path = Path(model_or_path).expanduser()
    saved_model = _saved_model_folder(path)
    suffix = path.suffix.lower()
    if suffix in (*_RUNTIMES, ".keras") and not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if suffix in _RUNTIMES or saved_model:
        kind = {".tflite": "a TFLite file", ".onnx": "an ONNX file"}.get(suffix, "a SavedModel")
        _refuse(kind, several, "score the .keras file or checkpoint that it was exported from")
        _refuse(kind, {"output_stride": output_stride is not None}, "export the model with it")
        if suffix in _RUNTIMES and runtime_of(path, runtime) != "litert":
            _refuse(kind, {"input_range": input_range is not None}, "such files take images in 0..255 here")
            return _session_predictor(path, size, runtime_of(path, runtime), num_threads)
        if suffix == ".tflite":
            return _tflite_predictor(path, size, input_range, num_threads)
    if runtime is not None:
        raise ValueError(f"runtime {runtime!r} is for .tflite and .onnx files; {path} is neither")
    if input_range is not None:
        raise ValueError(f"input_range is for TFLite files; {path} is none: such models take images in 0..255")
    if saved_model:
        return _saved_model_predictor(saved_model, size)
    if suffix == ".keras":
        _refuse("a .keras file", {"output_stride": output_stride is not None}, "build the model with it")
    import keras_deeplab

    options = {} if output_stride is None else {"output_stride": output_stride}
    model = keras_deeplab.load(path, **options)
    return _keras_predictor(model, size, scales, flip, name=str(path))


def ends_in_softmax(model):
    """Whether a functional model's last layer is a softmax, so that it returns probabilities and not logits."""
    last = model.layers[-1]
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax


def overlay(image, labels, palette, alpha=0.5, untouched=()):
    """Image uint8 (H, W, 3), labels (H, W) and palette uint8 (N, 3) to the image tinted with each label's colour.

    Args:
        alpha: weight of the colour, from 0 (the photograph) to 1 (the colours only).
        untouched: labels whose pixels keep the photograph's colours, such as a background class.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if the shapes disagree, a label has no colour in the palette, or alpha is outside 0..1.

    >>> image, labels = np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]])
    >>> overlay(image, labels, np.array([[0, 0, 0], [200, 100, 0]], np.uint8)).tolist()
    [[[0, 0, 0], [100, 50, 0]]]
    """
    image, labels, palette = np.asarray(image), np.asarray(labels), np.asarray(palette)
    if image.dtype != np.uint8 or image.shape != (*labels.shape, 3):
        raise ValueError(
            f"expected a uint8 image (H, W, 3) and labels (H, W), received {image.dtype} {image.shape} "
            f"and {labels.shape}"
        )
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in 0..1, received {alpha}")
    if labels.size and not 0 <= labels.min() <= labels.max() < len(palette):
        raise ValueError(
            f"labels {labels.min()} to {labels.max()} need a palette of as many colours, received {len(palette)}"
        )
    share = np.full(len(palette), alpha, np.float32)
    share[list(untouched)] = 0.0
    share = share[labels][..., None]
    mixed = image * (1.0 - share) + palette[labels].astype(np.float32) * share
    return np.rint(mixed).astype(np.uint8)


def add_legend(image, labels, classes, palette, untouched=()):
    """Image uint8 (H, W, 3) to the same with a strip below that names the classes in `labels` beside their colours.

    Args:
        labels: integer array; the classes with the most pixels come first.
        classes: list of names.
        palette: uint8 (N, 3).
        untouched: labels to leave out, those that `overlay` doesn't tint.

    Returns:
        uint8 (H + strip, W, 3); the image itself where there is nothing to name.
    """
    from keras_deeplab._helpers.opencv import cv2

    height, width = image.shape[:2]
    unit = max(10, round(min(height, width) / 24))
    font, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, unit / 26, max(1, unit // 14)
    found, counts = np.unique(labels[~np.isin(labels, list(untouched))], return_counts=True)
    if not found.size:
        return image
    rows, left = [[]], unit // 2
    for label in found[np.argsort(-counts, kind="stable")]:
        name = str(classes[label]) if label < len(classes) else f"class {label}"
        extent = cv2.getTextSize(name, font, scale, thickness)[0][0] + 3 * unit
        if rows[-1] and left + extent > width:
            rows.append([])
            left = unit // 2
        rows[-1].append((left, name, palette[label].tolist()))
        left += extent
    step = 2 * unit
    strip = np.full((step * len(rows), width, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        top = number * step + unit // 2
        for left, name, colour in row:
            cv2.rectangle(strip, (left, top), (left + unit, top + unit), colour, cv2.FILLED)
            cv2.rectangle(strip, (left, top), (left + unit, top + unit), (0, 0, 0), 1)
            corner = (left + unit + unit // 2, top + unit - max(1, unit // 8))
            cv2.putText(strip, name, corner, font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return np.concatenate([image, strip])


def segment_files(
    predictor, inputs, output_dir, *, classes=None, palette=None, alpha=0.5, legend=True, progress=True, log=print
):
    """Image files to label maps `<name>.png` (paletted, pixel value = label) and tinted images `<name>_overlay.png`.

    An image that can't be read or segmented doesn't stop the others: it is logged, and returned at the end.
    Existing files in `output_dir` are replaced, each one whole or not at all; input files never are. Photographs are
    turned upright first where their EXIF data says so.

    Args:
        predictor: maps a uint8 image (H, W, 3) to labels (H, W); what `predictor` returns.
        inputs: paths of files, folders (their images, without subfolders) or patterns such as `photos/*.jpg`.
        output_dir: folder for the results; made if needed.
        classes: names of the classes, for the legend. Pixels of a class named "background" are not tinted.
        palette: uint8 (256, 3) colours; PASCAL VOC's by default.
        alpha: weight of the colours in the overlay.
        legend: whether a strip below the overlay names the classes that occur; needs `classes`.
        progress: whether to show how far it is.
        log: called with each line of text to print.

    Returns:
        (written, failures): the pairs (label file, overlay file) and the pairs (image file, message).

    Raises:
        FileNotFoundError: if an input matches nothing.
        ValueError: if two images would be written to the same file, or a result would replace an input.
    """
    from keras_deeplab._helpers.progress import Progress
    from keras_deeplab.data.masks import voc_palette, write_label_png, write_whole

    palette = voc_palette() if palette is None else np.asarray(palette, np.uint8)
    untouched = [label for label, name in enumerate(classes or ()) if str(name).lower() == "background"]
    files = image_files(inputs)
    output_dir = Path(output_dir).expanduser()
    plan = _output_files(files, output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    written, failures = [], []
    with Progress(len(files), "segment", enabled=progress) as bar:
        for done, (file, (label_file, overlay_file)) in enumerate(plan.items(), 1):
            try:
                image = _read_upright(file)
                labels = predictor(image)
                picture = overlay(image, labels, palette, alpha, untouched)
                if legend and classes:
                    picture = add_legend(picture, labels, classes, palette, untouched)
                write_label_png(label_file, labels, palette)
                write_whole(overlay_file, encode_png(picture))
            except ImportError:
                raise
            except (OSError, ValueError) as error:
                message = str(error)
                failures.append((file, message if str(file) in message else f"{file}: {message}"))
                bar.clear()
                log(f"failed: {failures[-1][1]}")
            else:
                written.append((label_file, overlay_file))
            bar.update(done)
    return written, failures


def image_files(inputs):
    """Paths of files, folders and patterns to a sorted list of image files without duplicates.

    Folders give their .jpg, .jpeg, .png and .bmp files, without those in subfolders.

    Raises:
        FileNotFoundError: if an entry matches nothing.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    files = {}
    for entry in inputs:
        path = Path(entry).expanduser()
        if path.is_dir():
            found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
            if not found:
                raise FileNotFoundError(f"the folder {path} holds no image ({', '.join(IMAGE_SUFFIXES)})")
        elif path.is_file():
            found = [path]
        else:
            found = [Path(name) for name in glob.glob(str(path)) if os.path.isfile(name)]
            if not found:
                raise FileNotFoundError(f"{path} is neither a file, nor a folder, nor a pattern that matches a file")
        files.update((file, None) for file in sorted(found))
    if not files:
        raise FileNotFoundError("no input was given: name image files, folders or patterns")
    return list(files)


def _output_files(files, output_dir):
    """Each image file with its two result files, or ValueError where they would collide."""
    sources = {file.resolve(): file for file in files}
    plan, taken = {}, {}
    for file in files:
        targets = (output_dir / f"{file.stem}.png", output_dir / f"{file.stem}_overlay.png")
        for target in targets:
            if target.resolve() in sources:
                raise ValueError(
                    f"the result {target} would replace the input {sources[target.resolve()]}: "
                    "choose another output folder"
                )
            if target in taken:
                raise ValueError(
                    f"{taken[target]} and {file} would both be written to {target}: "
                    "segment them in two runs, with an output folder each"
                )
            taken[target] = file
        plan[file] = targets
    return plan


def _read_upright(file):
    from keras_deeplab._helpers.opencv import cv2
    from keras_deeplab.data.images import read_image

    image = read_image(file)
    data = Path(file).read_bytes()
    if b"Exif" in data:
        # Training pairs are read as stored, since masks carry no EXIF data; here the picture as one sees it counts.
        image = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return image


def encode_png(image):
    from keras_deeplab._helpers.opencv import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape} as PNG")
    return data.tobytes()


def _refuse(kind, options, way_out):
    for name, given in options.items():
        if given:
            raise ValueError(f"{name} can't be chosen for {kind}; {way_out}")


def _size(input_size):
    if input_size is None:
        return None
    pair = (input_size, input_size) if isinstance(input_size, (int, np.integer)) else tuple(input_size)
    if len(pair) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in pair):
        raise ValueError(f"input_size must be a positive int or (height, width), received {input_size!r}")
    return int(pair[0]), int(pair[1])


def _padded(batch, input_size, too_large):
    height, width = batch.shape[1:3]
    if input_size is None or (height, width) == input_size:
        return batch
    if height > input_size[0] or width > input_size[1]:
        raise too_large(height, width)
    padded = np.full((batch.shape[0], *input_size, 3), PADDING, np.float32)
    padded[:, :height, :width] = batch
    return padded


def _resolved_size(own, asked, name):
    """The input size from the model's own (None in places where it is free) and the one asked for."""
    own = tuple(own)
    if asked is None:
        if None in own and own != (None, None):
            raise ValueError(f"{name} fixes only one of height and width, {own}: give an input_size (--input-size)")
        return None if own == (None, None) else own
    if any(side not in (None, wish) for side, wish in zip(own, asked, strict=True)):
        raise ValueError(f"{name} takes images of {own[0]}x{own[1]} only, received input_size {asked}: leave it out")
    return asked


def _keras_predictor(model, size, scales, flip, name=None):
    name = name or f"the model {model.name!r}"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"{name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each is needed"
        )
    shape, outputs = model.inputs[0].shape, model.outputs[0].shape
    if len(shape) != 4 or shape[-1] != 3 or len(outputs) != 4:
        raise ValueError(
            f"{name} maps {tuple(shape)} to {tuple(outputs)}; expected images (B, H, W, 3) to logits (B, H, W, classes)"
        )
    own = shape[1:3]
    if scales != (1.0,) and tuple(own) != (None, None):
        raise ValueError(f"scales need a model for any input size, but {name} takes {own[0]}x{own[1]} only")
    size = _resolved_size(own, size, name)
    if keras.backend.backend() == "tensorflow":
        run = _tensorflow_run(model, size, scales, flip)
    elif scales != (1.0,) or flip:
        raise ValueError(f"scales and flip need the TensorFlow backend, and this is {keras.backend.backend()}")
    else:
        run = _any_backend_run(model)
    return Predictor(run, size, fixed=None not in own, num_classes=outputs[-1], name=name)


def _tensorflow_run(model, size, scales, flip):
    import tensorflow as tf

    dtype = tf.uint8 if model.outputs[0].shape[-1] <= 256 else tf.int32
    probabilities = tf.identity if ends_in_softmax(model) else tf.nn.softmax

    def logits_of(images, shape):
        """Logits at (height, width) `shape`, also where the model's own are coarser or `images` are scaled."""
        logits = tf.cast(model(images, training=False), tf.float32)
        return tf.cond(
            tf.reduce_all(tf.equal(tf.shape(logits)[1:3], shape)),
            lambda: logits,
            lambda: tf.raw_ops.ResizeBilinear(images=logits, size=shape, align_corners=True),
        )

    def scores_of(images):
        shape = tf.shape(images)[1:3]
        if scales == (1.0,) and not flip:
            return logits_of(images, shape)
        total = 0.0
        for scale in scales:
            scaled = images
            if scale != 1.0:
                # core/utils.py scale_dimension: sizes k * stride + 1 stay of that kind.
                target = tf.cast(tf.cast(shape - 1, tf.float32) * scale + 1.0, tf.int32)
                scaled = tf.raw_ops.ResizeBilinear(images=images, size=target, align_corners=True)
            total += probabilities(logits_of(scaled, shape))
            if flip:
                mirrored = tf.reverse(scaled, [2])
                total += probabilities(tf.reverse(logits_of(mirrored, shape), [2]))
        return total

    # One trace for every image: height and width are unknown to it unless images are padded to one size.
    signature = [tf.TensorSpec((None, *(size or (None, None)), 3), tf.float32)] + [tf.TensorSpec((), tf.int32)] * 2

    @tf.function(input_signature=signature, autograph=False, jit_compile=False)
    def labels_of(images, height, width):
        return tf.cast(tf.argmax(scores_of(images)[:, :height, :width], -1, tf.int32), dtype)

    return lambda images, height, width: labels_of(images, height, width).numpy()


def _any_backend_run(model):
    def run(images, height, width):
        logits = np.asarray(model.predict_on_batch(images))
        if logits.shape[1:3] != images.shape[1:3]:
            raise ValueError(
                f"the model returns logits of {logits.shape[1]}x{logits.shape[2]} for images of "
                f"{images.shape[1]}x{images.shape[2]}: build it with upsample_logits=True, or use TensorFlow"
            )
        return _argmax(logits[:, :height, :width])

    return run


def _argmax(scores):
    return np.argmax(scores, axis=-1).astype(np.uint8 if scores.shape[-1] <= 256 else np.int32)


def _as_labels(output, images, height, width, name, align_corners=True):
    """What a deployed model returned, logits (B, h, w, C) or labels (B, H, W[, 1]), to labels (B, height, width)."""
    if output.ndim == 4 and output.shape[-1] == 1:
        output = output[..., 0]
    if output.ndim == 3 and output.shape == images.shape[:3]:
        labels = output[:, :height, :width]
        return labels.astype(np.uint8 if labels.max() < 256 else np.int32)
    if output.ndim == 4:
        if output.shape[1:3] != images.shape[1:3]:
            import tensorflow as tf

            output = tf.raw_ops.ResizeBilinear(
                images=output.astype(np.float32),
                size=images.shape[1:3],
                align_corners=align_corners,
                half_pixel_centers=not align_corners,
            ).numpy()
        return _argmax(output[:, :height, :width])
    raise ValueError(
        f"{name} returned an array of shape {output.shape} for images of shape {images.shape}; expected logits "
        f"(B, h, w, classes), or labels {images.shape[:3]}"
    )


def _num_classes(shape):
    """The classes of an output of logits (B, h, w, C); None for labels (B, H, W[, 1]), which don't tell."""
    return int(shape[-1]) if len(shape) == 4 and shape[-1] not in (None, 1) else None


def _saved_model_folder(path):
    """The SavedModel that a folder is, or the highest of the numbered versions it holds, or None."""
    if (path / "saved_model.pb").is_file():
        return path
    if not path.is_dir():
        return None
    versions = [sub for sub in path.iterdir() if sub.name.isdigit() and (sub / "saved_model.pb").is_file()]
    return max(versions, key=lambda sub: int(sub.name), default=None)


def _saved_model_predictor(path, size):
    import tensorflow as tf

    name = f"the SavedModel {path}"
    loaded = tf.saved_model.load(str(path))
    if "serving_default" not in loaded.signatures:
        raise ValueError(
            f"{name} has no signature 'serving_default', only {sorted(loaded.signatures)}: export it with "
            "keras-deeplab export-saved-model"
        )
    function = loaded.signatures["serving_default"]
    inputs = function.structured_input_signature[1]
    spec = next(iter(inputs.values()))
    if len(inputs) != 1 or spec.shape.rank != 4 or not (spec.dtype.is_floating or spec.dtype == tf.uint8):
        raise ValueError(f"{name} takes {inputs}; expected one input of images (B, H, W, 3), uint8 or float")
    (key,) = inputs
    outputs = function.structured_outputs
    wanted = next((output for output in ("labels", "logits") if output in outputs), None)
    if wanted is None:
        if len(outputs) != 1:
            raise ValueError(f"{name} returns {sorted(outputs)}; expected 'labels' or 'logits' among them")
        (wanted,) = outputs
    own = spec.shape[1:3].as_list()
    one_by_one = spec.shape[0] == 1

    # `loaded` must outlive the function, which holds its variables weakly.
    def run(images, height, width, loaded=loaded):
        fed = images if spec.dtype.is_floating else np.rint(images).astype(np.uint8)
        groups = [fed[index : index + 1] for index in range(len(fed))] if one_by_one else [fed]
        parts = [function(**{key: tf.constant(group, spec.dtype)})[wanted].numpy() for group in groups]
        return _as_labels(np.concatenate(parts), images, height, width, name)

    size = _resolved_size(own, size, name)
    num_classes = _num_classes(outputs[wanted].shape.as_list())
    return Predictor(run, size, fixed=None not in own, num_classes=num_classes, name=name)


def runtime_of(path, runtime=None):
    """The path of a .tflite or .onnx file and a runtime, or None, to the name of the runtime that is to run it."""
    suffix = Path(path).suffix.lower()
    if suffix not in _RUNTIMES:
        raise ValueError(f"{path} is no exported file that a runtime runs: its name ends in none of {list(_RUNTIMES)}")
    if runtime is None:
        return _RUNTIMES[suffix][0]
    if runtime not in _RUNTIMES[suffix]:
        raise ValueError(f"a {suffix} file is run by one of {', '.join(_RUNTIMES[suffix])}; received {runtime!r}")
    return runtime


def _tflite_predictor(path, size, input_range, num_threads):
    name = f"the TFLite file {path}"
    loaded = interpreter(path, num_threads)
    signatures = loaded.get_signature_list()
    if len(signatures) > 1:
        return _signatures_predictor(path, loaded, sorted(signatures), size, input_range, name)
    inputs, outputs = loaded.get_input_details(), loaded.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
        raise ValueError(
            f"{name} has {len(inputs)} inputs (the first of shape {inputs[0]['shape']}) and {len(outputs)} outputs; "
            "expected images (1, H, W, 3) and one output"
        )
    shape, prepare = _tflite_images(inputs[0], input_range, name)
    index, output = inputs[0]["index"], outputs[0]["index"]
    align_corners, about = _metadata(path, outputs[0]["shape"])
    allocated = None

    def run(images, height, width):
        nonlocal allocated
        if allocated != images.shape[1:3]:
            if None in shape:
                loaded.resize_tensor_input(index, (1, *images.shape[1:]), strict=True)
            loaded.allocate_tensors()
            allocated = images.shape[1:3]
        labels = []
        for image in images:
            loaded.set_tensor(index, prepare(image[None]))
            loaded.invoke()
            labels.append(_as_labels(loaded.get_tensor(output), image[None], height, width, name, align_corners))
        return np.concatenate(labels)

    size = _resolved_size(shape[1:3], size, name)
    return Predictor(run, size, fixed=None not in shape[1:3], name=name, **about)


def _signatures_predictor(path, loaded, keys, size, input_range, name):
    """Of a file that has a signature for each of several sizes: images are run by the smallest that holds them."""
    runners = {}
    for key in keys:
        runner = loaded.get_signature_runner(key)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"the signature {key!r} of {name} has {len(inputs)} inputs and {len(outputs)} outputs")
        ((word, source),), (target,) = inputs.items(), outputs.values()
        shape, prepare = _tflite_images(source, input_range, name)
        if None in shape[1:3] or shape[1:3] in runners:
            raise ValueError(
                f"{name} has several signatures, {', '.join(keys)}, which don't differ by the size of their images"
            )
        runners[shape[1:3]] = (runner, word, prepare)
    sizes = sorted(runners, key=lambda sides: sides[0] * sides[1])
    if size is not None and size not in runners:
        known = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise ValueError(f"{name} takes images of {known}, received input_size {size}: choose one of them, or none")
    if size is not None:
        sizes = [size]
    align_corners, about = _metadata(path, target["shape"])

    def run(images, height, width):
        holding = [side for side in sizes if side[0] >= images.shape[1] and side[1] >= images.shape[2]]
        if not holding:
            raise ValueError(
                f"the image is {images.shape[1]}x{images.shape[2]} (height x width), larger than all sizes of {name}: "
                f"{', '.join(f'{side[0]}x{side[1]}' for side in sizes)}. Images are padded, never resized in silence"
            )
        runner, word, prepare = runners[holding[0]]
        labels = []
        for image in _padded(images, holding[0], None):
            (output,) = runner(**{word: prepare(image[None])}).values()
            labels.append(_as_labels(output, image[None], height, width, name, align_corners))
        return np.concatenate(labels)

    return Predictor(run, size, fixed=True, name=name, **about)


def _tflite_images(details, input_range, name):
    """The details of an input to its shape, None where it is free, and the function that images are fed through."""
    shape = tuple(None if side < 0 else int(side) for side in details["shape_signature"])
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[3] != 3:
        raise ValueError(f"{name} takes {shape}; expected (1, H, W, 3)")
    return shape, _tflite_input(details, input_range, name)


def _metadata(path, output_shape):
    """What a TFLite file's own metadata tells a predictor: align_corners of a resize that is left, and its keywords."""
    facts, classes, palette = _tflite_metadata.read(path)
    facts = facts or {}
    about = {"num_classes": _num_classes(output_shape) or facts.get("num_classes"), "palette": palette}
    if classes and about["num_classes"] in (None, len(classes)):
        about |= {"num_classes": len(classes), "classes": classes}
    return facts.get("resize", "align_corners") == "align_corners", about


def _threads(num_threads):
    if num_threads is not None:
        return num_threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def interpreter(path, num_threads=None, *, content=None, keep_all=False):
    """A TFLite file's path, or its content, to an interpreter: LiteRT's where it is installed, else TensorFlow's.

    Args:
        path: the file; None where `content` is given.
        num_threads: None for all cores.
        content: the bytes of the file.
        keep_all: whether to run without delegates and keep every tensor, for a look at them.

    Raises:
        ValueError: if it isn't a TFLite file that can be read.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        import tensorflow as tf

        # Attributes that are loaded on demand, which `from tensorflow.lite import` doesn't find.
        Interpreter, OpResolverType = tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    options = {"num_threads": _threads(num_threads)}
    options |= {"model_path": str(path)} if content is None else {"model_content": content}
    if keep_all:
        options["experimental_preserve_all_tensors"] = True
        options["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        # TensorFlow's interpreter announces its removal; until then it reads the same files.
        warnings.filterwarnings("ignore", message=r"(?s).*tf\.lite\.Interpreter is deprecated")
        try:
            return Interpreter(**options)
        except ValueError as error:
            raise ValueError(f"{path or 'this'} is not a TFLite file that can be read: {error}") from error


def _session_predictor(path, size, runtime, num_threads):
    """A file that ONNX Runtime or OpenVINO runs."""
    name = f"{path} ({runtime})"
    load = {"onnxruntime": _onnxruntime_session, "openvino": _openvino_session}[runtime]
    try:
        shape, dtype, output_shape, infer, facts = load(path, _threads(num_threads))
    except ImportError as error:
        raise ImportError(f"{name} needs a package that isn't installed: pip install {runtime} ({error})") from error
    if len(shape) != 4 or shape[0] not in (None, 1) or shape[3] != 3 or dtype not in (np.uint8, np.float32):
        raise ValueError(f"{name} takes {np.dtype(dtype).name} {shape}; expected images (B, H, W, 3), uint8 or float32")
    align_corners = facts.get("resize", "align_corners") == "align_corners"
    classes, palette = facts.get("classes"), facts.get("palette")

    def run(images, height, width):
        fed = images if dtype == np.float32 else np.rint(images).astype(np.uint8)
        groups = [fed[index : index + 1] for index in range(len(fed))] if shape[0] == 1 else [fed]
        output = np.concatenate([infer(group) for group in groups])
        return _as_labels(output, images, height, width, name, align_corners)

    return Predictor(
        run,
        _resolved_size(shape[1:3], size, name),
        fixed=None not in shape[1:3],
        num_classes=_num_classes(output_shape) or facts.get("num_classes"),
        name=name,
        classes=classes,
        palette=None if palette is None else np.array(palette, np.uint8),
    )


def _onnxruntime_session(path, num_threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which derive from Exception alone
        raise ValueError(f"{path} is not an ONNX file that can be run: {error}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed")
    (source,), (target,) = inputs, outputs
    known = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    shapes = [[side if isinstance(side, int) else None for side in entry.shape] for entry in (source, target)]
    notes = session.get_modelmeta().custom_metadata_map.get("keras_deeplab")
    facts = json.loads(notes) if notes else {}

    def infer(fed):
        return session.run(None, {source.name: fed})[0]

    return tuple(shapes[0]), known.get(source.type), shapes[1], infer, facts


def _openvino_session(path, num_threads):
    import openvino

    core = openvino.Core()
    try:
        compiled = core.compile_model(
            core.read_model(str(path)), "CPU", OPENVINO_OPTIONS | {"INFERENCE_NUM_THREADS": num_threads}
        )
    except RuntimeError as error:
        raise ValueError(f"{path} is not a file that OpenVINO can run: {error}") from error
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise ValueError(
            f"{path} has {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs; one of each is needed"
        )
    request = compiled.create_infer_request()
    shapes = [
        [side.get_length() if side.is_static else None for side in port.partial_shape]
        for port in (compiled.inputs[0], compiled.outputs[0])
    ]
    facts = {}
    if Path(path).suffix.lower() == ".tflite":
        facts, classes, palette = _tflite_metadata.read(path)
        facts = {**(facts or {}), "classes": classes, "palette": palette}
    dtype = compiled.inputs[0].element_type.to_dtype().type
    return tuple(shapes[0]), dtype, shapes[1], lambda fed: request.infer([fed])[0].copy(), facts


def _tflite_input(details, input_range, name):
    """The function that brings float32 images in 0..255 to the range and dtype of a TFLite file's input."""
    dtype = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    if dtype not in (np.float32, np.uint8, np.int8):
        raise ValueError(f"{name} takes {dtype} images; float32, uint8 and int8 can be fed")
    factor, offset = 1.0, 0.0
    if input_range is not None:
        low, high = (float(bound) for bound in input_range)
        factor, offset = (high - low) / 255.0, low
    if dtype != np.float32:
        limits = np.iinfo(dtype)
        if input_range is None and not (scale > 0 and _represents_pixels(limits, scale, zero_point, name)):
            # The usual contract of such files: bytes go in as they are, signed ones less 128.
            factor, offset = 1.0, float(limits.min)
        elif scale > 0:
            factor, offset = factor / scale, offset / scale + zero_point

    def prepare(image):
        values = image * np.float32(factor) + np.float32(offset)
        return values if dtype == np.float32 else np.clip(np.rint(values), limits.min, limits.max).astype(dtype)

    return prepare


def _represents_pixels(limits, scale, zero_point, name):
    """Whether a quantised input stands for values in 0..255, rather than for normalised ones."""
    represented = (limits.min - zero_point) * scale, (limits.max - zero_point) * scale
    for low, high in ((0.0, 255.0), (-1.0, 1.0), (0.0, 1.0)):
        if max(abs(low - represented[0]), abs(high - represented[1])) < 0.1 * (high - low):
            return high == 255.0
    raise ValueError(
        f"the quantised input of {name} stands for values from {represented[0]:.3g} to {represented[1]:.3g}, which is "
        f"none of the usual ranges 0..255, -1..1 and 0..1: give input_range, the values that 0 and 255 are mapped to"
    )
