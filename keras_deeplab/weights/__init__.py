"""Checkpoints into models: what a file holds, the model for it, and every array in its place."""

import contextlib
import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.registry import Registry
from keras_deeplab.weights import (
    applications,
    bonlime,
    caffe,
    coincheung,
    fregu856,
    jfzhang95,
    kazuto1011,
    named,
    own,
    readers,
    smp,
    tf1,
    tflite,
    torchvision,
    vainf,
)
from keras_deeplab.weights.files import kind_of
from keras_deeplab.weights.state_dict import all_layers, unwrap

# Each `recognise(shapes, label)` returns the `Plan` of a checkpoint, or None where it is another source's.
SOURCES = Registry(
    "source",
    tf1=tf1,
    vainf=vainf,
    torchvision=torchvision,
    jfzhang95=jfzhang95,
    kazuto1011=kazuto1011,
    fregu856=fregu856,
    smp=smp,
    coincheung=coincheung,
    caffe=caffe,
    bonlime=bonlime,
    tflite=tflite,
)


def load(
    checkpoint,
    source="auto",
    output_stride=None,
    num_classes=None,
    include_preprocessing=True,
    upsample_logits=True,
    input_shape=(None, None, 3),
    stem=None,
    **settings,
):
    """Maps a DeepLab checkpoint to a `keras.Model` that computes exactly what it was trained to compute.

    Source, architecture, backbone, width and number of classes are read off the names and shapes of the arrays.
    Loading is strict: every array is used once, every variable filled.

    Args:
        checkpoint: one of
            - the path of a `.keras` file, or of a `.weights.h5` file that `keras-deeplab convert` wrote: both hold the
              network as well,
            - the path of a checkpoint of any of the sources below: a TensorFlow 1 checkpoint (its prefix
              `.../model.ckpt-30000`, its `.index` file, the folder it is in, or an official `.tar.gz` archive), a
              frozen graph, a `.pth`, `.safetensors`, `.h5` or TFLite file,
            - a mapping from names to arrays, as such a checkpoint holds,
            - the name of published weights (`"pascal_voc"`), which are downloaded,
            - what `keras_deeplab.weights.opened` gives, to use a file more than once and read it once.
        source: who wrote it: `"keras"` for this package, `"tf1"` (Google's research/deeplab), `"vainf"`,
            `"torchvision"`, `"jfzhang95"`, `"kazuto1011"`, `"fregu856"`, `"smp"` (segmentation_models.pytorch),
            `"coincheung"`, `"caffe"` (DeepLab v1 and v2), `"bonlime"` or `"tflite"`; `"auto"` finds out.
        output_stride: stride of the backbone's deepest feature map, such as 8 or 16, whatever it was trained with.
            None takes the source's own: 16 for most, 8 for DeepLab v1 and v2, for torchvision's and
            segmentation_models.pytorch's v3 and for DRN, 4 for HRNet. A `.keras` file has its own; another is refused.
        num_classes: None for the checkpoint's own. Another number keeps everything but the last layer, which is left
            freshly initialised, with a warning.
        include_preprocessing: whether the model takes pixels in 0..255 and normalises them itself.
        upsample_logits: whether the logits are resized to the input's size.
        input_shape: (height, width, channels) of the model's input.
        stem: how the first convolution's kernel becomes one for another number of channels, a key of `STEMS`:
            `"mean"` gives each channel the mean over the stored ones, `"sum"` their sum divided by the number of
            channels, which leaves an image of equal channels its features, `"repeat"` the stored ones in turn,
            scaled likewise, and `"zero"` zeros behind the stored ones, as Google's code has it. None is `"zero"` for
            more channels and `"sum"` for fewer; a warning says what was done.
        settings: what names and shapes don't tell, or shouldn't decide, for the model's builder: `atrous_rates`,
            `multi_grid`, `dropout`, `classifier_activation`, `name`, for torchvision's `auxiliary_head=True`, for a
            network trained with bounded activations `backbone="xception_65_bounded", flavour="tf_bounded"`.

    Returns:
        A functional `keras.Model` from images (B, H, W, 3) to float32 logits (B, H, W, num_classes).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is nothing that is read here, or arrays are missing, left over or of another shape; the
            message lists them all.

    Example (needs the file)::

        model = keras_deeplab.load("deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz", output_stride=8)
    """
    if source not in ("auto", "keras", *SOURCES):
        names = ", ".join(map(repr, ("auto", "keras", *SOURCES)))
        raise ValueError(f"source must be one of {names}; received {source!r}.")
    if stem is not None and stem not in STEMS:
        raise ValueError(f"stem must be None or one of {', '.join(map(repr, STEMS))}; received {stem!r}.")
    with contextlib.ExitStack() as stack:
        if isinstance(checkpoint, Mapping):
            stored = own.Stored("the given mapping", "mapping", _check(unwrap(checkpoint), "the given mapping"))
        elif isinstance(checkpoint, own.Stored):
            stored = checkpoint
        else:
            stored = stack.enter_context(opened(checkpoint))
        settings |= {
            "include_preprocessing": include_preprocessing,
            "upsample_logits": upsample_logits,
            "input_shape": tuple(input_shape),
        }
        if stored.network is not None:
            return _load_own(stored, source, output_stride, num_classes, {**settings, "stem": stem})
        return _load(stored, source, output_stride, num_classes, stem, settings)


