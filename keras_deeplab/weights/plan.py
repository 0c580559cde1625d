"""What a checkpoint is: the record of its network, and how its arrays become the network's variables."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_deeplab._helpers.unallocated import unallocated
from keras_deeplab.backbones import BACKBONES
from keras_deeplab.heads.flavours import FLAVOURS
from keras_deeplab.specs import ALIGN_CORNERS, HALF_PIXEL_CENTERS, ModelSpec
from keras_deeplab.weights.assign import assign
from keras_deeplab.weights.beside import Beside
from keras_deeplab.weights.names import Dialect, renamed, their_name, translate

# The layers whose width is the number of classes; lite R-ASPP adds up the scores of two.
_CLASS_LAYERS = (r"(auxiliary_)?logits(_\d+)?", r"decoder_conv0|feature_projection0")
# The first layer with a kernel of the backbones here; of others the network is asked, which takes longer.
FIRST_LAYERS = (
    *("Conv", "Conv1", "conv1", "conv1_1", "conv_stem", "entry_flow_conv1_1", "features_0_0", "layer0_0"),
    *("layer0_conv1", "stem_0", "stage0_rbr_conv_0", "stage0_reparam_conv"),
)


@dataclass(frozen=True)
class Plan:
    """The record of the model that a checkpoint belongs to, and how its arrays become the model's variables.

    Attributes:
        source: key of `SOURCES`.
        spec: what the model is; None for arrays of a backbone alone. `spec.output_stride` is the source's own, and
            `atrous_rates` in its settings are those at that stride. `spec.preprocessing` is what it was trained with.
        rows, dialect: translate names and axes.
        constants: what `rows` needs in the other direction.
        blocks: tells for a layer which blocks of input channels the source concatenates, in its order: (sizes,
            positions of our blocks in it).
        optional: matches the variables that a model may lack.
        undecided: the networks that the arrays fit, each as the settings that they differ in; `"output_stride"` among
            them is not asked about, it goes with the others. Whoever loads them has to say which it is.
        assumed: names of settings that nothing tells, and `spec` has as the source has them where nothing is asked for.
        told: settings that a description beside the arrays says, with what each may be; `spec` has what it says.
        rates_told: whether `spec` has atrous rates that such a description says.
        flat: matches layers whose kernels have two axes at the source, where they are fully connected.
        folded: whether batch norms may be folded into the convolutions before them, as exporters do it.
    """

    source: str
    spec: Any  # `ModelSpec | None`: who asks for one knows that it is there
    rows: tuple
    dialect: Dialect
    constants: dict = field(default_factory=dict)
    blocks: dict = field(default_factory=dict)
    optional: str = ""
    undecided: tuple[dict[str, Any], ...] = ()
    assumed: tuple[str, ...] = ()
    flat: str = ""
    told: dict[str, tuple] = field(default_factory=dict)
    rates_told: bool = False
    beside: Beside = field(default_factory=Beside)
    folded: bool = False

    def at(self, output_stride: int | None) -> ModelSpec:
        """The record at another output stride, where rates reach as many pixels as at the source's; None for its own.

        >>> from keras_deeplab.networks import network
        >>> spec = network("DeepLabV3", "resnet18", num_classes=2, output_stride=8, atrous_rates=(12, 24, 36))
        >>> Plan("torchvision", spec, (), None).at(16).settings["atrous_rates"]
        (6, 12, 18)
        """
        return self.spec if output_stride is None else self.spec.at_output_stride(output_stride)

    def decided(self, settings: Any, label: str) -> Any:
        """The same where `settings` say what the arrays leave open, such as a `backbone`; one of them would be wrong.

        What is asked for counts for more than what a description beside the arrays says.

        Raises:
            ValueError: they don't; the message names the networks that they fit.
        """
        asked = {name: _plain(value) for name, value in settings.items() if says(name, value)}
        chosen = {name: asked[name] for name, candidates in self.told.items() if asked.get(name) in candidates}
        if self.undecided:
            chosen |= self._fitting(asked, label)
        return replace(self.chosen(**chosen), undecided=())

    def _fitting(self, asked, label):
        """The settings of the one network in `undecided` that is asked for."""
        names = [*dict.fromkeys(name for each in self.undecided for name in each if name != "output_stride")]
        fitting = [each for each in self.undecided if all(asked.get(name, each[name]) == each[name] for name in names)]
        if len(fitting) == 1:
            return fitting[0]
        # Whoever says all of it may have trained another one, unless the arrays fit no other.
        if not fitting and all(name in asked for name in names) and not _BUILDS.intersection(names):
            return {}
        open_names = [name for name in names if name not in asked or not fitting]
        ways = dict.fromkeys(
            ", ".join(f"{name}={each[name]!r}" for name in open_names) for each in fitting or self.undecided
        )
        received = ", ".join(f"{name}={asked[name]!r}" for name in names if name in asked)
        raise ValueError(
            f"{label} holds arrays that fit {len(self.undecided)} networks, which compute different things: give "
            f"{' or '.join(ways)} (keras-deeplab convert {', '.join(map(flag, open_names))}), or the folder with the "
            "configuration that was saved beside the weights" + (f"; received {received}." if received else ".")
        )

    def chosen(
        self,
        backbone: Any = None,
        output_stride: int | None = None,
        include_preprocessing: bool | str | None = None,
        **settings: Any,
    ) -> Any:
        """The same with settings of the record as they are given."""
        spec: Any = self.spec if output_stride is None else self.at(output_stride)
        if backbone is not None:
            as_before = spec.preprocessing == BACKBONES[spec.backbone].preprocessing
            preprocessing = BACKBONES[backbone].preprocessing if as_before else spec.preprocessing
            spec = replace(spec, backbone=backbone, preprocessing=preprocessing)
        if include_preprocessing is not None:
            spec = replace(spec, preprocessing=include_preprocessing or None)
        if "align_corners" in settings:
            spec = replace(spec, resize=ALIGN_CORNERS if settings["align_corners"] else HALF_PIXEL_CENTERS)
        kept = {name: value for name, value in settings.items() if name != "resize"}
        return replace(self, spec=replace(spec, settings={**spec.settings, **kept}))

    def taken(self, settings: Any, output_stride: int | None = None) -> Any:
        """`{name: value}` of what is assumed and `settings` don't say; nothing where they say all but the backbone."""
        told = {"output_stride": self.spec.output_stride, "include_preprocessing": self.spec.preprocessing}
        told |= {"align_corners": self.spec.resize == ALIGN_CORNERS, "backbone": self.spec.backbone}
        if self.spec.flavour is not None:
            told["atrous_rates"] = FLAVOURS[self.spec.flavour].atrous_rates
        told |= {name: value for name, value in self.spec.settings.items() if value is not None}
        asked = [name for name, value in {**settings, "output_stride": output_stride}.items() if says(name, value)]
        if self.beside.normalisation is not None:
            asked.append("include_preprocessing")
        taken = {name: told.get(name) for name in self.assumed if name not in asked}
        return {} if set(taken) == {"backbone"} else taken

    def agrees(self, spec: ModelSpec, label: str) -> None:
        """Raises ValueError where a network's record says otherwise than what was told of the arrays, which fit it."""
        for name, candidates in self.told.items():
            own, theirs = getattr(spec, name), getattr(self.spec, name)
            if own in candidates and own != theirs:
                raise ValueError(
                    f"{label} holds weights of {name}={theirs!r}, as its description says. They fit {name}={own!r} as "
                    f"well, which the model has and which computes something else: build it with {name}={theirs!r}."
                )
        if self.rates_told:
            # At another stride either is meant: the same numbers, or as many pixels.
            fitting = [each.settings["atrous_rates"] for each in (self.spec, self.at(spec.output_stride))]
            own = spec.settings.get("atrous_rates")
            if own is None or tuple(own) not in fitting:
                raise ValueError(
                    f"{label} holds weights of atrous_rates={fitting[0]!r}, as its description says, and the model has "
                    f"{'its usual ones' if own is None else tuple(own)}: build it with atrous_rates={fitting[0]!r}."
                )

    def unknown(self, names: Any) -> Any:
        """Of a checkpoint's names those that are of no layer of the plan's, and nothing that may be left out."""
        if not self.rows:
            return []
        left_out = f"{self.dialect.ignored}|{self.optional or '(?!)'}"
        return [
            name
            for name in names
            if not re.fullmatch(left_out, name) and not renamed({name: ()}, self.rows, self.dialect)
        ]

    def with_channels(self, shapes: Any) -> Any:
        """The same, of as many image channels as the first kernel in `{name: shape}` has."""
        paths = renamed(shapes, self.rows, self.dialect) if self.rows else shapes
        kernels = [paths[f"{layer}/kernel"] for layer in FIRST_LAYERS if f"{layer}/kernel" in paths]
        if len(kernels) != 1:
            first = f"{_first_layer(self.spec)}/kernel"
            kernels = [paths[first]] if first in paths else []
        if len(kernels) != 1 or len(kernels[0]) != 4:
            return self  # what is wrong with it, filling the model will say
        axis = 2 if self.dialect.axes is None else self.dialect.axes[0][2]
        return replace(self, spec=replace(self.spec, channels=int(kernels[0][axis])))

    def fill(
        self,
        model: keras.Model,
        arrays: Any,
        label: str,
        fresh_layers: Iterable[str] = (),
        stem: Any = None,
        dry: bool = False,
    ) -> Any:
        """Puts the checkpoint's arrays into a model and returns it; all of them, each exactly once.

        Args:
            arrays: `{name: array}` of the checkpoint.
            label: what they came from, for messages.
            fresh_layers: names of layers that keep their values.
            stem: None, or a function of the arrays by path and the variable of the first convolution's kernel, which
                adapts them to the model's input.
            dry: whether it is only looked whether they fit.
        """
        translated, origins = translate(arrays, self.rows, self.dialect)
        paths = {variable.path for variable in model.weights}
        if self.optional:
            translated = {p: a for p, a in translated.items() if p in paths or not re.fullmatch(self.optional, p)}
        layers = {layer.name: layer for layer in all_layers(model)}
        if self.folded:
            _unfold(translated, model.weights, layers)
        for variable in model.weights:
            if variable.path in translated:
                translated[variable.path] = self.arrange(translated[variable.path], variable, layers)
        if stem is not None:
            kernel = next(variable for variable in model.weights if variable.path.endswith("/kernel"))
            if np.ndim(translated.get(kernel.path)) == 4:
                stem(translated, kernel)
        names = {path: their_name(path, self.rows, self.dialect, **self.constants) for path in paths}
        return assign(model, translated, label, fresh_layers=fresh_layers, names={**names, **origins}, dry=dry)

    def arrange(self, array: np.ndarray, variable: Any, layers: Any, back: bool = False) -> Any:
        """An array of the source's layout in that of a variable of ours; `back` the other way.

        Args:
            layers: the model's layers by name.
        """
        layer, _, leaf = variable.path.rpartition("/")
        if leaf != "kernel":
            return array
        axes = None
        if self.dialect.axes is not None and isinstance(layers[layer], keras.layers.Dense):
            return array.T if array.ndim == 2 else array
        if self.dialect.axes is not None:
            axes = self.dialect.axes[isinstance(layers[layer], keras.layers.DepthwiseConv2D)]
        if back:
            array = self._permute(array, layer, back=True)
            array = array if axes is None else array.transpose(np.argsort(axes))
            return array.reshape(len(array), -1) if self.flat and re.fullmatch(self.flat, layer) else array
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


