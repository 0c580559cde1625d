"""Weights and images by rule: what a variable's name and shape say, so that no file need hold them."""

import zlib

import numpy as np


def weight(path, shape):
    """The float32 value of a Keras variable such as `"aspp0/kernel"`, from its name; features keep their size."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    layer, _, name = path.rpartition("/")
    if name == "moving_variance":
        value = rng.uniform(0.5, 1.5, shape)
    elif name == "gamma":
        value = rng.uniform(0.7, 1.3, shape)
    elif len(shape) == 4:
        fan_in = np.prod(shape[:2] if layer.endswith("_depthwise") else shape[:3])
        value = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    else:
        value = rng.standard_normal(shape) * 0.1
    return value.astype("float32")


def image(height, width):
    """A (1, height, width, 3) uint8 picture of soft blots under noise."""
    rng = np.random.default_rng([height, width])
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    waves = rng.uniform(2, 9, (4, 1, 1, 3))
    blots = np.sin(waves[0] * rows + waves[1] * columns) * np.cos(waves[2] * rows - waves[3] * columns)
    pixels = 128 + 90 * blots + rng.normal(0, 20, (height, width, 3))
    return np.clip(np.rint(pixels), 0, 255).astype("uint8")[None]
