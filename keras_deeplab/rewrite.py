"""The rewrite that every network here stands on: a classifier in, the same classifier computed densely out.

A layer that would carry the features past the asked output stride loses its stride, and everything behind it is
dilated by as much, so that the same weights compute the same features on a finer grid (DeepLab v1, section 3.1;
v3, figure 3b). One walk over the graph finds every tensor's place; Keras clones the model with the changed settings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import keras
import numpy as np

from keras_deeplab import layers as dilated
from keras_deeplab._helpers.private import calls, producer, rename

_CONVOLUTIONS: dict[Any, Any] = {
    keras.layers.Conv2D: dilated.DilatedConv2D,
    dilated.GroupedConv2D: dilated.DilatedConv2D,
    keras.layers.DepthwiseConv2D: dilated.DilatedDepthwiseConv2D,
    keras.layers.SeparableConv2D: dilated.DilatedSeparableConv2D,
}
_POOLINGS: dict[Any, Any] = {
    keras.layers.MaxPooling2D: dilated.DilatedMaxPooling2D,
    keras.layers.AveragePooling2D: dilated.DilatedAveragePooling2D,
}
_CONVOLUTION: Any = tuple(_CONVOLUTIONS)
_POOLING: Any = tuple(_POOLINGS)
_DILATED_POOLING: Any = tuple(_POOLINGS.values())
# Layers of the same variables and results that train faster.
_FASTER: dict[Any, Any] = {keras.layers.BatchNormalization: dilated.BatchNormalization}
# Layers that look at one position only; all others are asked by experiment, which costs a few milliseconds each.
_POINTWISE = (
    keras.layers.BatchNormalization,
    keras.layers.Rescaling,
    keras.layers.Activation,
    keras.layers.Identity,
    keras.layers.ReLU,
    dilated.ChannelSlice,
    dilated.Clip,
    dilated.LayerScale,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Dense,
)
# What a rate of `contracted` is divided by so that 1 is left: more than any rate.
UNDILATED = 1 << 20
_BY_AXIS = (keras.layers.Concatenate, keras.layers.LayerNormalization)  # likewise, along the channels
_GLOBAL_POOLINGS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


@dataclass(frozen=True)
class Grid:
    """Where a feature map stands: `stride` input pixels between neighbours, `rate` times more in the classifier.

    `pads` are the explicit paddings on the way that no spatial layer has consumed yet.
    """

    stride: int = 1
    rate: int = 1
    pads: frozenset[int] = frozenset()

    @property
    def natural_stride(self) -> int:
        return self.stride * self.rate


def atrous(
    model: keras.Model,
    output_stride: int,
    multi_grid: Sequence[int] | None = None,
    strided_rate: str = "old",
    contracted: Iterable[str] | Mapping[str, int] = (),
    multi_grid_from: int | None = None,
    dropped: Iterable[str] = (),
    centred: bool = False,
    ahead: Iterable[str] = (),
) -> keras.Model:
    """Maps a functional classifier to the same network whose deepest feature map has the given output stride.

    Strided convolutions and poolings that would pass `output_stride` get stride 1 and keep the dilation rate of
    what comes before them; everything after them is dilated by the stride they lost. So with `rate = natural stride
    / output_stride`, `atrous(model, output_stride)(x)[:, ::rate, ::rate]` equals `model(x)`: at any size where the
    network pads explicitly, at sizes `32 * n + 1` where it pads as TensorFlow's `"same"` does, and nowhere exactly
    where a network looks at the whole image (squeeze and excitation), because its averages are now denser.

    The result has the same variables: names, shapes, order and values (copied, so training one leaves the other as
    it is). Inputs stay as they are.

    Args:
        model: functional `keras.Model` (nested functional and sequential models included), channels last.
        output_stride: int, the stride of the deepest feature map in input pixels: one that the network passes
            through, such as 8, 16 or 32.
        multi_grid: unit rates such as (1, 2, 4) (v3, section 3.2.1): factors on the dilation rates of the deepest
            stage's spatial convolutions, those larger than 1x1 that read the network's deepest feature map, in
            order, from the start again when they run out. They widen the view at every output stride, the network's
            own included, so the features are other ones and the law above doesn't hold. None for no such factors.
        strided_rate: the rate at which a convolution runs that lost its stride. `"old"` is that of the stage it
            ends, which is what keeps the law above (slim, torchvision's `previous_dilation`); `"new"` that of the
            stage it begins, whose first unit it then is for `multi_grid` too (jfzhang95, segmentation_models.pytorch,
            Detectron2).
        contracted: names of layers that run at half their rate (never below 1), for networks that were trained so:
            DeepLab v1's pool5, MMSegmentation's `contract_dilation`; or `{name: what its rate is divided by}`, where
            `UNDILATED` leaves a rate of 1. The law doesn't hold behind them.
        multi_grid_from: the stride at which the classifier's unit rates begin, where more stages than the deepest
            have them: 32 for the cascade of v3, section 3.2. None for the deepest alone.
        dropped: names of poolings that go away with their stride, for networks that were trained so: those in the
            shortcuts of PaddleSeg's and MMSegmentation's ResNet-D. The law doesn't hold behind them either.
        centred: whether a convolution that lost its stride is padded alike in front and behind, whatever it was with
            its stride (timm, segmentation_models.pytorch). The law holds behind it only where that was alike as well.
        ahead: names of layers that run at the rate of the stage behind theirs already, for networks that were trained
            so. The law doesn't hold behind them.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: the stride is not one of the network's, a layer can't be computed densely (an upsampling, a
            flattening, a block that hides its layers, a layer that is used twice; the message names the layer), the
            number of convolutions in the stages with unit rates is no multiple of the number of these, or
            `contracted` names a layer that isn't there.

    Example:

    >>> import keras
    >>> from keras_deeplab.rewrite import atrous
    >>> classifier = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(64, 64, 3))
    >>> classifier.output_shape, atrous(classifier, 8).output_shape
    ((None, 2, 2, 1024), (None, 8, 8, 1024))
    """
    _graph(model, "atrous")
    if isinstance(output_stride, bool) or not isinstance(output_stride, int | np.integer) or output_stride < 1:
        raise ValueError(f"output_stride must be a positive integer such as 8 or 16; received {output_stride!r}.")
    return rewrite(
        model,
        int(output_stride),
        multi_grid=multi_grid,
        strided_rate=strided_rate,
        contracted=contracted,
        multi_grid_from=multi_grid_from,
        dropped=dropped,
        centred=centred,
        ahead=ahead,
    )


def rewrite(
    model: keras.Model,
    output_stride: int | None,
    *,
    multi_grid: Sequence[int] | None = None,
    strided_rate: str = "old",
    contracted: Iterable[str] | Mapping[str, int] = (),
    multi_grid_from: int | None = None,
    dropped: Iterable[str] = (),
    centred: bool = False,
    ahead: Iterable[str] = (),
    inputs: list[keras.KerasTensor] | None = None,
    entry: Callable[[keras.KerasTensor], keras.KerasTensor] | None = None,
    fresh: bool = False,
) -> keras.Model:
    """`atrous`, onto given `keras.Input` tensors, with `entry` (tensor to tensor, no weights) before the network.

    With `output_stride=None` the network stays as it is, whatever layers it has. With `fresh=True` the variables are
    initialised anew instead of copied.
    """
    if strided_rate not in ("old", "new"):
        raise ValueError(f"strided_rate must be 'old' or 'new'; received {strided_rate!r}.")
    changes = {}
    if output_stride is not None:
        natural = {grid.stride for grid in _Walk(model, None).grids.values() if grid is not None}
        if multi_grid_from is None:
            multi_grid_from = max(natural, default=1)
        walk = _Walk(
            model,
            output_stride,
            _unit_rates(multi_grid),
            multi_grid_from,
            strided_rate,
            contracted,
            dropped,
            centred,
            ahead,
        )
        deepest = max((grid.stride for grid in walk.grids.values() if grid is not None), default=0)
        if deepest != output_stride:
            raise ValueError(
                f"{model.name!r} can't have output stride {output_stride}: its feature maps have strides "
                f"{', '.join(map(str, sorted(natural)))}. Ask for one of these."
            )
        changes = walk.changes

    def clone(layer):
        cls, config = changes.get(id(layer)) or (type(layer), layer.get_config())
        return _FASTER.get(cls, cls).from_config(config)

    settings = {}
    if inputs is not None:
        entered = [entry(tensor) for tensor in inputs] if entry else inputs
        replaced = {id(tensor): new for tensor, new in zip(inputs, entered, strict=True)}

        def call(layer, *args, **kwargs):
            args, kwargs = keras.tree.map_structure(lambda value: replaced.get(id(value), value), (args, kwargs))
            return layer(*args, **kwargs)

        structure = keras.tree.pack_sequence_as(model.input, list(inputs))
        settings = {"input_tensors": structure, "call_function": call}
        if isinstance(model, keras.Sequential):
            model = keras.Model(model.inputs, model.outputs, name=model.name)
    dense = keras.models.clone_model(model, clone_function=clone, recursive=True, **settings)
    for old, new in zip(model.weights, dense.weights, strict=True):
        if old.shape != new.shape:
            raise ValueError(
                f"{model.name!r} can't be computed densely: the shape of its variable {old.path!r} depends on the "
                f"size of the feature map ({tuple(old.shape)} becomes {tuple(new.shape)}). Remove that layer, for "
                "keras.applications with include_top=False."
            )
        if not fresh:
            new.assign(old)
        # Names that Keras counts up ("variable_3") or takes from an enclosing scope would differ; there is no setter.
        rename(new, old.name, old.path)
    return dense


def taps(model: keras.Model) -> dict[int, str]:
    """Maps a functional classifier to `{stride: name of the last layer whose output has that stride}`, in order.

    Feature maps only: no padded or cropped map that waits for its convolution, no pooled vector. The last entry is
    the network's deepest feature map.

    >>> import keras
    >>> from keras_deeplab.rewrite import taps
    >>> taps(keras.applications.VGG16(weights=None, input_shape=(64, 64, 3)))[32]
    'block5_pool'
    """
    walk = _Walk(_graph(model, "taps"), None)
    last = {}
    for name, tensor in walk.outputs.items():
        grid = walk.grids[id(tensor)]
        if grid is not None and not grid.pads and name not in walk.cropped:
            last[grid.stride] = name
    return dict(sorted(last.items()))


def layer_outputs(model: keras.Model, names: Iterable[str]) -> list[keras.KerasTensor]:
    """The Keras tensors that layers of these names put out inside a functional model.

    Raises:
        ValueError: the model has no layer of a name; the message lists the last ones at each stride.
    """
    outputs = _Walk(_graph(model, "layer_outputs"), None).outputs
    for name in names:
        if name not in outputs:
            last = ", ".join(f"{layer} ({stride})" for stride, layer in taps(model).items())
            raise ValueError(f"{name!r} is no layer of {model.name!r}. Its last layers at each stride: {last}.")
    return [outputs[name] for name in names]


def _graph(model: Any, function: str) -> keras.Model:
    if not _is_graph(model):
        raise ValueError(
            f"{function}() takes functional keras.Models; received {_describe(model)}. Build the network with "
            "keras.Model(inputs, outputs) from layers, as keras.applications does."
        )
    return model


def _is_graph(layer: Any) -> bool:
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations") and layer.inputs is not None
    )


def _describe(thing: Any) -> str:
    return f"{type(thing).__name__} {thing.name!r}" if hasattr(thing, "name") else repr(thing)


class _Walk:
    """One pass over a graph: every tensor's `Grid` (by identity) and every layer's changed class and settings.

    With `output_stride=None` nothing is changed and the grids are the network's own. `unit_rates` multiply the rates
    of the spatial convolutions of the stages whose natural stride is `unit_rates_from` or larger.
    """

    def __init__(
        self,
        model: keras.Model,
        output_stride: int | None,
        unit_rates: tuple[int, ...] = (1,),
        unit_rates_from: int | None = None,
        strided_rate: str = "old",
        contracted: Iterable[str] | Mapping[str, int] = (),
        dropped: Iterable[str] = (),
        centred: bool = False,
        ahead: Iterable[str] = (),
    ) -> None:
        self.output_stride = output_stride
        self.unit_rates = unit_rates
        self.unit_rates_from = unit_rates_from
        self.strided_rate = strided_rate
        self.divisors = contracted if isinstance(contracted, Mapping) else dict.fromkeys(contracted, 2)
        self.dropped = frozenset(dropped)
        self.met: set[str] = set()  # names of those among them that were met
        self.centred = centred
        self.ahead = frozenset(ahead)
        self.units: list[str] = []  # names of the convolutions that unit rates were given to
        self.grids: dict[int, Grid | None] = {}  # id of a tensor -> its place; None for no feature map
        self.outputs: dict[
            str, keras.KerasTensor
        ] = {}  # name of a layer of the outermost graph -> its first output tensor there
        self.cropped: set[str] = set()  # names of the layers among them whose maps are shifted copies
        self.changes: dict[int, tuple[type, dict[str, Any]]] = {}  # id of a layer -> its new class and settings
        self.settled: dict[int, Any] = {}  # id of a padding layer -> the padding that its consumer needs
        self.paddings: dict[int, tuple[Any, Grid]] = {}  # id of a padding layer -> (layer, its input's grid)
        self.graph(model, [Grid()] * len(model.inputs))
        for key, (layer, grid) in self.paddings.items():
            padding = self.settled.get(key)
            if padding is None:
                padding = [[grid.rate * side for side in axis] for axis in layer.padding]
            if [list(axis) for axis in layer.padding] != padding:
                self.changes[key] = (type(layer), {**layer.get_config(), "padding": padding})
        for what, names in (("contracted", self.divisors), ("dropped", self.dropped), ("ahead", self.ahead)):
            unknown = [name for name in names if name not in self.met]
            if unknown:
                raise ValueError(
                    f"{what} names {', '.join(map(repr, unknown))}; {model.name!r} has no convolution or pooling of "
                    "that name."
                )
        if len(self.units) % len(unit_rates) or (unit_rates != (1,) and not self.units):
            raise ValueError(
                f"multi_grid={unit_rates} has {len(unit_rates)} unit rates; the stages of {model.name!r} that have "
                f"them hold {len(self.units)} spatial convolutions ({', '.join(self.units) or 'none'}), which must "
                "be a multiple."
            )

    def graph(self, model: keras.Model, input_grids: list[Grid | None]) -> list[Grid | None]:
        """Walks a model whose inputs stand on `input_grids`; returns its outputs' grids."""
        if isinstance(model, keras.Sequential):
            (grid,) = input_grids
            self.grids[id(model.inputs[0])] = grid
            level: dict[str, keras.KerasTensor] = {}
            for layer in model.layers:
                grid = self.step(layer, [grid])
                self.grids[id(layer.output)] = grid
                level[layer.name] = layer.output
            self.outputs = level
            return [grid]
        level = {}
        for tensor, grid in zip(model.inputs, input_grids, strict=True):
            self.grids[id(tensor)] = grid if len(tensor.shape) == 4 else None
        for operation in model.operations:
            if isinstance(operation, keras.layers.InputLayer):
                level[operation.name] = operation.output
                continue
            inputs, outputs = self.connections(operation)
            grids = [self.grid_of(tensor) for tensor in inputs]
            if _is_graph(operation):
                results = self.graph(operation, grids)
            else:
                results = [self.step(operation, grids)] * len(outputs)
            for tensor, grid in zip(outputs, results, strict=True):
                self.grids[id(tensor)] = grid if len(tensor.shape) == 4 else None
            level[operation.name] = outputs[0]
        self.outputs = level
        return [self.grid_of(tensor) for tensor in model.outputs]

    def connections(self, operation: Any) -> tuple[list[keras.KerasTensor], list[keras.KerasTensor]]:
        """The Keras tensors that go into an operation of the graph and those that come out, as two lists.

        The public `input` and `output` won't do: of a nested model they are its own ends, not where it is called,
        and of a layer that several models share they are its first call's, in another graph.
        """
        for node in calls(operation):
            if all(id(tensor) in self.grids for tensor in node.input_tensors):
                return node.input_tensors, node.outputs
        return self.refuse_reuse(operation)

    def grid_of(self, tensor: keras.KerasTensor) -> Grid | None:
        if id(tensor) not in self.grids:
            self.refuse_reuse(producer(tensor))
        return self.grids[id(tensor)]

    def refuse_reuse(self, operation: Any) -> NoReturn:
        self.refuse(operation, "it is used more than once, so its uses may stand on different grids")

    def step(self, layer: Any, grids: list[Grid | None]) -> Grid | None:
        """The grid of `layer`'s output, given its inputs'. Notes what must change in the layer."""
        if isinstance(layer, keras.layers.InputLayer):
            return grids[0]
        if _is_graph(layer):
            return self.graph(layer, grids)[0]
        spatial = [grid for grid in grids if grid is not None]
        if not spatial:
            return None
        if isinstance(layer, dilated.UnfoldPatches):
            if any(each.rate > 1 for each in spatial):
                self.refuse(layer, "its patches would be of other neighbours")
            return None  # until they are folded again
        if isinstance(layer, (dilated.ResizeBilinear, dilated.UpsampleNearest, dilated.FoldPatches)):
            if any(each.rate > 1 for each in spatial):
                self.refuse(layer, "it brings maps of different strides together")
            return grids[1]  # of the reference
        grid = Grid(spatial[0].stride, spatial[0].rate, frozenset().union(*(g.pads for g in spatial)))
        if any((g.stride, g.rate) != (grid.stride, grid.rate) for g in spatial):
            self.refuse(
                layer,
                "its inputs have different strides once the network is dense: "
                + ", ".join(f"{g.stride} at rate {g.rate}" for g in spatial),
            )
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            self.refuse(layer, "it is channels_first; only channels_last is handled")
        if isinstance(layer, _GLOBAL_POOLINGS):
            return None
        if isinstance(layer, _POINTWISE) or (isinstance(layer, _BY_AXIS) and layer.axis in (-1, 3, [-1], [3])):
            return grid
        if grid.pads and isinstance(layer, keras.layers.Conv2D) and _is_pointwise(layer):
            # The zeros pass it on their way to the window that they are meant for (VainF, jfzhang95).
            return grid
        if isinstance(layer, keras.layers.ZeroPadding2D):
            self.paddings[id(layer)] = (layer, Grid(grid.stride, grid.rate))
            return Grid(grid.stride, grid.rate, grid.pads | {id(layer)})
        if isinstance(layer, keras.layers.Cropping2D):
            if grid.rate > 1:
                cropping = [[grid.rate * side for side in axis] for axis in layer.cropping]
                self.changes[id(layer)] = (type(layer), {**layer.get_config(), "cropping": cropping})
            self.cropped.add(layer.name)
            return Grid(grid.stride, grid.rate)
        if isinstance(layer, _CONVOLUTION):
            return self.window(layer, grid, layer.kernel_size, layer.strides, layer.dilation_rate)
        if isinstance(layer, _POOLING):
            return self.window(layer, grid, layer.pool_size, layer.strides, (1, 1))
        if isinstance(layer, _DILATED_POOLING):
            return self.window(layer, grid, layer.pool_size, (1, 1), layer.dilation_rate)
        return self.unknown(layer, grid)

    def window(
        self, layer: Any, grid: Grid, kernel: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int]
    ) -> Grid:
        """A convolution or pooling: stride removed where it would pass the target, window spread by the rate."""
        if strides[0] != strides[1]:
            self.refuse(layer, f"its strides differ by axis: {tuple(strides)}")
        stride, rate = strides[0], grid.rate
        removed = (
            stride > 1 and self.output_stride is not None and (rate > 1 or grid.stride * stride > self.output_stride)
        )
        after = Grid(grid.stride, rate * stride) if removed else Grid(grid.stride * stride, rate)
        pads = [self.paddings[key][0].padding for key in grid.pads]
        if any(pad != pads[0] for pad in pads):
            self.refuse(layer, "several different explicit paddings lead to it")
        convolution = isinstance(layer, _CONVOLUTION) and max(kernel) > 1
        begins = convolution and self.strided_rate == "new"
        if removed and begins:
            rate = after.rate
        stage = (after if begins else grid).natural_stride
        if convolution and self.unit_rates_from is not None and stage >= self.unit_rates_from:
            unit_rate = self.unit_rates[len(self.units) % len(self.unit_rates)]
            self.units.append(layer.name)
            if stride > 1 and not removed and unit_rate > 1:
                self.refuse(layer, f"multi_grid gives it the rate {unit_rate} and it keeps its stride {stride}")
            rate *= unit_rate
        self.met.add(layer.name)
        if removed and layer.name in self.dropped:
            kept = {key: layer.get_config()[key] for key in ("name", "trainable", "dtype")}
            self.changes[id(layer)] = (keras.layers.Identity, kept)
            return after
        rate = max(1, rate // self.divisors.get(layer.name, 1))
        if layer.name in self.ahead and self.output_stride is not None:
            rate = max(1, 2 * stage // self.output_stride)
        if not removed and rate == 1 and grid.rate == 1:
            self.settle(layer, grid, [list(axis) for axis in pads[0]] if pads else None)
            return after
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        natural = self.natural_padding(layer, spans)
        dense_padding = _centred_padding if removed and self.centred else _dense_padding
        if pads and all(before == behind == 0 for before, behind in natural):
            # The padding stands in front as its own layer: that one changes, this layer stays "valid".
            pad = [dense_padding(axis, span, stride, rate) for axis, span in zip(pads[0], spans, strict=True)]
            self.settle(layer, grid, pad)
            dense = [[0, 0], [0, 0]]
        else:
            if pads:
                self.settle(layer, grid, [[rate * side for side in axis] for axis in pads[0]])
            dense = [dense_padding(axis, span, stride, rate) for axis, span in zip(natural, spans, strict=True)]
        self.change(layer, kernel, [rate * d for d in dilation], spans, dense, rate)
        return after

    def natural_padding(self, layer: Any, spans: list[int]) -> list[list[int]]:
        """(before, behind) for each axis at stride 1; TensorFlow's "same" at the sizes where its grid is centred."""
        if layer.padding == "valid":
            return [[0, 0], [0, 0]]
        if layer.padding == "same":
            return [[span // 2, span - span // 2] for span in spans]
        return [list(axis) for axis in layer.padding]

    def change(
        self, layer: Any, kernel: tuple[int, int], dilation: list[int], spans: list[int], padding: Any, rate: int
    ) -> None:
        """Notes the class and settings with which a window is spread by `dilation` and padded by `padding`."""
        if padding == [[0, 0], [0, 0]]:
            padding = "valid"
        elif all(axis == [rate * s // 2, rate * s - rate * s // 2] for axis, s in zip(padding, spans, strict=True)):
            padding = "same"
        if all(k == 1 for k in kernel):
            dilation = [1, 1]
        pooling = isinstance(layer, (*_POOLING, *_DILATED_POOLING))
        replacements = _POOLINGS if pooling else _CONVOLUTIONS
        cls, config = type(layer), layer.get_config()
        if cls in replacements and not (max(dilation) == 1 and isinstance(padding, str)):
            cls = replacements[cls]
        if cls in _POOLINGS:
            config.update(strides=[1, 1], padding=padding)
        elif pooling:
            kept = {key: config[key] for key in ("name", "trainable", "dtype", "pool_size")}
            config = {**kept, "dilation_rate": dilation, "padding": padding}
        elif cls in (*replacements, *replacements.values()) or isinstance(padding, str):
            config.update(strides=[1, 1], dilation_rate=dilation, padding=padding)
        else:
            self.refuse(layer, f"it would need the explicit padding {padding}, which {cls.__name__} doesn't take")
        self.changes[id(layer)] = (cls, config)

    def settle(self, layer: Any, grid: Grid, padding: Any) -> None:
        """Gives the paddings that wait before `layer` what it needs of them; None leaves them as they are."""
        for key in grid.pads:
            if self.settled.setdefault(key, padding) != padding:
                self.refuse(
                    self.paddings[key][0],
                    f"it feeds {layer.name!r} and another layer, and they need different paddings",
                )

    def unknown(self, layer: Any, grid: Grid) -> Grid | None:
        """Any other layer or operation: asked by experiment how it moves information between positions."""
        if grid.rate == 1:
            ratio = _size_ratio(layer)
            if ratio is None:
                return None
            if ratio < 1:
                stride = grid.stride * ratio
                if stride != int(stride):
                    self.refuse(layer, f"it enlarges a map of stride {grid.stride} by {1 / ratio:g}")
                return Grid(int(stride), 1, grid.pads)
            if self.output_stride is not None and ratio > 1 and grid.stride * ratio > self.output_stride:
                self.refuse(
                    layer,
                    f"it divides the size by {ratio}, and how to take that stride out of a "
                    f"{type(layer).__name__} is not known",
                )
            return Grid(int(grid.stride * ratio), 1, grid.pads if ratio == 1 else frozenset())
        reach = _reach(layer)
        if reach == "none":
            return None
        if reach in ("point", "global"):
            return grid
        self.refuse(layer, f"{reach}, and how to dilate a {type(layer).__name__} is not known")
        return None

    def refuse(self, layer: Any, why: str) -> NoReturn:
        raise ValueError(
            f"The layer {layer.name!r} ({type(layer).__name__}) can't be computed densely: {why}. Cut the network "
            "before it (keras.Model(model.input, earlier_layer.output); include_top=False for keras.applications), or "
            "write it with Conv2D, DepthwiseConv2D, SeparableConv2D and pooling layers."
        )


def _is_pointwise(convolution: Any) -> bool:
    """Whether a convolution sees one position only and leaves every position where it is."""
    return max(convolution.kernel_size) == max(convolution.strides) == 1 and isinstance(convolution.padding, str)


def _dense_padding(axis: Sequence[int], span: int, stride: int, rate: int) -> list[int]:
    """The (before, behind) that a window of `span + 1` needs on the dense grid, from its natural (before, behind).

    A window that kept the size (rounded up or down, or up by one more as Caffe's poolings do) keeps it on the dense
    grid, aligned in front; one that cut the border cuts it there too, so the positions stay the same.
    """
    before, behind = axis
    keeps_size = span + 1 - stride <= before + behind <= span + stride - 1
    return [rate * before, rate * (span - before) if keeps_size else rate * behind]


def _centred_padding(axis: Sequence[int], span: int, stride: int, rate: int) -> list[int]:
    """`_dense_padding` of a window that keeps the size, alike in front and behind; of an odd total more behind."""
    before, behind = _dense_padding(axis, span, stride, rate)
    total = rate * span
    return [total // 2, total - total // 2] if before + behind == total else [before, behind]


def _experiment(layer: Any, size: int = 64) -> tuple[Any, list[list[int]]]:
    """(function, input shapes): the layer or operation alone, on inputs of its own shapes, `size` where free."""
    inputs = keras.tree.flatten(layer.input)
    free = [1] + [size] * 3
    shapes = [[free[min(i, 3)] if d is None else d for i, d in enumerate(t.shape)] for t in inputs]
    return keras.Function(inputs, layer.output), shapes


def _size_ratio(layer: Any) -> float | None:
    """Input height / output height as an int or a fraction below 1; None where the output is no feature map."""
    outputs = keras.tree.flatten(layer.output)
    if any(len(t.shape) != 4 for t in outputs):
        return None
    function, shapes = _experiment(layer)
    results = keras.tree.flatten(function.compute_output_spec([keras.KerasTensor(shape) for shape in shapes]))
    heights = [shape[1] for shape in shapes if len(shape) == 4 and shape[1:3] != [1, 1]]
    if not heights or results[0].shape[1:3] == (1, 1):
        return None
    ratio = heights[0] / results[0].shape[1]
    return max(1, round(ratio)) if ratio > 0.75 else ratio


def _reach(layer: Any) -> str:
    """Which positions of the output one position of the input changes: "point", "global", "none" or a sentence."""
    if any(len(t.shape) != 4 for t in keras.tree.flatten(layer.output)):
        return "it gives up the feature map's two dimensions"
    try:
        function, shapes = _experiment(layer, size=9)
        rng = np.random.default_rng(0)
        arrays = [rng.uniform(0.5, 1.5, shape).astype("float32") for shape in shapes]
        before = np.asarray(keras.tree.flatten(function(arrays))[0])
        height, width = before.shape[1:3]
        changed = np.zeros((height, width), bool)
        centre = (height // 2, width // 2)
        for index, array in enumerate(arrays):
            if array.ndim != 4 or array.shape[1:3] != (height, width):
                continue
            moved = [a.copy() for a in arrays]
            moved[index][:, centre[0], centre[1]] += 1.0
            after = np.asarray(keras.tree.flatten(function(moved))[0])
            changed |= np.any(before != after, axis=(0, 3))
    except Exception as error:
        return f"it failed on an example ({error})"
    if (height, width) == (1, 1):
        return "none"
    sizes = {a.shape[1:3] for a in arrays if a.ndim == 4} - {(1, 1)}
    if sizes != {(height, width)}:
        return "it changes the size of the feature map"
    if changed.all():
        return "global"
    changed[centre] = False
    return "it mixes neighbouring positions in a way of its own" if changed.any() else "point"


def _unit_rates(multi_grid: Any) -> tuple[int, ...]:
    """`multi_grid` as a tuple; (1,) for None."""
    if multi_grid is None:
        return (1,)
    rates = tuple(multi_grid) if isinstance(multi_grid, list | tuple) else ()
    if not rates or any(isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1 for rate in rates):
        raise ValueError(
            f"multi_grid must be None or positive integers such as (1, 2, 4), one unit rate for each spatial "
            f"convolution of the deepest stage; received {multi_grid!r}."
        )
    return rates