# Settings of which the arrays fit the candidates alone.
_BUILDS = frozenset({"backbone", "variant"})
_FLAGS = {"include_preprocessing": "normalisation"}


def flag(name: str) -> str:
    """The option of commands for a setting.

    >>> flag("align_corners"), flag("include_preprocessing")
    ('--align-corners', '--normalisation')
    """
    return f"--{_FLAGS.get(name, name).replace('_', '-')}"


def says(name: str, value: Any) -> bool:
    """Whether the value of a setting of `load` says anything: None doesn't, nor does that pixels are normalised."""
    return value is not None and not (name == "include_preprocessing" and value is True)


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


def _first_layer(spec):
    """The name of the first layer with a kernel of the backbone in a record; None where nothing tells."""
    if spec.backbone not in BACKBONES:
        return None
    with unallocated():
        backbone = BACKBONES[spec.backbone].build((None, None, 3), **spec.backbone_settings)
    return next(v.path for v in backbone.variables if v.path.endswith("/kernel")).removesuffix("/kernel")


class Network(dict):
    """`{name: array}` with the `plan` of the model that takes them.

    Names and shapes alone, which tell other checkpoints apart, wouldn't tell it.
    """

    def __init__(self, arrays: Any, plan: Any) -> None:
        super().__init__(arrays)
        self.plan = plan


