"""What a model sees and what it costs: receptive fields, multiply-adds and parameters, without running it.

And the same for all published models, beside what their sources report.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import keras

from keras_deeplab import layers, rewrite
from keras_deeplab._helpers.private import calls, run_through_graph
from keras_deeplab._helpers.progress import Progress
from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES, resolve
from keras_deeplab.models.build import build
from keras_deeplab.published import MODELS, PublishedModel
from keras_deeplab.weights import opened, own

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_POOLINGS = (
    layers.WindowedAveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    layers.DilatedMaxPooling2D,
    layers.DilatedAveragePooling2D,
)
_MERGES = (
    keras.layers.Add,
    keras.layers.Subtract,
    keras.layers.Multiply,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Concatenate,
)
_COUNTED = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_UNCOUNTED = (keras.layers.PReLU, keras.layers.Embedding)
_OPERATIONS = ("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose", "Matmul", "Dot", "Tensordot", "Einsum")


# Receptive fields -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """One call of a layer and the pixels that a position of its output sees.

    `kernel_size`, `strides` and `dilation_rate` are the layer's own, None where it has none. The others are (height,
    width) pairs in input pixels: `output_stride` from one position of the output to the next, `receptive_field` the
    size of what a position sees, `centre` where the middle of that lies for the first position (0 is the middle of the
    first pixel). Behind a global pooling every position sees the whole image; then `global_context` is True and
    `receptive_field` the size of what it sees beside that, None where there is nothing else. Behind a resize the
    centre is None: it wanders from one position to the next.
    """

    layer: str
    kind: str
    kernel_size: tuple[int, int] | None
    strides: tuple[int, int] | None
    dilation_rate: tuple[int, int] | None
    output_stride: tuple | None
    receptive_field: tuple | None
    centre: tuple | None
    global_context: bool


@dataclass(frozen=True)
class _Axis:
    """Along one axis, in input pixels: from position to position, what a position sees, and how much of that lies
    before the position's own pixel (None where that differs between positions)."""

    stride: Fraction = Fraction(1)
    size: Fraction = Fraction(1)
    before: Fraction | None = Fraction(0)


@dataclass(frozen=True)
class _View:
    """What a position of a tensor sees: two axes, or None for nothing but the image as a whole."""

    axes: tuple[_Axis, _Axis] | None = (_Axis(), _Axis())
    image: bool = False


def receptive_field(model):
    """Maps a functional model to the receptive field of each of its layers, in the order of computation.

    A convolution or pooling of k taps at dilation rate r, on a map whose positions are s input pixels apart, widens
    the field by `(k - 1) * r * s`. Where branches meet, the field is the smallest that holds all of them. Layers that
    look at one position, explicit padding and cropping have no row of their own. TensorFlow's `"same"` padding is
    taken as at the sizes where it is centred, 32 * n + 1.

    Args:
        model: functional `keras.Model`, channels last, nested models and layers called several times included.

    Returns:
        A list of `Field` rows; `field_table` prints it.

    Raises:
        ValueError: no functional model, or a layer mixes positions in a way that isn't known.

    Example:

    >>> import keras
    >>> vgg16 = keras.applications.VGG16(weights=None, include_top=False)
    >>> fields = {row.layer: row.receptive_field for row in receptive_field(vgg16)}
    >>> fields["block5_conv3"], fields["block5_pool"]
    ((196, 196), (212, 212))
    """
    rows = []

    def step(layer, path, args, kwargs):
        views = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, _View)]
        result, window = _see(layer, path, views)
        if window is not None:
            rows.append(_row(layer, path, result, *window))
        return keras.tree.map_structure(lambda _: result, calls(layer)[-1].output_tensors)

    graph = rewrite._graph(model, "receptive_field")
    run_through(graph, [_View() if len(x.shape) == 4 else _View(None, True) for x in graph.inputs], step)
    return rows


def global_layers(model):
    """The layers of a functional model that look at the whole image, {path: layer}, without those behind them.

    Raises:
        ValueError: as `receptive_field`.
    """
    found = {}

    def step(layer, path, args, kwargs):
        views = [value for value in keras.tree.flatten((args, kwargs)) if isinstance(value, _View)]
        result, _ = _see(layer, path, views)
        if result.image and not any(view.image for view in views):
            found[path] = layer
        return keras.tree.map_structure(lambda _: result, calls(layer)[-1].output_tensors)

    graph = rewrite._graph(model, "global_layers")
    run_through(graph, [_View() if len(x.shape) == 4 else _View(None, True) for x in graph.inputs], step)
    return found


