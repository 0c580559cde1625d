"""Checkpoints to models: recognise what a file holds, build the network for it, put every array in its place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras_deeplab._helpers.warning import warn
from keras_deeplab.models.build import build
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.weights import SOURCES, opened, own
from keras_deeplab.weights.classes import settle
from keras_deeplab.weights.filling import STEMS, stem_for
from keras_deeplab.weights.plan import all_layers, class_layers
from keras_deeplab.weights.sources import match


def load(
    checkpoint: Any,
    source: str = "auto",
    output_stride: int | None = None,
    num_classes: int | None = None,
    include_preprocessing: bool | str = True,
    upsample_logits: bool = True,
    input_shape: Sequence[int | None] | None = None,
    stem: str | None = None,
    classes: Classes | Sequence[str] | None = None,
    **settings: Any,
) -> SegmentationModel:
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
            - the path of a folder, or of a zip archive of one, that holds such a file: hubs put a `config.json` beside
              it, which is read as well,
            - a mapping from names to arrays, as such a checkpoint holds,
            - the name of published weights (`"pascal_voc"`), which are downloaded,
            - what `keras_deeplab.weights.opened` gives, to use a file more than once and read it once.
        source: who wrote it: `"keras"` for this package, `"tf1"` (Google's research/deeplab), `"vainf"`,
            `"torchvision"`, `"jfzhang95"`, `"kazuto1011"`, `"fregu856"`, `"smp"` (segmentation_models.pytorch),
            `"mmsegmentation"`, `"paddleseg"`, `"detectron2"`, `"coincheung"`, `"caffe"` (DeepLab v1 and v2),
            `"bonlime"` or `"tflite"`; `"auto"` finds out.
        output_stride: stride of the backbone's deepest feature map, such as 8 or 16, whatever it was trained with.
            None takes the source's own: 16 for most, 8 for DeepLab v1 and v2, for torchvision's and
            segmentation_models.pytorch's v3 and for DRN, 4 for HRNet. A `.keras` file has its own; another is refused.
        num_classes: None for the checkpoint's own, or as many as `classes` names. Another number keeps everything but
            the last layer, which is left freshly initialised, with a warning.
        classes: names of the classes, or a `keras_deeplab.specs.Classes` with their colours too, for the model's
            record. Where the checkpoint is known to have others, or the same in another order, the last layer is left
            freshly initialised, with a warning. None for what is known: a file of this package has them in its
            record, published weights in their row; of others nothing is, they are "class 0" and so on.
        include_preprocessing: whether the model takes pixels in 0..255 and normalises them itself.
        upsample_logits: whether the logits are resized to the input's size.
        input_shape: (height, width, channels) of the model's input; None for any height and width, and as many
            channels as the checkpoint's first kernel has.
        stem: how the first convolution's kernel becomes one for another number of channels, a key of `STEMS`:
            `"mean"` gives each channel the mean over the stored ones, `"sum"` their sum divided by the number of
            channels, which leaves an image of equal channels its features, `"repeat"` the stored ones in turn,
            scaled likewise, and `"zero"` zeros behind the stored ones, as Google's code has it. None is `"zero"` for
            more channels and `"sum"` for fewer; a warning says what was done.
        settings: what names and shapes don't tell, or shouldn't decide, for the model's builder: `atrous_rates`,
            `multi_grid`, `align_corners`, `dropout`, `classifier_activation`, `name`, for torchvision's and
            MMSegmentation's `auxiliary_head=True`, for a network trained with bounded activations
            `backbone="xception_65_bounded", flavour="tf_bounded"`.

    Returns:
        A `SegmentationModel`, a functional `keras.Model` from images (B, H, W, channels) to float32 logits
        (B, H, W, num_classes); its record (`model.spec`) tells what it is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is nothing that is read here, or arrays are missing, left over or of another shape; the
            message lists them all. Or a file's record is not that of its network; or the arrays fit several networks,
            and neither a `config.json` beside them nor an argument says which.

    Example (needs the file)::

        model = keras_deeplab.load("deeplabv3_mnv2_pascal_trainval_2018_01_29.tar.gz", output_stride=8)
    """
    if source not in ("auto", "keras", *SOURCES):
        names = ", ".join(map(repr, ("auto", "keras", *SOURCES)))
        raise ValueError(f"source must be one of {names}; received {source!r}.")
    if stem is not None and stem not in STEMS:
        raise ValueError(f"stem must be None or one of {', '.join(map(repr, STEMS))}; received {stem!r}.")
    settings |= {
        "include_preprocessing": include_preprocessing,
        "upsample_logits": upsample_logits,
        "input_shape": None if input_shape is None else tuple(input_shape),
    }
    with opened(checkpoint) as stored:
        if stored.network is not None:
            return _load_own(stored, source, output_stride, num_classes, classes, {**settings, "stem": stem})
        return _load(stored, source, output_stride, num_classes, classes, stem, settings)


def _load(stored, source, output_stride, num_classes, classes, stem, settings):
    """`load` of arrays by the names of a source."""
    label = stored.path
    plan, arrays = match(stored.arrays, label, source, stored.configs)
    plan.decided(settings, label)
    spec = plan.at(output_stride)
    told = spec.classes if stored.classes == Classes() else stored.classes
    number, known, why = settle(label, spec.num_classes, told, num_classes, classes)
    if settings["input_shape"] is None:
        settings["input_shape"] = (None, None, spec.channels)
    channels = settings["input_shape"][2]
    if channels != 3:
        _check_preprocessing(plan, settings["include_preprocessing"], channels)
    model = build(replace(spec, channels=channels), num_classes=number, classes=known, **settings)
    names = [layer.name for layer in all_layers(model) if hasattr(layer, "filters")]
    fresh = [] if why is None else class_layers(names)
    if fresh:
        _tell_of_fresh(label, fresh, why)
    return plan.fill(model, arrays, label, fresh_layers=fresh, stem=stem_for(stem, label))


# What `load` is called with where nothing is asked for.
_DEFAULTS = {"include_preprocessing": True, "upsample_logits": True, "input_shape": None, "stem": None}


def _load_own(stored, source, output_stride, num_classes, classes, settings):
    """`load` of a file that holds the network itself, which settings can't make another one."""
    if source not in ("auto", "keras"):
        raise ValueError(f"{stored.path} is a file of this package, source='keras'; received source={source!r}.")
    changed = [name for name, value in settings.items() if value != _DEFAULTS.get(name, ...)]
    if changed:
        raise ValueError(
            f"{stored.path} holds its network as it was saved; {', '.join(changed)} can't be given. Build the network "
            "with them and give the file as weights=."
        )
    model, fresh = own.load(stored, num_classes, classes, output_stride)
    if fresh:
        _tell_of_fresh(stored.path, *fresh)
    return model


def _tell_of_fresh(label, fresh, why):
    warn(
        f"{label} {why}: the last layer ({', '.join(map(repr, fresh))}) starts from fresh values, everything else is "
        "loaded."
    )


def _check_preprocessing(plan, include_preprocessing, channels):
    """[-1, 1] fits pixels of any channels; raises ValueError for a mean and deviation of each of R, G and B."""
    mode = plan.spec.preprocessing
    if include_preprocessing is True and mode not in ("tf", None):
        raise ValueError(
            f"The normalisation {mode!r} of {SOURCES[plan.source].TITLE} is one of RGB, and the input has {channels} "
            "channels. Give include_preprocessing='tf' (pixels to [-1, 1]), or False and normalise them yourself."
        )
