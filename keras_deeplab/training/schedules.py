"""Learning-rate schedules: step number (an integer from 0 on) to learning rate (float32), with a linear warm-up."""

import math
from typing import Any

import keras
from keras import ops


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A decay, times a warm-up from `warmup_factor` to 1 that the first `warmup_steps` steps share out evenly.

    A subclass has `decayed(step)`, the rate at a float32 step were there no warm-up, and the names of its own settings.
    """

    SETTINGS: tuple[str, ...] = ()

    def __init__(self, initial_learning_rate, warmup_steps, warmup_factor, name, steps=None):
        super().__init__()
        if steps is not None and steps <= 0:
            raise ValueError(f"decay_steps must be positive, received {steps}")
        if warmup_steps < 0 or (steps is not None and warmup_steps > steps):
            end = "at least 0" if steps is None else f"between 0 and decay_steps ({steps})"
            raise ValueError(f"warmup_steps must lie {end}, received {warmup_steps}")
        if not 0.0 <= warmup_factor <= 1.0:
            raise ValueError(f"warmup_factor must lie between 0 and 1, received {warmup_factor}")
        self.initial_learning_rate = float(initial_learning_rate)
        self.warmup_steps, self.warmup_factor = int(warmup_steps), float(warmup_factor)
        self.name = name

    def decayed(self, step):
        raise NotImplementedError

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.decayed(step)
        if self.warmup_steps:
            share = ops.minimum(1.0, (step + 1.0) / float(self.warmup_steps))
            rate = rate * (self.warmup_factor + (1.0 - self.warmup_factor) * share)
        return rate

    def get_config(self):
        names = ("initial_learning_rate", *self.SETTINGS, "warmup_steps", "warmup_factor", "name")
        return {name: getattr(self, name) for name in names}


class _Fall(_Schedule):
    """A decay to `end_learning_rate` in `decay_steps` steps, of which `left(passed)` is what is left of the way."""

    def __init__(self, initial_learning_rate, decay_steps, end_learning_rate, warmup_steps, warmup_factor, name):
        super().__init__(initial_learning_rate, warmup_steps, warmup_factor, name, decay_steps)
        self.decay_steps = int(decay_steps)
        self.end_learning_rate = float(end_learning_rate)

    def left(self, passed):
        raise NotImplementedError

    def decayed(self, step):
        passed = ops.minimum(step, float(self.decay_steps)) / float(self.decay_steps)
        return self.end_learning_rate + (self.initial_learning_rate - self.end_learning_rate) * self.left(passed)


@keras.saving.register_keras_serializable("keras_deeplab")
class Poly(_Fall):
    """Step number to learning rate: the polynomial decay of every DeepLab paper from v2 on.

    `end + (initial - end) * (1 - step / decay_steps) ** power`, the end rate from `decay_steps` on, and during the
    first `warmup_steps` steps that value times a factor that rises linearly from `warmup_factor` to 1, which it reaches
    with the last of them. DeepLab v2, section 4.1.1 (power 0.9).

    Args:
        initial_learning_rate: the rate at step 0, were there no warm-up.
        decay_steps: the number of steps of the training run.
        power: exponent of the decay.
        end_learning_rate: the rate that is reached after `decay_steps`.
        warmup_steps: the number of steps of the linear warm-up; 0 for none.
        warmup_factor: what it starts from, as a share of the rate.
        name: name of the schedule.

    Raises:
        ValueError: if `decay_steps` is not positive, `warmup_steps` is negative or greater than `decay_steps`, or
            `warmup_factor` is outside [0, 1].

    >>> schedule = Poly(0.01, decay_steps=100)
    >>> [f"{float(schedule(step)):.5f}" for step in (0, 50, 100, 200)]
    ['0.01000', '0.00536', '0.00000', '0.00000']
    """

    SETTINGS = ("decay_steps", "power", "end_learning_rate")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        power: float = 0.9,
        end_learning_rate: float = 0.0,
        warmup_steps: int = 0,
        warmup_factor: float = 0.0,
        name: str = "poly",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, end_learning_rate, warmup_steps, warmup_factor, name)
        self.power = float(power)

    def left(self, passed: Any) -> Any:
        return ops.power(1.0 - passed, self.power)


@keras.saving.register_keras_serializable("keras_deeplab")
class Cosine(_Fall):
    """Step number to learning rate: half a cosine from the initial rate to the end one, with the warm-up of `Poly`.

    `end + (initial - end) * (1 + cos(pi * step / decay_steps)) / 2`, the end rate from `decay_steps` on. SGDR, arXiv
    1608.03983, equation 5, without restarts. Arguments as of `Poly`.

    >>> schedule = Cosine(0.01, decay_steps=100)
    >>> [f"{float(schedule(step)):.5f}" for step in (0, 50, 100, 200)]
    ['0.01000', '0.00500', '0.00000', '0.00000']
    """

    SETTINGS = ("decay_steps", "end_learning_rate")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0,
        warmup_steps: int = 0,
        warmup_factor: float = 0.0,
        name: str = "cosine",
    ) -> None:
        super().__init__(initial_learning_rate, decay_steps, end_learning_rate, warmup_steps, warmup_factor, name)

    def left(self, passed: Any) -> Any:
        return 0.5 * (1.0 + ops.cos(math.pi * passed))


@keras.saving.register_keras_serializable("keras_deeplab")
class Step(_Schedule):
    """Step number to learning rate: times `decay_factor` after every `decay_every` steps, with the warm-up of `Poly`.

    `initial * decay_factor ** floor(step / decay_every)`, as DeepLab v1 has it (section 4.1: 0.1 every 2000 steps).

    Raises:
        ValueError: if `decay_every` is not positive, or the warm-up doesn't fit (see `Poly`).

    >>> schedule = Step(0.01, decay_every=2000)
    >>> [f"{float(schedule(step)):.6f}" for step in (0, 1999, 2000, 4000)]
    ['0.010000', '0.010000', '0.001000', '0.000100']
    """

    SETTINGS = ("decay_every", "decay_factor")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_every: int,
        decay_factor: float = 0.1,
        warmup_steps: int = 0,
        warmup_factor: float = 0.0,
        name: str = "step",
    ) -> None:
        super().__init__(initial_learning_rate, warmup_steps, warmup_factor, name)
        if decay_every <= 0:
            raise ValueError(f"decay_every must be positive, received {decay_every}")
        self.decay_every, self.decay_factor = int(decay_every), float(decay_factor)

    def decayed(self, step: Any) -> Any:
        # From whole numbers: a float32 quotient may fall short of the whole number that it is.
        times = ops.floor_divide(ops.cast(step, "int32"), self.decay_every)
        return self.initial_learning_rate * ops.power(self.decay_factor, ops.cast(times, "float32"))


@keras.saving.register_keras_serializable("keras_deeplab")
class Constant(_Schedule):
    """Step number to one and the same learning rate, behind the warm-up of `Poly`.

    >>> schedule = Constant(0.01, warmup_steps=4, warmup_factor=0.5)
    >>> [f"{float(schedule(step)):.5f}" for step in (0, 1, 3, 200)]
    ['0.00625', '0.00750', '0.01000', '0.01000']
    """

    def __init__(
        self, initial_learning_rate: float, warmup_steps: int = 0, warmup_factor: float = 0.0, name: str = "constant"
    ) -> None:
        super().__init__(initial_learning_rate, warmup_steps, warmup_factor, name)

    def decayed(self, step: Any) -> Any:
        return self.initial_learning_rate * ops.ones_like(step)
