"""Losses, optimizers and learning-rate schedules by name. Importing this imports no Keras: a command lists them.

`settings` are the records `Loss`, `Schedule` and `Optimization` of `keras_deeplab.training.settings`.
"""

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

    return Poly(learning_rate, steps, power=settings.power, warmup_steps=settings.warmup_steps)


# (settings, learning rate at the start, steps of the run) -> keras.optimizers.schedules.LearningRateSchedule
SCHEDULES: Registry[Callable[[Any, float, int], Any]] = Registry("schedule", poly=poly)


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

    return keras.optimizers.SGD(schedule, momentum=settings.momentum)


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
