"""A small DeepLab-like model with random weights and batch-norm statistics, whose labels vary from pixel to pixel."""

import keras
import numpy as np

from keras_deeplab import layers

NUM_CLASSES = 5


def small_model(size=None, plain=False, upsample=True, seed=0, extra=None, num_classes=NUM_CLASSES):
    """Images (B, H, W, 3) in 0..255 to logits (B, H, W, num_classes).

    `plain` takes Keras's dilated layers for this package's; `extra` is a layer before the classifier.
    """
    depthwise = keras.layers.DepthwiseConv2D if plain else layers.DilatedDepthwiseConv2D
    dense = keras.layers.Conv2D if plain else layers.DilatedConv2D

    def norm(x):
        return keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))

    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling([1 / 127.5, 1 / 100, 1 / 120], [-1.0, -1.2, -0.9])(inputs)
    x = norm(keras.layers.Conv2D(8, 3, 2, "same", use_bias=False)(x))
    x = norm(keras.layers.DepthwiseConv2D(3, 2, "same", use_bias=False)(x))
    skip = x = keras.layers.BatchNormalization()(keras.layers.Conv2D(12, 1, use_bias=False)(x))
    x = norm(depthwise(3, padding="same", dilation_rate=2, use_bias=False)(x))
    x = keras.layers.Add()([skip, keras.layers.BatchNormalization()(keras.layers.Conv2D(12, 1)(x))])
    branch = norm(dense(16, 3, padding="same", dilation_rate=3, use_bias=False)(x))
    pooled = norm(keras.layers.Conv2D(8, 1)(keras.layers.GlobalAveragePooling2D(keepdims=True)(x)))
    x = keras.layers.Concatenate()([layers.ResizeBilinear()([pooled, x]), branch])
    if extra is not None:
        x = extra(x)
    x = keras.layers.Conv2D(num_classes, 1, dtype="float32")(x)
    if upsample:
        x = layers.ResizeBilinear(dtype="float32")([x, inputs])
    model = keras.Model(inputs, x)
    randomise(model, seed)
    return model


def randomise(model, seed=0):
    """Gives every layer random weights of a size that keeps activations alive and logits apart."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = weights
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, gamma.shape),
                    random.normal(0.5, 0.5, beta.shape),
                    random.normal(0, 0.2, mean.shape),
                    random.uniform(0.3, 1.5, variance.shape),
                ]
            )
        elif weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            fan_in = np.prod(weights[0].shape[:2] if depthwise else weights[0].shape[:-1])
            layer.set_weights([random.normal(0, 1.4 / np.sqrt(fan_in), weight.shape) for weight in weights])


def photograph(height, width, seed=0):
    """A smooth random picture with some noise, uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (6, 7, 3))
    rows, columns = np.linspace(0, 5, height), np.linspace(0, 6, width)
    top, left = np.minimum(rows.astype(int), 4), np.minimum(columns.astype(int), 5)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    picture = upper * (1 - down) + lower * down + random.normal(0, 12, (height, width, 3))
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
