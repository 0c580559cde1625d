"""Cross-entropy, with smoothed labels where asked for."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_deeplab.layers import conventions
from keras_deeplab.layers.backend import TENSORFLOW, tf
from keras_deeplab.training.losses.base import Pixels, count
from keras_deeplab.training.losses.hard_pixels import PixelwiseLoss


@keras.saving.register_keras_serializable("keras_deeplab")
class SparseCategoricalCrossentropy(PixelwiseLoss):
    """Label maps (B, H, W) and logits (B, H, W, C) to the weighted cross-entropy per valid pixel, a float32 number.

    One logit has the binary cross-entropy, and two `class_weights`.

    Args:
        ignore_label: the label that is neither learnt nor counted.
        class_weights, top_k_fraction, hard_example_steps: see `losses.hard_pixels.PixelwiseLoss`.
        label_smoothing: in [0, 1): a pixel's label has 1 less that share, and all classes (its own too) have that share
            in equal parts (Szegedy et al. 2016, section 7).
        name: name of the loss.

    Raises:
        ValueError: an argument is out of its range.

    >>> import numpy as np
    >>> loss = SparseCategoricalCrossentropy()
    >>> labels = np.array([[[0, 255]]])
    >>> logits = np.array([[[[0.0, 0.0], [5.0, -5.0]]]])
    >>> print(f"{float(loss(labels, logits)):.4f}")
    0.6931
    """

    def __init__(
        self,
        ignore_label: int = 255,
        class_weights: Sequence[float] | None = None,
        top_k_fraction: float = 1.0,
        hard_example_steps: int = 0,
        label_smoothing: float = 0.0,
        name: str = "sparse_categorical_crossentropy",
    ) -> None:
        super().__init__(ignore_label, class_weights, top_k_fraction, hard_example_steps, name)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must be at least 0 and less than 1, received {label_smoothing!r}")
        self.label_smoothing = float(label_smoothing)

    def pixel_losses(self, pixels: Pixels) -> Any:
        hard = cross_entropy(pixels)
        if not self.label_smoothing:
            return hard
        spread = -ops.mean(ops.log_softmax(pixels.logits), axis=-1)
        return (1.0 - self.label_smoothing) * hard + self.label_smoothing * spread

    def of_coarse(self, resize: str, pixels: Pixels) -> Any:
        plain = type(self) is SparseCategoricalCrossentropy and self.top_k_fraction == 1.0 and not self.label_smoothing
        if not (TENSORFLOW and plain):
            return super().of_coarse(resize, pixels)
        total = _by_images(pixels.labels, pixels.logits, self.weights_of(pixels), resize)
        return self.mean_of(total, count(pixels.valid))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"label_smoothing": self.label_smoothing}


# Classes from which on a softmax of all of them is faster than TensorFlow's operator for the one that counts.
_MANY = 8
# A probability below this has lost digits, or is 0.
_TINY = 1e-30


def cross_entropy(pixels: Pixels) -> Any:
    """The cross-entropy of each pixel, float32 (B, H, W)."""
    if TENSORFLOW and pixels.num_classes >= _MANY:
        return _by_softmax(pixels.labels, pixels.logits)
    return ops.sparse_categorical_crossentropy(pixels.labels, pixels.logits, from_logits=True)


def _by_softmax(labels: Any, logits: Any) -> Any:
    """As TensorFlow's own operator, which goes through the classes one at a time; oneDNN has a softmax that doesn't."""

    @tf.custom_gradient
    def of(logits):
        probabilities = tf.nn.softmax(logits)
        return _losses(labels, logits, probabilities), functools.partial(_slopes, labels, probabilities)

    return of(logits)


def _losses(labels: Any, logits: Any, probabilities: Any) -> Any:
    """The cross-entropies (B, H, W) of labels, logits and the probabilities that they stand for."""
    at_label = functools.partial(tf.gather, indices=labels, batch_dims=3)
    truth = at_label(probabilities)

    def by_greatest():
        # The greatest probability is never tiny, and tells what the logits were divided by.
        logit, probability = (tf.reduce_max(each, axis=-1) for each in (logits, probabilities))
        return logit - tf.math.log(probability) - at_label(logits)

    return tf.cond(tf.reduce_any(truth < _TINY), by_greatest, lambda: -tf.math.log(truth))


def _slopes(labels: Any, probabilities: Any, factors: Any) -> Any:
    """The gradients of the logits: probabilities less 1 at the label, times a factor (B, H, W)."""
    # Rows of pixels, and no reshape between the product and the difference, which then is made in its place.
    rows = tf.reshape(probabilities, (-1, probabilities.shape[-1]))
    labels, factors = tf.reshape(labels, [-1]), tf.reshape(factors, [-1])
    at_label = tf.stack([tf.range(tf.size(labels)), labels], axis=1)
    slopes = tf.tensor_scatter_nd_sub(rows * factors[:, None], at_label, factors)
    return tf.reshape(slopes, tf.shape(probabilities))


def _by_images(labels: Any, logits: Any, weights: Any, resize: str) -> Any:
    """The sum of weighted cross-entropies of logits (B, h, w, C) resized to labels (B, H, W), a float32 scalar.

    Scores of images' size exist for two images at a time, and not for the batch three times over: the gradient of an
    image's coarse logits is computed on the way, for it only waits for a factor.
    """
    settings = conventions(resize)

    def of_image(parts):
        labels, logits, weights = (part[None] for part in parts)
        fine = tf.raw_ops.ResizeBilinear(images=logits, size=tf.shape(labels)[1:3], **settings)
        fine = tf.ensure_shape(fine, (1, None, None, logits.shape[-1]))
        probabilities = tf.nn.softmax(fine)
        total = tf.reduce_sum(weights * _losses(labels, fine, probabilities))
        slopes = _slopes(labels, probabilities, weights)
        slopes = tf.raw_ops.ResizeBilinearGrad(grads=slopes, original_image=logits, **settings)
        return total, slopes[0]

    @tf.custom_gradient
    def of(logits):
        kinds = (tf.TensorSpec((), tf.float32), tf.TensorSpec(logits.shape[1:], tf.float32))
        totals, slopes = tf.map_fn(
            of_image, (labels, logits, weights), parallel_iterations=2, fn_output_signature=kinds
        )
        return tf.reduce_sum(totals), lambda upstream: upstream * slopes

    return of(logits)
