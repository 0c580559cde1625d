"""EfficientNet (Tan and Le 2019) B0 to B7 and Lite 0 to 4, in three forms of the same variables.

Paddings and batch norm's epsilon are TensorFlow's in timm's `tf_efficientnet_b0` (`"same"`, 1e-3), and PyTorch's in its
`efficientnet_b0` (alike on all sides, 1e-5). lukemelas' EfficientNet-PyTorch has epsilon 1e-3, and the zeros that
`"same"` adds at the size which the network was trained at, whatever size its images are. Layers have timm's names, a
full stop being an underscore here.
"""

import math
from functools import partial

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.blocks import ImageShape

# kernel, expansion, filters, repeats, stride of the first repeat (EfficientNet, table 1)
STAGES = [
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
]
# variant: width, depth, height and width of the images that it was trained with
VARIANTS = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
    "lite0": (1.0, 1.0, 224),
    "lite1": (1.0, 1.1, 240),
    "lite2": (1.1, 1.2, 260),
    "lite3": (1.2, 1.4, 280),
    "lite4": (1.4, 1.8, 300),
}
# form: what stands behind the variant in its name, epsilon
FORMS = {"static": ("", 1e-3), "timm": ("_timm", 1e-5), "timm_same": ("_timm_same", 1e-3)}
STEM_FILTERS = 32


def efficientnet(variant: str, form: str, input_shape: ImageShape = (None, None, 3)) -> keras.Model:
    """Normalised images (B, H, W, C) to the last stage's feature maps at stride 32, 320 in B0.

    Args:
        variant: a key of `VARIANTS`. Lite has no squeeze and excitation, ReLU6 for swish, and the stem, the first and
            the last stage of B0.
        form: `"static"` (lukemelas), `"timm"` or `"timm_same"`.
        input_shape: (height, width, channels); None for any height and width.

    Returns:
        A functional `keras.Model` named such as `efficientnet_b0` (lukemelas), `efficientnet_b0_timm` or
        `efficientnet_b0_timm_same`.

    Source: efficientnet_pytorch/model.py in lukemelas/EfficientNet-PyTorch; timm/models/efficientnet.py.

    >>> from keras_deeplab.backbones.efficientnet import efficientnet
    >>> efficientnet("b0", "timm", (64, 64, 3)).output_shape
    (None, 2, 2, 320)
    """
    width, _, size = VARIANTS[variant]
    suffix, epsilon = FORMS[form]
    lite = variant.startswith("lite")
    activation = "relu6" if lite else "swish"

    def strided(x, kernel_size, strides, name, layer):
        """A convolution, padded as the form has it."""
        nonlocal size
        pads = {"padding": "same"}
        if strides > 1 and form != "timm_same":
            pads = {"padding": "valid"}
            before = behind = kernel_size // 2
            if form == "static":
                total = (math.ceil(size / strides) - 1) * strides + kernel_size - size
                before, behind = total // 2, total - total // 2
                size = math.ceil(size / strides)
            x = keras.layers.ZeroPadding2D(((before, behind), (before, behind)), name=f"{name}_pad")(x)
        x = layer(kernel_size=kernel_size, strides=strides, use_bias=False, name=name, **pads)(x)
        return blocks.batch_norm(x, name, activation, epsilon)

    inputs = keras.Input(input_shape)
    stem = STEM_FILTERS if lite else rounded(STEM_FILTERS * width, 8)
    x = strided(inputs, 3, 2, "conv_stem", partial(keras.layers.Conv2D, stem))
    for stage, (kernel_size, expansion, filters, _, first_stride) in enumerate(STAGES):
        for unit in range(repeats(variant, stage)):
            name, beside, channels = f"blocks_{stage}_{unit}", x, x.shape[-1]
            strides = first_stride if unit == 0 else 1
            if expansion > 1:
                x = blocks.conv_bn(
                    x, expansion * channels, activation=activation, epsilon=epsilon, name=f"{name}_conv_pw"
                )
            x = strided(x, kernel_size, strides, f"{name}_conv_dw", keras.layers.DepthwiseConv2D)
            if not lite:
                gate = f"{name}_se"
                names = {"squeeze": f"{gate}_conv_reduce", "excite": f"{gate}_conv_expand", "name": gate}
                x = blocks.squeeze_excite(x, channels // 4, activation=activation, **names)
            projection = f"{name}_conv_{'pwl' if expansion > 1 else 'pw'}"
            x = blocks.conv_bn(x, rounded(filters * width, 8), activation=None, epsilon=epsilon, name=projection)
            if strides == 1 and x.shape[-1] == channels:
                x = keras.layers.Add(name=f"{name}_add")([x, beside])
    return keras.Model(inputs, x, name=f"efficientnet_{variant}{suffix}")


def repeats(variant: str, stage: int) -> int:
    """How many units a stage of a variant has."""
    count, depth = STAGES[stage][3], VARIANTS[variant][1]
    return count if variant.startswith("lite") and stage in (0, len(STAGES) - 1) else math.ceil(count * depth)


def low_level(variant: str) -> str:
    """The layer with the last map at stride 4, which DeepLab v3+ decodes with."""
    return f"blocks_1_{repeats(variant, 1) - 1}_add"


# registry key -> variant, builder; lukemelas has no Lite
BUILDERS = {
    f"efficientnet_{variant}{suffix}": (variant, partial(efficientnet, variant, form))
    for form, (suffix, _) in FORMS.items()
    for variant in VARIANTS
    if form != "static" or not variant.startswith("lite")
}
