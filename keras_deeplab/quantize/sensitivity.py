"""Which stored tensors' rounding the logits suffer from most, and which of their channels'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab._helpers.private import producer
from keras_deeplab.quantize.plan import Plan
from keras_deeplab.quantize.ranges import Ends

# A position's other classes, this far below its first, don't change its label.
_MARGIN = 10.0


@dataclass
class ChannelErrors:
    """Of one tensor, on all images together.

    Attributes:
        error: (C,), the logits' expected squared error that rounding each channel causes.
        zeros: (C,), the share of each channel's values that are 0 or less.
        positions: how many places the map has.
    """

    error: np.ndarray
    zeros: np.ndarray
    positions: int


def channel_errors(
    model: keras.Model, plan: Plan, ranges: Mapping[str, Ends], images: Sequence[np.ndarray], seed: int = 0
) -> dict[str, ChannelErrors]:
    """The logits' squared error that the rounding of each channel of each tensor causes, to first order.

    The error that rounding makes in a tensor reaches the logits through their gradient. One random combination of the
    logits an image (of those near the largest at their position) has the expectation of all of them.

    Args:
        model: a folded keras.Model.
        plan: its `Plan`.
        ranges: (low, high) by name of the range.
        images: calibration images (1, H, W, 3), all of one size; a few will do.
        seed: of the random combinations.

    Returns:
        {site: `ChannelErrors`}. The sites behind the last convolution aren't in it.
    """
    before = producer(model.outputs[0])
    last = before.input[0] if isinstance(before, layers.ResizeBilinear) else model.outputs[0]
    stored = {name: keras.tree.flatten(model.get_layer(name).output)[0] for name in plan.sites}
    stored = {name: tensor for name, tensor in stored.items() if tensor is not last and tensor is not model.outputs[0]}
    inner = keras.Model(model.inputs, [last, *stored.values()])

    @tf.function(autograph=False)
    def errors(image, number):
        with tf.GradientTape() as tape:
            tape.watch(image)
            logits, *tensors = inner(image, training=False)
            signs = tf.random.stateless_normal(tf.shape(logits), tf.stack([seed, number]))
            largest = tf.stop_gradient(tf.reduce_max(logits, -1, keepdims=True))
            total = tf.reduce_sum(signs * tf.where(logits > largest - _MARGIN, logits, 0.0))
        gradients = tape.gradient(total, tensors, unconnected_gradients="zero")
        found = []
        for name, tensor, gradient in zip(stored, tensors, gradients, strict=True):
            error = tf.quantization.fake_quant_with_min_max_args(tensor, *ranges[plan.ranges[name]]) - tensor
            axes = list(range(len(tensor.shape) - 1))
            found.append(
                (
                    tf.reduce_sum(tf.square(error * gradient), axes),
                    tf.reduce_mean(tf.cast(tensor <= 0, tf.float32), axes),
                    tf.size(tensor[0, ..., 0]),
                )
            )
        return found

    rows = [errors(tf.constant(image, tf.float32), tf.constant(number)) for number, image in enumerate(images)]
    return {
        name: ChannelErrors(
            np.sum([error for error, _, _ in row], 0), np.mean([zeros for _, zeros, _ in row], 0), int(row[0][2])
        )
        for name, row in zip(stored, zip(*rows, strict=True), strict=True)
    }


def shares(errors: Mapping[str, ChannelErrors]) -> dict[str, float]:
    """`ChannelErrors` by site to the share of all error that each causes, the largest first."""
    totals = {site: float(found.error.sum()) for site, found in errors.items()}
    whole = max(sum(totals.values()), 1e-30)
    return {site: total / whole for site, total in sorted(totals.items(), key=lambda item: -item[1])}
