"""The network that `keras-deeplab train` trains: options to a builder of the package, a published model or a file."""

import inspect
from typing import TYPE_CHECKING, Any

import keras_deeplab
from keras_deeplab.options import Integers, OptionError, Options, near, option, record

if TYPE_CHECKING:
    import keras

    from keras_deeplab.data.source import Source

BUILDERS = {name.lower(): name for name in keras_deeplab.__all__ if name.startswith("DeepLab")}
DEFAULT = "deeplabv3plus"


@record
class Network(Options):
    """What the network is. None leaves it to the builder, the published model or the file of weights."""

    TITLE = "model"

    model: str | None = option(
        None, f"{', '.join(BUILDERS)}, or a published model (see the command models); by default {DEFAULT}"
    )
    weights: str | None = option(
        None,
        "checkpoint to start from instead, with its network; of one with other classes all but the last layer is kept. "
        "Beside model, a checkpoint of that network, such as of its first stage",
        metavar="CHECKPOINT",
    )
    backbone: str | None = option(None, "registered backbone; by default the model's own, such as mobilenet_v2")
    output_stride: int | None = option(
        None, "stride of the features: 8, 16 or 32; by default that of the weights or of the model", minimum=1
    )
    flavour: str | None = option(None, "whose head it is: tf, torchvision, vainf, ...")
    atrous_rates: Integers | None = option(None, "dilation rates of the pyramid", minimum=1)
    multi_grid: Integers | None = option(None, "unit rates of the deepest stage's convolutions", minimum=1)
    variant: str | None = option(None, "how v1's fc6 is a convolution: 7x7, 4x4, 4x4_large or large_fov")
    cascade_blocks: int | None = option(None, "replicas of the last block, instead of v3's pyramid", minimum=0)
    auxiliary_head: bool | None = option(None, "whether v3 has a second output, for training")
    binary: bool = option(False, "whether one logit tells the second class of two from the first")
    backbone_weights: str | None = option(
        None, "imagenet (downloaded), or the path of ImageNet weights", metavar="FILE"
    )

    def checked(self) -> None:
        if self.weights is not None:
            for name in ("backbone_weights",) if self.model is not None else ("backbone", "backbone_weights"):
                if getattr(self, name) is not None:
                    raise OptionError(f"{{weights}} holds the backbone too: give it or {{{name}}}, not both")

    def build(self, source: "Source") -> "keras.Model":
        """The model for a data set, with its classes and colours in the record."""
        if self.binary and source.num_classes != 2:
            raise OptionError(
                "{binary} is for data of two classes; {data} has {count} ({names})",
                data=source.name,
                count=str(source.num_classes),
                names=", ".join(source.classes),
            )
        asked = {name: value for name, value in self.given().items() if name not in ("model", "weights", "binary")}
        asked["num_classes"] = 1 if self.binary else source.num_classes
        if source.channels != 3:
            asked["input_shape"] = (None, None, source.channels)
        if self.weights is None:
            return self._fresh(source, asked)
        if self.model is None:
            return self._loaded(source, asked)
        return self._fresh(source, {**asked, "weights": self.weights})

    def _fresh(self, source: "Source", asked: dict[str, Any]) -> "keras.Model":
        from keras_deeplab.published import MODELS

        name = self.model or DEFAULT
        if name in BUILDERS:
            builder = getattr(keras_deeplab, BUILDERS[name])
            _refuse_others(name, builder, asked)
            return builder(**asked, classes=source.classes_spec)
        if name not in MODELS:
            raise OptionError(
                "{model} must be one of {known}, or a published model; received {name}{hint}",
                known=", ".join(BUILDERS),
                name=name,
                hint=near(name, [*BUILDERS, *MODELS]),
            )
        if "backbone" in asked:
            raise OptionError("{model} {name} has a backbone of its own: leave {backbone} out", name=name)
        _refuse_others(name, getattr(keras_deeplab, str(MODELS[name].spec.builder)), asked)
        return keras_deeplab.build(name, **asked, classes=source.classes_spec)

    def _loaded(self, source: "Source", asked: dict[str, Any]) -> "keras.Model":
        return keras_deeplab.load(self.weights, classes=source.classes_spec, **asked)


def _refuse_others(name: str, builder: Any, asked: dict[str, Any]) -> None:
    """Raises OptionError for an option that the builder has no argument for."""
    takes = inspect.signature(builder).parameters
    for option_name in asked:
        if option_name not in takes:
            known = [each for each in Network.__dataclass_fields__ if each in takes and each != "weights"]
            raise OptionError(
                f"{{{option_name}}} is no option of {{name}}, which takes "
                + ", ".join(f"{{{each}}}" for each in known),
                name=name,
            )
