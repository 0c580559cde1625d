"""A Keras model on a tile, as the part of an image that it is: what it gives there is what it gives on the image.

Three things of a network depend on where a tile ends. Padding: its effect ends where the receptive field does, and
tiles lie so that sizes leave the same rest (`plan.spans`). Resizes to another map's size: they are computed in the
geometry of the whole image's maps. Means over the image: they are computed over all tiles first, and then given.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_deeplab import summary
from keras_deeplab._helpers.private import calls
from keras_deeplab.inference.coarse import without_resize
from keras_deeplab.inference.tiles.bilinear import Taps, taps
from keras_deeplab.inference.tiles.plan import Span
from keras_deeplab.layers import ResizeBilinear, WindowedAveragePooling2D
from keras_deeplab.specs import ModelSpec
from keras_deeplab.specs.model import inner_layers, main_output

_MEAN = keras.layers.GlobalAveragePooling2D
_MOST_UNIT = 512


class _Resize(NamedTuple):
    """A call of a `ResizeBilinear`: (height, width) from and to, of the image's maps, and the maps' strides."""

    sizes: tuple[tuple[int, int], ...]
    strides: tuple[tuple[int, int], ...]  # 0 where a size doesn't follow the image's
    align_corners: bool


class _Mean(NamedTuple):
    """A call of a mean over the image: its map's height and width, strides and channels, and the result's shape."""

    size: tuple[int, int]
    strides: tuple[int, int]
    shape: tuple[int, ...]


class _Absent:
    """Stands for a tensor that isn't there in a pass."""


_ABSENT = _Absent()


class PlacedModel:
    """A functional model from images (1, H, W, channels) of any size to scores, to be run on tiles.

    Attributes:
        unit: what tiles' starts are multiples of, in pixels.
        stride: pixels from one position of the scores to the next.
        reach: how many pixels away a position of the scores sees, beside means over the image.
        align_corners: how scores are resized to the image; None where they have its size.
        returns: what the scores are.
        means: whether it has means over the image that can be given.
        differs: why its tiles aren't the image's in any case, or None.

    Raises:
        ValueError: it can't be run in this way; the message says why, to follow "it".
    """

    def __init__(self, model: keras.Model, spec: ModelSpec) -> None:
        self.model, self.align_corners, self.returns = without_resize(model, spec)
        rows = summary.receptive_field(self.model)
        strides = [stride for row in rows if row.output_stride is not None for stride in row.output_stride]
        fractions = [Fraction(stride).limit_denominator(1000) for stride in strides] or [Fraction(1)]
        self.unit = math.lcm(*(fraction.numerator for fraction in fractions))
        if self.unit > _MOST_UNIT:
            raise ValueError(f"has maps that lie on each other every {self.unit} pixels only")
        if any(inner_layers(self.model, WindowedAveragePooling2D)):
            raise ValueError("takes means over large windows, which lie elsewhere in a tile")
        sees = summary.global_layers(self.model)
        others = [path for path, layer in sees.items() if not isinstance(layer, _MEAN)]
        self.means = bool(sees)
        self.differs = f"its layer {others[0]} looks at the whole image" if others else None
        probe = self._calls(8 * self.unit, 8 * self.unit)
        if not others and probe.nested:
            self.differs = "it takes means over the image one after the other (squeeze and excitation)"
        if self.differs:
            self.means = False
        self.stride = probe.stride
        if self.stride == 1:
            self.align_corners = None
        resizes = sum(0 not in each.strides[0] for each in probe.resizes)
        fields = [side for row in rows if row.receptive_field is not None for side in row.receptive_field]
        # A centred field, moved by less than a unit where sizes are even, and by one for each resize between maps that
        # don't lie on each other.
        self.reach = math.ceil((max(fields, default=1) - 1) / 2) + self.unit * (1 + resizes)
        self._functions: dict[str, Callable[..., Any]] = {}

    def on(self, height: int, width: int, means: bool = True) -> "PlacedImage":
        """The model for tiles of an image of this size; without `means` each tile has its own."""
        return PlacedImage(self, height, width, means and self.means)

    def _calls(self, height: int, width: int) -> "_Calls":
        """The sizes that an image's maps have, found by the layers' own shape rules."""
        return _Calls(
            _sizes(self.model, height, width), _sizes(self.model, height + self.unit, width + self.unit), self.unit
        )

    def function(self, name: str) -> Callable[..., Any]:
        """`_first`, `_second` or `_once`, as a graph where there are graphs."""
        if name not in self._functions:
            run = getattr(self, f"_{name}")
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                run = tf.function(run, autograph=False, jit_compile=False, reduce_retracing=True)
            self._functions[name] = run
        return self._functions[name]

    def _once(self, images: Any, places: list[Any], means: list[Any]) -> Any:
        """The scores of a tile; with no means given each mean is the tile's own."""
        places_left, means_left = iter(places), iter(means)

        def step(layer: Any, path: str, args: Any, kwargs: Any) -> Any:
            if isinstance(layer, ResizeBilinear):
                return _resized(args[0][0], next(places_left), layer)
            if means and isinstance(layer, _MEAN):
                return next(means_left)
            return layer(*args, **kwargs)

        return keras.ops.cast(main_output(summary.run_through(self.model, [images], step)), "float32")

    def _first(self, images: Any, places: list[Any], bounds: list[Any]) -> tuple[list[Any], list[Any]]:
        """A tile's share in the sums of the means, and what it takes to go on once these are there."""
        places_left, bounds_left = iter(places), iter(bounds)
        sums: list[Any] = []
        kept: list[Any] = []

        def step(layer: Any, path: str, args: Any, kwargs: Any) -> Any:
            if isinstance(layer, ResizeBilinear):
                place = next(places_left)
                return _ABSENT if args[0][0] is _ABSENT else _resized(args[0][0], place, layer)
            if isinstance(layer, _MEAN):
                top, bottom, left, right = keras.ops.unstack(next(bounds_left))
                inside = keras.ops.cast(args[0][0, top:bottom, left:right], "float64")
                sums.append(keras.ops.sum(inside, axis=(0, 1)))
                return _ABSENT
            values = keras.tree.flatten((args, kwargs))
            if any(value is _ABSENT for value in values):
                kept.extend(value for value in values if keras.ops.is_tensor(value))
                return keras.tree.map_structure(lambda _: _ABSENT, calls(layer)[-1].output_tensors)
            return layer(*args, **kwargs)

        summary.run_through(self.model, [images], step)
        return sums, kept

    def _second(self, kept: list[Any], places: list[Any], means: list[Any]) -> Any:
        """The scores of a tile from what `_first` kept of it."""
        kept_left, places_left, means_left = iter(kept), iter(places), iter(means)

        def step(layer: Any, path: str, args: Any, kwargs: Any) -> Any:
            if isinstance(layer, ResizeBilinear):
                place = next(places_left)
                return _ABSENT if args[0][0] is _ABSENT else _resized(args[0][0], place, layer)
            if isinstance(layer, _MEAN):
                return next(means_left)
            values = keras.tree.flatten((args, kwargs))
            if not any(keras.ops.is_tensor(value) for value in values):
                return keras.tree.map_structure(lambda _: _ABSENT, calls(layer)[-1].output_tensors)
            fill = keras.tree.map_structure(
                lambda value: next(kept_left) if value is _ABSENT else value, (args, kwargs)
            )
            return layer(*fill[0], **fill[1])

        return keras.ops.cast(main_output(summary.run_through(self.model, [_ABSENT], step)), "float32")


