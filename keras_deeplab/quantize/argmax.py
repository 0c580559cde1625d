"""Logits that argmax reads the same and that need fewer steps: what all classes have in common is taken off.

One scale holds every class wherever it is, so logits from -7 to 42 leave classes that are 0.2 apart equal, and argmax
takes the first. The largest logit of a position is nearly a linear function of the features, so a classifier that
computes `logits - that function` has the largest near 0 everywhere, and what is far below can be cut. Interpolation
weights add up to 1, so neither does a resize change which class is ahead.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab._helpers.private import producer
from keras_deeplab.layers.argmax import Slab, slabs, slabs_of
from keras_deeplab.quantize import pixels, ranges
from keras_deeplab.quantize.ranges import Ends

# Share of the features' power that is added to the fit, so that channels that never move get no weight.
_RIDGE = 1e-4
_CUTS = np.geomspace(0.1, 1.0, 13)
_RANGE_IMAGES = 32
_WORTH = 1 << 28  # bytes of an image's resized logits from which on they are made some rows at a time
# Pixels whose two largest logits are nearer than this many steps tell how many labels a small bias changes.
_NEAR = 4
_PASSES = 3
_BALANCE_RIDGE = 0.02


def classifier(model: keras.Model) -> Any:
    """The 1x1 convolution whose resized outputs a model returns, or None where it ends otherwise."""
    tensor = model.outputs[0]
    layer = producer(tensor)
    if isinstance(layer, layers.ResizeBilinear):
        layer = producer(layer.input[0])
    plain = isinstance(layer, keras.layers.Conv2D) and max(layer.kernel_size) == 1 and layer.groups == 1
    return layer if plain and layer.filters > 1 else None


def shift_logits(model: keras.Model, images: Sequence[np.ndarray]) -> None:
    """Takes the common part off a folded model's logits, in place; argmax stays.

    Args:
        model: a folded keras.Model with a `classifier`.
        images: calibration images (1, H, W, 3).
    """
    layer = classifier(model)
    features, logits = _maps(model, layer, images)
    counted = np.concatenate([pixels.inside(image, logits.shape[1:3]) for image in images])
    if not counted.any():
        return
    features, largest = features[counted], logits[counted].max(-1)
    ones = np.ones((len(features), 1))
    inputs = np.concatenate([features, ones], 1, dtype=np.float64)
    moments = inputs.T @ inputs
    ridge = _RIDGE * np.trace(moments[:-1, :-1]) / features.shape[1] * np.eye(len(moments))
    ridge[-1, -1] = 0
    fit = np.linalg.solve(moments + ridge, inputs.T @ largest)
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel - fit[:-1, None], bias - fit[-1]])


def search_range(model: keras.Model, images: Sequence[np.ndarray]) -> Ends:
    """The range of a folded model's logits that changes the fewest labels on the first of the calibration images.

    Returns:
        (low, high), nudged.
    """
    layer = classifier(model)
    images = images[:_RANGE_IMAGES]
    _, logits = _maps(model, layer, images)
    resize = producer(model.outputs[0])
    resize = resize if isinstance(resize, layers.ResizeBilinear) else None
    size = images[0].shape[1:3] if resize else logits.shape[1:3]
    places = [pixels.inside(image, logits.shape[1:3])[0].numpy() for image in images]
    counted = [pixels.inside(image, size)[0].numpy() for image in images]
    if not np.any(places):
        places, counted = list(np.ones_like(places)), list(np.ones_like(counted))
    low, high = float(logits[np.array(places)].min()), float(logits[np.array(places)].max())

    # The resized logits of many classes are gigabytes, so they are made some rows at a time.
    parts = _slabs(logits.shape, size, resize)

    def resized(logits, slab):
        if resize is None:
            return logits
        return tf.raw_ops.ResizeBilinear(
            images=logits[None],
            size=(slab.height, size[1]),
            align_corners=resize.align_corners,
            half_pixel_centers=resize.half_pixel_centers,
        )[0, slab.kept]

    @tf.function(autograph=False)
    def changed(logits, wanted, counted, low, high):
        step = (high - low) / 255

        def rounded(x):
            return tf.clip_by_value(tf.round((x - low) / step), 0.0, 255.0) * step + low

        # The file rounds again behind the resize.
        count = tf.constant(0, tf.int64)
        for slab in parts:
            with tf.control_dependencies([count]):  # one behind the other, in the same memory
                rows = tf.identity(logits[slab.rows])
            labels = tf.argmax(rounded(resized(rounded(rows), slab)), -1)
            count += tf.math.count_nonzero((labels != wanted[slab.place]) & counted[slab.place])
        return count

    def labels_of(logits):
        return tf.concat([tf.argmax(resized(logits[slab.rows], slab), -1) for slab in parts], 0)

    wanted = [labels_of(each) for each in logits]

    def errors(part):
        ends = [tf.constant(end, tf.float32) for end in ranges.nudged(*part)]
        return sum(int(changed(*each, *ends)) for each in zip(logits, wanted, counted, strict=True))

    low, high = min(((low * cut, high) for cut in _CUTS), key=errors)
    return ranges.nudged(*min(((low, high * cut) for cut in _CUTS[-5:]), key=errors))


def _slabs(shape, size, resize):
    """The slabs in which logits (B, h, w, C) are resized; one of all rows where there are few, or they can't be cut."""
    cut = None if resize is None else slabs_of(shape, size, resize.resize, worth=_WORTH)
    if cut is not None:
        return list(slabs(cut, shape[1], resize.resize))
    return [Slab(slice(None), size[0], slice(None), slice(None))]


