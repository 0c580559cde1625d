"""Batch normalisation as one operator each way, where TensorFlow has one."""

from typing import Any

import keras

from keras_deeplab.layers.backend import TENSORFLOW, Tensor, register, tensor_of, tf
from keras_deeplab.layers.tracing import export_choice, has_gpu

# cuDNN refuses a smaller epsilon (CUDNN_BN_MIN_EPSILON) in versions that are still about.
_LEAST_EPSILON_ON_GPU = 1.001e-5


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's own layer, variables and results, faster on the TensorFlow backend.

    Keras normalises a batch there by a dozen operators, each of which reads or writes the whole map, and keeps several
    maps for the gradient. Here a map (B, H, W, C) goes through `FusedBatchNormV3` and its gradient, which read it as
    often as they must and keep it alone; behind a convolution, TensorFlow makes one operator of both in inference.
    Everything else is Keras's: other ranks and axes, masks, `renorm`, `synchronized`, exports, other backends.

    The arguments are those of `keras.layers.BatchNormalization`.

    Example:

    >>> layer = BatchNormalization(momentum=0.5)
    >>> outputs = layer(keras.ops.reshape(keras.ops.arange(8.0), (1, 2, 2, 2)), training=True)
    >>> [round(float(value), 3) for value in outputs[0, :, 0, 0]], layer.moving_mean.numpy().tolist()
    ([-1.342, 0.447], [1.5, 2.0])
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None or not self._is_fused(inputs):
            return super().call(inputs, training=training, mask=mask)
        mean, variance = tensor_of(self.moving_mean), tensor_of(self.moving_variance)
        mean, variance = (tf.cast(each, tf.float32) for each in (mean, variance))
        by_batch = bool(training) and self.trainable
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self._factors(self.gamma, tf.ones_like(mean)),
            offset=self._factors(self.beta, tf.zeros_like(mean)),
            mean=tf.zeros([0]) if by_batch else mean,
            variance=tf.zeros([0]) if by_batch else variance,
            epsilon=self.epsilon,
            is_training=by_batch,
        )
        if by_batch:
            # The operator gives the variance of the population that the batch is a sample of, Keras the batch's own.
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            batch_variance *= tf.maximum(count - 1.0, 1.0) / count
            self._move(self.moving_mean, mean, batch_mean)
            self._move(self.moving_variance, variance, batch_variance)
        return outputs

    def _is_fused(self, inputs: Tensor) -> bool:
        """Whether the operator computes what Keras's layer would of these inputs."""
        return (
            TENSORFLOW
            and not export_choice()
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not (self.renorm or self.synchronized)
            and inputs.dtype in (tf.float16, tf.bfloat16, tf.float32)
            and inputs.dtype == self.compute_dtype
            and not (has_gpu() and self.epsilon < _LEAST_EPSILON_ON_GPU)
        )

    @staticmethod
    def _factors(variable: Any, default: Tensor) -> Tensor:
        return default if variable is None else tf.cast(tensor_of(variable), tf.float32)

    def _move(self, variable: Any, old: Tensor, new: Tensor) -> None:
        variable.assign(old * self.momentum + new * (1.0 - self.momentum))
