"""A learning rate for a training: tried on its first steps, with a rate that grows until the loss explodes.

Smith, "Cyclical Learning Rates for Training Neural Networks" (2017, section 3.3) lets it grow linearly; by a factor a
step, and the tenth of the best rate, are habits of the libraries that came after.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_deeplab import data
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.data.source import Source
from keras_deeplab.reports.charts import Chart, Curve
from keras_deeplab.specs.model import inner_layers
from keras_deeplab.training.settings import RangeTest, TrainSettings
from keras_deeplab.training.trainer import batches, compiled

_BELOW = 10.0  # how much lower than the rate of the lowest loss the suggested one is
_FALL = 0.05  # share of the loss at the beginning that it must fall by


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` saw.

    Attributes:
        rates, losses: the learning rate and the loss of each step, up to the one where the loss exploded.
        smoothed: the losses as `smooth` has them.
        exploded: whether the test ended there, before the highest rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    exploded: bool

    @property
    def smoothed(self) -> tuple[float, ...]:
        return smooth(self.losses)

    @property
    def began(self) -> float:
        """The mean of the first losses, of a twelfth of all."""
        return float(np.mean(self.losses[: len(_triangle(len(self.losses)))]))

    @property
    def lowest(self) -> int:
        """The number of the step of the lowest smoothed loss."""
        return int(np.argmin(self.smoothed))

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate at which the smoothed loss was lowest, to two digits; None where `problem` says why."""
        return None if self.problem else float(f"{self.rates[self.lowest] / _BELOW:.1e}")

    @property
    def problem(self) -> str | None:
        """Why no rate can be told, or None."""
        smoothed = self.smoothed
        first, best = self.began, smoothed[self.lowest]
        if first - best < max(_FALL * first, 5.0 * noise(self.losses)):
            return (
                f"the loss hardly fell: from {first:.4g} to {best:.4g} at best, "
                "which may be chance. Either the model knows the data "
                "already, or it learns too little in so few steps: try more (test_steps), or a greater batch_size"
            )
        if not self.exploded and self.lowest == len(smoothed) - 1:
            return (
                f"the loss was still falling at the highest rate, {self.rates[-1]:.3g}: try greater ones (highest=...)"
            )
        return None

    def told(self) -> str:
        """What was found, in a sentence."""
        if self.problem:
            return f"no learning rate can be suggested: {self.problem}"
        smoothed = self.smoothed
        end = f", and exploded at {self.rates[-1]:.2g}" if self.exploded else ""
        return (
            f"suggested: learning_rate={self.suggestion:g}, a tenth of {self.rates[self.lowest]:.2g}, where the loss "
            f"was lowest ({smoothed[self.lowest]:.4g}; it began at {self.began:.4g}{end})"
        )

    def chart(self) -> Chart:
        """The curve of the loss over the learning rate; a line stands at the suggested one."""
        curves = [
            Curve("smoothed", list(zip(self.rates, self.smoothed, strict=True))),
            Curve("each step", list(zip(self.rates, self.losses, strict=True))),
        ]
        return Chart("loss by learning rate", curves, logarithmic=True, mark=self.suggestion, width=720, height=360)


def find_learning_rate(
    model: keras.Model,
    source: Source,
    settings: TrainSettings,
    test: RangeTest | None = None,
    *,
    progress: bool = True,
) -> LearningRates:
    """Tries learning rates on the first steps of a training, each higher by the same factor, until the loss explodes.

    The model is compiled as the training does it (`trainer.compiled`: optimizer, loss, multipliers, weight decay,
    frozen layers) and learns the same batches, by Keras's `fit`. Then it gets back the weights that it had. The rate
    that is suggested is a tenth of the one where the smoothed loss was lowest: there it is about to stop falling. It
    suits the start of a schedule that falls, and this batch size and this optimizer alone.

    Args:
        model: functional `keras.Model`, images in 0..255 to logits, as of `keras_deeplab.train`.
        source: what it will learn.
        settings: of the training; its learning rate and schedule don't count.
        test: the rates to try.
        progress: whether to show a progress line.

    Raises:
        ValueError: the model can't learn the data, or the settings don't fit it.
    """
    test = test or RangeTest.of()
    settings = settings.resolved(source.num_examples)
    with _as_before(model), data.readable_errors():
        trained = compiled(model, source, settings)
        growing = Growing(test.lowest, test.highest, test.test_steps)
        trained.optimizer.learning_rate = growing
        seen = _Losses(growing, progress)
        trained.fit(
            batches(source, settings),
            epochs=1,
            steps_per_epoch=test.test_steps,
            callbacks=[seen],
            shuffle=False,
            verbose=0,
        )
    if not seen.losses:
        raise ValueError(
            f"the loss of the first step is no finite number, at the learning rate {test.lowest:g}: the fault is in "
            "the model, the loss or the data, not in the rate"
        )
    return LearningRates(tuple(seen.rates), tuple(seen.losses), seen.exploded)