def field_table(rows, markdown=False):
    """The rows of `receptive_field` as text."""
    header = ("layer", "kind", "kernel", "stride", "rate", "output stride", "receptive field", "centre")
    lines = []
    for row in rows:
        seen = _by(row.receptive_field)
        if row.global_context:
            seen = "image" if row.receptive_field is None else f"image, {seen} beside it"
        numbers = (row.kernel_size, row.strides, row.dilation_rate, row.output_stride)
        lines.append((row.layer, row.kind, *map(_by, numbers), seen, _by(row.centre)))
    return text_table(header, lines, markdown)


def _row(layer, path, view, kernel, strides, rates):
    stride = size = centre = None
    if view.axes is not None:
        stride, size = (tuple(_plain(getattr(axis, name)) for axis in view.axes) for name in ("stride", "size"))
        if all(axis.before is not None for axis in view.axes):
            centre = tuple(_plain((axis.size - 1) / 2 - axis.before) for axis in view.axes)
    return Field(path, type(layer).__name__, kernel, strides, rates, stride, size, centre, view.image)


def _see(layer, path, views):
    """(what the layer's output sees, the layer's (kernel, strides, rates) where it deserves a row)."""
    if not views:
        return _View(None), None
    if isinstance(layer, (layers.ResizeBilinear, layers.UpsampleNearest)):
        return _resized(*views, taps=2 if isinstance(layer, layers.ResizeBilinear) else 1), (None, None, None)
    joined = _union(path, views)
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        raise ValueError(f"The layer {path!r} is channels_first; only channels_last is handled.")
    if isinstance(layer, rewrite._GLOBAL_POOLINGS):
        return _View(None, True), (None, None, None)
    if isinstance(layer, _MERGES):
        return joined, (None, None, None)
    if isinstance(layer, rewrite._POINTWISE):
        return joined, None
    if joined.axes is None or any(len(x.shape) != 4 for x in calls(layer)[-1].output_tensors):
        return _View(None, True), (None, None, None) if isinstance(layer, _CONVOLUTIONS) else None
    if isinstance(layer, _CONVOLUTIONS):
        return _window(joined, layer, layer.kernel_size, layer.dilation_rate)
    if isinstance(layer, _POOLINGS):
        return _window(joined, layer, layer.pool_size, getattr(layer, "dilation_rate", (1, 1)))
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return _shifted(joined, [axis[0] for axis in layer.padding]), None
    if isinstance(layer, keras.layers.Cropping2D):
        return _shifted(joined, [-axis[0] for axis in layer.cropping]), None
    if isinstance(layer, keras.layers.UpSampling2D):
        taps = 1 if layer.interpolation == "nearest" else 2
        axes = (_enlarge(*each, taps) for each in zip(joined.axes, layer.size, strict=True))
        return _View(tuple(axes), joined.image), (None, None, None)
    if isinstance(layer, layers.ScaleBilinear):
        scale = Fraction(layer.scale).limit_denominator(1000)
        return _View(tuple(_enlarge(axis, scale, 2) for axis in joined.axes), joined.image), (None, None, None)
    if isinstance(layer, keras.layers.Conv2DTranspose) and tuple(layer.dilation_rate) == (1, 1):
        taps = [math.ceil(kernel / stride) for kernel, stride in zip(layer.kernel_size, layer.strides, strict=True)]
        axes = (_enlarge(*each) for each in zip(joined.axes, layer.strides, taps, strict=True))
        return _View(tuple(axes), joined.image), (layer.kernel_size, layer.strides, (1, 1))
    return _experiment(layer, path, joined), None


def _union(path, views):
    """The smallest view that holds all of them."""
    image = any(view.image for view in views)
    seen = [view.axes for view in views if view.axes is not None]
    if not seen:
        return _View(None, image)
    axes = []
    for each in zip(*seen, strict=True):
        if len({axis.stride for axis in each}) > 1:
            raise ValueError(
                f"The layer {path!r} joins maps whose positions are "
                f"{', '.join(str(axis.stride) for axis in each)} pixels apart, so its receptive field is not known."
            )
        if any(axis.before is None for axis in each):
            axes.append(_Axis(each[0].stride, max(axis.size for axis in each), None))
        else:
            before = max(axis.before for axis in each)
            behind = max(axis.size - axis.before for axis in each)
            axes.append(_Axis(each[0].stride, before + behind, before))
    return _View(tuple(axes), image)


