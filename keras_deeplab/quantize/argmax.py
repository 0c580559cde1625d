"""Logits that argmax reads the same and that need fewer steps: what all classes have in common is taken off.

One scale holds every class wherever it is, so logits from -7 to 42 leave classes that are 0.2 apart equal, and argmax
takes the first. The largest logit of a position is nearly a linear function of the features, so a classifier that
computes `logits - that function` has the largest near 0 everywhere, and what is far below can be cut. Interpolation
weights add up to 1, so neither does a resize change which class is ahead.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab.quantize import ranges

# Share of the features' power that is added to the fit, so that channels that never move get no weight.
_RIDGE = 1e-4
_CUTS = np.geomspace(0.1, 1.0, 13)


def classifier(model):
    """The 1x1 convolution whose resized outputs a model returns, or None where it ends otherwise."""
    tensor = model.outputs[0]
    layer = tensor._keras_history.operation
    if isinstance(layer, layers.ResizeBilinear):
        layer = layer.input[0]._keras_history.operation
    plain = isinstance(layer, keras.layers.Conv2D) and max(layer.kernel_size) == 1 and layer.groups == 1
    return layer if plain and layer.filters > 1 else None


def shift_logits(model, images):
    """Takes the common part off a folded model's logits, in place; argmax stays.

    Args:
        model: a folded keras.Model with a `classifier`.
        images: calibration images (1, H, W, 3).
    """
    layer = classifier(model)
    features, logits = _maps(model, layer, images)
    features, largest = features.reshape(-1, features.shape[-1]), logits.max(-1).reshape(-1)
    ones = np.ones((len(features), 1))
    inputs = np.concatenate([features, ones], 1, dtype=np.float64)
    moments = inputs.T @ inputs
    ridge = _RIDGE * np.trace(moments[:-1, :-1]) / features.shape[1] * np.eye(len(moments))
    ridge[-1, -1] = 0
    fit = np.linalg.solve(moments + ridge, inputs.T @ largest)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel - fit[:-1, None], bias - fit[-1]])


def search_range(model, images):
    """The range of a folded model's logits that changes the fewest labels on calibration images.

    Returns:
        (low, high), nudged.
    """
    layer = classifier(model)
    _, logits = _maps(model, layer, images)
    high, low = float(logits.max()), float(logits.min())
    size = images[0].shape[1:3]

    @tf.function(autograph=False)
    def labels(logits):
        resized = tf.raw_ops.ResizeBilinear(images=logits[None], size=size, align_corners=True)
        return tf.argmax(resized[0], -1)

    wanted = [labels(each) for each in logits]
    errors = {}
    for cut in _CUTS:
        ends = ranges.nudged(low * cut, high)
        rounded = [ranges.rounded(each, *ends).astype(np.float32) for each in logits]
        # The file rounds again behind the resize.
        errors[ends] = np.mean([np.mean(labels(a) != b) for a, b in zip(rounded, wanted, strict=True)])
    return min(errors, key=errors.get)


def _maps(model, layer, images):
    """The features that a classifier takes and the logits it returns: (N, h, w, C) and (N, h, w, classes)."""
    inner = tf.function(keras.Model(model.inputs, [layer.input, layer.output]), autograph=False)
    with layers.export_ops():
        found = [inner(image, training=False) for image in images]
    features, logits = zip(*found, strict=True)
    return np.concatenate([x.numpy() for x in features]), np.concatenate([x.numpy() for x in logits])
