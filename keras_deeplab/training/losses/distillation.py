"""Learning from a teacher's logits as well as from labels."""

from typing import Any

import keras
from keras import ops

from keras_deeplab.training.losses.base import count, matched, two_or_more
from keras_deeplab.training.replicas import batch_sum, share


@keras.saving.register_keras_serializable("keras_deeplab")
class Distillation:
    """Labels (B, H, W), logits (B, H, W, C) and a teacher's logits (B, H, W, C) to one float32 number.

    `(1 - w) loss(labels, logits) + w T^2 KL(softmax(teacher / T) || softmax(logits / T))`, the divergence as the mean
    over the valid pixels: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2, with the
    divergence for their cross-entropy, from which it differs by what doesn't depend on the logits. The teacher's logits
    get no gradient. One logit z of either is the two (0, z).

    Args:
        loss: function from labels and logits to a number; its `ignore_label` says which pixels aren't valid.
        teacher_weight: w, from 0 to 1.
        temperature: T, greater than 0.
        ignore_label: where the loss has none of its own; by default 255.

    Raises:
        ValueError: an argument is out of its range, or the teacher has logits of another size or other classes.

    >>> import numpy as np
    >>> distillation = Distillation(lambda labels, logits: 0.0, teacher_weight=1.0)
    >>> same = np.array([[[[1.0, 2.0]]]])
    >>> float(distillation(np.array([[[1]]]), same, same))
    0.0
    """

    def __init__(
        self, loss: Any, teacher_weight: float = 0.5, temperature: float = 1.0, ignore_label: int | None = None
    ) -> None:
        if not 0.0 <= teacher_weight <= 1.0 or not 0.0 < temperature < float("inf"):
            raise ValueError(
                "teacher_weight must be from 0 to 1 and temperature a finite number greater than 0, received "
                f"{teacher_weight!r} and {temperature!r}"
            )
        self.loss, self.teacher_weight, self.temperature = loss, float(teacher_weight), float(temperature)
        self.ignore_label = ignored_by(loss) if ignore_label is None else int(ignore_label)

    def __call__(self, labels: Any, logits: Any, teacher_logits: Any) -> Any:
        return self.call(labels, logits, teacher_logits)

    def call(self, labels: Any, logits: Any, teacher_logits: Any) -> Any:
        hard = ops.cast(self.loss(labels, logits), "float32")
        labels, student = matched(ops.cast(labels, "int32"), ops.cast(logits, "float32"))
        teacher = ops.stop_gradient(two_or_more(ops.cast(teacher_logits, "float32")))
        if any(None not in pair and pair[0] != pair[1] for pair in zip(student.shape, teacher.shape, strict=True)):
            raise ValueError(
                f"the teacher's logits are {tuple(teacher_logits.shape)} and the model's {tuple(logits.shape)}: the "
                "teacher must have the same classes, and return logits at the size of its input"
            )
        valid = ops.not_equal(labels, self.ignore_label)
        theirs, ours = (ops.log_softmax(each / self.temperature) for each in (teacher, student))
        divergence = ops.sum(ops.exp(theirs) * (theirs - ours), -1)
        soft = batch_sum(ops.sum(ops.where(valid, divergence, 0.0)))
        soft = share(soft / ops.maximum(batch_sum(count(valid)), 1.0))
        return (1.0 - self.teacher_weight) * hard + self.teacher_weight * self.temperature**2 * soft

    def get_config(self) -> dict[str, Any]:
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "teacher_weight": self.teacher_weight,
            "temperature": self.temperature,
            "ignore_label": self.ignore_label,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Distillation":
        return cls(**(config | {"loss": keras.saving.deserialize_keras_object(config["loss"])}))


def ignored_by(loss: Any) -> int:
    """The ignored label of a loss, or of those it sums; 255 where none tells."""
    labels = {part.ignore_label for part in (loss, *getattr(loss, "losses", ())) if hasattr(part, "ignore_label")}
    if len(labels) > 1:
        raise ValueError(f"the losses of the sum ignore different labels: {sorted(labels)}")
    return labels.pop() if labels else 255