def _window(view, layer, kernel, rates):
    """A convolution's or pooling's view; its padding in front moves it."""
    strides = getattr(layer, "strides", (1, 1))
    axes = []
    for index, (axis, taps, rate, stride) in enumerate(zip(view.axes, kernel, rates, strides, strict=True)):
        span = (taps - 1) * rate
        padding = getattr(layer, "padding", "valid")
        if isinstance(padding, str):
            front = span // 2 if padding == "same" else 0
        else:
            front = padding[index][0]
        before = None if axis.before is None else axis.before + front * axis.stride
        axes.append(_Axis(axis.stride * stride, axis.size + span * axis.stride, before))
    return _View(tuple(axes), view.image), (tuple(kernel), tuple(strides), tuple(rates))


def _shifted(view, fronts):
    axes = [
        _Axis(axis.stride, axis.size, None if axis.before is None else axis.before + front * axis.stride)
        for axis, front in zip(view.axes, fronts, strict=True)
    ]
    return _View(tuple(axes), view.image)


def _enlarge(axis, factor, taps):
    """An axis of which each new position reads `taps` neighbouring old ones."""
    return _Axis(axis.stride / factor, axis.size + (taps - 1) * axis.stride, None)


def _resized(view, reference, taps):
    """A map at the positions of another, of which only the size counts."""
    if view.axes is None or reference.axes is None:
        return view
    axes = [
        axis if axis.stride == to.stride else _enlarge(axis, axis.stride / to.stride, taps)
        for axis, to in zip(view.axes, reference.axes, strict=True)
    ]
    return _View(tuple(axes), view.image)


def _experiment(layer, path, view):
    """Any other layer or operation: one that keeps positions apart changes nothing, one that joins all sees all."""
    try:
        reach = rewrite._reach(layer)
    except (AttributeError, ValueError) as error:
        reach = f"it can't be tried alone ({error})"
    if reach == "point":
        return view
    if reach in ("global", "none"):
        return _View(view.axes if reach == "global" else None, True)
    raise ValueError(
        f"The receptive field behind the layer {path!r} ({type(layer).__name__}) is not known: {reach}. Cut the model "
        "before it: keras.Model(model.input, earlier_layer.output)."
    )


# Counts -----------------------------------------------------------------------------------------------------


class Parameters(NamedTuple):
    """Numbers in a model's weights: those that training changes, and all."""

    trainable: int
    total: int


def count_parameters(model):
    """The number of a model's parameters: `(trainable, total)`; batch norm's statistics are in the total alone.

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1), keras.layers.BatchNormalization()])
    >>> count_parameters(model)
    Parameters(trainable=24, total=32)
    """
    trainable, total = (
        sum(math.prod(weight.shape) for weight in weights) for weights in (model.trainable_weights, model.weights)
    )
    return Parameters(trainable, total)


def multiply_adds(model, input_size=(513, 513), space_to_batch=False):
    """The multiply-adds of a model's convolutions and dense layers for one image of a given size.

    A convolution costs, for each number that it puts out, one for each weight that this number is made of: kernel
    height x kernel width x input channels / groups, at the border as elsewhere. A transposed one costs the same for
    each number that goes in. Biases, normalisation, activations, poolings and resizes count nothing. Nothing is run:
    the sizes of the maps come from the layers' own shape rules.

    Args:
        model: functional `keras.Model`, nested models and layers called several times included.
        input_size: height and width of the image, one int for both; or the shape of one input without its batch axis,
            for models of vectors.
        space_to_batch: whether to count dilated convolutions as TensorFlow 1 ran them and the papers counted them: as
            many small convolutions as there are positions in a cell of the rate, so that the map is padded to a
            multiple of it. At rate 6 a map of 33x33 then costs what one of 36x36 would.

    Returns:
        int

    Raises:
        ValueError: no functional model, a size that it doesn't take, or a layer whose kernels can't be counted.

    Example:

    >>> import keras
    >>> inputs = keras.Input((None, None, 3))
    >>> model = keras.Model(inputs, keras.layers.Conv2D(8, 3, strides=2, padding="same")(inputs))
    >>> multiply_adds(model, 64), 32 * 32 * 8 * 3 * 3 * 3
    (221184, 221184)
    """
    total = 0

    def step(layer, path, args, kwargs):
        nonlocal total
        outputs = layer.compute_output_spec(*args, **kwargs)
        total += _cost(layer, path, args[0] if args else None, outputs, space_to_batch)
        return outputs

    graph = rewrite._graph(model, "multiply_adds")
    run_through(graph, [keras.KerasTensor(_shape(x, input_size), x.dtype) for x in graph.inputs], step)
    return total


