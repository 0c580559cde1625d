"""The settings of a training run. A further one is a line here: argument, flag, check and configuration follow.

Importing this imports no Keras, so that a command can show its help at once.
"""

from dataclasses import replace
from typing import Any

from keras_deeplab.options import (
    KINDS,
    Factors,
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
from keras_deeplab.training.choices import LOSSES, OPTIMIZERS, SCHEDULES


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

    def checked(self) -> None:
        low, high = self.scale_range
        if low > high:
            raise OptionError(
                "{scale_range} must begin with the smaller scale; received {range}", range=f"{low:g}, {high:g}"
            )


@record
class Loss(Options):
    """What is learnt: a row of `keras_deeplab.training.choices.LOSSES`, and its settings."""

    TITLE = "loss"

    name: str = option("cross_entropy", "what is minimised", name="loss", choices=LOSSES)
    class_weights: Numbers | None = option(None, "weight of each class, by default 1", minimum=0)
    top_k_fraction: float = option(1.0, "share of hardest pixels that are learnt", above=0, maximum=1)
    # torchvision's, whose heads ours are (references/segmentation/train.py).
    auxiliary_weight: float = option(0.5, "weight of the auxiliary output's loss, where the model has one", minimum=0)


@record
class Schedule(Options):
    """How the learning rate falls over a run: a row of `keras_deeplab.training.choices.SCHEDULES`."""

    TITLE = "learning rate"

    name: str = option("poly", "how the learning rate falls", name="schedule", choices=SCHEDULES)
    learning_rate: float | None = option(
        None, "at the start; by default the optimizer's own: 0.007 for sgd, else 0.0005", minimum=0
    )
    power: float = option(0.9, "exponent of the polynomial decay", minimum=0)
    warmup_steps: int = option(0, "steps of linear warm-up", minimum=0)


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
    weight_decay: float | None = option(
        None,
        "of the kernels of dense, ordinary and pointwise convolutions: biases, batch normalisation and depthwise "
        "kernels have none, as in the TF1 code; in the loss, but decoupled with adamw; by default 4e-5, or 0.01 with "
        "adamw",
        minimum=0,
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
    freeze_batch_norm: bool = option(
        False,
        "whether batch normalisation keeps its statistics, scale and offset, for the papers' second stage or batches "
        "under about 8; the layers are saved frozen",
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
    augmentation: Augmentation = nested(Augmentation)
    loss: Loss = nested(Loss)
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
        return self.with_options(**changes)

    def to_json(self) -> dict[str, Any]:
        """What a run depends on, as `config.json` has it."""
        values = super().to_json()
        if not isinstance(self.optimization.optimizer, str):
            import keras

            serialized = keras.saving.serialize_keras_object(self.optimization.optimizer)
            # Keras numbers names afresh in every process.
            serialized["config"].pop("name")
            values["optimizer"] = plain(serialized)
        return values
