"""PaddleSeg's DeepLabs as small PyTorch modules of its names, after the rules of its published code.

Written for these tests. The rules: `ResNet_vd` (a stage's rate from its first unit on, times multi_grid in the last
stage; a shortcut pools before its convolution only where it has a stride), `ConvBNReLU` (a bias before batch norm, none
in the backbone and behind the global pooling), `SeparableConvBNReLU` (no activation between its halves), image pooling
behind the other branches, one `align_corners` for every resize.
"""

import torch
from mmsegmentation_networks import DEPTHS
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    """`ConvBNLayer`, `ConvBNReLU` and `ConvBN`."""

    def __init__(self, inside, outside, kernel=1, stride=1, rate=1, groups=1, bias=False, act=True, pooled=False):
        super().__init__()
        self._conv = nn.Conv2d(inside, outside, kernel, stride, rate * (kernel // 2), rate, groups, bias)
        self._batch_norm = nn.BatchNorm2d(outside)
        self.act, self.pooled = act, pooled

    def forward(self, x):
        x = F.avg_pool2d(x, 2, 2, ceil_mode=True) if self.pooled else x
        x = self._batch_norm(self._conv(x))
        return F.relu(x) if self.act else x


class Separable(nn.Module):
    def __init__(self, inside, outside, rate=1):
        super().__init__()
        self.depthwise_conv = Layer(inside, inside, 3, 1, rate, inside, bias=True, act=False)
        self.piontwise_conv = Layer(inside, outside, bias=True)

    def forward(self, x):
        return self.piontwise_conv(self.depthwise_conv(x))


class Block(nn.Module):
    def __init__(self, inside, filters, stride, rate, bottleneck, first_of_all, first):
        super().__init__()
        outside = 4 * filters if bottleneck else filters
        if bottleneck:
            sizes = [(inside, filters), (filters, filters, 3, stride, rate), (filters, outside)]
        else:
            sizes = [(inside, filters, 3, stride, rate), (filters, filters, 3, 1, rate)]
        self.count = len(sizes)
        for n, size in enumerate(sizes):
            setattr(self, f"conv{n}", Layer(*size, act=n + 1 < len(sizes)))
        if first:
            self.short = Layer(inside, outside, act=False, pooled=not (first_of_all or stride == 1))

    def forward(self, x):
        y = x
        for n in range(self.count):
            y = getattr(self, f"conv{n}")(y)
        return F.relu(y + (self.short(x) if hasattr(self, "short") else x))


class ResNetVd(nn.Module):
    def __init__(self, depth, output_stride=8, multi_grid=(1, 2, 4), base=64):
        super().__init__()
        bottleneck = depth >= 50
        self.conv1_1 = Layer(3, base // 2, 3, 2)
        self.conv1_2 = Layer(base // 2, base // 2, 3)
        self.conv1_3 = Layer(base // 2, base, 3)
        rates = {8: {2: 2, 3: 4}, 16: {3: 2}}[output_stride]
        inside, self.stages = base, []
        for stage, count in enumerate(DEPTHS[depth]):
            filters, names = base * 2**stage, []
            for unit in range(count):
                rate = rates.get(stage, 1) * (multi_grid[unit] if stage == 3 else 1)
                stride = 2 if unit == 0 and stage != 0 and rate == 1 else 1
                names.append(f"bb_{stage}_{unit}")
                block = Block(inside, filters, stride, rate, bottleneck, stage == unit == 0, unit == 0)
                self.add_module(names[-1], block)
                inside = 4 * filters if bottleneck else filters
            self.stages.append(names)
        self.channels = [base * 2**stage * (4 if bottleneck else 1) for stage in range(4)]

    def forward(self, x):
        x = F.max_pool2d(self.conv1_3(self.conv1_2(self.conv1_1(x))), 3, 2, 1)
        outputs = []
        for names in self.stages:
            for name in names:
                x = getattr(self, name)(x)
            outputs.append(x)
        return outputs


class Pyramid(nn.Module):
    def __init__(self, inside, channels, ratios, align_corners, separable):
        super().__init__()
        self.align_corners = align_corners
        self.aspp_blocks = nn.ModuleList()
        for ratio in ratios:
            if separable and ratio > 1:
                self.aspp_blocks.append(Separable(inside, channels, ratio))
            else:
                self.aspp_blocks.append(Layer(inside, channels, 1 if ratio == 1 else 3, 1, ratio, bias=True))
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), Layer(inside, channels))
        self.conv_bn_relu = Layer((len(ratios) + 1) * channels, channels, bias=True)

    def forward(self, x):
        mean = self.global_avg_pool(x)
        mean = F.interpolate(mean, x.shape[2:], mode="bilinear", align_corners=self.align_corners)
        return self.conv_bn_relu(torch.cat([*(block(x) for block in self.aspp_blocks), mean], 1))


class Decoder(nn.Module):
    def __init__(self, inside, channels, classes):
        super().__init__()
        self.conv_bn_relu1 = Layer(inside, 48, bias=True)
        self.conv_bn_relu2 = Separable(channels + 48, channels)
        self.conv_bn_relu3 = Separable(channels, channels)
        self.conv = nn.Conv2d(channels, classes, 1)


class Head(nn.Module):
    def __init__(self, sizes, channels, classes, ratios, align_corners, plus):
        super().__init__()
        self.align_corners = align_corners
        self.aspp = Pyramid(sizes[-1], channels, ratios, align_corners, plus)
        if plus:
            self.decoder = Decoder(sizes[0], channels, classes)
        else:
            self.cls = nn.Conv2d(channels, classes, 1)

    def forward(self, maps):
        x = self.aspp(maps[-1])
        if hasattr(self, "cls"):
            return self.cls(x)
        low = self.decoder.conv_bn_relu1(maps[0])
        x = F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=self.align_corners)
        x = self.decoder.conv_bn_relu2(torch.cat([x, low], 1))
        return self.decoder.conv(self.decoder.conv_bn_relu3(x))


class DeepLab(nn.Module):
    """`DeepLabV3` or, with `plus`, `DeepLabV3P`: images to logits of their size."""

    def __init__(self, backbone, plus, channels=256, classes=5, ratios=(1, 12, 24, 36), align_corners=False):
        super().__init__()
        self.backbone = backbone
        self.head = Head(backbone.channels, channels, classes, ratios, align_corners, plus)

    def forward(self, x):
        logits = self.head(self.backbone(x))
        return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=self.head.align_corners)


def state_of(network):
    """`{name: array}` as Paddle's layers call them."""
    names = {".running_mean": "._mean", ".running_var": "._variance"}
    state = {}
    for name, tensor in network.state_dict().items():
        for theirs, ours in names.items():
            name = name.removesuffix(theirs) + ours if name.endswith(theirs) else name
        if not name.endswith("num_batches_tracked"):
            state[name] = tensor.numpy()
    return state
