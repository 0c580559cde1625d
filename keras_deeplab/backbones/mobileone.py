"""MobileOne S0 to S4 (Vasu et al. 2022), as it is trained, in branches, and as it is run, each block one convolution.

Every block is the sum of batch-normalised ways: one or more convolutions, a 1x1 convolution (beside the 3x3 ones) and
the input itself (where nothing changes its shape). A block of one convolution computes the same sum. Batch norm's
epsilon is 1e-5. Layers have the source's names, a full stop being an underscore here.
"""

from functools import partial

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.blocks import ImageShape

UNITS = (2, 8, 10, 1)  # of a stage; each is a depthwise and a pointwise block
FILTERS = (64, 128, 256, 512)
# variant: widths of the stages, branches of a block behind the stem, whether the later half of the third stage and the
# fourth have squeeze and excitation
VARIANTS: dict[str, tuple[tuple[float, ...], int, bool]] = {
    "s0": ((0.75, 1.0, 1.0, 2.0), 4, False),
    "s1": ((1.5, 1.5, 2.0, 2.5), 1, False),
    "s2": ((1.5, 2.0, 2.5, 4.0), 1, False),
    "s3": ((2.0, 2.5, 3.0, 4.0), 1, False),
    "s4": ((3.0, 3.5, 3.5, 4.0), 1, True),
}
REDUCTION = 16


def mobileone(variant: str, input_shape: ImageShape = (None, None, 3), reparameterized: bool = False) -> keras.Model:
    """Images normalised as `"torch"`, (B, H, W, C), to 1024 (S0) to 2048 feature maps at stride 32.

    Args:
        variant: a key of `VARIANTS`.
        input_shape: (height, width, channels); None for any height and width.
        reparameterized: whether each block is one convolution.

    Returns:
        A functional `keras.Model` named such as `mobileone_s0`.

    Source: mobileone.py in apple/ml-mobileone.

    >>> from keras_deeplab.backbones.mobileone import mobileone
    >>> mobileone("s0", (64, 64, 3), reparameterized=True).output_shape
    (None, 2, 2, 1024)
    """
    widths, branches, gated = VARIANTS[variant]
    inputs = keras.Input(input_shape)
    x = _block(inputs, min(64, int(64 * widths[0])), 3, 2, False, 1, False, reparameterized, "stage0")
    for stage, (filters, width, units) in enumerate(zip(FILTERS, widths, UNITS, strict=True), start=1):
        gates = {3: units // 2, 4: units}.get(stage, 0) if gated else 0
        for unit in range(units):
            gate, strides = unit >= units - gates, 2 if unit == 0 else 1
            for place, (out, kernel_size) in enumerate([(x.shape[-1], 3), (int(filters * width), 1)]):
                name, strides = f"stage{stage}_{2 * unit + place}", strides if place == 0 else 1
                x = _block(x, out, kernel_size, strides, place == 0, branches, gate, reparameterized, name)
    return keras.Model(inputs, x, name=f"mobileone_{variant}")


def _block(x, filters, kernel_size, strides, depthwise, branches, gate, reparameterized, name):
    settings = {"strides": strides, "activation": None}

    def way(kernel_size, name):
        if depthwise:
            return fixed_padding.depthwise_bn(x, kernel_size, name=name, **settings)
        return fixed_padding.conv_bn(x, filters, kernel_size, name=name, **settings)

    if reparameterized:
        y, layer = x, keras.layers.DepthwiseConv2D if depthwise else partial(keras.layers.Conv2D, filters)
        if strides > 1:
            y = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(y)
        padding = "valid" if strides > 1 else "same"
        y = layer(kernel_size=kernel_size, strides=strides, padding=padding, name=f"{name}_reparam_conv")(y)
    else:
        ways = [way(kernel_size, f"{name}_rbr_conv_{branch}") for branch in range(branches)]
        if kernel_size > 1:
            ways.append(way(1, f"{name}_rbr_scale"))
        if strides == 1 and x.shape[-1] == filters:
            ways.append(blocks.batch_norm(x, f"{name}_rbr_skip"))
        y = keras.layers.Add(name=f"{name}_add")(ways) if len(ways) > 1 else ways[0]
    if gate:
        names = {"squeeze": f"{name}_se_reduce", "excite": f"{name}_se_expand", "name": f"{name}_se"}
        y = blocks.squeeze_excite(y, filters // REDUCTION, **names)
    return keras.layers.Activation("relu", name=f"{name}_relu")(y)


# registry key -> builder
BUILDERS = {f"mobileone_{variant}": partial(mobileone, variant) for variant in VARIANTS}
