"""MobileNetV3, large and small, in four forms: torchvision, timm's own, timm's port of slim's, and Google's DeepLab.

timm's port differs from torchvision's in padding, which is TensorFlow's "same", timm's own in batch norm's epsilon,
which is 1e-5; both have the same variables. Google's pad as the port does; their last stage moreover has half the
filters, and their gates multiply by a sixth that slim writes with five digits. Layers have the names of their source, a
full stop or slash being an underscore here.
"""

import keras

from keras_deeplab import blocks
from keras_deeplab.backbones import fixed_padding
from keras_deeplab.backbones.mobilenet_v2 import rounded
from keras_deeplab.blocks import ImageShape

# kernel, expanded channels, filters, squeeze and excitation, activation, stride (MobileNetV3, table 1)
LARGE = [
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
]
# The same columns (MobileNetV3, table 2).
SMALL = [
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
]
# The last stage at half its width (MobileNetV3, section 6.4; `mobilenet_v3_large_seg` and `mobilenet_v3_small_seg` in
# research/deeplab/core/feature_extractor.py, where the first block's expansion is halved too).
LARGE_SEG = LARGE[:12] + [
    (5, 336, 80, True, "hard_swish", 2),
    (5, 480, 80, True, "hard_swish", 1),
    (5, 480, 80, True, "hard_swish", 1),
]
SMALL_SEG = SMALL[:8] + [
    (5, 144, 48, True, "hard_swish", 2),
    (5, 288, 48, True, "hard_swish", 1),
    (5, 288, 48, True, "hard_swish", 1),
]
STEM_FILTERS = 16
EPSILON = 1e-3

# A block's names in each source. `block` counts from 0, `stage` and `unit` are timm's numbers of it, `parts` are what
# it consists of, in order.


def _torchvision_names(block, stage, unit, parts):
    module = f"features_{block + 1}"
    names = {part: f"{module}_block_{place}_0" for place, part in enumerate(parts)}
    gate = f"{module}_block_{parts.index('depthwise') + 1}"
    return {"block": module, **names, "squeeze_excite": gate, "squeeze": f"{gate}_fc1", "excite": f"{gate}_fc2"}


def _timm_names(block, stage, unit, parts):
    module = f"blocks_{stage}_{unit}"
    return {
        "block": module,
        "expand": f"{module}_conv_pw",
        "depthwise": f"{module}_conv_dw",
        "squeeze_excite": f"{module}_se",
        "squeeze": f"{module}_se_conv_reduce",
        "excite": f"{module}_se_conv_expand",
        "project": f"{module}_conv_pwl" if "expand" in parts else f"{module}_conv_pw",
    }


def _slim_names(block, stage, unit, parts):
    module = f"expanded_conv_{block}" if block else "expanded_conv"
    gate = f"{module}_squeeze_excite"
    names = {part: f"{module}_{part}" for part in ("expand", "depthwise", "squeeze_excite", "project")}
    return {"block": module, **names, "squeeze": f"{gate}_Conv", "excite": f"{gate}_Conv_1"}


