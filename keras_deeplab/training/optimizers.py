"""The optimizer of a run: Keras's own, with a learning-rate factor and a weight decay of its own for each variable."""

import functools
import re
from collections.abc import Sequence
from typing import Any, cast

import keras
from keras import ops

from keras_deeplab._helpers.private import copy_weight_decay_exclusions, schedule_of, variable_index
from keras_deeplab.options import OptionError
from keras_deeplab.specs.model import inner_layers
from keras_deeplab.training.choices import OPTIMIZERS, SCHEDULES
from keras_deeplab.training.objective import head_variables
from keras_deeplab.training.settings import Optimization, TrainSettings


def make_optimizer(model: keras.Model, settings: TrainSettings) -> keras.optimizers.Optimizer:
    """The optimizer of a run for the trainable variables of a model, built.

    Args:
        model: whose variables it will change.
        settings: of the run, resolved: its steps, learning rate and weight decay are known.

    Raises:
        ValueError: a multiplier is of no variable, or nothing tells which variables are the head's.
    """
    own, variables = settings.optimization, model.trainable_variables
    decays, decoupled = [0.0] * len(variables), False
    if isinstance(own.optimizer, str):
        row = OPTIMIZERS[own.optimizer]
        rate = cast(float, settings.schedule.learning_rate)  # of resolved settings
        schedule = SCHEDULES[settings.schedule.name](settings.schedule, rate, settings.total_steps)
        given = row.make(schedule, own)
        decoupled = row.decoupled
        decayed = {id(variable) for variable in (variables if own.decayed == "all" else _decayed(model))}
        decays = [float(own.weight_decay or 0.0) if id(variable) in decayed else 0.0 for variable in variables]
    else:
        given = own.optimizer
    scaling = None
    if isinstance(given, keras.optimizers.LossScaleOptimizer):
        scaling, given = given.get_config(), given.inner_optimizer
        scaling.pop("inner_optimizer")
    # A fresh copy: one that has been used would bring its momentum and step count with it.
    optimizer = _grouped(cast(Any, type(given))).from_config(given.get_config() | _shared_by_all(given, own))
    copy_weight_decay_exclusions(given, optimizer)
    optimizer.factors, optimizer.decays, optimizer.decoupled = _factors(model, own), decays, decoupled
    if scaling is not None or any(layer.compute_dtype == "float16" for layer in inner_layers(model)):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, **(scaling or {}))
    optimizer.build(variables)
    return optimizer


def unscaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that takes the steps, within one that scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def scheduled_rate(optimizer: keras.optimizers.Optimizer, step: int) -> float | None:
    """The learning rate that a schedule gives a step (counted from 1); None where the rate is a variable.

    It reads no variable: JAX lacks them while an epoch runs.
    """
    schedule = schedule_of(unscaled(optimizer))
    if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(schedule(step - 1))


def _shared_by_all(optimizer: keras.optimizers.Optimizer, settings: Optimization) -> dict[str, Any]:
    """The settings that every optimizer of Keras has, as its configuration has them; an instance keeps its own."""
    if not isinstance(settings.optimizer, str):
        return {}
    accumulated = settings.gradient_accumulation_steps
    shared: dict[str, Any] = {"gradient_accumulation_steps": accumulated if accumulated > 1 else None}
    shared["global_clipnorm"] = settings.global_clipnorm
    if settings.ema_momentum is not None:
        # Keras averages after every batch, and the weights change after `accumulated` of them.
        shared |= {"use_ema": True, "ema_momentum": settings.ema_momentum ** (1.0 / accumulated)}
    return shared


@functools.cache
def _grouped(base: Any) -> Any:
    """A class of Keras's optimizers to one of the same updates, with factors and decays by variable."""

    class Grouped(base):
        """Attributes, lists over the variables that it is built with:

        factors: what the learning rate is multiplied by.
        decays: of weights: `decay * variable` is added to the gradient, which is that of `decay / 2 * variable^2` in
            the loss; or with `decoupled` the variable shrinks by `learning rate * decay` of itself (AdamW).
        """

        factors: Sequence[float]
        decays: Sequence[float]
        decoupled: bool

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            index = variable_index(self, variable)
            factor, decay = self.factors[index], self.decays[index]
            if factor != 1.0:
                learning_rate = learning_rate * factor
            if decay and self.decoupled:
                self.assign_sub(variable, variable * ops.cast(learning_rate, variable.dtype) * decay)
            elif decay:
                gradient = gradient + decay * variable
            super().update_step(gradient, variable, learning_rate)

        def finalize_variable_values(self, var_list: Any) -> None:
            """Nothing: a fit may be a part of a run, which goes on with the weights and not with their average."""

    Grouped.__name__ = Grouped.__qualname__ = base.__name__
    return Grouped


def _decayed(model: keras.Model) -> list[keras.Variable]:
    """The trainable kernels of convolutions and dense layers, without depthwise ones."""
    depthwise = {id(layer.kernel) for layer in inner_layers(model, keras.layers.DepthwiseConv2D)}
    kernels = [variable for variable in model.trainable_variables if variable.name in ("kernel", "pointwise_kernel")]
    return [variable for variable in kernels if id(variable) not in depthwise]


def _factors(model: keras.Model, settings: Optimization) -> list[float]:
    """The learning-rate factor of each trainable variable."""
    variables, multipliers = model.trainable_variables, settings.learning_rate_multipliers or {}
    head: set[str] = set()
    if settings.head_multiplier != 1.0:
        try:
            head = {variable.path for variable in head_variables(model)}
        except ValueError as error:
            raise OptionError(
                "{head_multiplier}: {why}; or give {learning_rate_multipliers} for their paths", why=str(error)
            ) from error
    factors = [settings.head_multiplier if each.path in head else 1.0 for each in variables]
    used = set()
    for index, variable in enumerate(variables):
        for pattern, factor in multipliers.items():
            if re.search(pattern, variable.path):
                factors[index] = float(factor)
                used.add(pattern)
                break
    unused = set(multipliers) - used
    if unused:
        paths = [variable.path for variable in variables]
        raise ValueError(
            f"learning_rate_multipliers: {sorted(unused)} is found in no variable's path, or only where an earlier "
            f"pattern is. Paths run from {', '.join(paths[:3])} to {', '.join(paths[-3:])}"
        )
    return factors
