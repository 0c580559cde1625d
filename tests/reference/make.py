"""Makes the golden values beside it: `cd tests && python -m reference.make`, in seconds, with PyTorch.

The networks are written here once more from their papers and their authors' code, in plain PyTorch and float64, with
every rate and padding by hand; nothing of `keras_deeplab` is imported. Only the variables' names are its own, and the
order in which maps are concatenated, because weights are drawn from names.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from reference.weights import image, weight

FOLDER = Path(__file__).parent
CLASSES = 5
FILTERS = 24  # of the heads
POSITIONS = 40


# Layers -----------------------------------------------------------------------------------------------------


def variable(layer, name, shape):
    return torch.tensor(weight(f"{layer}/{name}", shape), dtype=torch.float64)


def convolution(x, filters, size, layer, stride=1, rate=1, padding="same", bias=False, depthwise=False):
    """Maps (B, C, H, W) to (B, filters, H', W'). "same" is TensorFlow's, numbers are zeros on all sides."""
    channels = x.shape[1]
    shape = (size, size, channels, 1 if depthwise else filters)
    kernel = variable(layer, "kernel", shape).permute(2, 3, 0, 1) if depthwise else None
    if kernel is None:
        kernel = variable(layer, "kernel", shape).permute(3, 2, 0, 1)
    if padding == "same":
        pads = []
        for length in (x.shape[3], x.shape[2]):
            total = max(0, (-(-length // stride) - 1) * stride + rate * (size - 1) + 1 - length)
            pads += [total // 2, total - total // 2]
        x, padding = functional.pad(x, pads), 0
    bias = variable(layer, "bias", (filters,)) if bias else None
    return functional.conv2d(x, kernel, bias, stride, padding, rate, channels if depthwise else 1)


def batch_norm(x, layer, epsilon, activation):
    shape = (x.shape[1],)
    names = ("moving_mean", "moving_variance", "gamma", "beta")
    x = functional.batch_norm(x, *(variable(f"{layer}_BN", name, shape) for name in names), eps=epsilon)
    return activation(x) if activation else x


def conv_bn(x, filters, size, layer, activation=functional.relu, epsilon=1e-5, **settings):
    return batch_norm(convolution(x, filters, size, layer, **settings), layer, epsilon, activation)


def depthwise_bn(x, layer, activation=functional.relu, epsilon=1e-5, **settings):
    x = convolution(x, x.shape[1], 3, layer, depthwise=True, **settings)
    return batch_norm(x, layer, epsilon, activation)


def separable_bn(x, filters, layer, rate=1):
    """The atrous separable convolution of v3+: batch norm and ReLU behind both halves."""
    x = depthwise_bn(x, f"{layer}_depthwise", rate=rate)
    return conv_bn(x, filters, 1, f"{layer}_pointwise")


def resize(x, reference, align_corners):
    size = reference.shape[2:]
    return functional.interpolate(x, size, mode="bilinear", align_corners=align_corners)


# Backbones, dense -------------------------------------------------------------------------------------------


def mobilenet_v2(x):
    """Table 2 of the paper with slim's "same" paddings, at output stride 16: features, and what the decoder taps."""
    settings = {"activation": functional.relu6, "epsilon": 1e-3}
    x = conv_bn(x, 32, 3, "Conv1", stride=2, **settings)
    # block, expansion, filters, stride, rate: block 13 lost its stride of 2, the three behind it are dilated.
    rows = [(0, 1, 16, 1, 1), (1, 6, 24, 2, 1), (2, 6, 24, 1, 1), (3, 6, 32, 2, 1)]
    rows += [(block, 6, 32, 1, 1) for block in (4, 5)]
    rows += [(6, 6, 64, 2, 1), *((block, 6, 64, 1, 1) for block in (7, 8, 9))]
    rows += [(block, 6, 96, 1, 1) for block in (10, 11, 12)]
    rows += [(13, 6, 160, 1, 1), (14, 6, 160, 1, 2), (15, 6, 160, 1, 2), (16, 6, 320, 1, 2)]
    finer = None
    for block, expansion, filters, stride, rate in rows:
        name = f"block_{block}" if block else "expanded_conv"
        before = x
        if block:
            x = conv_bn(x, expansion * x.shape[1], 1, f"{name}_expand", **settings)
        x = depthwise_bn(x, f"{name}_depthwise", stride=stride, rate=rate, **settings)
        if block == 2:
            finer = x
        x = conv_bn(x, filters, 1, f"{name}_project", activation=None, epsilon=1e-3)
        if stride == 1 and before.shape[1] == filters:
            x = x + before
    return x, finer


def resnet18(x, output_stride):
    """torchvision's ResNet-18; a first convolution that lost its stride keeps the rate before it."""
    x = conv_bn(x, 64, 7, "conv1", stride=2, padding=3)
    x = functional.max_pool2d(x, 3, 2, 1)
    grid, rate, finer = 4, 1, None
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for unit in range(2):
            name, shortcut, stride, first_rate = f"layer{stage}_{unit}", x, 1, rate
            if unit == 0 and stage > 1:
                if grid < output_stride:
                    grid, stride = 2 * grid, 2
                else:
                    rate = 2 * rate
                shortcut = conv_bn(x, filters, 1, f"{name}_downsample", activation=None, stride=stride, padding=0)
            x = conv_bn(x, filters, 3, f"{name}_conv1", stride=stride, rate=first_rate, padding=first_rate)
            x = conv_bn(x, filters, 3, f"{name}_conv2", activation=None, rate=rate, padding=rate)
            x = functional.relu(x + shortcut)
        finer = x if stage == 1 else finer
    return x, finer


def vgg11(x):
    """Configuration A as DeepLab v1's release has it: 3x3 poolings, the last two without stride, conv5 at rate 2."""
    for stage, (filters, convolutions) in enumerate(((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)), start=1):
        rate = 2 if stage == 5 else 1
        for index in range(1, convolutions + 1):
            layer = f"conv{stage}_{index}"
            x = functional.relu(convolution(x, filters, 3, layer, rate=rate, padding=rate, bias=True))
        x = functional.max_pool2d(x, 3, 2 if stage < 4 else 1, 1, ceil_mode=stage < 4)
    return x


# Heads ------------------------------------------------------------------------------------------------------


def aspp(x, rates, separable, align_corners):
    pooled = conv_bn(x.mean((2, 3), keepdim=True), FILTERS, 1, "image_pooling")
    branches = [resize(pooled, x, align_corners), conv_bn(x, FILTERS, 1, "aspp0")]
    for index, rate in enumerate(rates, start=1):
        if separable:
            branches.append(separable_bn(x, FILTERS, f"aspp{index}", rate))
        else:
            branches.append(conv_bn(x, FILTERS, 3, f"aspp{index}", rate=rate, padding=rate))
    return conv_bn(torch.cat(branches, 1), FILTERS, 1, "concat_projection")


def decoder(x, finer, convolutions, separable, align_corners):
    finer = conv_bn(finer, 48, 1, "feature_projection0")
    x = torch.cat([resize(x, finer, align_corners), finer], 1)
    for index in range(convolutions):
        layer = f"decoder_conv{index}"
        x = separable_bn(x, FILTERS, layer) if separable else conv_bn(x, FILTERS, 3, layer, padding=1)
    return x


def classifier(x, layer="logits"):
    return convolution(x, CLASSES, 1, layer, bias=True)


def fully_connected(x, rate, suffix=""):
    """fc6 as a dilated convolution and fc7 as a 1x1 one."""
    x = functional.relu(convolution(x, FILTERS, 3, f"fc6{suffix}", rate=rate, padding=rate, bias=True))
    return functional.relu(convolution(x, FILTERS, 1, f"fc7{suffix}", bias=True))


# Networks: pixels in 0..255, RGB, to logits at their own stride -----------------------------------------------


def channels(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


def tf_pixels(x):
    return x / 127.5 - 1


def torch_pixels(x):
    mean, deviation = (
        torch.tensor(v).double().view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (x / 255 - mean) / deviation


def caffe_pixels(x):
    """BGR less the means in DeepLab v1's release."""
    return x.flip(1) - channels(104.008, 116.669, 122.675)


def v3_tf(x):
    """The official v3 on MobileNetV2 has no atrous branches (MobileNetV2, section 6.3)."""
    features, _ = mobilenet_v2(tf_pixels(x))
    return classifier(aspp(features, (), separable=False, align_corners=True))


def v3plus_tf(x):
    features, finer = mobilenet_v2(tf_pixels(x))
    x = aspp(features, (6, 12, 18), separable=True, align_corners=True)
    return classifier(decoder(x, finer, 2, separable=True, align_corners=True))


def v3_torchvision(x):
    features, _ = resnet18(torch_pixels(x), 8)
    x = aspp(features, (12, 24, 36), separable=False, align_corners=False)
    return classifier(conv_bn(x, FILTERS, 3, "head_conv", padding=1))


def v3_vainf(x):
    features, _ = resnet18(torch_pixels(x), 16)
    x = aspp(features, (6, 12, 18), separable=False, align_corners=False)
    return classifier(conv_bn(x, FILTERS, 3, "head_conv", padding=1))


def v3plus_vainf(x):
    features, finer = resnet18(torch_pixels(x), 16)
    x = aspp(features, (6, 12, 18), separable=False, align_corners=False)
    return classifier(decoder(x, finer, 1, separable=False, align_corners=False))


def v1(x):
    """LargeFOV: an average pooling that counts its zeros, then fc6 at rate 12."""
    x = functional.avg_pool2d(vgg11(caffe_pixels(x)), 3, 1, 1)
    return classifier(fully_connected(x, 12))


def v2(x):
    features = vgg11(caffe_pixels(x))
    rates = (6, 12, 18, 24)
    return sum(
        classifier(fully_connected(features, rate, f"_{index}"), f"logits_{index}")
        for index, rate in enumerate(rates, start=1)
    )


# file: network, height and width of the image, align_corners of the last resize. The images are so large that every
# rate of the head reaches other positions than its own.
NETWORKS = {
    "deeplabv3__mobilenet_v2__tf": (v3_tf, (65, 81), True),
    "deeplabv3plus__mobilenet_v2__tf": (v3plus_tf, (305, 321), True),
    "deeplabv3__resnet18__torchvision": (v3_torchvision, (296, 305), False),
    "deeplabv3__resnet18__vainf": (v3_vainf, (305, 310), False),
    "deeplabv3plus__resnet18__vainf": (v3plus_vainf, (305, 310), False),
    "deeplabv1__vgg11_caffe": (v1, (104, 121), True),
    "deeplabv2__vgg11_caffe": (v2, (200, 209), True),
}


def golden(name):
    """What the file `name` holds: the image's size, positions (n, 2) and float64 logits there, (n, classes)."""
    network, (height, width), align_corners = NETWORKS[name]
    x = torch.tensor(image(height, width)).double().permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = resize(network(x), x, align_corners)[0].permute(1, 2, 0).numpy()
    rng = np.random.default_rng(0)
    corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
    inside = np.stack([rng.integers(0, height, POSITIONS), rng.integers(0, width, POSITIONS)], 1)
    positions = np.concatenate([corners, inside]).astype("int16")
    return {
        "size": np.array((height, width)),
        "positions": positions,
        "logits": logits[positions[:, 0], positions[:, 1]],
    }


if __name__ == "__main__":
    for name in NETWORKS:
        values = golden(name)
        np.savez_compressed(FOLDER / f"{name}.npz", **{**values, "logits": values["logits"].astype("float32")})
        print(name, values["logits"].min(), values["logits"].max())