def _load(stored, source, output_stride, num_classes, stem, settings):
    """`load` of arrays by the names of a source."""
    label = stored.path
    plan, arrays = match(stored.arrays, label, source)
    classes = plan.num_classes if num_classes is None else num_classes
    if classes is None:
        raise ValueError(f"{label} has no classifier. Give num_classes= for a fresh one.")
    settings = dict(settings)
    channels = settings["input_shape"][2]
    if channels != 3:
        mode = _preprocessing_without_rgb(plan, settings["include_preprocessing"], channels)
        settings["include_preprocessing"] = mode
    stride = plan.output_stride if output_stride is None else output_stride
    model = plan.build(num_classes=classes, output_stride=stride, **settings)
    fresh = ()
    if classes != plan.num_classes:
        fresh = [layer.name for layer in all_layers(model) if re.fullmatch(plan.class_layers, layer.name)]
        _tell_of_fresh(label, plan.num_classes, classes, fresh)
    return plan.fill(model, arrays, label, fresh_layers=fresh, stem=_stem(stem, label))


@contextlib.contextmanager
def opened(checkpoint):
    """A path, or the name of published weights, to what is there, for as long as the block lasts.

    `load` and `describe.text` take it as often as needed; the file is read once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is nothing that is read here, or damaged.
    """
    path = _resolve(checkpoint)
    kind = kind_of(path)
    if kind in ("keras", "h5"):
        with own.opened(path, kind) as stored:
            yield replace(stored, arrays=_check(unwrap(stored.arrays), stored.path))
    else:
        yield own.Stored(os.fspath(path), kind, _check(unwrap(_read(path)), os.fspath(path)))


def recognise(arrays, label="the given mapping", source="auto"):
    """The `Plan` of the model that `{name: array}` belongs to: what `load` builds and fills.

    Raises:
        ValueError: no source's checkpoint has such names, or it is one of a network that isn't built here.
    """
    return match(arrays, label, source)[0]


def match(arrays, label="the given mapping", source="auto"):
    """(plan, arrays) of a checkpoint: as `recognise`, and the arrays by the names that the plan's source gives them.

    What all names begin with beyond that is left out: a PyTorch Lightning module has its network as an attribute, such
    as `model.`.
    """
    if isinstance(arrays, tflite.Network) and source in ("auto", "tflite"):
        return arrays.plan, arrays
    if source == "keras":
        raise ValueError(f"{label} holds no network of Keras, as files that this package wrote do.{_PLAIN_WEIGHTS}")
    for prefix in _prefixes(arrays):
        inner = {name[len(prefix) :]: array for name, array in arrays.items()} if prefix else arrays
        shapes = {name: tuple(np.shape(array)) for name, array in inner.items()}
        for key in SOURCES if source == "auto" else [source]:
            plan = _plan(key, shapes, label)
            if plan is not None:
                return plan, inner
    scopes = sorted({re.split(r"[./]", name)[0] for name in arrays})
    titles = [module.TITLE for module in SOURCES.values()] if source == "auto" else [SOURCES[source].TITLE]
    plain = bool(arrays) and all(re.search(r"(^|/)vars/\d+$", name) for name in arrays)
    raise ValueError(
        f"{label} holds no DeepLab that can be rebuilt: its arrays are in {', '.join(scopes[:12]) or 'nothing'}. "
        f"What can: checkpoints of {', '.join(titles)}.{_PLAIN_WEIGHTS if plain else ''}"
    )


