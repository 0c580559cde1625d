"""Checkpoints of other code: their names beside ours in one table, read in both directions, and their axes.

A source is a file of rules, one row a kind of layer. Names in the rows have fields for what varies::

    ("backbone.layer{stage}.{unit}.conv{n}", "layer{stage}_{unit}_conv{n}")
    ("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")

`{unit}` is a number, `{block:2-17}` one of that range, `{block-1}` one less, `{part:expand|project}` what the regular
expression behind the colon matches; what a field may be is written down on one side. Reading a checkpoint takes a row
from left to right, writing one from right to left.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_deeplab.backbones import BACKBONES
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.readers.torch import without_wrappers

_FIELD = re.compile(r"\{([a-z]+)([+-]\d+)?(?::([^}]+))?\}")


def rename(name, rows, back=False, **constants):
    """A name of the left column to that of the right one, or None where no row fits; `back` the other way.

    Args:
        rows: pairs of names with fields. The first that fits counts.
        constants: values of fields that stand on one side only.

    >>> rename("features.3.conv.0.0", [("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")])
    'block_2_expand'
    >>> rename("block_2_expand", [("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")], back=True)
    'features.3.conv.0.0'
    >>> rename("block_17_expand", [("features.{block:2-17}.conv.0.0", "block_{block-1}_expand")], back=True)
    """
    for theirs, ours in rows:
        source, target = (ours, theirs) if back else (theirs, ours)
        pattern, shifts = _compile(source, target)
        found = pattern.fullmatch(name)
        if found is None:
            continue
        fields = dict(constants)
        for key, value in found.groupdict().items():
            fields[key] = str(int(value) - shifts[key]) if shifts[key] else value
        return _fill(target, fields)
    return None


def _fill(template, fields):
    def value(found):
        key, shift, _ = found.groups()
        return str(int(fields[key]) + int(shift)) if shift else fields[key]

    return _FIELD.sub(value, template)


@functools.cache
def _compile(template, other):
    """A regular expression for names of a template, and its fields' shifts; what a field may be, one side tells."""
    kinds = {found[1]: found[3] for found in (*_FIELD.finditer(other), *_FIELD.finditer(template)) if found[3]}
    pattern, shifts, start = "", {}, 0
    for found in _FIELD.finditer(template):
        key, shift = found[1], int(found[2] or 0)
        literal = re.escape(template[start : found.start()])
        pattern += literal + (f"(?P={key})" if key in shifts else f"(?P<{key}>{_kind(kinds.get(key), shift)})")
        shifts[key] = shift
        start = found.end()
    return re.compile(pattern + re.escape(template[start:])), shifts


def _kind(kind, shift):
    if kind is None:
        return "[0-9]+"
    span = re.fullmatch(r"(\d+)-(\d+)", kind)
    if span:
        return "|".join(str(value + shift) for value in range(int(span[1]), int(span[2]) + 1))
    if re.fullmatch(r"\d+(\|\d+)*", kind):
        return "|".join(str(int(value) + shift) for value in kind.split("|"))
    return kind


def rows(table, theirs="", ours=""):
    """A table of (their convolution, their batch norm or None, our layer) to pairs of names.

    Args:
        theirs: what stands before the names of the first two columns.
        ours: what stands before those of the third.
    """
    pairs = []
    for convolution, batch_norm, layer in table:
        pairs.append((theirs + convolution, ours + layer))
        if batch_norm is not None:
            pairs.append((theirs + batch_norm, f"{ours}{layer}_BN"))
    return pairs


@dataclass(frozen=True)
class Dialect:
    """How a framework names the variables of a layer, and orders their axes.

    `leaves` are triples: the end of their name, the end of a Keras variable's path, and what the layer's name ends
    with in between (`""` for anything but `_BN`). `ignored` matches names that belong to the training. `axes` are
    those of their convolution kernels, of their depthwise kernels, as the positions of ours in theirs; None where
    they are Keras's own.
    """

    leaves: tuple
    ignored: str
    axes: tuple | None = None
    counter: str | None = None


TORCH = Dialect(
    leaves=(
        (".weight", "/kernel", ""),
        (".bias", "/bias", ""),
        (".weight", "/gamma", "_BN"),
        (".bias", "/beta", "_BN"),
        (".running_mean", "/moving_mean", "_BN"),
        (".running_var", "/moving_variance", "_BN"),
    ),
    ignored=r".*\.num_batches_tracked",
    axes=((2, 3, 1, 0), (2, 3, 0, 1)),
    counter=".num_batches_tracked",
)


