"""Kernels to int8 so that what a convolution puts out on real maps changes least, not each weight by itself.

Rounding a weight to the nearest step makes an error that the weights not yet rounded can partly undo, because the
inputs they multiply go together. With `H` the inputs' second moments, the best answer to an error is a row of the
inverse of `H` (Frantar et al., "Optimal Brain Compression", arXiv 2208.11580; "OPTQ", arXiv 2210.17323, section 3).
What error is left on average goes into the bias (Nagel et al., arXiv 1906.04721, section 4.2).
"""

import keras
import numpy as np
import tensorflow as tf

from keras_deeplab import layers
from keras_deeplab.quantize.fake import convolutions, kernel_steps, rounded_kernel
from keras_deeplab.quantize.folding import is_depthwise

# Positions of a map that are looked at in one image.
_POSITIONS = 1024
# Kernels with more inputs than this are rounded to the nearest: their moments would take gigabytes.
_MOST_INPUTS = 6000
_DAMPING = 0.01
_BLOCK = 64


def round_kernels(model, images, method="optimal", seed=0, smallest=0, depthwise=True):
    """Rounds the kernels of a folded model in place to what int8 with a scale a channel holds, and mends the biases.

    Args:
        model: a folded keras.Model, changed in place.
        images: calibration images (1, H, W, 3), all of one size.
        method: `"optimal"`, as above, or `"nearest"`, with mended biases.
        seed: of the positions that are looked at.
        smallest: kernels of fewer weights are left alone.
        depthwise: whether those of depthwise convolutions are rounded.

    Raises:
        ValueError: another method.
    """
    if method not in ("optimal", "nearest"):
        raise ValueError(f'the rounding must be "optimal" or "nearest"; received {method!r}')
    found = _moments(model, images, method == "optimal", seed)
    for layer in convolutions(model):
        kernel, bias = (array.astype(np.float64) for array in layer.get_weights())
        if kernel.size < smallest or (is_depthwise(layer) and not depthwise):
            continue
        mean, moments = found[layer.name]
        groups = 1 if is_depthwise(layer) else layer.groups
        matrix = _matrix(layer, kernel)
        if moments is None:
            rounded = rounded_kernel(layer, kernel)
        elif is_depthwise(layer):
            # (taps, C, m) -> for each channel a problem of its own, with as many outputs as its multiplier.
            steps = np.broadcast_to(kernel_steps(layer, kernel), (1, 1, *kernel.shape[2:]))[0, 0]
            columns = [_optimal(matrix[:, c], steps[c], moments[c]) for c in range(kernel.shape[2])]
            rounded = np.stack(columns, 1).reshape(kernel.shape)
        else:
            steps = kernel_steps(layer, kernel).reshape(-1)
            size = matrix.shape[1] // groups
            columns = [
                _optimal(matrix[:, part], steps[part], moments[g])
                for g, part in ((g, slice(g * size, (g + 1) * size)) for g in range(groups))
            ]
            rounded = np.concatenate(columns, 1).reshape(kernel.shape)
        change = _matrix(layer, kernel - rounded)
        if is_depthwise(layer):
            bias += np.einsum("tcm,tc->cm", change, mean).reshape(-1)
        else:
            bias += np.concatenate([m @ part for m, part in zip(mean, np.split(change, groups, 1), strict=True)])
        layer.set_weights([rounded, bias])


def _matrix(layer, kernel):
    """(taps, C, m) of a depthwise kernel, (taps * inputs, outputs) of any other."""
    if is_depthwise(layer):
        return kernel.reshape(-1, *kernel.shape[2:])
    return kernel.reshape(-1, kernel.shape[3])


def _optimal(weights, steps, moments):
    """(K, O) weights to multiples of their (O,) steps, given the (K, K) second moments of their inputs.

    The largest weight of each output stays at 127 steps, so that the scale does.
    """
    count = len(weights)
    largest = np.abs(weights).argmax(0)
    moments = moments + _DAMPING * max(np.trace(moments) / count, 1e-12) * np.eye(count)
    order = np.argsort(-np.diag(moments))
    upper = _root_of_inverse(moments[np.ix_(order, order)])
    left = weights[order].copy()
    pinned = order[:, None] == largest
    ends = np.sign(weights[largest, np.arange(weights.shape[1])]) * 127
    result = np.empty_like(left)
    # Each row's error goes to the rows of its block at once, to the others when the block is done.
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        errors = np.empty((stop - start, left.shape[1]))
        for row in range(start, stop):
            quantum = np.clip(np.round(left[row] / steps), -127, 127)
            result[row] = np.where(pinned[row], ends, quantum) * steps
            errors[row - start] = (left[row] - result[row]) / upper[row, row]
            left[row + 1 : stop] -= upper[row, row + 1 : stop, None] * errors[row - start]
        left[stop:] -= upper[start:stop, stop:].T @ errors
    restored = np.empty_like(result)
    restored[order] = result
    return restored


