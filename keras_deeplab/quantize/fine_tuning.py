"""Quantisation-aware fine-tuning: the kernels learn to make up for the rounding that they will run with.

The network computes with rounded kernels and tensors; gradients pass the rounding as if it weren't there (Jacob et
al., "Quantization and Training of Neural Networks", arXiv 1712.05877, section 3). It learns what the network that it
came from says, so photographs are enough, and batch norm is inside the kernels already, as in the file.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab._helpers.private import producer
from keras_deeplab._helpers.progress import Progress
from keras_deeplab.layers import FakeQuantization, ResizeBilinear
from keras_deeplab.quantize.fake import convolutions, kernel_steps
from keras_deeplab.quantize.folding import consumers
from keras_deeplab.quantize.pixels import inside

_LIMIT = 127.0
# How far from its step a weight may start.
_OFF_STEP = 0.45
# Gradients for a step of a kernel are below what Adam adds to its denominator by default, which would hold them still.
_EPSILON = 1e-12


def fine_tune(
    model: keras.Model,
    exact: keras.Model,
    batches: Iterable[np.ndarray],
    steps: int,
    *,
    multi_label: bool = False,
    learning_rate: float = 0.002,
    warmup_steps: int = 20,
    progress: bool = True,
) -> float:
    """Trains a quantised model, in place, to put out what the network it came from does.

    Kernels are learnt in units of their int8 step, from where they were before they were rounded, and biases in steps
    of the tensor behind them, so one learning rate fits all layers. The largest weight of each output stays at 127
    steps, and with it the scale that a converter finds; ranges stay as they are. Padding isn't learnt from.

    Args:
        model: the first of what `keras_deeplab.quantize.quantize` returns with `with_exact=True`.
        exact: the second.
        batches: iterable of images (B, H, W, 3) in 0..255 of the model's size, of the training split.
        steps: how many of them to take.
        multi_label: whether each class is decided by itself, as the one of a binary model always is.
        learning_rate: Adam's, in steps of int8; it falls to 0 along half a cosine.
        warmup_steps: steps over which it rises first.
        progress: whether to show how far it is.

    Returns:
        The mean loss of the last tenth of the steps: the divergence of the teacher's class probabilities from the
        model's, in nats a position that isn't padding.

    Raises:
        ValueError: the model isn't quantised, `steps` isn't positive, or `batches` ends too early.
    """
    if not any(isinstance(layer, FakeQuantization) for layer in model.layers):
        raise ValueError(f"fine_tune trains what quantize returned; {model.name!r} has no ranges")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, received {steps}")
    student, teacher = (keras.Model(each.inputs, _logits(each)) for each in (model, exact))
    kernels = _Kernels(model, exact, student)
    optimizer = keras.optimizers.Adam(
        _schedule(learning_rate, steps, min(warmup_steps, steps)), beta_2=0.99, epsilon=_EPSILON
    )
    optimizer.build(kernels.variables)

    divergence = _of_each if multi_label or student.outputs[0].shape[-1] == 1 else _of_one

    @tf.function(autograph=False)
    def step(images):
        wanted = teacher(images, training=False)
        with tf.GradientTape() as tape:
            logits, _ = student.stateless_call(
                kernels.values(), student.non_trainable_variables, images, training=False
            )
            found = divergence(wanted, logits)
            counted = tf.cast(inside(images, tf.unstack(tf.shape(logits)[1:3])), logits.dtype)
            loss = tf.math.divide_no_nan(tf.reduce_sum(found * counted), tf.reduce_sum(counted))
        gradients = kernels.masked(tape.gradient(loss, [variable.value for variable in kernels.variables]))
        optimizer.apply_gradients(zip(gradients, kernels.variables, strict=True))
        return loss

    losses = []
    with Progress(steps, "fine-tune", enabled=progress) as bar:
        for images in batches:
            losses.append(float(step(tf.cast(images, tf.float32))))
            if bar.due():
                bar.update(len(losses), f"divergence {np.mean(losses[-20:]):.5f}")
            if len(losses) == steps:
                break
    if len(losses) < steps:
        raise ValueError(f"the images ended after {len(losses)} batches of {steps}: repeat them, or take fewer steps")
    kernels.write()
    return float(np.mean(losses[-max(1, steps // 10) :]))


def _logits(model):
    """The logits of a model before they are resized; rounded, where the model rounds."""
    layer = producer(model.outputs[0])
    if isinstance(layer, FakeQuantization):
        layer = producer(layer.input)
    return layer.input[0] if isinstance(layer, ResizeBilinear) else model.outputs[0]


def _schedule(learning_rate, steps, warmup_steps):
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate,
        max(steps - warmup_steps, 1),
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def _of_one(wanted, logits):
    """Two logits (..., C), the teacher's and the model's, to the divergence of their softmax (...)."""
    wanted = tf.nn.softmax(wanted)
    cross = tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
    return cross - tf.nn.softmax_cross_entropy_with_logits(wanted, tf.math.log(wanted + 1e-20))


def _of_each(wanted, logits):
    """The same of the sigmoid of each, summed over the classes."""
    shares = tf.sigmoid(wanted)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=shares, logits=logits)
    return tf.reduce_sum(cross - tf.nn.sigmoid_cross_entropy_with_logits(labels=shares, logits=wanted), -1)


class _Kernels:
    """The kernels and biases of a quantised model as trainable numbers of steps."""

    def __init__(self, model: keras.Model, exact: keras.Model, student: keras.Model) -> None:
        self.student = student
        self.rows = []  # layer, unit of its kernel, unit of its bias, what may move, kernel, bias
        takers = consumers(model)
        for layer in convolutions(model):
            kernel, bias = layer.get_weights()
            unit = kernel_steps(layer, kernel).astype(np.float32)
            counts = np.clip(np.round(kernel / unit), -_LIMIT, _LIMIT)
            # A weight that another's error moved is near the step it was moved to, not beyond.
            latent = counts + np.clip(
                exact.get_layer(layer.name).get_weights()[0] / unit - counts, -_OFF_STEP, _OFF_STEP
            )
            row = (
                layer,
                unit,
                np.float32(_step_behind(layer, takers)),
                (np.abs(counts) < _LIMIT).astype(np.float32),
                keras.Variable(np.where(np.abs(counts) < _LIMIT, latent, counts), name=f"{layer.name}_kernel"),
                keras.Variable(np.zeros_like(bias), name=f"{layer.name}_bias"),
            )
            self.rows.append(row)
        self.variables = [variable for row in self.rows for variable in row[4:]]
        self.biases = [row[0].bias.numpy() for row in self.rows]

    def values(self) -> list[Any]:
        """The student's trainable variables: kernels rounded, with gradients as if they weren't."""
        found = {}
        for (layer, unit, bias_unit, _, kernel, bias), start in zip(self.rows, self.biases, strict=True):
            counts = tf.clip_by_value(kernel.value, -_LIMIT, _LIMIT)
            counts += tf.stop_gradient(tf.round(counts) - counts)
            found[id(layer.kernel)] = counts * unit
            found[id(layer.bias)] = start + bias.value * bias_unit
        return [found.get(id(variable), variable.value) for variable in self.student.trainable_variables]

    def masked(self, gradients: Iterable[Any]) -> list[Any]:
        masks = [mask for row in self.rows for mask in (row[3], 1.0)]
        return [gradient * mask for gradient, mask in zip(gradients, masks, strict=True)]

    def write(self) -> None:
        for (layer, unit, bias_unit, _, kernel, bias), start in zip(self.rows, self.biases, strict=True):
            counts = np.clip(np.round(kernel.numpy()), -_LIMIT, _LIMIT)
            layer.set_weights([counts * unit, start + bias.numpy() * bias_unit])


def _step_behind(layer, takers):
    """The step of the range that a convolution's output is rounded to."""
    tensor = layer.output
    while True:
        (after, *_) = takers[id(tensor)]
        if isinstance(after, FakeQuantization):
            return (after.high - after.low) / 255
        tensor = after.output