KERAS = Dialect(
    leaves=(
        ("/depthwise_kernel", "/kernel", "depthwise"),
        ("/kernel", "/kernel", ""),
        ("/bias", "/bias", ""),
        ("/gamma", "/gamma", "_BN"),
        ("/beta", "/beta", "_BN"),
        ("/moving_mean", "/moving_mean", "_BN"),
        ("/moving_variance", "/moving_variance", "_BN"),
    ),
    ignored=r"(training|optimizer_weights)/.*|.*/(iteration|learning_rate)",
)


def translate(arrays, rows, dialect):
    """`{their name: array}` to `({variable path: array}, {variable path: their name})`, axes as they are.

    Names that follow no row stay as they are, names that belong to the training are left out.

    Raises:
        ValueError: two names stand for one variable and their arrays differ.
    """
    translated, origins = {}, {}
    for name, array in arrays.items():
        if re.fullmatch(dialect.ignored, name):
            continue
        path = _path(name, rows, dialect) or name
        array = np.asarray(array)
        if path in translated and not (
            array.shape == translated[path].shape and np.array_equal(array, translated[path], equal_nan=True)
        ):
            raise ValueError(
                f"{origins[path]!r} and {name!r} are two names of one tensor, and their values differ. A file that "
                "its own code wrote holds the same values under both."
            )
        translated[path] = array
        origins.setdefault(path, name)
    return translated, origins


def _path(name, rows, dialect):
    for theirs, ours, ending in dialect.leaves:
        if name.endswith(theirs):
            layer = rename(name.removesuffix(theirs), rows)
            if layer is not None and _ends(layer, ending):
                return layer + ours
    return None


def renamed(shapes, rows, dialect):
    """`{their name: shape}` to `{variable path: shape}`, axes as they are; without the names that follow no row."""
    paths = {_path(name, rows, dialect): shape for name, shape in shapes.items()}
    paths.pop(None, None)
    return paths


def their_name(path, rows, dialect, **constants):
    """The name that a variable of this path has in a checkpoint; None where no row fits."""
    for theirs, ours, ending in dialect.leaves:
        layer = path.removesuffix(ours)
        if layer != path and _ends(layer, ending):
            scope = rename(layer, rows, back=True, **constants)
            if scope is not None:
                return scope + theirs
    return None


def _ends(layer, ending):
    return layer.endswith(ending) if ending else not layer.endswith("_BN")


@dataclass(frozen=True)
class Plan:
    """The model that a checkpoint belongs to, and how its arrays become the model's variables.

    `builder` makes it from the registered backbone, with `settings`; `backbone_settings` go to the backbone's builder.
    `output_stride` is the source's own, `rates` the dilation rates at that stride, whose reach in pixels stays where
    another stride is asked for; None leaves them to the builder. `rows` and `dialect` translate names and axes,
    `constants` are what `rows` needs in the other direction. `blocks` tells for a layer which blocks of input
    channels the source concatenates, in its order: (sizes, positions of our blocks in it). `preprocessing` is the
    source's normalisation where it isn't the backbone's. `optional` matches the variables that a model may lack,
    `class_layers` the layers whose width is the number of classes.
    """

    source: str
    builder: Callable
    backbone: str
    num_classes: int
    rows: tuple
    dialect: Dialect
    settings: dict = field(default_factory=dict)
    backbone_settings: dict = field(default_factory=dict)
    output_stride: int = 16
    rates: tuple | None = None
    constants: dict = field(default_factory=dict)
    blocks: dict = field(default_factory=dict)
    preprocessing: str | None = None
    optional: str = ""
    class_layers: str = r"(auxiliary_)?logits(_\d+)?"

    def build(self, *, output_stride, input_shape, include_preprocessing=True, **settings):
        settings = {**self.settings, **settings}
        backbone = settings.pop("backbone", self.backbone)
        if self.backbone_settings and backbone == self.backbone:
            backbone = BACKBONES[backbone].build(input_shape, **self.backbone_settings)
        if self.rates is not None:
            rates = tuple(round(rate * self.output_stride / output_stride) for rate in self.rates)
            settings.setdefault("atrous_rates", rates)
        if include_preprocessing is True and self.preprocessing is not None:
            include_preprocessing = self.preprocessing
        return self.builder(
            backbone,
            output_stride=output_stride,
            input_shape=input_shape,
            include_preprocessing=include_preprocessing,
            **settings,
        )

    def fill(self, model, arrays, label, fresh_layers=(), stem=None):
        """Puts the checkpoint's arrays into a model and returns it; all of them, each exactly once.

        Args:
            arrays: `{name: array}` of the checkpoint.
            label: what they came from, for messages.
            fresh_layers: names of layers that keep their values.
            stem: None, or a function of the arrays by path and the variable of the first convolution's kernel, which
                adapts them to the model's input.
        """
        translated, origins = translate(arrays, self.rows, self.dialect)
        paths = {variable.path for variable in model.weights}
        if self.optional:
            translated = {p: a for p, a in translated.items() if p in paths or not re.fullmatch(self.optional, p)}
        layers = {layer.name: layer for layer in all_layers(model)}
        for variable in model.weights:
            if variable.path in translated:
                translated[variable.path] = self.arrange(translated[variable.path], variable, layers)
        if stem is not None:
            kernel = next(variable for variable in model.weights if variable.path.endswith("/kernel"))
            if np.ndim(translated.get(kernel.path)) == 4:
                stem(translated, kernel)
        names = {path: their_name(path, self.rows, self.dialect, **self.constants) for path in paths}
        return assign(model, translated, label, fresh_layers=fresh_layers, names={**names, **origins})

    def arrange(self, array, variable, layers, back=False):
        """An array of the source's layout in that of a variable of ours; `back` the other way.

        Args:
            layers: the model's layers by name.
        """
        layer, _, leaf = variable.path.rpartition("/")
        if leaf != "kernel":
            return array
        axes = None
        if self.dialect.axes is not None:
            axes = self.dialect.axes[isinstance(layers[layer], keras.layers.DepthwiseConv2D)]
        if back:
            array = self._permute(array, layer, back=True)
            return array if axes is None else array.transpose(np.argsort(axes))
        if axes is not None:
            array = _unflatten(array, tuple(variable.shape))
            if array.ndim == 4:
                array = array.transpose(axes)
        return self._permute(array, layer)

    def _permute(self, array, layer, back=False):
        if layer not in self.blocks or array.ndim != 4:
            return array
        sizes, order = self.blocks[layer]
        if sum(sizes) != array.shape[2]:
            return array  # of another shape, as will be said
        if back:
            sizes, order = [sizes[place] for place in order], np.argsort(order)
        parts = np.split(array, np.cumsum(sizes)[:-1], axis=2)
        return np.concatenate([parts[place] for place in order], axis=2)


