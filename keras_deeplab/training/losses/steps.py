"""Losses that change as the training goes: how they learn which step it is.

Such a loss reads a variable, `loss.step`, which is -1 until something counts; then the loss is what it is at the end of
its change. `FollowSteps` sets it to the optimizer's own count before each step, so that a training that goes on from a
checkpoint goes on with the loss that it had.
"""

from typing import Any

import keras


def step_variable() -> keras.Variable:
    """The variable of a loss that changes with the step: an int32 scalar, -1 where nobody counts."""
    return keras.Variable(-1, trainable=False, dtype="int32", aggregation="only_first_replica", name="loss_step")


def step_variables(loss: Any) -> list[keras.Variable]:
    """The step variables of a loss or a list of them, of the losses it sums, and of the one it distils; mostly none."""
    if isinstance(loss, (list, tuple)):
        return list({id(variable): variable for part in loss for variable in step_variables(part)}.values())
    own = getattr(loss, "step", None)
    parts = [*getattr(loss, "losses", ()), *filter(None, [getattr(loss, "loss", None)])]
    return [*([] if own is None else [own]), *(variable for part in parts for variable in step_variables(part))]


@keras.saving.register_keras_serializable("keras_deeplab")
class LossStep(keras.metrics.Metric):
    """Which step a loss is at, as a metric of `model.compile`: so its variables are state that JAX's `fit` passes on.

    On the TensorFlow backend it only shows the step.

    Args:
        loss: a loss; without `step_variables` the metric is always -1.
        name: of the metric.
    """

    def __init__(self, loss: Any = None, name: str = "loss_step") -> None:
        super().__init__(name=name)
        self.steps = step_variables(loss) or [step_variable()]

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: only `FollowSteps` counts, so that an evaluation in between doesn't."""

    def reset_state(self) -> None:
        """Nothing: the step isn't one of the epoch."""

    def result(self) -> Any:
        # Another buffer than the variable's, which JAX's fit gives away.
        return keras.ops.cast(self.steps[0].value, "float32")


class FollowSteps(keras.callbacks.Callback):
    """Before each step, gives a loss the number of steps that the optimizer has taken.

    >>> from keras_deeplab.training.losses import SparseCategoricalCrossentropy
    >>> loss = SparseCategoricalCrossentropy(top_k_fraction=0.25, hard_example_steps=1000)
    >>> compiled, callbacks = {"loss": loss, "metrics": [LossStep(loss)]}, [FollowSteps(loss)]

    goes into `model.compile(optimizer, **compiled)` and `model.fit(data, callbacks=callbacks)`.

    Args:
        loss: the loss that the model is compiled with, or a list of them.
    """

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.variables = step_variables(loss)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self.variables:
            return
        if keras.backend.backend() == "jax":
            self._check_state()
            self.model.jax_state_sync()  # brings the step's values into the model's and the optimizer's variables
        for variable in self.variables:
            # A copy each, for JAX's fit gives the buffers of all variables away.
            variable.assign(keras.ops.copy(keras.ops.cast(self.model.optimizer.iterations, "int32")))

    def _check_state(self) -> None:
        passed_on = {id(variable) for variable in self.model.metrics_variables}
        if not {id(variable) for variable in self.variables} <= passed_on:
            raise ValueError(
                "the loss changes with the step, which JAX's fit only passes on as a metric: give "
                "metrics=[LossStep(loss)] to model.compile"
            )
