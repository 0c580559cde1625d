"""A network whose maps are computed again on a step's way back instead of being kept: less memory, more time.

The graph is cut into pieces. Of each, a step of training keeps what later pieces read, and its way back begins by
running the piece once more. See Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras
from keras import ops

from keras_deeplab._helpers.private import AutocastScope, calls
from keras_deeplab.layers.backend import tensor_of
from keras_deeplab.summary.graph import run_through

# Sides of the images by which pieces are compared where a model is traced for any size.
_SIDE = 513
# The pieces' own maps are tried from all of a network's down to this part of them.
_MOST_PARTS = 40


# For each call the (bytes, last reader) of what it writes.
_Costs: TypeAlias = list[list[tuple[int, int]]]


def recomputing(model: keras.Model) -> Callable[[Any], Any]:
    """A function that computes what `model(images, training=True)` does, and keeps less of it for the gradient.

    Results and updates of moving statistics are those of the model itself; gradients too, but for roundings:
    those of maps that are read several times are added in another order, and TensorFlow fuses operators in one graph
    that it doesn't in the other. Both runs of dropout draw the same. What stands behind the last
    cut is run once.

    Args:
        model: functional `keras.Model` with one input, (B, H, W, channels), on the TensorFlow or JAX backend.

    Raises:
        ValueError: when it is called, if a layer adds to the loss what it made of its maps.
    """
    graph = _Graph(model)
    cut: dict[tuple[Any, ...], list[_Piece]] = {}

    def call(images: Any) -> Any:
        images = ops.cast(images, model.inputs[0].dtype)
        shape = (1, *(_SIDE if side is None else side for side in images.shape[1:]))
        if shape not in cut:
            cut[shape] = graph.pieces(shape)
        values = {graph.image: images}
        for piece in cut[shape]:
            values |= piece.run(values)
        outputs = [values[slot] for slot in graph.outputs]
        return outputs if len(outputs) > 1 else outputs[0]

    return call


class _Slot:
    """Where a tensor of the graph stands, in the arguments of the calls that read it."""


@dataclass
class _Call:
    """A layer's call in a graph."""

    layer: Any
    args: Any
    kwargs: Any
    written: list[_Slot] = field(default_factory=list)

    @property
    def read(self) -> list[_Slot]:
        return [value for value in keras.tree.flatten((self.args, self.kwargs)) if isinstance(value, _Slot)]

    def arguments(self, values: dict[_Slot, Any]) -> tuple[Any, Any]:
        def filled(value: Any) -> Any:
            return values[value] if isinstance(value, _Slot) else value

        return keras.tree.map_structure(filled, (self.args, self.kwargs))

    def run(self, values: dict[_Slot, Any]) -> None:
        """Adds what the call writes to the values."""
        args, kwargs = self.arguments(values)
        outputs = keras.tree.flatten(self.layer(*args, **kwargs))
        values.update(zip(self.written, outputs, strict=True))


class _Graph:
    """A functional model as the list of its calls, in an order in which they can be run."""

    def __init__(self, model: keras.Model):
        self.image = _Slot()
        self.calls: list[_Call] = []

        def step(layer: Any, path: str, args: Any, kwargs: Any) -> Any:
            # Built outside of a training, a graph remembers that; what runs it tells each layer what it is for.
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
            made = _Call(layer, args, kwargs, [_Slot() for _ in calls(layer)[0].outputs])
            self.calls.append(made)
            return made.written if len(made.written) > 1 else made.written[0]

        self.outputs: list[_Slot] = keras.tree.flatten(run_through(model, [self.image], step))

    def pieces(self, shape: tuple[int, ...]) -> list["_Piece"]:
        """The pieces that a step on images of this shape should run one behind another."""
        ends = _cuts(self._costs(shape))
        starts = [0, *ends[:-1]]
        return [
            _Piece(self.calls[start:end], self._read_behind(end), again=end - start > 1 and end < len(self.calls))
            for start, end in zip(starts, ends, strict=True)
        ]

    def _read_behind(self, place: int) -> set[_Slot]:
        return {slot for each in self.calls[place:] for slot in each.read} | set(self.outputs)

    def _costs(self, shape: tuple[int, ...]) -> _Costs:
        """For each call the (bytes, last reader) of what it writes, on images of a shape."""
        specs: dict[_Slot, Any] = {self.image: keras.KerasTensor(shape, "float32")}
        for each in self.calls:
            args, kwargs = each.arguments(specs)
            outputs = keras.tree.flatten(each.layer.compute_output_spec(*args, **kwargs))
            specs.update(zip(each.written, outputs, strict=True))
        last: dict[_Slot, int] = {}
        for place, each in enumerate(self.calls):
            last.update(dict.fromkeys(each.read, place))
        last.update(dict.fromkeys(self.outputs, len(self.calls)))
        # What nothing reads needs no place.
        return [[(_size(specs[slot]), last[slot]) for slot in each.written if slot in last] for each in self.calls]


def _size(spec: Any) -> int:
    return math.prod(spec.shape) * (2 if "16" in str(spec.dtype) else 4)