def all_layers(model):
    """The layers of a model and of the models in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def _unflatten(array, shape):
    """A fully connected layer's (out, in) as the convolution that sees the same pixels, (out, channels, h, w)."""
    if array.ndim == 2 and len(shape) == 4 and array.shape == (shape[3], shape[0] * shape[1] * shape[2]):
        return array.reshape(shape[3], shape[2], shape[0], shape[1])
    return array


def torch_head(paths, low_level_first=False):
    """What a torch checkpoint's head tells of itself, for a `Plan`.

    Args:
        paths: `{variable path: shape of the array}`.
        low_level_first: whether the decoder concatenates the finer map before the coarse one.

    Returns:
        (number of classes or None, settings for the builder, `Plan.blocks`)
    """
    filters = paths["aspp0/kernel"][0]
    for layer in ("concat_projection", "feature_projection0", "logits"):
        shape = paths.get(f"{layer}/kernel", (0,) * 4)
        if len(shape) != 4:
            raise ValueError(f"the kernel of {layer!r} has the shape {shape}; a convolution's has four axes")
    branches = len([path for path in paths if re.fullmatch(r"(aspp\d+(_pointwise)?|image_pooling)/kernel", path)])
    settings = {"filters": filters}
    # The image-level feature comes last there, first here.
    blocks = {"concat_projection": ((filters,) * branches, (branches - 1, *range(branches - 1)))}
    if "feature_projection0/kernel" in paths:
        low_level_filters = settings["low_level_filters"] = paths["feature_projection0/kernel"][0]
        if low_level_first:
            for part in ("", "_depthwise", "_pointwise"):
                blocks[f"decoder_conv0{part}"] = (low_level_filters, filters), (1, 0)
    return paths.get("logits/kernel", (None,))[0], settings, blocks


# What training scripts put a model's state under.
_WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model", "net")


def unwrap(mapping):
    """The names and arrays inside of what a training script saved, the names as the model's own code gives them.

    Without the `module.` of a model that was trained on several devices and the `_orig_mod.` of a compiled one, and in
    Keras's files without `:0` and a layer's name that stands there twice.

    >>> import numpy as np
    >>> list(unwrap({"epoch": 3, "state_dict": {"module.conv1.weight": np.zeros(2)}}))
    ['conv1.weight']
    >>> list(unwrap({"Conv/Conv/kernel:0": np.zeros(2)}))
    ['Conv/kernel']
    """
    for key in _WRAPPERS:
        if isinstance(mapping.get(key), Mapping):
            return unwrap(mapping[key])
    mapping = without_wrappers(mapping)
    if any(str(name).endswith(":0") for name in mapping):
        mapping = {re.sub(r"^([^/]+)/\1/", r"\1/", name.removesuffix(":0")): array for name, array in mapping.items()}
    return mapping