def balance(
    model: keras.Model,
    exact: keras.Model,
    images: Sequence[np.ndarray],
    labels_of: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]] | None = None,
) -> np.ndarray | None:
    """Moves the classifier's biases, in place, until rounding makes no class larger on calibration images.

    Of equal logits argmax takes the first, so a class gains from those behind it wherever two are within a step: the
    background most of all. Other errors of rounding favour one class or another as well. How many pixels go from one
    class to another when their biases differ by a little more is counted where their logits are close; what is gained
    and lost over all is taken back by the solution of these equations.

    Args:
        model: what `keras_deeplab.quantize.fake.quantised` returns, its kernels rounded.
        exact: the same network before anything was rounded.
        images: calibration images (1, H, W, 3). Their padding isn't counted.
        labels_of: a function from biases (classes,) to one from an image to its labels (H, W): those of the model's
            file with these biases, whose integer arithmetic changes pixels of its own. None computes the model.

    Returns:
        The biases (classes,) that the model has now; None for a model without a `classifier`.
    """
    layer = classifier(exact)
    if layer is None:
        return None
    layer = model.get_layer(layer.name)
    rounded = model.get_layer(f"{layer.name}_range")
    window = _NEAR * (rounded.high - rounded.low) / 255
    classes = layer.filters

    def two_largest(found):
        values, indices = tf.math.top_k(found[0], 2)
        return values[..., 0] - values[..., 1], indices

    exact_figures = _on_images(exact, two_largest)
    if labels_of is None:
        computed = _on_images(model, lambda found: tf.argmax(found[0], -1))
    wanted, pairs = [], np.zeros((classes, classes))
    for image in images:
        gap, indices = exact_figures(image)
        counted = pixels.inside(image, gap.shape)[0].numpy()
        wanted.append((indices[..., 0], counted))
        np.add.at(pairs, tuple(indices[(gap < window) & counted].T), 1)
    pairs = (pairs + pairs.T) / (2 * window)
    change = np.diag(pairs.sum(1)) - pairs
    change += _BALANCE_RIDGE * max(np.trace(change) / classes, 1e-6) * np.eye(classes)
    kernel, start = layer.get_weights()
    bias = start.astype(np.float64)
    for _ in range(_PASSES):
        gained, label = np.zeros(classes), labels_of(bias) if labels_of else computed
        for image, (expected, counted) in zip(images, wanted, strict=True):
            gained += np.bincount(label(image)[counted], minlength=classes)
            gained -= np.bincount(expected[counted], minlength=classes)
        # Where no logits are close the equations say nothing, and a few steps are all that rounding shifts.
        bias = np.clip(bias - np.linalg.solve(change, gained), start - window, start + window)
        layer.set_weights([kernel, bias])
    return bias


def _on_images(model, figures=lambda outputs: outputs):
    """A function from an image (1, H, W, 3) to arrays: figures of the model's outputs."""

    @tf.function(autograph=False, reduce_retracing=True)
    def run(image):
        with layers.export_ops(native=None):
            return figures(model(image, training=False))

    return lambda image: keras.tree.map_structure(lambda x: x.numpy(), run(tf.constant(image, tf.float32)))


def _maps(model, layer, images):
    """The features that a classifier takes and the logits it returns: (N, h, w, C) and (N, h, w, classes)."""
    inner = _on_images(keras.Model(model.inputs, [layer.input, layer.output]))
    features, logits = zip(*map(inner, images), strict=True)
    return np.concatenate(features), np.concatenate(logits)