def _root_of_inverse(matrix):
    """The upper triangle `U` with `U.T @ U` the inverse of a positive definite matrix."""
    return np.linalg.inv(np.linalg.cholesky(matrix[::-1, ::-1]))[::-1, ::-1]


def _moments(model, images, second, seed):
    """Mean and second moments of each convolution's inputs at random positions.

    Returns:
        {name: (mean, moments)}: of a depthwise convolution (taps, C) and (C, taps, taps), of any other
        (groups, K) and (groups, K, K) with K = taps * channels of a group; moments are None where not asked for, or
        too many.
    """
    found = convolutions(model)
    inner = keras.Model(model.inputs, {layer.name: layer.input for layer in found})

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((1, *images[0].shape[1:]), tf.float32)])
    def figures(image):
        with layers.export_ops():
            maps = inner(image, training=False)
        return {layer.name: _sums(layer, maps[layer.name][0], second, seed) for layer in found}

    totals = {}
    for image in images:
        for name, sums in figures(tf.constant(image, tf.float32)).items():
            sums = [value.numpy().astype(np.float64) for value in sums]
            totals[name] = [a + b for a, b in zip(totals[name], sums, strict=True)] if name in totals else sums
    return {
        name: (sums[0] / len(images), sums[1] / len(images) if len(sums) > 1 else None) for name, sums in totals.items()
    }


def _sums(layer, x, second, seed):
    """Means of what a convolution multiplies, at random positions of its input (H, W, C)."""
    rows, columns = layer.kernel_size
    height, width, channels = x.shape
    out_height, out_width = layer.output.shape[1:3]
    if None in (out_height, out_width):
        _, out_height, out_width, _ = layer.compute_output_shape((1, height, width, channels))
    stride, rates = layer.strides[0], layer.dilation_rate
    spans = [d * (k - 1) for k, d in zip(layer.kernel_size, rates, strict=True)]
    before = _padding_before(layer, (height, width), (out_height, out_width), spans)
    random = np.random.default_rng(seed)
    count = min(_POSITIONS, out_height * out_width)
    places = np.sort(random.choice(out_height * out_width, count, replace=False))
    tops, lefts = places // out_width * stride - before[0], places % out_width * stride - before[1]
    flat = tf.reshape(x, (-1, channels))
    taps = []
    for row in range(rows):
        for column in range(columns):
            y, z = tops + row * rates[0], lefts + column * rates[1]
            inside = (y >= 0) & (y < height) & (z >= 0) & (z < width)
            values = tf.gather(flat, np.where(inside, y * width + z, 0))
            taps.append(values * inside[:, None].astype(np.float32))
    patches = tf.stack(taps, 1)  # positions, taps, channels
    if is_depthwise(layer):
        mean = tf.reduce_mean(patches, 0)
        return (mean, tf.einsum("ptc,puc->ctu", patches, patches) / count) if second else (mean,)
    groups = layer.groups
    patches = tf.reshape(patches, (count, rows * columns, groups, channels // groups))
    patches = tf.reshape(tf.transpose(patches, (2, 0, 1, 3)), (groups, count, -1))
    mean = tf.reduce_mean(patches, 1)
    if not second or patches.shape[-1] > _MOST_INPUTS:
        return (mean,)
    return mean, tf.matmul(patches, patches, transpose_a=True) / count


def _padding_before(layer, size, out_size, spans):
    """Rows above and columns left of the map that a convolution reads as zeros."""
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        stride = layer.strides[0]
        totals = [max((o - 1) * stride + span + 1 - n, 0) for n, o, span in zip(size, out_size, spans, strict=True)]
        return tuple(total // 2 for total in totals)
    return tuple(axis[0] for axis in layer.padding)