def _shape(tensor, size):
    if isinstance(size, int):
        size = (size, size)
    size = tuple(size)
    if len(tensor.shape) == 4 and len(size) == 2:
        size = (*size, tensor.shape[-1])
    fits = len(size) == len(tensor.shape) - 1 and None not in size
    if not fits or any(own not in (None, given) for own, given in zip(tensor.shape[1:], size, strict=True)):
        raise ValueError(f"The model takes inputs of shape {tuple(tensor.shape)}; received input_size={size}.")
    return (1, *size)


def _cost(layer, path, inputs, outputs, space_to_batch):
    if isinstance(layer, (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)):
        return math.prod(inputs.shape) * math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, keras.layers.Dense):
        return math.prod(outputs.shape) * layer.kernel.shape[0]
    if isinstance(layer, _COUNTED):
        positions = _positions(layer, outputs.shape, space_to_batch)
        if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
            pointwise = _positions(layer, outputs.shape, False) * math.prod(layer.pointwise_kernel.shape)
            return positions * math.prod(layer.depthwise_kernel.shape) + pointwise
        return positions * math.prod(layer.kernel.shape)
    sealed = any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ()))
    if (sealed and not isinstance(layer, _UNCOUNTED)) or type(layer).__name__ in _OPERATIONS:
        raise ValueError(
            f"The multiply-adds of the layer {path!r} ({type(layer).__name__}) are not known. Write the model with "
            "convolutions and dense layers that stand in the graph themselves."
        )
    return 0


def _positions(layer, shape, space_to_batch):
    """How many positions of a map of this shape a convolution computes."""
    height_width = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
    if space_to_batch:
        height_width = (
            math.ceil(size / rate) * rate for size, rate in zip(height_width, layer.dilation_rate, strict=True)
        )
    return math.prod(height_width)


# Published models -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """A published model, the number of its parameters, and its multiply-adds for an image of 513x513."""

    model: PublishedModel
    parameters: Parameters
    multiply_adds: int


def summarise(pattern="", progress=False):
    """Counts the published models whose name or backbone holds `pattern`: a list of `Summary` rows.

    No variable is allocated and nothing is run; all of them together take a minute or two.

    Args:
        pattern: part of a name or of a backbone's; `""` for all models.
        progress: whether to show on standard error how far it is.

    Raises:
        ValueError: no model has it in its name; the message lists them.
    """
    rows = []
    chosen = _chosen(pattern)
    with Progress(len(chosen), "counting", enabled=progress) as shown:
        for index, model in enumerate(chosen):
            shown.update(index, model.name)
            built = _skeleton(model)
            rows.append(Summary(model, count_parameters(built), multiply_adds(built)))
    return rows


def summary_table(pattern="", markdown=False, progress=False):
    """The published models whose name or backbone holds `pattern`, as text.

    Each with its backbone, output stride, parameters (trainable ones, in millions), multiply-adds of its convolutions
    for an image of 513x513 (in billions), published accuracy and the source of that. In plain text the first accuracy
    stands for all.

    Args:
        pattern, progress: as `summarise` takes them.
        markdown: whether to return a Markdown table, with all accuracies.

    Example:

    >>> summary_table("bonlime_deeplabv3_mobilenetv2").splitlines()[2][:88]
    'bonlime_deeplabv3_mobilenetv2  mobilenet_v2  8              2.114 M     8.826 B        -'
    """
    header = ("model", "backbone", "output stride", "parameters", "multiply-adds", "mean IoU", "source")
    lines = []
    for row in summarise(pattern, progress):
        model = row.model
        scores = [str(score) for score in model.scores] or ["-"]
        if len(scores) > 1 and not markdown:
            scores = [f"{scores[0]} and {len(scores) - 1} more"]
        counts = (f"{row.parameters.trainable / 1e6:.3f} M", f"{row.multiply_adds / 1e9:.3f} B")
        lines.append(
            (model.name, model.spec.backbone, str(model.spec.output_stride), *counts, "; ".join(scores), model.source)
        )
    return text_table(header, lines, markdown)


