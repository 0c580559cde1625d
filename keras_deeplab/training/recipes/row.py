"""What a recipe is: a network, settings of a run, and the published result that they are of."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from keras_deeplab.options import Preset, options
from keras_deeplab.specs import Classes, class_names
from keras_deeplab.training.recipes.facts import Facts, facts_of
from keras_deeplab.training.settings import TrainSettings


@dataclass(frozen=True)
class Data:
    """What a recipe is meant for: the name of a data set, and its classes, of which perhaps the names are known."""

    name: str
    num_classes: int
    classes: Classes | None = None


VOC = Data("VOC 2012 with SBD's masks", 21, class_names.VOC)
VOC_TRAINVAL = Data("VOC 2012's train and val", 21, class_names.VOC)
CITYSCAPES = Data("Cityscapes", 19, class_names.CITYSCAPES)
ADE20K = Data("ADE20K", 150, class_names.ADE20K_150)
ADE20K_151 = Data("ADE20K with its label 0", 151, class_names.ADE20K)
COCO_VOC = Data("COCO 2017's images with VOC's classes", 21, class_names.VOC)
COCO_STUFF_10K = Data("COCO-Stuff 10k", 182, class_names.COCO_STUFF_182)
COCO_STUFF_182 = Data("COCO-Stuff 164k", 182, class_names.COCO_STUFF_182)
COCO_STUFF_171 = Data("COCO-Stuff 164k", 171, class_names.COCO_STUFF)
CONTEXT = Data("Pascal Context with background", 60, class_names.PASCAL_CONTEXT_60)

# What a recipe that adapts has to know of the options that are given.
_ASKED = ("batch_size", "crop_size", "steps", "epochs", "gradient_accumulation_steps")


@dataclass(frozen=True)
class Recipe:
    """A published training run, or one of this package's own that adapts to its data.

    Attributes:
        name: its key in `RECIPES`.
        network: options of `keras-deeplab train` that say what the network is (`keras_deeplab.cli.network.Network`).
        options: options of `TrainSettings` that it has other than by default.
        data: what it is meant for; None for any.
        figure: the published mean IoU in percent; `""` without one.
        protocol: on what, and how it was scored.
        source: paper with section, or repository with file.
        start: the weights that it starts from there.
        cost: what the source tells of time and memory; `""` for nothing.
        differs: what this package can't do, or doesn't, as the source has it.
        unverified: what no source that was read tells, with what stands here instead.
        after: of one in two stages, the recipe whose last weights it starts from.
        adapt: `Facts` to all its options, of one that adapts; `options` are then what doesn't depend on the data.
    """

    name: str
    network: Mapping[str, Any]
    options: Mapping[str, Any]
    data: Data | None
    figure: str
    protocol: str
    source: str
    start: str = "ImageNet"
    cost: str = ""
    differs: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    after: str | None = None
    adapt: Callable[[Facts], dict[str, Any]] | None = None

    @property
    def settings(self) -> TrainSettings:
        """The settings of its run, for `keras_deeplab.train(settings=)`.

        Raises:
            ValueError: it adapts to data, so that `settings_for` has to be told of some.
        """
        if self.adapt is not None:
            raise ValueError(
                f"the recipe {self.name!r} adapts to its data: its settings_for(source) gives those of a data set"
            )
        return TrainSettings.of(self.preset())

    def settings_for(self, source: Any, **given: Any) -> TrainSettings:
        """The settings of its run on a data set, except for options that are given.

        Args:
            source: a `keras_deeplab.data` source, or `Facts`.
            given: options of `TrainSettings` by their names, which go before the recipe's.

        Raises:
            OptionError: there is no such option, or it has a value that it doesn't take.
        """
        values = self.options
        if self.adapt is not None:
            known = options(TrainSettings)
            asked = {name: known[name].check(given[name]) for name in _ASKED if name in given}
            facts = facts_of(source)
            # What is asked for itself stays as the recipe has it, to tell what was changed in it.
            own = self.adapt(facts)
            values = self.adapt(facts_of(facts, **asked)) | {name: own[name] for name in asked if name in own}
        return TrainSettings.of(self.preset(given, values), **given)

    def preset(self, given: Collection[str] = (), values: Mapping[str, Any] | None = None) -> Preset:
        """Network and settings for `Options.of`, beside the options whose names are given.

        A model or weights of one's own are another network, `steps` and `epochs` one thing. Where there is a stage
        before, the weights are its last ones, for this network.
        """
        found = dict(self.options if values is None else values)
        if {"steps", "epochs"} & set(given):
            found = {name: value for name, value in found.items() if name not in ("steps", "epochs")}
        if "model" in given or ("weights" in given and self.after is None):
            return Preset(self.name, found)
        return Preset(self.name, {**self.network, **found})

    def told(self, settings: TrainSettings) -> str:
        """A line of text: what a run with these settings is, and what was changed in the recipe for it."""
        height, width = settings.crop_size
        text = (
            f"recipe {self.name}: {settings.steps} steps of {settings.batch_size} crops of {height}x{width}, learning "
            f"rate {settings.schedule.learning_rate:g}"
        )
        changed = ", ".join(settings.to_json()["overridden"])
        return f"{text}; changed: {changed}" if changed else text

    def notes(self, source: Any, settings: TrainSettings, *, started: bool) -> list[str]:
        """What someone should hear who runs it on a data set: lines of text.

        Args:
            source: a `keras_deeplab.data` source.
            settings: those of the run, with its steps.
            started: whether weights to start from were given.
        """
        lines = []
        if self.data is not None:
            known, meant = source.classes_spec.names, self.data
            renamed = known is not None and meant.classes is not None and known != meant.classes.names
            if source.num_classes != meant.num_classes or renamed:
                has = f"{source.num_classes} others" if source.num_classes == meant.num_classes else source.num_classes
                lines.append(
                    f"{self.name} is meant for the {meant.num_classes} classes of {meant.name}, and {source.name} has "
                    f"{has}: its published figure says nothing of this run"
                )
        if not started and self.after is not None:
            lines.append(f"{self.name} goes on from {self.after}: give the last.keras of a run of it as weights=")
        elif not started:
            lines.append(
                f"{self.name} starts from weights of {self.start}, and this run from random ones: give "
                "backbone_weights='FILE', or backbone_weights='imagenet' to download some"
            )
        momentum = settings.batch_norm_momentum
        if momentum is not None and settings.batch_norm != "frozen" and (settings.steps or 0) * (1 - momentum) < 5:
            lines.append(
                f"batch_norm_momentum={momentum:g} is the recipe's, for longer runs: after {settings.steps} steps the "
                "statistics are still the first ones in part; batch_norm_momentum='none' takes one that fits"
            )
        return lines
