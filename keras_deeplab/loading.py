"""Checkpoints to models: recognise what a file holds, build the network for it, put every array in its place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab._helpers.warning import warn
from keras_deeplab.backbones import BACKBONES, preprocessing
from keras_deeplab.models.build import build
from keras_deeplab.models.strides import with_output_stride
from keras_deeplab.specs import Classes
from keras_deeplab.specs.model import SegmentationModel
from keras_deeplab.weights import SOURCES, foreign, onnx, opened, own
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.beside import agree
from keras_deeplab.weights.classes import settle
from keras_deeplab.weights.filling import STEMS, stem_for
from keras_deeplab.weights.plan import all_layers, class_layers, flag
from keras_deeplab.weights.sources import match


def load(
    checkpoint: Any,
    source: str = "auto",
    output_stride: int | None = None,
    num_classes: int | None = None,
    include_preprocessing: bool | str | tuple[Sequence[float], Sequence[float]] = True,
    upsample_logits: bool = True,
    input_shape: Sequence[int | None] | None = None,
    stem: str | None = None,
    classes: Classes | Sequence[str] | None = None,
    prefix: str | None = None,
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
              frozen graph, a `.pth`, `.safetensors`, `.h5`, TFLite or ONNX file (the extra `onnx`),
            - the path of a folder, or of a zip archive of one, that holds such a file: hubs put a `config.json` beside
              it, which is read as well,
            - a handle of the Hugging Face Hub, `"hf://user/name"` or `"hf://user/name@revision"`, whose files are
              fetched (the extra `hub`),
            - a mapping from names to arrays, as such a checkpoint holds,
            - the name of published weights (`"pascal_voc"`), which are downloaded,
            - what `keras_deeplab.weights.opened` gives, to use a file more than once and read it once.
        source: who wrote it: `"keras"` for this package, `"tf1"` (Google's research/deeplab), `"vainf"`,
            `"torchvision"`, `"jfzhang95"`, `"kazuto1011"`, `"fregu856"`, `"smp"` (segmentation_models.pytorch),
            `"mmsegmentation"`, `"paddleseg"`, `"detectron2"`, `"transformers"` (Hugging Face's), `"keras_hub"`,
            `"coincheung"`, `"caffe"` (DeepLab v1 and v2),
            `"bonlime"` or `"tflite"`; `"auto"` finds out.
        output_stride: stride of the backbone's deepest feature map, such as 8 or 16, whatever it was trained with.
            None takes the source's own: 16 for most, 8 for DeepLab v1 and v2, for torchvision's and
            segmentation_models.pytorch's v3 and for DRN, 4 for HRNet. The network of a `.keras` file is built anew for
            another than its own, which its record has to tell: a plain Keras model's is refused.
        num_classes: None for the checkpoint's own, or as many as `classes` names. Another number keeps everything but
            the last layer, which is left freshly initialised, with a warning.
        classes: names of the classes, or a `keras_deeplab.specs.Classes` with their colours too, for the model's
            record. Where the checkpoint is known to have others, or the same in another order, the last layer is left
            freshly initialised, with a warning. None for what is known: a file of this package has them in its
            record, published weights in their row; of others nothing is, they are "class 0" and so on.
        include_preprocessing: whether the model takes pixels in 0..255 and normalises them itself; or how, where the
            source's way isn't the checkpoint's: `"tf"` (to [-1, 1]), `"torch"` (ImageNet's mean and deviation),
            `"caffe"`, or (means, deviations) with a number in 0..1 for each channel. Of checkpoints of other channels
            than three nothing tells it where their source's normalisation is one of RGB: it must be given.
        upsample_logits: whether the logits are resized to the input's size.
        input_shape: (height, width, channels) of the model's input; None for any height and width, and as many
            channels as the checkpoint's first kernel has. Of more channels the stored ones are the first; where RGB is
            normalised by mean and deviation, those behind it are by the mean of the three.
        stem: how the first convolution's kernel becomes one for another number of channels, a key of `STEMS`:
            `"mean"` gives each channel the mean over the stored ones, `"sum"` their sum divided by the number of
            channels, which leaves an image of equal normalised channels its features, `"repeat"` the stored ones in
            turn, scaled likewise, and `"zero"` zeros behind the stored ones, as Google's code has it: whatever is in
            the new channels, the model computes what it did. None is `"zero"` for more channels and `"sum"` for fewer;
            a warning says what was done.
        prefix: what the names of the arrays begin with, of a file that holds several networks, such as `"ema_model."`
            for the moving average beside a `"model."`.
        settings: what names and shapes don't tell, or shouldn't decide, for the model's builder: `atrous_rates`,
            `multi_grid`, `align_corners`, `dropout`, `classifier_activation`, `name`, for torchvision's and
            MMSegmentation's `auxiliary_head=True`, for a network trained with bounded activations
            `backbone="xception_65_bounded", flavour="tf_bounded"`. Where published networks of the same arrays differ
            in one, and nothing beside the arrays says it, it must be given; what is taken as the source has it by
            default a warning tells.

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
            if prefix is not None:
                raise ValueError(f"{stored.path} is a file of Keras, which holds one network: leave prefix= out.")
            return _load_own(stored, source, output_stride, num_classes, classes, stem, settings)
        plan, arrays = planned(stored, source, prefix)
        return _load(stored, plan, arrays, output_stride, num_classes, classes, stem, settings)


def planned(stored: own.Stored, source: str = "auto", prefix: str | None = None) -> Any:
    """(plan, arrays) of what `opened` gave: as `match`, and of an ONNX file the network that computes what it does.

    Raises:
        ValueError: as `match`; or no network of the names in an ONNX file computes what the file does.
    """
    if stored.graph is None:
        return match(stored.arrays, stored.path, source, stored.configs, prefix)
    try:
        plan, arrays = match(stored.arrays, stored.path, source, stored.configs, prefix)
    except ValueError as error:
        raise ValueError(f"{error} keras_deeplab.predictor runs an ONNX file as it is.") from error
    settings, unit = {}, 1.0 if plan.spec.preprocessing is not None else None
    if plan.source != "keras":
        # The names are another package's, whose networks take images as something before them normalised them.
        normal = onnx.normalisation(stored.graph)
        mode, unit = (False, None) if normal is None else normal
        settings = {"include_preprocessing": mode}
        if normal is not None:
            left = tuple(name for name in plan.assumed if name != "include_preprocessing")
            plan = replace(plan.chosen(include_preprocessing=mode), assumed=left)
    found = onnx.operators(stored.graph, plan, arrays)
    reasons: list[str] = []
    fitting: list[Any] = []
    for candidate in onnx.candidates(stored.graph, plan, arrays):
        if candidate.undecided in [each.undecided for each in fitting]:
            continue
        try:
            with unallocated():
                unlike = onnx.unlike(found, build(candidate.spec, **settings))
            if unlike is None:
                model = candidate.fill(build(candidate.spec, **settings), arrays, stored.path)
                share = onnx.difference(stored.graph, found, model, unit)
                if onnx.close(share):
                    fitting.append(candidate)
                    continue
                unlike = f"its scores are other ones, by {share:.1e} of their range, with {_told(candidate.spec)}"
        except ValueError as error:
            unlike = str(error)
        reasons.append(unlike)
    if fitting:
        # Where two networks give the same at the one size that a file takes, it has to be said which is meant.
        several = tuple(one for each in fitting for one in each.undecided) if len(fitting) > 1 else ()
        return replace(fitting[0], undecided=several), arrays
    whose = SOURCES[plan.source].TITLE if plan.source in SOURCES else "this package"
    raise ValueError(
        f"{stored.path} holds weights by the names of {whose}, and no network of theirs that is built here computes "
        "what the file does. " + "; ".join(dict.fromkeys(reasons))[:2000]
    )


def _told(spec):
    settings = {"backbone": spec.backbone, "output_stride": spec.output_stride, "resize": spec.resize}
    settings |= {name: spec.settings.get(name) for name in ("atrous_rates", "multi_grid")}
    return ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)


def refusal(stored: own.Stored, source: str = "auto", prefix: str | None = None) -> str | None:
    """Why `load` refuses what `opened` gave, in its own words; None where it doesn't, or asks what `describe` tells.

    Nothing is loaded: the network is built without memory, to see whether the arrays fit it.
    """
    if stored.network is not None:
        return None
    settings = {"include_preprocessing": True, "upsample_logits": True, "input_shape": None}
    try:
        plan, arrays = planned(stored, source, prefix)
        if plan.undecided:
            return None
        with unallocated():
            count = 1 if plan.spec.num_classes is None else None
            _load(stored, plan, arrays, None, count, None, None, settings, dry=True)
    except ValueError as error:
        return str(error)
    return None


def _load(stored, plan, arrays, output_stride, num_classes, classes, stem, settings, dry=False):
    """`load` of arrays by the names of a source; where it is `dry` nothing is assigned or warned of."""
    label = stored.path
    plan = plan.decided(settings, label)
    if settings["include_preprocessing"] is True:
        agree(plan.beside, plan.spec.preprocessing, label)
    spec = plan.at(output_stride)
    told = stored.classes if stored.classes != Classes() else spec.classes
    number, known, why = settle(label, spec.num_classes, told, num_classes, classes)
    if settings["input_shape"] is None:
        settings["input_shape"] = (None, None, spec.channels)
    channels = settings["input_shape"][2]
    if settings["include_preprocessing"] is True and spec.channels != 3:
        _refuse_rgb(label, spec.preprocessing, spec.channels)
    elif settings["include_preprocessing"] is True and channels < 3:
        _refuse_rgb(label, spec.preprocessing, channels)
    model = build(replace(spec, channels=channels), num_classes=number, classes=known, **settings)
    names = [layer.name for layer in all_layers(model) if hasattr(layer, "filters")]
    fresh = [] if why is None else class_layers(names)
    if fresh and not dry:
        _tell_of_fresh(label, fresh, why)
    adapt = stem_for(stem, label, model.spec.preprocessing)
    try:
        plan.fill(model, arrays, label, fresh_layers=fresh, stem=adapt, dry=dry)
    except ValueError as error:
        seems = foreign.told(arrays, plan.unknown(arrays))
        if not seems:
            raise
        raise ValueError(f"{label} can't be loaded. {seems}\n{error}") from error
    taken = plan.taken(settings, output_stride)
    if taken and not dry:
        _tell_of_taken(label, plan.source, taken)
    if plan.beside.names and not dry:
        warn(f"{label}: left out as no part of the network: {plan.beside.told()}.")
    return model


# What `load` is called with where nothing is asked for.
_DEFAULTS = {"include_preprocessing": True, "upsample_logits": True, "input_shape": None}


def _load_own(stored, source, output_stride, num_classes, classes, stem, settings):
    """`load` of a file that holds the network itself, which settings can't make another one, but of other channels."""
    if source not in ("auto", "keras"):
        raise ValueError(f"{stored.path} is a file of this package, source='keras'; received source={source!r}.")
    changed = [name for name, value in settings.items() if value != _DEFAULTS.get(name, ...)]
    if changed and changed != ["input_shape"]:
        raise ValueError(
            f"{stored.path} holds its network as it was saved; {', '.join(changed)} can't be given. Build the network "
            "with them and give the file as weights=."
        )
    model, fresh = own.load(stored, num_classes, classes)
    if fresh:
        _tell_of_fresh(stored.path, *fresh)
    # Files of earlier versions have no record, and layers that tell.
    if output_stride is not None and (model.spec.output_stride or own.output_stride(stored)) != output_stride:
        model = with_output_stride(model, output_stride, stored.path)
    shape = settings["input_shape"]
    return model if shape in (None, model.input_shape[1:]) else _reshaped(model, shape, stem, stored.path)