_PLAIN_WEIGHTS = (
    " Weights that Keras saved (model.save_weights) don't tell their network: build it and give the file as weights=, "
    "as in DeepLabV3Plus(..., weights='x.weights.h5'). keras-deeplab convert writes .weights.h5 files that do."
)


_MAX_PREFIX = 4  # parts


def _prefixes(arrays):
    """What all names may begin with, from nothing to what they share, in whole parts.

    >>> _prefixes({"model.net.conv.weight": 0, "model.net.conv.bias": 0})
    ['', 'model.', 'model.net.', 'model.net.conv.']
    """
    prefixes = [""]
    for parts in zip(*(name.split(".")[:-1] for name in arrays), strict=False):
        if len(set(parts)) > 1 or len(prefixes) > _MAX_PREFIX:
            break
        prefixes.append(f"{prefixes[-1]}{parts[0]}.")
    return prefixes


def _plan(key, shapes, label):
    """The plan that a source makes of `{name: shape}`, None where they aren't its own."""
    try:
        plan = SOURCES[key].recognise(shapes, label)
    except (KeyError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(
            f"{label} looks like a checkpoint of {SOURCES[key].TITLE}, but the names and shapes of its arrays "
            f"don't tell a network that can be built ({type(error).__name__}: {error})."
        ) from error
    except ValueError as error:
        raise error if label in str(error) else ValueError(f"{label}: {error}") from error
    if plan is not None:
        _check_widths(plan, shapes, label)
    return plan


def _check_widths(plan, shapes, label):
    """Raises ValueError where an array asks for a network far beyond what the checkpoint holds."""
    size = sum(math.prod(shape) for shape in shapes.values())
    filters = plan.settings.get("filters") or 1
    for width in (filters, plan.settings.get("low_level_filters"), plan.num_classes):
        # Each stands beside `filters` in the shape of a kernel.
        if (width or 0) * filters > size:
            raise ValueError(
                f"{label} asks for {width:,} filters beside {filters:,}, and holds {size:,} numbers in all: the "
                "network it belongs to has more."
            )


def load_weights(model, weights, family, backbone):
    """Fills a model of this package from `weights`: a path, or the name of published weights. Strict, like `load`."""
    path = _resolve(weights, family=family, backbone=backbone)
    kind = kind_of(path)
    if kind == "keras" or (kind == "h5" and str(path).endswith(".weights.h5")):
        return own.fill(model, path, kind)
    with opened(path) as stored:
        if stored.network is not None:
            return own.fill(model, path, kind)
        plan, arrays = match(stored.arrays, stored.path)
        return plan.fill(model, arrays, stored.path)


def load_backbone(classifier, weights, name):
    """Fills a registered backbone from ImageNet weights: `"imagenet"` (downloaded) or the path of a file of them."""
    if not isinstance(name, str):
        raise ValueError(
            f"backbone_weights={weights!r} goes with a backbone given by name. The classifier {classifier.name!r} "
            "was given with its weights: load them into it first."
        )
    return applications.load_backbone(classifier, weights, name, _read)


# What `load` is called with where nothing is asked for.
_DEFAULTS = {
    "include_preprocessing": True,
    "upsample_logits": True,
    "input_shape": (None, None, 3),
    "stem": None,
}


def _load_own(stored, source, output_stride, num_classes, settings):
    """`load` of a file that holds the network itself, which settings can't make another one."""
    if source not in ("auto", "keras"):
        raise ValueError(f"{stored.path} is a file of this package, source='keras'; received source={source!r}.")
    changed = [name for name, value in settings.items() if value != _DEFAULTS.get(name, ...)]
    if changed:
        raise ValueError(
            f"{stored.path} holds its network as it was saved; {', '.join(changed)} can't be given. Build the network "
            "with them and give the file as weights=."
        )
    model, fresh, had = own.load(stored, num_classes, output_stride)
    if fresh:
        _tell_of_fresh(stored.path, had, num_classes, fresh)
    return model


def _tell_of_fresh(label, had, classes, fresh):
    had = "no classifier" if had is None else f"{had} classes"
    warnings.warn(
        f"{label} has {had} and {classes} were asked for: the last layer ({', '.join(map(repr, fresh))}) starts from "
        "fresh values, everything else is loaded.",
        stacklevel=4,
    )


def _read(path):
    """`{name: array}` of a checkpoint of another package."""
    kind = kind_of(path)
    return SOURCES[kind].read(path) if kind in ("tf1", "tflite") else readers.read(path)[1]


def _check(arrays, label):
    """The arrays, if they are all arrays of numbers that hold something."""
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise ValueError(f"{label}: names must be strings; received {name!r}.")
        if not np.issubdtype(np.asarray(array).dtype, np.number) or np.size(array) == 0:
            raise ValueError(
                f"{label}: {name!r} must be an array of numbers; received {type(array).__name__} of type "
                f"{np.asarray(array).dtype} and shape {np.shape(array)}."
            )
    return arrays


def _resolve(checkpoint, family=None, backbone=None):
    """A path that exists, from a path or the name of published weights."""
    path = os.fspath(checkpoint)
    if path in named.NAMES and not os.path.exists(path):
        return named.fetch(path, family=family, backbone=backbone)
    return path


# Other input channels than the checkpoint's -------------------------------------------------------------------------


def _mean(kernel, channels):
    return np.repeat(kernel.mean(axis=2, keepdims=True), channels, axis=2)


def _sum(kernel, channels):
    return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)


