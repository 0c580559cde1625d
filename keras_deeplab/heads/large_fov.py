"""The heads of DeepLab v1 and v2: VGG's fully connected layers as dilated convolutions, alone or several in parallel.

Layer names are those of the authors' Caffe networks, with `logits` for the layer that is named after the data there.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from keras_deeplab.layers import DilatedConv2D, ResizeBilinear
from keras_deeplab.registry import Registry

# DeepLab v1, table 2 (the ways to turn fc6 into a convolution): kernel, rate at output stride 8, filters of fc6 and
# fc7, whether the release has the average pooling pool5a before fc6. Zeros all around, (kernel - 1) * rate / 2 of
# them, keep the map's size.
VARIANTS: Registry[tuple[int, int, int, bool]] = Registry(
    "variant of fc6",
    {
        "7x7": (7, 4, 4096, False),
        "4x4": (4, 4, 4096, False),
        "4x4_large": (4, 8, 4096, False),
        "large_fov": (3, 12, 1024, True),
    },
)
# The rates of DeepLab v2 at output stride 8: ASPP-L of VGG16 and that of ResNet-101 (section 4.1).
ATROUS_RATES = (6, 12, 18, 24)
# DeepLab v1, section 4.3 (multi-scale prediction): the map that a branch looks at, its stride in the classifier
BRANCHES = [
    ("data", 1),
    ("pool1", 2),
    ("pool2", 4),
    ("pool3", 8),
    ("pool4", 16),
]
BRANCH_FILTERS = 128


def scale_rate(rate: int, output_stride: int) -> int:
    """The rate at `output_stride` that spans as many pixels as `rate` does at 8: 12 is 6 at 16."""
    scaled = Fraction(8 * rate, output_stride)
    if scaled.denominator != 1:
        raise ValueError(
            f"A rate of {rate} belongs to output stride 8 and isn't a whole number at {output_stride} "
            f"({float(scaled):g}). Take a smaller output stride, or give rates of your own where they can be given."
        )
    return scaled.numerator


def fully_connected(
    x: keras.KerasTensor,
    *,
    kernel_size: int,
    dilation_rate: int,
    filters: int,
    dropout: float = 0.5,
    suffix: str = "",
) -> keras.KerasTensor:
    """Features (B, h, w, C) to (B, h, w, filters): fc6 as a dilated convolution, fc7 as a 1x1 one, both with ReLU.

    Args:
        dropout: rate of the dropouts behind both.
        suffix: what the layers' names end in, such as `"_1"`.
    """
    x = DilatedConv2D(
        filters, kernel_size, dilation_rate=dilation_rate, padding="same", activation="relu", name=f"fc6{suffix}"
    )(x)
    x = keras.layers.Dropout(dropout, name=f"fc6{suffix}_dropout")(x)
    x = keras.layers.Conv2D(filters, 1, activation="relu", name=f"fc7{suffix}")(x)
    return keras.layers.Dropout(dropout, name=f"fc7{suffix}_dropout")(x)


def scores(
    x: keras.KerasTensor, num_classes: int, *, name: str = "logits", dilation_rate: int | None = None
) -> keras.KerasTensor:
    """Features to float32 scores (B, h, w, num_classes): a 1x1 convolution, or a 3x3 one where a rate is given."""
    settings: dict[str, Any] = {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.01),
        "dtype": "float32",
        "name": name,
    }
    if dilation_rate is None:
        return keras.layers.Conv2D(num_classes, 1, **settings)(x)
    return DilatedConv2D(num_classes, 3, dilation_rate=dilation_rate, padding="same", **settings)(x)


def large_fov(
    x: keras.KerasTensor,
    num_classes: int,
    *,
    variant: str | None,
    output_stride: int,
    filters: int | None = None,
    dropout: float = 0.5,
) -> keras.KerasTensor:
    """DeepLab v1's head: features (B, h, w, C) to float32 scores (B, h, w, num_classes).

    Args:
        variant: a key of `VARIANTS`; None for a 1x1 convolution alone.
        filters: width of fc6 and fc7; None for the variant's.

    Raises:
        ValueError: an unknown variant, or an output stride at which its rate isn't whole.
    """
    if variant is not None:
        kernel_size, rate, its_filters, averaged = VARIANTS[variant]
        if averaged:
            # Caffe counts the padding: a mean at the border is over nine positions too.
            x = keras.layers.ZeroPadding2D(1, name="pool5a_pad")(x)
            x = keras.layers.AveragePooling2D(3, 1, name="pool5a")(x)
        x = fully_connected(
            x,
            kernel_size=kernel_size,
            dilation_rate=scale_rate(rate, output_stride),
            filters=filters or its_filters,
            dropout=dropout,
        )
    return scores(x, num_classes)


def multi_scale_scores(
    x: keras.KerasTensor,
    logits: keras.KerasTensor,
    num_classes: int,
    *,
    name: str,
    strides: int,
    align_corners: bool = True,
    dropout: float = 0.5,
) -> keras.KerasTensor:
    """One of DeepLab v1's multi-scale branches: an early map (B, H, W, any) to scores like `logits`.

    Two layers of 128 filters, 3x3 and 1x1, see the map; their scores are resized to `logits`. The paper concatenates
    all branches' features with fc7's before one classifier, which is the sum of one classifier each.

    Args:
        name: of the map; the branch's layers are named `{name}_conv`, `{name}_fc` and `{name}_ms`.
        strides: how many times finer the map is than `logits`.
    """
    if strides > 1:  # from the same positions at every size
        x = keras.layers.ZeroPadding2D(1, name=f"{name}_conv_pad")(x)
    x = keras.layers.Conv2D(
        BRANCH_FILTERS,
        3,
        strides,
        padding="valid" if strides > 1 else "same",
        activation="relu",
        name=f"{name}_conv",
    )(x)
    x = keras.layers.Dropout(dropout, name=f"{name}_conv_dropout")(x)
    x = keras.layers.Conv2D(BRANCH_FILTERS, 1, activation="relu", name=f"{name}_fc")(x)
    x = keras.layers.Dropout(dropout, name=f"{name}_fc_dropout")(x)
    x = scores(x, num_classes, name=f"{name}_ms")
    return ResizeBilinear(align_corners, dtype="float32", name=f"{name}_ms_resize")([x, logits])


def summed_pyramid(
    x: keras.KerasTensor,
    num_classes: int,
    *,
    rates: Sequence[int],
    filters: int | None = None,
    dropout: float = 0.5,
) -> keras.KerasTensor:
    """DeepLab v2's pyramid: features (B, h, w, C) to float32 scores (B, h, w, num_classes), the sum of its branches'.

    Args:
        rates: dilation rates of the branches' 3x3 convolutions.
        filters: width of each branch's fc6 and fc7 (on VGG); None for branches that are one 3x3 convolution to the
            classes (on ResNet).

    Source: DeepLab v2, figures 4 and 7; of ResNet the release's network.
    """
    branches = []
    for index, rate in enumerate(rates, start=1):
        if filters is None:
            branches.append(scores(x, num_classes, dilation_rate=rate, name=f"logits_{index}"))
            continue
        branch = fully_connected(
            x, kernel_size=3, dilation_rate=rate, filters=filters, dropout=dropout, suffix=f"_{index}"
        )
        branches.append(scores(branch, num_classes, name=f"logits_{index}"))
    if len(branches) == 1:
        return branches[0]
    return keras.layers.Add(dtype="float32", name="logits_sum")(branches)


def convert_fully_connected(
    fc6_kernel: np.ndarray,
    fc6_bias: np.ndarray,
    fc7_kernel: np.ndarray,
    fc7_bias: np.ndarray,
    variant: str = "large_fov",
    layout: str = "keras",
    filters: int | None = None,
    seed: int | None = 0,
) -> Any:
    """VGG's fully connected layers, of a classifier, to the fc6 and fc7 convolutions that DeepLab v1 starts from.

    Of fc6's 7x7 positions the kernel of the variant takes every second (4x4) or every third (3x3), so that a rate of
    8 or 12 puts them where they were. Where the variant is narrower a random subset of the filters stays: of fc6's,
    and in fc7 of its inputs and outputs, always the same.

    Args:
        fc6_kernel, fc6_bias, fc7_kernel, fc7_bias: arrays of `keras.applications.VGG16` (layers `fc1` and `fc2`;
            kernels (25088, 4096), rows in the order height, width, channels, and (4096, 4096), inputs first) with
            `layout="keras"`, or of torchvision (`classifier.0` and `classifier.3`; (4096, 25088), columns in the
            order channels, height, width, and (4096, 4096), outputs first) or Caffe (`fc6` and `fc7`; the same) with
            `layout="torch"`. Their four-dimensional forms do as well.
        variant: a key of `VARIANTS`: `"7x7"`, `"4x4"`, `"4x4_large"` or `"large_fov"`.
        layout: `"keras"` or `"torch"`.
        filters: how many filters stay; None for as many as the variant has.
        seed: of the random subset.

    Returns:
        A dict of float32 arrays for the variables `fc6/kernel`, `fc6/bias`, `fc7/kernel` and `fc7/bias`.

    Raises:
        ValueError: an unknown variant or layout, shapes that don't belong together, more filters than there are.

    Source: DeepLab v1, section 4.1 ("simple decimation").

    >>> import numpy as np
    >>> from keras_deeplab.heads.large_fov import convert_fully_connected
    >>> fc6, fc7 = np.zeros((7 * 7 * 2, 10)), np.zeros((10, 10))
    >>> arrays = convert_fully_connected(fc6, np.zeros(10), fc7, np.zeros(10), "large_fov", filters=6)
    >>> {name: array.shape for name, array in arrays.items()}
    {'fc6/kernel': (3, 3, 2, 6), 'fc6/bias': (6,), 'fc7/kernel': (1, 1, 6, 6), 'fc7/bias': (6,)}
    """
    if layout not in ("keras", "torch"):
        raise ValueError(f"layout must be 'keras' or 'torch'; received {layout!r}.")
    size, _, width, _ = VARIANTS[variant]
    fc6, fc7 = (np.asarray(kernel, "float32") for kernel in (fc6_kernel, fc7_kernel))
    biases = [np.asarray(bias, "float32").reshape(-1) for bias in (fc6_bias, fc7_bias)]
    given = [np.shape(array) for array in (fc6_kernel, fc6_bias, fc7_kernel, fc7_bias)]
    total = len(biases[0])
    inputs = fc6.size // total
    expected = [(inputs, total), (7, 7, inputs // 49, total)], [(total, total), (1, 1, total, total)]
    if layout == "torch":
        expected = [(total, inputs), (total, inputs // 49, 7, 7)], [(total, total), (total, total, 1, 1)]
    fits = all(kernel.shape in shapes for kernel, shapes in zip((fc6, fc7), expected, strict=True))
    if not fits or inputs % 49 or len(biases[1]) != total:
        raise ValueError(
            f"The shapes of fc6's kernel and bias and fc7's kernel and bias must be, with layout={layout!r}, those of "
            f"VGG's, such as {'(25088, 4096)' if layout == 'keras' else '(4096, 25088)'}, (4096,), (4096, 4096) and "
            f"(4096,); received {', '.join(map(str, given))}."
        )
    if layout == "torch":
        fc6, fc7 = fc6.reshape(total, -1, 7, 7).transpose(2, 3, 1, 0), fc7.reshape(total, total).T
    else:
        fc6, fc7 = fc6.reshape(7, 7, -1, total), fc7.reshape(total, total)
    filters = filters or min(width, total)
    if filters > total:
        raise ValueError(f"filters={filters} can't be taken from the {total} of the classifier's fc6.")
    kept = np.arange(total)
    if filters < total:
        kept = np.sort(np.random.default_rng(seed).permutation(total)[:filters])
    step = 6 // (size - 1)
    return {
        "fc6/kernel": np.ascontiguousarray(fc6[::step, ::step][..., kept]),
        "fc6/bias": biases[0][kept],
        "fc7/kernel": np.ascontiguousarray(fc7[np.ix_(kept, kept)])[None, None],
        "fc7/bias": biases[1][kept],
    }
