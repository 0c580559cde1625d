"""Losses, optimizers and learning-rate schedules by name. Importing this imports no Keras: a command lists them.

`settings` are the records `Loss`, `Schedule` and `Optimization` of `keras_deeplab.training.settings`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_deeplab.registry import Registry


def cross_entropy(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.SparseCategoricalCrossentropy` of a run."""
    from keras_deeplab.training.losses import SparseCategoricalCrossentropy

    return SparseCategoricalCrossentropy(ignore_label, settings.class_weights, settings.top_k_fraction)


# (settings, ignored label) -> function from labels (B, H, W) and logits (B, H, W, C) to a number
LOSSES: Registry[Callable[[Any, int], Any]] = Registry("loss", cross_entropy=cross_entropy)


def poly(settings: Any, learning_rate: float, steps: int) -> Any:
    """`keras_deeplab.training.schedules.Poly` of a run."""
    from keras_deeplab.training.schedules import Poly

    end = settings.end_learning_rate
    return Poly(learning_rate, steps, power=settings.power, end_learning_rate=end, **_warmup(settings))


def cosine(settings: Any, learning_rate: float, steps: int) -> Any:
    """`keras_deeplab.training.schedules.Cosine` of a run."""
    from keras_deeplab.training.schedules import Cosine

    return Cosine(learning_rate, steps, end_learning_rate=settings.end_learning_rate, **_warmup(settings))


def step(settings: Any, learning_rate: float, steps: int) -> Any:
    """`keras_deeplab.training.schedules.Step` of a run."""
    from keras_deeplab.training.schedules import Step

    every = settings.decay_every or max(1, math.ceil(steps / 3))
    return Step(learning_rate, every, decay_factor=settings.decay_factor, **_warmup(settings))


def constant(settings: Any, learning_rate: float, steps: int) -> Any:
    """`keras_deeplab.training.schedules.Constant` of a run."""
    from keras_deeplab.training.schedules import Constant

    return Constant(learning_rate, **_warmup(settings))


def _warmup(settings: Any) -> dict[str, Any]:
    return {"warmup_steps": settings.warmup_steps, "warmup_factor": settings.warmup_factor}


# (settings, learning rate at the start, steps of the run) -> keras.optimizers.schedules.LearningRateSchedule
SCHEDULES: Registry[Callable[[Any, float, int], Any]] = Registry(
    "schedule", poly=poly, cosine=cosine, step=step, constant=constant
)


@dataclass(frozen=True)
class OptimizerRow:
    """An optimizer by its name.

    Attributes:
        make: (learning-rate schedule, settings) -> keras.optimizers.Optimizer, without weight decay of its own.
        learning_rate, weight_decay: where none is given.
        decoupled: whether weights shrink by `learning rate * weight_decay` of themselves; otherwise
            `weight_decay / 2 * sum(kernel^2)` is in the loss.
    """

    make: Callable[[Any, Any], Any]
    learning_rate: float
    weight_decay: float
    decoupled: bool = False


def _sgd(schedule: Any, settings: Any) -> Any:
    import keras

    return keras.optimizers.SGD(schedule, momentum=settings.momentum, nesterov=settings.nesterov)


def _adam(schedule: Any, settings: Any) -> Any:
    import keras

    return keras.optimizers.Adam(schedule)


# 0.007 is DeepLab v3's, for batches of 16 (section 4); 4e-5 the TF1 code's.
OPTIMIZERS: Registry[OptimizerRow] = Registry(
    "optimizer",
    sgd=OptimizerRow(_sgd, 0.007, 4e-5),
    adam=OptimizerRow(_adam, 0.0005, 4e-5),
    adamw=OptimizerRow(_adam, 0.0005, 0.01, decoupled=True),
)
