"""The settings of a training run. A further one is a line here: argument, flag, check and configuration follow.

Importing this imports no Keras, so that a command can show its help at once.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from keras_deeplab.options import (
    KINDS,
    Factors,
    Kind,
    Numbers,
    OptionError,
    Options,
    Range,
    Size,
    nested,
    option,
    plain,
    record,
)
from keras_deeplab.training.choices import LOSS_OPTIONS, LOSS_SUMS, OPTIMIZERS, SCHEDULES, summed, terms

BATCH_NORMS = ("batch", "calibrated", "frozen")


@record
class Augmentation(Options):
    """How images and masks are varied, as `keras_deeplab.data.pipeline.training` takes it."""

    TITLE = "augmentation"

    scale_range: Range = option((0.5, 2.0), "smallest and largest random scale", above=0)
    scale_step: float = option(0.25, "scales between them come in steps of this, 0 for any", minimum=0)
    flip: bool = option(True, "whether half of the images are mirrored")
    brightness: float = option(0.0, "share by which the brightness varies, e.g. 0.2", minimum=0, maximum=1)
    contrast: float = option(0.0, "likewise the contrast", minimum=0, maximum=1)
    saturation: float = option(0.0, "likewise the saturation", minimum=0, maximum=1)
    hue: float = option(0.0, "share of the circle of colours by which they move, e.g. 0.1", minimum=0, maximum=0.5)
    vertical_flip: bool = option(False, "whether half of the images are turned upside down, for views from above")
    rotation: float = option(0.0, "greatest angle by which images are turned, in degrees", minimum=0, maximum=180)
    cutout: float = option(0.0, "side of a grey rectangle on each image, as a share of its own", minimum=0, maximum=1)
    class_mix: float = option(
        0.0, "probability of an image to get half of the classes of another of its batch", minimum=0, maximum=1
    )
    max_class_share: float = option(
        1.0,
        "below 1, crops are sought in which no class has so much of the labelled pixels, e.g. 0.75",
        above=0,
        maximum=1,
    )

    def checked(self) -> None:
        low, high = self.scale_range
        if low > high:
            raise OptionError(
                "{scale_range} must begin with the smaller scale; received {range}", range=f"{low:g}, {high:g}"
            )


def _loss(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = summed({KINDS[str].check(name): KINDS[float].check(weight) for name, weight in value.items()})
    if isinstance(value, str):
        return summed(terms(value)) if value in LOSS_SUMS else value
    if not callable(value) or not hasattr(value, "get_config"):
        raise TypeError(value)
    return value


_LOSS = Kind(
    "a sum of them such as cross_entropy+0.5*dice or a dict from names to weights, or a keras.losses.Loss",
    _loss,
    spelled="a sum of them such as cross_entropy+0.5*dice",
    metavar="LOSS",
)


def _weights(value: Any) -> Any:
    return value if value == "auto" else KINDS[Numbers].check(value)


_WEIGHTS = Kind(
    "auto, or a list of finite numbers",
    _weights,
    lambda text: text if text == "auto" else KINDS[Numbers].read(text),
    "auto, or finite numbers X,X",
    "auto|X,X,...",
)


@record
class Loss(Options):
    """What is learnt: rows of `keras_deeplab.training.choices.LOSSES` and their settings, or a loss of its own."""

    TITLE = "loss"

    name: Any = option("cross_entropy", "what is minimised", name="loss", kind=_LOSS, choices=LOSS_SUMS)
    class_weights: Any = option(
        None,
        "factor on the pixels of each class, by default 1; auto has them from the pixels of the data, so that rare "
        "classes count more",
        kind=_WEIGHTS,
        minimum=0,
    )
    label_smoothing: float = option(
        0.0,
        "share of a label that is spread over all classes, of cross_entropy and boundary",
        minimum=0,
        below=1,
    )
    top_k_fraction: float = option(
        1.0, "share of hardest pixels that are learnt, of the losses of single pixels", above=0, maximum=1
    )
    hard_example_steps: int = option(0, "steps over which the share falls from 1 to top_k_fraction", minimum=0)
    focal_gamma: float = option(2.0, "how much less well classified pixels count, of focal", minimum=0)
    boundary_weight: float = option(4.0, "by how much more a pixel beside a border counts, of boundary", minimum=0)
    boundary_radius: int = option(5, "pixels from a border on that count more, of boundary", minimum=1)
    loss_per_image: bool = option(
        False, "whether dice, jaccard and lovasz are means over images, not of the batch's pixels together"
    )
    # PSPNet's (Zhao et al. 2017, section 4.2) and mmsegmentation's (configs/_base_/models/deeplabv3plus_r50-d8.py).
    auxiliary_weight: float = option(0.4, "weight of the auxiliary output's loss, where the model has one", minimum=0)

    def checked(self) -> None:
        own = [each for each in fields(self) if each.name not in ("name", "auxiliary_weight")]
        changed = [each.name for each in own if getattr(self, each.name) != each.default]
        if not isinstance(self.name, str):
            if changed:
                raise OptionError(
                    "{" + changed[0] + "} can't be given along with a loss that is already made: give it there"
                )
            return
        read = [LOSS_OPTIONS.get(name) for name in terms(self.name)]
        for name in changed:
            readers = [other for other, reads in LOSS_OPTIONS.items() if name in reads]
            if readers and not any(each is None or name in each for each in read):
                raise OptionError(
                    "{" + name + "} is of {readers}, and {loss} is {own}", readers=", ".join(readers), own=self.name
                )
        if self.hard_example_steps and self.top_k_fraction == 1.0:
            raise OptionError("{hard_example_steps} are those in which {top_k_fraction} is reached: give that too")


@record
class Teaching(Options):
    """How much a teacher counts, where the training has one: see `keras_deeplab.training.losses.Distillation`."""

    TITLE = "teacher"

    weight: float = option(
        0.5, "share of the teacher in the loss, the labels having the rest", name="teacher_weight", minimum=0, maximum=1
    )
    temperature: float = option(
        1.0, "what its logits and the model's are divided by to be compared", name="teacher_temperature", above=0
    )


@record
class Schedule(Options):
    """How the learning rate falls over a run: a row of `keras_deeplab.training.choices.SCHEDULES`."""

    TITLE = "learning rate"

    name: str = option("poly", "how the learning rate falls", name="schedule", choices=SCHEDULES)
    learning_rate: float | None = option(
        None, "at the start; by default the optimizer's own: 0.007 for sgd, else 0.0005", minimum=0
    )
    power: float = option(0.9, "exponent of the polynomial decay", minimum=0)
    end_learning_rate: float = option(0.0, "what poly and cosine reach at the end", minimum=0)
    decay_every: int | None = option(
        None, "steps after which step lowers the rate, and again; by default a third of the run", minimum=1
    )
    decay_factor: float = option(0.1, "what step then multiplies it by", above=0, maximum=1)
    warmup_steps: int = option(0, "steps of linear warm-up", minimum=0)
    warmup_factor: float = option(0.0, "share of the learning rate that it starts from", minimum=0, maximum=1)


def _optimizer(value: Any) -> Any:
    if not isinstance(value, str) and not hasattr(value, "apply"):
        raise TypeError(value)
    return value


_OPTIMIZER = replace(
    KINDS[str], what="a keras.optimizers.Optimizer, with its own learning rate", check=_optimizer, spelled="text"
)


@record
class Optimization(Options):
    """The optimizer: a row of `keras_deeplab.training.choices.OPTIMIZERS`, or one that is made already."""

    TITLE = "optimizer"

    optimizer: Any = option("sgd", "what takes the steps", kind=_OPTIMIZER, choices=OPTIMIZERS)
    momentum: float = option(0.9, "of sgd", minimum=0, below=1)
    nesterov: bool = option(False, "whether sgd looks ahead along it (Nesterov)")
    weight_decay: float | None = option(
        None, "in the loss, but decoupled with adamw; by default 4e-5, or 0.01 with adamw", minimum=0
    )
    decayed: str = option(
        "kernels",
        "what decays: kernels, those of dense, ordinary and pointwise convolutions, as in the TF1 code, where biases, "
        "batch normalisation and depthwise kernels don't; all, every trainable variable, as PyTorch's optimizers do",
        choices=("kernels", "all"),
    )
    gradient_accumulation_steps: int = option(
        1, "steps whose gradients are averaged into one change of the weights: so many times the batch", minimum=1
    )
    global_clipnorm: float | None = option(
        None, "greatest norm of all gradients together, to which they are scaled down", above=0
    )
    ema_momentum: float | None = option(
        None,
        "of a moving average of the weights, such as 0.999, which is what is validated, kept as best and left in the "
        "model at the end; last.keras keeps the weights themselves, to go on from",
        above=0,
        below=1,
    )
    head_multiplier: float = option(
        1.0, "factor on the learning rate of the head's layers, which the model's record tells", above=0
    )
    learning_rate_multipliers: Factors | None = option(
        None,
        "factors on the learning rate of the variables whose path has a match of the regular expression, the first "
        "that has, such as ^backbone=0.1; they go before head_multiplier",
        minimum=0,
        metavar="REGEX=X,...",
    )


@record
class Validation(Options):
    """How whole images are scored between the steps."""

    TITLE = "validation"

    every: int | None = option(
        None,
        "steps between validations, by default ten in a run",
        name="validation_every",
        minimum=1,
        configuration=False,
    )
    limit: int | None = option(
        None, "images of a validation, by default all", name="validation_limit", minimum=1, configuration=False
    )
    input_size: Size | None = option(
        None,
        "what images are padded to in validation, by default not at all",
        name="validation_input_size",
        flag="--input-size",
        configuration=False,
    )


@record
class Checkpointing(Options):
    """When the run is saved."""

    TITLE = "checkpoints"

    every: int = option(
        200,
        "steps between checkpoints; every validation makes one as well",
        name="checkpoint_every",
        minimum=1,
        configuration=False,
    )


@record
class Stopping(Options):
    """When a run ends before its last step."""

    TITLE = "early stopping"

    patience: int | None = option(
        None,
        "validations in a row without a better mean IoU after which the run ends, by default it doesn't",
        minimum=1,
        configuration=False,
    )


@record
class RangeTest(Options):
    """Which learning rates `keras_deeplab.training.find_learning_rate` tries."""

    TITLE = "learning rates to try"

    lowest: float = option(1e-6, "the first", above=0)
    highest: float = option(10.0, "the last, unless the loss explodes before", above=0)
    test_steps: int = option(100, "batches, each with a rate higher by the same factor", minimum=10)

    def checked(self) -> None:
        if self.lowest >= self.highest:
            raise OptionError(
                "{lowest} must be less than {highest}; received {low} and {high}",
                low=f"{self.lowest:g}",
                high=f"{self.highest:g}",
            )


@record
class TrainSettings(Options):
    """All settings of a run; `keras_deeplab.train` takes it, or its options by their names."""

    TITLE = "training"

    steps: int | None = option(None, "batches of the whole run; or epochs", minimum=1)
    epochs: float | None = option(None, "passes over the data, instead of steps", above=0, configuration=False)
    crop_size: Size = option(513, "of the training crops")
    batch_size: int = option(16, "crops in a step", minimum=1)
    batch_norm: str | None = option(
        None,
        "whose statistics normalise: those of each batch; calibrated: those that training data gave new layers "
        "before the first step, or that loaded ones came with, while scale and offset are learnt; frozen: all three "
        "stay, as in the papers' second stage, and the layers are saved frozen. By default batch from 8 crops a step "
        "on, and below calibrated, with gradients clipped to a norm of 1: by the statistics of so few crops a model "
        "learns what it can't do by its moving ones",
        choices=BATCH_NORMS,
        metavar="KIND",
    )
    batch_norm_momentum: float | None = option(
        None,
        "how much of batch normalisation's moving statistics a step keeps; by default the layers' own, but at most "
        "1 - 10 / steps, so that they keep up with a short run: at 30000 steps that is the TF1 code's 0.9997",
        minimum=0,
        below=1,
    )
    seed: int = option(0, "of the order and augmentation of the data")
    jit_compile: bool = option(
        False,
        "whether XLA compiles the step, which makes depthwise convolutions far slower on CPUs",
        configuration=False,
    )
    recompute: bool = option(
        False,
        "whether the network's maps are computed again on the way back instead of kept (gradient checkpointing): about "
        "half of the memory, a step a third longer, the same result but for roundings",
        configuration=False,
    )
    augmentation: Augmentation = nested(Augmentation)
    loss: Loss = nested(Loss)
    teaching: Teaching = nested(Teaching)
    schedule: Schedule = nested(Schedule)
    optimization: Optimization = nested(Optimization)
    validation: Validation = nested(Validation)
    checkpoints: Checkpointing = nested(Checkpointing)
    stopping: Stopping = nested(Stopping)

    def checked(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise OptionError("give {steps} or {epochs}: how long to train" + ", not both" * (self.steps is not None))
        if not isinstance(self.optimization.optimizer, str):
            own = self.optimization
            for name, given in (
                ("learning_rate", self.schedule.learning_rate is not None),
                ("weight_decay", own.weight_decay is not None),
                ("gradient_accumulation_steps", own.gradient_accumulation_steps > 1),
                ("global_clipnorm", own.global_clipnorm is not None),
                ("ema_momentum", own.ema_momentum is not None),
            ):
                if given:
                    raise OptionError(
                        "{" + name + "} can't be given along with an optimizer that is already made: give it there"
                    )
        accumulated = self.optimization.gradient_accumulation_steps
        if self.steps is not None and self.steps % accumulated:
            raise OptionError(
                "{steps} must be a multiple of {gradient_accumulation_steps}, {factor}, or the last of them change no "
                "weight; received {received}",
                factor=str(accumulated),
                received=str(self.steps),
            )
        if self.steps is not None and self.schedule.warmup_steps > self.steps:
            raise OptionError(
                "{warmup_steps} must be at most {steps}, {limit}; received {received}",
                limit=str(self.steps),
                received=str(self.schedule.warmup_steps),
            )

    @property
    def total_steps(self) -> int:
        """Batches of the whole run; of settings that are `resolved`."""
        if self.steps is None:
            raise ValueError("how many steps a run has is known once its settings are resolved for the data")
        return self.steps

    def resolved(self, num_examples: int) -> "TrainSettings":
        """The same with all that depends on data and optimizer filled in: steps, learning rate and weight decay."""
        changes: dict[str, Any] = {}
        if self.steps is None:
            accumulated = self.optimization.gradient_accumulation_steps
            steps = max(1, round((self.epochs or 0.0) * num_examples / self.batch_size / accumulated)) * accumulated
            changes = {"steps": steps, "epochs": None}
        if isinstance(self.optimization.optimizer, str):
            row = OPTIMIZERS[self.optimization.optimizer]
            for name, own, default in (
                ("learning_rate", self.schedule.learning_rate, row.learning_rate),
                ("weight_decay", self.optimization.weight_decay, row.weight_decay),
            ):
                changes[name] = default if own is None else own
        settings = self.filled(**changes)
        # Passes that were asked for are steps that were.
        return settings.with_options(steps=settings.steps) if "epochs" in self.asked() else settings

    def to_json(self) -> dict[str, Any]:
        """What a run depends on, as `config.json` has it; and its recipe, with the options that were changed in it."""
        values = super().to_json()
        if self.preset is not None:
            values |= {"recipe": self.preset.name, "overridden": sorted(self.overridden().keys() & values.keys())}
        for name, value in (("optimizer", self.optimization.optimizer), ("loss", self.loss.name)):
            if not isinstance(value, str):
                import keras

                serialized = keras.saving.serialize_keras_object(value)
                # Keras numbers names afresh in every process.
                serialized["config"].pop("name", None)
                values[name] = plain(serialized)
        return values
