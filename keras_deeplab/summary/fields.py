"""What the positions of a model's maps see of the image, without running it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras

from keras_deeplab import layers, rewrite
from keras_deeplab._helpers.private import calls
from keras_deeplab._helpers.text import text_table
from keras_deeplab.summary.graph import run_through

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


def receptive_field(model: keras.Model) -> list[Field]:
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


def global_layers(model: keras.Model) -> dict[str, Any]:
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


def field_table(rows: Iterable[Field], markdown: bool = False) -> str:
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


def _plain(number):
    return int(number) if number == int(number) else float(number)


def _by(pair):
    """`7x7` as 7, `1x7` as it is, None as a dash."""
    if pair is None:
        return "-"
    height, width = pair
    return f"{height:g}" if height == width else f"{height:g}x{width:g}"