def comparison_table(pattern="", markdown=False, progress=False):
    """Every published number of parameters or multiply-adds, beside what the code counts under its conditions.

    Args:
        pattern, markdown, progress: as `summary_table` takes them.

    Example:

    >>> comparison_table("vainf_deeplabv3_mobilenet").splitlines()[2].split()[:5]
    ['vainf_deeplabv3_mobilenet', 'parameters', '5.114M', '5.114M', '-0.002']
    """
    header = ("model", "figure", "published", "here", "difference", "remark", "source")
    lines = []
    chosen = [(model, count) for model in _chosen(pattern) for count in model.counts]
    with Progress(len(chosen), "counting", enabled=progress) as shown:
        for index, (model, count) in enumerate(chosen):
            shown.update(index, model.name)
            here = _count(model, count)
            remarks = [count.remark] if count.remark else []
            if count.space_to_batch and abs(here / count.value - 1) > 0.005:
                padded = _count(model, count, space_to_batch=True)
                if padded != here:
                    difference = 100 * (padded / count.value - 1)
                    remarks.insert(0, f"{_like(padded, count)} ({difference:+.2f} %) with space to batch")
            lines.append(
                (
                    model.name,
                    ", ".join(filter(None, (count.quantity, count.conditions()))),
                    count.published,
                    _like(here, count),
                    f"{100 * (here / count.value - 1):+.3f} %",
                    "; ".join(remarks),
                    count.source,
                )
            )
    return text_table(header, lines, markdown)


def open_network(name, output_stride=None):
    """A backbone's key, a published model's name or a `.keras` file to a model, for `receptive_field` and counts.

    Backbones and published models come without values. `output_stride` is for them; None leaves a backbone at its
    own stride, a published model at its source's.
    """
    if str(name).endswith(".keras"):
        if output_stride is not None:
            raise ValueError("output_stride is for backbones and published models; a .keras file has its own.")
        with opened(name) as stored:
            return own.network(stored)
    overrides = {} if output_stride is None else {"output_stride": output_stride}
    if name in MODELS:
        return _skeleton(MODELS[name], **overrides)
    if name not in BACKBONES:
        raise ValueError(
            f"{name!r} is no .keras file, no published model ({', '.join(sorted(MODELS))}) and no backbone "
            f"({', '.join(sorted(BACKBONES))})."
        )
    with unallocated():
        row = BACKBONES[name]
        if row.output_strides is not None:
            return resolve(name, (None, None, 3), output_stride or max(row.output_strides))[0]
        model, _ = resolve(name, (None, None, 3))
        return rewrite.rewrite(
            model,
            output_stride,
            multi_grid=row.multi_grid if output_stride else None,
            strided_rate=row.strided_rate or "old",
            contracted=row.contracted if output_stride else (),
            dropped=row.dropped if output_stride else (),
        )


def _chosen(pattern):
    chosen = [model for model in MODELS.values() if pattern in model.name or pattern in model.spec.backbone]
    if not chosen:
        raise ValueError(f"No published model has {pattern!r} in its name or backbone: {', '.join(MODELS)}.")
    return chosen


def _skeleton(model, **overrides):
    with unallocated():
        return build(model.spec, name=model.name, **overrides)


def _count(model, count, space_to_batch=False):
    """What the code counts under the conditions of a published figure."""
    built = _skeleton(model, **count.overrides)
    if count.quantity == "parameters":
        return count_parameters(built).trainable
    return sum(multiply_adds(built, size, space_to_batch) for size in count.sizes())


def _like(number, count):
    """A number written as a published figure is."""
    unit = count.published[-1]
    decimals = len(count.published.partition(".")[2]) - 1
    return f"{number / (1e6 if unit == 'M' else 1e9):.{max(decimals, 0)}f}{unit}"


# Graphs and text --------------------------------------------------------------------------------------------


def run_through(model, inputs, step, prefix=""):
    """Runs a graph on values of any kind: `step(layer, path, args, kwargs)` for every call of every layer in it.

    Nested models are run through, and a layer that is called twice is met twice.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)

    def operation(layer):
        path = prefix + layer.name

        def call(*args, **kwargs):
            if rewrite._is_graph(layer):
                return run_through(layer, args[0], step, f"{path}/")
            return step(layer, path, args, kwargs)

        return call

    return run_through_graph(model, keras.tree.flatten(inputs), operation)


def _plain(number):
    return int(number) if number == int(number) else float(number)


def _by(pair):
    """`7x7` as 7, `1x7` as it is, None as a dash."""
    if pair is None:
        return "-"
    height, width = pair
    return f"{height:g}" if height == width else f"{height:g}x{width:g}"


def text_table(header, rows, markdown=False):
    """Rows of strings below a header, as aligned text or as a Markdown table."""
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