def _unfold(translated, variables, layers):
    """Adds the batch norms that went into the kernel and the bias before them: identities that add the bias alone.

    Biases of nothing but zeros, which exporters leave out, are there again.
    """
    for variable in variables:
        norm, _, leaf = variable.path.rpartition("/")
        layer = norm.removesuffix("_BN")
        if layer == norm or variable.path in translated or f"{layer}/kernel" not in translated:
            continue
        if leaf == "beta":
            bias = np.zeros(variable.shape, "float32")
            translated[variable.path] = translated.pop(f"{layer}/bias", bias)
            if layers[layer].use_bias:
                translated[f"{layer}/bias"] = bias
        elif leaf in ("gamma", "moving_mean", "moving_variance"):
            value = {"gamma": 1.0, "moving_mean": 0.0, "moving_variance": 1 - layers[norm].epsilon}[leaf]
            translated[variable.path] = np.full(variable.shape, value, "float32")
    for variable in variables:
        layer, _, leaf = variable.path.rpartition("/")
        if leaf == "bias" and f"{layer}/kernel" in translated:
            translated.setdefault(variable.path, np.zeros(variable.shape, "float32"))


def all_layers(model: keras.Model) -> Any:
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


def torch_head(paths: Any, low_level_first: bool = False) -> Any:
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


def class_layers(names: Iterable[str]) -> list[str]:
    """Of names of convolutions those whose filters are the classes.

    >>> class_layers(["aspp0", "logits_1", "logits_2"])
    ['logits_1', 'logits_2']
    """
    names = list(names)
    for pattern in _CLASS_LAYERS:
        found = [name for name in names if re.fullmatch(pattern, str(name))]
        if found:
            return found
    return []
