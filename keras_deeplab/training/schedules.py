"""Learning-rate schedules."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_deeplab")
class Poly(keras.optimizers.schedules.LearningRateSchedule):
    """Step number (an integer from 0 on) to learning rate (float32): the polynomial decay of every DeepLab paper.

    `end + (initial - end) * (1 - step / decay_steps) ** power`, the end rate from `decay_steps` on, and during the
    first `warmup_steps` steps that value times `(step + 1) / warmup_steps`. DeepLab v2, section 4.1.1 (power 0.9).

    Args:
        initial_learning_rate: the rate at step 0, were there no warm-up.
        decay_steps: the number of steps of the training run.
        power: exponent of the decay.
        end_learning_rate: the rate that is reached after `decay_steps`.
        warmup_steps: the number of steps of the linear warm-up; 0 for none.
        name: name of the schedule.

    Raises:
        ValueError: if `decay_steps` is not positive, or `warmup_steps` is negative or greater than `decay_steps`.

    >>> schedule = Poly(0.01, decay_steps=100)
    >>> [f"{float(schedule(step)):.5f}" for step in (0, 50, 100, 200)]
    ['0.01000', '0.00536', '0.00000', '0.00000']
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        power=0.9,
        end_learning_rate=0.0,
        warmup_steps=0,
        name="poly",
    ):
        super().__init__()
        if decay_steps <= 0:
            raise ValueError(f"decay_steps must be positive, received {decay_steps}")
        if not 0 <= warmup_steps <= decay_steps:
            raise ValueError(
                f"warmup_steps must lie between 0 and decay_steps ({decay_steps}), received {warmup_steps}"
            )
        self.initial_learning_rate = float(initial_learning_rate)
        self.decay_steps = int(decay_steps)
        self.power = float(power)
        self.end_learning_rate = float(end_learning_rate)
        self.warmup_steps = int(warmup_steps)
        self.name = name

    def __call__(self, step):
        step = ops.cast(step, "float32")
        remaining = 1.0 - ops.minimum(step, float(self.decay_steps)) / float(self.decay_steps)
        span = self.initial_learning_rate - self.end_learning_rate
        rate = self.end_learning_rate + span * ops.power(remaining, self.power)
        if self.warmup_steps:
            rate = rate * ops.minimum(1.0, (step + 1.0) / float(self.warmup_steps))
        return rate

    def get_config(self):
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "power": self.power,
            "end_learning_rate": self.end_learning_rate,
            "warmup_steps": self.warmup_steps,
            "name": self.name,
        }