def _pieces_from(costs: _Costs, start: int) -> Iterator[tuple[int, int, int]]:
    """(end, bytes written within, bytes of them that are read behind) of the pieces that begin at a call."""
    within = kept = 0
    ending: Counter[int] = Counter()
    for end in range(start + 1, len(costs) + 1):
        for size, last in costs[end - 1]:
            within, kept = within + size, kept + size
            ending[last] += size
        kept -= ending.pop(end - 1, 0)
        yield end, within, kept


def _cuts(costs: _Costs) -> list[int]:
    """The ends of the pieces that need the least memory: what is kept between them, and the largest one's own maps.

    >>> _cuts([[(100, place + 1)] for place in range(9)])
    [3, 6, 9]
    """
    total = sum(size for each in costs for size, _ in each)
    limits = [total / parts for parts in range(1, _MOST_PARTS + 1)]
    found = [cut for cut in (_cheapest(costs, limit) for limit in limits) if cut is not None]
    # All of it in one piece is within the first limit, so something is found.
    return min(found)[1]


def _cheapest(costs: _Costs, limit: float) -> tuple[int, list[int]] | None:
    """(bytes, ends) of the pieces that write at most `limit` bytes each and keep the least between them.

    The bytes are what is kept and the largest piece's own; None where one call writes more than the limit. By dynamic
    programming over the places to cut.
    """
    count = len(costs)
    # For each place: bytes kept before it, and the largest piece, start of the last one.
    best: list[tuple[float, int, int]] = [(0, 0, 0)] + [(math.inf, 0, 0)] * count
    for start in range(count):
        before, largest, _ = best[start]
        for end, within, kept in _pieces_from(costs, start):
            if within > limit:
                break
            best[end] = min(best[end], (before + kept, max(largest, within), start))
    total, largest, _ = best[count]
    if math.isinf(total):
        return None
    ends, place = [], count
    while place:
        ends.append(place)
        place = best[place][2]
    return int(total) + largest, ends[::-1]


class _Piece:
    """Calls that follow one another, run as one function of what they read."""

    def __init__(self, part: Sequence[_Call], read_behind: set[_Slot], again: bool):
        written = [slot for each in part for slot in each.written]
        self.reads = [
            slot for slot in dict.fromkeys(slot for each in part for slot in each.read) if slot not in set(written)
        ]
        self.gives = [slot for slot in written if slot in read_behind]
        self._run = _Run(part, self.reads, self.gives)
        self._again = again
        layers = [each.layer for each in part if isinstance(each.layer, keras.layers.Layer)]
        own = {id(variable): variable for layer in layers for variable in layer.trainable_variables}
        every = {id(variable): variable for layer in layers for variable in layer.variables}
        self._trained = list(own.values())
        self._fixed = [variable for key, variable in every.items() if key not in own]

    def run(self, values: dict[_Slot, Any]) -> dict[_Slot, Any]:
        """What later pieces read of this one; its layers' statistics are updated."""
        maps = [values[slot] for slot in self.reads]
        outputs = self._run_again(maps) if self._again else self._run(maps, training=True)
        return dict(zip(self.gives, outputs, strict=True))

    def _run_again(self, maps: list[Any]) -> list[Any]:
        # The second run must neither move statistics and seeds nor see them moved: both runs are functions of values.
        with AutocastScope(None):
            fixed = [(variable, tensor_of(variable)) for variable in self._fixed]
            trained = [tensor_of(variable) for variable in self._trained]
        moved: list[keras.Variable] = []

        def function(*tensors: Any) -> list[Any]:
            given, kernels = tensors[: len(maps)], tensors[len(maps) :]
            before = [*fixed, *zip(self._trained, kernels, strict=True)]
            # Variables are told and read as they are stored, whatever the model around reads its own in.
            with AutocastScope(None), keras.StatelessScope(before, collect_losses=True) as scope:
                outputs = self._run(list(given), training=True)
                if scope.losses:
                    raise ValueError(
                        "a layer of the model adds to the loss what it made of its maps, which can't be computed "
                        "again: train without recompute=True (--recompute)"
                    )
                after = [(variable, value, scope.get_current_value(variable)) for variable, value in fixed]
            changed = [(variable, new) for variable, old, new in after if new is not old]
            moved[:] = [variable for variable, _ in changed]
            return [*outputs, *(ops.stop_gradient(new) for _, new in changed)]

        results = keras.remat(function)(*maps, *trained)
        for variable, value in zip(moved, results[len(self.gives) :], strict=True):
            variable.assign(value)
        return results[: len(self.gives)]


class _Run(keras.layers.Layer):
    """What runs calls, and tells layers within layers what they are run for, as Keras's own model would."""

    def __init__(self, part: Sequence[_Call], reads: Sequence[_Slot], gives: Sequence[_Slot]):
        super().__init__(name="piece", dtype="float32", autocast=False)
        # In a function, so that Keras doesn't count the layers as this one's.
        self._program = lambda: (part, reads, gives)

    def call(self, maps: list[Any], training: bool | None = None) -> list[Any]:
        part, reads, gives = self._program()
        values = dict(zip(reads, maps, strict=True))
        for each in part:
            each.run(values)
        return [values[slot] for slot in gives]