@keras.saving.register_keras_serializable("keras_deeplab")
class Growing(keras.optimizers.schedules.LearningRateSchedule):
    """Step number from 0 on to learning rate: from `lowest` to `highest` in `steps` steps, by the same factor each.

    >>> growing = Growing(0.001, 10.0, steps=5)
    >>> [round(float(growing(step)), 4) for step in range(5)]
    [0.001, 0.01, 0.1, 1.0, 10.0]
    """

    def __init__(self, lowest: float, highest: float, steps: int) -> None:
        super().__init__()
        self.lowest, self.highest, self.steps = float(lowest), float(highest), int(steps)

    def __call__(self, step: Any) -> Any:
        share = ops.cast(step, "float32") / max(1, self.steps - 1)
        return self.lowest * ops.exp(share * math.log(self.highest / self.lowest))

    def get_config(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "highest": self.highest, "steps": self.steps}


class _Losses(keras.callbacks.Callback):
    """Keeps the loss of every batch, and stops where it explodes."""

    def __init__(self, rates: Growing, progress: bool) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.exploded = False
        self._schedule, self._line = rates, Progress(rates.steps, "learning rates", enabled=progress)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss, rate = float((logs or {})["loss"]), float(self._schedule(batch))
        self.model.reset_metrics()  # so that the next loss is not a mean with this one
        self._line.update(batch + 1, f"learning rate {rate:.2g}, loss {loss:.4g}")
        if math.isfinite(loss):
            self.rates.append(rate)
            self.losses.append(loss)
        self.exploded = not math.isfinite(loss) or explodes(self.losses)
        if self.exploded:
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        self._line.__exit__()


def explodes(losses: Sequence[float]) -> bool:
    """Whether the mean of the last three losses is over four times the lowest such mean, and half over the first one.

    >>> explodes([2.0, 2.1, 1.9, 0.1, 0.1, 0.1, 1.0, 1.1]), explodes([2.0, 2.1, 1.9, 1.0, 0.9, 4.0, 20.0])
    (False, True)
    """
    if len(losses) < 4:
        return False
    means = np.convolve(losses, np.ones(3) / 3, "valid")
    return bool(means[-1] > 4 * means.min() and means[-1] > 1.5 * means[0])


def smooth(losses: Sequence[float]) -> tuple[float, ...]:
    """Losses to their means with their neighbours, weighted by a triangle over a twelfth of all: nothing lags behind.

    >>> smooth([4.0, 2.0, 1.0])
    (4.0, 2.0, 1.0)
    """
    values, weights = np.asarray(losses, np.float64), _triangle(len(losses))
    total, count = np.convolve(values, weights), np.convolve(np.ones_like(values), weights)
    middle = slice(len(weights) // 2, len(weights) // 2 + len(values))
    return tuple((total[middle] / count[middle]).tolist())


def noise(losses: Sequence[float]) -> float:
    """About the standard deviation of smoothed losses, by what neighbours differ: batches are not alike."""
    weights = _triangle(len(losses))
    # The median of |a - b| of two normal numbers is 0.954 of their standard deviation.
    deviation = float(np.median(np.abs(np.diff(losses)))) / 0.954 if len(losses) > 1 else 0.0
    return deviation * float(np.sqrt(np.square(weights).sum()) / weights.sum())


def _triangle(count: int) -> np.ndarray:
    reach = count // 24
    return np.concatenate([np.arange(1, reach + 2), np.arange(reach, 0, -1)]).astype(np.float64)


@contextlib.contextmanager
def _as_before(model: keras.Model) -> Iterator[None]:
    """A context after which a model's variables, and what a training sets in batch normalisation, are as before."""
    values = [ops.convert_to_numpy(variable) for variable in model.variables]
    normalising = list(inner_layers(model, keras.layers.BatchNormalization))
    kept = [(layer.trainable, layer.momentum) for layer in normalising]
    try:
        yield
    finally:
        for variable, value in zip(model.variables, values, strict=True):
            variable.assign(value)
        for layer, (trainable, momentum) in zip(normalising, kept, strict=True):
            layer.trainable, layer.momentum = trainable, momentum