def _repeat(kernel, channels):
    stored = kernel.shape[2]
    return kernel[:, :, np.arange(channels) % stored] * (stored / channels)


def _zero(kernel, channels):
    stored = kernel.shape[2]
    if channels < stored:
        raise ValueError(f"stem='zero' adds channels: {channels} are fewer than the checkpoint's {stored}.")
    return np.pad(kernel, ((0, 0), (0, 0), (0, channels - stored), (0, 0)))


# (kernel (h, w, stored channels, filters), channels) -> kernel (h, w, channels, filters)
STEMS = {"mean": _mean, "sum": _sum, "repeat": _repeat, "zero": _zero}


def _stem(mode, label):
    """A `stem` for `Plan.fill` that adapts the kernel to the model's channels."""

    def stem(arrays, variable):
        stored, channels = arrays[variable.path].shape[2], variable.shape[2]
        if stored != channels:
            chosen = mode or ("zero" if channels > stored else "sum")
            warnings.warn(
                f"{label} has {stored} input channels and {channels} were asked for: the first convolution's kernel "
                f"was adapted by stem={chosen!r}.",
                stacklevel=5,
            )
            kernel = arrays[variable.path]
            arrays[variable.path] = STEMS[chosen](kernel, channels).astype(kernel.dtype)

    return stem


def _preprocessing_without_rgb(plan, include_preprocessing, channels):
    """What to do with pixels that aren't RGB: [-1, 1] fits any, a mean and deviation for each of RGB doesn't."""
    mode = plan.preprocessing or BACKBONES[plan.backbone].preprocessing
    if include_preprocessing is True and mode not in ("tf", None):
        raise ValueError(
            f"The normalisation {mode!r} of {SOURCES[plan.source].TITLE} is one of RGB, and the input has {channels} "
            "channels. Give include_preprocessing='tf' (pixels to [-1, 1]), or False and normalise them yourself."
        )
    return include_preprocessing