def _reshaped(model, input_shape, stem, label):
    """A loaded model with another input: the same network, the first kernel adapted to the channels."""
    spec, channels = model.spec, input_shape[2]
    if spec.builder is None or spec.backbone not in BACKBONES:
        what = "a plain Keras model" if spec.builder is None else f"a network on {spec.backbone!r}, no key of BACKBONES"
        raise ValueError(
            f"{label} holds {what}, of which nothing tells how it is built for another input: it stays "
            f"{model.input_shape[1:]}, and input_shape={input_shape} was asked for."
        )
    if channels != spec.channels and (min(channels, spec.channels) < 3 or not isinstance(spec.preprocessing, str)):
        _refuse_rgb(label, spec.preprocessing, min(channels, spec.channels), again=True)
    other = build(replace(spec, channels=channels), input_shape=input_shape, name=model.name)
    arrays = {variable.path: variable.numpy() for variable in model.weights}
    kernel = next(variable for variable in other.weights if variable.path.endswith("/kernel"))
    stem_for(stem, label, spec.preprocessing)(arrays, kernel)
    return assign(other, arrays, label)


def _tell_of_taken(label, source, taken):
    warn(
        f"{label}: nothing tells {', '.join(taken)} of its network. They are taken as {SOURCES[source].TITLE} has them "
        f"where nothing else is asked for: {', '.join(f'{name}={value!r}' for name, value in taken.items())}. Give "
        f"load() those that it was trained with (in commands {', '.join(map(flag, taken))}), or the folder with the "
        "configuration that was saved beside the weights."
    )


def _tell_of_fresh(label, fresh, why):
    warn(
        f"{label} {why}: the last layer ({', '.join(map(repr, fresh))}) starts from fresh values, everything else is "
        "loaded."
    )


def _refuse_rgb(label, mode, channels, again=False):
    """Raises ValueError where images of so many channels have no normalisation that is known; [-1, 1] fits any."""
    if mode in ("tf", None):
        return
    way = (
        "Load the checkpoint that it was made of, with input_shape and include_preprocessing"
        if again
        else "Say what these images are normalised by: include_preprocessing"
    )
    raise ValueError(
        f"{label}: its normalisation is {preprocessing.told(mode)}, which is one of other images, and here they have "
        f"{channels} channel{'s' * (channels > 1)}. {way}='tf' (pixels to [-1, 1]), (means, deviations) with a number "
        "in 0..1 for each channel, 'torch' or 'caffe' (RGB's, of which a further channel takes the mean), or False to "
        "normalise them yourself."
    )
