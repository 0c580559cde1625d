"""Losses, optimizers and learning-rate schedules by name. Importing this imports no Keras: a command lists them.

`settings` are the records `Loss`, `Schedule` and `Optimization` of `keras_deeplab.training.settings`.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_deeplab.registry import Registry


def cross_entropy(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.SparseCategoricalCrossentropy` of a run."""
    from keras_deeplab.training.losses import SparseCategoricalCrossentropy

    return SparseCategoricalCrossentropy(ignore_label, **_of_pixels(settings), label_smoothing=settings.label_smoothing)


def focal(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.Focal` of a run."""
    from keras_deeplab.training.losses import Focal

    return Focal(settings.focal_gamma, ignore_label, **_of_pixels(settings))


def boundary(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.BoundaryCrossentropy` of a run."""
    from keras_deeplab.training.losses import BoundaryCrossentropy

    own = (settings.boundary_weight, settings.boundary_radius)
    return BoundaryCrossentropy(*own, ignore_label, **_of_pixels(settings), label_smoothing=settings.label_smoothing)


def dice(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.Dice` of a run."""
    from keras_deeplab.training.losses import Dice

    return Dice(ignore_label, settings.loss_per_image)


def jaccard(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.Jaccard` of a run."""
    from keras_deeplab.training.losses import Jaccard

    return Jaccard(ignore_label, settings.loss_per_image)


def lovasz(settings: Any, ignore_label: int) -> Any:
    """`keras_deeplab.training.losses.LovaszSoftmax` of a run."""
    from keras_deeplab.training.losses import LovaszSoftmax

    return LovaszSoftmax(ignore_label, settings.loss_per_image)


_PIXELS = ("class_weights", "top_k_fraction", "hard_example_steps")


def _of_pixels(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in _PIXELS}


# (settings, ignored label) -> function from labels (B, H, W) and logits (B, H, W, C) to a number
LOSSES: Registry[Callable[[Any, int], Any]] = Registry(
    "loss", cross_entropy=cross_entropy, focal=focal, boundary=boundary, dice=dice, jaccard=jaccard, lovasz=lovasz
)
# The options of `settings.Loss` that each reads; one that isn't here may read any.
LOSS_OPTIONS: dict[str, tuple[str, ...]] = {
    "cross_entropy": (*_PIXELS, "label_smoothing"),
    "focal": (*_PIXELS, "focal_gamma"),
    "boundary": (*_PIXELS, "label_smoothing", "boundary_weight", "boundary_radius"),
    "dice": ("loss_per_image",),
    "jaccard": ("loss_per_image",),
    "lovasz": ("loss_per_image",),
}


def terms(text: str) -> dict[str, float]:
    """The losses of a sum with their weights.

    Raises:
        ValueError: a weight is no positive number, or a loss is there twice.

    >>> terms("cross_entropy + 0.5*dice")
    {'cross_entropy': 1.0, 'dice': 0.5}
    """
    found: dict[str, float] = {}
    for part in text.split("+"):
        weight, times, name = part.rpartition("*")
        name, factor = name.strip(), float(weight) if times else 1.0
        if name in found or not 0.0 < factor < float("inf"):
            raise ValueError(part)
        found[name] = factor
    return found


def summed(weights: Mapping[str, float]) -> str:
    """The text of a sum of losses, what `terms` reads.

    >>> summed({"cross_entropy": 1, "dice": 0.5})
    'cross_entropy+0.5*dice'
    """
    return "+".join(name if weight == 1 else f"{float(weight)!r}*{name}" for name, weight in weights.items())


class _Sums(Collection[str]):
    """The names of losses as choices of an option, which admits sums of them as well."""

    def __contains__(self, text: object) -> bool:
        try:
            return isinstance(text, str) and all(name in LOSSES for name in terms(text))
        except ValueError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(LOSSES)

    def __len__(self) -> int:
        return len(LOSSES)


LOSS_SUMS = _Sums()


def make_loss(settings: Any, ignore_label: int) -> Any:
    """The loss of a run: the settings' own object, a row of `LOSSES`, or a sum of rows.

    Returns:
        A function from labels (B, H, W) and logits (B, H, W, C) to a number.

    Raises:
        ValueError: `class_weights` is still "auto", or the object ignores another label.
    """
    if settings.class_weights == "auto":
        raise ValueError(
            "class_weights='auto' follows the pixels of each class, which must be counted first: "
            "keras_deeplab.training.class_weights.with_class_weights(settings, source)"
        )
    if not isinstance(settings.name, str):
        theirs = getattr(settings.name, "ignore_label", ignore_label)
        if theirs != ignore_label:
            raise ValueError(
                f"the loss ignores the label {theirs} and the data {ignore_label}: make it with "
                f"ignore_label={ignore_label}"
            )
        return settings.name
    weights = terms(settings.name)
    losses = [LOSSES[name](settings, ignore_label) for name in weights]
    if list(weights.values()) == [1.0]:
        return losses[0]
    from keras_deeplab.training.losses import WeightedSum

    return WeightedSum(losses, list(weights.values()))


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