class PlacedImage:
    """A model on the tiles of one image: `scores(images, rows, columns)`, behind `first` for all where it has means."""

    def __init__(self, model: PlacedModel, height: int, width: int, means: bool) -> None:
        self._model, self._calls = model, model._calls(height, width)
        self.grid = self._calls.grid
        self.sums: list[np.ndarray] | None = None
        self.first_pass = means
        self._means: list[np.ndarray] = []

    def first(self, images: np.ndarray, rows: Span, columns: Span) -> list[np.ndarray]:
        """Adds a tile to the sums of the means over the image; returns what `scores` takes in place of the tile."""
        bounds = [_inside(mean, rows, columns) for mean in self._calls.means]
        sums, kept = self._model.function("first")(images, self._places(images.shape, rows, columns), bounds)
        sums = [keras.ops.convert_to_numpy(each).astype(np.float64) for each in sums]
        self.sums = sums if self.sums is None else [one + other for one, other in zip(self.sums, sums, strict=True)]
        return kept

    def close(self, sums: Sequence[np.ndarray] | None = None) -> None:
        """The means are those of all tiles that were added, or those of sums that were found before."""
        self.sums = list(sums) if sums is not None else self.sums
        self._means = [
            (total / math.prod(mean.size)).astype(np.float32).reshape(1, *mean.shape[1:])
            for total, mean in zip(self.sums or [], self._calls.means, strict=True)
        ]

    def scores(self, images: np.ndarray, rows: Span, columns: Span, kept: list[Any] | None = None) -> np.ndarray:
        """A tile (1, T, U, channels) in 0..255 to its scores (t, u, C), those at its inner ends of no meaning."""
        places = self._places((1, rows.stop - rows.start, columns.stop - columns.start), rows, columns)
        if kept is not None:
            found = self._model.function("second")(kept, places, self._means)
        else:
            found = self._model.function("once")(images, places, self._means)
        return keras.ops.convert_to_numpy(found)[0]

    def _places(self, shape: Sequence[int], rows: Span, columns: Span) -> list[list[np.ndarray]]:
        found = []
        for resize in self._calls.resizes:
            axes: list[np.ndarray] = []
            for axis, span in enumerate((rows, columns)):
                (size, new_size), (stride, new_stride) = (
                    (pair[0][axis], pair[1][axis]) for pair in (resize.sizes, resize.strides)
                )
                first, count = _piece(span, new_stride, new_size)
                axes += taps(size, new_size, resize.align_corners, first, count, *_piece(span, stride, size))
            found.append(axes)
        return found


