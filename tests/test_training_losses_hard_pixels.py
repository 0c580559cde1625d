"""The hardest pixels, against a sort in NumPy, of batches whose size a traced step doesn't know."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deeplab.training.losses.hard_pixels import hardest


def expected(losses, valid, fraction):
    """The sum of the greatest losses of valid pixels, and how many valid ones are among those kept."""
    kept = max(1, int(np.float32(fraction) * np.float32(losses.size)))
    chosen = np.sort(np.where(valid, losses, -1.0), axis=None)[losses.size - kept :]
    return chosen[chosen >= 0].sum(), (chosen >= 0).sum()


@pytest.mark.parametrize("jit", [False, True])
def test_as_many_are_kept_as_the_batch_at_hand_has(jit):
    """One trace for all sizes: the number of pixels is known when it runs, and not before."""

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, None), tf.float32),
            tf.TensorSpec((None, None, None), tf.bool),
            tf.TensorSpec((), tf.float32),
        ],
        jit_compile=jit,
    )
    def traced(losses, valid, fraction):
        return hardest(losses, valid, fraction)

    random = np.random.default_rng(0)
    for shape in [(2, 5, 7), (1, 3, 3), (3, 4, 1)] if not jit else [(2, 5, 7)]:
        losses = random.exponential(size=shape).astype("float32")
        for share in (1.0, 0.6):
            valid = random.random(shape) < share
            for fraction in (0.01, 0.3, 0.99, 1.0):
                found = traced(losses, valid, fraction)
                np.testing.assert_allclose(
                    [float(each) for each in found], expected(losses, valid, fraction), rtol=1e-5
                )


def test_equal_losses_share_the_places_that_are_left():
    losses, valid = tf.constant([3.0, 1.0, 1.0, 1.0, 0.0, 9.0]), tf.constant([True] * 5 + [False])
    total, kept = hardest(losses, valid, 0.5)  # three places: 3, and two of the three ones
    assert (float(total), float(kept)) == (5.0, 3.0)
    total, kept = hardest(losses, tf.zeros(6, bool), 0.5)
    assert (float(total), float(kept)) == (0.0, 0.0)
