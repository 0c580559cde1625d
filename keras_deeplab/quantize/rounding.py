"""Kernels to int8 so that what a convolution puts out on real maps changes least, not each weight by itself.

Rounding a weight to the nearest step makes an error that the weights not yet rounded can partly undo, because the
inputs they multiply go together. With `H` the inputs' second moments, the best answer to an error is a row of the
inverse of `H` (Frantar et al., "Optimal Brain Compression", arXiv 2208.11580; "OPTQ", arXiv 2210.17323, section 3).
What error is left on average goes into the bias (Nagel et al., arXiv 1906.04721, section 4.2).
"""

from collections.abc import Sequence

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


def round_kernels(
    model: keras.Model,
    images: Sequence[np.ndarray],
    method: str = "optimal",
    seed: int = 0,
    smallest: int = 0,
    depthwise: bool = True,
) -> None:
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
        if moments is None:
            rounded = rounded_kernel(layer, kernel)
        else:
            matrices = _matrices(layer, kernel)
            steps = kernel_steps(layer, kernel).reshape(len(matrices), -1)
            rounded = _optimal(matrices, steps, moments).transpose(1, 0, 2).reshape(kernel.shape)
        bias += np.einsum("gko,gk->go", _matrices(layer, kernel - rounded), mean).reshape(-1)
        layer.set_weights([rounded, bias])


def _matrices(layer, kernel):
    """A kernel to (G, K, O): for each group, of a depthwise one for each channel, from taps and inputs to outputs."""
    height, width, channels, _ = kernel.shape
    groups, inputs = (channels, 1) if is_depthwise(layer) else (layer.groups, channels)
    return kernel.reshape(height * width * inputs, groups, -1).transpose(1, 0, 2)


def _optimal(weights, steps, moments):
    """(G, K, O) weights to multiples of their (G, O) steps, given the (G, K, K) second moments of their inputs.

    The largest weight of each output stays at 127 steps, so that the scale does.
    """
    count = weights.shape[1]
    trace = np.trace(moments, axis1=1, axis2=2)[:, None, None]
    moments = moments + _DAMPING * np.maximum(trace / count, 1e-12) * np.eye(count)
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), 1)
    groups = np.arange(len(weights))[:, None, None]
    upper = _root_of_inverse(moments[groups, order[:, :, None], order[:, None, :]])
    left = np.take_along_axis(weights, order[:, :, None], 1)
    largest = np.abs(weights).argmax(1, keepdims=True)
    pinned = order[:, :, None] == largest
    ends = np.sign(np.take_along_axis(weights, largest, 1))[:, 0] * 127
    result = np.empty_like(left)
    # Each row's error goes to the rows of its block at once, to the others when the block is done.
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        errors = np.empty((len(left), stop - start, left.shape[2]))
        for row in range(start, stop):
            quantum = np.clip(np.round(left[:, row] / steps), -127, 127)
            result[:, row] = np.where(pinned[:, row], ends, quantum) * steps
            errors[:, row - start] = (left[:, row] - result[:, row]) / upper[:, row, row, None]
            left[:, row + 1 : stop] -= upper[:, row, row + 1 : stop, None] * errors[:, None, row - start]
        left[:, stop:] -= upper[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    restored = np.empty_like(result)
    np.put_along_axis(restored, order[:, :, None], result, 1)
    return restored


def _root_of_inverse(matrices):
    """The upper triangles `U` (G, K, K) with `U.T @ U` the inverse of positive definite matrices (G, K, K)."""
    return np.linalg.inv(np.linalg.cholesky(matrices[:, ::-1, ::-1]))[:, ::-1, ::-1]


def _moments(model, images, second, seed):
    """Mean and second moments of each convolution's inputs at random positions.

    Returns:
        {name: (mean, moments)}: (G, K) and (G, K, K), as `_matrices` has them; moments are None where not asked for, or
        too many.
    """
    found = convolutions(model)
    inner = keras.Model(model.inputs, {layer.name: layer.input for layer in found})

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((1, *images[0].shape[1:]), tf.float32)])
    def figures(image):
        with layers.export_ops(native=None):
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
        mean = tf.transpose(tf.reduce_mean(patches, 0))
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