class _Calls:
    """The calls that depend on sizes, from the sizes of an image's maps and those of one larger by a unit."""

    def __init__(self, small: "_Found", large: "_Found", unit: int) -> None:
        def strides(size: Sequence[int], larger: Sequence[int]) -> tuple[int, int]:
            pairs = [(one, other - one) for one, other in zip(size, larger, strict=True)]
            if any(grown and unit % grown for _, grown in pairs):
                raise ValueError("has maps whose positions lie between pixels")
            down, across = (unit // grown if grown else 0 for _, grown in pairs)
            return down, across

        self.resizes = [
            _Resize(one[:2], tuple(strides(*pair) for pair in zip(one[:2], other[:2], strict=True)), one[2])
            for one, other in zip(small.resizes, large.resizes, strict=True)
        ]
        self.means = [
            _Mean(size, strides(size, larger), shape)
            for (size, shape), (larger, _) in zip(small.means, large.means, strict=True)
        ]
        self.nested = small.nested
        self.grid = small.grid
        down, across = strides(small.grid, large.grid)
        if down != across or not down:
            raise ValueError(f"has scores whose positions lie {down} pixels apart down and {across} across")
        self.stride = down


class _Found(NamedTuple):
    resizes: list[Any]
    means: list[Any]
    grid: tuple[int, int]
    nested: bool


def _sizes(model: keras.Model, height: int, width: int) -> _Found:
    resizes: list[Any] = []
    means: list[Any] = []
    behind: set[int] = set()
    nested = False

    def step(layer: Any, path: str, args: Any, kwargs: Any) -> Any:
        nonlocal nested
        outputs = layer.compute_output_spec(*args, **kwargs)
        values = keras.tree.flatten((args, kwargs))
        late = any(id(value) in behind for value in values)
        if isinstance(layer, ResizeBilinear):
            x, reference = args[0]
            resizes.append((tuple(x.shape[1:3]), tuple(reference.shape[1:3]), layer.align_corners))
            late = id(x) in behind
        if isinstance(layer, _MEAN):
            means.append((tuple(args[0].shape[1:3]), (1, *outputs.shape[1:])))
            nested, late = nested or late, True
        if late:
            behind.update(id(output) for output in keras.tree.flatten(outputs))
            alive.extend(keras.tree.flatten(outputs))
        return outputs

    alive: list[Any] = []  # so that no other tensor gets the place, and with it the id, of one that was
    images = keras.KerasTensor((1, height, width, model.inputs[0].shape[-1]), model.inputs[0].dtype)
    found = main_output(summary.run_through(model, [images], step))
    return _Found(resizes, means, tuple(found.shape[1:3]), nested)


def _piece(span: Span, stride: int, size: int) -> tuple[int, int]:
    """First position and number of positions that a tile's map has of the image's."""
    if not stride:
        return 0, size
    first = span.start // stride
    return first, min(-(-span.stop // stride), size) - first


def _inside(mean: _Mean, rows: Span, columns: Span) -> np.ndarray:
    """Which positions of a tile's map no other tile counts: (top, bottom, left, right)."""
    found: list[int] = []
    for span, stride, size in zip((rows, columns), mean.strides, mean.size, strict=True):
        first, count = _piece(span, stride, size)
        low, high = (-(-pixel // (stride or 1)) for pixel in _own(span))
        found += [low - first, min(high - first, count)]
    return np.asarray(found, np.int32)


def _own(span: Span) -> Iterator[int]:
    yield span.low + span.fade_in // 2
    yield span.high - span.fade_out // 2


def _resized(x: Any, place: Sequence[Any], layer: ResizeBilinear) -> Any:
    """A map at the positions that `Taps` of rows and of columns tell."""
    dtype = "float64" if layer.compute_dtype == "float64" else "float32"
    rows, columns = Taps(*place[:3]), Taps(*place[3:])
    x = keras.ops.cast(x, dtype)
    for axis, each in ((2, columns), (1, rows)):
        share = keras.ops.reshape(keras.ops.cast(each.share, dtype), (-1, 1) if axis == 2 else (-1, 1, 1))
        before, behind = (keras.ops.take(x, index, axis) for index in (each.before, each.behind))
        x = before + (behind - before) * share
    return keras.ops.cast(x, layer.compute_dtype)