def mobilenet_v3_large(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 960 feature maps at stride 32: torchvision's MobileNetV3 large, less its top.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier on every layer's filters, which are rounded to multiples of 8.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_large`.

    Source: torchvision/models/mobilenetv3.py; MobileNetV3 (arXiv 1905.02244), table 1.
    """
    return _torchvision("mobilenet_v3_large", LARGE, input_shape, alpha)


def mobilenet_v3_small(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 576 feature maps at stride 32: torchvision's MobileNetV3 small, less its top.

    Arguments are those of `mobilenet_v3_large`.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_small`.

    Source: torchvision/models/mobilenetv3.py; MobileNetV3 (arXiv 1905.02244), table 2.
    """
    return _torchvision("mobilenet_v3_small", SMALL, input_shape, alpha)


def mobilenet_v3_large_timm(
    input_shape: ImageShape = (None, None, 3), alpha: float = 1.0, minimal: bool = False
) -> keras.Model:
    """Normalised images (B, H, W, C) to 960 feature maps at stride 32: timm's `tf_mobilenetv3_large_100`, less its top.

    segmentation_models.pytorch has it as `tu-tf_mobilenetv3_large_100` and as `timm-mobilenetv3_large_100`, with
    `alpha=0.75` as `.._075`, and with `minimal` as `.._minimal_100`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; a block expands the filters that came out of rounding to multiples of 8.
        minimal: whether all kernels are 3x3, all activations ReLU, and there is no squeeze and excitation.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_large_timm`.

    Source: timm/models/mobilenetv3.py.
    """
    return _timm("mobilenet_v3_large_timm", LARGE, input_shape, alpha, blocks, minimal=minimal)


def mobilenet_v3_small_timm(
    input_shape: ImageShape = (None, None, 3), alpha: float = 1.0, minimal: bool = False
) -> keras.Model:
    """Normalised images (B, H, W, C) to 576 feature maps at stride 32: timm's `tf_mobilenetv3_small_100`, less its top.

    Arguments and source are those of `mobilenet_v3_large_timm`.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_small_timm`.
    """
    return _timm("mobilenet_v3_small_timm", SMALL, input_shape, alpha, blocks, minimal=minimal)


def mobilenet_v3_large_timm_symmetric(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 960 feature maps at stride 32: timm's `mobilenetv3_large_100`, less its top.

    The variables are those of `mobilenet_v3_large_timm`; it pads alike on all sides, and batch norm's epsilon is 1e-5.
    segmentation_models.pytorch has it as `tu-mobilenetv3_large_100`.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; a block expands the filters that came out of rounding to multiples of 8.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_large_timm_symmetric`.

    Source: timm/models/mobilenetv3.py.
    """
    return _timm("mobilenet_v3_large_timm_symmetric", LARGE, input_shape, alpha, fixed_padding, epsilon=1e-5)


def mobilenet_v3_small_timm_symmetric(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Normalised images (B, H, W, C) to 576 feature maps at stride 32: timm's `mobilenetv3_small_100`, less its top.

    Arguments and source are those of `mobilenet_v3_large_timm_symmetric`.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_small_timm_symmetric`.
    """
    return _timm("mobilenet_v3_small_timm_symmetric", SMALL, input_shape, alpha, fixed_padding, epsilon=1e-5)


def mobilenet_v3_large_seg(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 480 feature maps at stride 32: the large one of Google's DeepLab.

    Args:
        input_shape: (height, width, channels); None for any height and width.
        alpha: width multiplier; a block expands the filters that came out of rounding to multiples of 8.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_large_seg`.

    Source: research/deeplab/core/feature_extractor.py; slim/nets/mobilenet/mobilenet_v3.py.
    """
    return _slim("mobilenet_v3_large_seg", LARGE_SEG, input_shape, alpha)


def mobilenet_v3_small_seg(input_shape: ImageShape = (None, None, 3), alpha: float = 1.0) -> keras.Model:
    """Images in [-1, 1], (B, H, W, C), to 288 feature maps at stride 32: the small one of Google's DeepLab.

    Arguments and source are those of `mobilenet_v3_large_seg`.

    Returns:
        A functional `keras.Model` named `mobilenet_v3_small_seg`.
    """
    return _slim("mobilenet_v3_small_seg", SMALL_SEG, input_shape, alpha)


def _torchvision(name, table, input_shape, alpha):
    names = ("features_0_0", _torchvision_names, f"features_{len(table) + 1}_0")
    return _network(name, table, input_shape, alpha, convolutions=fixed_padding, names=names, from_input=False)


def _timm(name, table, input_shape, alpha, convolutions, minimal=False, epsilon=EPSILON):
    names = ("conv_stem", _timm_names, "blocks_6_0_conv" if len(table) == len(LARGE) else "blocks_5_0_conv")
    swish = "hard_swish"
    if minimal:
        table = [(3, expanded, filters, False, "relu", stride) for _, expanded, filters, _, _, stride in table]
        swish = "relu"
    # timm doesn't widen the stem of a network narrower than 0.75.
    stem = STEM_FILTERS if alpha < 0.75 else None
    settings = {"convolutions": convolutions, "names": names, "epsilon": epsilon, "swish": swish, "stem": stem}
    return _network(name, table, input_shape, alpha, **settings)


def _slim(name, table, input_shape, alpha):
    names = ("Conv", _slim_names, "Conv_1")
    return _network(name, table, input_shape, alpha, convolutions=blocks, names=names, sixth=0.16667)


def _network(
    name,
    table,
    input_shape,
    alpha,
    *,
    convolutions,
    names,
    from_input=True,
    sixth=1 / 6,
    epsilon=EPSILON,
    swish="hard_swish",
    stem=None,
):
    """The network of a table.

    Args:
        convolutions: the module whose `conv_bn` and `depthwise_bn` pad as the source does.
        names: the stem's, a function to a block's, the last convolution's.
        from_input: whether a block's expanded channels are the paper's ratio times its input, or `alpha` times the
            paper's number. They differ where the input was rounded.
        sixth: what the gates multiply relu6(x + 3) by.
        epsilon: batch norm's.
        swish: the activation of the first and the last convolution.
        stem: filters of the first convolution; None for as the width has them.
    """

    def width(filters):
        return rounded(filters * alpha, 8)

    inputs = keras.Input(input_shape)
    stem_name, block_names, last_name = names
    settings = {"activation": swish, "epsilon": epsilon}
    x = convolutions.conv_bn(inputs, stem or width(STEM_FILTERS), 3, strides=2, name=stem_name, **settings)
    paper_input, stage, unit = STEM_FILTERS, 0, -1
    for block, (kernel_size, expanded, filters, squeeze, activation, stride) in enumerate(table):
        # timm begins a stage where the filters change.
        stage, unit = (stage, unit + 1) if filters == paper_input else (stage + 1, 0)
        settings = {"activation": activation, "epsilon": epsilon}
        shortcut, channels = x, x.shape[-1]
        expanded = rounded(channels * expanded / paper_input, 8) if from_input else width(expanded)
        parts = ["expand"] * (expanded != channels) + ["depthwise"] + ["squeeze_excite"] * squeeze + ["project"]
        name_of = block_names(block, stage, unit, parts)
        if "expand" in parts:
            x = convolutions.conv_bn(x, expanded, name=name_of["expand"], **settings)
        x = convolutions.depthwise_bn(x, kernel_size, strides=stride, name=name_of["depthwise"], **settings)
        if squeeze:
            x = _squeeze_excite(x, name_of, sixth)
        x = convolutions.conv_bn(x, width(filters), name=name_of["project"], activation=None, epsilon=epsilon)
        if stride == 1 and x.shape[-1] == channels:
            x = keras.layers.Add(name=f"{name_of['block']}_add")([shortcut, x])
        paper_input = filters
    last_filters = width(6 * filters) if from_input else 6 * x.shape[-1]
    x = convolutions.conv_bn(x, last_filters, name=last_name, activation=swish, epsilon=epsilon)
    return keras.Model(inputs, x, name=name)


def _squeeze_excite(x, name_of, sixth):
    """The map times a gate for each channel, made from the channels' means (MobileNetV3, section 5.3)."""
    channels, name = x.shape[-1], name_of["squeeze_excite"]
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    squeeze = keras.layers.Conv2D(rounded(channels / 4, 8), 1, activation="relu", name=name_of["squeeze"])
    excite = keras.layers.Conv2D(channels, 1, activation="hard_sigmoid", name=name_of["excite"])
    gate = excite(squeeze(gate))
    if sixth != 1 / 6:
        gate = keras.layers.Rescaling(6 * sixth, name=f"{name}_sixth")(gate)
    return keras.layers.Multiply(name=f"{name}_gate")([x, gate])
